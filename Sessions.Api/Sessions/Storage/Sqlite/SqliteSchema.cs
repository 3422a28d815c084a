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

    private static readonly string[] Versions = [Version1];

    /// <summary>The version of a file; 0: nothing is in it yet.</summary>
    public static int VersionOf(SqliteLink link) => int.Parse(link.Ask("PRAGMA user_version")!, CultureInfo.InvariantCulture);

    /// <summary>Brings a file to this version, in one transaction.</summary>
    public static void Migrate(SqliteLink link)
    {
        link.Execute("BEGIN IMMEDIATE");
        try
        {
            // Asked again, now that nobody else can migrate it.
            for (var version = VersionOf(link); version < Version; version++)
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
