using System.Net.Http.Headers;
using System.Text;
using Microsoft.Extensions.AI;

namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>
/// Chat completions of any endpoint that speaks them, asked and read directly: what is said between a client and a model comes and goes
/// through here piece by piece, and a library on the way takes several times as long for each as all else that is done with it (see
/// bench/RESULTS.md). It also leaves out what other servers than OpenAI's say or want. <see cref="ChatCompletionsHandler"/> sees each
/// attempt.
/// </summary>
/// <param name="http">Sends.</param>
/// <param name="settings">The agent's.</param>
/// <param name="key">The endpoint's key.</param>
internal sealed class OpenAiChatClient(HttpClient http, AgentSettings settings, string key) : IChatClient
{
    private static readonly Uri OpenAi = new("https://api.openai.com/v1");
    private static readonly MediaTypeHeaderValue Json = new("application/json");

    private readonly Uri _address = new($"{(settings.Endpoint ?? OpenAi).AbsoluteUri.TrimEnd('/')}/chat/completions");
    private readonly AuthenticationHeaderValue _authorization = new("Bearer", key);
    private readonly ChatClientMetadata _metadata = new("openai", settings.Endpoint ?? OpenAi, settings.Model);

    public async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        using var response = await SendAsync(messages, options, isStreamed: false, cancellationToken);
        var call = AgentCall.Current!;
        return new ChatCompletionsReader(call.Answers[^1], call).ReadAnswer(await response.Content.ReadAsByteArrayAsync(cancellationToken));
    }

    // Not an iterator around the stream's: each that a token goes through costs it as much as to read its JSON.
    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        new ChatCompletionsStream(settings, stop => SendAsync(messages, options, isStreamed: true, stop)).ReadAsync(cancellationToken);

    public object? GetService(Type serviceType, object? serviceKey = null) =>
        serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? _metadata
            : serviceType.IsInstanceOfType(this) ? this
            : null;

    public void Dispose()
    {
        // The HTTP client is the factory's.
    }

    private async Task<HttpResponseMessage> SendAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options, bool isStreamed, CancellationToken cancellationToken)
    {
        var body = ChatCompletionsRequest.Write(settings.Model!, messages, options, isStreamed);
        using var request = new HttpRequestMessage(HttpMethod.Post, _address)
        {
            Content = new ReadOnlyMemoryContent(body) { Headers = { ContentType = Json } },
            Headers = { Authorization = _authorization },
        };
        var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
        if (response.IsSuccessStatusCode)
        {
            return response;
        }

        using (response)
        {
            var said = Encoding.UTF8.GetString(await response.Content.ReadAsByteArrayAsync(cancellationToken));
            throw new ProviderException(ProviderFault.Refused, $"The provider's answer: status {(int)response.StatusCode}. {said}");
        }
    }
}
