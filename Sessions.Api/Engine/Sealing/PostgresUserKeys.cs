using System.Runtime.CompilerServices;
using Npgsql;
using Sessions.Api.Domain;
using Sessions.Api.Storage.Postgres;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// Users' keys in the PostgreSQL that holds the sessions, in tables of their own. Backups of that database hold both: an erasure does not
/// reach them.
/// </summary>
/// <remarks>
/// Whoever adds a key or destroys them has locked those that are there, and looks again afterwards: what was added by another meanwhile
/// is seen.
/// </remarks>
/// <param name="database">The database, with its tables.</param>
internal sealed class PostgresUserKeys(PostgresDatabase database) : IUserKeys
{
    private const int Page = 500;

    private const string Find = "SELECT id, wrapped, kept_until FROM user_keys WHERE holder = $1 ORDER BY number DESC";
    private const string Lock = "SELECT 1 FROM user_keys WHERE holder = $1 ORDER BY number FOR UPDATE";

    // Where two add the first one at the same moment, only one can have its number.
    private const string Add = """
        INSERT INTO user_keys (id, holder, number, wrapped, kept_until)
        SELECT $2, $1, coalesce((SELECT max(number) FROM user_keys WHERE holder = $1), 0) + 1, $3, $4
        WHERE (SELECT id FROM user_keys WHERE holder = $1 ORDER BY number DESC LIMIT 1) IS NOT DISTINCT FROM $5::uuid
        ON CONFLICT DO NOTHING
        """;

    private const string Replace = """
        UPDATE user_keys SET wrapped = $3, kept_until = greatest(kept_until, $4) WHERE id = $2 AND holder = $1
        """;

    private const string Remove = "DELETE FROM user_keys WHERE id = $2 AND holder = $1";
    private const string Destroy = """
        WITH destroyed AS (DELETE FROM user_keys WHERE holder = $1 RETURNING id, kept_until)
        INSERT INTO destroyed_keys (id, kept_until) SELECT id, kept_until FROM destroyed ON CONFLICT DO NOTHING
        """;

    private const string FindDestroyed = "SELECT 1 FROM destroyed_keys WHERE id = $1";

    // One that has just been given longer to live is looked at again.
    private const string RemoveExpired = """
        DELETE FROM user_keys WHERE kept_until <= $1
        AND id = ANY (ARRAY(SELECT id FROM user_keys WHERE kept_until <= $1 ORDER BY kept_until LIMIT $2))
        """;

    private const string RemoveExpiredTombstones = """
        DELETE FROM destroyed_keys WHERE id = ANY (ARRAY(SELECT id FROM destroyed_keys WHERE kept_until <= $1 ORDER BY kept_until LIMIT $2))
        """;

    private const string ReadPage = """
        SELECT id, wrapped, kept_until, holder, number FROM user_keys WHERE (holder, number) > ($1, $2) ORDER BY holder, number LIMIT $3
        """;

    private const string FindAllSealed = "SELECT 1 FROM sealing";
    private const string SetAllSealed = "INSERT INTO sealing (is_all) VALUES (true) ON CONFLICT DO NOTHING";

    public async ValueTask<IReadOnlyList<WrappedKey>> FindAsync(string holder, CancellationToken cancellationToken) =>
        await database.RunAsync((connection, cancel) =>
            PostgresDatabase.QueryAsync(connection, [PostgresDatabase.Command(Find, holder)], ReadAsync, cancel), cancellationToken);

    public async ValueTask<IReadOnlyList<WrappedKey>> AddAsync(
        string holder, WrappedKey key, Guid? current, CancellationToken cancellationToken)
    {
        await ExecuteAsync(
            cancellationToken,
            () => PostgresDatabase.Command(Lock, holder),
            () => PostgresDatabase.Command(Add, holder, key.Id, key.Bytes, key.KeptUntil.ToMicroseconds(), current));
        return await FindAsync(holder, cancellationToken);
    }

