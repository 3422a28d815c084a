using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Sessions.Api.Domain;
using Sessions.Api.Storage;
using Sessions.Api.Storage.Redis;
using StackExchange.Redis;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// Users' keys in the Redis that holds the sessions: all of a holder's in one value, the current one first; each lives as long as it may
/// be needed. A tombstone is a key of its own.
/// </summary>
/// <param name="commands">Runs what names a key.</param>
/// <param name="database">The Redis.</param>
/// <param name="prefix">What every key starts with.</param>
/// <param name="time">The clock.</param>
internal sealed class RedisUserKeys(RedisCommands commands, IDatabase database, string prefix, TimeProvider time) : IUserKeys
{
    private const byte Version = 1;
    private const int IdBytes = 16;
    private const int HeaderBytes = IdBytes + sizeof(long) + sizeof(ushort);

    // Put in the place of what was read, if that is still there; nothing, where nothing was. Without a new value it is deleted.
    private const string Exchange = """
        local now = redis.call('GET', KEYS[1])
        if (now or '') ~= ARGV[1] then return 0 end
        if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
        return 1
        """;

    public async ValueTask<IReadOnlyList<WrappedKey>> FindAsync(string holder, CancellationToken cancellationToken) =>
        Decode(await GetAsync(holder, cancellationToken));

    public async ValueTask<IReadOnlyList<WrappedKey>> AddAsync(
        string holder, WrappedKey key, Guid? current, CancellationToken cancellationToken)
    {
        await ChangeAsync(
            holder, keys => (keys.Count == 0 ? current is null : keys[0].Id == current) ? [key, .. keys] : null, cancellationToken);
        return await FindAsync(holder, cancellationToken);
    }

    public ValueTask ReplaceAsync(string holder, WrappedKey replacement, CancellationToken cancellationToken) => ChangeAsync(
        holder, keys => keys.Any(key => key.Id == replacement.Id)
            ? [.. keys.Select(key => key.Id != replacement.Id ? key
                : key.KeptUntil > replacement.KeptUntil ? replacement with { KeptUntil = key.KeptUntil } : replacement)]
            : null, cancellationToken);

    public ValueTask RemoveAsync(string holder, Guid id, CancellationToken cancellationToken) =>
        ChangeAsync(holder, keys => keys.Any(key => key.Id == id) ? [.. keys.Where(key => key.Id != id)] : null, cancellationToken);

    public async ValueTask DestroyAsync(string holder, CancellationToken cancellationToken)
    {
        // The tombstones first: while a key is there too, it counts. Whoever adds one in between is met in the next round.
        while (true)
        {
            var value = await GetAsync(holder, cancellationToken);
            if (value.IsNull)
            {
                return;
            }

            foreach (var key in Decode(value))
            {
                await RunAsync(TombstoneOf(key.Id), (redis, name) => redis.StringSetAsync(name, 1, Life([key])));
            }

            if (await ExchangeAsync(holder, value, []))
            {
                return;
            }
        }
    }

    public async ValueTask<bool> WasDestroyedAsync(Guid id, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return await RunAsync(TombstoneOf(id), (redis, name) => redis.KeyExistsAsync(name));
    }

    // They have a time to live.
    public ValueTask RemoveExpiredAsync(DateTimeOffset now, CancellationToken cancellationToken) => default;

    public async IAsyncEnumerable<(string Holder, WrappedKey Key)> ReadAllAsync(
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var start = $"{prefix}user-keys:{{";
        foreach (var server in database.Multiplexer.GetServers().Where(server => !server.IsReplica))
        {
            // Some may be met twice: that does no harm.
            await foreach (var name in server.KeysAsync(database.Database, $"{Escaped(start)}*").WithCancellation(cancellationToken))
            {
                var holder = name.ToString()[start.Length..^1];
                foreach (var key in await FindAsync(holder, cancellationToken))
                {
                    yield return (holder, key);
                }
            }
        }
    }

