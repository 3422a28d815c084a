using System.Diagnostics;
using System.Net.Http.Json;
using System.Text.Json;
using Sessions.ServiceDefaults;

namespace Sessions.Janitor;

/// <summary>
/// Has the API remove expired sessions, at once and then every <c>cleanup_interval_minutes</c>. One call at a time; an API that can't be
/// reached is told about once, and once again when it is back.
/// </summary>
internal sealed partial class Janitor(HttpClient api, SessionSettings settings, TimeProvider time, ILogger<Janitor> logger) : BackgroundService
{
    /// <summary>The name of the janitor's spans.</summary>
    public const string SourceName = "Sessions.Janitor";

    // Up to a tenth of the interval is added at random, so that several janitors don't keep step. The API waits longer than that before it
    // cleans up on its own.
    private const double Jitter = 0.1;

    private static readonly ActivitySource Source = new(SourceName);
    private bool _reachable = true;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            await CleanUpAsync(stoppingToken);
            await Task.Delay(settings.CleanupInterval * (1 + (Jitter * Random.Shared.NextDouble())), time, stoppingToken);
        }
    }

    private async Task CleanUpAsync(CancellationToken cancellationToken)
    {
        using var activity = Source.StartActivity("janitor");
        try
        {
            using var response = await api.PostAsync(new Uri("/sessions/cleanup", UriKind.Relative), content: null, cancellationToken);
            response.EnsureSuccessStatusCode();
            var cleanup = await response.Content.ReadFromJsonAsync<Cleanup>(JsonSerializerOptions.Web, cancellationToken);
            if (!_reachable)
            {
                _reachable = true;
                Log.ReachableAgain(logger);
            }

            activity?.SetTag("sessions.removed", cleanup?.Removed);
            Log.Removed(logger, cleanup?.Removed ?? 0);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            activity?.SetStatus(ActivityStatusCode.Error, e.Message);
            if (_reachable)
            {
                _reachable = false;
                Log.Unreachable(logger, e.Message);
            }
        }
    }

    /// <summary>What the API answers: the janitor's own copy of the part it reads.</summary>
    private sealed record Cleanup(int Removed);

    private static partial class Log
    {
        [LoggerMessage(EventId = 1, Level = LogLevel.Information, Message = "{Removed} expired sessions removed")]
        public static partial void Removed(ILogger logger, int removed);

        [LoggerMessage(EventId = 2, Level = LogLevel.Warning, Message = "The API could not clean up: {Reason} Trying on, without a word until it can")]
        public static partial void Unreachable(ILogger logger, string reason);

        [LoggerMessage(EventId = 3, Level = LogLevel.Information, Message = "The API is there again")]
        public static partial void ReachableAgain(ILogger logger);
    }
}
