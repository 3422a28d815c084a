using System.Buffers;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;
using OpenAI.Responses;

namespace Sessions.Api.Engine.Agents.OpenAi;

#pragma warning disable OPENAI001, SCME0001 // Marked as experimental; the version is pinned, and tests hold it to what is used here.

/// <summary>
/// Asks an endpoint by Responses: nothing is stored there, as the history is here, and what the model thought comes back sealed, to be
/// given to it again.
/// </summary>
/// <param name="inner">The library's adapter.</param>
/// <param name="keepsReasoning">Whether sealed thoughts are asked for.</param>
internal sealed class ResponsesChatClient(IChatClient inner, bool keepsReasoning) : DelegatingChatClient(inner)
{
    public override async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        var response = await base.GetResponseAsync(messages.Select(Message), Options(options), cancellationToken);
        response.ConversationId = null;
        foreach (var message in response.Messages)
        {
            KeepArguments(message.Contents);
        }

        return response;
    }

    public override async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages,
        ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await foreach (var update in base.GetStreamingResponseAsync(messages.Select(Message), Options(options), cancellationToken))
        {
            // The history is ours: the library is not to take the response for a place where it lies.
            update.ConversationId = null;
            KeepArguments(update.Contents);
            if (update is { FinishReason: null, RawRepresentation: StreamingResponseIncompleteUpdate { Response: var cut } })
            {
                // Which the adapter tells of an answer at once alone.
                update.FinishReason = cut.IncompleteStatusDetails?.Reason?.ToString() == "content_filter"
                    ? ChatFinishReason.ContentFilter : ChatFinishReason.Length;
            }

            yield return update;
        }
    }

    // As the model wrote them.
    private static void KeepArguments(IList<AIContent> contents)
    {
        foreach (var content in contents)
        {
            if (content is FunctionCallContent { RawRepresentation: FunctionCallResponseItem call })
            {
                content.RawRepresentation = new CallArguments(call.FunctionArguments.ToString());
            }
        }
    }

    // What the adapter would drop or write anew: refusals, files that are no PDF, arguments as a model wrote them.
    private static ChatMessage Message(ChatMessage message) =>
        new(message.Role,
            [.. message.Contents.Select(content => Raw(content) is { } raw ? new AIContent { RawRepresentation = raw } : content)]);

    private static object? Raw(AIContent content) => content switch
    {
        ErrorContent { ErrorCode: OutputBuilder.Refusal } refusal =>
            ResponseItem.CreateAssistantMessageItem([ResponseContentPart.CreateRefusalPart(refusal.Message)]),
        DataContent file when !file.HasTopLevelMediaType("image") =>
            ResponseContentPart.CreateInputFilePart(BinaryData.FromBytes(file.Data), file.MediaType, file.Name ?? "file"),
        FunctionCallContent { RawRepresentation: CallArguments arguments } call =>
            ResponseItem.CreateFunctionCallItem(call.CallId, call.Name, BinaryData.FromString(arguments.Text)),
        _ => null,
    };

    private ChatOptions Options(ChatOptions? options)
    {
        var asked = StandardOptions.Asked(options);
        var passed = options?.Clone() ?? new ChatOptions();
        passed.AdditionalProperties = null;
        passed.Tools = options?.Tools?.Select(tool => tool is AIFunctionDeclaration function ? Tool(function) : tool).ToList();
        passed.RawRepresentationFactory = _ => Request(asked);
        return passed;
    }

    // With its schema as it was given.
    private static AITool Tool(AIFunctionDeclaration function)
    {
        var hasParameters = function is not ClientFunction { HasParameters: false };
        return ResponseTool.CreateFunctionTool(
            function.Name,
            hasParameters ? BinaryData.FromString(function.JsonSchema.GetRawText()) : null,
            (function as ClientFunction)?.Strict,
            function.Description is { Length: > 0 } description ? description : null).AsAITool();
    }

    private CreateResponseOptions Request(AnswerOptions asked)
    {
        var request = new CreateResponseOptions { StoredOutputEnabled = false };
        if (keepsReasoning)
        {
            request.IncludedProperties.Add(IncludedResponseProperty.ReasoningEncryptedContent);
        }

        if (asked.ReasoningEffort is { } effort)
        {
            request.Patch.Set("$.reasoning"u8, Encoding.UTF8.GetBytes($$"""{"effort":"{{effort}}"}"""));
        }

        if (asked.Format is not null || asked.Verbosity is not null)
        {
            request.Patch.Set("$.text"u8, Text(asked).Span);
        }

        foreach (var (name, value) in asked.Others ?? System.Collections.Frozen.FrozenDictionary<string, JsonElement>.Empty)
        {
            request.Patch.Set([.. "$."u8, .. Encoding.ASCII.GetBytes(name)], Encoding.UTF8.GetBytes(value.GetRawText()));
        }

        return request;
    }

    private static ReadOnlyMemory<byte> Text(AnswerOptions asked)
    {
        var buffer = new ArrayBufferWriter<byte>(256);
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (asked.Format is { } format)
            {
                json.WriteStartObject("format"u8);
                json.WriteString("type"u8, format.Type);
                if (format.Type == "json_schema")
                {
                    ChatCompletionsRequest.WriteSchema(json, format);
                }

                json.WriteEndObject();
            }

            if (asked.Verbosity is { } verbosity)
            {
                json.WriteString("verbosity"u8, verbosity);
            }

            json.WriteEndObject();
        }

        return buffer.WrittenMemory;
    }
}
