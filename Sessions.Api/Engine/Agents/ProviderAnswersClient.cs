using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// Keeps what a library tells beside the text of an answer, and has each answer end as it should: a stream that says no reason why it ends
/// was broken off, and an error within one is a refusal. The library is not told the session's id, which is for the spans: it would take
/// it for a conversation of the provider's own.
/// </summary>
internal sealed class ProviderAnswersClient(IChatClient inner) : DelegatingChatClient(inner)
{
    public override async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        var response = await base.GetResponseAsync(messages, WithoutSession(options), cancellationToken);
        foreach (var content in response.Messages.SelectMany(message => message.Contents))
        {
            ThrowIfError(content);
        }

        Keep(response.FinishReason, response.ModelId, response.Usage);
        return response;
    }

    public override async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages,
        ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ChatFinishReason? finished = null;
        await foreach (var update in base.GetStreamingResponseAsync(messages, WithoutSession(options), cancellationToken))
        {
            UsageDetails? usage = null;
            for (var i = 0; i < update.Contents.Count; i++)
            {
                var content = update.Contents[i];
                ThrowIfError(content);
                usage = content is UsageContent { Details: var details } ? details : usage;
            }

            finished = update.FinishReason ?? finished;
            Keep(update.FinishReason, update.ModelId, usage);
            yield return update;
        }

        if (finished is null)
        {
            throw new ProviderException(ProviderFault.BrokenOff);
        }
    }

    private static ChatOptions? WithoutSession(ChatOptions? options)
    {
        if (options?.ConversationId is null)
        {
            return options;
        }

        var own = options.Clone();
        own.ConversationId = null;
        return own;
    }

    private static void ThrowIfError(AIContent content)
    {
        if (content is ErrorContent { ErrorCode: not OutputBuilder.Refusal } error)
        {
            var code = ProviderRefusals.IsWord(error.ErrorCode) ? error.ErrorCode : null;
            AgentCall.Current!.Refusal = new ProviderRefusal(null, code, null, null);
            throw new ProviderException(ProviderFault.Refused);
        }
    }

    private static void Keep(ChatFinishReason? finishReason, string? model, UsageDetails? usage)
    {
        if (AgentCall.Current!.Answers is not [.., var answer])
        {
            return;
        }

        answer.FinishReason = finishReason?.Value ?? answer.FinishReason;
        answer.Model ??= model is { Length: > 0 and <= 256 } ? model : null;
        if (usage is not null)
        {
            // Told with the first piece and the last, by some: the last word counts.
            answer.Usage = new TokenUsage(
                usage.InputTokenCount ?? answer.Usage?.InputTokens, usage.OutputTokenCount ?? answer.Usage?.OutputTokens,
                usage.CachedInputTokenCount ?? answer.Usage?.CachedInputTokens, usage.ReasoningTokenCount ?? answer.Usage?.ReasoningTokens);
        }
    }
}
