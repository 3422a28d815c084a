using System.Text.Json.Serialization;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Http.Auth;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Native;

/// <summary><c>GET /agents</c>: who can be asked.</summary>
internal static class AgentsApi
{
    /// <summary>Maps the endpoint.</summary>
    public static WebApplication MapAgents(this WebApplication app)
    {
        app.MapGet("/agents", List)
            .WithMetadata(new ScopesMetadata(Scope.User, Scope.Service, Scope.Admin, Scope.ReadAll))
            .WithTags("Agents")
            .WithName("listAgents")
            .WithSummary("List the agents")
            .WithDescription(
                "By name: the names that agent_type, and model under /v1, take. With the scope admin, or on an open server from this "
                + "machine, each with how it was when it was asked last.");
        return app;
    }

    private static JsonAnswer<AgentListResponse> List(HttpRequest request, Caller caller, AuthSettings auth, AgentCatalog agents)
    {
        var tellsHealth = auth.Mode == AuthMode.None ? LocalRequests.IsLocal(request) : caller.IsAdmin;
        var listed = agents.All.Select(agent => AgentResponse.From(agent, tellsHealth));
        return new JsonAnswer<AgentListResponse>(new AgentListResponse([.. listed]));
    }
}

/// <summary>The agents.</summary>
internal sealed record AgentListResponse(IReadOnlyList<AgentResponse> Agents);

/// <summary>An agent.</summary>
internal sealed record AgentResponse
{
    /// <summary>Its name: what agent_type, and model under /v1, take.</summary>
    public required string Name { get; init; }

    /// <summary>Whether it answers a query that names none.</summary>
    public required bool IsDefault { get; init; }

    /// <summary>What it is good for, if its operator says.</summary>
    public required string? Description { get; init; }

    /// <summary>What answers: builtin, openai, or another kind of provider.</summary>
    public required string Provider { get; init; }

    /// <summary>The model, as its provider names it; the built-in agent has none.</summary>
    public required string? Model { get; init; }

    /// <summary>Other names for it.</summary>
    public required IReadOnlyList<string> Aliases { get; init; }

    /// <summary>What it takes: text, and perhaps image and file.</summary>
    public required IReadOnlyList<string> Accepts { get; init; }

    /// <summary>Whether it takes functions of the client's, under /v1.</summary>
    public required bool TakesFunctions { get; init; }

    /// <summary>The tools that it may call on the server.</summary>
    public required IReadOnlyList<AgentToolResponse> Tools { get; init; }

    /// <summary>How it was when it was asked last; for those who run the server.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public AgentHealthResponse? Health { get; init; }

    /// <summary>An agent as the API shows it.</summary>
    public static AgentResponse From(Agent agent, bool tellsHealth) => new()
    {
        Name = agent.Type,
        IsDefault = agent.Type == AgentsSettings.Default,
        Description = agent.Description,
        Provider = Settings.NameOf(agent.Provider),
        Model = agent.Model,
        Aliases = agent.Aliases,
        Accepts = ["text", .. agent.Accepts.Select(content => Settings.NameOf(content))],
        TakesFunctions = agent.TakesTools,
        Tools = [.. agent.Tools.Select(tool => new AgentToolResponse(tool.Server, tool.Name, tool.Description))],
        Health = tellsHealth ? AgentHealthResponse.From(agent.Health) : null,
    };
}

/// <summary>A tool that an agent may call on the server.</summary>
/// <param name="Server">The tool server, as the agent's settings name it.</param>
/// <param name="Name">Its name.</param>
/// <param name="Description">What it is good for; null until its server has told.</param>
internal sealed record AgentToolResponse(string Server, string Name, string? Description);

/// <summary>How an agent was when it was asked last.</summary>
internal sealed record AgentHealthResponse
{
    /// <summary>unknown, as it has not been asked yet; healthy; or failing.</summary>
    public required string Status { get; init; }

    /// <summary>When it was asked last.</summary>
    public required ApiTime? At { get; init; }

    /// <summary>The code of its failure.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Code { get; init; }

    /// <summary>Why it failed.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Detail { get; init; }

    /// <summary>The health of an agent as the API shows it.</summary>
    public static AgentHealthResponse From(AgentHealth? health) => new()
    {
        Status = health is null ? "unknown" : health.Error is null ? "healthy" : "failing",
        At = health?.At,
        Code = health?.Error?.Code,
        Detail = health?.Error?.Message,
    };
}
