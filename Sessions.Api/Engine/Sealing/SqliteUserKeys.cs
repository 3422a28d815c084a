using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using Microsoft.Data.Sqlite;
using Sessions.Api.Domain;
using Sessions.Api.Storage;
using Sessions.Api.Storage.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// Users' keys in a SQLite file of their own beside the sessions: so that copies of the sessions (backups) do not hold the keys, and are
/// of no use once a
/// key is destroyed here. Both files hold an id, by which they know each other.
/// </summary>
internal sealed class SqliteUserKeys : IUserKeys, IDisposable
{
    /// <summary>What the file's name has more than that of the sessions.</summary>
    public const string Suffix = ".keys";

    private const string Schema = """
        CREATE TABLE IF NOT EXISTS user_keys (
          holder TEXT NOT NULL, number INTEGER NOT NULL, id BLOB NOT NULL, wrapped BLOB NOT NULL, kept_until INTEGER NOT NULL,
          PRIMARY KEY (holder, number)) STRICT, WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS user_keys_by_expiry ON user_keys (kept_until);
        CREATE TABLE IF NOT EXISTS destroyed_keys (id BLOB PRIMARY KEY, kept_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS about (only INTEGER PRIMARY KEY CHECK (only = 1), database BLOB NOT NULL,
            all_sealed INTEGER NOT NULL) STRICT;
        """;

    // The version before had one key for each user, in another table.
    private const string TakeOver = """
        INSERT INTO user_keys (holder, number, id, wrapped, kept_until) SELECT holder, 1, id, wrapped, kept_until FROM keys;
        DROP TABLE keys;
        """;

    private const string Find = "SELECT id, wrapped, kept_until FROM user_keys WHERE holder = ? ORDER BY number DESC";
    private const string Add = """
        INSERT INTO user_keys (holder, number, id, wrapped, kept_until)
        SELECT ?1, coalesce((SELECT max(number) FROM user_keys WHERE holder = ?1), 0) + 1, ?2, ?3, ?4
        WHERE (SELECT id FROM user_keys WHERE holder = ?1 ORDER BY number DESC LIMIT 1) IS ?5
        """;

    private const string Replace = "UPDATE user_keys SET wrapped = ?, kept_until = max(kept_until, ?) WHERE holder = ? AND id = ?";
    private const string Remove = "DELETE FROM user_keys WHERE holder = ? AND id = ?";
    private const string Bury =
        "INSERT OR REPLACE INTO destroyed_keys (id, kept_until) SELECT id, kept_until FROM user_keys WHERE holder = ?";
    private const string Destroy = "DELETE FROM user_keys WHERE holder = ?";
    private const string FindDestroyed = "SELECT 1 FROM destroyed_keys WHERE id = ?";
    private const string RemoveExpired = "DELETE FROM user_keys WHERE kept_until <= ?";
    private const string RemoveExpiredTombstones = "DELETE FROM destroyed_keys WHERE kept_until <= ?";
    private const string Page = """
        SELECT id, wrapped, kept_until, holder, number FROM user_keys WHERE (holder, number) > (?, ?) ORDER BY holder, number LIMIT 500
        """;

    private const string FindAllSealed = "SELECT all_sealed FROM about";
    private const string SetAllSealed = "UPDATE about SET all_sealed = 1";

    private static readonly TimeSpan CheckpointWait = TimeSpan.FromSeconds(10);

    private readonly string _path;
    private readonly ConcurrentBag<SqliteDatabase> _idle = [];
    private readonly SemaphoreSlim _writing = new(1);
    private readonly SqliteDatabase _writer;
    private readonly SqliteFileGuard _guard;

