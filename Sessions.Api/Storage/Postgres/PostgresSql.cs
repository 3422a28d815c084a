namespace Sessions.Api.Storage.Postgres;

/// <summary>The statements. Each is answered by indexes alone: a test asks the planner.</summary>
internal static class PostgresSql
{
    private const string Columns = PostgresRows.SessionColumns;
    private const string TurnColumns = PostgresRows.TurnColumns;

    // $1 id, $2 token, $3 until, $4 now, $5 is anyone, $6 user, $7 may claim, $8 tip, $9 request key
    private const string MayBegin = """
        s.expires_at > $4 AND (s.version = 0 OR $5 OR CASE WHEN s.user_id IS NULL THEN $7::boolean ELSE s.user_id = $6::text END)
          AND $8 BETWEEN 0 AND s.turn_count AND NOT EXISTS (SELECT FROM turns a WHERE a.session = s.sid AND a.request_key = $9::uuid)
        """;

    // The uses that have not run out, $2 among them until $3; $4 now.
    private const string WithUse = """
        uses = COALESCE((SELECT jsonb_object_agg(u.key, u.value) FROM jsonb_each(s.uses) u WHERE u.value::bigint > $4), '{}')
          || jsonb_build_object($2::uuid::text, $3::bigint), used_until = GREATEST(s.used_until, $3)
        """;

    // Others that need the session too still do.
    private const string WithoutUse = """
        uses = s.uses - $2::uuid::text,
          used_until = COALESCE((SELECT max(u.value::bigint) FROM jsonb_each(s.uses - $2::uuid::text) u), 0)
        """;

    /// <summary>Whether nothing can be written, and whether that is permitted.</summary>
    public const string Check = """
        SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean, has_table_privilege('sessions', 'UPDATE')
        """;

    /// <summary>
    /// Takes the lease, where it is free and nobody waits for it, or keeps one's own, whoever waits; and moves an expiry that would come
    /// too early. $10 lives at least until,
    /// $11 tag
    /// </summary>
    public const string Acquire = $"""
        UPDATE sessions s SET lease_token = $2, lease_until = $3, is_cancelled = false,
          place_token = CASE WHEN s.place_token = $2 THEN NULL ELSE s.place_token END,
          user_id = CASE WHEN s.version = 0 THEN $6::text ELSE s.user_id END,
          expires_at = GREATEST(s.expires_at, $10),
          version = s.version + CASE WHEN s.version > 0 AND s.expires_at < $10 THEN 1 ELSE 0 END,
          tag = CASE WHEN s.version > 0 AND s.expires_at < $10 THEN $11 ELSE s.tag END
        WHERE s.id = $1 AND ((s.lease_token = $2 AND s.lease_until > $4) OR ((s.lease_token IS NULL OR s.lease_until <= $4)
          AND (s.place_token IS NULL OR s.place_token = $2 OR s.place_until <= $4))) AND {MayBegin}
        """;

    /// <summary>
    /// Says that a turn needs it which keeps nobody away, and moves an expiry that would come too early. As <see cref="Acquire"/>.
    /// </summary>
    public const string Use = $"""
        UPDATE sessions s SET {WithUse}, expires_at = GREATEST(s.expires_at, $10),
          version = s.version + CASE WHEN s.expires_at < $10 THEN 1 ELSE 0 END,
          tag = CASE WHEN s.expires_at < $10 THEN $11 ELSE s.tag END
        WHERE s.id = $1 AND s.version > 0 AND {MayBegin}
        """;

    /// <summary>The same again, unless somebody is changing it: then next time. $1 sid, $2 token, $3 until, $4 now</summary>
    public const string UseOn = $"""
        UPDATE sessions s SET {WithUse}
        WHERE s.sid = (SELECT o.sid FROM sessions o WHERE o.sid = $1 AND o.version > 0 FOR UPDATE SKIP LOCKED)
        """;

    /// <summary>The end of that. $1 sid, $2 token</summary>
    public const string ReleaseUse = $"UPDATE sessions s SET {WithoutUse} WHERE s.sid = $1 AND s.uses ? $2::uuid::text";

