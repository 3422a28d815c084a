using System.Buffers;
using System.Globalization;
using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>
/// Reads what endpoints call chat completions, and writes of it what the library can read. OpenAI's own client takes OpenAI's own
/// answers; other servers leave out finish reasons or have more of them,
/// count tokens as 1.0 or not at all, number their calls in other ways, and put errors where an answer should be. What is told beside the
/// text is kept as it was told.
/// </summary>
/// <param name="answer">Gets what is told beside the text.</param>
/// <param name="call">Gets an error.</param>
internal sealed class ChatCompletionsReader(ProviderAnswer answer, AgentCall call)
{
    // Of each call, its provider's index and id; its own index is where it stands.
    private readonly List<(int Index, string Id)> _calls = [];

    /// <summary>Writes one piece, or a whole answer.</summary>
    /// <param name="json">What came.</param>
    /// <param name="isPiece">Whether a piece is wanted, or a whole answer.</param>
    /// <exception cref="ProviderException">It is an error.</exception>
    /// <exception cref="FormatException">It is not a chat completion.</exception>
    /// <exception cref="JsonException">It is not JSON.</exception>
    public byte[] Rewrite(ReadOnlyMemory<byte> json, bool isPiece)
    {
        using var document = JsonDocument.Parse(json);
        var root = document.RootElement;
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw new FormatException("Not a JSON object.");
        }

        ThrowIfError(root);
        answer.Model ??= TextOf(root, "model") is { Length: > 0 and <= 256 } model ? model : null;
        var usage = root.TryGetProperty("usage", out var given) && given.ValueKind == JsonValueKind.Object ? ReadUsage(given) : null;
        answer.Usage = usage ?? answer.Usage;
        var choice = root.TryGetProperty("choices", out var choices) && choices.ValueKind == JsonValueKind.Array && choices.GetArrayLength() > 0 ? choices[0] : default;
        if (choice.ValueKind == JsonValueKind.Object)
        {
            ThrowIfError(choice);
            ReadFinishReason(choice);
        }
        else if (!isPiece)
        {
            throw new FormatException("No choice.");
        }

        var buffer = new ArrayBufferWriter<byte>(json.Length + 128);
        using (var writer = new Utf8JsonWriter(buffer, new JsonWriterOptions { SkipValidation = true }))
        {
            writer.WriteStartObject();
            writer.WriteString("id"u8, "chatcmpl"u8);
            writer.WriteString("object"u8, isPiece ? "chat.completion.chunk"u8 : "chat.completion"u8);
            writer.WriteNumber("created"u8, 0);
            writer.WriteString("model"u8, answer.Model ?? "");
            writer.WriteStartArray("choices"u8);
            if (choice.ValueKind == JsonValueKind.Object)
            {
                WriteChoice(writer, choice, isPiece);
            }

            writer.WriteEndArray();
            WriteUsage(writer, usage);
            writer.WriteEndObject();
        }

