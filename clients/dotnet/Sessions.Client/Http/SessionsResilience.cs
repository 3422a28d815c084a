using System.Net;
using Microsoft.Extensions.Http.Resilience;
using Polly;

namespace Sessions.Client.Http;

/// <summary>What is tried again, and when: never what could do something twice.</summary>
internal static class SessionsResilience
{
    public static void Configure(HttpStandardResilienceOptions resilience, SessionsClientOptions options)
    {
        resilience.AttemptTimeout.Timeout = options.AttemptTimeout;
        resilience.TotalRequestTimeout.Timeout = (2 * options.AttemptTimeout) + TimeSpan.FromMinutes(1);

        // The least that the circuit breaker takes.
        resilience.CircuitBreaker.SamplingDuration = 2 * options.AttemptTimeout;
        resilience.CircuitBreaker.ShouldHandle = args => ValueTask.FromResult(
            args.Outcome.Exception is HttpRequestException or ExecutionRejectedException
            || args.Outcome.Result?.StatusCode == HttpStatusCode.ServiceUnavailable);
        resilience.Retry.MaxRetryAttempts = Math.Max(1, options.MaxRetryAttempts);
        resilience.Retry.Delay = TimeSpan.FromMilliseconds(500);
        resilience.Retry.BackoffType = DelayBackoffType.Exponential;
        resilience.Retry.ShouldHandle = args => ValueTask.FromResult(
            options.MaxRetryAttempts > 0 && MayRepeat(args.Context.GetRequestMessage(), args.Outcome) && MayHelp(args.Outcome));
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
}
