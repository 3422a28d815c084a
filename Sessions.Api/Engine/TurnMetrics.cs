using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace Sessions.Api.Engine;

/// <summary>What is counted and traced about turns. docs/observability.md lists every instrument.</summary>
internal sealed class TurnMetrics
{
    private readonly Histogram<double> _duration;
    private readonly Histogram<double> _queueWait;

    public TurnMetrics(IMeterFactory meters)
    {
        var meter = meters.Create(SessionMetrics.MeterName);
        _duration = meter.CreateHistogram("sessions.turn.duration", "s", "How long a turn took, from the end of its wait to its commit.",
            advice: new InstrumentAdvice<double>
            {
                HistogramBucketBoundaries = [0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300],
            });
        _queueWait = meter.CreateHistogram("sessions.turn.queue_wait", "s", "How long a query waited for the turn before it.",
            advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.0001, 0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60] });
    }

    /// <summary>Spans of turns.</summary>
    public static ActivitySource Source { get; } = new(SessionMetrics.MeterName);

    public void Waited(TimeSpan wait) => _queueWait.Record(wait.TotalSeconds);

    public void Ended(string agentType, string outcome, TimeSpan duration) =>
        _duration.Record(duration.TotalSeconds, new("sessions.agent_type", agentType), new("sessions.outcome", outcome));
}
