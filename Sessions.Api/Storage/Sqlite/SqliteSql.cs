namespace Sessions.Api.Storage.Sqlite;

/// <summary>Every statement there is, but for the schema. A test reads the query plan of each and refuses one that walks a table.</summary>
/// <remarks>
/// A row of <c>sessions</c> without <c>id</c> is one that clients can't see: it is being removed, or being built. What it holds is
/// cleared away in small steps once its <c>expires_at</c> has come.
/// </remarks>
internal static class SqliteSql
{
    private const string Turn = """
        t.details, t.number, coalesce(t.query_bytes, t.query), coalesce(t.response_bytes, t.response), t.response_object,
        t.created_at, t.execution_us, t.input_tokens, t.output_tokens, t.started_session, t.agent_type, t.agent_used
        """;

    // Whatever these give is decoded by SqliteRows, which knows the order.
    private const string Head = """
        SELECT s.key, s.id, s.user_id, s.created_at, s.created_from, s.last_activity_at, s.expires_at, s.version, s.metadata,
        s.turn_count, s.error_count, coalesce(s.last_error_bytes, s.last_error), coalesce(s.summary_bytes, s.summary), s.summary_covers,
        s.session_key, s.kind, s.tag, s.rewrites, s.bytes, s.last_turn
        """;

    private const string Session = Head + ", " + Turn + " FROM sessions s LEFT JOIN turns t ON t.key = s.last_turn AND t.session = s.key";

    private const string OfUser = Session + " WHERE s.user_id = ?1 AND s.kind = ";
    private const string OfAll = Session + " WHERE s.id IS NOT NULL AND s.kind = ";
    private const string Before = " AND (s.last_activity_at, s.id) < (?2, ?3) AND s.expires_at > ?4";
    private const string Behind = " AND (s.last_activity_at, s.id) > (?2, ?3) AND s.expires_at > ?4";

    // By the columns of Head: in a list out of two kinds these are merged, each in its order.
    private const string NewestFirst = " ORDER BY 6 DESC, 2 DESC LIMIT ?5";
    private const string OldestFirst = " ORDER BY 6, 2 LIMIT ?5";

    // Heads

    public const string FindById = Session + " WHERE s.id = ? AND s.expires_at > ?";
    public const string FindByKey = Session + " WHERE s.session_key = ? AND s.expires_at > ? AND s.id IS NOT NULL";
    public const string HeadByRow = Head + " FROM sessions s WHERE s.key = ? AND s.id IS NOT NULL";
    public const string SessionByRow = Session + " WHERE s.key = ?";
    private const string StampOf = "SELECT key, version, tag, user_id, expires_at, turn_count FROM sessions WHERE ";
    public const string Stamp = StampOf + "session_key = ? AND id IS NOT NULL AND expires_at > ?";
    public const string StampByRow = StampOf + "key = ? AND session_key = ? AND id IS NOT NULL AND expires_at > ?";
    public const string IsVisible = "SELECT 1 FROM sessions WHERE key = ? AND id IS NOT NULL AND expires_at > ?";
    public const string RowOfId = "SELECT key, expires_at, user_id, id FROM sessions WHERE id = ?";
    public const string RowOfKey =
        "SELECT key, expires_at, user_id, id FROM sessions WHERE session_key = ? AND id IS NOT NULL";
    public const string Holders =
        "SELECT key, expires_at FROM sessions WHERE id = ?1"
        + " UNION ALL SELECT key, expires_at FROM sessions WHERE session_key = ?2 AND id IS NOT NULL";
    public const string GiveKey = "UPDATE sessions SET session_key = ? WHERE key = ? AND session_key IS NULL AND id IS NOT NULL";

    // Lists

    public const string ListOfUserDescending = OfUser + "0" + Before + " UNION ALL " + OfUser + "1" + Before + NewestFirst;
    public const string ListOfUserAscending = OfUser + "0" + Behind + " UNION ALL " + OfUser + "1" + Behind + OldestFirst;
    public const string ListKindOfUserDescending = OfUser + "?6" + Before + NewestFirst;
    public const string ListKindOfUserAscending = OfUser + "?6" + Behind + OldestFirst;
    public const string ListDescending = OfAll + "0" + Before + " UNION ALL " + OfAll + "1" + Before + NewestFirst;
    public const string ListAscending = OfAll + "0" + Behind + " UNION ALL " + OfAll + "1" + Behind + OldestFirst;
    public const string ListKindDescending = OfAll + "?6" + Before + NewestFirst;
    public const string ListKindAscending = OfAll + "?6" + Behind + OldestFirst;

    // Less what has expired and was not swept yet.
    public const string CountActive = """
        SELECT (SELECT value FROM totals WHERE name = 'sessions') - (SELECT count(*) FROM sessions
          WHERE id IS NOT NULL AND expires_at <= ? AND kind <> 2)
        """;

