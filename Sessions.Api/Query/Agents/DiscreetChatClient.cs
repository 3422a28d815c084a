using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;

namespace Sessions.Api;

/// <summary>
/// Keeps what a provider says about a failure from logs and spans: it may quote what the user wrote, or a part of the key. The words for clients
/// take its place.
/// </summary>
internal sealed class DiscreetChatClient(IChatClient inner) : DelegatingChatClient(inner)
{
    public override async Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        try
        {
            return await base.GetResponseAsync(messages, options, cancellationToken);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw new AgentException(Agent.Describe(e));
        }
    }

    public override async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await using var updates = base.GetStreamingResponseAsync(messages, options, cancellationToken).GetAsyncEnumerator(cancellationToken);
        while (true)
        {
            try
            {
                if (!await updates.MoveNextAsync())
                {
                    yield break;
                }
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                throw new AgentException(Agent.Describe(e));
            }

            yield return updates.Current;
        }
    }
}
