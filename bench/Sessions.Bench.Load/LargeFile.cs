using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.Data.Sqlite;
using static System.FormattableString;

namespace Sessions.Bench.Load;

/// <summary>A SQLite file with a great many sessions beside one with few: import, start, requests, statistics, and the clean-up of a
/// quarter of them that has expired.</summary>
internal sealed class LargeFile(Options options, string folder, CancellationToken cancellationToken)
{
    private const int Few = 5000;
    private const int Turns = 5;
    private const int SessionsPerUser = 10;
    private const int Asked = 1000;
    private const int CleaningClients = 16;

    private static readonly string[] Workloads = [Requests.Get, Requests.List, Requests.History, Requests.Query];

    public async Task RunAsync()
    {
        Console.WriteLine(Invariant($"| {options.Large:N0} sessions of {Turns} turns in one SQLite file | | with {Few:N0} | ratio |"));
        Console.WriteLine("|---|---:|---:|---:|");
        var (few, _) = await ImportAsync(Few);
        var (many, import) = await ImportAsync(options.Large);
        var perSecond = options.Large * (double)Turns / import.TotalSeconds;
        Console.WriteLine(Invariant($"| import, s; a second imports so many turns | {import.TotalSeconds:0.0}; {perSecond:N0} | | |"));
        var (bytes, bytesOfFew) = (new FileInfo(many).Length / (double)options.Large, new FileInfo(few).Length / (double)Few);
        Console.WriteLine(Invariant($"| bytes a session | {bytes:N0} | {bytesOfFew:N0} | |"));
        Print("start to the first answer, ms", Enumerable.Range(0, options.Starts).Select(_ => Start(many)),
            Enumerable.Range(0, options.Starts).Select(_ => Start(few)));
        await AskAsync(many, few);
        Expire(many, options.Large / 4);
        await CleanAsync(many);
        Console.WriteLine();
    }

    private static string SessionOf(int number) => new Guid(number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10).ToString();

    private static string UserOf(int number) => Invariant($"user-{number / SessionsPerUser:D7}");

    // An export as the server writes it, taken in by the command that the server has for it.
    private async Task<(string Database, TimeSpan Taken)> ImportAsync(int sessions)
    {
        var archive = Path.Combine(folder, $"{sessions}.ndjson");
        await Console.Error.WriteLineAsync($"writing and importing {sessions} sessions");
        await WriteAsync(archive, sessions);
        var database = Path.Combine(folder, $"{sessions}.db");
        var started = Stopwatch.GetTimestamp();
        using var import = ServerProcess.Api(folder, ["import", archive], Sqlite(database));
        await import.EndAsync(cancellationToken);
        var taken = Stopwatch.GetElapsedTime(started);
        File.Delete(archive);
        return (database, taken);
    }

    private static async Task WriteAsync(string archive, int sessions)
    {
        await using var file = new StreamWriter(archive, append: false, new UTF8Encoding(false), bufferSize: 1 << 20);
        var now = DateTimeOffset.UtcNow;
        for (var number = 0; number < sessions; number++)
        {
            var session = new ArchivedSession(
                new Session
                {
                    Id = SessionOf(number),
                    Key = SessionKey.New(),
                    Kind = SessionKind.Session,
                    UserId = UserOf(number),
                    CreatedAt = now,
                    CreatedFrom = SessionOrigin.Query,
                    LastActivityAt = now,
                    ExpiresAt = now.AddHours(24),
                    Revision = Revision.First(),
                    TurnCount = Turns,
                }, null);
            await file.WriteLineAsync(Line(new ArchiveEntry(session, null), ""));
            for (var turn = 1; turn <= Turns; turn++)
            {
                var made = Bench.Sqlite.Bench.NewTurn(turn, IdleSessions.Query(number, turn), IdleSessions.Response(number, turn));
                await file.WriteLineAsync(Line(new ArchiveEntry(null, new ArchivedTurn(made, null)), SessionOf(number)));
            }
        }

        await file.WriteLineAsync(JsonSerializer.Serialize(
            new ArchiveLine { End = new ArchiveEnd(sessions, (long)sessions * Turns) }, ArchiveLineJson.Lines.ArchiveLine));
    }

    private static string Line(ArchiveEntry entry, string session) =>
        JsonSerializer.Serialize(ArchiveLine.From(entry, session), ArchiveLineJson.Lines.ArchiveLine);

    private static (string, string)[] Sqlite(string database) => [("SESSIONS__STORAGE_TYPE", "sqlite"), ("SESSIONS__DB_PATH", database)];

