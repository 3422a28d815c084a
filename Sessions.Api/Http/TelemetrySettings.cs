using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>The <c>telemetry:</c> section of <c>config.yaml</c>.</summary>
internal sealed class TelemetrySettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "telemetry";

    /// <summary>Whether spans hold what users and agents say to each other, and logs what an agent's provider says about a failure, which may quote it.</summary>
    public bool IncludeContent { get; set; }
}

/// <summary>What telemetry may tell.</summary>
internal static class Telemetry
{
    // Logs every address as it was asked for, and with it what lists are narrowed by.
    private const string Addresses = "Microsoft.AspNetCore.Hosting.Diagnostics";

    /// <summary>Registers the settings, and keeps addresses out of the logs unless content is wanted, or this category by its own name.</summary>
    public static void AddTelemetry(this WebApplicationBuilder builder)
    {
        if (!builder.AddSettings<TelemetrySettings>(TelemetrySettings.Section).IncludeContent)
        {
            builder.Services.PostConfigure<LoggerFilterOptions>(options =>
            {
                if (options.Rules.All(rule => rule.CategoryName != Addresses))
                {
                    // Where this category is off altogether, the framework makes neither a span nor a scope for each request: none does where nobody is to get them.
                    options.Rules.Add(new LoggerFilterRule(providerName: null, Addresses, IsRead(builder.Configuration) ? LogLevel.Warning : LogLevel.None, filter: null));
                }
            });
        }
    }

    // Spans are sent to a collector; logs show the scope, and with it the trace, where they are told to.
    private static bool IsRead(ConfigurationManager configuration) =>
        !string.IsNullOrWhiteSpace(configuration["OTEL_EXPORTER_OTLP_ENDPOINT"])
        || configuration.GetSection("Logging").AsEnumerable().Any(setting =>
            setting.Key.EndsWith("IncludeScopes", StringComparison.OrdinalIgnoreCase) && string.Equals(setting.Value, "true", StringComparison.OrdinalIgnoreCase));
}
