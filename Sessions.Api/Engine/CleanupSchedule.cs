using Sessions.Api.Storage;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Engine;

/// <summary>
/// Removes expired sessions: when a client asks (<c>POST /sessions/cleanup</c>, as the janitor does), and on its own when nobody has asked
/// for a while. So an API that runs alone cleans up every interval, and one with a janitor leaves it to the janitor as long as that one
/// shows up.
/// </summary>
internal sealed partial class CleanupSchedule(
    SessionLog log, SessionSettings options, TimeProvider time, SessionMetrics metrics, ILogger<CleanupSchedule> logger) : BackgroundService
{
    // After another's clean-up, how many intervals to give it before stepping in: more than its jitter, less than two.
    private const double Patience = 1.5;

    private readonly Lock _lock = new();
    private DateTimeOffset _lastAttempt = time.GetUtcNow();
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
    public Task<Cleanup> RunAsync(CancellationToken cancellationToken) => RunAsync(asked: true, cancellationToken);

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
            catch (Exception e) when (e is not OperationCanceledException || !stoppingToken.IsCancellationRequested)
            {
                // Whatever it is: the next one will find it again, until then nothing is wrong with what clients see, and nobody else is
                // to end for it.
                Log.Failed(logger, e is StoreUnavailableException or StoredDataException ? e.Message : Failures.Describe(e));
                Attempted(asked: false);
            }
        }
    }

    private async Task<Cleanup> RunAsync(bool asked, CancellationToken cancellationToken)
    {
        using var activity = TurnMetrics.Source.StartActivity("cleanup");
        var trigger = asked ? "request" : "timer";
        var started = time.GetTimestamp();
        int removed;
        try
        {
            removed = await log.SweepAsync(cancellationToken);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            metrics.CleanupFailed(trigger);
            activity?.SetStatus(System.Diagnostics.ActivityStatusCode.Error, e is StoreUnavailableException ? e.Message : e.GetType().Name);
            throw;
        }

        var took = time.GetElapsedTime(started);
        Attempted(asked);
        lock (_lock)
        {
            _lastCleanupAt = time.GetUtcNow();
        }

        activity?.SetTag("sessions.removed", removed);
        metrics.CleanedUp(trigger, removed);
        Log.Removed(logger, removed, took.TotalSeconds);
        return new Cleanup(removed, took);
    }

    private DateTimeOffset Due()
    {
        lock (_lock)
        {
            return _lastAttempt + (options.CleanupInterval * (_lastWasAsked ? Patience : 1));
        }
    }

    // Also one that failed is not tried again before the next one is due.
    private void Attempted(bool asked)
    {
        lock (_lock)
        {
            _lastAttempt = time.GetUtcNow();
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

/// <summary>Expired sessions were removed.</summary>
/// <param name="Removed">How many.</param>
/// <param name="Took">How long it took.</param>
internal readonly record struct Cleanup(int Removed, TimeSpan Took);
