using System.Globalization;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>The tables, and how a file of each earlier version becomes one of this version. A version that has been released is never
/// changed.</summary>
internal static class SqliteSchema
{
    /// <summary>Marks a file as ours: "SESS".</summary>
    public const int ApplicationId = 0x53455353;

    /// <summary>The version that this build reads and writes.</summary>
    public static int Version => Versions.Length;

    // Keys are integers; texts stand in one unique index. A turn is a row that is appended and never changed: its index entry is narrow,
    // and the last turn is joined to its session instead of being copied into it. A key of a session is never used again, so that a turn
    // which began on a session can't end on a later one with the same id.
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

    // Each turn knows the one before it, and its session the last one. Turns are found along that, from the end or from the next
    // landmark: every sixteenth turn stands in an index. With all of them in it, each turn wrote a page of its own there, which was half
    // of what a turn wrote. 0 is before the first one; and NOT NULL, so that a server of version 1 that is still running can't add a
    // turn that nobody would find.
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
          SELECT t.key, t.session, t.number, coalesce(p.key, 0), t.created_at, t.execution_us, t.input_tokens, t.output_tokens,
            t.started_session, t.agent_type, t.agent_used,
            t.request_key, t.request_body, t.query, t.response
          FROM turns t LEFT JOIN turns p ON p.session = t.session AND p.number = t.number - 1 ORDER BY t.key;
        ALTER TABLE sessions ADD COLUMN last_turn INTEGER;
        UPDATE sessions SET last_turn = (SELECT t.key FROM turns t WHERE t.session = sessions.key ORDER BY t.number DESC LIMIT 1);
        DROP TABLE turns;
        ALTER TABLE linked_turns RENAME TO turns;
        CREATE INDEX turns_by_landmark ON turns (session, number) WHERE number % 16 = 0;
        CREATE UNIQUE INDEX turns_by_request ON turns (session, request_key) WHERE request_key IS NOT NULL;
        """;

    // Columns with defaults: no row is rewritten, and none of what turns hold is read; what is built is indexes over the heads.
    //
    // A turn keeps what it has beside its texts in `details`, in the one form that TurnCodec gives it; the columns of before say the
    // same of turns that have no details. A text that is not UTF-8 (it is sealed), or not a text but JSON, stands in a BLOB column
    // beside the one for texts.
    //
    // A head is known by `session_key` and by (version, tag). One of a time when there was no such key gets it when it is first shown.
    // Its `bytes` count from here on. `size` is what it counts for: StorePolicy.SizeOf.
    //
    // Triggers keep the totals: so they are right whoever writes, whatever the statement. Kind 2 is a chain (SessionKind). A row without
    // an id is one that nobody sees.
    //
    // `removals` remembers for a while what was deleted or erased, by hashes: a first turn that began before may not bring it back, also
    // in another process.
    private const string Version3 = """
        ALTER TABLE sessions ADD COLUMN session_key BLOB;
        ALTER TABLE sessions ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE sessions ADD COLUMN tag INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE sessions ADD COLUMN rewrites INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE sessions ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE sessions ADD COLUMN size INTEGER AS (bytes + 512 + 128 * turn_count) VIRTUAL;
        ALTER TABLE sessions ADD COLUMN last_error_bytes BLOB;
        ALTER TABLE sessions ADD COLUMN summary_bytes BLOB;
        ALTER TABLE turns ADD COLUMN details BLOB;
        ALTER TABLE turns ADD COLUMN query_bytes BLOB;
        ALTER TABLE turns ADD COLUMN response_bytes BLOB;
        ALTER TABLE turns ADD COLUMN response_object BLOB;

        CREATE UNIQUE INDEX sessions_by_key ON sessions (session_key) WHERE session_key IS NOT NULL;
        DROP INDEX sessions_by_user;
        CREATE INDEX sessions_by_owner ON sessions (user_id, kind, last_activity_at, id, expires_at) WHERE user_id IS NOT NULL;
        CREATE INDEX sessions_by_activity ON sessions (kind, last_activity_at, id, expires_at) WHERE id IS NOT NULL;
        CREATE INDEX sessions_unowned_chains ON sessions (last_activity_at) WHERE user_id IS NULL AND kind = 2 AND id IS NOT NULL;

        CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        INSERT INTO totals SELECT 'sessions', count(*) FROM sessions WHERE id IS NOT NULL;
        INSERT INTO totals SELECT 'unowned_size', coalesce(sum(size), 0) FROM sessions WHERE id IS NOT NULL AND user_id IS NULL;
        INSERT INTO totals VALUES ('removals', 0);
        CREATE TABLE chain_sizes (owner TEXT PRIMARY KEY, size INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE removals (what BLOB PRIMARY KEY, number INTEGER NOT NULL, removed_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE INDEX removals_by_time ON removals (removed_at);

        CREATE TRIGGER session_added AFTER INSERT ON sessions WHEN new.id IS NOT NULL AND new.kind <> 2 BEGIN
          UPDATE totals SET value = value + 1 WHERE name = 'sessions';
        END;
        CREATE TRIGGER session_shown AFTER UPDATE OF id ON sessions WHEN old.id IS NULL AND new.id IS NOT NULL AND new.kind <> 2 BEGIN
          UPDATE totals SET value = value + 1 WHERE name = 'sessions';
        END;
        CREATE TRIGGER session_hidden AFTER UPDATE OF id ON sessions WHEN old.id IS NOT NULL AND new.id IS NULL AND old.kind <> 2 BEGIN
          UPDATE totals SET value = value - 1 WHERE name = 'sessions';
        END;
        CREATE TRIGGER session_deleted AFTER DELETE ON sessions WHEN old.id IS NOT NULL AND old.kind <> 2 BEGIN
          UPDATE totals SET value = value - 1 WHERE name = 'sessions';
        END;

        CREATE TRIGGER unowned_added AFTER INSERT ON sessions WHEN new.id IS NOT NULL AND new.user_id IS NULL BEGIN
          UPDATE totals SET value = value + new.size WHERE name = 'unowned_size';
        END;
        CREATE TRIGGER unowned_changed AFTER UPDATE OF id, user_id, bytes, turn_count ON sessions
        WHEN old.user_id IS NULL OR new.user_id IS NULL BEGIN
          UPDATE totals SET value = value + iif(new.id IS NOT NULL AND new.user_id IS NULL, new.size, 0)
              - iif(old.id IS NOT NULL AND old.user_id IS NULL, old.size, 0)
            WHERE name = 'unowned_size';
        END;
        CREATE TRIGGER unowned_deleted AFTER DELETE ON sessions WHEN old.id IS NOT NULL AND old.user_id IS NULL BEGIN
          UPDATE totals SET value = value - old.size WHERE name = 'unowned_size';
        END;

        CREATE TRIGGER chain_added AFTER INSERT ON sessions WHEN new.id IS NOT NULL AND new.kind = 2 BEGIN
          INSERT INTO chain_sizes VALUES (coalesce(new.user_id, ''), new.size) ON CONFLICT DO UPDATE SET size = size + excluded.size;
        END;
        CREATE TRIGGER chain_left AFTER UPDATE OF id, user_id, bytes, turn_count ON sessions WHEN old.id IS NOT NULL AND old.kind = 2 BEGIN
          UPDATE chain_sizes SET size = size - old.size WHERE owner = coalesce(old.user_id, '');
        END;
        CREATE TRIGGER chain_deleted AFTER DELETE ON sessions WHEN old.id IS NOT NULL AND old.kind = 2 BEGIN
          UPDATE chain_sizes SET size = size - old.size WHERE owner = coalesce(old.user_id, '');
        END;
        CREATE TRIGGER chain_came AFTER UPDATE OF id, user_id, bytes, turn_count ON sessions WHEN new.id IS NOT NULL AND new.kind = 2 BEGIN
          INSERT INTO chain_sizes VALUES (coalesce(new.user_id, ''), new.size) ON CONFLICT DO UPDATE SET size = size + excluded.size;
        END;
        CREATE TRIGGER chain_owner_empty AFTER UPDATE ON chain_sizes WHEN new.size <= 0 BEGIN
          DELETE FROM chain_sizes WHERE owner = new.owner;
        END;

        CREATE TRIGGER turn_has_details BEFORE INSERT ON turns WHEN new.details IS NULL BEGIN
          SELECT RAISE(ABORT, 'This file is of a later format.');
        END;
        """;

    private static readonly string[] Versions = [Version1, Version2, Version3];

    /// <summary>The version of a file; 0: nothing is in it yet.</summary>
    public static int VersionOf(SqliteDatabase db) => int.Parse(db.Ask("PRAGMA user_version")!, CultureInfo.InvariantCulture);

    /// <summary>Brings a file to this version, in one transaction.</summary>
    public static void Migrate(SqliteDatabase db) => Migrate(db, Version);

    /// <summary>Brings a file to a version, in one transaction.</summary>
    internal static void Migrate(SqliteDatabase db, int to)
    {
        db.Execute("BEGIN IMMEDIATE");
        try
        {
            // Asked again, now that nobody else can migrate it.
            for (var version = VersionOf(db); version < to; version++)
            {
                db.Execute(Versions[version]);
                db.Execute(string.Create(
                    CultureInfo.InvariantCulture, $"PRAGMA application_id = {ApplicationId}; PRAGMA user_version = {version + 1}"));
            }

            db.Execute("COMMIT");
        }
        catch
        {
            if (db.InTransaction)
            {
                db.Execute("ROLLBACK");
            }

            throw;
        }
    }
}