    /// <summary>Opens the file; makes it where neither it nor anything encrypted is there.</summary>
    /// <param name="sessionsPath">The file of the sessions, which is ready.</param>
    /// <exception cref="SettingsException">It is missing, or belongs to another file of sessions.</exception>
    public SqliteUserKeys(string sessionsPath)
    {
        _path = sessionsPath + Suffix;
        using var sessions = new SqliteDatabase(sessionsPath, SqliteFile.BusyTimeout);
        var expected = IdIn(sessions);
        if (!File.Exists(_path))
        {
            if (expected is not null)
            {
                throw new SettingsException(
                    $"'{_path}' is missing: it holds the users' keys of what is encrypted in '{sessionsPath}'; put it back next to it.");
            }

            PrivateFile.Create(_path).Dispose();
        }

        _guard = new SqliteFileGuard(_path, "The file of the users' keys");
        _writer = Open();
        try
        {
            Tie(sessions, expected, sessionsPath);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Whether anything beside those sessions was ever encrypted.</summary>
    public static bool Exists(string sessionsPath) => File.Exists(sessionsPath + Suffix);

    public ValueTask<IReadOnlyList<WrappedKey>> FindAsync(string holder, CancellationToken cancellationToken) => new(Read(db =>
    {
        using var rows = db[Find].Bind(holder).Read();
        List<WrappedKey>? keys = null;
        while (rows.Next())
        {
            (keys ??= new(1)).Add(ToKey(rows));
        }

        return (IReadOnlyList<WrappedKey>?)keys ?? [];
    }));

    public async ValueTask<IReadOnlyList<WrappedKey>> AddAsync(
        string holder, WrappedKey key, Guid? current, CancellationToken cancellationToken)
    {
        await WriteAsync(
            db => db[Add].Bind(holder).Bind(key.Id).Bind((ReadOnlySpan<byte>)key.Bytes).Bind(key.KeptUntil.ToMicroseconds())
                .Bind(current).Run(), cancellationToken);
        return await FindAsync(holder, cancellationToken);
    }

    public async ValueTask ReplaceAsync(string holder, WrappedKey replacement, CancellationToken cancellationToken) => await WriteAsync(
        db => db[Replace].Bind((ReadOnlySpan<byte>)replacement.Bytes).Bind(replacement.KeptUntil.ToMicroseconds())
            .Bind(holder).Bind(replacement.Id).Run(), cancellationToken);

    public async ValueTask RemoveAsync(string holder, Guid id, CancellationToken cancellationToken) =>
        await RemoveAsync(db => db[Remove].Bind(holder).Bind(id).Run(), cancellationToken);

    public async ValueTask DestroyAsync(string holder, CancellationToken cancellationToken) => await RemoveAsync(db =>
    {
        db.Execute("BEGIN IMMEDIATE");
        try
        {
            db[Bury].Bind(holder).Run();
            var destroyed = db[Destroy].Bind(holder).Run();
            db.Execute("COMMIT");
            return destroyed;
        }
        catch when (db.InTransaction)
        {
            db.Execute("ROLLBACK");
            throw;
        }
    }, cancellationToken);

    public ValueTask<bool> WasDestroyedAsync(Guid id, CancellationToken cancellationToken) => new(Read(db =>
    {
        using var rows = db[FindDestroyed].Bind(id).Read();
        return rows.Next();
    }));

    public async ValueTask RemoveExpiredAsync(DateTimeOffset now, CancellationToken cancellationToken) => await RemoveAsync(db =>
    {
        db[RemoveExpiredTombstones].Bind(now.ToMicroseconds()).Run();
        return db[RemoveExpired].Bind(now.ToMicroseconds()).Run();
    }, cancellationToken);

    public async IAsyncEnumerable<(string Holder, WrappedKey Key)> ReadAllAsync(
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var (holder, number) = ("", 0L);
        List<(string Holder, WrappedKey Key)> page = [];
        do
        {
            page.Clear();
            await WriteAsync(db =>
            {
                using var rows = db[Page].Bind(holder).Bind(number).Read();
                while (rows.Next())
                {
                    page.Add((rows.Text(3), ToKey(rows)));
                    (holder, number) = (rows.Text(3), rows.Long(4));
                }

                return page.Count;
            }, cancellationToken);
            foreach (var entry in page)
            {
                yield return entry;
            }
        }
        while (page.Count > 0);
    }

    public ValueTask<bool> IsAllSealedAsync(CancellationToken cancellationToken) => new(Read(db =>
    {
        using var rows = db[FindAllSealed].Read();
        return rows.Next() && rows.Long(0) != 0;
    }));

    public async ValueTask SetAllSealedAsync(CancellationToken cancellationToken) =>
        await WriteAsync(db => db[SetAllSealed].Run(), cancellationToken);

    public void Dispose()
    {
        _writer.Dispose();
        _guard.Dispose();
        _writing.Dispose();
        while (_idle.TryTake(out var db))
        {
            db.Dispose();
        }
    }

    private static WrappedKey ToKey(SqliteStatement.Rows rows) =>
        new(rows.GuidOrNull(0)!.Value, rows.Bytes(1), Timestamps.FromMicroseconds(rows.Long(2)));

    // In a table of its own, so that the sessions' format need not know of it; it goes along into copies.
    private static string? IdIn(SqliteDatabase sessions) =>
        sessions.Ask("SELECT 1 FROM sqlite_schema WHERE name = 'encryption'") is null ? null
            : sessions.Ask("SELECT hex(keys) FROM encryption");

    private void Tie(SqliteDatabase sessions, string? expected, string sessionsPath)
    {
        _writer.Execute("BEGIN IMMEDIATE");
        _writer.Execute(Schema);
        if (_writer.Ask("SELECT 1 FROM sqlite_schema WHERE name = 'keys'") is not null)
        {
            _writer.Execute(TakeOver);
        }

        var found = _writer.Ask("SELECT hex(database) FROM about");
        if (found is not null && found != expected)
        {
            throw new SettingsException(
                $"'{_path}' holds the users' keys of another file than '{sessionsPath}'; put the two together that belong "
                + "together, or move it away where the file of sessions is new.");
        }

        if (found is null)
        {
            // A file of sessions that knows of keys, and keys that know of no file: these are not the ones.
            var isNew = _writer.Ask("SELECT 1 FROM user_keys LIMIT 1") is null;
            if (expected is not null && isNew)
            {
                throw new SettingsException($"'{_path}' is empty: put the users' keys back that belong to '{sessionsPath}'.");
            }

            expected ??= Guid.NewGuid().ToString("N").ToUpperInvariant();
            _writer.Execute($"INSERT INTO about (only, database, all_sealed) VALUES (1, X'{expected}', 0)");
        }

        _writer.Execute("COMMIT");

        // The keys first: a process that dies in between leaves keys whose file is given their id at the next start.
        if (IdIn(sessions) is null)
        {
            sessions.Execute($"""
                BEGIN IMMEDIATE;
                CREATE TABLE IF NOT EXISTS encryption (only INTEGER PRIMARY KEY CHECK (only = 1), keys BLOB NOT NULL) STRICT;
                INSERT OR IGNORE INTO encryption (only, keys) VALUES (1, X'{expected}');
                COMMIT;
                """);
        }
    }

    private T Read<T>(Func<SqliteDatabase, T> read)
    {
        // A key that is not where it will be looked for after a restart must seal nothing more.
        _guard.CheckNowAndThen();
        if (!_idle.TryTake(out var db))
        {
            db = Open();
        }

        var isSound = false;
        try
        {
            var result = read(db);
            isSound = true;
            return result;
        }
        catch (SqliteException e) when (SqliteFailure.ToStoreException(e) is { } trouble)
        {
            throw trouble;
        }
        finally
        {
            if (isSound)
            {
                _idle.Add(db);
            }
            else
            {
                db.Dispose();
            }
        }
    }

    // What was deleted is overwritten, and taken out of the log too: a key that was destroyed is not to be found on the disk.
    private async Task RemoveAsync(Func<SqliteDatabase, int> remove, CancellationToken cancellationToken) => await WriteAsync(db =>
    {
        var removed = remove(db);
        return removed > 0 && !Truncate(db)
            ? throw new StoreUnavailableException(
                "The key is destroyed, but another process still reads what was there before; ask again to have it off the disk.",
                TimeSpan.FromSeconds(1))
            : removed;
    }, cancellationToken);

    private static bool Truncate(SqliteDatabase db)
    {
        db.SetBusyTimeout(CheckpointWait);
        try
        {
            return db.Ask("PRAGMA wal_checkpoint(TRUNCATE)") == "0";
        }
        catch (SqliteException)
        {
            // The log stays as it is, and loses nothing by it. If the disk is in trouble, the next write says so.
            return false;
        }
        finally
        {
            db.SetBusyTimeout(SqliteFile.BusyTimeout);
        }
    }

    private async Task WriteAsync(Func<SqliteDatabase, int> write, CancellationToken cancellationToken)
    {
        await _writing.WaitAsync(cancellationToken);
        try
        {
            _guard.Check();
            write(_writer);
            _guard.CheckWithLog();
        }
        catch (SqliteException e) when (SqliteFailure.ToStoreException(e) is { } trouble)
        {
            throw trouble;
        }
        finally
        {
            _writing.Release();
        }
    }

    private SqliteDatabase Open()
    {
        var db = new SqliteDatabase(_path, SqliteFile.BusyTimeout);
        db.Execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON");
        return db;
    }
}
