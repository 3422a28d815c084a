using System.Globalization;
using static System.FormattableString;

namespace Sessions.Bench.Load;

/// <summary>One of ours, and what it is measured beside.</summary>
internal sealed record Comparison(string Workload, string Name, string Beside);

/// <summary>What was measured, as tables.</summary>
internal sealed class Results
{
    private readonly Dictionary<(string Workload, string Name), List<Measurement>> _rounds = [];

    public void Add(string workload, string name, Measurement measurement)
    {
        if (!_rounds.TryGetValue((workload, name), out var rounds))
        {
            _rounds[(workload, name)] = rounds = [];
        }

        rounds.Add(measurement);
    }

    /// <summary>Prints ratios, which compare runs of the same round, then what they are made of.</summary>
    public void Print(int connections, IEnumerable<Comparison> comparisons)
    {
        Console.WriteLine(Invariant(
            $"| at {connections} connections | | beside | requests per second, ratio (least to most) | p99, ratio (least to most) |"));
        Console.WriteLine("|---|---|---|---:|---:|");
        foreach (var (workload, name, beside) in comparisons)
        {
            if (_rounds.TryGetValue((workload, name), out var ours) && _rounds.TryGetValue((workload, beside), out var theirs))
            {
                Console.WriteLine($"| {workload} | {name} | {beside} | {Ratio(ours, theirs, run => run.PerSecond)} "
                    + $"| {Ratio(ours, theirs, run => run.P99)} |");
            }
        }

        Console.WriteLine();
        Console.WriteLine("| | | requests per second | p50, ms | p99, ms | server's processor, µs per request | clients', µs | failures |");
        Console.WriteLine("|---|---|---:|---:|---:|---:|---:|---:|");
        foreach (var ((workload, name), rounds) in _rounds)
        {
            double Median(Func<Measurement, double> part) => Bench.Sqlite.Bench.Median(rounds.Select(part));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"| {workload} | {name} | {Median(run => run.PerSecond):N0} | {Median(run => run.P50):0.00} "
                + $"| {Median(run => run.P99):0.00} | {Median(run => run.ServerMicroseconds):0.0} "
                + $"| {Median(run => run.ClientMicroseconds):0.0} | {rounds.Sum(run => run.Failures)} |"));
        }

        Console.WriteLine();
        foreach (var ((workload, name), rounds) in _rounds)
        {
            if (rounds.Find(run => run.Failure is not null) is { } failed)
            {
                Console.WriteLine($"{workload} on {name} failed: {failed.Failure}\n");
            }
        }
    }

    private static string Ratio(List<Measurement> ours, List<Measurement> theirs, Func<Measurement, double> part)
    {
        var ratios = ours.Zip(theirs, (one, other) => part(one) / part(other)).ToList();
        return Invariant($"{Bench.Sqlite.Bench.Median(ratios):0.00} ({ratios.Min():0.00} to {ratios.Max():0.00})");
    }
}