    // Turns

    public const string TurnByRow =
        "SELECT " + Turn + ", t.previous, t.session, t.request_key, t.request_body FROM turns t WHERE t.key = ?";
    public const string TurnWithoutTexts = """
        SELECT t.details, t.number, NULL, NULL, NULL, t.created_at, t.execution_us, t.input_tokens, t.output_tokens, t.started_session,
          t.agent_type, t.agent_used, t.previous, t.session
        FROM turns t WHERE t.key = ?
        """;
    public const string LinkByRow = "SELECT session, number, previous FROM turns WHERE key = ?";

    // A turn of the session that is not before the number: the first landmark from there on, or the last turn.
    public const string TurnFrom = """
        SELECT coalesce(
          (SELECT key FROM turns WHERE session = ?1 AND number >= ?2 AND number % 16 = 0 ORDER BY number LIMIT 1),
          (SELECT last_turn FROM sessions WHERE key = ?1), 0)
        """;
    public const string LastLandmark = "SELECT key FROM turns WHERE session = ? AND number % 16 = 0 ORDER BY number DESC LIMIT 1";
    public const string FindAnswered = "SELECT " + Turn + ", t.request_body FROM turns t WHERE t.session = ? AND t.request_key = ?";
    public const string InsertTurn = """
        INSERT INTO turns (session, number, previous, details, query, query_bytes, response, response_bytes, response_object,
          request_key, request_body,
          created_at, execution_us, started_session, agent_type, agent_used)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, '', '')
        """;
    public const string ReplaceTurn = """
        UPDATE turns SET details = ?, query = ?, query_bytes = ?, response = ?, response_bytes = ?, response_object = ?,
          created_at = 0, execution_us = 0, input_tokens = NULL, output_tokens = NULL, started_session = 0, agent_type = '', agent_used = ''
        WHERE key = ?
        """;

    // Changes of heads

    public const string Advance = """
        UPDATE sessions SET last_activity_at = ?, expires_at = ?, version = ?, tag = ?, turn_count = ?, last_turn = ?, bytes = ?
        WHERE key = ?
        """;
    public const string Summarize = "UPDATE sessions SET summary = ?, summary_bytes = ?, summary_covers = ? WHERE key = ?";
    public const string Fail = """
        UPDATE sessions SET last_activity_at = ?, expires_at = ?, version = ?, tag = ?, error_count = ?, last_error = ?,
          last_error_bytes = ?
        WHERE key = ?
        """;
    public const string ReplaceMetadata = "UPDATE sessions SET metadata = ?, version = ?, tag = ?, bytes = ? WHERE key = ?";
    public const string Rewrite = "UPDATE sessions SET rewrites = ?, version = ?, tag = ?, bytes = ? WHERE key = ?";
    public const string BindUser = "UPDATE sessions SET user_id = ? WHERE key = ?";
    public const string Extend =
        "UPDATE sessions SET expires_at = ?1, version = version + 1, tag = ?2"
        + " WHERE key = ?3 AND id IS NOT NULL AND expires_at > ?4 AND expires_at < ?1";

    // Sessions

    private const string HeadColumns = """
        id, user_id, created_at, created_from, last_activity_at, expires_at, version, metadata, turn_count, error_count,
        last_error, last_error_bytes, summary, summary_bytes, summary_covers,
        session_key, kind, tag, rewrites, bytes, reserved_by
        """;

    public const string InsertSession =
        "INSERT INTO sessions (" + HeadColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    public const string PublishSession =
        "UPDATE sessions SET (" + HeadColumns + ") = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        + " WHERE key = ? AND id IS NULL";
    public const string StartBuilding = """
        INSERT INTO sessions (expires_at, created_at, created_from, last_activity_at, version, turn_count, error_count)
        VALUES (?, 0, 'api', 0, 0, 0, 0)
        """;
    public const string KeepBuilding = "UPDATE sessions SET expires_at = ? WHERE key = ? AND id IS NULL AND expires_at > ?";
    public const string LastTurn = "SELECT last_turn FROM sessions WHERE key = ?";
    public const string SetLastTurn = "UPDATE sessions SET last_turn = ? WHERE key = ?";

    // Room

    public const string NthOfUser =
        "SELECT key FROM sessions WHERE user_id = ? AND kind = ? AND expires_at > ?"
        + " ORDER BY last_activity_at DESC, id DESC LIMIT 1 OFFSET ?";
    public const string OldestOfUser =
        "SELECT key, id, size FROM sessions WHERE user_id = ? AND kind = ? AND expires_at > ? ORDER BY last_activity_at, id";
    public const string OldestUnownedChains =
        "SELECT key, id, size FROM sessions WHERE user_id IS NULL AND kind = 2 AND id IS NOT NULL ORDER BY last_activity_at";
    public const string Total = "SELECT value FROM totals WHERE name = ?";
    public const string ChainSize = "SELECT size FROM chain_sizes WHERE owner = ?";

