using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Polly;

namespace Sessions.Client.Http;

/// <summary>Sends requests, and turns what goes wrong into a <see cref="SessionsException"/>.</summary>
/// <param name="createClient">Gives a client for one request.</param>
internal sealed class SessionsTransport(Func<HttpClient> createClient)
{
    /// <summary>The header that makes a repeat safe.</summary>
    public const string IdempotencyKey = "Idempotency-Key";

    // Errors are short; what is longer is none of ours.
    private const int MaxErrorBytes = 64 * 1024;

    /// <summary>Sends a request with a body.</summary>
    public static HttpRequestMessage Request<T>(HttpMethod method, string path, T body, JsonTypeInfo<T> type, string? idempotencyKey = null)
    {
        var content = new ByteArrayContent(JsonSerializer.SerializeToUtf8Bytes(body, type));
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        return Request(method, path, content, idempotencyKey);
    }

    /// <summary>A request, with a key where a repeat would do something twice.</summary>
    public static HttpRequestMessage Request(HttpMethod method, string path, HttpContent? content = null, string? idempotencyKey = null)
    {
        var request = new HttpRequestMessage(method, new Uri(path, UriKind.Relative)) { Content = content };
        if (idempotencyKey is not null)
        {
            ThrowIfNoHeader(idempotencyKey, "idempotencyKey");
            request.Headers.Add(IdempotencyKey, idempotencyKey);
        }

        return request;
    }

    /// <summary>Refuses what can't be in a header, as that would look like a server that can't be reached.</summary>
    public static void ThrowIfNoHeader(string value, string name)
    {
        if (value.AsSpan().ContainsAnyExceptInRange(' ', '~'))
        {
            throw new ArgumentException("Only printable ASCII characters can be in a header.", name);
        }
    }

    /// <summary>A new key for a call that was given none.</summary>
    public static string NewKey() => Guid.NewGuid().ToString("N");

    /// <summary>Sends a request, and reads the answer.</summary>
    public async Task<T> SendAsync<T>(HttpRequestMessage request, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        using var response = await SendAsync(request, cancellationToken).ConfigureAwait(false);
        return await ReadAsync(response, type, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Sends a request; the answer's body is still to be read. Throws where it is an error.</summary>
    public async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        HttpResponseMessage response;
        try
        {
            using (request)
            {
                response = await createClient().SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken)
                    .ConfigureAwait(false);
            }
        }
        catch (Exception e) when (IsUnreachable(e, cancellationToken))
        {
            throw new SessionsException(SessionsException.Unreachable, $"The Sessions server did not answer: {e.Message}", e);
        }

        if (response.IsSuccessStatusCode || response.StatusCode == HttpStatusCode.NotModified)
        {
            return response;
        }

        using (response)
        {
            throw await ErrorAsync(response, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Reads an answer.</summary>
    public static async Task<T> ReadAsync<T>(HttpResponseMessage response, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        try
        {
            using var stream = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            return await JsonSerializer.DeserializeAsync(stream, type, cancellationToken).ConfigureAwait(false)
                ?? throw new JsonException("The answer is null.");
        }
        catch (JsonException e)
        {
            throw NotUnderstood(e, response.StatusCode);
        }
        catch (Exception e) when (IsUnreachable(e, cancellationToken))
        {
            throw BrokenOff(e);
        }
    }

    /// <summary>Reads the next bytes of an answer; none where it is whole.</summary>
    public static async Task<int> ReadAsync(Stream answer, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        try
        {
            return await answer.ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (IsUnreachable(e, cancellationToken))
        {
            throw BrokenOff(e);
        }
    }

    /// <summary>Whether this is the network or a time-out, and not the caller who gave up.</summary>
    public static bool IsUnreachable(Exception e, CancellationToken cancellationToken) => !cancellationToken.IsCancellationRequested
        && (e is HttpRequestException or IOException or OperationCanceledException or ExecutionRejectedException);

    /// <summary>How long the server asks to wait; <see langword="null"/> where it does not.</summary>
    public static TimeSpan? RetryAfter(HttpResponseMessage response) => response.Headers.RetryAfter switch
    {
        { Delta: { } delta } => delta,
        { Date: { } date } => TimeSpan.FromTicks(Math.Max(0, (date - DateTimeOffset.UtcNow).Ticks)),
        _ => null,
    };

    /// <summary>The connection broke before the answer was whole.</summary>
    public static SessionsException BrokenOff(Exception? e) =>
        new(SessionsException.Unreachable, $"The Sessions server's answer broke off{(e is null ? "." : $": {e.Message}")}", e);

    /// <summary>The answer is not that of a Sessions server, or of a later one.</summary>
    public static SessionsException NotUnderstood(Exception e, HttpStatusCode? status = null) =>
        new(SessionsException.InvalidResponse, $"What answered is not understood: {e.Message}", e) { Status = status };

    // Native routes answer with problem details, those under /v1 with OpenAI's error object.
    private static async Task<SessionsException> ErrorAsync(HttpResponseMessage response, CancellationToken cancellationToken)
    {
        var text = await ReadErrorAsync(response, cancellationToken).ConfigureAwait(false);
        string? code = null, message = null, field = null, traceId = null;
        try
        {
            using var json = JsonDocument.Parse(text);
            if (json.RootElement is { ValueKind: JsonValueKind.Object } root)
            {
                var error = root.TryGetProperty("error", out var inner) && inner.ValueKind == JsonValueKind.Object ? inner : root;
                code = TextOf(error, "code");
                message = TextOf(error, "message") ?? TextOf(error, "detail") ?? TextOf(error, "title");
                field = TextOf(error, "param") ?? FirstFieldOf(error);
                traceId = TextOf(error, "trace_id");
            }
        }
        catch (JsonException)
        {
            // A proxy, perhaps: its status has to do.
        }

        return new SessionsException(code ?? DefaultCode(response, isOurs: message is not null),
            message ?? $"The Sessions server answered {(int)response.StatusCode}.")
        {
            Status = response.StatusCode,
            Field = field,
            RequestId = response.Headers.TryGetValues("x-request-id", out var ids) ? ids.FirstOrDefault() : traceId,
            RetryAfter = RetryAfter(response),
        };
    }

    // Under /v1 what is not there has no code. Without a message it is another server's: the address is wrong, not the session's id.
    private static string DefaultCode(HttpResponseMessage response, bool isOurs) => response.StatusCode switch
    {
        HttpStatusCode.NotFound when isOurs => "not_found",
        HttpStatusCode.NotFound or < HttpStatusCode.BadRequest => SessionsException.InvalidResponse,
        >= HttpStatusCode.InternalServerError => "server_error",
        _ => "invalid_request",
    };

    private static async Task<string> ReadErrorAsync(HttpResponseMessage response, CancellationToken cancellationToken)
    {
        try
        {
            using var stream = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            var bytes = new byte[MaxErrorBytes];
            var length = await stream.ReadAtLeastAsync(bytes, bytes.Length, throwOnEndOfStream: false, cancellationToken)
                .ConfigureAwait(false);
            return Encoding.UTF8.GetString(bytes, 0, length);
        }
        catch (Exception e) when (IsUnreachable(e, cancellationToken))
        {
            return "";
        }
    }

    private static string? TextOf(JsonElement element, string property) =>
        element.TryGetProperty(property, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static string? FirstFieldOf(JsonElement problem)
    {
        if (problem.TryGetProperty("errors", out var errors) && errors.ValueKind == JsonValueKind.Object)
        {
            foreach (var field in errors.EnumerateObject())
            {
                return field.Name;
            }
        }

        return null;
    }
}
