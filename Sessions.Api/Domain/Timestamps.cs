namespace Sessions.Api.Domain;

/// <summary>Times as the stores keep them: whole microseconds since 1970, UTC. A double and Lua's numbers hold these exactly.</summary>
internal static class Timestamps
{
    private const long TicksPerMicrosecond = TimeSpan.TicksPerMicrosecond;

    /// <summary>The present, in whole microseconds.</summary>
    public static DateTimeOffset GetUtcNowMicroseconds(this TimeProvider time) => FromMicroseconds(time.GetUtcNow().ToMicroseconds());

    /// <summary>Microseconds since 1970; what is finer is cut off.</summary>
    public static long ToMicroseconds(this DateTimeOffset time) => (time.UtcTicks - DateTimeOffset.UnixEpoch.Ticks) / TicksPerMicrosecond;

    /// <summary>The time so many microseconds after 1970.</summary>
    /// <exception cref="OverflowException">There is no such time: what is far outside of all would come around as one of them.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such time.</exception>
    public static DateTimeOffset FromMicroseconds(long microseconds) =>
        DateTimeOffset.UnixEpoch.AddTicks(checked(microseconds * TicksPerMicrosecond));
}
