namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>The same for chat completions, of which it gives the library what it can read (see <see cref="ChatCompletionsReader"/>).</summary>
/// <param name="settings">The agent's.</param>
/// <param name="limits">What an answer may have.</param>
/// <param name="time">The clock.</param>
internal sealed class ChatCompletionsHandler(AgentSettings settings, LimitSettings limits, TimeProvider time)
    : ProviderHandler(settings, limits, time)
{
    private readonly AgentSettings _settings = settings;

    protected override async Task ReadAsync(
        HttpResponseMessage response, AgentCall call, ProviderAnswer answer, CancellationToken cancellationToken)
    {
        if (call.IsStreamed && response.Content.Headers.ContentType?.MediaType != "application/json")
        {
            var body = await response.Content.ReadAsStreamAsync(cancellationToken);
            var events = new ChatCompletionsStream(body, _settings.ProviderBytes, _settings.ProviderPieces, answer, call);
            Replace(response, new StreamContent(events));
            return;
        }

        var whole = await ReadWholeAsync(response.Content, call, answer, cancellationToken);
        var rewritten = new ChatCompletionsReader(answer, call).Rewrite(whole, isPiece: call.IsStreamed);

        // A stream of one piece, where one was asked for; the library does not take one that can be wound back.
        Replace(response, call.IsStreamed
            ? new StreamContent(new BoundedStream(new MemoryStream([.. "data: "u8, .. rewritten, .. "\n\ndata: [DONE]\n\n"u8]), int.MaxValue))
            : new ByteArrayContent(rewritten));
    }
}
