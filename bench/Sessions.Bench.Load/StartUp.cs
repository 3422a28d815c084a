using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using static System.FormattableString;

namespace Sessions.Bench.Load;

/// <summary>How long it takes from the start of the process to the first answer, as built and as published: compiled beforehand, alone or
/// together with the framework, and native.</summary>
internal sealed class StartUp(Options options, string folder, CancellationToken cancellationToken)
{
    private const string Session = "the-first-session-asked-for";

    private static readonly (string Way, string[] Arguments)[] Published =
    [
        ("ReadyToRun", ["--self-contained", "false"]),
        ("ReadyToRun with the framework", ["--self-contained", "true", "-p:PublishReadyToRunComposite=true"]),
        ("native", ["-p:PublishAot=true"]),
    ];

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
        foreach (var (way, arguments) in Published)
        {
            if (await PublishAsync(way, arguments) is { } program)
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

        Console.WriteLine(Invariant($"| from the start of the process to the first answer; sqlite with {options.Idle:N0} sessions, {new FileInfo(database).Length / (double)options.Idle:0} bytes each in the file | median, ms | least to most |"));
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
        var started = Stopwatch.GetTimestamp();
        using var server = start(address);
        while (true)
        {
            try
            {
                // Any answer will do; in memory there is no session yet.
                using var connection = new Connection(address, [Requests.NewGet($"/sessions/{Session}")]);
                connection.Send();
                while (!connection.Receive())
                {
                }

                return Stopwatch.GetElapsedTime(started).TotalMilliseconds;
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionRefused && Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(60))
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
                    Guid.CreateVersion7().ToString(), SessionKey.New(), SessionKind.Session, IdleSessions.User(i), default, SessionOrigin.Query),
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

    // Null where the feed has not what it takes.
    private async Task<string?> PublishAsync(string way, string[] arguments)
    {
        var repository = new DirectoryInfo(AppContext.BaseDirectory);
        while (repository is not null && !File.Exists(Path.Combine(repository.FullName, "Sessions.sln")))
        {
            repository = repository.Parent;
        }

        await Console.Error.WriteLineAsync($"publishing: {way}");
        var artifacts = Path.Combine(folder, "published", way.Replace(' ', '-'));
        var start = new ProcessStartInfo("dotnet",
        [
            "publish", Path.Combine(repository?.FullName ?? ".", "Sessions.Api"), "-c", "Release", "-r", RuntimeInformation.RuntimeIdentifier, .. arguments,
            "--artifacts-path", artifacts, "-v", "q", "-nodeReuse:false",
        ])
        { RedirectStandardOutput = true };
        using var publish = Process.Start(start)!;
        try
        {
            var output = await publish.StandardOutput.ReadToEndAsync(cancellationToken);
            await publish.WaitForExitAsync(cancellationToken);
            if (publish.ExitCode == 0)
            {
                return Directory.EnumerateFiles(Path.Combine(artifacts, "publish"), OperatingSystem.IsWindows() ? "Sessions.Api.exe" : "Sessions.Api", SearchOption.AllDirectories).Single();
            }

            await Console.Error.WriteLineAsync($"{way} is left out:\n{output}");
            return null;
        }
        finally
        {
            if (!publish.HasExited)
            {
                publish.Kill(entireProcessTree: true);
            }
        }
    }
}
