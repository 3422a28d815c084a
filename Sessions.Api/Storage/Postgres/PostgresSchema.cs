using Npgsql;

namespace Sessions.Api.Storage.Postgres;

/// <summary>
/// The tables, and how those of each earlier version become those of this one. A version that has been released is never changed.
/// </summary>
internal static class PostgresSchema
{
    // Any number that others are not likely to have: held while the schema is made, and no longer.
    private const long MigrationLock = 0x53455353;

    /// <summary>The version that this build reads and writes.</summary>
    public static int Version => Versions.Length;

    // A row of version 0 is no session yet: a lease on its id, or a copy whose turns are still coming. Its turns hang on the number of the
    // row, which is never given again, so that what began on a session can't end on a later one with the same id. Of what is bounded in
    // bytes (chains, and what is nobody's) the sums stand in "owners", nobody's and the number of sessions in shards, so that not all wait
    // for one row.
    private const string Version1 = """
        CREATE TABLE sessions (
          sid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          id text COLLATE "C" NOT NULL,
          key uuid NOT NULL,
          kind smallint NOT NULL,
          shard smallint NOT NULL,
          user_id text COLLATE "C",
          created_from text NOT NULL,
          created_at bigint NOT NULL,
          last_activity_at bigint NOT NULL,
          expires_at bigint NOT NULL,
          version bigint NOT NULL,
          tag bigint NOT NULL,
          rewrites integer NOT NULL DEFAULT 0,
          turn_count integer NOT NULL DEFAULT 0,
          error_count integer NOT NULL DEFAULT 0,
          bytes bigint NOT NULL DEFAULT 0,
          metadata bytea,
          summary bytea,
          summary_covers integer,
          last_error bytea,
          reserved_by uuid,
          lease_token uuid,
          lease_until bigint NOT NULL DEFAULT 0,
          is_cancelled boolean NOT NULL DEFAULT false,
          place_token uuid,
          place_until bigint NOT NULL DEFAULT 0
        ) WITH (fillfactor = 80);
        CREATE UNIQUE INDEX sessions_by_id ON sessions (id);
        CREATE UNIQUE INDEX sessions_by_key ON sessions (key);
        CREATE INDEX sessions_by_user ON sessions (user_id, kind, last_activity_at, id) WHERE user_id IS NOT NULL;
        CREATE INDEX sessions_by_activity ON sessions (kind, last_activity_at, id) WHERE version > 0;
        CREATE INDEX sessions_unowned_chains ON sessions (last_activity_at, id) WHERE user_id IS NULL AND kind = 2 AND version > 0;
        CREATE INDEX sessions_by_expiry ON sessions (expires_at);

        CREATE TABLE turns (
          session bigint NOT NULL REFERENCES sessions ON DELETE CASCADE,
          number integer NOT NULL,
          parent integer NOT NULL,
          run_start integer NOT NULL,
          nonce bigint NOT NULL,
          size integer NOT NULL,
          request_key uuid,
          request_body uuid,
          details bytea NOT NULL,
          input bytea NOT NULL,
          output bytea NOT NULL,
          response bytea NOT NULL,
          PRIMARY KEY (session, number)
        );
        CREATE UNIQUE INDEX turns_by_request ON turns (session, request_key) WHERE request_key IS NOT NULL;

        CREATE TABLE reservations (
          key uuid PRIMARY KEY,
          body uuid NOT NULL,
          session_id text COLLATE "C" NOT NULL,
          expires_at bigint NOT NULL
        );
        CREATE INDEX reservations_by_expiry ON reservations (expires_at);

        CREATE TABLE owners (
          user_id text COLLATE "C" NOT NULL,
          shard smallint NOT NULL,
          bytes bigint NOT NULL DEFAULT 0,
          chain_bytes bigint NOT NULL DEFAULT 0,
          PRIMARY KEY (user_id, shard)
        );

        CREATE TABLE counters (
          shard smallint PRIMARY KEY,
          sessions bigint NOT NULL DEFAULT 0
        );
        INSERT INTO counters (shard) SELECT generate_series(0, 15);

        CREATE TABLE user_keys (
          id uuid PRIMARY KEY,
          holder text COLLATE "C" NOT NULL,
          number integer NOT NULL,
          wrapped bytea NOT NULL,
          kept_until bigint NOT NULL
        );
        CREATE UNIQUE INDEX user_keys_by_holder ON user_keys (holder, number);
        CREATE INDEX user_keys_by_expiry ON user_keys (kept_until);

        CREATE TABLE destroyed_keys (
          id uuid PRIMARY KEY,
          kept_until bigint NOT NULL
        );
        CREATE INDEX destroyed_keys_by_expiry ON destroyed_keys (kept_until);

        CREATE TABLE sealing (
          is_all boolean PRIMARY KEY CHECK (is_all)
        );
        """;

