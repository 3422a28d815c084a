using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Streams;

namespace Sessions.Api.Http;

/// <summary>
/// Stops the server without a request that could have been answered being lost: from the signal on everything new is refused with an
/// answer, and <c>/health</c> says so; what runs has <see cref="LimitSettings.ShutdownSeconds"/> to finish, and is then refused too;
/// only after that the web server stops listening. In the time of the machine: it is an orchestrator that counts the seconds.
/// </summary>
internal sealed partial class GracefulStop(
    Admission admission, Stopping stopping, StreamedTurns streams, LimitSettings limits,
    IHostApplicationLifetime lifetime, ILogger<GracefulStop> logger)
    : IHostedLifecycleService, IHealthCheck
{
    /// <summary>How long the answers may take on their way, and the rest of the stop.</summary>
    public static readonly TimeSpan Margin = TimeSpan.FromSeconds(3);

    // Whoever sends requests to a server that is to stop has not been told yet, or its proxy has not: every answer from the signal on
    // closes its connection. It is waited until that is over, shortly.
    private static readonly TimeSpan Quiet = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan MostLinger = TimeSpan.FromSeconds(1);

    private CancellationTokenRegistration _signal;

    public Task StartAsync(CancellationToken cancellationToken)
    {
        _signal = lifetime.ApplicationStopping.Register(stopping.Request);
        return Task.CompletedTask;
    }

    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        var ended = EndedAsync();
        if (!ended.IsCompleted)
        {
            Log.Waiting(logger, admission.Requests, streams.Running, limits.ShutdownSeconds);
        }

        if (!await WithinAsync(ended, TimeSpan.FromSeconds(limits.ShutdownSeconds), cancellationToken))
        {
            Log.TimeIsUp(logger, admission.Requests, streams.Running);
            stopping.EndTurns();
            await WithinAsync(ended, Margin / 2, cancellationToken);
        }

        for (var lingered = TimeSpan.Zero;
            lingered < MostLinger && Environment.TickCount64 - admission.LastAnswer < Quiet.TotalMilliseconds;
            lingered += Quiet)
        {
            await Task.Delay(Quiet, CancellationToken.None);
        }
    }

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(stopping.IsRequested ? HealthCheckResult.Unhealthy("The server is stopping.") : HealthCheckResult.Healthy());

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public async Task StoppedAsync(CancellationToken cancellationToken) => await _signal.DisposeAsync();

    // Streamed turns go on when their clients have gone; and none is begun after the last request.
    private async Task EndedAsync()
    {
        await admission.CloseAsync();
        await streams.EndedAsync();
    }

    private static async Task<bool> WithinAsync(Task task, TimeSpan time, CancellationToken cancellationToken)
    {
        try
        {
            await task.WaitAsync(time, cancellationToken);
            return true;
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException)
        {
            return false;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 60, Level = LogLevel.Information,
            Message = "Stopping: {Requests} requests and {Streams} streamed turns "
                + "have up to {Seconds} s to finish; new ones are refused")]
        public static partial void Waiting(ILogger logger, int requests, int streams, double seconds);

        [LoggerMessage(EventId = 61, Level = LogLevel.Warning,
            Message = "Stopping: {Requests} requests and {Streams} streamed turns are not finished, and are refused")]
        public static partial void TimeIsUp(ILogger logger, int requests, int streams);
    }
}
