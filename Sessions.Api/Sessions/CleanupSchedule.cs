using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>
/// Removes expired sessions: when a client asks (<c>POST /sessions/cleanup</c>, as the janitor does), and on its own when nobody has asked
/// for a while. So an API that runs alone cleans up every interval, and one with a janitor leaves it to the janitor as long as that one
/// shows up.
/// </summary>
internal sealed partial class CleanupSchedule(
    ISessionStore store, SessionSettings options, TimeProvider time, SessionMetrics metrics, ILogger<CleanupSchedule> logger) : BackgroundService
{
    // After another's clean-up, how many intervals to give it before stepping in: more than its jitter, less than two.
    private const double Patience = 1.5;

    private readonly Lock _lock = new();
    private DateTimeOffset _last = time.GetUtcNow();
    private bool _lastWasAsked;
    private DateTimeOffset? _lastCleanupAt;

    /// <summary>When expired sessions were last removed, by this process.</summary>
    public DateTimeOffset? LastCleanupAt
    {
        get
        {
            lock (_lock)
            {
                return _lastCleanupAt;
            }
        }
    }

    /// <summary>Removes expired sessions because a client asked.</summary>
    public Task<CleanupResponse> RunAsync(CancellationToken cancellationToken) => RunAsync(asked: true, cancellationToken);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            var wait = Due() - time.GetUtcNow();
            if (wait > TimeSpan.Zero)
            {
                await Task.Delay(wait, time, stoppingToken);
                continue;
            }

            try
            {
                await RunAsync(asked: false, stoppingToken);
            }
            catch (StoreUnavailableException e)
            {
                // The next one will find it again; until then nothing is wrong with what clients see.
                Log.Failed(logger, e.Message);
                Note(asked: false);
            }
        }
    }

    private async Task<CleanupResponse> RunAsync(bool asked, CancellationToken cancellationToken)
    {
        using var activity = QueryMetrics.Source.StartActivity("cleanup");
        var trigger = asked ? "request" : "timer";
        var started = time.GetTimestamp();
        int removed;
        try
        {
            removed = await store.RemoveExpiredAsync(cancellationToken);
        }
        catch (StoreUnavailableException e)
        {
            metrics.CleanupFailed(trigger);
            activity?.SetStatus(System.Diagnostics.ActivityStatusCode.Error, e.Message);
            throw;
        }

        var took = time.GetElapsedTime(started);
        Note(asked);
        activity?.SetTag("sessions.removed", removed);
        metrics.CleanedUp(trigger, removed);
        Log.Removed(logger, removed, took.TotalSeconds);
        return new CleanupResponse(removed, took.TotalSeconds);
    }

    private DateTimeOffset Due()
    {
        lock (_lock)
        {
            return _last + (options.CleanupInterval * (_lastWasAsked ? Patience : 1));
        }
    }

    private void Note(bool asked)
    {
        lock (_lock)
        {
            _last = time.GetUtcNow();
            _lastCleanupAt = _last;
            _lastWasAsked = asked;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 20, Level = LogLevel.Information, Message = "Removed {Removed} expired sessions in {Seconds:0.000} s")]
        public static partial void Removed(ILogger logger, int removed, double seconds);

        [LoggerMessage(EventId = 21, Level = LogLevel.Warning, Message = "Expired sessions could not be removed: {Reason}")]
        public static partial void Failed(ILogger logger, string reason);
    }
}
