using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Net;
using System.Text.Json;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.ServiceDefaults;

namespace Sessions.Janitor;

/// <summary>
/// Has the API remove expired sessions, at once and then every <c>cleanup_interval_minutes</c>. One call at a time. What keeps it from its
/// work is told once, and once again when it is over.
/// </summary>
internal sealed partial class Janitor : BackgroundService, IHealthCheck
{
    /// <summary>The name of the janitor's spans and meter.</summary>
    public const string Name = "Sessions.Janitor";

    // Up to a tenth of the interval is added at random, so that several janitors don't keep step. The API waits longer than that before it
    // cleans up on its own.
    private const double Jitter = 0.1;

    // When to try again after a failure, if that is sooner than the next turn.
    private static readonly TimeSpan Retry = TimeSpan.FromSeconds(30);
    private static readonly ActivitySource Source = new(Name);

    private readonly HttpClient _api;
    private readonly SessionSettings _settings;
    private readonly TimeProvider _time;
    private readonly ILogger<Janitor> _logger;
    private readonly Counter<long> _runs;
    private readonly Counter<long> _removed;
    private volatile string? _trouble;

    public Janitor(HttpClient api, SessionSettings settings, TimeProvider time, IMeterFactory meters, ILogger<Janitor> logger)
    {
        (_api, _settings, _time, _logger) = (api, settings, time, logger);
        var meter = meters.Create(Name);
        _runs = meter.CreateCounter<long>("sessions.janitor.runs", "{run}", "Clean-ups that the janitor asked for.");
        _removed = meter.CreateCounter<long>("sessions.janitor.removed", "{session}", "Sessions that the API removed when asked.");
    }

    /// <summary>An API that is away makes no sick janitor: starting it anew would not help.</summary>
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(_trouble is { } trouble ? HealthCheckResult.Degraded(trouble) : HealthCheckResult.Healthy());

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            await CleanUpAsync(stoppingToken);
            var interval = _trouble is not null && _settings.CleanupInterval > Retry ? Retry : _settings.CleanupInterval;
            await Task.Delay(interval * (1 + (Jitter * Random.Shared.NextDouble())), _time, stoppingToken);
        }
    }

    private async Task CleanUpAsync(CancellationToken cancellationToken)
    {
        using var activity = Source.StartActivity("janitor");
        try
        {
            using var response = await _api.PostAsync(new Uri("/sessions/cleanup", UriKind.Relative), content: null, cancellationToken);
            if (!response.IsSuccessStatusCode)
            {
                Failed(activity, Describe(response.StatusCode));
                return;
            }

            var removed = (await response.Content.ReadFromJsonAsync<Cleanup>(JsonSerializerOptions.Web, cancellationToken))?.Removed ?? 0;
            Succeeded(activity, removed);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            Failed(activity, e.Message);
        }
    }

    private void Succeeded(Activity? activity, int removed)
    {
        if (_trouble is not null)
        {
            _trouble = null;
            Log.Over(_logger);
        }

        activity?.SetTag("sessions.removed", removed);
        _runs.Add(1, new KeyValuePair<string, object?>("sessions.outcome", "completed"));
        _removed.Add(removed);
        Log.Removed(_logger, removed);
    }

    private void Failed(Activity? activity, string reason)
    {
        activity?.SetStatus(ActivityStatusCode.Error, reason);
        _runs.Add(1, new KeyValuePair<string, object?>("sessions.outcome", "failed"));
        if (reason != _trouble)
        {
            _trouble = reason;
            Log.Trouble(_logger, reason);
        }
    }

    private static string Describe(HttpStatusCode status) => status == HttpStatusCode.Unauthorized
        ? "It answers 401: SESSIONS__CLEANUP_KEY must be the same here and there."
        : $"It answers {(int)status}.";

    /// <summary>What the API answers: the janitor's own copy of the part it reads.</summary>
    private sealed record Cleanup(int Removed);

    private static partial class Log
    {
        [LoggerMessage(EventId = 1, Level = LogLevel.Information, Message = "{Removed} expired sessions removed")]
        public static partial void Removed(ILogger logger, int removed);

        [LoggerMessage(EventId = 2, Level = LogLevel.Warning,
            Message = "The API does not clean up: {Reason} Trying on, without a word until this changes")]
        public static partial void Trouble(ILogger logger, string reason);

        [LoggerMessage(EventId = 3, Level = LogLevel.Information, Message = "The API cleans up again")]
        public static partial void Over(ILogger logger);
    }
}
