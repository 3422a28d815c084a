namespace Sessions.Api.Engine;

/// <summary>Adds up what happens, to be taken away once a second.</summary>
internal sealed class ActivityRecorder
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, LatencyCounts> _agents = [];
    private readonly Dictionary<string, LatencyCounts> _operations = [];
    private readonly LatencyCounts _turns = new();
    private readonly LatencyCounts _waits = new();
    private readonly LatencyCounts _store = new();
    private long _created;
    private long _removed;
    private long _refused;

    /// <summary>Something was timed.</summary>
    public void Took(string instrument, double seconds, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        lock (_lock)
        {
            switch (instrument)
            {
                case "sessions.turn.duration"
                    when Text(tags, "sessions.outcome") is { } outcome and not ("replayed" or "refused" or "cancelled"):
                    var hasFailed = outcome is "failed" or "unavailable";
                    _turns.Add(seconds, hasFailed);
                    Named(_agents, Text(tags, "sessions.agent_type")).Add(seconds, hasFailed);
                    break;
                case "sessions.turn.queue_wait":
                    _waits.Add(seconds, hasFailed: false);
                    break;
                case "sessions.store.operation.duration":
                    var isError = Text(tags, "error.type") is not null;
                    _store.Add(seconds, isError);
                    Named(_operations, Text(tags, "sessions.store.operation")).Add(seconds, isError);
                    break;
            }
        }
    }

    /// <summary>Something was counted.</summary>
    public void Counted(string instrument, long count)
    {
        lock (_lock)
        {
            _ = instrument switch
            {
                "sessions.created" => _created += count,
                "sessions.expired" or "sessions.evicted" => _removed += count,
                "sessions.requests.refused" => _refused += count,
                _ => 0,
            };
        }
    }

    /// <summary>Takes what has come together, and begins anew.</summary>
    public ActivitySample Take(int number, DateTimeOffset at)
    {
        lock (_lock)
        {
            var sample = new ActivitySample(
                number, at, _created, _removed, _refused, _turns.Summarize(), _waits.Summarize(), _store.Summarize());
            _turns.Clear();
            _waits.Clear();
            _store.Clear();
            (_created, _removed, _refused) = (0, 0, 0);
            return sample;
        }
    }

    /// <summary>Turns by agent, since the beginning.</summary>
    public IReadOnlyList<NamedLatency> Agents() => All(_agents);

    /// <summary>Operations of the store by name, since the beginning.</summary>
    public IReadOnlyList<NamedLatency> Operations() => All(_operations);

    private List<NamedLatency> All(Dictionary<string, LatencyCounts> named)
    {
        lock (_lock)
        {
            return [.. named.OrderBy(entry => entry.Key, StringComparer.Ordinal)
                .Select(entry => new NamedLatency(entry.Key, entry.Value.Summarize()))];
        }
    }

    private static LatencyCounts Named(Dictionary<string, LatencyCounts> all, string? name)
    {
        if (!all.TryGetValue(name ?? "", out var counts))
        {
            all.Add(name ?? "", counts = new LatencyCounts());
        }

        return counts;
    }

    private static string? Text(ReadOnlySpan<KeyValuePair<string, object?>> tags, string name)
    {
        foreach (var tag in tags)
        {
            if (tag.Key == name)
            {
                return tag.Value as string;
            }
        }

        return null;
    }
}

/// <summary>Times, counted in classes that are 19 % apart: enough to tell how long most and how long the slow ones took.</summary>
internal sealed class LatencyCounts
{
    private const int PerOctave = 4;
    private const double Smallest = 0.000001;

    private readonly int[] _classes = new int[PerOctave * 33];
    private int _count;
    private int _failed;
    private double _longest;

    public void Add(double seconds, bool hasFailed)
    {
        _count++;
        _failed += hasFailed ? 1 : 0;
        _longest = Math.Max(_longest, seconds);
        var place = seconds <= Smallest ? 0 : (int)(PerOctave * Math.Log2(seconds / Smallest));
        _classes[Math.Min(place, _classes.Length - 1)]++;
    }

    public void Clear()
    {
        Array.Clear(_classes);
        (_count, _failed, _longest) = (0, 0, 0);
    }

    public Latency Summarize() => new(_count, _failed, Quantile(0.5), Quantile(0.95), _longest);

    private double Quantile(double share)
    {
        var left = (int)Math.Ceiling(_count * share);
        for (var i = 0; i < _classes.Length && left > 0; i++)
        {
            left -= _classes[i];
            if (left <= 0)
            {
                return Math.Min(_longest, Smallest * Math.Pow(2, (i + 1.0) / PerOctave));
            }
        }

        return 0;
    }
}

/// <summary>How long things took.</summary>
/// <param name="Count">How many there were.</param>
/// <param name="Failed">Of them, those that failed.</param>
/// <param name="Median">Half took no longer, in seconds.</param>
/// <param name="P95">95 of 100 took no longer, in seconds.</param>
/// <param name="Longest">The slowest one, in seconds.</param>
internal readonly record struct Latency(int Count, int Failed, double Median, double P95, double Longest);

/// <summary>The same, of one kind.</summary>
internal readonly record struct NamedLatency(string Name, Latency Latency);

/// <summary>What happened in one second.</summary>
/// <param name="Number">Its number.</param>
/// <param name="At">When it ended.</param>
/// <param name="Created">Sessions that were created.</param>
/// <param name="Removed">Sessions that expired or had to make room.</param>
/// <param name="Refused">Requests that were refused for want of room.</param>
/// <param name="Turns">Turns that ended.</param>
/// <param name="Waits">How long they had waited for the turn before them.</param>
/// <param name="Store">Operations of the store.</param>
internal sealed record ActivitySample(
    int Number, DateTimeOffset At, long Created, long Removed, long Refused, Latency Turns, Latency Waits, Latency Store)
{
    /// <summary>Sessions with a turn that runs.</summary>
    public int RunningTurns { get; init; }

    /// <summary>Queries that wait for the turn before them.</summary>
    public int WaitingTurns { get; init; }
}