    public async ValueTask ReplaceAsync(string holder, WrappedKey replacement, CancellationToken cancellationToken) => await ExecuteAsync(
        cancellationToken,
        () => PostgresDatabase.Command(Replace, holder, replacement.Id, replacement.Bytes, replacement.KeptUntil.ToMicroseconds()));

    public async ValueTask RemoveAsync(string holder, Guid id, CancellationToken cancellationToken) =>
        await ExecuteAsync(cancellationToken, () => PostgresDatabase.Command(Remove, holder, id));

    public async ValueTask DestroyAsync(string holder, CancellationToken cancellationToken) => await ExecuteAsync(
        cancellationToken, () => PostgresDatabase.Command(Lock, holder), () => PostgresDatabase.Command(Destroy, holder));

    public ValueTask<bool> WasDestroyedAsync(Guid id, CancellationToken cancellationToken) =>
        AnyAsync(FindDestroyed, cancellationToken, id);

    public async ValueTask RemoveExpiredAsync(DateTimeOffset now, CancellationToken cancellationToken)
    {
        foreach (var sql in (string[])[RemoveExpiredTombstones, RemoveExpired])
        {
            while (await ExecuteAsync(cancellationToken, () => PostgresDatabase.Command(sql, now.ToMicroseconds(), Page)) == Page)
            {
                // There are more.
            }
        }
    }

    public async IAsyncEnumerable<(string Holder, WrappedKey Key)> ReadAllAsync(
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var (holder, number) = ("", 0);
        List<(string Holder, int Number, WrappedKey Key)> page;
        do
        {
            var (lastHolder, lastNumber) = (holder, number);
            page = await database.RunAsync((connection, cancel) => PostgresDatabase.QueryAsync(
                connection, [PostgresDatabase.Command(ReadPage, lastHolder, lastNumber, Page)], async (reader, stop) =>
                {
                    List<(string Holder, int Number, WrappedKey Key)> read = [];
                    while (await reader.ReadAsync(stop))
                    {
                        read.Add((reader.GetString(3), reader.GetInt32(4), ToKey(reader)));
                    }

                    return read;
                }, cancel), cancellationToken);
            foreach (var entry in page)
            {
                (holder, number) = (entry.Holder, entry.Number);
                yield return (entry.Holder, entry.Key);
            }
        }
        while (page.Count == Page);
    }

    public ValueTask<bool> IsAllSealedAsync(CancellationToken cancellationToken) => AnyAsync(FindAllSealed, cancellationToken);

    public async ValueTask SetAllSealedAsync(CancellationToken cancellationToken) =>
        await ExecuteAsync(cancellationToken, () => PostgresDatabase.Command(SetAllSealed));

    private static async Task<IReadOnlyList<WrappedKey>> ReadAsync(NpgsqlDataReader reader, CancellationToken cancellationToken)
    {
        List<WrappedKey> keys = new(1);
        while (await reader.ReadAsync(cancellationToken))
        {
            keys.Add(ToKey(reader));
        }

        return keys;
    }

    private static WrappedKey ToKey(NpgsqlDataReader reader) =>
        new(reader.GetGuid(0), reader.GetFieldValue<byte[]>(1), Timestamps.FromMicroseconds(reader.GetInt64(2)));

    // All at once, in a transaction of the server's own; made anew for each try.
    private ValueTask<int> ExecuteAsync(CancellationToken cancellationToken, params Func<NpgsqlBatchCommand>[] commands) =>
        database.RunAsync(
            (connection, cancel) => PostgresDatabase.ExecuteAsync(connection, cancel, [.. commands.Select(command => command())]),
            cancellationToken);

    private ValueTask<bool> AnyAsync(string sql, CancellationToken cancellationToken, params object?[] values) => database.RunAsync(
        (connection, cancel) => PostgresDatabase.QueryAsync(
            connection, [PostgresDatabase.Command(sql, values)], (reader, stop) => reader.ReadAsync(stop), cancel), cancellationToken);
}
