using System.Text.Json;
using System.Text.Json.Serialization;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.Native;

/// <summary>Writes what is only ever answered, by hand: for what is written often.</summary>
internal abstract class WriteOnlyConverter<T> : JsonConverter<T>
{
    public override T Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        throw new NotSupportedException($"A {typeof(T).Name} is only written.");

    protected static void WriteText(Utf8JsonWriter json, JsonEncodedText name, Utf8Text? text)
    {
        json.WritePropertyName(name);
        if (text is { } there)
        {
            there.WriteTo(json);
        }
        else
        {
            json.WriteNullValue();
        }
    }

    protected static void WriteIfThere(Utf8JsonWriter json, JsonEncodedText name, string? text)
    {
        if (text is not null)
        {
            json.WriteString(name, text);
        }
    }

    protected static void WriteTime(Utf8JsonWriter json, JsonEncodedText name, ApiTime time)
    {
        json.WritePropertyName(name);
        time.WriteTo(json);
    }

    protected static void WriteSeconds(Utf8JsonWriter json, JsonEncodedText name, ApiSeconds seconds)
    {
        json.WritePropertyName(name);
        seconds.WriteTo(json);
    }
}

/// <summary>Names of fields, made ready to be written.</summary>
internal static class AnswerFields
{
    public static readonly JsonEncodedText AfterTurn = JsonEncodedText.Encode("after_turn");
    public static readonly JsonEncodedText AgentType = JsonEncodedText.Encode("agent_type");
    public static readonly JsonEncodedText AgentUsed = JsonEncodedText.Encode("agent_used");
    public static readonly JsonEncodedText Context = JsonEncodedText.Encode("context");
    public static readonly JsonEncodedText CreatedAt = JsonEncodedText.Encode("created_at");
    public static readonly JsonEncodedText CreatedFrom = JsonEncodedText.Encode("created_from");
    public static readonly JsonEncodedText ErrorCount = JsonEncodedText.Encode("error_count");
    public static readonly JsonEncodedText ExecutionTime = JsonEncodedText.Encode("execution_time");
    public static readonly JsonEncodedText ExpiresAt = JsonEncodedText.Encode("expires_at");
    public static readonly JsonEncodedText FinishReason = JsonEncodedText.Encode("finish_reason");
    public static readonly JsonEncodedText IncompleteReason = JsonEncodedText.Encode("incomplete_reason");
    public static readonly JsonEncodedText Input = JsonEncodedText.Encode("input");
    public static readonly JsonEncodedText LastActivityAt = JsonEncodedText.Encode("last_activity_at");
    public static readonly JsonEncodedText LastAgentType = JsonEncodedText.Encode("last_agent_type");
    public static readonly JsonEncodedText LastAgentUsed = JsonEncodedText.Encode("last_agent_used");
    public static readonly JsonEncodedText LastError = JsonEncodedText.Encode("last_error");
    public static readonly JsonEncodedText LastExecutionTime = JsonEncodedText.Encode("last_execution_time");
    public static readonly JsonEncodedText LastQuery = JsonEncodedText.Encode("last_query");
    public static readonly JsonEncodedText LastResponse = JsonEncodedText.Encode("last_response");
    public static readonly JsonEncodedText Metadata = JsonEncodedText.Encode("metadata");
    public static readonly JsonEncodedText Model = JsonEncodedText.Encode("model");
    public static readonly JsonEncodedText Output = JsonEncodedText.Encode("output");
    public static readonly JsonEncodedText Query = JsonEncodedText.Encode("query");
    public static readonly JsonEncodedText QueryCount = JsonEncodedText.Encode("query_count");
    public static readonly JsonEncodedText Response = JsonEncodedText.Encode("response");
    public static readonly JsonEncodedText SessionId = JsonEncodedText.Encode("session_id");
    public static readonly JsonEncodedText Status = JsonEncodedText.Encode("status");
    public static readonly JsonEncodedText Turn = JsonEncodedText.Encode("turn");
    public static readonly JsonEncodedText Usage = JsonEncodedText.Encode("usage");
    public static readonly JsonEncodedText UserId = JsonEncodedText.Encode("user_id");
    public static readonly JsonEncodedText Version = JsonEncodedText.Encode("version");
}
