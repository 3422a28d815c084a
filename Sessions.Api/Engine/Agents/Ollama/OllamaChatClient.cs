using System.Collections.Frozen;
using System.Text.Json;
using Microsoft.Extensions.AI;
using OllamaSharp;

namespace Sessions.Api.Engine.Agents.Ollama;

/// <summary>Asks Ollama by its own API.</summary>
internal sealed class OllamaChatClient(IChatClient inner) : DelegatingChatClient(inner)
{
    private static readonly Uri Default = new("http://localhost:11434");

    /// <summary>Makes it.</summary>
    public static OllamaChatClient Create(AgentSettings settings, HttpClient http)
    {
        http.BaseAddress = settings.Endpoint ?? Default;
        return new OllamaChatClient(new OllamaApiClient(http, settings.Model!));
    }

    public override Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        base.GetResponseAsync(messages.SelectMany(Messages), Options(options), cancellationToken);

    public override IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        base.GetStreamingResponseAsync(messages.SelectMany(Messages), Options(options), cancellationToken);

    // The library gives the model a result wrapped into JSON; as a text it is what the tool said.
    private static IEnumerable<ChatMessage> Messages(ChatMessage message) => message.Role.Value switch
    {
        "tool" => message.Contents.OfType<FunctionResultContent>()
            .Select(result => new ChatMessage(ChatRole.Tool, result.Result?.ToString())),
        "developer" => new[] { new ChatMessage(ChatRole.System, message.Contents) },
        _ => new[] { message },
    };

    // What has no name with us are options of its own: num_ctx, top_k and so on.
    private static ChatOptions Options(ChatOptions? options)
    {
        var passed = StandardOptions.Of(options);
        passed.AdditionalProperties = null;
        if (passed.ToolMode is NoneChatToolMode)
        {
            // It has no such choice: without any, none is called.
            passed.Tools = null;
        }

        foreach (var (name, value) in StandardOptions.Asked(options).Others ?? FrozenDictionary<string, JsonElement>.Empty)
        {
            (passed.AdditionalProperties ??= [])[name] = value.ValueKind switch
            {
                JsonValueKind.Number when value.TryGetInt32(out var number) => number,
                JsonValueKind.Number => value.GetSingle(),
                JsonValueKind.True => true,
                JsonValueKind.False => false,
                JsonValueKind.String => value.GetString(),
                _ => value,
            };
        }

        return passed;
    }
}