    // Removing

    private const string Unlink = """
        UPDATE sessions SET id = NULL, user_id = NULL, session_key = NULL, metadata = NULL, last_error = NULL,
        last_error_bytes = NULL, summary = NULL, summary_bytes = NULL,
        reserved_by = NULL, expires_at = 0 WHERE 
        """;

    public const string Removable = "SELECT turn_count, reserved_by, id, session_key, kind FROM sessions WHERE key = ?";
    public const string UnlinkSession = Unlink + "key = ?";
    public const string UnlinkUser = Unlink + "user_id = ?";
    public const string DeleteSession = "DELETE FROM sessions WHERE key = ?";
    public const string DeleteTurn = "DELETE FROM turns WHERE key = ?";
    public const string Expired =
        "SELECT key, turn_count FROM sessions WHERE id IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?";
    public const string Unlinked = "SELECT key FROM sessions WHERE id IS NULL AND expires_at <= ? ORDER BY expires_at LIMIT 1";
    public const string KeysOfUser = "SELECT session_key, id FROM sessions WHERE user_id = ?";
    public const string SumUser = "SELECT count(*), coalesce(sum(turn_count), 0) FROM sessions WHERE user_id = ? AND expires_at > ?";
    public const string DeleteReservationsOfUser = """
        DELETE FROM reservations WHERE key IN (SELECT reserved_by FROM sessions WHERE user_id = ?)
        """;
    public const string CountRemoval = "UPDATE totals SET value = value + 1 WHERE name = 'removals'";
    public const string MarkRemoved = """
        INSERT INTO removals (what, number, removed_at) SELECT ?1, value, ?2 FROM totals WHERE name = 'removals'
        ON CONFLICT DO UPDATE SET number = excluded.number, removed_at = excluded.removed_at
        """;
    public const string IsRemoved = "SELECT 1 FROM removals WHERE what = ? AND number > ?";
    public const string OldestRemovals = "SELECT what, number FROM removals WHERE removed_at <= ? ORDER BY removed_at LIMIT ?";
    public const string ForgetRemoval = "DELETE FROM removals WHERE what = ?";
    public const string ForgetRemovals = "DELETE FROM removals WHERE what IN (SELECT what FROM removals WHERE removed_at <= ? LIMIT ?)";

    // Idempotency keys of sessions

    public const string Reserve = """
        INSERT INTO reservations (key, body, session_id, expires_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET body = excluded.body, session_id = excluded.session_id, expires_at = excluded.expires_at
        """;
    public const string FindReservation = "SELECT body, session_id, expires_at FROM reservations WHERE key = ?";
    public const string ReservationOfSession =
        "SELECT r.key, r.body FROM sessions s JOIN reservations r ON r.key = s.reserved_by AND r.session_id = s.id WHERE s.key = ?";

    // One that was renewed since the session expired is for the next of that id.
    public const string DeleteReservation = """
        DELETE FROM reservations WHERE key = ?1 AND session_id = ?2
          AND (expires_at <= ?3 OR EXISTS (SELECT 1 FROM sessions WHERE id = ?2 AND expires_at > ?3))
        """;

    public const string DeleteExpiredReservation = "DELETE FROM reservations WHERE key = ? AND expires_at <= ?";
    public const string IsReservedBy = "SELECT expires_at FROM sessions WHERE id = ? AND expires_at > ? AND reserved_by = ?";
    public const string ExpiredReservations = """
        SELECT r.key, r.session_id, s.expires_at FROM reservations r LEFT JOIN sessions s ON s.id = r.session_id AND s.reserved_by = r.key
        WHERE r.expires_at <= ? ORDER BY r.expires_at LIMIT ?
        """;
    public const string KeepReservation = "UPDATE reservations SET expires_at = ? WHERE key = ?";

    // Moving to another store

    public const string NextRow =
        "SELECT key, session_key IS NULL FROM sessions WHERE key > ? AND id IS NOT NULL AND expires_at > ? ORDER BY key LIMIT 1";
    public const string RowsOfUser = "SELECT key, session_key IS NULL FROM sessions WHERE user_id = ? AND expires_at > ?";

    // The file

    public const string Probe = """
        INSERT INTO sessions (metadata, expires_at, created_at, created_from, last_activity_at, version, turn_count, error_count)
        VALUES (zeroblob(?), 0, 0, 'api', 0, 0, 0, 0)
        """;
    public const string GiveBackSpace = "PRAGMA incremental_vacuum(256)";
    public const string CountFree = "PRAGMA freelist_count";
    public const string BeginReading = "BEGIN";
    public const string BeginWriting = "BEGIN IMMEDIATE";
    public const string End = "COMMIT";
    public const string Undo = "ROLLBACK";
}