    /// <summary>Keeps a place behind who has the lease, for one that may begin then.</summary>
    public const string KeepPlace = $"""
        UPDATE sessions s SET place_token = $2, place_until = $3
        WHERE s.id = $1 AND s.lease_token <> $2 AND s.lease_until > $4
          AND (s.place_token IS NULL OR s.place_token = $2 OR s.place_until <= $4) AND {MayBegin}
        """;

    /// <summary>Gives up such a place. $1 sid, $2 token</summary>
    public const string ReleasePlace = "UPDATE sessions SET place_token = NULL, place_until = 0 WHERE sid = $1 AND place_token = $2";

    /// <summary>Whether nobody else has it, or keeps a place. $1 sid, $2 token, $3 now</summary>
    public const string IsFree = """
        SELECT 1 FROM sessions WHERE sid = $1 AND (lease_token IS NULL OR lease_token = $2 OR lease_until <= $3)
          AND (place_token IS NULL OR place_token = $2 OR place_until <= $3)
        """;

    /// <summary>
    /// A row that stands for a session until it is there. $1 id, $2 key, $3 shard, $4 user, $5 now, $6 expires, $7 token, $8 until
    /// </summary>
    public const string InsertPlaceholder = """
        INSERT INTO sessions (id, key, kind, shard, user_id, created_from, created_at, last_activity_at, expires_at, version, tag,
          lease_token, lease_until)
        VALUES ($1, $2, 0, $3, $4::text, 'api', $5, $5, $6, 0, 0, $7::uuid, $8) ON CONFLICT (id) DO NOTHING
        """;

    /// <summary>Removes such a row that has had its time. $1 id, $2 now</summary>
    public const string DeleteOldPlaceholder = "DELETE FROM sessions WHERE id = $1 AND version = 0 AND expires_at <= $2";

    /// <summary>Lets go. $1 sid, $2 token</summary>
    public const string ReleaseLease = """
        UPDATE sessions SET lease_token = NULL, lease_until = 0, is_cancelled = false WHERE sid = $1 AND lease_token = $2 AND version > 0
        """;

    /// <summary>
    /// Lets go of what is not there yet: a place that somebody keeps stays, and so does what has turns, and only says that it is not there.
    /// $1 sid, $2 token
    /// </summary>
    public const string ReleasePlaceholder =
        "DELETE FROM sessions WHERE sid = $1 AND lease_token = $2 AND version = 0 AND turn_count = 0 AND error_count = 0";

    /// <summary>Keeps the lease, or takes it again. $1 sid, $2 token, $3 until, $4 now</summary>
    public const string Renew = """
        UPDATE sessions SET lease_token = $2, lease_until = $3, is_cancelled = is_cancelled AND lease_token = $2,
          expires_at = CASE WHEN version = 0 THEN GREATEST(expires_at, $3) ELSE expires_at END
        WHERE sid = $1 AND (expires_at > $4 OR version = 0)
          AND (lease_token IS NULL OR lease_token = $2 OR lease_until <= $4) RETURNING is_cancelled
        """;

    /// <summary>Asks a turn to stop. $1 id or key, $2 now, $3 is anyone, $4 user, $5 may claim</summary>
    public static string Cancel(bool byKey) => $"""
        UPDATE sessions s SET is_cancelled = true
        WHERE {Named(byKey)} AND s.lease_token IS NOT NULL AND s.lease_until > $2
          AND ($3 OR CASE WHEN s.user_id IS NULL THEN $5 ELSE s.user_id = $4::text END)
        """;

    /// <summary>
    /// A session with its last turn, but for one that is known. $1 id or key, $2 known key, $3 known version, $4 known tag
    /// </summary>
    public static string ReadSession(bool byKey) => $"""
        SELECT {Columns}, {TurnColumns} FROM sessions s
        LEFT JOIN turns t ON t.session = s.sid AND t.number = s.turn_count AND (s.key <> $2 OR s.version <> $3 OR s.tag <> $4)
        WHERE {Named(byKey)}
        """;

    /// <summary>A session with its last turn, by its row. $1 sid</summary>
    public const string ReadSessionOfRow = $"""
        SELECT {Columns}, {TurnColumns} FROM sessions s LEFT JOIN turns t ON t.session = s.sid AND t.number = s.turn_count WHERE s.sid = $1
        """;

