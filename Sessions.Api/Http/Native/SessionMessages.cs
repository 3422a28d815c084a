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

/// <summary>A session as the API shows it.</summary>
/// <param name="Session">The session.</param>
[JsonConverter(typeof(Converter))]
internal readonly record struct SessionResponse(Session Session)
{
    private const int ResponseCharacters = 500;

    /// <summary>Writes it. Lists have many: they are written as they are, with nothing made for it in between.</summary>
    public sealed class Converter : WriteOnlyConverter<SessionResponse>
    {
        public override void Write(Utf8JsonWriter json, SessionResponse value, JsonSerializerOptions options)
        {
            var session = value.Session;
            json.WriteStartObject();
            json.WriteString(AnswerFields.SessionId, session.Id);
            json.WriteString(AnswerFields.UserId, session.UserId);
            WriteTime(json, AnswerFields.CreatedAt, session.CreatedAt);
            WriteTime(json, AnswerFields.LastActivityAt, session.LastActivityAt);
            WriteTime(json, AnswerFields.ExpiresAt, session.ExpiresAt);
            json.WriteNumber(AnswerFields.Version, session.Revision.Version);
            json.WriteStartObject(AnswerFields.Metadata);
            json.WriteNumber(AnswerFields.QueryCount, session.TurnCount);
            WriteText(json, AnswerFields.LastQuery, SessionMetadata.ShortQuery(session));
            json.WriteString(AnswerFields.LastAgentType, session.LastTurn?.AgentType);
            json.WriteString(AnswerFields.CreatedFrom, session.CreatedFrom.Name());
            SessionMetadata.WriteOwnKeys(json, session);
            json.WriteEndObject();
            WriteContext(json, session, session.LastTurn);
            json.WriteEndObject();
        }

        private static void WriteContext(Utf8JsonWriter json, Session session, Turn? last)
        {
            json.WriteStartObject(AnswerFields.Context);
            WriteText(json, AnswerFields.LastQuery, last?.Input.TextOf(ItemSide.Input));
            WriteText(json, AnswerFields.LastResponse, last?.Output.TextOf(ItemSide.Output)?.Shorten(ResponseCharacters));
            if (last is null)
            {
                json.WriteNull(AnswerFields.LastExecutionTime);
            }
            else
            {
                WriteSeconds(json, AnswerFields.LastExecutionTime, last.ExecutionTime);
            }

            json.WriteString(AnswerFields.LastAgentUsed, last?.AgentUsed);
            json.WriteNumber(AnswerFields.ErrorCount, session.ErrorCount);
            WriteText(json, AnswerFields.LastError, session.LastError);
            json.WriteEndObject();
        }
    }
}

/// <summary>What is known about a session, in addition to the client's own keys.</summary>
internal static class SessionMetadata
{
    private const int QueryCharacters = 100;

    /// <summary>The last query as lists show it.</summary>
    public static Utf8Text? ShortQuery(Session session) => session.LastTurn?.Input.TextOf(ItemSide.Input)?.Shorten(QueryCharacters);

    /// <summary>The client's own keys of a session, if it has any.</summary>
    public static Dictionary<string, JsonElement>? OwnKeys(Session session) => session.Metadata.IsEmpty ? null : ReadOwnKeys(session);

    /// <summary>Writes these keys as properties.</summary>
    public static void WriteOwnKeys(Utf8JsonWriter json, Session session)
    {
        if (OwnKeys(session) is { } own)
        {
            foreach (var (key, value) in own)
            {
                json.WritePropertyName(key);
                value.WriteTo(json);
            }
        }
    }

    private static Dictionary<string, JsonElement> ReadOwnKeys(Session session)
    {
        var own = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        OwnMetadata.ReadStored(session, property =>
        {
            if (property.Name is not (StoredJson.Apart or BranchMarker.Key))
            {
                own[property.Name] = property.Value;
            }
        });
        return own;
    }
}

/// <summary>A page of a user's sessions.</summary>
internal sealed record SessionListResponse(string? UserId, IReadOnlyList<SessionResponse> Sessions, bool HasMore, string? Next);

/// <summary>A page of a session's turns.</summary>
internal sealed record HistoryResponse(string SessionId, IReadOnlyList<TurnResponse> Turns, bool HasMore, string? Next);

/// <summary>A turn as the API shows it.</summary>
/// <param name="Turn">The turn.</param>
/// <param name="ItemsOf">The key of its session, where its items are to be shown.</param>
[JsonConverter(typeof(Converter))]
internal readonly record struct TurnResponse(Turn Turn, Guid? ItemsOf)
{
    /// <summary>Writes it. A history has many: they are written as they are, with nothing made for it in between.</summary>
    public sealed class Converter : WriteOnlyConverter<TurnResponse>
    {
        public override void Write(Utf8JsonWriter json, TurnResponse value, JsonSerializerOptions options)
        {
            var turn = value.Turn;
            json.WriteStartObject();
            json.WriteNumber(AnswerFields.Turn, turn.Number);
            WriteText(json, AnswerFields.Query, turn.Input.TextOf(ItemSide.Input));
            WriteText(json, AnswerFields.Response, turn.Output.TextOf(ItemSide.Output));
            json.WriteString(AnswerFields.AgentType, turn.AgentType);
            json.WriteString(AnswerFields.AgentUsed, turn.AgentUsed);
            WriteTime(json, AnswerFields.CreatedAt, turn.CreatedAt);
            WriteSeconds(json, AnswerFields.ExecutionTime, turn.ExecutionTime);
            json.WriteString(AnswerFields.Status, turn.Status.Name());
            WriteIfThere(json, AnswerFields.IncompleteReason, turn.IncompleteReason);
            WriteIfThere(json, AnswerFields.FinishReason, turn.FinishReason);
            WriteIfThere(json, AnswerFields.Model, turn.Model);
            if (turn.Parent != turn.Number - 1)
            {
                json.WriteNumber(AnswerFields.AfterTurn, turn.Parent);
            }

            if (UsageResponse.From(turn) is { } usage)
            {
                json.WritePropertyName(AnswerFields.Usage);
                JsonSerializer.Serialize(json, usage, ApiJson.Wire.UsageResponse);
            }

            if (value.ItemsOf is { } session)
            {
                WriteItems(json, AnswerFields.Input, ItemJson.Of(session, turn.Nonce, ItemSide.Input, turn.Input));
                WriteItems(json, AnswerFields.Output, ItemJson.Of(session, turn.Nonce, ItemSide.Output, turn.Output));
            }

            json.WriteEndObject();
        }

        private static void WriteItems(Utf8JsonWriter json, JsonEncodedText name, List<TurnItem> items)
        {
            json.WritePropertyName(name);
            ItemJson.Array(items).WriteTo(json);
        }
    }
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
internal sealed record CleanupResponse(int Removed, ApiSeconds ExecutionTime);
