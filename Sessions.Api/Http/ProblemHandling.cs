using Microsoft.AspNetCore.Diagnostics;

namespace Sessions.Api;

/// <summary>Turns whatever ends a request early into a problem: nothing else ever reaches a client.</summary>
internal sealed partial class ProblemHandling(TelemetrySettings telemetry, ILogger<ProblemHandling> logger) : IExceptionHandler
{
    public async ValueTask<bool> TryHandleAsync(HttpContext httpContext, Exception exception, CancellationToken cancellationToken)
    {
        if (httpContext.RequestAborted.IsCancellationRequested)
        {
            httpContext.Response.StatusCode = StatusCodes.Status499ClientClosedRequest;
            return true;
        }

        await ToProblem(httpContext, exception).ExecuteAsync(httpContext);
        return true;
    }

    /// <summary>The answer where the store is unavailable.</summary>
    public static Problem From(StoreUnavailableException unavailable) =>
        new(StatusCodes.Status503ServiceUnavailable, "storage_unavailable", unavailable.Message) { RetryAfter = unavailable.RetryAfter };

    private Problem ToProblem(HttpContext context, Exception exception)
    {
        switch (exception)
        {
            case ProblemException known:
                return known.Problem;
            case StoreUnavailableException unavailable:
                if (!unavailable.WasKnown)
                {
                    Log.StoreUnavailable(logger, unavailable.Message, unavailable.InnerException);
                }

                return From(unavailable);
            case BadHttpRequestException bad:
                return Problem.FromStatus(bad.StatusCode);
            default:
                var problem = Problem.FromStatus(StatusCodes.Status500InternalServerError);
                problem.TraceFrom(context);
                Log.Unexpected(
                    logger, context.Request.Method, context.Features.Get<IExceptionHandlerFeature>()?.Endpoint?.DisplayName, Failures.Describe(exception), problem.TraceId, telemetry.IncludeContent ? exception : null);
                return problem;
        }
    }

    /// <summary>
    /// Makes a problem of a status without a body, as the framework answers where there is no route. (Its own middleware for that makes a feature and a dictionary for
    /// each request, also for those that go well.)
    /// </summary>
    public static Task ExplainStatus(HttpContext context, RequestDelegate next)
    {
        var answered = next(context);
        return answered.IsCompletedSuccessfully && context.Response.StatusCode < StatusCodes.Status400BadRequest ? answered : ExplainAsync(answered, context);

        static async Task ExplainAsync(Task answered, HttpContext context)
        {
            await answered;
            var response = context.Response;
            if (response is { StatusCode: >= StatusCodes.Status400BadRequest, HasStarted: false, ContentLength: null, ContentType: null or "" })
            {
                await Problem.FromStatus(response.StatusCode).ExecuteAsync(context);
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 1, Level = LogLevel.Error, Message = "The store is unavailable: {Reason}")]
        public static partial void StoreUnavailable(ILogger logger, string reason, Exception? exception);

        [LoggerMessage(EventId = 2, Level = LogLevel.Error, Message = "{Method} {Endpoint} failed unexpectedly: {Failure} (trace_id {TraceId})")]
        public static partial void Unexpected(ILogger logger, string method, string? endpoint, string failure, string traceId, Exception? exception);
    }
}