    /// <summary>Whose a row is. $1 id or key</summary>
    public static string FindOwner(bool byKey) => $"SELECT s.sid, s.id, s.user_id FROM sessions s WHERE {Named(byKey)}";

    /// <summary>A session, kept from changing. $1 sid</summary>
    public const string LockSession = $"SELECT {Columns} FROM sessions s WHERE s.sid = $1 FOR UPDATE";

    /// <summary>What tells whether a write came too late. $1 sid</summary>
    public const string ReadState = "SELECT version, expires_at, user_id FROM sessions WHERE sid = $1";

    /// <summary>The idempotency key that a session was made with. $1 id</summary>
    public const string ReadReservedBy = "SELECT reserved_by FROM sessions WHERE id = $1";

    /// <summary>Those with an id or a key, kept from changing. $1 id, $2 key</summary>
    public const string LockTaken = $"SELECT {Columns} FROM sessions s WHERE s.id = $1 OR s.key = $2 ORDER BY s.sid FOR UPDATE";

    /// <summary>The turn that answered a request. $1 id or key, $2 request key</summary>
    public static string ReadAnswered(bool byKey) => $"""
        SELECT t.request_body, {TurnColumns} FROM sessions s JOIN turns t ON t.session = s.sid AND t.request_key = $2 WHERE {Named(byKey)}
        """;

    /// <summary>
    /// Turns of a path, newest or oldest first, with the state of their session, how many could be had (one more than asked for at the
    /// most), what is known that they follow, and how many there must be without a gap. A path only leads to turns before its own, whatever
    /// is damaged: so it ends. One row without a turn where there are none. $1 id or key, $2 tip, $3 limit, $4 bytes,
    /// $5 known key, $6 known version, $7 known tag, $8 known last turn, $9 its nonce, $10 known rewrites, $11 behind this turn
    /// </summary>
    public static string ReadTurns(bool byKey, bool descending, bool allBranches)
    {
        var (order, edge, stop) = descending
            ? ("DESC", "x.number < $11 AND x.number > COALESCE((SELECT f.after FROM follows f), 0)", "r.total <= $3")
            : ("ASC", "x.number > $11", "r.first > $11");
        var expected = descending
            ? "LEAST(r.last, $11 - 1) - GREATEST(r.first, COALESCE((SELECT f.after FROM follows f), 0) + 1) + 1"
            : "r.last::bigint - GREATEST(r.first, $11::bigint + 1) + 1";
        var runs = allBranches
            ? "SELECT s.sid, 1, s.turn_count, 0 FROM s WHERE $2::int IS NULL"
            : """
              SELECT s.sid, p.run_start, p.number, LEAST(p.number, $11 - 1) - p.run_start + 1 FROM s JOIN turns p ON p.session = s.sid
                AND p.number = COALESCE($2::int, s.turn_count) AND p.run_start BETWEEN 1 AND p.number
              UNION ALL
              SELECT r.sid, p.run_start, p.number, GREATEST(r.total, 0) + LEAST(p.number, $11 - 1) - p.run_start + 1
              FROM runs r JOIN turns f ON f.session = r.sid AND f.number = r.first JOIN turns p ON p.session = r.sid
                AND p.number = f.parent AND p.number < r.first AND p.run_start BETWEEN 1 AND p.number WHERE 
              """ + stop;
        return $"""
            WITH RECURSIVE s AS MATERIALIZED (
              SELECT s.sid, s.key, s.version, s.tag, s.rewrites, s.turn_count FROM sessions s WHERE {Named(byKey)}
                AND (s.key <> $5 OR s.version <> $6 OR s.tag <> $7)
            ), runs (sid, first, last, total) AS (
              {runs}
            ), follows (after) AS (
              SELECT $8::int FROM s JOIN runs r ON r.last = s.turn_count JOIN turns k ON k.session = s.sid AND k.number = $8
                AND k.nonce = $9
              WHERE $2::int IS NULL AND s.key = $5 AND s.rewrites = $10 AND r.first <= $8
            ), near AS (
              SELECT n.session, n.number, n.size FROM runs r CROSS JOIN LATERAL (
                SELECT x.session, x.number, x.size FROM turns x WHERE x.session = r.sid AND x.number BETWEEN r.first AND r.last
                  AND {edge} ORDER BY x.number {order} LIMIT $3::bigint + 1
              ) n ORDER BY n.number {order} LIMIT $3::bigint + 1
            ), sized AS (
              SELECT session, number, row_number() OVER w AS place, sum(size) OVER w AS total
                FROM near WINDOW w AS (ORDER BY number {order})
            )
            SELECT s.version, s.tag, (SELECT count(*) FROM near), (SELECT f.after FROM follows f),
              (SELECT sum(GREATEST({expected}, 0))::bigint FROM runs r), {TurnColumns} FROM s
            LEFT JOIN (sized z JOIN turns t ON t.session = z.session AND t.number = z.number) ON z.place <= $3
              AND (z.place = 1 OR z.total <= $4)
            ORDER BY t.number {order}
            """;
    }

