using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>What an agent is asked.</summary>
internal sealed record AgentRequest
{
    /// <summary>The session, for spans, and for agents that are told it.</summary>
    public required string SessionId { get; init; }

    /// <summary>The user, for agents that are told it.</summary>
    public string? UserId { get; init; }

    /// <summary>The number that the turn is going to have.</summary>
    public required int Turn { get; init; }

    /// <summary>What the earliest turns amount to, if they were summarised and the path still has them.</summary>
    public Summary? Summary { get; init; }

    /// <summary>What was said before, oldest first.</summary>
    public required IReadOnlyList<Turn> History { get; init; }

    /// <summary>The turns with the calls whose outputs are in the input, also from before that history: they are given in any
    /// case.</summary>
    public IReadOnlyList<Turn> Needed { get; init; } = [];

    /// <summary>Whether the agent may leave out or summarise the oldest of it, as it is configured; else it is given all of it, as under
    /// <c>/v1</c>.</summary>
    public bool MayCut { get; init; } = true;

    /// <summary>What is asked.</summary>
    public required Items Input { get; init; }

    /// <summary>How to answer.</summary>
    public required AnswerOptions Options { get; init; }

    /// <summary>Told before a tool of the server's own is called: from then on the turn must not be run again.</summary>
    public Action? OnToolCall { get; init; }
}

/// <summary>How an agent is to answer: what a request may say of it, checked. All are absent where the request does not say.</summary>
internal sealed record AnswerOptions
{
    /// <summary>Nothing is said.</summary>
    public static AnswerOptions None { get; } = new();

    public float? Temperature { get; init; }

    public float? TopP { get; init; }

    public int? MaxOutputTokens { get; init; }

    public float? FrequencyPenalty { get; init; }

    public float? PresencePenalty { get; init; }

    public long? Seed { get; init; }

    public IReadOnlyList<string>? Stop { get; init; }

    /// <summary>How many earlier turns the agent is given, within the operator's bound.</summary>
    public int? HistoryTurns { get; init; }

    /// <summary>Instructions for this answer alone, behind the agent's own.</summary>
    public string? Instructions { get; init; }

    /// <summary>Functions of the client's: their calls are given to it, and nothing is run here.</summary>
    public IReadOnlyList<FunctionTool> Tools { get; init; } = [];

    /// <summary><c>auto</c>, <c>none</c>, <c>required</c>, or the name of a function behind <c>function:</c>.</summary>
    public string? ToolChoice { get; init; }

    public bool? ParallelToolCalls { get; init; }

    /// <summary>How many calls of the server's own tools may be made.</summary>
    public int? MaxToolCalls { get; init; }

    /// <summary><c>text</c>, <c>json_object</c> or <c>json_schema</c>.</summary>
    public ResponseFormat? Format { get; init; }

    /// <summary>One of <see cref="ReasoningEfforts"/>.</summary>
    public string? ReasoningEffort { get; init; }

    /// <summary>How much a model may be asked to think.</summary>
    public static IReadOnlyList<string> ReasoningEfforts { get; } = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

    /// <summary><c>low</c>, <c>medium</c> or <c>high</c>.</summary>
    public string? Verbosity { get; init; }

    /// <summary>Parameters that have no name here: they reach the provider as they are.</summary>
    public IReadOnlyDictionary<string, JsonElement>? Others { get; init; }
}

/// <summary>A function of the client's.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Description">What it is good for.</param>
/// <param name="Parameters">The JSON schema of its arguments; absent: none.</param>
/// <param name="Strict">Whether arguments must hold to the schema.</param>
internal sealed record FunctionTool(string Name, string? Description, JsonElement? Parameters, bool? Strict);

/// <summary>In which form an answer is wanted.</summary>
/// <param name="Type"><c>text</c>, <c>json_object</c> or <c>json_schema</c>.</param>
/// <param name="Name">The schema's name.</param>
/// <param name="Description">What it is good for.</param>
/// <param name="Schema">The schema.</param>
/// <param name="Strict">Whether the answer must hold to it.</param>
internal sealed record ResponseFormat(
    string Type, string? Name = null, string? Description = null, JsonElement? Schema = null, bool? Strict = null)
{
    /// <summary>The field of the request that it was asked for by.</summary>
    public string Field { get; init; } = "text.format";
}

/// <summary>What an agent answered.</summary>
/// <param name="Output">
/// The items: <see cref="ItemsForm.Text"/> where it is one message of one text, else JSON without ids (see <see cref="ItemsForm.Json"/>);
/// <see cref="Items.None"/> where it said nothing before it was stopped.
/// </param>
/// <param name="AgentUsed">What answered: the provider, and its model where it has one.</param>
/// <param name="ExecutionTime">How long it took, in whole microseconds.</param>
internal sealed record AgentAnswer(Items Output, string AgentUsed, TimeSpan ExecutionTime)
{
    /// <summary>The model, as the provider names it, if it does.</summary>
    public string? Model { get; init; }

    /// <summary>Why the model stopped, in OpenAI's words (<c>stop</c>, <c>length</c>, <c>tool_calls</c>, <c>content_filter</c>) or the
    /// provider's own.</summary>
    public string? FinishReason { get; init; }

    /// <summary>Why the answer is incomplete, if it is: <c>max_output_tokens</c>, <c>content_filter</c>, <c>cancelled</c>.</summary>
    public string? IncompleteReason { get; init; }

    /// <summary>Tokens, if the provider told.</summary>
    public TokenUsage? Usage { get; init; }

    /// <summary>A new summary of the earliest turns, if it was time for one.</summary>
    public Summary? Summary { get; init; }

    /// <summary>How many tokens input and output take in a history, if that is of interest to the agent.</summary>
    public int? HistoryTokens { get; init; }
}

/// <summary>An agent could not answer.</summary>
/// <param name="error"><c>agent_failed</c>, <c>agent_timeout</c> or one of those that docs/errors.md lists for agents, in words fit for a
/// client.</param>
/// <param name="innerException">What its library said.</param>
internal sealed class AgentException(Error error, Exception? innerException = null) : Exception(error.Message, innerException)
{
    /// <summary>Why.</summary>
    public Error Error { get; } = error;
}
