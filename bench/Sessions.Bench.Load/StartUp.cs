using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using static System.FormattableString;

namespace Sessions.Bench.Load;

/// <summary>How long it takes from the start of the process to the first answer, as built and as published: compiled beforehand, alone or
/// together with the framework, and native.</summary>
internal sealed class StartUp(Options options, string folder, CancellationToken cancellationToken)
{
    private const string Session = "the-first-session-asked-for";

    public async Task RunAsync()
    {
        var database = Path.Combine(folder, "idle.db");
        await FillAsync(database);
        (string, string)[] memory = [("SESSIONS__STORAGE_TYPE", "memory")];
        (string, string)[] sqlite = [("SESSIONS__STORAGE_TYPE", "sqlite"), ("SESSIONS__DB_PATH", database)];
        List<(string Name, Func<IPEndPoint, ServerProcess> Start)> cases =
        [
            ("memory, as built", address => ServerProcess.Api(folder, [Listen(address), .. memory])),
            ("sqlite, as built", address => ServerProcess.Api(folder, [Listen(address), .. sqlite])),
        ];
        foreach (var (way, arguments) in Publishing.Ways)
        {
            if (await Publishing.RunAsync(folder, way, arguments, cancellationToken) is { } program)
            {
                cases.Add(($"memory, {way}", address => ServerProcess.Api(program, [], folder, [Listen(address), .. memory])));
                cases.Add(($"sqlite, {way}", address => ServerProcess.Api(program, [], folder, [Listen(address), .. sqlite])));
            }
        }

        var taken = cases.ToDictionary(one => one.Name, _ => new List<double>());
        for (var round = -1; round < options.Starts; round++)
        {
            foreach (var (name, start) in cases)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var milliseconds = Time(start);
                if (round >= 0)
                {
                    taken[name].Add(milliseconds);
                }
            }
        }

        var bytes = new FileInfo(database).Length / (double)options.Idle;
        Console.Write("| from the start of the process to the first answer; ");
        Console.WriteLine(Invariant(
            $"sqlite with {options.Idle:N0} sessions, {bytes:0} bytes each in the file | median, ms | least to most |"));
        Console.WriteLine("|---|---:|---:|");
        foreach (var (name, all) in taken)
        {
            Console.WriteLine(Invariant($"| {name} | {Bench.Sqlite.Bench.Median(all):0} | {all.Min():0} to {all.Max():0} |"));
        }

        Console.WriteLine();
    }

    private static (string, string) Listen(IPEndPoint address) => ("ASPNETCORE_URLS", $"http://{address}");

    private double Time(Func<IPEndPoint, ServerProcess> start)
    {
        var address = ServerProcess.FreeAddress();
        return Time(address, Session, () => start(address), cancellationToken);
    }

    /// <summary>How long it takes from the start of a server to its first answer.</summary>
    public static double Time(IPEndPoint address, string session, Func<ServerProcess> start, CancellationToken cancellationToken)
    {
        var started = Stopwatch.GetTimestamp();
        using var server = start();
        while (true)
        {
            try
            {
                // Any answer will do; in memory there is no session yet.
                using var connection = new Connection(address, [Requests.NewGet($"/sessions/{session}")]);
                connection.Send();
                while (!connection.Receive())
                {
                }

                return Stopwatch.GetElapsedTime(started).TotalMilliseconds;
            }
            catch (SocketException e)
                when (e.SocketErrorCode == SocketError.ConnectionRefused && Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(60))
            {
                cancellationToken.ThrowIfCancellationRequested();
                Thread.Sleep(1);
            }
        }
    }

    private async Task FillAsync(string path)
    {
        await Console.Error.WriteLineAsync($"writing {options.Idle} sessions");
        await using var store = Bench.Sqlite.Bench.Open(path);
        await Bench.Sqlite.Bench.AppendAsync(store, Session);

        // Many to a transaction, past the store's front door: this is not what is measured.
        for (var from = 0; from < options.Idle; from += 1000)
        {
            var to = Math.Min(from + 1000, options.Idle);
            await Task.WhenAll(Enumerable.Range(from, to - from).Select(i => store.CopyAsync(new CopyRequest
            {
                Session = new NewSession(
                    Guid.CreateVersion7().ToString(), SessionKey.New(), SessionKind.Session, IdleSessions.User(i), default,
                    SessionOrigin.Query),
                Turns = TurnsAsync(i),
            }, cancellationToken).AsTask()));
        }
    }

    private static async IAsyncEnumerable<ArchivedTurn> TurnsAsync(int session)
    {
        for (var turn = 1; turn <= IdleSessions.Turns; turn++)
        {
            yield return new ArchivedTurn(
                Bench.Sqlite.Bench.NewTurn(turn, IdleSessions.Query(session, turn), IdleSessions.Response(session, turn)), null);
        }

        await Task.CompletedTask;
    }
}