    /// <summary>
    /// The whole of a turn on a session that is there, in one step. $1 sid, $2 token, $3 now, $4 expected turns, $5 is anyone, $6 user, $7
    /// may claim, $8 tag, $9 expires, $10 rewrites that were known, $11 summary, $12 covers, $13 size, $14 parent, $15 run of the parent,
    /// $16 nonce, $17 request key, $18 request body, $19 details, $20 input, $21 output, $22 response, $23 bound to
    /// </summary>
    public const string Append = $"""
        WITH s AS (
          UPDATE sessions s SET turn_count = s.turn_count + 1, version = s.version + 1, tag = $8,
            last_activity_at = GREATEST(s.last_activity_at, $3), expires_at = GREATEST(s.last_activity_at, $3) + $9,
            bytes = s.bytes + $13 + CASE WHEN $11::bytea IS NULL OR s.rewrites <> $10 THEN 0
              ELSE octet_length($11::bytea) - COALESCE(octet_length(s.summary), 0) END,
            summary = CASE WHEN $11::bytea IS NULL OR s.rewrites <> $10 THEN s.summary ELSE $11::bytea END,
            summary_covers = CASE WHEN $11::bytea IS NULL OR s.rewrites <> $10 THEN s.summary_covers ELSE $12::int END,
            user_id = COALESCE(s.user_id, $23::text),
            lease_token = NULL, lease_until = 0, is_cancelled = false
          WHERE s.sid = $1 AND s.version > 0 AND s.expires_at > $3 AND ($4::int IS NULL OR s.turn_count = $4::int)
            AND (s.lease_token IS NULL OR s.lease_token = $2::uuid OR s.lease_until <= $3 OR $2::uuid IS NULL)
            AND ($5 OR CASE WHEN s.user_id IS NULL THEN $7 ELSE s.user_id = $6::text END)
            AND NOT EXISTS (SELECT FROM turns a WHERE a.session = s.sid AND a.request_key = $17::uuid)
          RETURNING s.*
        ), added AS (
          INSERT INTO turns (session, number, parent, run_start, nonce, size, request_key, request_body, details, input, output, response)
          SELECT s.sid, s.turn_count, $14, CASE WHEN $14 = s.turn_count - 1 AND $14 > 0 THEN $15 ELSE s.turn_count END, $16, $13,
            $17::uuid, $18::uuid, $19, $20, $21, $22 FROM s
        )
        SELECT {Columns} FROM s
        """;

    /// <summary>Whether a request was answered. $1 sid, $2 request key</summary>
    public const string HasAnswered = "SELECT 1 FROM turns WHERE session = $1 AND request_key = $2";

    /// <summary>Counts a failure. $1 sid, $2 token, $3 now, $4 is anyone, $5 user, $6 may claim, $7 tag, $8 expires, $9 error</summary>
    public const string Fail = $"""
        UPDATE sessions s SET error_count = s.error_count + 1, last_error = $9, version = s.version + 1, tag = $7,
          last_activity_at = GREATEST(s.last_activity_at, $3), expires_at = GREATEST(s.last_activity_at, $3) + $8, lease_token = NULL,
            lease_until = 0, is_cancelled = false
        WHERE s.sid = $1 AND s.version > 0 AND s.expires_at > $3
          AND (s.lease_token IS NULL OR s.lease_token = $2::uuid OR s.lease_until <= $3 OR $2::uuid IS NULL)
          AND ($4 OR CASE WHEN s.user_id IS NULL THEN $6 ELSE s.user_id = $5::text END)
        RETURNING {Columns}
        """;

