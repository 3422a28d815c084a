using System.Diagnostics.Metrics;
using Microsoft.Extensions.Caching.Memory;
using Microsoft.Extensions.Internal;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>The last turns of the sessions that were used last, in the memory of this process.</summary>
internal sealed class MemoryTurnCache : ITurnCache, IDisposable
{
    /// <summary>What all of it may take. Past it, what was not used for longest is forgotten.</summary>
    public const long MostBytes = 64 * 1024 * 1024;

    // What another process has removed is never given to anybody; and it is gone from the memory after this at the latest.
    private static readonly TimeSpan LongestLife = TimeSpan.FromHours(1);

    private readonly MemoryCache _cache;
    private readonly TimeSpan _life;
    private readonly TurnCacheMetrics _metrics;

    public MemoryTurnCache(SessionSettings settings, TimeProvider time, IMeterFactory meters)
    {
        // An entry is made when a turn is committed: so it is gone when its session expires.
        _life = settings.Timeout < LongestLife ? settings.Timeout : LongestLife;
        _metrics = new TurnCacheMetrics(meters);
        _cache = new MemoryCache(new MemoryCacheOptions { SizeLimit = MostBytes, Clock = new Clock(time) });
    }

    public bool IsShared => false;

    public ValueTask<TurnWindow?> FindAsync(string sessionId)
    {
        var found = _cache.Get<TurnWindow>(sessionId);
        if (found is null)
        {
            _metrics.Count("miss");
        }

        return new(found);
    }

    public void Used(TurnWindow? found, TurnWindow? held) => _metrics.Used(found, held);

    public ValueTask PutAsync(string sessionId, TurnWindow window)
    {
        window = window.Last(TurnWindow.MostBytes);
        using var entry = _cache.CreateEntry(sessionId);
        entry.Value = window;
        entry.Size = window.BytesInMemory;
        entry.AbsoluteExpirationRelativeToNow = _life;
        return default;
    }

    public ValueTask RemoveAsync(IReadOnlyCollection<string> sessionIds)
    {
        foreach (var id in sessionIds)
        {
            _cache.Remove(id);
        }

        return default;
    }

    public void RemoveExpired() => _cache.Compact(0);

    public void Dispose() => _cache.Dispose();

    private sealed class Clock(TimeProvider time) : ISystemClock
    {
        public DateTimeOffset UtcNow => time.GetUtcNow();
    }
}
