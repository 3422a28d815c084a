using System.Diagnostics;
using Microsoft.Extensions.Caching.StackExchangeRedis;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using StackExchange.Redis;
using ZiggyCreatures.Caching.Fusion;
using ZiggyCreatures.Caching.Fusion.Internals.Distributed;
using ZiggyCreatures.Caching.Fusion.Serialization;

namespace Sessions.Api.Engine;

/// <summary>
/// The last turns of sessions in a Redis, behind those in the memory of the process. Whatever is the matter with that Redis, nothing fails
/// here and nobody waits long: after a failure it is
/// left alone for a while, and everything is as if nothing were kept there.
/// </summary>
/// <remarks>
/// Of FusionCache this uses what it has around a Redis (circuit breaker, recovery of removals that failed), and not its own memory: see
/// docs/cache.md.
/// </remarks>
internal sealed partial class SharedTail : IAsyncDisposable
{
    /// <summary>How long a Redis that failed is left alone.</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);

    // What could not be removed because Redis was away is gone after this at the latest. A conversation that rests for longer can be read
    // from the disk once.
    private static readonly TimeSpan LongestLife = TimeSpan.FromHours(1);
    private const int MaxRemovalsPending = 10_000;
    private const int RemovalsAtOnce = 64;

    private readonly IConnectionMultiplexer _connection;
    private readonly string _prefix;
    private readonly ILogger<SharedTail> _logger;
    private readonly RedisCache _redis;
    private readonly FusionCache _cache;
    private readonly FusionCacheEntryOptions _use;
    private readonly FusionCacheEntryOptions _remove;
    private volatile bool _paused;
    private long _pausedSince;
    private int _away;

    /// <summary>Makes one.</summary>
    /// <param name="connection">The Redis, which may be away; closed with this.</param>
    /// <param name="prefix">What every key starts with.</param>
    /// <param name="life">How long an idle session lives.</param>
    /// <param name="logger">Told when Redis fails, and when it is back.</param>
    public SharedTail(IConnectionMultiplexer connection, string prefix, TimeSpan life, ILogger<SharedTail> logger)
    {
        (_connection, _prefix, _logger) = (connection, prefix, logger);
        _redis = new RedisCache(new RedisCacheOptions
        {
            InstanceName = $"{prefix}tail:",
            ConnectionMultiplexerFactory = () => Task.FromResult(connection),
        });
        _cache = new FusionCache(new FusionCacheOptions
        {
            CacheName = "tail",
            DistributedCacheKeyModifierMode = CacheKeyModifierMode.None,
            DistributedCacheCircuitBreakerDuration = Pause,
            AutoRecoveryMaxItems = MaxRemovalsPending,
            DisableTagging = true,
            EnableBestPracticesAdvisor = false,
            EnableSyncEventHandlersExecution = true,
            PreferSyncSerialization = true,
        });
        _cache.SetupDistributedCache(_redis, Serializer.Instance);
        _cache.Events.Distributed.CircuitBreakerChange += (_, change) =>
        {
            Volatile.Write(ref _pausedSince, Stopwatch.GetTimestamp());
            _paused = !change.IsClosed;
        };

        // An entry is written when a turn is committed: so it is gone before its session expires.
        _use = new FusionCacheEntryOptions(life < LongestLife ? life : LongestLife)
        {
            SkipMemoryCacheRead = true,
            SkipMemoryCacheWrite = true,
            AllowBackgroundDistributedCacheOperations = false,
            ReThrowDistributedCacheExceptions = true,
            ReThrowSerializationExceptions = true,
        };

        // One that is not thrown is tried again until it succeeds, or the entry is gone anyway.
        _remove = _use.Duplicate();
        _remove.ReThrowDistributedCacheExceptions = false;
        if (!connection.IsConnected)
        {
            Failed("Redis can't be reached.", null);
        }
    }

    /// <summary>Whether Redis is left alone at the moment.</summary>
    public bool IsPaused => _paused;

    /// <summary>What is kept of a session, as it was put; <see langword="null"/>: nothing, or it is not to be had.</summary>
    public async ValueTask<byte[]?> FindAsync(Guid key)
    {
        try
        {
            // Without the token of who asks: one that is cancelled would be taken for a failure. Nobody waits long here.
            var found = await _cache.TryGetAsync<byte[]>(NameOf(key), _use, CancellationToken.None);
            return found.HasValue ? found.Value : null;
        }
        catch (FusionCacheSerializationException e)
        {
            await RemoveDamagedAsync(key, e.InnerException);
        }
        catch (FusionCacheDistributedCacheException e)
        {
            await FailedAsync(key, e);
        }

        return null;
    }