    /// <summary>Other metadata. $1 sid, $2 tag, $3 metadata, $4 bytes</summary>
    public const string ReplaceMetadata = $"""
        UPDATE sessions s SET metadata = $3, bytes = $4, version = s.version + 1, tag = $2 WHERE s.sid = $1 RETURNING {Columns}
        """;

    /// <summary>
    /// Another turn in the place of one. $1 sid, $2 number, $3 details, $4 input, $5 output, $6 response, $7 size, $8 tag, $9 drops
    /// summary
    /// </summary>
    public const string ReplaceTurn = $"""
        WITH old AS (
          SELECT session, number, size FROM turns WHERE session = $1 AND number = $2
        ), changed AS (
          UPDATE turns t SET details = $3, input = $4, output = $5, response = $6, size = $7 FROM old WHERE t.session = old.session
            AND t.number = old.number
        )
        UPDATE sessions s SET rewrites = s.rewrites + 1, version = s.version + 1, tag = $8,
          bytes = s.bytes + $7 - old.size - CASE WHEN $9 THEN COALESCE(octet_length(s.summary), 0) ELSE 0 END,
          summary = CASE WHEN $9 THEN NULL ELSE s.summary END, summary_covers = CASE WHEN $9 THEN NULL ELSE s.summary_covers END
        FROM old WHERE s.sid = $1 RETURNING {Columns}
        """;

    /// <summary>
    /// A new session. $1 id, $2 key, $3 kind, $4 shard, $5 user, $6 created from, $7 created at, $8 active at, $9 expires, $10 version,
    /// $11 tag, $12 rewrites, $13 turns, $14 errors, $15 bytes, $16 metadata, $17 summary, $18 covers, $19 last error, $20 reserved by
    /// </summary>
    public const string InsertSession = $"""
        INSERT INTO sessions AS s (id, key, kind, shard, user_id, created_from, created_at, last_activity_at, expires_at, version, tag,
          rewrites, turn_count, error_count, bytes, metadata, summary,
          summary_covers, last_error, reserved_by)
        VALUES ($1, $2, $3, $4, $5::text, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16::bytea, $17::bytea, $18::int, $19::bytea,
          $20::uuid) RETURNING {Columns}
        """;

    /// <summary>
    /// A copy whose turns have come becomes the session that it was made for. As <see cref="InsertSession"/>, but $21 sid
    /// </summary>
    public const string FinishStaged = $"""
        UPDATE sessions s SET id = $1, key = $2, kind = $3, shard = $4, user_id = $5::text, created_from = $6, created_at = $7,
          last_activity_at = $8, expires_at = $9, version = $10, tag = $11,
          rewrites = $12, turn_count = $13, error_count = $14, bytes = $15, metadata = $16::bytea, summary = $17::bytea,
            summary_covers = $18::int, last_error = $19::bytea, reserved_by = $20::uuid
        WHERE s.sid = $21 AND s.version = 0 RETURNING {Columns}
        """;

    /// <summary>
    /// A turn. $1 session, $2 number, $3 parent, $4 run, $5 nonce, $6 size, $7 request key, $8 request body, $9 details, $10 input, $11
    /// output, $12 response
    /// </summary>
    public const string InsertTurn = """
        INSERT INTO turns (session, number, parent, run_start, nonce, size, request_key, request_body, details, input, output, response)
        VALUES ($1, $2, $3, $4, $5, $6, $7::uuid, $8::uuid, $9, $10, $11, $12)
        """;

    /// <summary>The first turn of a session that was made just now. As <see cref="InsertTurn"/>, but $1 key</summary>
    public const string InsertFirstTurn = """
        INSERT INTO turns (session, number, parent, run_start, nonce, size, request_key, request_body, details, input, output, response)
        SELECT s.sid, $2, $3, $4, $5, $6, $7::uuid, $8::uuid, $9, $10, $11, $12 FROM sessions s WHERE s.key = $1
        """;

