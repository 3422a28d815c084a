using Microsoft.AspNetCore.Diagnostics;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.OpenAi;

namespace Sessions.Api.Http;

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

        try
        {
            var answer = !OpenAiApi.IsFor(httpContext.Request) ? (IResult)ToProblem(httpContext, exception) : exception switch
            {
                OpenAiException known => known.Error,
                DomainException known => OpenAiError.From(known.Error),
                _ => ToProblem(httpContext, exception),
            };

            // The framework has cleared them.
            SecurityHeaders.Set(httpContext.Response.Headers);
            await answer.ExecuteAsync(httpContext);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException && httpContext.RequestAborted.IsCancellationRequested)
        {
            // The client has gone meanwhile: nobody is left to be told, and nothing is wrong here.
        }

        return true;
    }

    private Problem ToProblem(HttpContext context, Exception exception)
    {
        switch (exception)
        {
            case ProblemException known:
                return known.Problem;
            case OpenAiException known:
                return Problem.From(new Error("invalid_request", known.Error.Message)
                {
                    Field = known.Error.Param ?? "body",
                    Rule = known.Error.Message,
                });
            case BadHttpRequestException bad:
                // Where this request ends, and the next one begins, can't be told.
                return Problem.FromStatus(bad.StatusCode) with { ClosesConnection = true };
            case var _ when Failures.ErrorOf(exception, logger) is { } error:
                return Problem.From(error);
            default:
                var problem = Problem.FromStatus(StatusCodes.Status500InternalServerError);
                problem.TraceFrom(context);
                Log.Unexpected(
                    logger,
                    context.Request.Method,
                    context.Features.Get<IExceptionHandlerFeature>()?.Endpoint?.DisplayName,
                    Failures.Describe(exception),
                    problem.TraceId,
                    telemetry.IncludeContent ? exception : null);
                return problem;
        }
    }

    /// <summary>
    /// Makes a problem of a status without a body, as the framework answers where there is no route. (Its own middleware for that makes a
    /// feature and a dictionary for each request, also for those that go well.)
    /// </summary>
    public static Task ExplainStatus(HttpContext context, RequestDelegate next)
    {
        var answered = next(context);
        return answered.IsCompletedSuccessfully && context.Response.StatusCode < StatusCodes.Status400BadRequest
            ? answered
            : ExplainAsync(answered, context);

        static async Task ExplainAsync(Task answered, HttpContext context)
        {
            await answered;
            var response = context.Response;
            if (response is
                {
                    StatusCode: >= StatusCodes.Status400BadRequest, HasStarted: false, ContentLength: null, ContentType: null or "",
                })
            {
                await Problem.FromStatus(response.StatusCode).ExecuteAsync(context);
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(
            EventId = 2, Level = LogLevel.Error, Message = "{Method} {Endpoint} failed unexpectedly: {Failure} (trace_id {TraceId})")]
        public static partial void Unexpected(
            ILogger logger, string method, string? endpoint, string failure, string traceId, Exception? exception);
    }
}
