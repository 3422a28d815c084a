using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using Anthropic.Exceptions;
using Microsoft.Extensions.AI;
using Library = Anthropic.AnthropicClient;

namespace Sessions.Api.Engine.Agents.Anthropic;

/// <summary>Asks Anthropic's API by its own library.</summary>
internal sealed partial class AnthropicChatClient(IChatClient inner) : DelegatingChatClient(inner)
{
    // The API wants to be told a number; an answer that has this length is told to be cut short.
    private const int DefaultMaxOutputTokens = 8192;

    /// <summary>Makes it.</summary>
    public static AnthropicChatClient Create(AgentSettings settings, string key, HttpClient http)
    {
        // Time and repeats are the HTTP client's.
        var client = new Library
        {
            ApiKey = key,
            BaseUrl = settings.Endpoint?.ToString().TrimEnd('/') ?? "https://api.anthropic.com",
            HttpClient = http,
            MaxRetries = 0,
            Timeout = TimeSpan.FromHours(2),
        };
        return new AnthropicChatClient(client.AsIChatClient(settings.Model, DefaultMaxOutputTokens));
    }

    public override Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        base.GetResponseAsync(messages.Select(Message), Options(options), cancellationToken);

    public override async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages,
        ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await using var updates = base.GetStreamingResponseAsync(messages.Select(Message), Options(options), cancellationToken)
            .GetAsyncEnumerator(cancellationToken);
        while (true)
        {
            try
            {
                if (!await updates.MoveNextAsync())
                {
                    yield break;
                }
            }
            catch (AnthropicSseException e)
            {
                // An error in the middle of an answer. Of its words only that for programs is taken over.
                var code = ErrorType.Match(e.Message) is { Success: true } match ? match.Groups[1].Value : null;
                AgentCall.Current!.Refusal = new ProviderRefusal(null, code, null, null);
                throw new ProviderException(ProviderFault.Refused);
            }

            yield return updates.Current;
        }
    }

    // Instructions are system ones here, whoever gives them.
    private static ChatMessage Message(ChatMessage message) =>
        message.Role.Value == "developer" ? new ChatMessage(ChatRole.System, message.Contents) : message;

    private static ChatOptions Options(ChatOptions? options)
    {
        var passed = StandardOptions.Of(options);
        if (StandardOptions.Asked(options).Others?.TryGetValue("top_k", out var topK) == true && topK.TryGetInt32(out var k))
        {
            passed.TopK = k;
        }

        return passed;
    }

    [GeneratedRegex("\"type\"\\s*:\\s*\"([a-z_]{1,58}_error)\"")]
    private static partial Regex ErrorType { get; }
}