        return buffer.WrittenSpan.ToArray();
    }

    private void ThrowIfError(JsonElement element)
    {
        var isError = element.TryGetProperty("error", out var error) && error.ValueKind is JsonValueKind.Object or JsonValueKind.String;
        if (isError || (element.TryGetProperty("object", out var kind) && kind.ValueKind == JsonValueKind.String && kind.ValueEquals("error"u8)))
        {
            throw Refused(isError ? error : element);
        }
    }

    private ProviderException Refused(JsonElement error)
    {
        call.Refusal = ProviderRefusals.Read(error, status: null, retryAfter: null);
        return new ProviderException(ProviderFault.Refused);
    }

    /// <summary>An event that is an error by its name.</summary>
    public ProviderException RefusedBy(ReadOnlyMemory<byte> json)
    {
        call.Refusal = ProviderRefusals.Read(json, status: null, retryAfter: null);
        return new ProviderException(ProviderFault.Refused);
    }

    private void ReadFinishReason(JsonElement choice)
    {
        if (TextOf(choice, "finish_reason") is { Length: > 0 } reason)
        {
            if (reason.Equals("error", StringComparison.OrdinalIgnoreCase))
            {
                throw Refused(choice);
            }

            answer.FinishReason = ProviderRefusals.IsWord(reason) ? reason : "other";
        }
    }

    private void WriteChoice(Utf8JsonWriter writer, JsonElement choice, bool isPiece)
    {
        writer.WriteStartObject();
        writer.WriteNumber("index"u8, 0);
        writer.WriteStartObject(isPiece ? "delta"u8 : "message"u8);
        writer.WriteString("role"u8, "assistant"u8);
        var hasContent = false;
        if ((choice.TryGetProperty("delta", out var said) || choice.TryGetProperty("message", out said)) && said.ValueKind == JsonValueKind.Object)
        {
            foreach (var member in said.EnumerateObject())
            {
                switch (member.Name)
                {
                    case "content" when member.Value.ValueKind == JsonValueKind.String:
                        Copy(writer, "content"u8, member.Value);
                        hasContent = true;
                        break;
                    case "content" when member.Value.ValueKind == JsonValueKind.Array:
                        writer.WriteString("content"u8, string.Concat(member.Value.EnumerateArray().Select(part => TextOf(part, "text"))));
                        hasContent = true;
                        break;
                    case "refusal" when member.Value.ValueKind == JsonValueKind.String:
                        Copy(writer, "refusal"u8, member.Value);
                        break;
                    case "reasoning_content" or "reasoning" when member.Value.ValueKind == JsonValueKind.String && member.Name == ReasoningOf(said):
                        Copy(writer, "reasoning_content"u8, member.Value);
                        break;
                    case "tool_calls" when member.Value.ValueKind == JsonValueKind.Array:
                        WriteCalls(writer, member.Value, isPiece);
                        break;
                }
            }
        }

        if (!hasContent && !isPiece)
        {
            writer.WriteNull("content"u8);
        }

        writer.WriteEndObject();
        WriteFinishReason(writer, choice, isPiece);
        writer.WriteEndObject();
    }

    // Some servers send the same thoughts under both names.
    private static string ReasoningOf(JsonElement said) =>
        said.TryGetProperty("reasoning_content", out var named) && named.ValueKind == JsonValueKind.String ? "reasoning_content" : "reasoning";

    private void WriteFinishReason(Utf8JsonWriter writer, JsonElement choice, bool isPiece)
    {
        if (isPiece && TextOf(choice, "finish_reason") is not { Length: > 0 })
        {
            writer.WriteNull("finish_reason"u8);
        }
        else
        {
            // The library knows these and throws at others. What was said is told by ProviderAnswer.
            writer.WriteString("finish_reason"u8, answer.FinishReason is "length" or "tool_calls" or "content_filter" ? answer.FinishReason : "stop");
        }
    }

    private void WriteCalls(Utf8JsonWriter writer, JsonElement calls, bool isPiece)
    {
        writer.WriteStartArray("tool_calls"u8);
        var position = 0;
        foreach (var piece in calls.EnumerateArray())
        {
            var function = piece.ValueKind == JsonValueKind.Object && piece.TryGetProperty("function", out var given) && given.ValueKind == JsonValueKind.Object ? given : default;
            var (index, isFirst) = Identify(piece, function, position++);
            writer.WriteStartObject();
            if (isPiece)
            {
                writer.WriteNumber("index"u8, index);
            }

            if (isFirst)
            {
                writer.WriteString("id"u8, _calls[index].Id);
                writer.WriteString("type"u8, "function"u8);
            }

            writer.WriteStartObject("function"u8);
            if (isFirst)
            {
                writer.WriteString("name"u8, TextOf(function, "name") ?? throw new FormatException("A call without a name."));
            }

            if (function.ValueKind == JsonValueKind.Object && function.TryGetProperty("arguments", out var arguments) && arguments.ValueKind != JsonValueKind.Null)
            {
                if (arguments.ValueKind == JsonValueKind.String)
                {
                    Copy(writer, "arguments"u8, arguments);
                }
                else
                {
                    writer.WriteString("arguments"u8, arguments.GetRawText());
                }
            }
            else if (!isPiece)
            {
                writer.WriteString("arguments"u8, ""u8);
            }

            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    // A call is another one when it has another id, or a name at an index that none had; some servers leave out the index, others the id.
    private (int Index, bool IsFirst) Identify(JsonElement piece, JsonElement function, int position)
    {
        var theirs = piece.ValueKind == JsonValueKind.Object && piece.TryGetProperty("index", out var number) && number.ValueKind == JsonValueKind.Number && number.TryGetInt32(out var given)
            ? given : position;
        var id = TextOf(piece, "id");
        var known = _calls.FindLastIndex(call => call.Index == theirs);
        if (known >= 0 && (string.IsNullOrEmpty(id) || _calls[known].Id == id))
        {
            return (known, false);
        }

        if (TextOf(function, "name") is not { Length: > 0 })
        {
            throw new FormatException("A piece of a call that was not begun.");
        }

        _calls.Add((theirs, string.IsNullOrEmpty(id) ? $"call_{Guid.NewGuid():N}" : id));
        return (_calls.Count - 1, true);
    }

    private static TokenUsage? ReadUsage(JsonElement usage)
    {
        var read = new TokenUsage(
            Tokens(usage, "prompt_tokens"), Tokens(usage, "completion_tokens"),
            Tokens(usage, "prompt_tokens_details", "cached_tokens"), Tokens(usage, "completion_tokens_details", "reasoning_tokens"));
        return read == default ? null : read;
    }

    private static long? Tokens(JsonElement usage, string name, string inner) =>
        usage.TryGetProperty(name, out var details) && details.ValueKind == JsonValueKind.Object ? Tokens(details, inner) : null;

    // As whole numbers, however they are written; what is no number of tokens is none.
    private static long? Tokens(JsonElement usage, string name)
    {
        if (!usage.TryGetProperty(name, out var value))
        {
            return null;
        }

        var text = value.ValueKind switch { JsonValueKind.Number => value.GetRawText(), JsonValueKind.String => TextOf(usage, name), _ => null };
        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var whole) ? whole
            : double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number is >= 0 and < long.MaxValue ? (long)number
            : null;
    }

    // For spans and metrics of the libraries, which hold 32 bits.
    private static void WriteUsage(Utf8JsonWriter writer, TokenUsage? usage)
    {
        if (usage is { InputTokens: { } input, OutputTokens: { } output } && input + (Int128)output <= int.MaxValue)
        {
            writer.WriteStartObject("usage"u8);
            writer.WriteNumber("prompt_tokens"u8, input);
            writer.WriteNumber("completion_tokens"u8, output);
            writer.WriteNumber("total_tokens"u8, input + output);
            writer.WriteEndObject();
        }
    }

    // As it is written: half a surrogate pair is for the library to refuse.
    private static void Copy(Utf8JsonWriter writer, ReadOnlySpan<byte> name, JsonElement value)
    {
        writer.WritePropertyName(name);
        writer.WriteRawValue(value.GetRawText(), skipInputValidation: true);
    }

    private static string? TextOf(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var text) && text.ValueKind == JsonValueKind.String ? text.GetString() : null;
}
