using System.Net.Http.Headers;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using OpenTelemetry.Trace;
using Sessions.Client;
using Sessions.Client.Http;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Adds the clients of a Sessions server.</summary>
public static class SessionsClientServiceCollectionExtensions
{
    private static readonly TimeSpan HealthTimeout = TimeSpan.FromSeconds(5);

    // With two attempts and a minute it is less than a day, which is what a time-out may be at the most.
    private static readonly TimeSpan MinAttemptTimeout = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan MaxAttemptTimeout = TimeSpan.FromHours(11);

    /// <summary>
    /// Adds a <see cref="SessionsClient"/>, a <see cref="SessionsChatHistoryProvider"/> and a <see cref="SessionsChatClient"/> of the
    /// server of that name, with service discovery, retries that never double a turn, a health check and traces.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="name">
    /// The server's name: that of its resource in an Aspire application. Of several servers the first is the one that is had without a
    /// key; each is had by its name as key.
    /// </param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The HTTP client, for further configuration.</returns>
    public static IHttpClientBuilder AddSessionsClient(this IServiceCollection services, string name,
        Action<SessionsClientOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentException.ThrowIfNullOrEmpty(name);
        var options = new SessionsClientOptions();
        configure?.Invoke(options);
        ThrowIfInvalid(options);
        var http = $"{SessionsTelemetry.ActivitySourceName}.{name}";
        if (services.Any(service => service.ServiceType == typeof(SessionsClient) && Equals(service.ServiceKey, name)))
        {
            throw new InvalidOperationException($"A Sessions client of the name '{name}' was added already.");
        }

        services.AddKeyedSingleton(name, (provider, _) =>
        {
            var factory = provider.GetRequiredService<IHttpClientFactory>();

            // A client for each request: they are cheap, and follow the server when it moves.
            return new SessionsClient(() => factory.CreateClient(http));
        });
        services.AddKeyedSingleton(name, (provider, key) =>
            new SessionsChatHistoryProvider(provider.GetRequiredKeyedService<SessionsClient>(key)));
        services.AddKeyedSingleton(name, (provider, key) => new SessionsChatClient(provider.GetRequiredKeyedService<SessionsClient>(key)));
        services.TryAddSingleton(provider => provider.GetRequiredKeyedService<SessionsClient>(name));
        services.TryAddSingleton(provider => provider.GetRequiredKeyedService<SessionsChatHistoryProvider>(name));
        services.TryAddSingleton(provider => provider.GetRequiredKeyedService<SessionsChatClient>(name));
        if (!options.DisableTracing)
        {
            services.ConfigureOpenTelemetryTracerProvider(tracing => tracing.AddSource(SessionsTelemetry.ActivitySourceName));
        }

        if (!options.DisableHealthChecks)
        {
            AddHealthCheck(services, name, http, options);
        }

        var builder = services.AddHttpClient(http, client => SetUp(client, name, options, Timeout.InfiniteTimeSpan));

        // An application's default handler gives up after ten seconds, which is less than a model takes, and repeats what has no key.
#pragma warning disable EXTEXP0001 // There is no other way to replace it.
        builder.RemoveAllResilienceHandlers();
#pragma warning restore EXTEXP0001
        builder.AddResilienceHandler("sessions", pipeline => SessionsResilience.Configure(pipeline, options));
        return Discover(builder, options);
    }

    // Said at once: later it would look like a server that can't be reached.
    private static void ThrowIfInvalid(SessionsClientOptions options)
    {
        if (options.Endpoint is { IsAbsoluteUri: false })
        {
            throw new ArgumentException("Endpoint must be an absolute address.", nameof(options));
        }

        if (options.AttemptTimeout < MinAttemptTimeout || options.AttemptTimeout > MaxAttemptTimeout)
        {
            throw new ArgumentOutOfRangeException(nameof(options), options.AttemptTimeout,
                $"AttemptTimeout must be between {MinAttemptTimeout} and {MaxAttemptTimeout}.");
        }

        if (options.ApiKey is { } key)
        {
            // The newline at the end of a file with a secret in it, for example.
            SessionsTransport.ThrowIfNoHeader(key, nameof(options.ApiKey));
        }
    }

    // Where the address is given there is nothing to look up, and the application need not have a configuration.
    private static IHttpClientBuilder Discover(IHttpClientBuilder http, SessionsClientOptions options)
    {
        if (options.Endpoint is null)
        {
            http.Services.AddServiceDiscovery();
            http.AddServiceDiscovery();
        }

        return http;
    }

    private static void AddHealthCheck(IServiceCollection services, string name, string http, SessionsClientOptions options)
    {
        var health = $"{http}.health";
        var builder = services.AddHttpClient(health, client => SetUp(client, name, options, HealthTimeout));
#pragma warning disable EXTEXP0001 // A check that is repeated tells late what it has to tell.
        builder.RemoveAllResilienceHandlers();
#pragma warning restore EXTEXP0001
        Discover(builder, options);
        services.AddHealthChecks().Add(new HealthCheckRegistration(
            $"sessions-{name}", provider => new SessionsHealthCheck(() => provider.GetRequiredService<IHttpClientFactory>()
                .CreateClient(health)), failureStatus: null, tags: ["sessions"]));
    }

    private static void SetUp(HttpClient client, string name, SessionsClientOptions options, TimeSpan timeout)
    {
        var address = options.Endpoint ?? new Uri($"http://{name}");

        // Paths are relative to it, so that a server may stand under a prefix.
        client.BaseAddress = address.AbsolutePath.EndsWith('/') ? address : new Uri($"{address.AbsoluteUri}/");
        client.Timeout = timeout;
        if (options.ApiKey is { } key)
        {
            client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
        }
    }
}
