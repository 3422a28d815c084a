using System.Diagnostics.Metrics;
using Sessions.Api.Storage;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Engine;

/// <summary>
/// The gauge <c>sessions.active</c>. Counting can cost a store something, so a collection takes the last count, and starts a new one only
/// if that has grown old. What is shown is late by one collection; nothing is counted while nobody collects.
/// </summary>
internal sealed partial class ActiveSessions
{
    private static readonly TimeSpan MinimumAge = TimeSpan.FromSeconds(15);

    private readonly SessionLog _log;
    private readonly TimeProvider _time;
    private readonly ILogger<ActiveSessions> _logger;
    private readonly KeyValuePair<string, object?> _tag;
    private readonly Lock _lock = new();
    private Task _counting = Task.CompletedTask;
    private long _countedAt;
    private long? _count;

    public ActiveSessions(
        SessionLog log, SessionSettings settings, TimeProvider time, IMeterFactory meters, ILogger<ActiveSessions> logger)
    {
        (_log, _time, _logger) = (log, time, logger);
        _tag = new("sessions.store", Settings.NameOf(settings.StorageType));
        meters.Create(SessionMetrics.MeterName).CreateObservableGauge(
            "sessions.active", Observe, "{session}", "Sessions that have not expired.");
    }

    private IEnumerable<Measurement<long>> Observe()
    {
        lock (_lock)
        {
            if (_counting.IsCompleted && (_count is null || _time.GetElapsedTime(_countedAt) > MinimumAge))
            {
                _counting = Task.Run(CountAsync);
            }

            return _count is { } count ? [new(count, _tag)] : [];
        }
    }

    private async Task CountAsync()
    {
        long? count = null;
        try
        {
            count = (await _log.ObserveAsync(CancellationToken.None)).ActiveSessions;
        }
        catch (StoreUnavailableException e)
        {
            // No number rather than an old one; /health says what is wrong.
            Log.NotCounted(_logger, e.Message);
        }

        lock (_lock)
        {
            (_count, _countedAt) = (count, _time.GetTimestamp());
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 30, Level = LogLevel.Debug, Message = "Active sessions could not be counted: {Reason}")]
        public static partial void NotCounted(ILogger logger, string reason);
    }
}
