using Microsoft.Extensions.Http.Resilience;
using Sessions.ServiceDefaults;

namespace Sessions.Janitor;

/// <summary>What the janitor needs: the way to the API, and an address of its own for <c>/health</c>.</summary>
internal static class Setup
{
    private const string Api = "api";

    // Removing a great many sessions takes its time.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <summary>Registers it.</summary>
    /// <exception cref="SettingsException">Nobody has said where the API is.</exception>
    public static void AddJanitor(this WebApplicationBuilder builder)
    {
        if (!builder.Configuration.GetSection($"services:{Api}").GetChildren().Any())
        {
            throw new SettingsException(
                $"The janitor must know where the API is. Set the environment variable services__{Api}__http__0, "
                + "for example to http://localhost:8080; the AppHost does that by itself.");
        }

        // Nobody but an orchestrator asks for /health, and that one gives an address.
        if (builder.Configuration["urls"] is null && builder.Configuration["http_ports"] is null
            && builder.Configuration["https_ports"] is null)
        {
            builder.WebHost.UseUrls("http://127.0.0.1:0");
        }

        builder.Services.AddSingleton(TimeProvider.System);
        builder.Services.AddHttpClient<Janitor>((services, client) =>
        {
            client.BaseAddress = new Uri($"https+http://{Api}");
            client.Timeout = Timeout.InfiniteTimeSpan;
            if (services.GetRequiredService<SessionSettings>().CleanupKey is { Length: > 0 } key)
            {
                client.DefaultRequestHeaders.Add(SessionSettings.CleanupKeyHeader, key);
            }
        });
        builder.Services.ConfigureAll<HttpStandardResilienceOptions>(BePatient);

        // The typed client would be a new janitor for everyone who asks.
        builder.Services.AddSingleton(services => ActivatorUtilities.CreateInstance<Janitor>(
            services, services.GetRequiredService<IHttpClientFactory>().CreateClient(nameof(Janitor))));
        builder.Services.AddHostedService(services => services.GetRequiredService<Janitor>());
        builder.Services.AddHealthChecks().AddCheck<Janitor>(Api);
    }

    // Only what has never reached the API is sent again. A clean-up that takes long is still running: another beside it would make it
    // slower.
    private static void BePatient(HttpStandardResilienceOptions options)
    {
        options.Retry.ShouldHandle = attempt => ValueTask.FromResult(
            attempt.Outcome.Exception is HttpRequestException
            {
                HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError,
            });
        options.AttemptTimeout.Timeout = Patience;
        options.TotalRequestTimeout.Timeout = Patience + TimeSpan.FromMinutes(1);
        options.CircuitBreaker.SamplingDuration = 2 * Patience;
    }
}
