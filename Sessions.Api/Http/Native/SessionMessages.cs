using System.Text.Json;
using System.Text.Json.Serialization;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.OpenAi;

namespace Sessions.Api.Http.Native;

/// <summary>Asks for a new session.</summary>
internal sealed record CreateSessionRequest
{
    /// <summary>The session's id; a new one if it is absent.</summary>
    public string? SessionId { get; set; }

    /// <summary>The user the session belongs to.</summary>
    public string? UserId { get; set; }

    /// <summary>The client's own keys.</summary>
    public JsonElement? Metadata { get; set; }
}

/// <summary>A JSON merge patch (RFC 7396) of a session, of which only the metadata can be changed.</summary>
internal sealed record PatchSessionRequest
{
    /// <summary>Keys to set; <c>null</c> removes one.</summary>
    public JsonElement? Metadata { get; init; }

    /// <summary>Whatever else the patch holds, to be refused.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Others { get; set; }
}

/// <summary>Asks for a copy of a session.</summary>
internal sealed record ForkRequest
{
    /// <summary>The last turn to copy; all of them if it is absent.</summary>
    public int? AfterTurn { get; init; }

    /// <summary>The id of the copy; a new one if it is absent.</summary>
    public string? SessionId { get; init; }

    /// <summary>The copy's own keys; those of the original if it is absent.</summary>
    public JsonElement? Metadata { get; init; }
}

/// <summary>A session.</summary>
internal sealed record SessionResponse
{
    private const int ResponseCharacters = 500;

    private SessionResponse()
    {
    }

    /// <summary>The session's id.</summary>
    public required string SessionId { get; init; }

    /// <summary>The user it is bound to, if any.</summary>
    public required string? UserId { get; init; }

    /// <summary>When it was created.</summary>
    public required ApiTime CreatedAt { get; init; }

    /// <summary>When its last turn ended.</summary>
    public required ApiTime LastActivityAt { get; init; }

    /// <summary>When it expires, if nothing more happens.</summary>
    public required ApiTime ExpiresAt { get; init; }

    /// <summary>One more with every change.</summary>
    public required long Version { get; init; }

    /// <summary>What is known about the session, in addition to the client's own keys.</summary>
    public required SessionMetadata Metadata { get; init; }

    /// <summary>The last turn.</summary>
    public required SessionContext Context { get; init; }

    /// <summary>A session as the API shows it.</summary>
    public static SessionResponse From(Session session) => new()
    {
        SessionId = session.Id,
        UserId = session.UserId,
        CreatedAt = session.CreatedAt,
        LastActivityAt = session.LastActivityAt,
        ExpiresAt = session.ExpiresAt,
        Version = session.Revision.Version,
        Metadata = SessionMetadata.From(session),
        Context = new SessionContext
        {
            LastQuery = session.LastTurn?.Input.TextOf(ItemSide.Input),
            LastResponse = session.LastTurn?.Output.TextOf(ItemSide.Output)?.Shorten(ResponseCharacters),
            LastExecutionTime = session.LastTurn?.ExecutionTime.TotalSeconds,
            LastAgentUsed = session.LastTurn?.AgentUsed,
            ErrorCount = session.ErrorCount,
            LastError = session.LastError,
        },
    };
}

/// <summary>What is known about a session, in addition to the client's own keys.</summary>
internal sealed record SessionMetadata
{
    private const int QueryCharacters = 100;

    /// <summary>How many turns there have been.</summary>
    public required int QueryCount { get; init; }

    /// <summary>The last query, shortened.</summary>
    public required Utf8Text? LastQuery { get; init; }

    /// <summary>The <c>agent_type</c> of the last turn.</summary>
    public required string? LastAgentType { get; init; }

    /// <summary>How the session came to be: <c>api</c>, <c>query</c> or <c>fork</c>.</summary>
    public required string CreatedFrom { get; init; }

    /// <summary>The client's own keys.</summary>
    [JsonExtensionData]
    public Dictionary<string, JsonElement>? Own { get; set; }

    /// <summary>A session's metadata as the API shows it.</summary>
    public static SessionMetadata From(Session session) => new()
    {
        QueryCount = session.TurnCount,
        LastQuery = ShortQuery(session),
        LastAgentType = session.LastTurn?.AgentType,
        CreatedFrom = session.CreatedFrom.Name(),
        Own = OwnKeys(session),
    };

    /// <summary>The last query as lists show it.</summary>
    public static Utf8Text? ShortQuery(Session session) => session.LastTurn?.Input.TextOf(ItemSide.Input)?.Shorten(QueryCharacters);

    /// <summary>The client's own keys of a session.</summary>
    public static Dictionary<string, JsonElement>? OwnKeys(Session session)
    {
        if (session.Metadata.IsEmpty)
        {
            return null;
        }

        var own = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        OwnMetadata.ReadStored(session, property =>
        {
            if (property.Name is not (OpenAiMetadata.Apart or BranchMarker.Key))
            {
                own[property.Name] = property.Value;
            }
        });
        return own;
    }
}

/// <summary>The last turn of a session.</summary>
internal sealed record SessionContext
{
    /// <summary>The last query, not shortened.</summary>
    public required Utf8Text? LastQuery { get; init; }

    /// <summary>The last response, truncated.</summary>
    public required Utf8Text? LastResponse { get; init; }

    /// <summary>How long the agent took for it, in seconds.</summary>
    public required double? LastExecutionTime { get; init; }

    /// <summary>What answered.</summary>
    public required string? LastAgentUsed { get; init; }

    /// <summary>How many turns have failed.</summary>
    public required int ErrorCount { get; init; }

