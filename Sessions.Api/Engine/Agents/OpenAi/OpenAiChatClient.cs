using System.Buffers;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;
using OpenAI.Chat;
using AiMessage = Microsoft.Extensions.AI.ChatMessage;

namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>
/// What the library's adapter for chat completions leaves out: calls piece by piece and with their arguments as they were written,
/// refusals in streams, files of any type, schemas as they were given,
/// and parameters that have no name in it.
/// </summary>
internal sealed class OpenAiChatClient(IChatClient inner) : DelegatingChatClient(inner)
{
    public override async Task<ChatResponse> GetResponseAsync(IEnumerable<AiMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        var response = await base.GetResponseAsync(messages.Select(Message), Options(options), cancellationToken);
        foreach (var message in response.Messages)
        {
            foreach (var content in message.Contents)
            {
                if (content is FunctionCallContent { RawRepresentation: ChatToolCall call })
                {
                    content.RawRepresentation = new CallArguments(call.FunctionArguments.ToString());
                }
            }

            // In a stream, too, thoughts come first.
            message.Contents = [.. message.Contents.OrderBy(content => content is TextReasoningContent ? 0 : 1)];
        }

        return response;
    }

    public override async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<AiMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        Dictionary<int, StringBuilder> arguments = [];
        Dictionary<string, StringBuilder> argumentsOf = new(StringComparer.Ordinal);
        await foreach (var update in base.GetStreamingResponseAsync(messages.Select(Message), Options(options), cancellationToken))
        {
            if (update.RawRepresentation is StreamingChatCompletionUpdate raw)
            {
                AddPieces(update, raw, arguments, argumentsOf);
            }
            else
            {
                // The end: calls as a whole, for those who run functions; here they were told before.
                for (var i = update.Contents.Count - 1; i >= 0; i--)
                {
                    if (update.Contents[i] is FunctionCallContent call)
                    {
                        call.RawRepresentation = new CallArguments(argumentsOf.GetValueOrDefault(call.CallId)?.ToString() ?? "", IsTold: true);
                    }
                    else if (update.Contents[i] is ErrorContent { ErrorCode: OutputBuilder.Refusal })
                    {
                        update.Contents.RemoveAt(i);
                    }
                }
            }

            yield return update;
        }
    }

    private static void AddPieces(
        ChatResponseUpdate update, StreamingChatCompletionUpdate raw, Dictionary<int, StringBuilder> arguments, Dictionary<string, StringBuilder> argumentsOf)
    {
        if (raw.RefusalUpdate is { Length: > 0 } refusal)
        {
            update.Contents.Add(new ErrorContent(refusal) { ErrorCode = OutputBuilder.Refusal });
        }

        foreach (var piece in raw.ToolCallUpdates)
        {
            var more = piece.FunctionArgumentsUpdate?.ToString() ?? "";
            if (piece.ToolCallId is { } callId)
            {
                argumentsOf[callId] = arguments[piece.Index] = new StringBuilder();
            }

            arguments.GetValueOrDefault(piece.Index)?.Append(more);
            update.Contents.Add(new CallPieceContent(piece.Index, piece.ToolCallId, piece.FunctionName, more));
        }
    }

    private static AiMessage Message(AiMessage message)
    {
        if (message.Role != ChatRole.Assistant)
        {
            return message.Contents.Any(IsFile) ? new AiMessage(message.Role, [.. message.Contents.Select(FilePart)]) : message;
        }

        // Chat completions have no place for thoughts of before.
        var calls = message.Contents.OfType<FunctionCallContent>().Select(ToolCall).ToList();
        if (calls.Count == 0)
        {
            return message;
        }

        var said = new AssistantChatMessage(calls);
        foreach (var text in message.Contents.OfType<TextContent>())
        {
            said.Content.Add(ChatMessageContentPart.CreateTextPart(text.Text));
        }

        return new AiMessage(ChatRole.Assistant, message.Contents) { RawRepresentation = said };
    }

    private static ChatToolCall ToolCall(FunctionCallContent call) => ChatToolCall.CreateFunctionToolCall(
        call.CallId, call.Name, BinaryData.FromString(call.RawRepresentation is CallArguments arguments ? arguments.Text : CallJson.Write(call.Arguments)));

    private static bool IsFile(AIContent content) => content is DataContent data && !data.HasTopLevelMediaType("image");

    private static AIContent FilePart(AIContent content)
    {
        if (IsFile(content) && content is DataContent data)
        {
#pragma warning disable OPENAI001 // Marked as experimental; the version is pinned, and a test holds it to what is used here.
            content.RawRepresentation = ChatMessageContentPart.CreateFilePart(BinaryData.FromBytes(data.Data), data.MediaType, data.Name ?? "file");
#pragma warning restore OPENAI001
        }

        return content;
    }

    private static ChatOptions? Options(ChatOptions? options)
    {
        if (options is null)
        {
            return null;
        }

        // The library makes strict schemas of all, and drops what it does not know of them; they are passed on as they are.
        var asked = options.AdditionalProperties?.TryGetValue(AgentOptions.Key, out var value) == true ? value as AnswerOptions : null;
        var tools = options.Tools?.OfType<AIFunctionDeclaration>().ToList();
        var passed = options.Clone();
        passed.AdditionalProperties = null;
        passed.Tools = options.Tools?.Where(tool => tool is not AIFunctionDeclaration).ToList();
        passed.RawRepresentationFactory = _ => Request(options, asked ?? AnswerOptions.None, tools);
        return passed;
    }

    private static ChatCompletionOptions Request(ChatOptions options, AnswerOptions asked, List<AIFunctionDeclaration>? tools)
    {
        var request = new ChatCompletionOptions();
        if (tools is { Count: > 0 })
        {
            foreach (var tool in tools)
            {
                var parameters = tool is ClientFunction { HasParameters: false } ? null : BinaryData.FromString(tool.JsonSchema.GetRawText());
                request.Tools.Add(ChatTool.CreateFunctionTool(tool.Name, tool.Description is { Length: > 0 } description ? description : null, parameters, (tool as ClientFunction)?.Strict));
            }

            request.AllowParallelToolCalls = options.AllowMultipleToolCalls;
            request.ToolChoice = options.ToolMode switch
            {
                NoneChatToolMode => ChatToolChoice.CreateNoneChoice(),
                RequiredChatToolMode { RequiredFunctionName: { } name } => ChatToolChoice.CreateFunctionChoice(name),
                RequiredChatToolMode => ChatToolChoice.CreateRequiredChoice(),
                AutoChatToolMode => ChatToolChoice.CreateAutoChoice(),
                _ => null,
            };
        }

#pragma warning disable SCME0001 // Marked as experimental; the version is pinned, and tests hold it to what is used here.
        foreach (var (name, json) in Others(asked))
        {
            request.Patch.Set([.. "$."u8, .. Encoding.ASCII.GetBytes(name)], json);
        }
#pragma warning restore SCME0001

        return request;
    }

    // As chat completions name them, in JSON.
    private static IEnumerable<(string Name, byte[] Json)> Others(AnswerOptions asked)
    {
        if (asked.ReasoningEffort is { } effort)
        {
            yield return ("reasoning_effort", Write(json => json.WriteStringValue(effort)));
        }

        if (asked.Verbosity is { } verbosity)
        {
            yield return ("verbosity", Write(json => json.WriteStringValue(verbosity)));
        }

        if (asked.Format is { } format)
        {
            yield return ("response_format", Write(json => WriteFormat(json, format)));
        }

        foreach (var (name, value) in asked.Others ?? System.Collections.Frozen.FrozenDictionary<string, JsonElement>.Empty)
        {
            yield return (name, Write(value.WriteTo));
        }
    }

    private static void WriteFormat(Utf8JsonWriter json, ResponseFormat format)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, format.Type);
        if (format.Type == "json_schema")
        {
            json.WriteStartObject("json_schema"u8);
            json.WriteString("name"u8, format.Name ?? "answer");
            if (format.Description is not null)
            {
                json.WriteString("description"u8, format.Description);
            }

            if (format.Schema is { } schema)
            {
                json.WritePropertyName("schema"u8);
                schema.WriteTo(json);
            }

            if (format.Strict is { } strict)
            {
                json.WriteBoolean("strict"u8, strict);
            }

            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    private static byte[] Write(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            write(json);
        }

        return buffer.WrittenSpan.ToArray();
    }
}