    /// <summary>The first turns of another session. $1 key of the one that was made just now, $2 from, $3 how many</summary>
    public const string CopyTurns = """
        INSERT INTO turns (session, number, parent, run_start, nonce, size, details, input, output, response)
        SELECT s.sid, t.number, t.parent, t.run_start, t.nonce, t.size, t.details, t.input, t.output, t.response
          FROM sessions s JOIN turns t ON t.session = $2 AND t.number <= $3 WHERE s.key = $1
        """;

    /// <summary>What the first turns of a session take, and how many there are. $1 sid, $2 up to this one</summary>
    public const string SumTurns =
        "SELECT COALESCE(sum(size), 0)::bigint, count(*) FROM turns WHERE session = $1 AND number BETWEEN 1 AND $2";

    /// <summary>Keeps a copy under way from being swept. $1 sid, $2 expires</summary>
    public const string TouchStaged = "UPDATE sessions SET expires_at = $2 WHERE sid = $1 AND version = 0";

    /// <summary>A row for an owner's sums. $1 user, or empty: nobody; $2 shard</summary>
    public const string InsertOwner = "INSERT INTO owners (user_id, shard) VALUES ($1, $2) ON CONFLICT DO NOTHING";

    /// <summary>Keeps all others away who give that owner more. $1 user, $2 shard</summary>
    public const string LockOwner = "SELECT 1 FROM owners WHERE user_id = $1 AND shard = $2 FOR UPDATE";

    /// <summary>What an owner has. $1 user</summary>
    public const string SumOwner = """
        SELECT COALESCE(sum(bytes), 0)::bigint, COALESCE(sum(chain_bytes), 0)::bigint FROM owners WHERE user_id = $1
        """;

    /// <summary>Counts for an owner. $1 user, $2 shard, $3 bytes more, $4 bytes of chains more</summary>
    public const string CountBytes = """
        UPDATE owners SET bytes = bytes + $3, chain_bytes = chain_bytes + $4 WHERE user_id = $1 AND shard = $2
        """;

    /// <summary>One session more. $1 shard</summary>
    public const string CountSession = "UPDATE counters SET sessions = sessions + 1 WHERE shard = $1";

    /// <summary>
    /// Rows of users who have nothing any more; not those that somebody is using. $1 users. Without such a row a user has nothing that is
    /// counted, and it is made again by who needs it.
    /// </summary>
    public const string RemoveOwners = """
        DELETE FROM owners WHERE (user_id, shard) IN (
          SELECT o.user_id, o.shard FROM owners o WHERE o.user_id = ANY ($1) AND o.bytes = 0 AND o.chain_bytes = 0
            AND NOT EXISTS (SELECT FROM sessions s WHERE s.user_id = o.user_id) FOR UPDATE OF o SKIP LOCKED)
        """;

    /// <summary>Those of a user and kind, the least recently active first, without one. $1 user, $2 kind, $3 id of that one</summary>
    public const string ListForLimit = """
        SELECT sid, id, expires_at, GREATEST(lease_until, used_until) FROM sessions
        WHERE user_id = $1 AND kind = $2 AND version > 0 AND id <> $3 ORDER BY last_activity_at, id
        """;

    /// <summary>A user's oldest chains, without one. $1 user, $2 but for this one</summary>
    public const string ListChains = """
        SELECT sid, id, bytes, turn_count, GREATEST(lease_until, used_until) FROM sessions
        WHERE user_id = $1 AND kind = 2 AND version > 0 AND sid <> $2 ORDER BY last_activity_at, id LIMIT 1000
        """;

    /// <summary>Nobody's oldest chains, without one. $1 but for this one</summary>
    public const string ListUnownedChains = """
        SELECT sid, id, bytes, turn_count, GREATEST(lease_until, used_until) FROM sessions
        WHERE user_id IS NULL AND kind = 2 AND version > 0 AND sid <> $1 ORDER BY last_activity_at, id LIMIT 1000
        """;

