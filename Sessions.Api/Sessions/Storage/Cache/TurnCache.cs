using System.Diagnostics.Metrics;
using Microsoft.Extensions.Caching.StackExchangeRedis;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.ServiceDefaults;
using StackExchange.Redis;
using ZiggyCreatures.Caching.Fusion;

namespace Sessions.Api;

/// <summary>
/// The last turns of sessions, in a Redis. Whatever is the matter with that, nothing fails here and nobody waits long: after a failure it is left alone for a while, and
/// everything is as if nothing were cached.
/// </summary>
/// <remarks>Of FusionCache this uses what it has around a Redis (circuit breaker, recovery of removals that failed), and not its own memory: see docs/cache.md.</remarks>
internal sealed partial class TurnCache : ITurnCache, IAsyncDisposable
{
    /// <summary>How long a Redis that failed is left alone.</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);

    // What could not be removed because Redis was away is gone after this at the latest. A conversation that rests for longer can be read from the disk once.
    private static readonly TimeSpan LongestLife = TimeSpan.FromHours(1);
    private const int MostRemovalsPending = 10_000;
    private const int RemovalsAtOnce = 64;

    private readonly IConnectionMultiplexer _connection;
    private readonly string _prefix;
    private readonly ILogger<TurnCache> _logger;
    private readonly RedisCache _redis;
    private readonly FusionCache _cache;
    private readonly FusionCacheEntryOptions _use;
    private readonly FusionCacheEntryOptions _remove;
    private readonly TurnCacheMetrics _metrics;
    private volatile bool _paused;
    private int _away;

    /// <summary>Makes a cache.</summary>
    /// <param name="connection">The Redis, which may be away; closed with the cache.</param>
    /// <param name="prefix">What every key starts with.</param>
    /// <param name="settings">How long sessions live.</param>
    /// <param name="meters">Makes the meter.</param>
    /// <param name="logger">Told when the cache fails, and when it is back.</param>
    public TurnCache(IConnectionMultiplexer connection, string prefix, SessionSettings settings, IMeterFactory meters, ILogger<TurnCache> logger)
    {
        (_connection, _prefix, _logger) = (connection, prefix, logger);
        _redis = new RedisCache(new RedisCacheOptions { InstanceName = $"{prefix}c:", ConnectionMultiplexerFactory = () => Task.FromResult(connection) });
        _cache = new FusionCache(new FusionCacheOptions
        {
            CacheName = "turns",
            DistributedCacheKeyModifierMode = CacheKeyModifierMode.None,
            DistributedCacheCircuitBreakerDuration = Pause,
            AutoRecoveryMaxItems = MostRemovalsPending,
            DisableTagging = true,
            EnableBestPracticesAdvisor = false,
            EnableSyncEventHandlersExecution = true,
            PreferSyncSerialization = true,
        });
        _cache.SetupDistributedCache(_redis, TurnWindowSerializer.Instance);
        _cache.Events.Distributed.CircuitBreakerChange += (_, change) => _paused = !change.IsClosed;

        // An entry is written when a turn is committed: so it is gone before its session expires.
        _use = new FusionCacheEntryOptions(settings.Timeout < LongestLife ? settings.Timeout : LongestLife)
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

        _metrics = new TurnCacheMetrics(meters);
        if (!connection.IsConnected)
        {
            Failed("Redis can't be reached.", null);
        }
    }

    public bool IsShared => true;

    public async ValueTask<TurnWindow?> FindAsync(string sessionId)
    {
        try
        {
            // Without the token of who asks: one that is cancelled would be taken for a failure of the cache. Nobody waits long here.
            var found = await _cache.TryGetAsync<TurnWindow>(sessionId, _use, CancellationToken.None);
            if (found.HasValue)
            {
                return found.Value;
            }

            _metrics.Count(_paused ? "bypassed" : "miss");
        }
        catch (FusionCacheSerializationException e)
        {
            Log.Damaged(_logger, sessionId, e.InnerException);
            _metrics.Count("miss");
            await RemoveAsync([sessionId]);
        }
        catch (FusionCacheDistributedCacheException e)
        {
            await FailedAsync(sessionId, e);
            _metrics.Count("bypassed");
        }

        return null;
    }

