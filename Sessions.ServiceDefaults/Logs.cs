using Microsoft.Extensions.Configuration.Memory;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace Sessions.ServiceDefaults;

/// <summary>What the services log, and how it looks.</summary>
public static class Logs
{
    private const string Timestamp = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";
    private const string Formatter = "Logging:Console:FormatterName";

    // What the framework says of a start that failed, with a stack trace. It is said by the program, in one sentence.
    private static readonly string[] Starters = ["Microsoft.Extensions.Hosting.Internal.Host", "Microsoft.AspNetCore.Server.Kestrel"];

    private static readonly string[] Formatters =
        [ConsoleFormatterNames.Simple, ConsoleFormatterNames.Json, ConsoleFormatterNames.Systemd];

    /// <summary>
    /// Logs to the console, with times in UTC, in the form that <c>Logging:Console:FormatterName</c> names. The defaults are here and not
    /// in a file beside the program, which an upgrade would write over.
    /// </summary>
    /// <exception cref="SettingsException">There is no such form.</exception>
    public static TBuilder AddLogs<TBuilder>(this TBuilder builder, params KeyValuePair<string, string?>[] defaults)
        where TBuilder : IHostApplicationBuilder
    {
        builder.Configuration.Sources.Insert(0, new MemoryConfigurationSource
        {
            InitialData = [new("Logging:LogLevel:Microsoft.AspNetCore", "Warning"), .. defaults],
        });
        if (builder.Configuration[Formatter] is { } name && !Formatters.Contains(name, StringComparer.OrdinalIgnoreCase))
        {
            throw new SettingsException(
                $"{Formatter}: '{name}' is not allowed; allowed: {string.Join(", ", Formatters)}.{NearMiss.Ask(name, Formatters)}");
        }

        // The slim host has set one form for good; here what is configured has the last word.
        builder.Logging.AddConsole();
        builder.Services.Configure<ConsoleLoggerOptions>(options =>
            options.FormatterName = builder.Configuration[Formatter] ?? ConsoleFormatterNames.Simple);
        builder.Services.PostConfigure<SimpleConsoleFormatterOptions>(options => SetTimestamp(options, $"{Timestamp} "));
        builder.Services.PostConfigure<JsonConsoleFormatterOptions>(options => SetTimestamp(options, Timestamp));

        var started = false;
        builder.Services.AddHostedService(services =>
            new AfterStart(services.GetRequiredService<IHostApplicationLifetime>(), () => started = true));
        foreach (var starter in Starters)
        {
            builder.Logging.AddFilter(starter, level => level >= LogLevel.Warning && (started || level < LogLevel.Error));
        }

        return builder;
    }

    private static void SetTimestamp(ConsoleFormatterOptions options, string format)
    {
        if (options.TimestampFormat is null)
        {
            (options.TimestampFormat, options.UseUtcTimestamp) = (format, true);
        }
    }

    private sealed class AfterStart(IHostApplicationLifetime lifetime, Action then) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken)
        {
            lifetime.ApplicationStarted.Register(then);
            return Task.CompletedTask;
        }

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
