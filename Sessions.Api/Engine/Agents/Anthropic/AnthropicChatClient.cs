using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.RegularExpressions;
using Anthropic.Exceptions;
using Anthropic.Models.Messages;
using Microsoft.Extensions.AI;
using Library = Anthropic.AnthropicClient;

namespace Sessions.Api.Engine.Agents.Anthropic;

/// <summary>Asks Anthropic's API by its own library.</summary>
/// <param name="inner">The library's adapter.</param>
/// <param name="model">The model.</param>
internal sealed partial class AnthropicChatClient(IChatClient inner, string model) : DelegatingChatClient(inner)
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
        return new AnthropicChatClient(client.AsIChatClient(settings.Model, DefaultMaxOutputTokens), settings.Model!);
    }

    public override Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        base.GetResponseAsync(Messages(messages), Options(options), cancellationToken);

    public override async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages,
        ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await using var updates = base.GetStreamingResponseAsync(Messages(messages), Options(options), cancellationToken)
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

    // Instructions are system ones here, whoever gives them. A user comes first: a history may begin with what the agent said, where it
    // is cut in a long row of calls, or with a summary.
    private static IEnumerable<ChatMessage> Messages(IEnumerable<ChatMessage> messages)
    {
        var isFirst = true;
        foreach (var message in messages)
        {
            var isSystem = message.Role == ChatRole.System || message.Role.Value == "developer";
            if (isFirst && message.Role == ChatRole.Assistant)
            {
                yield return new ChatMessage(ChatRole.User, "…");
            }

            isFirst = isFirst && isSystem;
            yield return isSystem && message.Role != ChatRole.System ? new ChatMessage(ChatRole.System, message.Contents) : message;
        }
    }

    // The adapter leaves out how an answer is to be drawn, and knows one effort less than the API.
    private ChatOptions Options(ChatOptions? options)
    {
        var passed = StandardOptions.Of(options);
        var asked = StandardOptions.Asked(options);
        Dictionary<string, JsonElement> body = new()
        {
            ["model"] = JsonElement.Parse($"\"{JsonEncodedText.Encode(model)}\""),
            ["max_tokens"] = Number(passed.MaxOutputTokens ?? DefaultMaxOutputTokens),
            ["messages"] = JsonElement.Parse("[]"),
        };
        if (passed.Temperature is { } temperature)
        {
            body["temperature"] = Number(temperature);
        }

        if (passed.TopP is { } topP)
        {
            body["top_p"] = Number(topP);
        }

        if (asked.Others?.TryGetValue("top_k", out var topK) == true)
        {
            body["top_k"] = topK;
        }

        if (asked.ReasoningEffort == "max")
        {
            body["output_config"] = JsonElement.Parse("""{"effort":"max"}""");
        }

        if (passed is { AllowMultipleToolCalls: false, Tools.Count: > 0, ToolMode: null })
        {
            // It stands beside a choice, and is left out without one.
            passed.ToolMode = ChatToolMode.Auto;
        }

        passed.RawRepresentationFactory = _ =>
            MessageCreateParams.FromRawUnchecked(new Dictionary<string, JsonElement>(), new Dictionary<string, JsonElement>(), body);
        return passed;
    }

    private static JsonElement Number(IFormattable number) => JsonElement.Parse(number.ToString(null, CultureInfo.InvariantCulture));

    [GeneratedRegex("\"type\"\\s*:\\s*\"([a-z_]{1,58}_error)\"")]
    private static partial Regex ErrorType { get; }
}
