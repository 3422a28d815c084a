using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.OpenAi;

/// <summary>OpenAI's error object, the shape of every failure under <c>/v1</c>.</summary>
/// <param name="Status">The HTTP status.</param>
/// <param name="Type"><c>invalid_request_error</c>, <c>rate_limit_error</c> or <c>server_error</c>.</param>
/// <param name="Message">What happened, for people.</param>
/// <param name="Param">The field of the request, such as <c>input[2].role</c>.</param>
/// <param name="Code">What happened, for programs.</param>
internal sealed record OpenAiError(int Status, string Type, string Message, string? Param, string? Code) : IResult
{
    /// <summary>The type of most errors.</summary>
    public const string InvalidRequest = "invalid_request_error";

    /// <summary>The type of errors that are not the client's.</summary>
    public const string Server = "server_error";

    /// <summary>Sent as <c>Retry-After</c>.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>Sent as <c>x-should-retry</c>, which OpenAI's clients obey: <see langword="false"/> where a repeat can't mend it.</summary>
    public bool? ShouldRetry { get; init; }

    /// <summary>There is nothing at this address.</summary>
    public static OpenAiError UnknownUrl { get; } = new(
        StatusCodes.Status404NotFound, InvalidRequest,
        "Invalid URL: there is nothing at this address.", null, "unknown_url");

    /// <summary>A field breaks a rule.</summary>
    public static OpenAiError Invalid(string? param, string message, string? code = "invalid_value") =>
        new(StatusCodes.Status400BadRequest, InvalidRequest, message, param, code);

    /// <summary>Something that is named is not there, or not for this caller: the same words for both.</summary>
    public static OpenAiError NotFound(string what, string id) =>
        new(StatusCodes.Status404NotFound, InvalidRequest, $"{what} with id '{Error.Shorten(id)}' not found.", null, null);

    /// <summary>The response to go on from is not there, or not for this caller, or was not stored.</summary>
    public static OpenAiError PreviousResponseNotFound(string id) => new(
        StatusCodes.Status400BadRequest, InvalidRequest, $"Previous response with id '{Error.Shorten(id)}' not found.",
        "previous_response_id", "previous_response_not_found");

    /// <summary>An error of the domain, in OpenAI's words.</summary>
    public static OpenAiError From(Error error) => error.Code switch
    {
        "invalid_request" => Invalid(error.Field, error.Message),
        "tool_output_required" or "tool_call_not_found" => Invalid("input", error.Message, code: null),
        "context_length_exceeded" => Invalid("input", error.Message, error.Code),
        "content_not_supported" => Invalid(error.Field ?? "input", error.Message, "unsupported_parameter"),
        "limit_exceeded" => Invalid(error.Field, error.Message, $"{error.Field}_above_max"),
        "session_not_found" or "response_not_found" => new(StatusCodes.Status404NotFound, InvalidRequest, error.Message, null, null),
        "unknown_agent_type" or "model_not_found" =>
            new(StatusCodes.Status404NotFound, InvalidRequest, error.Message, "model", "model_not_found"),
        "session_busy" => new(
            StatusCodes.Status409Conflict, InvalidRequest,
            "Another process is currently operating on this conversation.", "conversation", "conversation_locked")
        {
            RetryAfter = error.RetryAfter ?? TimeSpan.FromSeconds(1),
        },
        "idempotency_key_reused" => new(StatusCodes.Status422UnprocessableEntity, InvalidRequest, error.Message, null, error.Code),
        "rate_limited" => new(StatusCodes.Status429TooManyRequests, "rate_limit_error", error.Message, null, "rate_limit_exceeded")
        {
            RetryAfter = error.RetryAfter,
        },
        "unauthorized" => new(StatusCodes.Status401Unauthorized, InvalidRequest, error.Message, null, "invalid_api_key"),
        _ => FromStatus(ErrorStatus.Of(error.Code), error),
    };

