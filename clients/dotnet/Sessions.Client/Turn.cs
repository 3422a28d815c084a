using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sessions.Client;

/// <summary>A turn of a session: what came in, and what went out.</summary>
public sealed record Turn
{
    /// <summary>Its number in the session, from 1.</summary>
    [JsonPropertyName("turn")]
    public int Number { get; init; }

    /// <summary>What was asked; <see langword="null"/> where that was no text.</summary>
    public string? Query { get; init; }

    /// <summary>What was answered; <see langword="null"/> where that was no text.</summary>
    public string? Response { get; init; }

    /// <summary>The agent that was asked for.</summary>
    public string? AgentType { get; init; }

    /// <summary>What answered.</summary>
    public string? AgentUsed { get; init; }

    /// <summary>When.</summary>
    public DateTimeOffset CreatedAt { get; init; }

    /// <summary>How long the agent took, in seconds.</summary>
    public double ExecutionTime { get; init; }

    /// <summary><c>completed</c>; <c>incomplete</c> where the answer stopped short; <c>appended</c> where a client made the turn.</summary>
    public string? Status { get; init; }

    /// <summary>Why it stopped short: <c>max_output_tokens</c>, <c>content_filter</c>, <c>cancelled</c>.</summary>
    public string? IncompleteReason { get; init; }

    /// <summary>Why the model stopped, as its provider says.</summary>
    public string? FinishReason { get; init; }

    /// <summary>The model, as its provider names it.</summary>
    public string? Model { get; init; }

    /// <summary>The turn it goes on from, where that is not the one before it.</summary>
    public int? AfterTurn { get; init; }

    /// <summary>Tokens, where the model's provider counts them.</summary>
    public TokenUsage? Usage { get; init; }

    /// <summary>What came in, as items of OpenAI's Responses API, if they were asked for.</summary>
    public IReadOnlyList<JsonElement>? Input { get; init; }

    /// <summary>What went out, as items, if they were asked for.</summary>
    public IReadOnlyList<JsonElement>? Output { get; init; }
}

/// <summary>Tokens of a turn, as the model's provider counted them.</summary>
/// <param name="InputTokens">Those that went in.</param>
/// <param name="OutputTokens">Those that came out.</param>
public sealed record TokenUsage(long? InputTokens, long? OutputTokens);

/// <summary>A turn that your own agent made, to be appended.</summary>
public sealed record NewTurn
{
    /// <summary>What was asked, as a text; or <see cref="Input"/>.</summary>
    public string? Query { get; init; }

    /// <summary>What was answered, as a text; or <see cref="Output"/>.</summary>
    public string? Response { get; init; }

    /// <summary>What came in, as items of OpenAI's Responses API; or <see cref="Query"/>.</summary>
    public IReadOnlyList<JsonElement>? Input { get; init; }

    /// <summary>What went out, as items; or <see cref="Response"/>.</summary>
    public IReadOnlyList<JsonElement>? Output { get; init; }

    /// <summary>Your agent's name; <c>client</c> where it is absent.</summary>
    public string? AgentType { get; init; }

    /// <summary>
    /// The number that the turn must get: one more than the last turn you have seen. Where another turn has it, nothing is appended and
    /// a <see cref="SessionsException"/> with the code <see cref="SessionsException.TurnConflict"/> is thrown.
    /// </summary>
    public int? ExpectedTurn { get; init; }

    /// <summary>The user whose session it is.</summary>
    public string? UserId { get; init; }

    /// <summary>Makes a repeat safe: the same key and the same turn are appended once. One is made for each call where it is
    /// absent.</summary>
    [JsonIgnore]
    public string? IdempotencyKey { get; init; }
}

internal sealed record TurnPage
{
    public required IReadOnlyList<Turn> Turns { get; init; }

    public bool HasMore { get; init; }

    public string? Next { get; init; }
}
