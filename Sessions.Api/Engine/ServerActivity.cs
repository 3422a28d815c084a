using System.Diagnostics.Metrics;

namespace Sessions.Api.Engine;

/// <summary>
/// What this process does, second by second, for who looks at it: its own metrics, listened to from the first look until nobody has
/// looked for a minute. While nobody does, nothing is recorded.
/// </summary>
/// <remarks>In real time: rates and latencies are what a clock on the wall says.</remarks>
internal sealed class ServerActivity(IMeterFactory meters, RunningTurns running, TurnGate gate) : IDisposable
{
    /// <summary>How many samples are kept: five minutes.</summary>
    public const int MaxSamples = 300;

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);

    private readonly Lock _lock = new();
    private readonly Queue<ActivitySample> _samples = new();
    private MeterListener? _listener;
    private Timer? _timer;
    private ActivityRecorder _recorder = new();
    private long _lastLook;
    private int _number;

    /// <summary>What has happened since a sample; and from now on somebody looks.</summary>
    /// <param name="after">The number of the last sample that is known.</param>
    public ActivityReport Read(int after)
    {
        lock (_lock)
        {
            _lastLook = TimeProvider.System.GetTimestamp();
            if (_listener is null)
            {
                Start();
            }

            // A number that was not given out yet is from before a restart.
            var from = after > _number ? 0 : after;
            return new ActivityReport(
                [.. _samples.Where(sample => sample.Number > from)], running.Count, gate.Waiting,
                _recorder.Agents(), _recorder.Operations());
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            Stop();
        }
    }

    private void Start()
    {
        var recorder = _recorder = new ActivityRecorder();
        _listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                // Of this server: there may be others in the process.
                var isOurs = instrument.Meter.Name == SessionMetrics.MeterName && ReferenceEquals(instrument.Meter.Scope, meters);
                if (isOurs && !instrument.IsObservable)
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => recorder.Took(instrument.Name, value, tags));
        _listener.SetMeasurementEventCallback<long>((instrument, value, _, _) => recorder.Counted(instrument.Name, value));
        _listener.Start();
        _timer = new Timer(_ => Tick(), null, Interval, Interval);
    }

    private void Stop()
    {
        _timer?.Dispose();
        _listener?.Dispose();
        (_timer, _listener) = (null, null);
        _samples.Clear();
    }

    private void Tick()
    {
        lock (_lock)
        {
            if (_listener is null)
            {
                return;
            }

            if (TimeProvider.System.GetElapsedTime(_lastLook) > Patience)
            {
                Stop();
                return;
            }

            if (_samples.Count == MaxSamples)
            {
                _samples.Dequeue();
            }

            var sample = _recorder.Take(++_number, TimeProvider.System.GetUtcNow());
            _samples.Enqueue(sample with { RunningTurns = running.Count, WaitingTurns = gate.Waiting });
        }
    }
}

/// <summary>What a process has done.</summary>
/// <param name="Samples">Second by second, oldest first.</param>
/// <param name="RunningTurns">Sessions with a turn that runs, now.</param>
/// <param name="WaitingTurns">Queries that wait for the turn before them, now.</param>
/// <param name="Agents">Turns by agent, since somebody looks.</param>
/// <param name="Operations">Operations of the store by name, since somebody looks.</param>
internal sealed record ActivityReport(
    IReadOnlyList<ActivitySample> Samples, int RunningTurns, int WaitingTurns, IReadOnlyList<NamedLatency> Agents,
    IReadOnlyList<NamedLatency> Operations);