    /// <summary>
    /// Removes rows with all that hangs on them, and takes them out of all sums. $1 sids, $2 only those that have expired by now, or all:
    /// null; $3 and $4: what a session and a turn count for beside their bytes, $5 now: a reservation that was renewed since its session
    /// expired is for the next of that id. What a row counts for may be anything, as it may be damaged: it can be removed all the same, and
    /// takes no more than there is.
    /// </summary>
    public const string Remove = """
        WITH gone AS (
          DELETE FROM sessions WHERE sid = ANY ($1) AND ($2::bigint IS NULL OR expires_at <= $2::bigint)
          RETURNING id, key, kind, shard, user_id, version <> 0 OR turn_count <> 0 AS is_session, expires_at, turn_count, reserved_by,
            GREATEST(bytes, 0)::numeric + $3 + $4::numeric * GREATEST(turn_count, 0) AS size
        ), summed AS (
          UPDATE owners o SET bytes = GREATEST(o.bytes - g.bytes, 0), chain_bytes = GREATEST(o.chain_bytes - g.chain_bytes, 0) FROM (
            SELECT COALESCE(user_id, '') AS user_id, CASE WHEN user_id IS NULL THEN shard ELSE 0 END AS shard,
              sum(size) FILTER (WHERE user_id IS NULL OR kind = 2) AS bytes, COALESCE(sum(size) FILTER (WHERE kind = 2), 0) AS chain_bytes
            FROM gone WHERE is_session AND (user_id IS NULL OR kind = 2) GROUP BY 1, 2) g
          WHERE o.user_id = g.user_id AND o.shard = g.shard
        ), counted AS (
          UPDATE counters c SET sessions = c.sessions - g.sessions FROM (SELECT shard, count(*) AS sessions
            FROM gone WHERE is_session AND kind <> 2 GROUP BY 1) g WHERE c.shard = g.shard
        ), freed AS (
          DELETE FROM reservations r USING gone g WHERE r.key = g.reserved_by AND r.session_id = g.id
            AND (g.expires_at > $5 OR r.expires_at <= $5)
        )
        SELECT key, kind, is_session, expires_at, turn_count, id, user_id FROM gone
        """;

    /// <summary>Some of a user's rows, of all kinds, also of what is not there yet. $1 user</summary>
    public const string ListAllOfUser = "SELECT sid FROM sessions WHERE user_id = $1 LIMIT 500";

    /// <summary>Some that have expired. $1 now, $2 how many</summary>
    public const string ListExpired = """
        SELECT sid FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
        """;

    /// <summary>Reservations that have ended by themselves. $1 now, $2 how many</summary>
    public const string SweepReservations = """
        DELETE FROM reservations WHERE key IN (
          SELECT r.key FROM reservations r WHERE r.expires_at <= $1 ORDER BY r.expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ) AND NOT EXISTS (SELECT FROM sessions s WHERE s.id = session_id AND s.reserved_by = reservations.key AND s.expires_at > $1)
        """;

    /// <summary>
    /// Ties a key to an id, where it is not tied, or no longer. $1 key, $2 body, $3 id, $4 expires, $5 now, $6 how many bytes may be
    /// nobody's (null: any number), of which chains make room, $7 how many the session would have
    /// </summary>
    public const string Reserve = """
        INSERT INTO reservations AS r (key, body, session_id, expires_at) SELECT $1, $2, $3, $4
          WHERE $6::bigint IS NULL OR COALESCE((SELECT sum(bytes - chain_bytes) FROM owners WHERE user_id = ''), 0) + $7::bigint <= $6
        ON CONFLICT (key) DO UPDATE SET body = $2, session_id = $3, expires_at = $4
        WHERE COALESCE((SELECT CASE WHEN s.reserved_by = r.key AND s.version > 0 THEN s.expires_at END
          FROM sessions s WHERE s.id = r.session_id), r.expires_at) <= $5
        RETURNING 1
        """;

    /// <summary>What a key is tied to, if it still is, and whose session that is. $1 key, $2 now</summary>
    public const string ReadReservation = """
        SELECT r.session_id, r.body, s.sid IS NOT NULL, s.user_id FROM reservations r
        LEFT JOIN sessions s ON s.id = r.session_id AND s.version > 0 AND s.expires_at > $2
        WHERE r.key = $1 AND COALESCE((SELECT CASE WHEN o.reserved_by = r.key AND o.version > 0 THEN o.expires_at END
          FROM sessions o WHERE o.id = r.session_id), r.expires_at) > $2
        """;

    /// <summary>A reservation as it was elsewhere. $1 key, $2 body, $3 id, $4 expires</summary>
    public const string ImportReservation = """
        INSERT INTO reservations (key, body, session_id, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO UPDATE SET body = $2,
          session_id = $3, expires_at = $4
        """;

