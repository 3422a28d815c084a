using System.ClientModel;
using System.ClientModel.Primitives;
using System.Collections.Frozen;
using Microsoft.Extensions.AI;
using OpenAI;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>The agents there are, by <c>agent_type</c>.</summary>
internal sealed class AgentCatalog
{
    private readonly FrozenDictionary<string, Agent> _agents;

    public AgentCatalog(AgentsSettings options, LimitSettings limits, TelemetrySettings telemetry, IConfiguration configuration, TimeProvider time, ILoggerFactory loggers)
    {
        var all = new Dictionary<string, AgentSettings>(options, StringComparer.OrdinalIgnoreCase);
        all.TryAdd(AgentsSettings.Default, new AgentSettings());
        _agents = all.ToFrozenDictionary(
            entry => entry.Key,
            entry => new Agent(entry.Key, entry.Value, Connect(entry.Key, entry.Value, telemetry, configuration, loggers), limits, time),
            StringComparer.OrdinalIgnoreCase);
    }

    /// <summary>Finds the agent that a query names, or the default one where it names none.</summary>
    /// <exception cref="ProblemException">There is no such agent.</exception>
    public Agent Get(string? type) =>
        _agents.TryGetValue(type ?? AgentsSettings.Default, out var agent) ? agent
        : throw new ProblemException(new Problem(StatusCodes.Status422UnprocessableEntity, "unknown_agent_type",
            $"agent_type: '{Problem.Shorten(type!)}' is not known; allowed: {string.Join(", ", _agents.Keys.Order(StringComparer.Ordinal))}.")
        {
            Errors = new() { ["agent_type"] = [$"must be one of: {string.Join(", ", _agents.Keys.Order(StringComparer.Ordinal))}"] },
        });

    private static IChatClient Connect(string type, AgentSettings options, TelemetrySettings telemetry, IConfiguration configuration, ILoggerFactory loggers)
    {
        if (options.Summarize && options.Provider == AgentProvider.Builtin)
        {
            throw new SettingsException($"agents.{type}.summarize: needs a language model; the builtin agent is none.");
        }

        if (options.Provider == AgentProvider.Builtin)
        {
            // Tells nobody else anything, and does not fail: it needs no more around it.
            return new BuiltinChatClient().AsBuilder().UseOpenTelemetry(loggers, QueryMetrics.AgentSourceName, Tell).Build();
        }

        // The session's id is for the spans. A provider would take it for a conversation of its own, and is not told.
        var client = OpenAi(type, options, configuration);
        return (telemetry.IncludeContent ? client : new DiscreetChatClient(client)).AsBuilder()
            .UseOpenTelemetry(loggers, QueryMetrics.AgentSourceName, Tell)
            .ConfigureOptions(chat => chat.ConversationId = null)
            .Build();

        void Tell(OpenTelemetryChatClient spans) => spans.EnableSensitiveData |= telemetry.IncludeContent;
    }

    private static IChatClient OpenAi(string type, AgentSettings options, IConfiguration configuration)
    {
        if (string.IsNullOrEmpty(options.Model))
        {
            throw new SettingsException($"agents.{type}.model: is missing; an agent of the provider openai needs one.");
        }

        if (options.Summarize && options.HistoryTurns == 0)
        {
            throw new SettingsException($"agents.{type}.summarize: needs history_turns to be at least 1.");
        }

        var key = options.ApiKey ?? configuration["OPENAI_API_KEY"];
        if (string.IsNullOrEmpty(key) && options.Endpoint is null)
        {
            throw new SettingsException(
                $"agents.{type}: OpenAI's own endpoint needs a key; set the environment variable OPENAI_API_KEY or AGENTS__{type.ToUpperInvariant()}__API_KEY.");
        }

        var clientOptions = new OpenAIClientOptions
        {
            Endpoint = options.Endpoint,
            NetworkTimeout = TimeSpan.FromSeconds(options.TimeoutSeconds),
            RetryPolicy = new ClientRetryPolicy(options.MaxRetries),
        };

        // Local servers (Ollama, vLLM, llama.cpp) ask for no key, but the header must hold something.
        return new OpenAIClient(new ApiKeyCredential(string.IsNullOrEmpty(key) ? "none" : key), clientOptions)
            .GetChatClient(options.Model).AsIChatClient();
    }
}
