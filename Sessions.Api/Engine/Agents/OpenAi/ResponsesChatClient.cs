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
        var response = await base.GetResponseAsync(messages, Options(options), cancellationToken);
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
        await foreach (var update in base.GetStreamingResponseAsync(messages, Options(options), cancellationToken))
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

    private ChatOptions Options(ChatOptions? options)
    {
        var asked = StandardOptions.Asked(options);
        var passed = StandardOptions.Of(options);
        passed.RawRepresentationFactory = _ => Request(asked);
        return passed;
    }

    private CreateResponseOptions Request(AnswerOptions asked)
    {
        var request = new CreateResponseOptions { StoredOutputEnabled = false };
        if (keepsReasoning)
        {
            request.IncludedProperties.Add(IncludedResponseProperty.ReasoningEncryptedContent);
        }

        if (asked.Verbosity is { } verbosity && asked.Format is null)
        {
            request.Patch.Set("$.text"u8, Encoding.UTF8.GetBytes($$"""{"verbosity":"{{verbosity}}"}"""));
        }

        foreach (var (name, value) in asked.Others ?? System.Collections.Frozen.FrozenDictionary<string, JsonElement>.Empty)
        {
            request.Patch.Set([.. "$."u8, .. Encoding.ASCII.GetBytes(name)], Encoding.UTF8.GetBytes(value.GetRawText()));
        }

        return request;
    }
}
