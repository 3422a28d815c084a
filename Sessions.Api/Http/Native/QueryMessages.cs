using System.Text.Json;
using System.Text.Json.Serialization;
using Sessions.Api.Domain;
using Sessions.Api.Engine;

namespace Sessions.Api.Http.Native;

/// <summary>A query to an agent.</summary>
internal sealed record QueryRequest
{
    // Set rather than init: what is init goes through an array of boxed constructor arguments.
    /// <summary>What to ask: 1 byte to limits.query_bytes of text.</summary>
    public Utf8Text? Query { get; set; }

    /// <summary>Parts of what is asked, in addition to or instead of query: input_text, input_image, input_file.</summary>
    public JsonElement? Input { get; set; }

    /// <summary>Which agent answers: a name from the agents section of config.yaml; advanced if it is absent.</summary>
    public string? AgentType { get; set; }

    /// <summary>The session to continue; a new one if it is absent or names none.</summary>
    public string? ThreadId { get; set; }

    /// <summary>The same, by another name.</summary>
    public string? SessionId { get; set; }

    /// <summary>The user who asks. Binds the session to the user.</summary>
    public string? UserId { get; set; }

    /// <summary>The turn to go on from, to edit or regenerate what came behind it; 0: from the beginning. The newest if it is
    /// absent.</summary>
    public int? AfterTurn { get; set; }

    /// <summary>For the agent: temperature, top_p, max_output_tokens, frequency_penalty, presence_penalty, seed, stop, history_turns;
    /// others reach its provider as they are.</summary>
    public JsonElement? Parameters { get; set; }

    /// <summary>What happens while another query runs on the session: enqueue or reject; as limits.on_busy says if it is
    /// absent.</summary>
    public string? OnBusy { get; set; }

    /// <summary>Whether the answer is to come as server-sent events; if absent, the Accept header decides.</summary>
    public bool? Stream { get; set; }
}

/// <summary>An agent's answer.</summary>
/// <param name="Response">The answer.</param>
/// <param name="AgentType">Which agent answered.</param>
/// <param name="Metadata">About the answer and its session.</param>
internal sealed record QueryResponse(Utf8Text Response, string AgentType, QueryResponseMetadata Metadata)
{
    /// <summary>A turn as the API answers with it.</summary>
    public static QueryResponse From(TurnResult result) => new(
        result.Turn.Output.TextOf(ItemSide.Output) ?? "", result.Turn.AgentType, new QueryResponseMetadata
        {
            ThreadId = result.SessionId,
            UserId = result.UserId,
            SessionCreated = result.Turn.StartedSession,
            Turn = result.Turn.Number,
            AgentUsed = result.Turn.AgentUsed,
            ExecutionTime = result.Turn.ExecutionTime,
            CreatedAt = result.Turn.CreatedAt,
            Status = result.Turn.Status.Name(),
            IncompleteReason = result.Turn.IncompleteReason,
            FinishReason = result.Turn.FinishReason,
            Model = result.Turn.Model,
            Usage = UsageResponse.From(result.Turn),
        });
}

/// <summary>About an answer and its session.</summary>
internal sealed record QueryResponseMetadata
{
    /// <summary>The session: name it to go on.</summary>
    public required string ThreadId { get; init; }

    /// <summary>The user the session is bound to, if any.</summary>
    public required string? UserId { get; init; }

    /// <summary>Whether this query brought the session into being.</summary>
    public required bool SessionCreated { get; init; }

    /// <summary>The turn's number in the session, from 1.</summary>
    public required int Turn { get; init; }

    /// <summary>What answered: the provider, and its model if it has one.</summary>
    public required string AgentUsed { get; init; }

    /// <summary>How long the agent took, in seconds.</summary>
    public required ApiSeconds ExecutionTime { get; init; }

    /// <summary>When the turn was committed.</summary>
    public required ApiTime CreatedAt { get; init; }

    /// <summary>completed; or incomplete, if the answer stopped short.</summary>
    public required string Status { get; init; }

    /// <summary>Why it stopped short: max_output_tokens, content_filter, cancelled.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? IncompleteReason { get; init; }

    /// <summary>Why the model stopped, as its provider says.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? FinishReason { get; init; }

    /// <summary>The model, as its provider names it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Model { get; init; }

    /// <summary>Tokens, if the model's provider counts them.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public UsageResponse? Usage { get; init; }
}
