using System.ComponentModel.DataAnnotations;
using Sessions.Api.Engine.Agents.Tools;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Engine.Agents;

/// <summary>The <c>agents:</c> section of <c>config.yaml</c>: what an <c>agent_type</c> stands for. Names are in lower case, and matched
/// without regard to it.</summary>
internal sealed class AgentsSettings : Dictionary<string, AgentSettings>, IValidatableObject
{
    /// <summary>The section's name.</summary>
    public const string Section = "agents";

    /// <summary>The <c>agent_type</c> of a query that names none. It exists also where the section does not name it.</summary>
    public const string Default = "advanced";

    public AgentsSettings() : base(StringComparer.OrdinalIgnoreCase)
    {
    }

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        HashSet<string> names = new(Keys, StringComparer.OrdinalIgnoreCase) { Default };
        foreach (var (name, agent) in this.OrderBy(entry => entry.Key, StringComparer.Ordinal))
        {
            foreach (var alias in agent.Aliases.Where(alias => !names.Add(alias)))
            {
                yield return new($"'{alias}' is the name of an agent already", [$"{name}:{nameof(AgentSettings.Aliases)}"]);
            }
        }
    }
}

/// <summary>One agent.</summary>
internal sealed class AgentSettings : IValidatableObject
{
    /// <summary>What answers.</summary>
    public AgentProvider Provider { get; set; } = AgentProvider.Builtin;

    /// <summary>What it is good for, for people who choose.</summary>
    public string? Description { get; set; }

    /// <summary>Other names for it: programs have the names of models built in.</summary>
    public string[] Aliases { get; set; } = [];

    /// <summary>Which of its interfaces an OpenAI-compatible endpoint is asked by.</summary>
    public AgentApi Api { get; set; } = AgentApi.ChatCompletions;

    /// <summary>Whether the model is given back what it thought before, sealed, where <see cref="Api"/> is
    /// <see cref="AgentApi.Responses"/>. Models that don't think may refuse it.</summary>
    public bool KeepReasoning { get; set; } = true;

    /// <summary>The model, as its provider names it.</summary>
    public string? Model { get; set; }

    /// <summary>The base address of an OpenAI-compatible endpoint, which may be the name of a service (<c>http://my-agent/v1</c>);
    /// OpenAI's own where it is absent.</summary>
    public Uri? Endpoint { get; set; }

    /// <summary>The endpoint's key: <c>AGENTS__&lt;NAME&gt;__API_KEY</c>. <c>OPENAI_API_KEY</c> is sent to OpenAI's own endpoint
    /// alone.</summary>
    [Secret]
    public string? ApiKey { get; set; }

    /// <summary>The system prompt.</summary>
    public string? Instructions { get; set; }

    /// <summary>Whether a request may bring instructions of its own, behind these.</summary>
    public bool AllowInstructions { get; set; } = true;

    /// <summary>What it takes besides text. Anything else is refused.</summary>
    public AgentContent[] Accepts { get; set; } = [];

    /// <summary>
    /// Whether the endpoint is told the session, its user and the number of the turn, by the headers <c>X-Sessions-Session-Id</c>,
    /// <c>X-Sessions-User-Id</c> (percent-encoded) and
    /// <c>X-Sessions-Turn</c>: for agents of your own.
    /// </summary>
    public bool SendSession { get; set; }

    /// <summary>How many of the session's last turns the agent is given; a query that asks for more (<c>parameters.history_turns</c>) is
    /// given these.</summary>
    [Range(0, 1000)]
    public int HistoryTurns { get; set; } = 20;

    /// <summary>How many tokens these may have together, counted as OpenAI's o200k_base does; the oldest turns go first. 0: no
    /// limit.</summary>
    [Range(0, 10_000_000)]
    public int HistoryTokens { get; set; }

    /// <summary>
    /// Whether turns that no longer fit into <see cref="HistoryTurns"/> are summarised by the model itself. Each time twice as many have
    /// come together, all but the last
    /// <see cref="HistoryTurns"/> of them become part of the summary, so that a turn costs the same however long the history is.
    /// </summary>
    public bool Summarize { get; set; }

    /// <summary>The tool servers whose tools the model may call; the calls are run here.</summary>
    public ToolServersSettings Tools { get; set; } = [];