    /// <summary>
    /// A page of sessions. $1 user, $2 now, $3 limit, $4 bytes, $5 and $6: behind this place
    /// </summary>
    public static string List(bool ofUser, bool ascending, IReadOnlyList<int> kinds)
    {
        var (order, than) = ascending ? ("ASC", ">") : ("DESC", "<");
        var owned = ofUser ? "s.user_id = $1::text" : "$1::text IS NULL";
        var pages = string.Join(" UNION ALL ", kinds.Select(kind => $"""
            (SELECT s.sid, s.last_activity_at, s.id FROM sessions s WHERE {owned} AND s.kind = {kind} AND s.version > 0
              AND s.expires_at > $2
              AND (s.last_activity_at, s.id) {than} ($5, $6) ORDER BY s.last_activity_at {order}, s.id {order} LIMIT $3::bigint + 1)
            """));
        return $"""
            WITH near AS ({pages}), page AS (
              SELECT * FROM near ORDER BY last_activity_at {order}, id {order} LIMIT $3::bigint + 1
            ), sized AS (
              SELECT s.sid, row_number() OVER w AS place, sum(COALESCE(octet_length(s.metadata), 0) + COALESCE(octet_length(s.summary),
                0) + COALESCE(t.size, 0)) OVER w AS total
              FROM page p JOIN sessions s ON s.sid = p.sid LEFT JOIN turns t ON t.session = s.sid AND t.number = s.turn_count
              WINDOW w AS (ORDER BY p.last_activity_at {order}, p.id {order})
            )
            SELECT {Columns}, {TurnColumns}, (SELECT count(*) FROM page) FROM sized z JOIN sessions s ON s.sid = z.sid
            LEFT JOIN turns t ON t.session = s.sid AND t.number = s.turn_count
            WHERE z.place <= $3 AND (z.place = 1 OR z.total <= $4) ORDER BY z.place
            """;
    }

    /// <summary>How many there are: those that have expired are taken off. $1 now</summary>
    public const string Count = """
        SELECT (SELECT sum(sessions) FROM counters)::bigint - (SELECT count(*) FROM sessions WHERE expires_at <= $1 AND version > 0
          AND kind <> 2)
        """;

    /// <summary>Sids to be exported. $1 behind this one, $2 now</summary>
    public const string ListForExport = """
        SELECT sid FROM sessions WHERE sid > $1 AND version > 0 AND expires_at > $2 ORDER BY sid LIMIT 200
        """;

    /// <summary>The same of a user. $1 user, $2 behind this one, $3 now</summary>
    public const string ListForExportOfUser =
        "SELECT sid FROM sessions WHERE user_id = $1 AND sid > $2 AND version > 0 AND expires_at > $3 ORDER BY sid LIMIT 200";

    /// <summary>A session to be exported, and how many of the turns that it counts are there. $1 sid, $2 now</summary>
    public const string ReadForExport = $"""
        SELECT {Columns}, s.reserved_by, (SELECT r.body FROM reservations r WHERE r.key = s.reserved_by AND r.session_id = s.id),
          (SELECT count(*) FROM turns t WHERE t.session = s.sid AND t.number BETWEEN 1 AND s.turn_count)
        FROM sessions s WHERE s.sid = $1 AND s.version > 0 AND s.expires_at > $2
        """;

    /// <summary>
    /// Turns to be exported, no more than there were. $1 sid, $2 behind this one, $3 up to this one, $4 how many bytes (one in any case)
    /// </summary>
    public const string ReadTurnsForExport = $"""
        WITH near AS (
          SELECT x.number, x.size FROM turns x WHERE x.session = $1 AND x.number > $2 AND x.number <= $3 ORDER BY x.number LIMIT 100
        ), sized AS (
          SELECT number, row_number() OVER w AS place, sum(size) OVER w AS total FROM near WINDOW w AS (ORDER BY number)
        )
        SELECT t.request_key, t.request_body, {TurnColumns} FROM sized z JOIN turns t ON t.session = $1 AND t.number = z.number
          WHERE z.place = 1 OR z.total <= $4 ORDER BY t.number
        """;

    private static string Named(bool byKey) => byKey ? "s.key = $1" : "s.id = $1";
}