    private double Start(string database)
    {
        var address = ServerProcess.FreeAddress();
        return StartUp.Time(
            address, SessionOf(0),
            () => ServerProcess.Api(folder, [("ASPNETCORE_URLS", $"http://{address}"), .. Sqlite(database)]), cancellationToken);
    }

    private async Task AskAsync(string many, string few)
    {
        using var large = ServerProcess.Api(folder, Sqlite(many));
        using var small = ServerProcess.Api(folder, Sqlite(few));
        var (ofMany, ofFew) = (await TargetAsync(large), await TargetAsync(small));
        var generator = new Generator(options.Connections, cancellationToken);
        foreach (var workload in Workloads)
        {
            List<double> ours = [], theirs = [];
            for (var round = -options.WarmUps; round < options.Rounds; round++)
            {
                var one = generator.Run(ofMany, ToApi(workload, options.Connections, options.Large), options.Run);
                var other = generator.Run(ofFew, ToApi(workload, options.Connections, Few), options.Run);
                if (round >= 0)
                {
                    ours.Add(one.PerSecond);
                    theirs.Add(other.PerSecond);
                }
            }

            Print($"{workload}, requests per second", ours, theirs);
        }

        Print("statistics, ms", Statistics(ofMany), Statistics(ofFew));
    }

    private static IEnumerable<double> Statistics(Target target)
    {
        var request = Requests.NewGet("/sessions/stats");
        using var connection = new Connection(target.Addresses[0], [request]);
        for (var i = 0; i < 200; i++)
        {
            var started = Stopwatch.GetTimestamp();
            connection.Send();
            while (!connection.Receive())
            {
            }

            yield return Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        }
    }

    // In the file: so many sessions that nobody has come back to.
    private static void Expire(string database, int sessions)
    {
        using var connection = new SqliteConnection($"Data Source={database}");
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = Invariant($"UPDATE sessions SET expires_at = 1 WHERE key <= {sessions}");
        command.ExecuteNonQuery();
        SqliteConnection.ClearAllPools();
    }

    private async Task CleanAsync(string many)
    {
        using var server = ServerProcess.Api(folder, Sqlite(many));
        var target = await TargetAsync(server);
        var generator = new Generator(CleaningClients, cancellationToken);
        var requests = ToApi(Requests.Query, CleaningClients, options.Large);
        generator.Run(target, requests, TimeSpan.FromSeconds(5));
        var normal = Enumerable.Range(0, 5).Select(_ => generator.Run(target, requests, options.Run)).ToList();
        var started = Stopwatch.GetTimestamp();
        var cleaning = Task.Run(
            () => Connection.Ask(target.Addresses[0], Requests.Post("/sessions/cleanup", new())).Dispose(), cancellationToken);
        List<Measurement> during = [];
        while (!cleaning.IsCompleted)
        {
            during.Add(generator.Run(target, requests, options.Run));
        }

        await cleaning;
        var took = Stopwatch.GetElapsedTime(started).TotalSeconds;
        Console.WriteLine(Invariant(
            $"| the clean-up of {options.Large / 4:N0} expired, s, beside {CleaningClients} clients | {took:0.0} | | |"));
        Print("a query's p99 meanwhile, ms, beside what it was before", during.Select(run => run.P99), normal.Select(run => run.P99));
        Print("queries per second meanwhile", during.Select(run => run.PerSecond), normal.Select(run => run.PerSecond));
    }

    private async Task<Target> TargetAsync(ServerProcess process) =>
        new("sqlite", [process], [await process.AddressAsync(cancellationToken)]);

    // Of the last three quarters, which stay.
    private static byte[][][] ToApi(string workload, int clients, int sessions)
    {
        var random = new Random(1);
        var asked = Enumerable.Range(0, Asked).Select(_ => random.Next(sessions / 4, sessions)).Distinct().ToArray();
        return [.. Enumerable.Range(0, clients)
            .Select(client => asked.Where((_, i) => i % clients == client).Select(number => workload switch
            {
                Requests.Get => Requests.NewGet($"/sessions/{SessionOf(number)}"),
                Requests.List => Requests.NewGet($"/users/{UserOf(number)}/sessions?limit={SessionsPerUser}"),
                Requests.History => Requests.NewGet($"/sessions/{SessionOf(number)}/history"),
                _ => Requests.Post("/query", new() { ["query"] = IdleSessions.Query(number, 0), ["thread_id"] = SessionOf(number) }),
            }).ToArray())];
    }

    private static void Print(string what, IEnumerable<double> ours, IEnumerable<double> theirs)
    {
        var (one, other) = (Bench.Sqlite.Bench.Median(ours), Bench.Sqlite.Bench.Median(theirs));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {what} | {one:N2} | {other:N2} | {one / other:0.00} |"));
    }
}
