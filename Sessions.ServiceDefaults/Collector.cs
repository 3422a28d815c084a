using System.Diagnostics.Tracing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Sessions.ServiceDefaults;

/// <summary>The collector that telemetry is sent to. What is wrong with it is told once: it is no reason not to serve.</summary>
internal static partial class Collector
{
    private const string Key = "OTEL_EXPORTER_OTLP_ENDPOINT";

    /// <summary>Whether one is configured, and its address can be one.</summary>
    public static bool IsUsable(IHostApplicationBuilder builder)
    {
        var address = builder.Configuration[Key];
        if (string.IsNullOrWhiteSpace(address))
        {
            return false;
        }

        if (Uri.TryCreate(address, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https")
        {
            builder.Services.AddHostedService(services => new Watch(services.GetRequiredService<ILogger<Watch>>(), uri));
            return true;
        }

        builder.Services.AddHostedService(services => new Complaint(services.GetRequiredService<ILogger<Complaint>>(), address));
        return false;
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 80, Level = LogLevel.Warning,
            Message = "OTEL_EXPORTER_OTLP_ENDPOINT: '{Address}' is not an http or https address: no telemetry is sent")]
        public static partial void Malformed(ILogger logger, string address);

        [LoggerMessage(EventId = 81, Level = LogLevel.Warning,
            Message = "The collector at {Address} does not take telemetry ({Reason}). It goes on trying, and says no more")]
        public static partial void Dead(ILogger logger, string address, string reason);
    }

    private sealed class Complaint(ILogger logger, string address) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken)
        {
            Log.Malformed(logger, address);
            return Task.CompletedTask;
        }

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    // The exporter tells of its failures only by its events.
    private sealed class Watch(ILogger logger, Uri address) : EventListener, IHostedService
    {
        private const string Exporter = "OpenTelemetry-Exporter-OpenTelemetryProtocol";

        private int _told;

        public Task StartAsync(CancellationToken cancellationToken)
        {
            foreach (var source in EventSource.GetSources())
            {
                OnEventSourceCreated(source);
            }

            return Task.CompletedTask;
        }

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource.Name == Exporter)
            {
                EnableEvents(eventSource, EventLevel.Warning);
            }
        }

        protected override void OnEventWritten(EventWrittenEventArgs eventData)
        {
            // The base class calls this before the fields are set.
            if (logger is not null && Interlocked.Exchange(ref _told, 1) == 0)
            {
                var (authority, reason) = ($"{address.Scheme}://{address.Authority}", Reason(eventData));
                Log.Dead(logger, authority, reason);
            }
        }

        // Of an exception that is told in full, the sentence.
        private static string Reason(EventWrittenEventArgs told) =>
            told.Payload?.OfType<string>().FirstOrDefault(text => text.Contains("Exception: ", StringComparison.Ordinal)) is { } exception
                ? exception.Split('\n')[0].Split("Exception: ", 2)[1].Trim() : told.EventName ?? "unknown";
    }
}
