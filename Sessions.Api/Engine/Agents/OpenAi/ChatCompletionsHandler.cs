namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>
/// The same for chat completions: a whole answer is bounded here, and what is streamed by <see cref="ChatCompletionsStream"/>.
/// </summary>
/// <param name="settings">The agent's.</param>
/// <param name="limits">What an answer may have.</param>
/// <param name="time">The clock.</param>
internal sealed class ChatCompletionsHandler(AgentSettings settings, LimitSettings limits, TimeProvider time)
    : ProviderHandler(settings, limits, time)
{
    /// <summary>The media type of an answer that comes whole, also where pieces were asked for.</summary>
    public const string Whole = "application/json";

    protected override async Task ReadAsync(
        HttpResponseMessage response, AgentCall call, ProviderAnswer answer, CancellationToken cancellationToken)
    {
        if (!call.IsStreamed || response.Content.Headers.ContentType?.MediaType == Whole)
        {
            Replace(response, new ByteArrayContent(await ReadWholeAsync(response.Content, call, answer, cancellationToken)));
        }
    }
}
