using Sessions.Api.Engine;
using Sessions.Api.Engine.Streams;

namespace Sessions.Api.Http;

/// <summary>
/// Lets in as many requests at a time as the server has room for, and none once it is to stop. The others are answered at once, rather than
/// to wait for memory that is not there. <c>/health</c> and <c>/alive</c> are always answered.
/// </summary>
internal sealed class Admission
{
    private readonly LimitSettings _limits;
    private readonly Stopping _stopping;
    private readonly BodyBudget _bodies;
    private readonly RequestMetrics _metrics;
    private readonly Func<object, Task> _starting;
    private readonly TaskCompletionSource _empty = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _requests;
    private long _lastAnswer = long.MinValue / 2;

    public Admission(LimitSettings limits, Stopping stopping, BodyBudget bodies, RequestMetrics metrics)
    {
        (_limits, _stopping, _bodies, _metrics) = (limits, stopping, bodies, metrics);
        _starting = AnswerStarting;
    }

    /// <summary>How many requests are being answered.</summary>
    public int Requests => Volatile.Read(ref _requests);

    /// <summary>When the last answer was given since the server is to stop, as <see cref="Environment.TickCount64"/> has it.</summary>
    public long LastAnswer => Volatile.Read(ref _lastAnswer);

    /// <summary>The answer where there is no room.</summary>
    public static Problem Overloaded => Problem.From(StreamedTurns.Overloaded);

    /// <summary>Whether an orchestrator asks how the server is.</summary>
    public static bool IsProbe(HttpRequest request) => request.Path.Value is "/health" or "/alive";

    /// <summary>Lets no more requests in.</summary>
    /// <returns>Ends when the last of those that are in has been answered.</returns>
    public Task CloseAsync()
    {
        _stopping.Request();

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

        if (Interlocked.Increment(ref _requests) <= _limits.ConcurrentRequests && !_stopping.IsRequested)
        {
            return AnswerAsync(context, next);
        }

        Leave();
        return RefuseAsync(context);
    }

    private async Task AnswerAsync(HttpContext context, RequestDelegate next)
    {
        context.Response.OnStarting(_starting, context.Response);
        try
        {
            await next(context);
        }
        finally
        {
            _bodies.Release(context);
            Leave();
        }
    }

    private void Leave()
    {
        var left = Interlocked.Decrement(ref _requests);
        if (_stopping.IsRequested && left == 0)
        {
            _empty.TrySetResult();
        }
    }

    // A client that is told with its answer sends the next request elsewhere, not into a connection that is about to be closed.
    private Task AnswerStarting(object state)
    {
        if (_stopping.IsRequested)
        {
            ((HttpResponse)state).Headers.Connection = "close";
            Volatile.Write(ref _lastAnswer, Environment.TickCount64);
        }

        return Task.CompletedTask;
    }

    private Task RefuseAsync(HttpContext context)
    {
        var problem = Overloaded;
        if (_stopping.IsRequested)
        {
            problem = Problem.From(Stopping.Refusal);
            Volatile.Write(ref _lastAnswer, Environment.TickCount64);
        }

        _metrics.Refused(problem.Code);
        return problem.ExecuteAsync(context);
    }
}
