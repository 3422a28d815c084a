using System.Diagnostics.Metrics;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>What is counted about sessions. docs/observability.md lists every instrument.</summary>
internal sealed class SessionMetrics
{
    /// <summary>The meter's name.</summary>
    public const string MeterName = "Sessions";

    private readonly Counter<long> _created;
    private readonly Counter<long> _expired;
    private readonly Counter<long> _evicted;
    private readonly Counter<long> _cleanups;
    private readonly Counter<long> _cleanedUp;

    public SessionMetrics(IMeterFactory meters)
    {
        var meter = meters.Create(MeterName);
        _created = meter.CreateCounter<long>("sessions.created", "{session}", "Sessions created.");
        _expired = meter.CreateCounter<long>("sessions.expired", "{session}", "Expired sessions whose space was freed.");
        _evicted = meter.CreateCounter<long>("sessions.evicted", "{session}", "Sessions removed because their user had too many.");
        _cleanups = meter.CreateCounter<long>("sessions.cleanup.runs", "{run}", "Runs of the clean-up.");
        _cleanedUp = meter.CreateCounter<long>("sessions.cleanup.removed", "{session}", "Sessions that the clean-up removed.");
    }

    public void Created(SessionOrigin origin) =>
        _created.Add(1, new KeyValuePair<string, object?>("sessions.created_from", origin.Name()));

    public void CleanedUp(string trigger, int removed)
    {
        _cleanups.Add(1, new("sessions.trigger", trigger), new("sessions.outcome", "completed"));
        _cleanedUp.Add(removed, new KeyValuePair<string, object?>("sessions.trigger", trigger));
    }

    public void CleanupFailed(string trigger) => _cleanups.Add(1, new("sessions.trigger", trigger), new("sessions.outcome", "failed"));

    public void Expired(long count)
    {
        if (count > 0)
        {
            _expired.Add(count);
        }
    }

    public void Evicted(long count)
    {
        if (count > 0)
        {
            _evicted.Add(count);
        }
    }
}