    public void Used(TurnWindow? found, TurnWindow? held) => _metrics.Used(found, held);

    public async ValueTask PutAsync(string sessionId, TurnWindow window)
    {
        // Not even tried: it would take the place of a removal that is still to be done. The next question ends the pause.
        if (_paused)
        {
            return;
        }

        try
        {
            await _cache.SetAsync(sessionId, window.Last(TurnWindow.MostBytes), _use, token: CancellationToken.None);
            if (!_paused && Interlocked.Exchange(ref _away, 0) == 1)
            {
                Log.Back(_logger);
            }
        }
        catch (FusionCacheDistributedCacheException e)
        {
            await FailedAsync(sessionId, e);
        }
    }

    /// <summary>Removes what is kept of sessions. Where Redis is away, as soon as it is back.</summary>
    public async ValueTask RemoveAsync(IReadOnlyCollection<string> sessionIds) => await Parallel.ForEachAsync(
        sessionIds, new ParallelOptions { MaxDegreeOfParallelism = RemovalsAtOnce }, (id, _) => _cache.RemoveAsync(id, _remove, CancellationToken.None));

    // Redis forgets it on its own.
    public void RemoveExpired()
    {
    }

    /// <summary>Whether the cache can be read and written. Where it can't, that is no reason to send clients elsewhere.</summary>
    public async Task<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken)
    {
        try
        {
            await _connection.GetDatabase().StringSetAsync($"{_prefix}health", Environment.MachineName, TimeSpan.FromMinutes(1)).WaitAsync(cancellationToken);
            return HealthCheckResult.Healthy("The last turns of sessions are cached in Redis.");
        }
        catch (Exception e) when (IsTrouble(e))
        {
            return HealthCheckResult.Degraded($"{RedisFailure.ToUnavailable(e).Message} Until it is back, everything is read from the disk.", e);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _cache.Dispose();
        _redis.Dispose();
        await _connection.DisposeAsync();
    }

    // Whatever else there is lies with the entry: another program's, or of another type.
    private static bool IsTrouble(Exception e) =>
        e is RedisException or TimeoutException or ObjectDisposedException or OperationCanceledException && !e.Message.StartsWith("WRONGTYPE", StringComparison.Ordinal);

    private async ValueTask FailedAsync(string sessionId, FusionCacheDistributedCacheException e)
    {
        var reason = e.InnerException ?? e;
        if (IsTrouble(reason))
        {
            Failed(RedisFailure.ToUnavailable(reason).Message, reason);
        }
        else
        {
            // Past the circuit breaker, which this has opened: else it would do so again and again.
            Log.Damaged(_logger, sessionId, reason);
            try
            {
                await _redis.RemoveAsync(sessionId);
            }
            catch (Exception trouble) when (IsTrouble(trouble))
            {
                Failed(RedisFailure.ToUnavailable(trouble).Message, trouble);
            }
        }
    }

    private void Failed(string reason, Exception? exception)
    {
        if (Interlocked.Exchange(ref _away, 1) == 0)
        {
            Log.Away(_logger, reason, exception);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 70, Level = LogLevel.Warning, Message = "The cache fails, and sessions are read from the disk until it is back: {Reason}")]
        public static partial void Away(ILogger logger, string reason, Exception? exception);

        [LoggerMessage(EventId = 71, Level = LogLevel.Information, Message = "The cache is back")]
        public static partial void Back(ILogger logger);

        [LoggerMessage(EventId = 72, Level = LogLevel.Warning, Message = "What the cache holds of session {SessionId} can't be read, and is removed")]
        public static partial void Damaged(ILogger logger, string sessionId, Exception? exception);
    }
}
