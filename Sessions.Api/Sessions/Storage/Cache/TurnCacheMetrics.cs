using System.Diagnostics.Metrics;

namespace Sessions.Api;

/// <summary>Counts the questions to the cache, by what came of them.</summary>
internal sealed class TurnCacheMetrics(IMeterFactory meters)
{
    private readonly Counter<long> _requests =
        meters.Create(SessionMetrics.MeterName).CreateCounter<long>("sessions.cache.requests", "{request}", "Questions to the cache, by what came of them.");

    public void Count(string outcome) => _requests.Add(1, new KeyValuePair<string, object?>("sessions.cache.outcome", outcome));

    /// <inheritdoc cref="ITurnCache.Used"/>
    public void Used(TurnWindow? found, TurnWindow? held)
    {
        if (found is not null)
        {
            Count(held is null ? "stale" : "hit");
        }
    }
}
