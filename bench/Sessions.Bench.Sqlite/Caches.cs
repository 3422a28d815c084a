using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Bench.Sqlite;

/// <summary>What reading costs with and without a cache, of a file that is in the operating system's memory and of one that is not.</summary>
internal static class Caches
{
    private const int Sessions = 2_000;
    private const int Turns = 20;
    private const int Repetitions = 500;
    private const int DontNeed = 4;

    private static readonly Utf8Text Text = new string('x', 1000);

    public static async Task RunAsync(string folder)
    {
        var path = Path.Combine(folder, "cache.db");
        await using (var store = Bench.Open(path))
        {
            await FillAsync(store);
        }

        var connection = RedisConnection.OpenForCache(Environment.GetEnvironmentVariable($"ConnectionStrings__{RedisConnection.Name}"));
        await using var plain = Bench.Open(path);
        await using var behind = Bench.Open(path);
        await using var cache = new TurnCache(
            connection, $"bench-{Environment.ProcessId}:", new SessionSettings(), new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>(), NullLogger<TurnCache>.Instance);
        var cached = new CachedSessionStore(behind, cache);
        for (var i = 0; i < Sessions; i++)
        {
            await Bench.AppendAsync(cached, $"s{i}", historyTurns: Turns);
        }

        await behind.Writer.RunAloneAsync(tables => SqliteCheckpoints.Truncate(tables.Link), CancellationToken.None);
        Console.WriteLine("| file | | without, µs | with a cache, µs | ratio |");
        Console.WriteLine("|---|---|---:|---:|---:|");
        using var file = File.OpenHandle(path);
        foreach (var cold in new[] { false, true })
        {
            await CompareAsync(file, cold, "a turn's beginning", plain, cached,
                (store, id) => store.BeginTurnAsync(new TurnRequest { SessionId = id, Owner = Owner.Anyone, HistoryTurns = Turns }, CancellationToken.None));
            await CompareAsync(file, cold, "the newest page of its history", plain, cached,
                (store, id) => store.ReadHistoryAsync(id, Owner.Anyone, new TurnPageRequest(Turns, null, Descending: true), CancellationToken.None));
        }

        await cache.RemoveAsync([.. Enumerable.Range(0, Sessions).Select(i => $"s{i}")]);
    }

    private static async Task CompareAsync<T>(
        SafeFileHandle file, bool cold, string what, ISessionStore plain, ISessionStore cached, Func<ISessionStore, string, ValueTask<T>> read)
    {
        var without = new double[Repetitions];
        var with = new double[Repetitions];
        for (var i = -Repetitions; i < Repetitions; i++)
        {
            without[Math.Max(i, 0)] = await TimeAsync(plain);
            with[Math.Max(i, 0)] = await TimeAsync(cached);
        }

        var (a, b) = (Bench.Median(without), Bench.Median(with));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {(cold ? "on the disk" : "in memory")} | {what} | {a:0} | {b:0} | {a / b:0.0} |"));

        async Task<double> TimeAsync(ISessionStore store)
        {
            if (cold && Advise(file, 0, 0, DontNeed) is not 0 and var error)
            {
                throw new InvalidOperationException($"posix_fadvise: {error}");
            }

            var id = $"s{Random.Shared.Next(Sessions)}";
            var started = Stopwatch.GetTimestamp();
            await read(store, id);
            return Stopwatch.GetElapsedTime(started).TotalMicroseconds;
        }
    }

    // A turn of each session in turn, as they come in.
    private static async Task FillAsync(SqliteSessionStore store)
    {
        for (var number = 1; number <= Turns; number++)
        {
            await Task.WhenAll(Enumerable.Range(0, Sessions).Select(async i =>
            {
                var start = await store.BeginTurnAsync(new TurnRequest { SessionId = $"s{i}", Owner = Owner.Anyone, HistoryTurns = 0 }, CancellationToken.None);
                await store.CommitTurnAsync(start, Bench.NewTurn(number) with { Response = Text }, null, CancellationToken.None);
            }));
        }
    }

    [DllImport("libc", EntryPoint = "posix_fadvise64")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Advise(SafeFileHandle file, long offset, long length, int advice);
}
