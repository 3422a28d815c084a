using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Sessions.Client.Http;

/// <summary>What goes over the wire, without reflection.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(CreateSessionOptions))]
[JsonSerializable(typeof(ForkSessionOptions))]
[JsonSerializable(typeof(NewTurn))]
[JsonSerializable(typeof(QueryOptions))]
[JsonSerializable(typeof(Session))]
[JsonSerializable(typeof(SessionPage))]
[JsonSerializable(typeof(Turn))]
[JsonSerializable(typeof(TurnPage))]
[JsonSerializable(typeof(QueryResult))]
[JsonSerializable(typeof(SessionStatistics))]
[JsonSerializable(typeof(CleanupResult))]
[JsonSerializable(typeof(UserErasure))]
[JsonSerializable(typeof(ConversationReference))]
[JsonSerializable(typeof(JsonObject))]
[JsonSerializable(typeof(JsonElement))]
internal sealed partial class SessionsJson : JsonSerializerContext;
