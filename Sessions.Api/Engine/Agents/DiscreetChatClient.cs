using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// Keeps what a provider says about a failure from spans: it may quote what the user wrote, or a part of the key. The words for clients
/// take its place there; the agent itself is told all.
/// </summary>
internal sealed class DiscreetChatClient(IChatClient inner) : DelegatingChatClient(inner)
{
    public override async Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        try
        {
            return await base.GetResponseAsync(messages, options, cancellationToken);
        }
        catch (Exception e) when (e is not OperationCanceledException and not DomainException)
        {
            throw new DiscreetException(e);
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
            catch (Exception e) when (e is not OperationCanceledException and not DomainException)
            {
                throw new DiscreetException(e);
            }

            yield return updates.Current;
        }
    }
}

/// <summary>A failure without its words and causes.</summary>
/// <param name="hidden">What it was.</param>
internal sealed class DiscreetException(Exception hidden) : Exception(AgentFailure.Describe(hidden, AgentCall.Current).Message)
{
    /// <summary>What it was.</summary>
    public Exception Hidden { get; } = hidden;
}