    /// <summary>Keeps what is remembered of a session.</summary>
    public async ValueTask PutAsync(Guid key, byte[] entry)
    {
        // Not even tried: it would take the place of a removal that is still to be done. What comes after the pause ends it.
        if (_paused && Stopwatch.GetElapsedTime(Volatile.Read(ref _pausedSince)) < Pause)
        {
            return;
        }

        try
        {
            await _cache.SetAsync(NameOf(key), entry, _use, token: CancellationToken.None);
            if (!_paused && Interlocked.Exchange(ref _away, 0) == 1)
            {
                Log.Back(_logger);
            }
        }
        catch (FusionCacheDistributedCacheException e)
        {
            await FailedAsync(key, e);
        }
    }

    /// <summary>Removes what is kept of sessions. Where Redis is away, as soon as it is back.</summary>
    public async ValueTask RemoveAsync(IReadOnlyCollection<Guid> keys) => await Parallel.ForEachAsync(
        keys, new ParallelOptions { MaxDegreeOfParallelism = RemovalsAtOnce },
        (key, _) => _cache.RemoveAsync(NameOf(key), _remove, CancellationToken.None));

    /// <summary>Removes an entry that can't be read.</summary>
    public async ValueTask RemoveDamagedAsync(Guid key, Exception? reason)
    {
        Log.Damaged(_logger, NameOf(key), reason);
        await RemoveAsync([key]);
    }

    /// <summary>Whether Redis can be read and written. Where it can't, that is no reason to send clients elsewhere.</summary>
    public async Task<HealthCheckResult> CheckAsync(CancellationToken cancellationToken)
    {
        try
        {
            var written = _connection.GetDatabase().StringSetAsync($"{_prefix}health", Environment.MachineName, TimeSpan.FromMinutes(1));
            await written.WaitAsync(cancellationToken);
            return HealthCheckResult.Healthy("The last turns of sessions are cached in Redis.");
        }
        catch (Exception e) when (IsTrouble(e))
        {
            return HealthCheckResult.Degraded($"{Reason(e)} Until it is back, everything is read from the disk.", e);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _cache.Dispose();
        _redis.Dispose();
        await _connection.DisposeAsync();
    }

    private static string NameOf(Guid key) => key.ToString("N");

    private static string Reason(Exception e) =>
        e is RedisTimeoutException or TimeoutException ? "Redis does not answer in time." : "Redis can't be reached.";

    // Whatever else there is lies with the entry: another program's, or of another type.
    private static bool IsTrouble(Exception e) =>
        (e is RedisException or TimeoutException or ObjectDisposedException or OperationCanceledException)
        && !e.Message.StartsWith("WRONGTYPE", StringComparison.Ordinal);

    private async ValueTask FailedAsync(Guid key, FusionCacheDistributedCacheException e)
    {
        var reason = e.InnerException ?? e;
        if (IsTrouble(reason))
        {
            Failed(Reason(reason), reason);
            return;
        }

        // Past the circuit breaker, which this has opened: else it would do so again and again.
        Log.Damaged(_logger, NameOf(key), reason);
        try
        {
            await _redis.RemoveAsync(NameOf(key));
        }
        catch (Exception trouble) when (IsTrouble(trouble))
        {
            Failed(Reason(trouble), trouble);
        }
    }

    private void Failed(string reason, Exception? exception)
    {
        if (Interlocked.Exchange(ref _away, 1) == 0)
        {
            Log.Away(_logger, reason, exception);
        }
    }

    // What TailCodec made is kept as it is, behind the times that FusionCache needs.
    private sealed class Serializer : IFusionCacheSerializer
    {
        public static readonly Serializer Instance = new();

        public byte[] Serialize<T>(T? obj)
        {
            var entry = (FusionCacheDistributedEntry<byte[]>)(object)obj!;
            return [.. BitConverter.GetBytes(entry.Timestamp), .. BitConverter.GetBytes(entry.LogicalExpirationTimestamp), .. entry.Value];
        }

        public T? Deserialize<T>(byte[] data) => data.Length < 2 * sizeof(long) ? throw new InvalidDataException("It is no entry.")
            : (T)(object)new FusionCacheDistributedEntry<byte[]>(
                data[(2 * sizeof(long))..], BitConverter.ToInt64(data), BitConverter.ToInt64(data, sizeof(long)), null, null);

        public ValueTask<byte[]> SerializeAsync<T>(T? obj, CancellationToken token = default) => new(Serialize(obj));

        public ValueTask<T?> DeserializeAsync<T>(byte[] data, CancellationToken token = default) => new(Deserialize<T>(data));
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 70, Level = LogLevel.Warning,
            Message = "The cache fails, and sessions are read from the disk until it is back: {Reason}")]
        public static partial void Away(ILogger logger, string reason, Exception? exception);

        [LoggerMessage(EventId = 71, Level = LogLevel.Information, Message = "The cache is back")]
        public static partial void Back(ILogger logger);

        [LoggerMessage(EventId = 72, Level = LogLevel.Warning,
            Message = "What the cache holds of the session with key {Key} can't be read, and is removed")]
        public static partial void Damaged(ILogger logger, string key, Exception? exception);
    }
}
