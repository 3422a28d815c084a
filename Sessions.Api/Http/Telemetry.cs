using Sessions.Api.Engine;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http;

/// <summary>What telemetry may tell.</summary>
internal static class Telemetry
{
    // Logs every address as it was asked for, and with it what lists are narrowed by.
    private const string Addresses = "Microsoft.AspNetCore.Hosting.Diagnostics";

    // Logs each failure of an agent with its trace, and each client that hangs up as one; a failure is logged once, by TurnRunner.
    private const string Agents = "Microsoft.Extensions.AI.OpenTelemetryChatClient";

    /// <summary>Registers the settings, and keeps addresses out of the logs unless content is wanted, or this category by its own
    /// name.</summary>
    public static void AddTelemetry(this WebApplicationBuilder builder)
    {
        var includesContent = builder.AddSettings<TelemetrySettings>(TelemetrySettings.Section).IncludeContent;
        builder.Services.PostConfigure<LoggerFilterOptions>(options =>
        {
            Default(options, Agents, LogLevel.None);
            if (!includesContent)
            {
                // Where this category is off altogether, the framework makes neither a span nor a scope for each request: none does where
                // nobody is to get them.
                Default(options, Addresses, IsRead(builder.Configuration) ? LogLevel.Warning : LogLevel.None);
            }
        });

        static void Default(LoggerFilterOptions options, string category, LogLevel level)
        {
            if (options.Rules.All(rule => rule.CategoryName != category))
            {
                options.Rules.Add(new LoggerFilterRule(providerName: null, category, level, filter: null));
            }
        }
    }

    // Spans are sent to a collector; logs show the scope, and with it the trace, where they are told to.
    private static bool IsRead(ConfigurationManager configuration) =>
        !string.IsNullOrWhiteSpace(configuration["OTEL_EXPORTER_OTLP_ENDPOINT"])
        || configuration.GetSection("Logging").AsEnumerable().Any(setting =>
            setting.Key.EndsWith("IncludeScopes", StringComparison.OrdinalIgnoreCase)
            && string.Equals(setting.Value, "true", StringComparison.OrdinalIgnoreCase));
}
