namespace Sessions.Api;

/// <summary>Every statement there is, but for the schema. A test reads the query plan of each and refuses one that walks a table.</summary>
/// <remarks>
/// A row of <c>sessions</c> without <c>id</c> is one that clients can't see: it is being removed, or being built. What it holds is cleared away
/// in small steps once its <c>expires_at</c> has come.
/// </remarks>
internal static class SqliteSql
{
    private const string Turn = "t.number, t.created_at, t.execution_us, t.input_tokens, t.output_tokens, t.started_session, t.agent_type, t.agent_used, t.query, t.response";

    private const string SessionAlone = """
        SELECT s.key, s.id, s.user_id, s.created_at, s.created_from, s.last_activity_at, s.expires_at, s.version, s.metadata, s.turn_count, s.error_count, s.last_error,
        s.summary, s.summary_covers
        """;

    private const string Session = SessionAlone + ", " + Turn + """
         FROM sessions s LEFT JOIN turns t ON t.key = s.last_turn
        """;

    // Reading

    public const string FindSession = Session + " WHERE s.id = ? AND s.expires_at > ?";
    public const string FindSessionAlone = SessionAlone + ", NULL FROM sessions s WHERE s.id = ? AND s.expires_at > ?";
    public const string Stamp = "SELECT created_at, version, last_activity_at FROM sessions WHERE key = ? AND id IS NOT NULL AND expires_at > ?";
    public const string SessionByKey = Session + " WHERE s.key = ?";
    public const string ListDescending = Session + " WHERE s.user_id = ? AND (s.last_activity_at, s.id) < (?, ?) AND s.expires_at > ? ORDER BY s.last_activity_at DESC, s.id DESC LIMIT ?";
    public const string ListAscending = Session + " WHERE s.user_id = ? AND (s.last_activity_at, s.id) > (?, ?) AND s.expires_at > ? ORDER BY s.last_activity_at, s.id LIMIT ?";
    public const string ExportSession = Session + " WHERE s.key > ? AND s.id IS NOT NULL AND s.expires_at > ? ORDER BY s.key LIMIT 1";
    public const string TurnByKey = "SELECT " + Turn + ", t.previous, t.request_key, t.request_body FROM turns t WHERE t.key = ?";

    // A turn of the session that is not before the number: the first landmark from there on, or the last turn.
    public const string TurnFrom = """
        SELECT coalesce(
          (SELECT key FROM turns WHERE session = ?1 AND number >= ?2 AND number % 16 = 0 ORDER BY number LIMIT 1),
          (SELECT last_turn FROM sessions WHERE key = ?1), 0)
        """;
    public const string FindAnswered = "SELECT " + Turn + ", t.request_body FROM turns t WHERE t.session = ? AND t.request_key = ?";
    public const string CountActive = "SELECT count(*) FROM sessions WHERE id IS NOT NULL AND expires_at > ?";
    public const string FindReservation = "SELECT body, session_id, expires_at FROM reservations WHERE key = ?";
    public const string ReservationOfSession = "SELECT r.key, r.body FROM sessions s JOIN reservations r ON r.key = s.reserved_by AND r.session_id = s.id WHERE s.key = ?";

    // Turns

    public const string Ground = "SELECT user_id, turn_count, created_at, version, last_activity_at, last_turn FROM sessions WHERE key = ? AND id IS NOT NULL";
    public const string InsertTurn = """
        INSERT INTO turns (session, number, previous, created_at, execution_us, input_tokens, output_tokens, started_session, agent_type, agent_used, query, response, request_key, request_body)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """;
    public const string Advance = "UPDATE sessions SET last_activity_at = max(last_activity_at, ?1), expires_at = max(last_activity_at, ?1) + ?2, version = version + 1, turn_count = turn_count + 1, last_turn = ?3 WHERE key = ?4";
    public const string Summarize = "UPDATE sessions SET summary = ?, summary_covers = ? WHERE key = ?";
    public const string Fail = """
        UPDATE sessions SET last_activity_at = max(last_activity_at, ?1), expires_at = max(last_activity_at, ?1) + ?2, version = version + 1, error_count = error_count + 1, last_error = ?3 WHERE key = ?4
        """;
    public const string BindUser = "UPDATE sessions SET user_id = ? WHERE key = ?";

    // Sessions