    /// <summary>How many times the model may be asked again after tools have run; then it has to answer without.</summary>
    [Range(1, 100)]
    public int MaxToolRounds { get; set; } = 10;

    /// <summary>How long the agent may take, retries included.</summary>
    [Range(0.01, 3600)]
    public double TimeoutSeconds { get; set; } = 120;

    /// <summary>How often a call that failed for a passing reason (408, 429, 5xx, no connection) is repeated.</summary>
    [Range(0, 10)]
    public int MaxRetries { get; set; } = 3;

    /// <summary>How many bytes a provider may send for one answer, whatever it says with them.</summary>
    [Range(1024, 1 << 30)]
    public int ProviderBytes { get; set; } = 64 << 20;

    /// <summary>In how many pieces a provider may send one answer.</summary>
    [Range(1, 100_000_000)]
    public int ProviderPieces { get; set; } = 250_000;

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (Provider == AgentProvider.Builtin)
        {
            if (Summarize)
            {
                yield return new("needs a language model; the builtin agent is not one", [nameof(Summarize), nameof(Provider)]);
            }

            if (Accepts.Length > 0)
            {
                yield return new("is not for the builtin agent, which takes only text", [nameof(Accepts), nameof(Provider)]);
            }

            if (SendSession)
            {
                yield return new("needs an endpoint; the builtin agent has none", [nameof(SendSession), nameof(Provider)]);
            }

            if (Tools.Count > 0)
            {
                yield return new("need a language model; the builtin agent is not one", [nameof(Tools), nameof(Provider)]);
            }

            yield break;
        }

        if (string.IsNullOrEmpty(Model))
        {
            yield return new($"is missing; an agent of the provider {Settings.NameOf(Provider)} needs one",
                [nameof(Model), nameof(Provider)]);
        }

        if (ProviderClients.FaultOf(Provider) is { } fault)
        {
            yield return new(fault, [nameof(Provider)]);
        }

        if (Api != AgentApi.ChatCompletions && Provider != AgentProvider.Openai)
        {
            yield return new("is for the provider openai", [nameof(Api), nameof(Provider)]);
        }

        if (Provider == AgentProvider.Ollama && Accepts.Contains(AgentContent.File))
        {
            yield return new("Ollama takes images, but no files", [nameof(Accepts), nameof(Provider)]);
        }

        if (Summarize && HistoryTurns == 0)
        {
            yield return new("needs history_turns to be at least 1", [nameof(Summarize), nameof(HistoryTurns)]);
        }

        var configuration = validationContext.GetService(typeof(IConfiguration)) as IConfiguration;
        if (ProviderClients.KeyVariable(this) is { } common && string.IsNullOrEmpty(ApiKey) && string.IsNullOrEmpty(configuration?[common]))
        {
            var variable = $"AGENTS__{validationContext.MemberName?.ToUpperInvariant()}__API_KEY";
            yield return new(
                $"is missing, and {(Provider == AgentProvider.Openai ? "OpenAI's" : "Anthropic's")} own endpoint needs it; set the "
                    + $"environment variable {common} or {variable}",
                [nameof(ApiKey), nameof(Provider)]);
        }
    }
}

/// <summary>The kinds of agents there are.</summary>
internal enum AgentProvider
{
    /// <summary><see cref="BuiltinChatClient"/>.</summary>
    Builtin,

    /// <summary>An endpoint that speaks as OpenAI's does: chat completions, or Responses.</summary>
    Openai,

    /// <summary>Anthropic's API, by its own library.</summary>
    Anthropic,

    /// <summary>Ollama's own API, by OllamaSharp.</summary>
    Ollama,
}

/// <summary>The interfaces of OpenAI-compatible endpoints.</summary>
internal enum AgentApi
{
    /// <summary><c>/chat/completions</c>: what almost all of them have.</summary>
    ChatCompletions,

    /// <summary><c>/responses</c>: keeps what a model thought from one turn to the next.</summary>
    Responses,
}

/// <summary>What an agent may take besides text.</summary>
internal enum AgentContent
{
    /// <summary>Images: by address, which the provider fetches, or as a data URL.</summary>
    Image,

    /// <summary>Files, as data URLs.</summary>
    File,
}
