using HdrHistogram;

namespace Sessions.Bench.Load;

/// <summary>What one run measured.</summary>
/// <param name="PerSecond">Answered requests per second.</param>
/// <param name="P50">Half of the answers took no longer, in milliseconds.</param>
/// <param name="P99">99 % of the answers took no longer, in milliseconds.</param>
/// <param name="Failures">How many answers did not say success.</param>
internal sealed record Measurement(double PerSecond, double P50, double P99, long Failures)
{
    /// <summary>Processor time of the servers per request, in microseconds.</summary>
    public double ServerMicroseconds { get; init; }

    /// <summary>Processor time of the clients per request, in microseconds.</summary>
    public double ClientMicroseconds { get; init; }

    /// <summary>An answer that did not say success, if there was one.</summary>
    public string? Failure { get; init; }

    /// <summary>For <see cref="TimeSpan.Ticks"/> up to a minute, to three digits.</summary>
    public static LongHistogram NewHistogram() => new(TimeSpan.TicksPerMinute, 3);

    public static Measurement Of(LongHistogram ticks, TimeSpan taken, long failures = 0)
    {
        return new(ticks.TotalCount / taken.TotalSeconds, Milliseconds(50), Milliseconds(99), failures);

        // None were answered in time, on a machine that is very busy.
        double Milliseconds(double percentile) =>
            ticks.TotalCount == 0 ? 0 : TimeSpan.FromTicks(ticks.GetValueAtPercentile(percentile)).TotalMilliseconds;
    }
}
