using Microsoft.Extensions.Http.Resilience;
using Polly;
using Sessions.Api.Engine.Agents.OpenAi;
using Sessions.Api.Engine.Agents.Tools;

// Marked as experimental; without it there would be two policies for repeats, that of all clients and this one.
#pragma warning disable EXTEXP0001
namespace Sessions.Api.Engine.Agents;

/// <summary>Registers the agents.</summary>
internal static class AgentRegistration
{
    // Whoever is to wait longer than this is told so, and waits by himself.
    private static readonly TimeSpan MaxRetryWait = TimeSpan.FromSeconds(30);

    /// <summary>Registers <see cref="AgentCatalog"/>, and an HTTP client for each agent that has an endpoint: by the name of a service
    /// too, and with one policy for repeats.</summary>
    /// <param name="builder">The application.</param>
    /// <param name="settings">The agents.</param>
    public static void AddAgents(this IHostApplicationBuilder builder, AgentsSettings settings)
    {
        builder.Services.AddSingleton<AgentCatalog>();
        foreach (var (type, agent) in settings)
        {
            if (agent.Provider != AgentProvider.Builtin)
            {
                builder.Services.AddHttpClient(type, agent);
            }

            foreach (var (name, server) in agent.Tools.Where(server => server.Value.Url is not null))
            {
                builder.Services.AddToolServer(type, name, server);
            }
        }

        if (settings.Values.Any(agent => agent.Tools.Count > 0))
        {
            builder.Services.AddHealthChecks().AddCheck<ToolsHealthCheck>("tools");
        }

        // It logs each attempt that fails with all that its exception says; the agent itself tells what is of use.
        builder.Services.PostConfigure<LoggerFilterOptions>(options =>
        {
            if (options.Rules.All(rule => rule.CategoryName != nameof(Polly)))
            {
                options.Rules.Add(new LoggerFilterRule(providerName: null, nameof(Polly), LogLevel.None, filter: null));
            }
        });
    }

    // What a tool does is not done twice: nothing is repeated here.
    private static void AddToolServer(this IServiceCollection services, string type, string name, ToolServerSettings server)
    {
        var client = services.AddHttpClient(ToolServer.HttpClientName(type, name), http => http.Timeout = Timeout.InfiniteTimeSpan)
            .RemoveAllLoggers()
            .SetHandlerLifetime(Timeout.InfiniteTimeSpan)
            .ConfigurePrimaryHttpMessageHandler(NewConnections);
        client.RemoveAllResilienceHandlers();
        client.AddHttpMessageHandler(() => new ToolServerHandler(ToolServer.MaxBytes(server)));
    }

    private static SocketsHttpHandler NewConnections() => new()
    {
        // What is said to one server is not for another.
        AllowAutoRedirect = false,
        ConnectTimeout = TimeSpan.FromSeconds(15),
        PooledConnectionLifetime = TimeSpan.FromMinutes(2),
    };

    private static void AddHttpClient(this IServiceCollection services, string type, AgentSettings agent)
    {
        var client = services.AddHttpClient(AgentCatalog.HttpClientName(type), http => http.Timeout = Timeout.InfiniteTimeSpan)
            .RemoveAllLoggers()
            .SetHandlerLifetime(Timeout.InfiniteTimeSpan)
            .ConfigurePrimaryHttpMessageHandler(NewConnections);
        client.RemoveAllResilienceHandlers();
        client.AddResilienceHandler("agent", pipeline => Configure(pipeline, agent));
        client.AddHttpMessageHandler(
            provider => NewHandler(agent, provider.GetRequiredService<LimitSettings>(), provider.GetRequiredService<TimeProvider>()));
    }

    private static ProviderHandler NewHandler(AgentSettings agent, LimitSettings limits, TimeProvider time) =>
        agent is { Provider: AgentProvider.Openai, Api: AgentApi.ChatCompletions }
            ? new ChatCompletionsHandler(agent, limits, time) : new ProviderHandler(agent, limits, time);

    // The standard handler's strategies, but for its time-outs: the agent's own holds for all attempts and for what is read after the
    // headers.
    private static void Configure(ResiliencePipelineBuilder<HttpResponseMessage> pipeline, AgentSettings agent)
    {
        // Waiting and breaking are about the network, not about what is being told the time here.
        pipeline.TimeProvider = TimeProvider.System;
        if (agent.MaxRetries > 0)
        {
            pipeline.AddRetry(new HttpRetryStrategyOptions
            {
                MaxRetryAttempts = agent.MaxRetries,
                Delay = TimeSpan.FromMilliseconds(800),
                BackoffType = DelayBackoffType.Exponential,
                UseJitter = true,
                ShouldHandle = arguments => ValueTask.FromResult(
                    HttpClientResiliencePredicates.IsTransient(arguments.Outcome, arguments.Context.CancellationToken)
                    && !(arguments.Outcome.Result is { } response && WaitsTooLong(response, agent))),
            });
        }

        pipeline.AddCircuitBreaker(new HttpCircuitBreakerStrategyOptions());
    }

    private static bool WaitsTooLong(HttpResponseMessage response, AgentSettings agent) =>
        ProviderHandler.Wait(response, TimeProvider.System) is { } wait
            && (wait > MaxRetryWait || wait.TotalSeconds > agent.TimeoutSeconds / 2);
}
