using System.Globalization;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// Stands between a provider's library and its endpoint: tells the endpoint the session where it is to know it, keeps what a refusal says
/// to programs, and reads no more of an answer than allowed. It sees each attempt.
/// </summary>
/// <param name="settings">The agent's.</param>
/// <param name="limits">What an answer may have.</param>
/// <param name="time">The clock.</param>
internal class ProviderHandler(AgentSettings settings, LimitSettings limits, TimeProvider time) : DelegatingHandler
{
    private const int MaxErrorBytes = 64 << 10;

    // JSON may write a byte of text as six, and there is more around it.
    private readonly int _maxBodyBytes = (int)Math.Min(settings.ProviderBytes, (6L * limits.ResponseBytes) + (1 << 20));

    protected sealed override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
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
            call.Refusal = ProviderRefusals.Read(body, (int)response.StatusCode, RetryAfter(response));
            Replace(response, new ReadOnlyMemoryContent(body));
            return response;
        }

        var answer = new ProviderAnswer();
        call.Refusal = null;
        call.Answers.Add(answer);
        await ReadAsync(response, call, answer, cancellationToken);
        return response;
    }

    /// <summary>Gives the library what it can read of an answer.</summary>
    protected virtual async Task ReadAsync(
        HttpResponseMessage response, AgentCall call, ProviderAnswer answer, CancellationToken cancellationToken)
    {
        if (call.IsStreamed)
        {
            var body = await response.Content.ReadAsStreamAsync(cancellationToken);
            Replace(response, new StreamContent(new BoundedStream(body, settings.ProviderBytes)));
        }
        else
        {
            Replace(response, new ByteArrayContent(await ReadWholeAsync(response.Content, call, answer, cancellationToken)));
        }
    }

    /// <summary>Reads an answer that comes at once.</summary>
    /// <exception cref="AgentException">It is too long.</exception>
    /// <exception cref="HttpRequestException">It was broken off.</exception>
    protected async Task<byte[]> ReadWholeAsync(
        HttpContent content, AgentCall call, ProviderAnswer answer, CancellationToken cancellationToken)
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

    /// <summary>Puts something else in the place of a content, whose connection goes with it.</summary>
    protected static void Replace(HttpResponseMessage response, HttpContent content)
    {
        content.Headers.ContentType = response.Content.Headers.ContentType;
        if (content is not StreamContent)
        {
            response.Content.Dispose();
        }

        response.Content = content;
    }

    /// <summary>How long a response asks to wait.</summary>
    public static TimeSpan? Wait(HttpResponseMessage response, TimeProvider time) =>
        response.Headers.RetryAfter is not { } header ? null
        : header.Delta ?? (header.Date is { } date && date > time.GetUtcNow() ? date - time.GetUtcNow() : TimeSpan.Zero);

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
            && double.TryParse(values.First(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var milliseconds)
            && milliseconds < 1e12)
        {
            return TimeSpan.FromMilliseconds(milliseconds);
        }

        return Wait(response, time);
    }
}
