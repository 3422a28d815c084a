using System.Diagnostics;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Client;

namespace Sessions.Tests.Client;

/// <summary>What <c>AddSessionsClient</c> adds to an application.</summary>
public sealed class AddSessionsClientTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_server_is_found_by_its_name_and_its_health_is_told()
    {
        await using var api = ServiceProcess.Api();
        var address = await api.AddressAsync();
        await using var application = Application(address);
        var client = application.GetRequiredService<SessionsClient>();
        Assert.Equal("memory", (await client.GetStatisticsAsync(Cancel)).StorageType);
        Assert.Same(client, application.GetRequiredKeyedService<SessionsClient>("api"));
        Assert.NotNull(application.GetRequiredService<SessionsChatHistoryProvider>());
        Assert.NotNull(application.GetRequiredService<SessionsChatClient>());
        Assert.Equal(HealthStatus.Healthy, (await HealthAsync(application)).Status);

        await api.StopAsync();
        var entry = (await HealthAsync(application)).Entries["sessions-api"];
        Assert.Equal(HealthStatus.Unhealthy, entry.Status);
        Assert.Equal("The Sessions server does not answer.", entry.Description);
    }

    [Fact]
    public async Task A_server_that_is_not_there_is_said_in_time()
    {
        await using var application = Application(new Uri("http://127.0.0.1:9"), options => options.MaxRetryAttempts = 0);
        var gone = await Assert.ThrowsAsync<SessionsException>(() => application.GetRequiredService<SessionsClient>()
            .GetStatisticsAsync(Cancel));
        Assert.Equal((SessionsException.Unreachable, null), (gone.Code, gone.Status));
        Assert.IsType<HttpRequestException>(gone.InnerException);
    }

    [Fact]
    public async Task An_application_with_handlers_of_its_own_waits_for_a_model_all_the_same()
    {
        await using var api = ServiceProcess.Api();
        await using var application = Application(await api.AddressAsync(),
            services: services => services.ConfigureHttpClientDefaults(http =>
        {
            http.AddStandardResilienceHandler(resilience =>
            {
                resilience.AttemptTimeout.Timeout = TimeSpan.FromMilliseconds(10);
                resilience.TotalRequestTimeout.Timeout = TimeSpan.FromMilliseconds(11);
            });
            http.AddServiceDiscovery();
        }));
        Assert.Equal("memory", (await application.GetRequiredService<SessionsClient>().GetStatisticsAsync(Cancel)).StorageType);
    }

    [Fact]
    public void A_name_is_added_once()
    {
        var services = new ServiceCollection();
        services.AddSessionsClient("api");
        services.AddSessionsClient("other");
        Assert.Throws<InvalidOperationException>(() => services.AddSessionsClient("api"));
    }

    [Fact]
    public async Task A_key_is_sent()
    {
        var key = ApiKeys.NewKey();
        var hash = Convert.ToHexString(ApiKeys.Hash(key));
        await using var api = ServiceProcess.Api(("AUTH__MODE", "api_key"), ("AUTH__KEYS__APP__HASH", hash),
            ("AUTH__KEYS__APP__SCOPES", "service"));
        var address = await api.AddressAsync();
        await using var without = Application(address);
        var refused = await Assert.ThrowsAsync<SessionsException>(() => without.GetRequiredService<SessionsClient>()
            .GetSessionAsync("x", cancellationToken: Cancel));
        Assert.Equal("unauthorized", refused.Code);
        await using var with = Application(address, options => options.ApiKey = key);
        Assert.Null(await with.GetRequiredService<SessionsClient>().GetSessionAsync("x", cancellationToken: Cancel));
    }

    [Fact]
    public async Task The_clients_trace_goes_on_in_the_server()
    {
        await using var collector = await OtlpReceiver.StartAsync();
        await using var api = ServiceProcess.Api([.. collector.Environment, ("OTEL_SERVICE_NAME", "api")]);
        await using var application = Application(await api.AddressAsync());
        Activity? made = null;
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name is SessionsTelemetry.ActivitySourceName or "System.Net.Http",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = activity =>
            {
                if (activity.Source.Name == SessionsTelemetry.ActivitySourceName
                    && Equals(activity.GetTagItem("sessions.session_id"), "traced"))
                {
                    made = activity;
                }
            },
        };
        ActivitySource.AddActivityListener(listener);

        await application.GetRequiredService<SessionsClient>().AppendTurnAsync("traced", new NewTurn { Query = "one" }, Cancel);

        Assert.Equal("sessions.append_turn", made?.OperationName);
        await ServiceProcess.UntilAsync(() => collector.Spans.Any(span =>
            span.TraceId == made!.TraceId.ToHexString() && span.Name == "POST /sessions/{session_id}/turns"));
    }

    private static Task<HealthReport> HealthAsync(ServiceProvider application) => application.GetRequiredService<HealthCheckService>()
        .CheckHealthAsync(Cancel);

    // As Aspire's WithReference(api) does.
    private static ServiceProvider Application(Uri address, Action<SessionsClientOptions>? configure = null,
        Action<ServiceCollection>? services = null)
    {
        var application = new ServiceCollection();
        application.AddLogging();
        application.AddSingleton<IConfiguration>(new ConfigurationBuilder().AddInMemoryCollection(
            new Dictionary<string, string?> { ["services:api:http:0"] = address.GetLeftPart(UriPartial.Authority) }).Build());
        services?.Invoke(application);
        application.AddSessionsClient("api", configure);
        return application.BuildServiceProvider();
    }
}
