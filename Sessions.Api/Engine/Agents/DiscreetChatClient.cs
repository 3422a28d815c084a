using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// Keeps what a provider says about a failure from spans: it may quote what the user wrote, or a part of the key. The words for clients
/// take its place there; the agent itself is told all.
/// </summary>
/// <remarks>
/// What an answer says is mostly not told in spans either; but their library keeps every piece of a streamed one until it ends, a
/// kilobyte for each token. To it, all pieces that are nothing but text are one object, which says each of them in turn.
/// </remarks>
internal sealed class DiscreetChatClient(IChatClient inner) : DelegatingChatClient(inner)
{
    /// <summary>Whether spans tell what answers say: then their library needs the pieces as they are.</summary>
    public bool TellsAnswers { get; set; }

    public override async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
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
        IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await using var updates = base.GetStreamingResponseAsync(messages, options, cancellationToken)
            .GetAsyncEnumerator(cancellationToken);

        // The library that runs tools tells the model what it has said before: it needs the pieces too.
        var text = !TellsAnswers && AgentCall.Current is { Tools: null } ? new ChatResponseUpdate() : null;
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

            if (text is null || !IsText(updates.Current))
            {
                yield return updates.Current;
                continue;
            }

            var piece = updates.Current;
            (text.Role, text.ResponseId, text.MessageId, text.ModelId) = (piece.Role, piece.ResponseId, piece.MessageId, piece.ModelId);
            text.Contents = piece.Contents;
            yield return text;
            text.Contents = null;
        }
    }

    private static bool IsText(ChatResponseUpdate piece)
    {
        if (piece.FinishReason is not null)
        {
            return false;
        }

        for (var i = 0; i < piece.Contents.Count; i++)
        {
            if (piece.Contents[i] is not TextContent)
            {
                return false;
            }
        }

        return true;
    }
}

/// <summary>A failure without its words and causes.</summary>
/// <param name="hidden">What it was.</param>
internal sealed class DiscreetException(Exception hidden) : Exception(AgentFailure.Describe(hidden, AgentCall.Current).Message)
{
    /// <summary>What it was.</summary>
    public Exception Hidden { get; } = hidden;
}
