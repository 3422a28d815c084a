using System.Net;
using Microsoft.Extensions.Http.Resilience;
using Polly;

namespace Sessions.Client.Http;

/// <summary>
/// What is tried again, and when: never what could do something twice. There is no limit on calls at once and no circuit breaker, as the
/// standard handler has them: with these, calls fail that were never sent, because of others that have nothing to do with them.
/// </summary>
internal static class SessionsResilience
{
    // For all attempts of a request together.
    private static readonly TimeSpan MaxWait = TimeSpan.FromSeconds(30);
    private static readonly ResiliencePropertyKey<TimeSpan> Waited = new("Sessions.Client.Waited");

    public static void Configure(ResiliencePipelineBuilder<HttpResponseMessage> pipeline, SessionsClientOptions options)
    {
        pipeline.AddTimeout(new HttpTimeoutStrategyOptions { Timeout = (2 * options.AttemptTimeout) + TimeSpan.FromMinutes(1) });
        if (options.MaxRetryAttempts > 0)
        {
            pipeline.AddRetry(new HttpRetryStrategyOptions
            {
                MaxRetryAttempts = options.MaxRetryAttempts,
                Delay = TimeSpan.FromMilliseconds(500),
                BackoffType = DelayBackoffType.Exponential,
                ShouldHandle = args => ValueTask.FromResult(MayRepeat(args.Context.GetRequestMessage(), args.Outcome)
                    && MayHelp(args.Outcome) && !WaitsTooLong(args.Context, args.Outcome)),
                OnRetry = args =>
                {
                    args.Context.Properties.Set(Waited, WaitedOf(args.Context) + args.RetryDelay);
                    return ValueTask.CompletedTask;
                },
            });
        }

        pipeline.AddTimeout(new HttpTimeoutStrategyOptions { Timeout = options.AttemptTimeout });
    }

    private static bool MayRepeat(HttpRequestMessage? request, Outcome<HttpResponseMessage> outcome)
    {
        // Nothing was sent.
        if (outcome.Exception is HttpRequestException
            {
                HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError,
            })
        {
            return true;
        }

        return request is not null
            && (request.Method == HttpMethod.Get
                || request.Method == HttpMethod.Delete
                || request.Headers.Contains(SessionsTransport.IdempotencyKey)
                || (request.Method == HttpMethod.Patch && request.Headers.IfMatch.Count == 0));
    }

    private static bool MayHelp(Outcome<HttpResponseMessage> outcome)
    {
        if (outcome.Exception is { } failure)
        {
            return failure is HttpRequestException or ExecutionRejectedException;
        }

        // The server knows best: x-should-retry says no where an agent has failed for good, Retry-After says when.
        return outcome.Result is { } response
            && (response.Headers.TryGetValues("x-should-retry", out var should) ? !should.Contains("false")
                : response.StatusCode switch
                {
                    HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests => true,
                    HttpStatusCode.Conflict => response.Headers.RetryAfter is not null,
                    >= HttpStatusCode.InternalServerError => response.StatusCode != HttpStatusCode.InternalServerError,
                    _ => false,
                });
    }

    // The caller is told so at once, and waits by himself: here it would look like a server that does not answer.
    private static bool WaitsTooLong(ResilienceContext context, Outcome<HttpResponseMessage> outcome) =>
        outcome.Result is { } response && SessionsTransport.RetryAfter(response) is { } wait && WaitedOf(context) + wait > MaxWait;

    private static TimeSpan WaitedOf(ResilienceContext context) => context.Properties.GetValue(Waited, TimeSpan.Zero);
}
