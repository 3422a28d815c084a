using System.Globalization;

namespace Sessions.Api;

/// <summary>The tables, and how a file of each earlier version becomes one of this version. A version that has been released is never changed.</summary>
internal static class SqliteSchema
{
    /// <summary>Marks a file as ours: "SESS".</summary>
    public const int ApplicationId = 0x53455353;

    /// <summary>The version that this build reads and writes.</summary>
    public static int Version => Versions.Length;

    // Keys are integers; texts stand in one unique index. A turn is a row that is appended and never changed: its index entry is narrow, and the
    // last turn is joined to its session instead of being copied into it. A key of a session is never used again, so that a turn which began on
    // a session can't end on a later one with the same id.
    private const string Version1 = """
        CREATE TABLE sessions (
          key INTEGER PRIMARY KEY AUTOINCREMENT,
          id TEXT,
          user_id TEXT,
          created_at INTEGER NOT NULL,
          created_from TEXT NOT NULL,
          last_activity_at INTEGER NOT NULL,
          expires_at INTEGER NOT NULL,
          version INTEGER NOT NULL,
          metadata BLOB,
          turn_count INTEGER NOT NULL,
          error_count INTEGER NOT NULL,
          last_error TEXT,
          summary TEXT,
          summary_covers INTEGER,
          reserved_by BLOB
        ) STRICT;
        CREATE UNIQUE INDEX sessions_by_id ON sessions (id) WHERE id IS NOT NULL;
        CREATE INDEX sessions_by_user ON sessions (user_id, last_activity_at, id, expires_at) WHERE user_id IS NOT NULL;
        CREATE INDEX sessions_by_expiry ON sessions (expires_at) WHERE id IS NOT NULL;
        CREATE INDEX sessions_unlinked ON sessions (expires_at) WHERE id IS NULL;

        CREATE TABLE turns (
          key INTEGER PRIMARY KEY,
          session INTEGER NOT NULL,
          number INTEGER NOT NULL,
          created_at INTEGER NOT NULL,
          execution_us INTEGER NOT NULL,
          input_tokens INTEGER,
          output_tokens INTEGER,
          started_session INTEGER NOT NULL,
          agent_type TEXT NOT NULL,
          agent_used TEXT NOT NULL,
          request_key BLOB,
          request_body BLOB,
          query TEXT NOT NULL,
          response TEXT NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX turns_by_session ON turns (session, number);
        CREATE UNIQUE INDEX turns_by_request ON turns (session, request_key) WHERE request_key IS NOT NULL;

        CREATE TABLE reservations (
          key BLOB PRIMARY KEY,
          body BLOB NOT NULL,
          session_id TEXT NOT NULL,
          expires_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX reservations_by_expiry ON reservations (expires_at);
        """;

    // Each turn knows the one before it, and its session the last one. Turns are found along that, from the end or from the next landmark: every sixteenth turn stands
    // in an index. With all of them in it, each turn wrote a page of its own there, which was half of what a turn wrote.
    // 0 is before the first one; and NOT NULL, so that a server of version 1 that is still running can't add a turn that nobody would find.
    private const string Version2 = """
        CREATE TABLE linked_turns (
          key INTEGER PRIMARY KEY,
          session INTEGER NOT NULL,
          number INTEGER NOT NULL,
          previous INTEGER NOT NULL,
          created_at INTEGER NOT NULL,
          execution_us INTEGER NOT NULL,
          input_tokens INTEGER,
          output_tokens INTEGER,
          started_session INTEGER NOT NULL,
          agent_type TEXT NOT NULL,
          agent_used TEXT NOT NULL,
          request_key BLOB,
          request_body BLOB,
          query TEXT NOT NULL,
          response TEXT NOT NULL
        ) STRICT;
        INSERT INTO linked_turns
          SELECT t.key, t.session, t.number, coalesce(p.key, 0), t.created_at, t.execution_us, t.input_tokens, t.output_tokens, t.started_session, t.agent_type, t.agent_used,
            t.request_key, t.request_body, t.query, t.response
          FROM turns t LEFT JOIN turns p ON p.session = t.session AND p.number = t.number - 1 ORDER BY t.key;
        ALTER TABLE sessions ADD COLUMN last_turn INTEGER;
        UPDATE sessions SET last_turn = (SELECT t.key FROM turns t WHERE t.session = sessions.key ORDER BY t.number DESC LIMIT 1);
        DROP TABLE turns;
        ALTER TABLE linked_turns RENAME TO turns;
        CREATE INDEX turns_by_landmark ON turns (session, number) WHERE number % 16 = 0;
        CREATE UNIQUE INDEX turns_by_request ON turns (session, request_key) WHERE request_key IS NOT NULL;
        """;

    private static readonly string[] Versions = [Version1, Version2];

    /// <summary>The version of a file; 0: nothing is in it yet.</summary>
    public static int VersionOf(SqliteLink link) => int.Parse(link.Ask("PRAGMA user_version")!, CultureInfo.InvariantCulture);

    /// <summary>Brings a file to this version, in one transaction.</summary>
    public static void Migrate(SqliteLink link) => Migrate(link, Version);

    /// <summary>Brings a file to a version, in one transaction.</summary>
    internal static void Migrate(SqliteLink link, int to)
    {
        link.Execute("BEGIN IMMEDIATE");
        try
        {
            // Asked again, now that nobody else can migrate it.
            for (var version = VersionOf(link); version < to; version++)
            {
                link.Execute(Versions[version]);
                link.Execute(string.Create(CultureInfo.InvariantCulture, $"PRAGMA application_id = {ApplicationId}; PRAGMA user_version = {version + 1}"));
            }

            link.Execute("COMMIT");
        }
        catch
        {
            if (link.InTransaction)
            {
                link.Execute("ROLLBACK");
            }

            throw;
        }
    }
}
