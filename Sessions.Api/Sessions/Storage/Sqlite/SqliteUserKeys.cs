using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using Microsoft.Data.Sqlite;

namespace Sessions.Api;

/// <summary>
/// Users' keys in a SQLite file of their own beside the sessions: so that copies of the sessions (backups) do not hold the keys, and are of no use once a
/// key is destroyed here.
/// </summary>
internal sealed class SqliteUserKeys : IUserKeys, IDisposable
{
    /// <summary>What the file's name has more than that of the sessions.</summary>
    public const string Suffix = ".keys";

    private const string Schema = """
        CREATE TABLE IF NOT EXISTS keys (holder TEXT PRIMARY KEY, id BLOB NOT NULL, wrapped BLOB NOT NULL, kept_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS keys_by_expiry ON keys (kept_until);
        """;

    private const string Find = "SELECT id, wrapped, kept_until FROM keys WHERE holder = ?";
    private const string Add = "INSERT INTO keys (holder, id, wrapped, kept_until) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
    private const string Replace = "UPDATE keys SET wrapped = ?, kept_until = ? WHERE holder = ? AND id = ?";
    private const string Destroy = "DELETE FROM keys WHERE holder = ?";
    private const string RemoveExpired = "DELETE FROM keys WHERE kept_until <= ?";
    private const string Page = "SELECT id, wrapped, kept_until, holder FROM keys WHERE holder > ? ORDER BY holder LIMIT 500";
    private const string First = "SELECT id, wrapped, kept_until, holder FROM keys ORDER BY holder LIMIT 500";

    private readonly string _path;
    private readonly ConcurrentBag<SqliteLink> _idle = [];
    private readonly SemaphoreSlim _writing = new(1);
    private readonly SqliteLink _writer;
    private readonly SqlitePlace _place;

    /// <summary>Opens the file; makes it where there is none.</summary>
    /// <param name="sessionsPath">The file of the sessions.</param>
    public SqliteUserKeys(string sessionsPath)
    {
        _path = sessionsPath + Suffix;
        if (!File.Exists(_path))
        {
            PrivateFile.Create(_path).Dispose();
        }

        _place = new SqlitePlace(_path, "The file of the users' keys");
        _writer = Open();
        _writer.Execute(Schema);
    }

    /// <summary>Whether anything beside those sessions was ever encrypted.</summary>
    public static bool Exists(string sessionsPath) => File.Exists(sessionsPath + Suffix);

    public ValueTask<WrappedKey?> FindAsync(string holder, CancellationToken cancellationToken)
    {
        // A key that is not where it will be looked for after a restart must encrypt nothing more.
        _place.Check();
        if (!_idle.TryTake(out var link))
        {
            link = Open();
        }

        var sound = false;
        try
        {
            using var rows = link[Find].Bind(holder).Read();
            var found = rows.Next() ? ToKey(rows) : null;
            sound = true;
            return new(found);
        }
        catch (SqliteException e) when (SqliteFailure.IsTrouble(e))
        {
            throw SqliteFailure.ToUnavailable(e);
        }
        finally
        {
            if (sound)
            {
                _idle.Add(link);
            }
            else
            {
                link.Dispose();
            }
        }
    }

    public async ValueTask<WrappedKey> AddAsync(string holder, WrappedKey key, CancellationToken cancellationToken)
    {
        await WriteAsync(link => link[Add].Bind(holder).Bind(key.Id).Bind((ReadOnlySpan<byte>)key.Bytes).Bind(key.KeptUntil.ToMicroseconds()).Run(), cancellationToken);
        return await FindAsync(holder, cancellationToken) ?? throw new StoreUnavailableException("The user was erased at the same moment.", TimeSpan.FromSeconds(1));
    }

    public async ValueTask ReplaceAsync(string holder, WrappedKey read, WrappedKey replacement, CancellationToken cancellationToken) =>
        await WriteAsync(link => link[Replace].Bind((ReadOnlySpan<byte>)replacement.Bytes).Bind(replacement.KeptUntil.ToMicroseconds()).Bind(holder).Bind(read.Id).Run(), cancellationToken);

    public async ValueTask DestroyAsync(string holder, CancellationToken cancellationToken) => await RemoveAsync(link => link[Destroy].Bind(holder).Run(), cancellationToken);

    public async ValueTask RemoveExpiredAsync(DateTimeOffset now, CancellationToken cancellationToken) =>
        await RemoveAsync(link => link[RemoveExpired].Bind(now.ToMicroseconds()).Run(), cancellationToken);

    public async IAsyncEnumerable<(string Holder, WrappedKey Key)> ReadAllAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        string? last = null;
        List<(string Holder, WrappedKey Key)> page = [];
        do
        {
            page.Clear();
            await WriteAsync(link =>
            {
                using var rows = last is null ? link[First].Read() : link[Page].Bind(last).Read();
                while (rows.Next())
                {
                    page.Add((rows.Text(3), ToKey(rows)));
                }

                return page.Count;
            }, cancellationToken);
            foreach (var entry in page)
            {
                yield return entry;
                last = entry.Holder;
            }
        }
        while (page.Count > 0);
    }

    public void Dispose()
    {
        _writer.Dispose();
        _place.Dispose();
        _writing.Dispose();
        while (_idle.TryTake(out var link))
        {
            link.Dispose();
        }
    }

    // What was deleted is overwritten, and taken out of the log too: a key that was destroyed is not to be found on the disk.
    private async Task RemoveAsync(Func<SqliteLink, int> remove, CancellationToken cancellationToken) => await WriteAsync(link =>
    {
        var removed = remove(link);
        return removed > 0 && !SqliteCheckpoints.Truncate(link)
            ? throw new StoreUnavailableException("The key is destroyed, but another process still reads what was there before; ask again to have it off the disk.", TimeSpan.FromSeconds(1))
            : removed;
    }, cancellationToken);

    private async Task WriteAsync(Func<SqliteLink, int> write, CancellationToken cancellationToken)
    {
        await _writing.WaitAsync(cancellationToken);
        try
        {
            _place.Check();
            write(_writer);
            _place.CheckWithLog();
        }
        catch (SqliteException e) when (SqliteFailure.IsTrouble(e))
        {
            throw SqliteFailure.ToUnavailable(e);
        }
        finally
        {
            _writing.Release();
        }
    }

    private SqliteLink Open()
    {
        var link = new SqliteLink(_path, SqliteFile.BusyTimeout);
        link.Execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON");
        return link;
    }

    private static WrappedKey ToKey(SqliteStatement.Rows rows) => new(rows.GuidOrNull(0)!.Value, rows.Bytes(1), Timestamps.FromMicroseconds(rows.Long(2)));
}
