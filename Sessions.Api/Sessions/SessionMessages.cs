using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sessions.Api;

/// <summary>Asks for a new session.</summary>
internal sealed record CreateSessionRequest
{
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
    /// <summary>The last turn to copy; all of them where it is absent.</summary>
    public int? AfterTurn { get; init; }

    /// <summary>The id of the copy; a new one where it is absent.</summary>
    public string? SessionId { get; init; }

    /// <summary>The copy's own keys; those of the original where it is absent.</summary>
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
    public required DateTime CreatedAt { get; init; }

    /// <summary>When its last turn ended.</summary>
    public required DateTime LastActivityAt { get; init; }

    /// <summary>When it expires, if nothing more happens.</summary>
    public required DateTime ExpiresAt { get; init; }

    /// <summary>One more with every change.</summary>
    public required long Version { get; init; }

    /// <summary>What is known about the session, beside the client's own keys.</summary>
    public required SessionMetadata Metadata { get; init; }

    /// <summary>The last turn.</summary>
    public required SessionContext Context { get; init; }

    /// <summary>A session as the API shows it.</summary>
    public static SessionResponse From(Session session) => new()
    {
        SessionId = session.Id,
        UserId = session.UserId,
        CreatedAt = session.CreatedAt.UtcDateTime,
        LastActivityAt = session.LastActivityAt.UtcDateTime,
        ExpiresAt = session.ExpiresAt.UtcDateTime,
        Version = session.Version,
        Metadata = SessionMetadata.From(session),
        Context = new SessionContext
        {
            LastQuery = session.LastTurn?.Query,
            LastResponse = session.LastTurn?.Response.Shorten(ResponseCharacters),
            LastExecutionTime = session.LastTurn?.ExecutionTime.TotalSeconds,
            LastAgentUsed = session.LastTurn?.AgentUsed,
            ErrorCount = session.ErrorCount,
            LastError = session.LastError,
        },
    };
}

/// <summary>What is known about a session, beside the client's own keys.</summary>
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
        LastQuery = session.LastTurn?.Query.Shorten(QueryCharacters),
        LastAgentType = session.LastTurn?.AgentType,
        CreatedFrom = Name(session.CreatedFrom),
        Own = OwnKeys(session),
    };

    /// <summary>An origin as the API names it.</summary>
    public static string Name(SessionOrigin origin) => origin switch
    {
        SessionOrigin.Api => "api",
        SessionOrigin.Query => "query",
        _ => "fork",
    };

    /// <summary>The origin of that name. Stores and exports keep the name, so that the order of the enum is free.</summary>
    public static SessionOrigin Origin(string name) => name switch
    {
        "api" => SessionOrigin.Api,
        "query" => SessionOrigin.Query,
        "fork" => SessionOrigin.Fork,
        _ => throw new InvalidDataException($"'{name}' is no origin of a session."),
    };

    /// <summary>The client's own keys of a session.</summary>
    public static Dictionary<string, JsonElement>? OwnKeys(Session session)
    {
        if (session.Metadata.IsEmpty)
        {
            return null;
        }

        try
        {
            var own = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
            foreach (var property in JsonElement.Parse(session.Metadata.Span).EnumerateObject())
            {
                own[property.Name] = property.Value;
            }

            return own;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // Nothing else is ever written: what lies in the store is not what was put there.
            throw new StoreUnavailableException("The metadata of a session is damaged in the store.", TimeSpan.FromSeconds(10), e);
        }
    }
}

/// <summary>The last turn of a session.</summary>
internal sealed record SessionContext
{
    /// <summary>The last query, whole.</summary>
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
    public required string? LastError { get; init; }
}

/// <summary>A page of a user's sessions.</summary>
internal sealed record SessionListResponse(string UserId, IReadOnlyList<SessionResponse> Sessions, bool HasMore, string? Next);

/// <summary>A page of a session's turns.</summary>
internal sealed record HistoryResponse(string SessionId, IReadOnlyList<TurnResponse> Turns, bool HasMore, string? Next);

/// <summary>One query and its response.</summary>
internal sealed record TurnResponse
{
    /// <summary>The turn's number, from 1.</summary>
    public required int Turn { get; init; }

    /// <summary>What was asked.</summary>
    public required Utf8Text Query { get; init; }

    /// <summary>What was answered.</summary>
    public required Utf8Text Response { get; init; }

    /// <summary>The agent that was asked for.</summary>
    public required string AgentType { get; init; }

    /// <summary>What answered.</summary>
    public required string AgentUsed { get; init; }

    /// <summary>When.</summary>
    public required DateTime CreatedAt { get; init; }

    /// <summary>How long the agent took, in seconds.</summary>
    public required double ExecutionTime { get; init; }

    /// <summary>Tokens, where the model's provider counts them.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public UsageResponse? Usage { get; init; }

    /// <summary>A turn as the API shows it.</summary>
    public static TurnResponse From(Turn turn) => new()
    {
        Turn = turn.Number,
        Query = turn.Query,
        Response = turn.Response,
        AgentType = turn.AgentType,
        AgentUsed = turn.AgentUsed,
        CreatedAt = turn.CreatedAt.UtcDateTime,
        ExecutionTime = turn.ExecutionTime.TotalSeconds,
        Usage = UsageResponse.From(turn),
    };
}

/// <summary>What the earliest turns of a session amount to, as an agent wrote it.</summary>
internal sealed record SummaryResponse(Utf8Text Text, int CoversTurns);

/// <summary>Tokens of a turn, as the model's provider counted them.</summary>
internal sealed record UsageResponse(long? InputTokens, long? OutputTokens)
{
    /// <summary>A turn's usage, if its provider told.</summary>
    public static UsageResponse? From(Turn turn) =>
        turn.InputTokens is null && turn.OutputTokens is null ? null : new(turn.InputTokens, turn.OutputTokens);
}

/// <summary>A session was deleted.</summary>
internal sealed record DeletedResponse(string SessionId, bool Deleted);

/// <summary>Everything of a user was removed.</summary>
internal sealed record ErasureResponse(string UserId, string StorageType, long SessionsRemoved, long TurnsRemoved, DateTime ErasedAt);

/// <summary>What the server holds.</summary>
internal sealed record StatisticsResponse
{
    /// <summary>memory or sqlite.</summary>
    public required string StorageType { get; init; }

    /// <summary>Sessions that have not expired.</summary>
    public required long ActiveSessions { get; init; }

    /// <summary>Those of them that this process holds in its memory.</summary>
    public required long ActiveSessionsMemory { get; init; }

    /// <summary>After how many hours without a turn a session expires.</summary>
    public required double TimeoutHours { get; init; }

    /// <summary>How many sessions a user may have; 0: no limit.</summary>
    public required int MaxSessionsPerUser { get; init; }

    /// <summary>When expired sessions were last removed.</summary>
    public required DateTime? LastCleanupAt { get; init; }
}

/// <summary>Expired sessions were removed.</summary>
/// <param name="Removed">How many.</param>
/// <param name="ExecutionTime">How long it took, in seconds.</param>
internal sealed record CleanupResponse(int Removed, double ExecutionTime);
