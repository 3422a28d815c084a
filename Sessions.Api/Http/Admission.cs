using Sessions.Api.Engine;
using Sessions.Api.Engine.Streams;

namespace Sessions.Api.Http;

/// <summary>
/// Lets in as many requests at a time as the server has room for, and none once it is to stop. The others are answered at once, rather than
/// to wait for memory that is not there. <c>/health</c> and <c>/alive</c> are always answered.
/// </summary>
internal sealed class Admission(LimitSettings limits, Stopping stopping, BodyBudget bodies, RequestMetrics metrics)
{
    private readonly TaskCompletionSource _empty = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _requests;
    private long _lastRefusal = long.MinValue / 2;

    /// <summary>How many requests are being answered.</summary>
    public int Requests => Volatile.Read(ref _requests);

    /// <summary>When the last request was refused because the server is to stop, as <see cref="Environment.TickCount64"/> has it.</summary>
    public long LastRefusal => Volatile.Read(ref _lastRefusal);

    /// <summary>The answer where there is no room.</summary>
    public static Problem Overloaded => Problem.From(StreamedTurns.Overloaded);

    /// <summary>Whether an orchestrator asks how the server is.</summary>
    public static bool IsProbe(HttpRequest request) => request.Path.Value is "/health" or "/alive";

    /// <summary>Lets no more requests in.</summary>
    /// <returns>Ends when the last of those that are in has been answered.</returns>
    public Task CloseAsync()
    {
        stopping.Request();

        // In and out once, so that somebody is the last.
        Interlocked.Increment(ref _requests);
        Leave();
        return _empty.Task;
    }

    /// <summary>The middleware.</summary>
    public Task InvokeAsync(HttpContext context, RequestDelegate next)
    {
        if (IsProbe(context.Request))
        {
            return next(context);
        }

        if (Interlocked.Increment(ref _requests) <= limits.ConcurrentRequests && !stopping.IsRequested)
        {
            return AnswerAsync(context, next);
        }

        Leave();
        return RefuseAsync(context);
    }

    private async Task AnswerAsync(HttpContext context, RequestDelegate next)
    {
        try
        {
            await next(context);
        }
        finally
        {
            bodies.Release(context);
            Leave();
        }
    }

    private void Leave()
    {
        if (Interlocked.Decrement(ref _requests) == 0 && stopping.IsRequested)
        {
            _empty.TrySetResult();
        }
    }

    private Task RefuseAsync(HttpContext context)
    {
        var problem = Overloaded;
        if (stopping.IsRequested)
        {
            problem = Problem.From(Stopping.Refusal);
            Volatile.Write(ref _lastRefusal, Environment.TickCount64);
        }

        metrics.Refused(problem.Code);
        return problem.ExecuteAsync(context);
    }
}
