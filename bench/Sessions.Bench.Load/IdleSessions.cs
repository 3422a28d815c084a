using System.Diagnostics;
using System.Globalization;
using static System.FormattableString;

namespace Sessions.Bench.Load;

/// <summary>What an idle session takes in the memory store: two turns of 100 characters, asked and answered, ten sessions to a
/// user.</summary>
internal static class IdleSessions
{
    public const int Turns = 2;

    /// <summary>Measures in a process of its own, which has nothing else in memory.</summary>
    public static async Task MeasureAsync(int sessions, CancellationToken cancellationToken)
    {
        using var process = Process.Start(
            new ProcessStartInfo("dotnet", ServerProcess.OfSelf("hold", sessions.ToString(CultureInfo.InvariantCulture))))!;
        try
        {
            await process.WaitForExitAsync(cancellationToken);
        }
        finally
        {
            process.Kill();
        }
    }

    /// <summary>Fills a store as the API does, and prints what it takes.</summary>
    public static async Task HoldAsync(int sessions)
    {
        var store = Bench.Sqlite.Bench.OpenMemory();
        await Bench.Sqlite.Bench.AppendAsync(store, "first");
        var before = Bytes();
        for (var i = 0; i < sessions; i++)
        {
            var (id, user) = (Guid.CreateVersion7().ToString(), User(i));
            for (var turn = 1; turn <= Turns; turn++)
            {
                await Bench.Sqlite.Bench.AppendAsync(store, id, user, query: Query(i, turn), response: Response(i, turn));
            }
        }

        var each = (Bytes() - before) / (double)sessions;
        var text = Turns * (Query(0, 1).Length + Response(0, 1).Length);
        Console.WriteLine(
            "| idle sessions in memory | bytes each | of them UTF-8 text of the turns | the rest | process, resident, bytes per session |");
        Console.WriteLine("|---:|---:|---:|---:|---:|");
        Console.WriteLine(Invariant($"| {sessions:N0} | {each:0} | {text} | {each - text:0} | {Environment.WorkingSet / sessions:0} |"));
        Console.WriteLine();
        GC.KeepAlive(store);
    }

    public static string User(int session) => Invariant($"user-{session / 10:D6}");

    // Ten figures, so that no text is like another.
    public static string Query(int session, int turn) => Invariant($"Remember that I like my order {session:D7}-{turn:D2} in a box.");

    public static string Response(int session, int turn) => Invariant($"You like your order {session:D7}-{turn:D2} in a box: so noted.");

    private static long Bytes()
    {
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        GC.WaitForPendingFinalizers();
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        return GC.GetTotalMemory(forceFullCollection: true);
    }
}
