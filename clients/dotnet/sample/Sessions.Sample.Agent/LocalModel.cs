using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;

namespace Sessions.Sample.Agent;

/// <summary>Stands for a model, without a network: it tells what the user has said so far.</summary>
internal sealed class LocalModel : IChatClient
{
    public Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        var said = messages.Where(message => message.Role == ChatRole.User).Select(message => message.Text);
        return Task.FromResult(new ChatResponse(new ChatMessage(ChatRole.Assistant, $"You said: {string.Join(" / ", said)}")));
    }

    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        foreach (var update in (await GetResponseAsync(messages, options, cancellationToken)).ToChatResponseUpdates())
        {
            yield return update;
        }
    }

    public object? GetService(Type serviceType, object? serviceKey = null) => serviceKey is null && serviceType.IsInstanceOfType(this)
        ? this : null;

    public void Dispose()
    {
    }
}
