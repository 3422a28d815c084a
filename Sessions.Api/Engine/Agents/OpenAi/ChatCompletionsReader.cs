using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>
/// Reads what endpoints call chat completions, whole or piece by piece. OpenAI's own answers are the least of it: other servers leave out
/// finish reasons or have more of them, count tokens as 1.0 or not at all, number their calls in other ways, and put errors where an
/// answer should be. What is told beside the text is kept as it was told.
/// </summary>
/// <param name="answer">Gets what is told beside the text.</param>
/// <param name="call">Gets an error.</param>
internal sealed class ChatCompletionsReader(ProviderAnswer answer, AgentCall call)
{
    // In the order in which they came: that is their own index, whatever their provider's is.
    private readonly List<Call> _calls = [];

    /// <summary>Reads one piece of an answer.</summary>
    /// <exception cref="ProviderException">It is an error.</exception>
    /// <exception cref="FormatException">It is not a chat completion.</exception>
    /// <exception cref="JsonException">It is not JSON.</exception>
    public ChatResponseUpdate ReadPiece(ReadOnlySpan<byte> json) => ReadPiece(json, isWhole: false);

    private ChatResponseUpdate ReadPiece(ReadOnlySpan<byte> json, bool isWhole)
    {
        var copy = ArrayPool<byte>.Shared.Rent(json.Length);
        try
        {
            json.CopyTo(copy);
            using var document = JsonDocument.Parse(copy.AsMemory(0, json.Length));
            var choice = ReadFrame(document.RootElement, out var usage);

            // Mostly there is one.
            var update = new ChatResponseUpdate { Role = ChatRole.Assistant, ModelId = answer.Model, Contents = new List<AIContent>(1) };
            if (choice.ValueKind == JsonValueKind.Object)
            {
                ReadChoice(update.Contents, choice);
                var isLast = isWhole || TextOf(choice, "finish_reason"u8) is { Length: > 0 };
                update.FinishReason = isLast ? new ChatFinishReason(KnownReason) : null;
            }
            else if (isWhole)
            {
                throw new FormatException("No choice.");
            }

            if (IsCountable(usage))
            {
                update.Contents.Add(new UsageContent(new UsageDetails
                {
                    InputTokenCount = usage!.InputTokens,
                    OutputTokenCount = usage.OutputTokens,
                    TotalTokenCount = usage.InputTokens + usage.OutputTokens,
                }));
            }

            return update;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(copy);
        }
    }

    /// <summary>Reads a whole answer.</summary>
    /// <inheritdoc cref="ReadPiece(ReadOnlySpan{byte})"/>
    public ChatResponse ReadAnswer(ReadOnlySpan<byte> json)
    {
        var whole = ReadPiece(json, isWhole: true);
        var calls = Calls(areTold: false)?.Contents ?? [];
        return new ChatResponse(new ChatMessage(ChatRole.Assistant,
            [.. whole.Contents.Where(content => content is not CallPieceContent and not UsageContent), .. calls]))
        {
            FinishReason = whole.FinishReason,
            ModelId = whole.ModelId,
            Usage = whole.Contents.OfType<UsageContent>().FirstOrDefault()?.Details,
        };
    }

    /// <summary>The calls as a whole, for those who run functions. Null where there are none.</summary>
    /// <param name="areTold">Whether they were told piece by piece already.</param>
    public ChatResponseUpdate? Calls(bool areTold) => _calls.Count == 0 ? null : new ChatResponseUpdate
    {
        Role = ChatRole.Assistant,
        ModelId = answer.Model,
        Contents = [.. _calls.Select(AIContent (made) => made.Whole(areTold))],
    };

    // What is around a choice; the choice is undefined where there is none.
    private JsonElement ReadFrame(JsonElement root, out TokenUsage? usage)
    {
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw new FormatException("Not a JSON object.");
        }

        ThrowIfError(root);
        answer.Model ??= TextOf(root, "model"u8) is { Length: > 0 and <= 256 } model ? model : null;
        usage = root.TryGetProperty("usage"u8, out var given) && given.ValueKind == JsonValueKind.Object ? ReadUsage(given) : null;
        answer.Usage = usage ?? answer.Usage;
        var choice = root.TryGetProperty("choices"u8, out var choices) && choices.ValueKind == JsonValueKind.Array
            && choices.GetArrayLength() > 0
            ? choices[0]
            : default;
        if (choice.ValueKind == JsonValueKind.Object)
        {
            ThrowIfError(choice);
            ReadFinishReason(choice);
        }