    public const string InsertSession = """
        INSERT INTO sessions (id, user_id, created_at, created_from, last_activity_at, expires_at, version, metadata, turn_count, error_count, last_error, summary, summary_covers, reserved_by)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """;
    public const string ReplaceMetadata = "UPDATE sessions SET metadata = ?, version = version + 1 WHERE key = ?";
    public const string LastTurn = "SELECT last_turn FROM sessions WHERE key = ?";
    public const string SetLastTurn = "UPDATE sessions SET last_turn = ? WHERE key = ?";
    public const string ShowSession = """
        UPDATE sessions SET id = ?, user_id = ?, created_at = ?, created_from = ?, last_activity_at = ?, expires_at = ?, version = ?, metadata = ?, turn_count = ?, error_count = ?,
        last_error = ?, summary = ?, summary_covers = ?, reserved_by = ? WHERE key = ? AND id IS NULL
        """;
    public const string StartBuilding = """
        INSERT INTO sessions (expires_at, created_at, created_from, last_activity_at, version, turn_count, error_count) VALUES (?, 0, 'api', 0, 0, 0, 0)
        """;
    public const string KeepBuilding = "UPDATE sessions SET expires_at = ? WHERE key = ? AND id IS NULL";
    public const string BeyondLimit = """
        SELECT key FROM sessions WHERE user_id = ? AND expires_at > ? ORDER BY last_activity_at DESC, id DESC LIMIT -1 OFFSET ?
        """;
    public const string IsTaken = "SELECT key, expires_at FROM sessions WHERE id = ?";

    // Removing

    public const string Removable = "SELECT turn_count, reserved_by, id FROM sessions WHERE key = ?";
    public const string UnlinkSession = "UPDATE sessions SET id = NULL, user_id = NULL, metadata = NULL, last_error = NULL, summary = NULL, reserved_by = NULL, expires_at = 0 WHERE key = ?";
    public const string DeleteSession = "DELETE FROM sessions WHERE key = ?";
    public const string PreviousTurn = "SELECT previous FROM turns WHERE key = ?";
    public const string DeleteTurn = "DELETE FROM turns WHERE key = ?";
    public const string Expired = "SELECT key, turn_count FROM sessions WHERE id IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?";
    public const string Unlinked = "SELECT key FROM sessions WHERE id IS NULL AND expires_at <= ? ORDER BY expires_at LIMIT 1";
    public const string IdsOfUser = "SELECT id FROM sessions WHERE user_id = ?";
    public const string SumUser = "SELECT count(*), coalesce(sum(turn_count), 0) FROM sessions WHERE user_id = ? AND expires_at > ?";
    public const string DeleteReservationsOfUser = """
        DELETE FROM reservations WHERE key IN (SELECT reserved_by FROM sessions WHERE user_id = ?)
        """;
    public const string UnlinkUser = "UPDATE sessions SET id = NULL, user_id = NULL, metadata = NULL, last_error = NULL, summary = NULL, reserved_by = NULL, expires_at = 0 WHERE user_id = ?";

    // Idempotency keys of sessions

    public const string Reserve = """
        INSERT INTO reservations (key, body, session_id, expires_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET body = excluded.body, session_id = excluded.session_id, expires_at = excluded.expires_at
        """;
    public const string DeleteReservation = "DELETE FROM reservations WHERE key = ? AND session_id = ?";
    public const string IsReservedBy = "SELECT expires_at FROM sessions WHERE id = ? AND expires_at > ? AND reserved_by = ?";
    public const string ExpiredReservations = """
        SELECT r.key, r.session_id, s.expires_at FROM reservations r LEFT JOIN sessions s ON s.id = r.session_id AND s.reserved_by = r.key
        WHERE r.expires_at <= ? ORDER BY r.expires_at LIMIT ?
        """;
    public const string KeepReservation = "UPDATE reservations SET expires_at = ? WHERE key = ?";

    // The file

    public const string Probe = """
        INSERT INTO sessions (metadata, expires_at, created_at, created_from, last_activity_at, version, turn_count, error_count) VALUES (zeroblob(?), 0, 0, 'api', 0, 0, 0, 0)
        """;
    public const string GiveBackSpace = "PRAGMA incremental_vacuum(256)";
    public const string CountFree = "PRAGMA freelist_count";
    public const string BeginReading = "BEGIN";
    public const string BeginWriting = "BEGIN IMMEDIATE";
    public const string End = "COMMIT";
    public const string Undo = "ROLLBACK";
}
