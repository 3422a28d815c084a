using Sessions.Api.Engine;

namespace Sessions.Api.Http;

/// <summary>
/// How many bytes the bodies of the requests in progress have together, and those of each caller. What has come is counted, not what was
/// announced: a client that announces much and sends little takes no more than it sends, and one that announces nothing is counted as
/// well.
/// </summary>
internal sealed class BodyBudget(LimitSettings limits, RequestMetrics metrics)
{
    /// <summary>Bodies up to this size are bounded well enough by the number of requests.</summary>
    public const int SmallBody = 8 << 10;

    // Callers can be had by the million. They share so many slots, whichever they fall into in this process.
    private const int Slots = 4096;

    private readonly long[] _ofCallers = new long[Slots];
    private long _bytes;

    /// <summary>How many there are.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Counts what has come of a request's body so far.</summary>
    /// <exception cref="ProblemException">It is more than there is room for.</exception>
    public void Count(HttpContext context, long arrived)
    {
        if (arrived <= SmallBody)
        {
            return;
        }

        var body = context.Features.Get<CountedBody>();
        if (body is null)
        {
            body = new CountedBody(RateLimits.Caller.Of(context).GetHashCode() & (Slots - 1));
            context.Features.Set(body);
        }

        var more = arrived - body.Bytes;
        body.Bytes = arrived;
        var ofCaller = Interlocked.Add(ref _ofCallers[body.Slot], more);
        if (Interlocked.Add(ref _bytes, more) > limits.RequestBodiesBytes)
        {
            throw Refuse(Admission.Overloaded);
        }

        if (ofCaller > limits.RequestBodiesBytesPerCaller)
        {
            throw Refuse(new Problem(StatusCodes.Status429TooManyRequests, "rate_limited",
                $"More than {limits.RequestBodiesBytesPerCaller} bytes of request bodies at a time.")
            { Limit = "limits.request_bodies_bytes_per_caller", RetryAfter = TimeSpan.FromSeconds(1) });
        }
    }

    /// <summary>The request has been answered.</summary>
    public void Release(HttpContext context)
    {
        if (context.Features.Get<CountedBody>() is { } body)
        {
            Interlocked.Add(ref _ofCallers[body.Slot], -body.Bytes);
            Interlocked.Add(ref _bytes, -body.Bytes);
            context.Features.Set<CountedBody>(null);
        }
    }

    private ProblemException Refuse(Problem problem)
    {
        metrics.Refused(problem.Code);
        return new(problem);
    }

    private sealed class CountedBody(int slot)
    {
        public int Slot { get; } = slot;

        public long Bytes { get; set; }
    }
}

/// <summary>Marks a route to which content is sent: its bodies may have <see cref="LimitSettings.ContentBytes"/>.</summary>
internal sealed class ContentBody
{
    private ContentBody()
    {
    }

    /// <summary>The only one.</summary>
    public static ContentBody Instance { get; } = new();
}