    /// <summary>A failure that never came to the domain: no route, no credentials, no room, too large.</summary>
    public static OpenAiError From(Problem problem) => problem.Code switch
    {
        "route_not_found" => UnknownUrl,
        "invalid_json" or "unsupported_media_type" or "method_not_allowed" or "bad_request" or "request_timeout"
            => new(problem.Status, InvalidRequest, problem.Detail, null, problem.Code) { RetryAfter = problem.RetryAfter },
        "limit_exceeded" when problem.Status == StatusCodes.Status413PayloadTooLarge
            => new(problem.Status, InvalidRequest, problem.Detail, null, "request_too_large"),
        _ => From(new Error(problem.Code, problem.Detail)
        {
            Field = problem.Errors?.Keys.FirstOrDefault(),
            RetryAfter = problem.RetryAfter,
            MayRetry = problem.MayRetry,
        }) with
        {
            Status = StatusOf(problem),
        },
    };

    private static int StatusOf(Problem problem) =>
        problem.Status == StatusCodes.Status422UnprocessableEntity && problem.Code != "idempotency_key_reused"
            ? StatusCodes.Status400BadRequest
            : problem.Status;

    // Of what is the client's mistake OpenAI says 400.
    private static OpenAiError FromStatus(int status, Error error) =>
        new(
            status == StatusCodes.Status422UnprocessableEntity ? StatusCodes.Status400BadRequest : status,
            status >= StatusCodes.Status500InternalServerError ? Server : InvalidRequest,
            error.Message,
            error.Field,
            error.Code)
        {
            RetryAfter = error.RetryAfter,
            ShouldRetry = error.MayRetry
                ?? (error.Code.StartsWith("agent_", StringComparison.Ordinal) && error.RetryAfter is null ? false : null),
        };

    /// <summary>Writes the object, <c>{"message":…,"type":…,"param":…,"code":…}</c>.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("message"u8, Message);
        json.WriteString("type"u8, Type);
        json.WriteString("param"u8, Param);
        json.WriteString("code"u8, Code);
        json.WriteEndObject();
    }

    public async Task ExecuteAsync(HttpContext httpContext)
    {
        var response = httpContext.Response;
        response.StatusCode = Status;
        RetryHeaders.Set(response.Headers, RetryAfter, ShouldRetry);
        var body = Json.Write(this, static (json, error) =>
        {
            json.WriteStartObject();
            json.WritePropertyName("error"u8);
            error.Write(json);
            json.WriteEndObject();
        });
        await Json.SendAsync(httpContext, body);
    }
}

/// <summary>Ends a request under <c>/v1</c> with an error.</summary>
/// <param name="error">The error.</param>
internal sealed class OpenAiException(OpenAiError error) : Exception(error.Message)
{
    public OpenAiException(string? param, string message, string? code = "invalid_value") : this(OpenAiError.Invalid(param, message, code))
    {
    }

    /// <summary>The error.</summary>
    public OpenAiError Error { get; } = error;

    /// <summary>A field is missing.</summary>
    public static OpenAiException Missing(string param) =>
        new(param, $"Missing required parameter: '{param}'.", "missing_required_parameter");
}

/// <summary>JSON as it is written under <c>/v1</c>.</summary>
internal static class Json
{
    private static readonly JsonWriterOptions Options = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        SkipValidation = true,
        MaxDepth = 128,
    };

    /// <summary>Writes something.</summary>
    public static ReadOnlyMemory<byte> Write<T>(T value, Action<Utf8JsonWriter, T> write)
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        using (var json = new Utf8JsonWriter(buffer, Options))
        {
            write(json, value);
        }

        return buffer.WrittenMemory;
    }

    /// <summary>Sends an answer.</summary>
    public static async Task SendAsync(HttpContext context, ReadOnlyMemory<byte> body)
    {
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = body.Length;
        try
        {
            await context.Response.Body.WriteAsync(body, context.RequestAborted);
        }
        catch (OperationCanceledException)
        {
            // The client has gone.
        }
    }
}

/// <summary>An answer with status 200.</summary>
/// <param name="body">JSON.</param>
internal sealed class JsonResult(ReadOnlyMemory<byte> body) : IResult
{
    public Task ExecuteAsync(HttpContext httpContext) => Json.SendAsync(httpContext, body);
}