    public async ValueTask<bool> IsAllSealedAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return await RunAsync(AllSealed, (redis, name) => redis.KeyExistsAsync(name));
    }

    public async ValueTask SetAllSealedAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        await RunAsync(AllSealed, (redis, name) => redis.StringSetAsync(name, 1));
    }

    // Behind the circuit breaker that the store's commands are behind, too.
    private Task<T> RunAsync<T>(RedisKey key, Func<IDatabase, RedisKey, Task<T>> command) => commands.RunAsync(key, command);

    private RedisKey AllSealed => $"{prefix}all-sealed";

    // Braces: as the session's own keys, so that a cluster keeps a user's together.
    private RedisKey KeyOf(string holder) => $"{prefix}user-keys:{{{holder}}}";

    private RedisKey TombstoneOf(Guid id) => $"{prefix}destroyed-key:{id:N}";

    private static string Escaped(string text) =>
        text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("*", "\\*", StringComparison.Ordinal)
        .Replace("?", "\\?", StringComparison.Ordinal).Replace("[", "\\[", StringComparison.Ordinal);

    private async ValueTask<RedisValue> GetAsync(string holder, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return await RunAsync(KeyOf(holder), (redis, name) => redis.StringGetAsync(name));
    }

    private async ValueTask ChangeAsync(
        string holder, Func<IReadOnlyList<WrappedKey>, IReadOnlyList<WrappedKey>?> change, CancellationToken cancellationToken)
    {
        while (true)
        {
            var value = await GetAsync(holder, cancellationToken);
            if (change(Decode(value)) is not { } changed || await ExchangeAsync(holder, value, changed))
            {
                return;
            }
        }
    }

    private async ValueTask<bool> ExchangeAsync(string holder, RedisValue read, IReadOnlyList<WrappedKey> keys)
    {
        var life = keys.Count == 0 ? 1 : (long)Life(keys).TotalMilliseconds;
        RedisValue[] arguments = [read.IsNull ? RedisValue.EmptyString : read, Encode(keys), life];
        return (int)await RunAsync(KeyOf(holder), (redis, name) => redis.ScriptEvaluateAsync(Exchange, [name], arguments)) == 1;
    }

    private TimeSpan Life(IReadOnlyList<WrappedKey> keys) =>
        keys.Max(key => key.KeptUntil) - time.GetUtcNow() is var left && left > TimeSpan.FromSeconds(1) ? left : TimeSpan.FromSeconds(1);

    private static byte[] Encode(IReadOnlyList<WrappedKey> keys)
    {
        if (keys.Count == 0)
        {
            return [];
        }

        var value = new byte[1 + keys.Sum(key => HeaderBytes + key.Bytes.Length)];
        value[0] = Version;
        var rest = value.AsSpan(1);
        foreach (var key in keys)
        {
            key.Id.TryWriteBytes(rest);
            BinaryPrimitives.WriteInt64BigEndian(rest[IdBytes..], key.KeptUntil.ToMicroseconds());
            BinaryPrimitives.WriteUInt16BigEndian(rest[(IdBytes + sizeof(long))..], (ushort)key.Bytes.Length);
            key.Bytes.CopyTo(rest[HeaderBytes..]);
            rest = rest[(HeaderBytes + key.Bytes.Length)..];
        }

        return value;
    }

    private static List<WrappedKey> Decode(RedisValue value)
    {
        List<WrappedKey> keys = [];
        ReadOnlySpan<byte> rest = value.IsNull ? [] : (byte[])value!;
        if (rest.IsEmpty)
        {
            return keys;
        }

        var isSound = rest[0] == Version;
        for (rest = rest[1..]; isSound && !rest.IsEmpty;)
        {
            var length = rest.Length < HeaderBytes ? -1 : BinaryPrimitives.ReadUInt16BigEndian(rest[(IdBytes + sizeof(long))..]);
            isSound = length >= 0 && rest.Length >= HeaderBytes + length;
            if (isSound)
            {
                var until = Timestamps.FromMicroseconds(BinaryPrimitives.ReadInt64BigEndian(rest[IdBytes..]));
                keys.Add(new(new Guid(rest[..IdBytes]), rest.Slice(HeaderBytes, length).ToArray(), until));
                rest = rest[(HeaderBytes + length)..];
            }
        }

        return isSound ? keys : throw new StoredDataException(
            "a user's keys", "A user's keys can't be read: another program, or a later version, has written them.");
    }
}
