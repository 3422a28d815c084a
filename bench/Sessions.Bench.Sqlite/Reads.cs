using System.Diagnostics;
using System.Globalization;

namespace Sessions.Bench.Sqlite;

/// <summary>What reading costs as there is more and more that is not read; and how big the file gets.</summary>
internal static class Reads
{
    private const int PageSize = 20;
    private const int Repetitions = 300;

    private static readonly int[] Sizes = [10, 1_000, 100_000];

    public static async Task RunAsync(string folder)
    {
        await HistoryAsync(folder);
        await ListsAsync(folder);
    }

    private static async Task HistoryAsync(string folder)
    {
        Console.WriteLine("| store | turns in the session | first page, µs | last page, µs | page in the middle, µs | session, µs "
            + "| a turn's start (20 turns), µs | a whole turn but for the agent, µs | bytes per turn in the file |");
        Console.WriteLine("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        foreach (var turns in Sizes)
        {
            var path = Path.Combine(folder, $"history-{turns}.db");
            await using (var store = Bench.Open(path))
            {
                await FillAsync(store, "session", turns);
            }

            // Closed, so that nothing of it is in the log.
            var bytes = new FileInfo(path).Length;
            await using (var store = Bench.Open(path))
            {
                await HistoryAsync(store, "sqlite", turns, $"{bytes / turns:N0}");
            }

            var memory = Bench.OpenMemory();
            for (var i = 0; i < turns; i++)
            {
                await Bench.AppendAsync(memory, "session", "user");
            }

            await HistoryAsync(memory, "memory", turns, "");
        }

        Console.WriteLine();
    }

    private static async Task HistoryAsync(ISessionStore store, string name, int turns, string bytes)
    {
        var session = SessionRef.ById("session");
        ValueTask<TurnPage?> PageAsync(int? after, bool descending) => store.ReadTurnsAsync(session, Owner.Anyone,
            new TurnPageRequest { Limit = PageSize, MaxBytes = 1 << 20, After = after, Descending = descending }, CancellationToken.None);
        var first = await TimeAsync(() => PageAsync(null, descending: false));
        var last = await TimeAsync(() => PageAsync(null, descending: true));
        var middle = await TimeAsync(() => PageAsync(turns / 2, descending: false));
        var head = await TimeAsync(() => store.OpenAsync(
            new OpenRequest { Session = session, Owner = Owner.Anyone }, CancellationToken.None));
        var begin = await TimeAsync(() => store.OpenAsync(
            new OpenRequest { Session = session, Owner = Owner.Anyone, HistoryTurns = PageSize }, CancellationToken.None));
        var turn = await TimeAsync(async () =>
        {
            await Bench.AppendAsync(store, "session", historyTurns: PageSize);
            return true;
        });
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"| {name} | {turns:N0} | {first:0.0} | {last:0.0} | {middle:0.0} | {head:0.0} | {begin:0.0} | {turn:0.0} | {bytes} |"));
    }

    private static async Task ListsAsync(string folder)
    {
        Console.WriteLine("| sessions of the user | first page, µs | last page, µs | page in the middle, µs | statistics, µs "
            + "| bytes per session with one turn |");
        Console.WriteLine("|---:|---:|---:|---:|---:|---:|");
        foreach (var sessions in Sizes)
        {
            var path = Path.Combine(folder, $"list-{sessions}.db");
            await using (var store = Bench.Open(path))
            {
                for (var done = 0; done < sessions; done += 1000)
                {
                    await Task.WhenAll(Enumerable.Range(done, Math.Min(1000, sessions - done))
                        .Select(_ => Bench.AppendAsync(store, Guid.CreateVersion7().ToString(), "user")));
                }
            }

            var bytes = new FileInfo(path).Length;
            await using (var store = Bench.Open(path))
            {
                var all = await store.ListAsync(new SessionPageRequest { UserId = "user", Limit = sessions / 2 }, CancellationToken.None);
                var first = await TimeAsync(() => store.ListAsync(
                    new SessionPageRequest { UserId = "user", Limit = PageSize }, CancellationToken.None));
                var last = await TimeAsync(() => store.ListAsync(
                    new SessionPageRequest { UserId = "user", Limit = PageSize, Ascending = true }, CancellationToken.None));
                var middle = await TimeAsync(() => store.ListAsync(
                    new SessionPageRequest { UserId = "user", Limit = PageSize, After = all.Next }, CancellationToken.None));
                var statistics = await TimeAsync(() => store.CountAsync(CancellationToken.None));
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"| {sessions:N0} | {first:0} | {last:0} | {middle:0} | {statistics:0} | {bytes / sessions:N0} |"));
            }
        }

        Console.WriteLine();
    }

    private static async Task FillAsync(SqliteSessionStore store, string id, int turns)
    {
        var session = new NewSession(id, SessionKey.New(), SessionKind.Session, "user", default, SessionOrigin.Api);
        await store.CopyAsync(new CopyRequest { Session = session, Turns = TurnsAsync(turns) }, CancellationToken.None);
    }

    private static async IAsyncEnumerable<ArchivedTurn> TurnsAsync(int turns)
    {
        for (var number = 1; number <= turns; number++)
        {
            yield return new ArchivedTurn(Bench.NewTurn(number), null);
        }

        await Task.CompletedTask;
    }

    private static async Task<double> TimeAsync<T>(Func<ValueTask<T>> read)
    {
        var times = new double[Repetitions];
        for (var i = -Repetitions; i < Repetitions; i++)
        {
            var started = Stopwatch.GetTimestamp();
            await read();
            times[Math.Max(i, 0)] = Stopwatch.GetElapsedTime(started).TotalMicroseconds;
        }

        return Bench.Median(times);
    }
}
