using System.Diagnostics;
using System.Globalization;
using Sessions.Api;

namespace Sessions.Bench.Sqlite;

/// <summary>
/// Appends per second, ours and the plain loop in turn on the same disk, so that a change of its mood meets both. Once the append alone, and once as the
/// API does it: what was said before is read first.
/// </summary>
internal static class Appends
{
    private const int Rounds = 7;

    private static readonly TimeSpan Round = TimeSpan.FromSeconds(1);

    public static async Task RunAsync(string folder, int[] concurrencies)
    {
        Console.WriteLine("| | concurrent sessions | ours, per second | plain loop, per second | ratio (median of rounds; least to most) | ours, p50 ms | p99 ms |");
        Console.WriteLine("|---|---:|---:|---:|---:|---:|---:|");
        foreach (var reading in (bool[])[false, true])
        {
            foreach (var sessions in concurrencies)
            {
                await RunAsync(Path.Combine(folder, $"{(reading ? "turns" : "appends")}-{sessions}"), sessions, reading);
            }
        }

        Console.WriteLine();
    }

    private static async Task RunAsync(string path, int sessions, bool reading)
    {
        await using var store = Bench.Open(path + "-ours.db");
        using var plain = new PlainLoop(path + "-plain.db");
        var ids = Enumerable.Range(0, sessions).Select(_ => Guid.CreateVersion7().ToString()).ToArray();
        var starts = new TurnStart[sessions];
        for (var i = 0; i < sessions; i++)
        {
            plain.Create(ids[i]);
            await AppendAsync(store, await BeginAsync(store, ids[i]));
            starts[i] = await BeginAsync(store, ids[i]);
        }

        await OursAsync(store, starts, reading);
        Plain(plain, ids, reading);
        List<double> ours = [], plains = [], ratios = [], latencies = [];
        for (var round = 0; round < Rounds; round++)
        {
            var (perSecond, milliseconds) = await OursAsync(store, starts, reading);
            latencies.AddRange(milliseconds);
            ours.Add(perSecond);
            plains.Add(Plain(plain, ids, reading));
            ratios.Add(ours[^1] / plains[^1]);
        }

        latencies.Sort();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"| {(reading ? "read, then append" : "append")} | {sessions} | {Bench.Median(ours):N0} | {Bench.Median(plains):N0} | {Bench.Median(ratios):0.0} ({ratios.Min():0.0} to {ratios.Max():0.0}) | {latencies[latencies.Count / 2]:0.00} | {latencies[(int)(latencies.Count * 0.99)]:0.00} |"));
    }

    private static async Task<(double PerSecond, List<double> Milliseconds)> OursAsync(SqliteSessionStore store, TurnStart[] starts, bool reading)
    {
        var started = Stopwatch.GetTimestamp();
        var milliseconds = await Task.WhenAll(Enumerable.Range(0, starts.Length).Select(i => Task.Run(async () =>
        {
            List<double> taken = [];
            while (Stopwatch.GetElapsedTime(started) < Round)
            {
                var one = Stopwatch.GetTimestamp();
                if (reading)
                {
                    starts[i] = await BeginAsync(store, starts[i].Request.SessionId);
                }

                await AppendAsync(store, starts[i]);

                // The next one begins where this one ended.
                var before = (SqliteTurnStart)starts[i];
                starts[i] = new SqliteTurnStart(before.Request, before.Ground) { Session = before.Session! with { TurnCount = before.Session.TurnCount + 1 } };
                taken.Add(Stopwatch.GetElapsedTime(one).TotalMilliseconds);
            }

            return taken;
        })));
        var all = milliseconds.SelectMany(taken => taken).ToList();
        return (all.Count / Stopwatch.GetElapsedTime(started).TotalSeconds, all);
    }

    private static double Plain(PlainLoop plain, string[] ids, bool reading)
    {
        var started = Stopwatch.GetTimestamp();
        var count = 0;
        for (; Stopwatch.GetElapsedTime(started) < Round; count++)
        {
            var id = ids[count % ids.Length];
            if (reading)
            {
                plain.Read(id);
            }

            plain.Append(id, Bench.Query, Bench.Response);
        }

        return count / Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    private static ValueTask<TurnStart> BeginAsync(SqliteSessionStore store, string id) =>
        store.BeginTurnAsync(new TurnRequest { SessionId = id, Owner = Owner.Claiming(id), HistoryTurns = 1 }, CancellationToken.None);

    private static async Task AppendAsync(SqliteSessionStore store, TurnStart start)
    {
        if (await store.CommitTurnAsync(start, Bench.NewTurn((start.Session?.TurnCount ?? 0) + 1), null, CancellationToken.None) is var status and not CommitStatus.Committed)
        {
            throw new InvalidOperationException($"The turn is {status}.");
        }
    }
}