        return choice;
    }

    private void ReadChoice(IList<AIContent> contents, JsonElement choice)
    {
        if (!TryGetSaid(choice, out var said))
        {
            return;
        }

        // Some servers send the same thoughts under both names. They come before what is said.
        if ((TextOf(said, "reasoning_content"u8) ?? TextOf(said, "reasoning"u8)) is { Length: > 0 } thoughts)
        {
            contents.Add(new TextReasoningContent(thoughts));
        }

        if (said.TryGetProperty("content"u8, out var content) && ContentOf(content) is { Length: > 0 } text)
        {
            contents.Add(new TextContent(text));
        }

        if (TextOf(said, "refusal"u8) is { Length: > 0 } refusal)
        {
            contents.Add(new ErrorContent(refusal) { ErrorCode = OutputBuilder.Refusal });
        }

        if (said.TryGetProperty("tool_calls"u8, out var calls) && calls.ValueKind == JsonValueKind.Array)
        {
            var position = 0;
            foreach (var piece in calls.EnumerateArray())
            {
                var function = FunctionOf(piece);
                var (index, isFirst) = Identify(piece, function, position++);
                var made = _calls[index];
                var arguments = ArgumentsOf(function) ?? "";
                made.Arguments.Append(arguments);
                contents.Add(new CallPieceContent(index, isFirst ? made.Id : null, isFirst ? made.Name : null, arguments));
            }
        }
    }

    private static bool TryGetSaid(JsonElement choice, out JsonElement said) =>
        (choice.TryGetProperty("delta"u8, out said) || choice.TryGetProperty("message"u8, out said))
            && said.ValueKind == JsonValueKind.Object;

    private static string? ContentOf(JsonElement content) => content.ValueKind switch
    {
        JsonValueKind.String => content.GetString(),
        JsonValueKind.Array => string.Concat(content.EnumerateArray().Select(part => TextOf(part, "text"u8))),
        _ => null,
    };

    private static JsonElement FunctionOf(JsonElement call) =>
        call.ValueKind == JsonValueKind.Object && call.TryGetProperty("function"u8, out var given)
            && given.ValueKind == JsonValueKind.Object
            ? given
            : default;

    private static string? ArgumentsOf(JsonElement function) =>
        function.ValueKind != JsonValueKind.Object || !function.TryGetProperty("arguments"u8, out var arguments)
            || arguments.ValueKind == JsonValueKind.Null ? null
        : arguments.ValueKind == JsonValueKind.String ? arguments.GetString()
        : arguments.GetRawText();

    private void ThrowIfError(JsonElement element)
    {
        var isError = element.TryGetProperty("error"u8, out var error) && error.ValueKind is JsonValueKind.Object or JsonValueKind.String;
        if (isError
            || (element.TryGetProperty("object"u8, out var kind) && kind.ValueKind == JsonValueKind.String && kind.ValueEquals("error"u8)))
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
        if (TextOf(choice, "finish_reason"u8) is { Length: > 0 } reason)
        {
            if (reason.Equals("error", StringComparison.OrdinalIgnoreCase))
            {
                throw Refused(choice);
            }

            answer.FinishReason = ProviderRefusals.IsWord(reason) ? reason : "other";
        }
    }

    // The libraries know these. What was said is told by ProviderAnswer.
    private string KnownReason => answer.FinishReason is "length" or "tool_calls" or "content_filter" ? answer.FinishReason : "stop";

    // A call is another one when it has another id, or a name at an index that none had; some servers leave out the index, others the id.
    private (int Index, bool IsFirst) Identify(JsonElement piece, JsonElement function, int position)
    {
        var theirs = piece.ValueKind == JsonValueKind.Object && piece.TryGetProperty("index"u8, out var number)
            && number.ValueKind == JsonValueKind.Number && number.TryGetInt32(out var given) ? given : position;
        var id = TextOf(piece, "id"u8);
        var known = _calls.FindLastIndex(call => call.Index == theirs);
        if (known >= 0 && (string.IsNullOrEmpty(id) || _calls[known].Id == id))
        {
            return (known, false);
        }

        if (TextOf(function, "name"u8) is not { Length: > 0 } name)
        {
            throw new FormatException("A piece of a call that was not begun.");
        }

        _calls.Add(new Call(theirs, string.IsNullOrEmpty(id) ? $"call_{Guid.NewGuid():N}" : id, name));
        return (_calls.Count - 1, true);
    }

    private static TokenUsage? ReadUsage(JsonElement usage)
    {
        var read = new TokenUsage(
            Tokens(usage, "prompt_tokens"u8), Tokens(usage, "completion_tokens"u8),
            Tokens(usage, "prompt_tokens_details"u8, "cached_tokens"u8),
            Tokens(usage, "completion_tokens_details"u8, "reasoning_tokens"u8));
        return read == new TokenUsage(null, null) ? null : read;
    }

    private static long? Tokens(JsonElement usage, ReadOnlySpan<byte> name, ReadOnlySpan<byte> inner) =>
        usage.TryGetProperty(name, out var details) && details.ValueKind == JsonValueKind.Object ? Tokens(details, inner) : null;

    // As whole numbers, however they are written; what is no number of tokens is none.
    private static long? Tokens(JsonElement usage, ReadOnlySpan<byte> name)
    {
        if (!usage.TryGetProperty(name, out var value))
        {
            return null;
        }

        var text = value.ValueKind switch
        {
            JsonValueKind.Number => value.GetRawText(),
            JsonValueKind.String => TextOf(usage, name),
            _ => null,
        };
        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var whole) ? whole
            : double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number is >= 0 and < long.MaxValue
                ? (long)number
            : null;
    }

    // For spans and metrics of the libraries, which hold 32 bits.
    private static bool IsCountable(TokenUsage? usage) =>
        usage is { InputTokens: { } input, OutputTokens: { } output } && input + (Int128)output <= int.MaxValue;

    private static string? TextOf(JsonElement element, ReadOnlySpan<byte> name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var text) && text.ValueKind == JsonValueKind.String
            ? text.GetString()
            : null;

    // A call and its arguments, as far as they have come.
    private sealed record Call(int Index, string Id, string Name)
    {
        public StringBuilder Arguments { get; } = new();

        public FunctionCallContent Whole(bool isTold)
        {
            var arguments = Arguments.ToString();
            return new FunctionCallContent(Id, Name, CallArguments.Parse(arguments))
            {
                RawRepresentation = new CallArguments(arguments, isTold),
            };
        }
    }
}
