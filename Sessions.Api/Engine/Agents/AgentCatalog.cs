using System.Collections.Frozen;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents.Tools;

namespace Sessions.Api.Engine.Agents;

/// <summary>The agents there are, by <c>agent_type</c>.</summary>
internal sealed class AgentCatalog : IAsyncDisposable
{
    /// <summary>The name of the spans that tell of calls to models.</summary>
    public const string SourceName = "Sessions.Agents";

    private readonly FrozenDictionary<string, Agent> _byName;
    private readonly string _names;

    public AgentCatalog(
        AgentsSettings settings, LimitSettings limits, TelemetrySettings telemetry, IConfiguration configuration, IHttpClientFactory http,
        TimeProvider time, ILoggerFactory loggers)
    {
        var all = new Dictionary<string, AgentSettings>(settings, StringComparer.OrdinalIgnoreCase);
        all.TryAdd(AgentsSettings.Default, new AgentSettings());
        All = [.. all.OrderBy(entry => entry.Key, StringComparer.Ordinal).Select(entry => new Agent(
            entry.Key, entry.Value, Connect(entry.Key, entry.Value, telemetry, configuration, http), ToolsOf(entry.Key, entry.Value),
            limits, time, loggers.CreateLogger<Agent>()))];
        var byName = All.ToDictionary(agent => agent.Type, StringComparer.OrdinalIgnoreCase);
        foreach (var agent in All)
        {
            foreach (var alias in agent.Aliases)
            {
                byName.Add(alias, agent);
            }
        }

        StartedAt = time.GetUtcNow();
        _byName = byName.ToFrozenDictionary(StringComparer.OrdinalIgnoreCase);
        _names = string.Join(", ", All.Select(agent => agent.Type));

        ToolSet? ToolsOf(string type, AgentSettings agent) => agent.Tools.Count == 0 ? null : new ToolSet(
            [.. agent.Tools.OrderBy(server => server.Key, StringComparer.Ordinal).Select(server => new ToolServer(
                type, server.Key, server.Value, configuration, http, time, loggers.CreateLogger<ToolServer>()))]);
    }

    /// <summary>When they were set up: what a model is said to be created at.</summary>
    public DateTimeOffset StartedAt { get; }

    /// <summary>All of them, by name.</summary>
    public IReadOnlyList<Agent> All { get; }

    /// <summary>Finds the agent of that name or alias, or the default one where none is named.</summary>
    public Agent? Find(string? name) => _byName.GetValueOrDefault(name ?? AgentsSettings.Default);

    /// <summary>Finds the agent that a query names, or the default one where it names none.</summary>
    /// <exception cref="DomainException"><c>unknown_agent_type</c>.</exception>
    public Agent Get(string? name) => Find(name) ?? throw new DomainException(
        new Error("unknown_agent_type", $"agent_type: '{Error.Shorten(name!)}' is not known; allowed: {_names}.")
        {
            Field = "agent_type",
            Rule = $"must be one of: {_names}",
        });

    /// <summary>Finds the agent that is meant by a model's name under <c>/v1</c>, or the default one where none is named.</summary>
    /// <exception cref="DomainException"><c>model_not_found</c>.</exception>
    public Agent ForModel(string? model) => Find(model) ?? throw new DomainException(
        new Error("model_not_found", $"The model '{Error.Shorten(model!)}' does not exist; there are: {_names}.")
        {
            Field = "model",
            Rule = $"must be one of: {_names}",
        });

    /// <summary>Closes the connections to tool servers.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (var agent in All)
        {
            await agent.DisposeAsync();
        }
    }

    /// <summary>The name of an agent's HTTP client.</summary>
    public static string HttpClientName(string type) => $"agent {type}";

    private static IChatClient Connect(
        string type, AgentSettings settings, TelemetrySettings telemetry, IConfiguration configuration, IHttpClientFactory http)
    {
        if (settings.Provider == AgentProvider.Builtin)
        {
            // Tells nobody else anything, and does not fail: it needs no more around it.
            return new BuiltinChatClient().AsBuilder()
                .UseOpenTelemetry(loggerFactory: null, SourceName, spans => Configure(spans, null)).Build();
        }

        var client = ProviderClients.Connect(type, settings, configuration, http);

        // Without a logger: it would log failures with all their causes.
        var discreet = telemetry.IncludeContent ? null : new DiscreetChatClient(client);
        return (discreet ?? client).AsBuilder()
            .UseOpenTelemetry(loggerFactory: null, SourceName, spans => Configure(spans, discreet))
            .Build();

        void Configure(OpenTelemetryChatClient spans, DiscreetChatClient? discreet)
        {
            // OpenTelemetry's own variable may have set it already.
            spans.EnableSensitiveData |= telemetry.IncludeContent;
            discreet?.TellsAnswers = spans.EnableSensitiveData;
        }
    }
}
