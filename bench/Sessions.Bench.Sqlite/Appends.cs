using System.Diagnostics;
using System.Globalization;

namespace Sessions.Bench.Sqlite;

/// <summary>
/// Turns per second as the API makes them (what was said before is read first), ours and the plain loop in turn on the same disk, so that a
/// change of its mood meets both.
/// </summary>
internal static class Appends
{
    private const int Rounds = 7;

    private static readonly TimeSpan Round = TimeSpan.FromSeconds(1);

    public static async Task RunAsync(string folder, int[] concurrencies)
    {
        Console.WriteLine("| concurrent sessions | ours, per second | plain loop, per second | ratio (median of rounds; least to most) "
            + "| ours, p50 ms | p99 ms |");
        Console.WriteLine("|---:|---:|---:|---:|---:|---:|");
        foreach (var sessions in concurrencies)
        {
            await RunAsync(Path.Combine(folder, $"turns-{sessions}"), sessions);
        }

        Console.WriteLine();
    }

    private static async Task RunAsync(string path, int sessions)
    {
        await using var store = Bench.Open(path + "-ours.db");
        using var plain = new PlainLoop(path + "-plain.db");
        var ids = Enumerable.Range(0, sessions).Select(_ => Guid.CreateVersion7().ToString()).ToArray();
        for (var i = 0; i < sessions; i++)
        {
            plain.Create(ids[i]);
            await Bench.AppendAsync(store, ids[i], ids[i]);
        }

        await OursAsync(store, ids);
        Plain(plain, ids);
        List<double> ours = [], plains = [], ratios = [], latencies = [];
        for (var round = 0; round < Rounds; round++)
        {
            var (perSecond, milliseconds) = await OursAsync(store, ids);
            latencies.AddRange(milliseconds);
            ours.Add(perSecond);
            plains.Add(Plain(plain, ids));
            ratios.Add(ours[^1] / plains[^1]);
        }

        latencies.Sort();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"| {sessions} | {Bench.Median(ours):N0} | {Bench.Median(plains):N0} "
            + $"| {Bench.Median(ratios):0.0} ({ratios.Min():0.0} to {ratios.Max():0.0}) | {latencies[latencies.Count / 2]:0.00} "
            + $"| {latencies[(int)(latencies.Count * 0.99)]:0.00} |"));
    }

    private static async Task<(double PerSecond, List<double> Milliseconds)> OursAsync(SqliteSessionStore store, string[] ids)
    {
        var started = Stopwatch.GetTimestamp();
        var milliseconds = await Task.WhenAll(Enumerable.Range(0, ids.Length).Select(i => Task.Run(async () =>
        {
            List<double> taken = [];
            while (Stopwatch.GetElapsedTime(started) < Round)
            {
                var one = Stopwatch.GetTimestamp();
                await Bench.AppendAsync(store, ids[i], ids[i]);
                taken.Add(Stopwatch.GetElapsedTime(one).TotalMilliseconds);
            }

            return taken;
        })));
        var all = milliseconds.SelectMany(taken => taken).ToList();
        return (all.Count / Stopwatch.GetElapsedTime(started).TotalSeconds, all);
    }

    private static double Plain(PlainLoop plain, string[] ids)
    {
        var started = Stopwatch.GetTimestamp();
        var count = 0;
        for (; Stopwatch.GetElapsedTime(started) < Round; count++)
        {
            var id = ids[count % ids.Length];
            plain.Read(id);
            plain.Append(id, Bench.Query, Bench.Response);
        }

        return count / Stopwatch.GetElapsedTime(started).TotalSeconds;
    }
}
