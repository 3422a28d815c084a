using System.ComponentModel.DataAnnotations;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>The <c>agents:</c> section of <c>config.yaml</c>: what an <c>agent_type</c> stands for. Names are in lower case, and matched without regard to it.</summary>
internal sealed class AgentsSettings : Dictionary<string, AgentSettings>
{
    /// <summary>The section's name.</summary>
    public const string Section = "agents";

    /// <summary>The <c>agent_type</c> of a query that names none. It exists also where the section does not name it.</summary>
    public const string Default = "advanced";

    public AgentsSettings() : base(StringComparer.OrdinalIgnoreCase)
    {
    }
}

/// <summary>One agent.</summary>
internal sealed class AgentSettings
{
    /// <summary>What answers.</summary>
    public AgentProvider Provider { get; set; } = AgentProvider.Builtin;

    /// <summary>The model, as its provider names it.</summary>
    public string? Model { get; set; }

    /// <summary>The base address of an OpenAI-compatible endpoint; OpenAI's own where it is absent.</summary>
    public Uri? Endpoint { get; set; }

    /// <summary>The endpoint's key: <c>AGENTS__&lt;NAME&gt;__API_KEY</c>, or <c>OPENAI_API_KEY</c> for all agents.</summary>
    [Secret]
    public string? ApiKey { get; set; }

    /// <summary>The system prompt.</summary>
    public string? Instructions { get; set; }

    /// <summary>How many of the session's last turns the agent is given.</summary>
    [Range(0, 1000)]
    public int HistoryTurns { get; set; } = 20;

    /// <summary>How many tokens these may have together, counted as OpenAI's o200k_base does; the oldest turns go first. 0: no limit.</summary>
    [Range(0, 10_000_000)]
    public int HistoryTokens { get; set; }

    /// <summary>
    /// Whether turns that no longer fit into <see cref="HistoryTurns"/> are summarised by the model itself. Each time twice as many have come together, all but the last
    /// <see cref="HistoryTurns"/> of them become part of the summary, so that a turn costs the same however long the history is.
    /// </summary>
    public bool Summarize { get; set; }

    /// <summary>How long the agent may take, retries included.</summary>
    [Range(0.01, 3600)]
    public double TimeoutSeconds { get; set; } = 120;

    /// <summary>How often a call that failed for a passing reason (429, 5xx, no connection) is repeated.</summary>
    [Range(0, 10)]
    public int MaxRetries { get; set; } = 3;
}

/// <summary>The kinds of agents there are.</summary>
internal enum AgentProvider
{
    /// <summary><see cref="BuiltinChatClient"/>.</summary>
    Builtin,

    /// <summary>An endpoint that speaks OpenAI's chat completions.</summary>
    Openai,
}