    // Until when turns that keep nobody away need a session.
    private const string Version2 = "ALTER TABLE sessions ADD COLUMN used_until bigint NOT NULL DEFAULT 0";

    // By which of them, and until when: an object of tokens and times. The column before has the latest of these.
    private const string Version3 = "ALTER TABLE sessions ADD COLUMN uses jsonb NOT NULL DEFAULT '{}'";

    private static readonly TimeSpan PauseForOthers = TimeSpan.FromSeconds(3);

    private static readonly string[] Versions = [Version1, Version2, Version3];

    /// <summary>
    /// Makes the tables, or brings them to this version; does nothing, and needs no right to, where they are of this version.
    /// </summary>
    /// <exception cref="InvalidOperationException">They are of a later version, or can't be made: the message says what to do.</exception>
    public static async Task MigrateAsync(NpgsqlDataSource source, CancellationToken cancellationToken)
    {
        await using var connection = await source.OpenConnectionAsync(cancellationToken);
        if (await ReadVersionAsync(connection, cancellationToken) is { } version && Check(version) == Version)
        {
            return;
        }

        try
        {
            while (!await TryMigrateAsync(connection, cancellationToken))
            {
                await Task.Delay(PauseForOthers, cancellationToken);
            }
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.InsufficientPrivilege)
        {
            throw new InvalidOperationException(
                $"The tables in PostgreSQL must be brought to version {Version}, which this role may not: "
                + "run `sessions migrate` with one that owns them, and then this again.", e);
        }
    }

    // Whether somebody who reads for long, such as a backup, did not stand in the way. Whoever waits for a table to change it keeps all
    // away who come later, also the replicas of the version before: so not for long.
    private static async Task<bool> TryMigrateAsync(NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        try
        {
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            await ExecuteAsync(connection, $"SELECT pg_advisory_xact_lock({MigrationLock})", cancellationToken);
            await ExecuteAsync(connection, "SET LOCAL lock_timeout = '2s'", cancellationToken);

            // Another replica may have done it meanwhile.
            var found = Check(await ReadVersionAsync(connection, cancellationToken) ?? 0);
            if (found == 0)
            {
                await ExecuteAsync(connection,
                    "CREATE TABLE sessions_schema (version integer NOT NULL); INSERT INTO sessions_schema VALUES (0)", cancellationToken);
            }

            for (var next = found; next < Version; next++)
            {
                await ExecuteAsync(connection, Versions[next], cancellationToken);
            }

            await ExecuteAsync(connection, $"UPDATE sessions_schema SET version = {Version}", cancellationToken);
            await transaction.CommitAsync(cancellationToken);
            return true;
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.LockNotAvailable)
        {
            return false;
        }
    }

    private static int Check(int version) => version <= Version
        ? version
        : throw new InvalidOperationException(
            $"The tables in PostgreSQL are of version {version}, and this build knows those up to {Version}: run a later one.");

    private static async Task<int?> ReadVersionAsync(NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        // By way of a table, so that what others have made just now is seen.
        await using var exists = new NpgsqlCommand("SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('sessions_schema'))",
            connection);
        if (await exists.ExecuteScalarAsync(cancellationToken) is not true)
        {
            return null;
        }

        await using var version = new NpgsqlCommand("SELECT version FROM sessions_schema", connection);
        return (int?)await version.ExecuteScalarAsync(cancellationToken);
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql, CancellationToken cancellationToken)
    {
        // It takes as long as it takes, and whoever else starts meanwhile waits for it.
        await using var command = new NpgsqlCommand(sql, connection) { CommandTimeout = 0 };
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
