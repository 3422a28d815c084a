using System.Globalization;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;

namespace Sessions.Api.Http.OpenAi;

/// <summary>A turn as a chat completion.</summary>
internal static class ChatCompletion
{
    /// <summary>The id of a completion.</summary>
    public static string IdOf(Guid sessionKey, TurnNonce nonce) =>
        string.Create(CultureInfo.InvariantCulture, $"chatcmpl-{sessionKey:N}{nonce.Value:x16}");

    /// <summary>The completion.</summary>
    public static ReadOnlyMemory<byte> Write(TurnResult result, string model) => Json.Write((result, model), static (json, x) =>
    {
        var turn = x.result.Turn;
        json.WriteStartObject();
        json.WriteString("id"u8, IdOf(x.result.SessionKey, turn.Nonce));
        json.WriteString("object"u8, "chat.completion"u8);
        json.WriteNumber("created"u8, turn.CreatedAt.ToUnixTimeSeconds());
        json.WriteString("model"u8, x.model);
        json.WriteStartArray("choices"u8);
        json.WriteStartObject();
        json.WriteNumber("index"u8, 0);
        WriteMessage(json, turn.Output);
        json.WriteNull("logprobs"u8);
        json.WriteString("finish_reason"u8, FinishReasonOf(turn));
        json.WriteEndObject();
        json.WriteEndArray();
        WriteUsage(json, turn.Usage);
        json.WriteEndObject();
    });

    /// <summary>Why the model stopped, in OpenAI's words.</summary>
    public static string FinishReasonOf(Turn turn) => turn switch
    {
        { IncompleteReason: "max_output_tokens" } => "length",
        { IncompleteReason: "content_filter" } => "content_filter",
        { FinishReason: "tool_calls" } => "tool_calls",
        _ => CallsOf(turn.Output).Count > 0 ? "tool_calls" : "stop",
    };

    /// <summary>Writes the usage; null where the provider did not tell.</summary>
    public static void WriteUsage(Utf8JsonWriter json, TokenUsage? usage)
    {
        if (usage is null or { InputTokens: null, OutputTokens: null })
        {
            json.WriteNull("usage"u8);
            return;
        }

        var (input, output, cached, reasoning) = usage;
        json.WriteStartObject("usage"u8);
        json.WriteNumber("prompt_tokens"u8, input ?? 0);
        json.WriteNumber("completion_tokens"u8, output ?? 0);
        json.WriteNumber("total_tokens"u8, (input ?? 0) + (output ?? 0));
        json.WriteStartObject("prompt_tokens_details"u8);
        json.WriteNumber("cached_tokens"u8, cached ?? 0);
        json.WriteEndObject();
        json.WriteStartObject("completion_tokens_details"u8);
        json.WriteNumber("reasoning_tokens"u8, reasoning ?? 0);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Writes a call of a function.</summary>
    public static void WriteCall(Utf8JsonWriter json, JsonElement call, int? index, bool withArguments)
    {
        json.WriteStartObject();
        if (index is { } place)
        {
            json.WriteNumber("index"u8, place);
        }

        json.WriteString("id"u8, call.GetProperty("call_id").GetString());
        json.WriteString("type"u8, "function"u8);
        json.WriteStartObject("function"u8);
        json.WriteString("name"u8, call.GetProperty("name").GetString());
        json.WriteString("arguments"u8, withArguments ? call.GetProperty("arguments").GetString() : "");
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteMessage(Utf8JsonWriter json, Items output)
    {
        json.WriteStartObject("message"u8);
        json.WriteString("role"u8, "assistant"u8);
        if (RefusalOf(output) is (var said, { } refusal))
        {
            json.WriteString("content"u8, said);
            json.WriteString("refusal"u8, refusal);
        }
        else
        {
            if (output.TextOf(ItemSide.Output) is { } text)
            {
                JsonText.WriteString(json, "content"u8, text.Span);
            }
            else
            {
                json.WriteNull("content"u8);
            }

            json.WriteNull("refusal"u8);
        }

        var calls = CallsOf(output);
        if (calls.Count > 0)
        {
            json.WriteStartArray("tool_calls"u8);
            foreach (var raw in calls)
            {
                WriteCall(json, JsonElement.Parse(raw.Span), index: null, withArguments: true);
            }

            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    // A refusal, and what was said beside it, as they are streamed.
    private static (string? Said, string? Refusal) RefusalOf(Items output)
    {
        (string? Said, string? Refusal) found = default;
        foreach (var raw in output.Form == ItemsForm.Json ? ItemJson.Split(output.Bytes) : [])
        {
            if (raw.Span[0] == (byte)'{' && JsonElement.Parse(raw.Span) is var item && ItemJson.TypeOf(raw.Span) == "message"
                && item.TryGetProperty("content", out var content) && content.ValueKind == JsonValueKind.Array)
            {
                foreach (var part in content.EnumerateArray())
                {
                    if (part.TryGetProperty("refusal", out var refusal))
                    {
                        found.Refusal += refusal.GetString();
                    }
                    else if (part.TryGetProperty("text", out var text))
                    {
                        found.Said += text.GetString();
                    }
                }
            }
        }

        return found;
    }

    private static List<ReadOnlyMemory<byte>> CallsOf(Items output) => output.Form != ItemsForm.Json ? []
        : [.. ItemJson.Split(output.Bytes).Where(raw => raw.Span[0] == (byte)'{' && ItemJson.TypeOf(raw.Span) == "function_call")];
}