    /// <summary>Why the last failed turn failed.</summary>
    public required Utf8Text? LastError { get; init; }
}

/// <summary>A page of a user's sessions.</summary>
internal sealed record SessionListResponse(string? UserId, IReadOnlyList<SessionResponse> Sessions, bool HasMore, string? Next);

/// <summary>A page of a session's turns.</summary>
internal sealed record HistoryResponse(string SessionId, IReadOnlyList<TurnResponse> Turns, bool HasMore, string? Next);

/// <summary>A turn.</summary>
internal sealed record TurnResponse
{
    /// <summary>The turn's number, from 1.</summary>
    public required int Turn { get; init; }

    /// <summary>What was asked; null if that was not text.</summary>
    public required Utf8Text? Query { get; init; }

    /// <summary>What was answered; null if that was not text.</summary>
    public required Utf8Text? Response { get; init; }

    /// <summary>The agent that was asked for.</summary>
    public required string AgentType { get; init; }

    /// <summary>What answered.</summary>
    public required string AgentUsed { get; init; }

    /// <summary>When.</summary>
    public required ApiTime CreatedAt { get; init; }

    /// <summary>How long the agent took, in seconds.</summary>
    public required double ExecutionTime { get; init; }

    /// <summary>completed; incomplete, if the answer stopped short; appended, if the client's own agent made it.</summary>
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

    /// <summary>The turn it goes on from, if that is not the one before it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? AfterTurn { get; init; }

    /// <summary>Tokens, if the model's provider counts them.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public UsageResponse? Usage { get; init; }

    /// <summary>What came in, as items; with include=items.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public RawJson? Input { get; init; }

    /// <summary>What came out, as items; with include=items.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public RawJson? Output { get; init; }

    /// <summary>A turn as the API shows it.</summary>
    /// <param name="turn">The turn.</param>
    /// <param name="itemsOf">The key of its session, where its items are to be shown.</param>
    public static TurnResponse From(Turn turn, Guid? itemsOf = null) => new()
    {
        Turn = turn.Number,
        Query = turn.Input.TextOf(ItemSide.Input),
        Response = turn.Output.TextOf(ItemSide.Output),
        AgentType = turn.AgentType,
        AgentUsed = turn.AgentUsed,
        CreatedAt = turn.CreatedAt,
        ExecutionTime = turn.ExecutionTime.TotalSeconds,
        Status = turn.Status.Name(),
        IncompleteReason = turn.IncompleteReason,
        FinishReason = turn.FinishReason,
        Model = turn.Model,
        AfterTurn = turn.Parent == turn.Number - 1 ? null : turn.Parent,
        Usage = UsageResponse.From(turn),
        Input = itemsOf is { } key ? ItemJson.Array(ItemJson.Of(key, turn.Nonce, ItemSide.Input, turn.Input)) : null,
        Output = itemsOf is { } session ? ItemJson.Array(ItemJson.Of(session, turn.Nonce, ItemSide.Output, turn.Output)) : null,
    };
}

/// <summary>A turn that the client's own agent made.</summary>
internal sealed record AppendTurnRequest
{
    /// <summary>What was asked, as a text; or input.</summary>
    public Utf8Text? Query { get; set; }

    /// <summary>What was answered, as a text; or output.</summary>
    public Utf8Text? Response { get; set; }

    /// <summary>What came in, as items; or query.</summary>
    public JsonElement? Input { get; set; }

    /// <summary>What came out, as items; or response.</summary>
    public JsonElement? Output { get; set; }

    /// <summary>The agent, as the client names it; client if it is absent.</summary>
    public string? AgentType { get; set; }

    /// <summary>The number that the turn must get.</summary>
    public int? ExpectedTurn { get; set; }

    /// <summary>The user whose session it is.</summary>
    public string? UserId { get; set; }
}

/// <summary>A turn was asked to stop.</summary>
internal sealed record CancelledResponse(string SessionId, bool Cancelled);

/// <summary>Tokens of a turn, as the model's provider counted them.</summary>
internal sealed record UsageResponse(long? InputTokens, long? OutputTokens)
{
    /// <summary>A turn's usage, if its provider told.</summary>
    public static UsageResponse? From(Turn turn) =>
        turn.Usage is { } usage and not { InputTokens: null, OutputTokens: null } ? new(usage.InputTokens, usage.OutputTokens) : null;
}

/// <summary>A session was deleted.</summary>
internal sealed record DeletedResponse(string SessionId, bool Deleted);

/// <summary>Everything of a user was removed.</summary>
internal sealed record ErasureResponse(string UserId, string StorageType, long SessionsRemoved, long TurnsRemoved, ApiTime ErasedAt);

/// <summary>What the server holds.</summary>
internal sealed record StatisticsResponse
{
    /// <summary>Where sessions are kept.</summary>
    public required string StorageType { get; init; }

    /// <summary>Sessions that have not expired.</summary>
    public required long ActiveSessions { get; init; }

    /// <summary>Those of them that exist in this process's memory alone: all with storage_type memory, otherwise none.</summary>
    public required long ActiveSessionsMemory { get; init; }

    /// <summary>After how many hours without a turn a session expires.</summary>
    public required double TimeoutHours { get; init; }

    /// <summary>How many sessions a user may have; 0: no limit.</summary>
    public required int MaxSessionsPerUser { get; init; }

    /// <summary>When expired sessions were last removed.</summary>
    public required ApiTime? LastCleanupAt { get; init; }
}

/// <summary>Expired sessions were removed.</summary>
/// <param name="Removed">How many.</param>
/// <param name="ExecutionTime">How long it took, in seconds.</param>
internal sealed record CleanupResponse(int Removed, double ExecutionTime);
