using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Sessions.Api.Http.Native;
using Sessions.Api.Http.OpenAi;

namespace Sessions.Api.Http;

/// <summary>The JSON of the API, generated at compile time.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, AllowDuplicateProperties = false, MaxDepth = MaxDepth)]
[JsonSerializable(typeof(ActivityResponse))]
[JsonSerializable(typeof(AgentListResponse))]
[JsonSerializable(typeof(AppendTurnRequest))]
[JsonSerializable(typeof(CallerResponse))]
[JsonSerializable(typeof(CancelledResponse))]
[JsonSerializable(typeof(CleanupResponse))]
[JsonSerializable(typeof(CreateSessionRequest))]
[JsonSerializable(typeof(DeletedResponse))]
[JsonSerializable(typeof(ErasureResponse))]
[JsonSerializable(typeof(ForkRequest))]
[JsonSerializable(typeof(HistoryResponse))]
[JsonSerializable(typeof(JsonBody))]
[JsonSerializable(typeof(PatchSessionRequest))]
[JsonSerializable(typeof(Problem))]
[JsonSerializable(typeof(QueryRequest))]
[JsonSerializable(typeof(QueryResponse))]
[JsonSerializable(typeof(ServiceDescription))]
[JsonSerializable(typeof(SessionListResponse))]
[JsonSerializable(typeof(SessionResponse))]
[JsonSerializable(typeof(StatisticsResponse))]
[JsonSerializable(typeof(StreamDelta))]
[JsonSerializable(typeof(StreamStarted))]
[JsonSerializable(typeof(TurnContextResponse))]
[JsonSerializable(typeof(TurnResponse))]
[JsonSerializable(typeof(UsageAnswer))]
internal sealed partial class ApiJson : JsonSerializerContext
{
    /// <summary>How deep an answer may nest: many parsers read no deeper.</summary>
    public const int MaxDepth = 64;

    /// <summary>How deep JSON from a client may nest. Less: answers wrap what a client has stored.</summary>
    public const int MaxRequestDepth = MaxDepth - 8;

    /// <summary>The same, writing UTF-8 as it is: the answers are never embedded in HTML, and <c>\uXXXX</c> would treble them.</summary>
    public static ApiJson Wire => OnTheWire.Context;

    /// <summary>Gives the options of the framework, or our own, the settings of this context.</summary>
    public static JsonSerializerOptions Configure(JsonSerializerOptions options)
    {
        options.PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower;
        options.NumberHandling = JsonNumberHandling.Strict;
        options.Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping;
        return options;
    }

    // A class of its own: made after the generated statics that it copies from.
    private static class OnTheWire
    {
        public static readonly ApiJson Context = new(Configure(new JsonSerializerOptions(Default.Options) { TypeInfoResolver = null }));
    }
}
