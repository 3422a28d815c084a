using System.Globalization;

namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>
/// Stands between OpenAI's library and an endpoint: tells the endpoint the session where it is to know it, reads no more of an answer
/// than allowed, and gives the library what it can read
/// (see <see cref="ChatCompletionsReader"/>). It sees each attempt.
/// </summary>
/// <param name="settings">The agent's.</param>
/// <param name="limits">What an answer may have.</param>
/// <param name="time">The clock.</param>
internal sealed class ChatCompletionsHandler(AgentSettings settings, LimitSettings limits, TimeProvider time) : DelegatingHandler
{
    private const int MaxErrorBytes = 64 << 10;

    // JSON may write a byte of text as six, and there is more around it.
    private readonly int _maxBodyBytes = (int)Math.Min(settings.ProviderBytes, (6L * limits.ResponseBytes) + (1 << 20));

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        var call = AgentCall.Current ?? throw new InvalidOperationException("A request to a provider belongs to a question to an agent.");
        if (settings.SendSession)
        {
            TellSession(request, call.Request);
        }

        var response = await base.SendAsync(request, cancellationToken);
        if (!response.IsSuccessStatusCode)
        {
            var body = await ReadErrorAsync(response.Content, cancellationToken);
            call.Refusal = ChatCompletionsReader.ReadRefusal(body, (int)response.StatusCode, RetryAfter(response));
            Replace(response, new ReadOnlyMemoryContent(body));
            return response;
        }

        var answer = new ProviderAnswer();
        call.Answers.Add(answer);
        if (call.IsStreamed && response.Content.Headers.ContentType?.MediaType != "application/json")
        {
            var events = new ChatCompletionsStream(await response.Content.ReadAsStreamAsync(cancellationToken), settings.ProviderBytes, settings.ProviderPieces, answer, call);
            Replace(response, new StreamContent(events));
            return response;
        }

        var whole = await ReadWholeAsync(response.Content, call, answer, cancellationToken);
        var rewritten = new ChatCompletionsReader(answer, call).Rewrite(whole, isPiece: call.IsStreamed);
        Replace(response, call.IsStreamed ? Single(rewritten, answer, call) : new ByteArrayContent(rewritten));
        return response;
    }

    // A stream of one piece.
    private StreamContent Single(byte[] rewritten, ProviderAnswer answer, AgentCall call) =>
        new(new ChatCompletionsStream(new MemoryStream([.. "data: "u8, .. rewritten, .. "\n\ndata: [DONE]\n\n"u8]), int.MaxValue, settings.ProviderPieces, answer, call));

    private static void TellSession(HttpRequestMessage request, AgentRequest asked)
    {
        request.Headers.Remove(AgentHeaders.SessionId);
        request.Headers.Remove(AgentHeaders.UserId);
        request.Headers.Remove(AgentHeaders.Turn);
        request.Headers.Add(AgentHeaders.SessionId, asked.SessionId);
        request.Headers.Add(AgentHeaders.Turn, asked.Turn.ToString(CultureInfo.InvariantCulture));
        if (asked.UserId is not null)
        {
            request.Headers.Add(AgentHeaders.UserId, Uri.EscapeDataString(asked.UserId));
        }
    }

    private async Task<byte[]> ReadWholeAsync(HttpContent content, AgentCall call, ProviderAnswer answer, CancellationToken cancellationToken)
    {
        try
        {
            using var body = new MemoryStream();
            await using var bounded = new BoundedStream(await content.ReadAsStreamAsync(cancellationToken), _maxBodyBytes);
            await bounded.CopyToAsync(body, cancellationToken);
            return body.ToArray();
        }
        catch (ProviderException)
        {
            throw AgentFailure.TooLong(limits.ResponseBytes);
        }
        catch (IOException e)
        {
            // Nothing was told of it: it may be asked for again.
            call.Answers.Remove(answer);
            call.IsBrokenOff = true;
            throw new HttpRequestException(HttpRequestError.ResponseEnded, "The answer was broken off.", e);
        }
    }

    // As much as there is room for; the rest is not waited for.
    private static async Task<byte[]> ReadErrorAsync(HttpContent content, CancellationToken cancellationToken)
    {
        var body = new byte[MaxErrorBytes];
        var length = 0;
        try
        {
            await using var stream = await content.ReadAsStreamAsync(cancellationToken);
            length = await stream.ReadAtLeastAsync(body, body.Length, throwOnEndOfStream: false, cancellationToken);
        }
        catch (IOException)
        {
            // The status alone says enough.
        }

        return body[..length];
    }

    private TimeSpan? RetryAfter(HttpResponseMessage response)
    {
        if (response.Headers.TryGetValues("retry-after-ms", out var values)
            && double.TryParse(values.First(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var milliseconds) && milliseconds < 1e12)
        {
            return TimeSpan.FromMilliseconds(milliseconds);
        }

        return Wait(response, time);
    }

    /// <summary>How long a response asks to wait.</summary>
    public static TimeSpan? Wait(HttpResponseMessage response, TimeProvider time) =>
        response.Headers.RetryAfter is not { } header ? null
        : header.Delta ?? (header.Date is { } date && date > time.GetUtcNow() ? date - time.GetUtcNow() : TimeSpan.Zero);

    // The old content's connection goes with the new one.
    private static void Replace(HttpResponseMessage response, HttpContent content)
    {
        content.Headers.ContentType = response.Content.Headers.ContentType;
        if (content is not StreamContent)
        {
            response.Content.Dispose();
        }

        response.Content = content;
    }
}
