using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using StackExchange.Redis;

namespace Sessions.Api;

/// <summary>Users' keys in the Redis that holds the sessions: the key's id, how long it is kept, and the wrapped key, in one value each.</summary>
internal sealed class RedisUserKeys(IDatabase database, TimeProvider time) : IUserKeys
{
    private const int IdBytes = 16;
    private const int HeaderBytes = IdBytes + sizeof(long);

    // What was read may have been destroyed, or changed, since.
    private const string Replace = """
        local now = redis.call('GET', KEYS[1])
        if now and string.sub(now, 1, 16) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
        """;

    public async ValueTask<WrappedKey?> FindAsync(string holder, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var value = await TryAsync(() => database.StringGetAsync(RedisKeys.UserKey(holder)));
        return value.IsNull ? null : Decode(value);
    }

    public async ValueTask<WrappedKey> AddAsync(string holder, WrappedKey key, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return await TryAsync(() => database.StringSetAsync(RedisKeys.UserKey(holder), Encode(key), Life(key), When.NotExists))
            ? key
            : await FindAsync(holder, cancellationToken) ?? throw new StoreUnavailableException("The user was erased at the same moment.", TimeSpan.FromSeconds(1));
    }

    public async ValueTask ReplaceAsync(string holder, WrappedKey read, WrappedKey replacement, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        await TryAsync(() => database.ScriptEvaluateAsync(Replace, [RedisKeys.UserKey(holder)], [read.Id.ToByteArray(), Encode(replacement), (long)Life(replacement).TotalMilliseconds]));
    }

    public async ValueTask DestroyAsync(string holder, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        await TryAsync(() => database.KeyDeleteAsync(RedisKeys.UserKey(holder)));
    }

    // They have a time to live.
    public ValueTask RemoveExpiredAsync(DateTimeOffset now, CancellationToken cancellationToken) => default;

    public async IAsyncEnumerable<(string Holder, WrappedKey Key)> ReadAllAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        foreach (var server in database.Multiplexer.GetServers().Where(server => !server.IsReplica))
        {
            await foreach (var name in server.KeysAsync(database.Database, RedisKeys.UserKeys).WithCancellation(cancellationToken))
            {
                var value = await TryAsync(() => database.StringGetAsync(name));
                if (!value.IsNull && RedisKeys.HolderOf(name) is { } holder)
                {
                    yield return (holder, Decode(value));
                }
            }
        }
    }

    private TimeSpan Life(WrappedKey key) => key.KeptUntil - time.GetUtcNow() is var left && left > TimeSpan.FromSeconds(1) ? left : TimeSpan.FromSeconds(1);

    private static byte[] Encode(WrappedKey key)
    {
        var value = new byte[HeaderBytes + key.Bytes.Length];
        key.Id.TryWriteBytes(value);
        BinaryPrimitives.WriteInt64BigEndian(value.AsSpan(IdBytes), key.KeptUntil.ToMicroseconds());
        key.Bytes.CopyTo(value, HeaderBytes);
        return value;
    }

    private static WrappedKey Decode(RedisValue value)
    {
        var bytes = (byte[])value!;
        return new(new Guid(bytes.AsSpan(0, IdBytes)), bytes[HeaderBytes..], Timestamps.FromMicroseconds(BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan(IdBytes))));
    }

    private static async Task<T> TryAsync<T>(Func<Task<T>> command)
    {
        try
        {
            return await command();
        }
        catch (Exception e) when (RedisFailure.IsTrouble(e))
        {
            throw RedisFailure.ToUnavailable(e);
        }
    }
}
