using System.Diagnostics;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.WebUtilities;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.OpenAi;

namespace Sessions.Api.Http;

/// <summary>An error answer: problem details as in RFC 9457, with a stable <see cref="Code"/> for programs.</summary>
internal sealed record Problem : IResult
{
    private const string ContentType = "application/problem+json";

    /// <summary>Makes a problem.</summary>
    public Problem(int status, string code, string detail)
    {
        Status = status;
        Code = code;
        Detail = detail;
    }

    /// <summary>Names the kind of problem; docs/errors.md describes each.</summary>
    public string Type => $"urn:sessions:problem:{Code}";

    /// <summary>The HTTP status in words.</summary>
    public string Title => ReasonPhrases.GetReasonPhrase(Status) is { Length: > 0 } phrase ? phrase : "Error";

    /// <summary>The HTTP status.</summary>
    public int Status { get; }

    /// <summary>What happened this time, for people.</summary>
    public string Detail { get; }

    /// <summary>What happened, for programs: never changes its meaning.</summary>
    public string Code { get; }

    /// <summary>The request, as logs and traces name it.</summary>
    public string TraceId { get; private set; } = (Activity.Current?.TraceId ?? ActivityTraceId.CreateRandom()).ToString();

    /// <summary>Which field breaks which rule.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public Dictionary<string, string[]>? Errors { get; init; }

    /// <summary>The session concerned.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? ThreadId { get; init; }

    /// <summary>The limit that was passed, as config.yaml names it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Limit { get; init; }

    /// <summary>The status that an agent's provider answered with, if it is its doing.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? ProviderStatus { get; init; }

    /// <summary>The provider's own code for it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? ProviderCode { get; init; }

    /// <summary>Sent as <c>Retry-After</c>.</summary>
    [JsonIgnore]
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>Sent as <c>x-should-retry</c>, which many clients obey: <see langword="false"/> where a repeat can't mend it.</summary>
    [JsonIgnore]
    public bool? MayRetry { get; init; }

    /// <summary>Sent as <c>Accept-Encoding</c>: how a body may be encoded.</summary>
    [JsonIgnore]
    public string? AcceptEncoding { get; init; }

    /// <summary>Whether the connection is of no more use after this.</summary>
    [JsonIgnore]
    public bool ClosesConnection { get; init; }

    /// <summary>An error of the domain.</summary>
    public static Problem From(Error error) => new(ErrorStatus.Of(error.Code), error.Code, error.Message)
    {
        Errors = error.Field is { } field ? new() { [field] = [error.Rule ?? error.Message] } : null,
        ThreadId = error.SessionId,
        Limit = error.Limit,
        RetryAfter = error.RetryAfter,
        MayRetry = error.MayRetry,
        ProviderStatus = error.Provider?.Status,
        ProviderCode = error.Provider?.Code,

        // So that the next request goes to another server.
        ClosesConnection = error == Stopping.Refusal,
    };

    /// <summary>A body is too large.</summary>
    public static Problem TooLarge(long bytes, string limit)
    {
        var error = Error.LimitExceeded("body", $"must be at most {bytes} bytes", limit);
        return new(StatusCodes.Status413PayloadTooLarge, error.Code, error.Message)
        {
            Errors = new() { ["body"] = [error.Rule!] },
            Limit = limit,
        };
    }

    /// <summary>What the framework answers with a bare status.</summary>
    public static Problem FromStatus(int status) => status switch
    {
        StatusCodes.Status404NotFound => new(status, "route_not_found", "There is nothing at this address. GET / lists what there is."),
        StatusCodes.Status405MethodNotAllowed =>
            new(status, "method_not_allowed", "This address does not take this method; see the Allow header."),
        StatusCodes.Status408RequestTimeout =>
            new(status, "request_timeout", "The request did not arrive in time.") { ClosesConnection = true },
        StatusCodes.Status413PayloadTooLarge => new(status, "limit_exceeded", "The request is too large."),
        StatusCodes.Status415UnsupportedMediaType => new(status, "unsupported_media_type", "Send JSON: Content-Type: application/json."),
        >= 500 => new(status, "internal_error", "Something went wrong on our side."),
        _ => new(status, "bad_request", "The request can't be understood."),
    };

    /// <summary>Takes over the trace of the request: where nobody records spans here, the caller may.</summary>
    public void TraceFrom(HttpContext context)
    {
        if (Activity.Current is null && ActivityContext.TryParse(context.Request.Headers.TraceParent, null, out var caller))
        {
            TraceId = caller.TraceId.ToString();
        }
    }

    public Task ExecuteAsync(HttpContext httpContext)
    {
        TraceFrom(httpContext);
        var response = httpContext.Response;
        response.StatusCode = Status;
        SecurityHeaders.Set(response.Headers);
        RetryHeaders.Set(response.Headers, RetryAfter, MayRetry);
        if (ClosesConnection)
        {
            response.Headers.Connection = "close";
        }

        if (AcceptEncoding is not null)
        {
            response.Headers.AcceptEncoding = AcceptEncoding;
        }

        return OpenAiApi.IsFor(httpContext.Request)
            ? OpenAiError.From(this).ExecuteAsync(httpContext)
            : response.WriteAsJsonAsync(this, ApiJson.Wire.Problem, ContentType, httpContext.RequestAborted);
    }
}

/// <summary>Ends a request with a problem, from where no result can be returned.</summary>
/// <param name="problem">The answer.</param>
internal sealed class ProblemException(Problem problem) : Exception(problem.Detail)
{
    /// <summary>The answer.</summary>
    public Problem Problem { get; } = problem;
}
