using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using HdrHistogram;
using Sessions.ServiceDefaults;

namespace Sessions.Bench.Load;

/// <summary>
/// Turns that are streamed by a model: our server on each store and a bare pass-through, in turn, between the same clients and the same
/// model's endpoint.
/// </summary>
internal sealed class StreamRun(Options options, string folder, CancellationToken cancellationToken)
{
    private const string PassThroughName = "pass-through";
    private const string OneToken = "one token";
    private const string Tokens = "tokens";
    private const string Many = "many";
    private const string Most = "most";
    private const string Published = "published";
    private const int SteadyStreams = 250;
    private const int FirstTurns = 2000;

    // A collection comes every few seconds: a percentile of fewer would tell whether there was one.
    private const int SteadyRuns = 4;

    private static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(8);
    private static readonly TimeSpan SteadyInterval = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan SlowInterval = TimeSpan.FromMilliseconds(400);
    private static readonly TimeSpan SlowestInterval = TimeSpan.FromSeconds(2);

    // So that as many may run as are asked for: limits.concurrent_requests is 5,000 otherwise.
    private static readonly (string, string)[] ManyRequests = [("LIMITS__CONCURRENT_REQUESTS", "20000"), ("LIMITS__CONNECTIONS", "40000")];

    private readonly Dictionary<(string Row, string Name), List<StreamMeasurement>> _rounds = [];
    private readonly List<string> _failures = [];
    private readonly List<(double First, double Warm)> _published = [];

    /// <summary>What there is to be measured.</summary>
    public static IReadOnlyList<string> Rows { get; } = [OneToken, Tokens, Many, Most, Published];

    public async Task RunAsync()
    {
        using var model = ServerProcess.Self("serve", Limits.Model, "");
        var address = await model.AddressAsync(cancellationToken);
        for (var round = 0; round < options.StreamRounds; round++)
        {
            // Each round begins with another one, and all of them with processes that have done nothing else before.
            for (var i = 0; i < Names.Length; i++)
            {
                await MeasureAsync(Names[(i + round) % Names.Length], address);
            }
        }

        if (options.RowNames.Contains(Published)
            && await Publishing.RunAsync(folder, Publishing.ReadyToRun, Publishing.Ways[0].Arguments, cancellationToken) is { } published)
        {
            for (var round = 0; round < options.StreamRounds; round++)
            {
                await MeasureFirstAsync(published, address);
            }
        }

        Print();
    }

    // A store that others share is not measured here: it adds to a turn, and nothing to a token.
    private string[] Names => [PassThroughName, .. options.StoreTypes.Where(store => store is StorageType.Memory or StorageType.Sqlite)
        .Select(store => store.ToString().ToLowerInvariant())];

    private async Task MeasureAsync(string name, IPEndPoint model)
    {
        using var process = Start(name, model);
        var target = new Target(name, [process], [await process.AddressAsync(cancellationToken)]);
        await RepeatAsync("one token, cold: the first 2 s", target, options.Connections, TimeSpan.FromSeconds(2));
        await RepeatAsync(row: null, target, options.Connections, WarmUp);
        foreach (var row in Rows.Where(options.RowNames.Contains))
        {
            await (row switch
            {
                OneToken => RepeatAsync(row, target, options.Connections, options.Run),
                Tokens => StreamAsync(row, target, SteadyStreams, SteadyInterval, TimeSpan.FromSeconds(2), SteadyRuns * options.Run),
                Many => StreamAsync(row, target, options.Streams, SlowInterval, TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(2)),
                Most => StreamAsync(row, target, options.MostStreams, SlowestInterval, TimeSpan.FromSeconds(4), TimeSpan.FromSeconds(4)),
                _ => Task.CompletedTask,
            });
        }
    }

    // A server as published: its first turns, beside the same when it is warm.
    private async Task MeasureFirstAsync(string program, IPEndPoint model)
    {
        using var process = ServerProcess.Api(program, [], folder, Settings("memory", model));
        var target = new Target("memory", [process], [await process.AddressAsync(cancellationToken)]);
        using var clients = new StreamClients(cancellationToken);
        await clients.ConnectAsync(target.Addresses[0], options.Connections);
        var request = Request(target, tokens: 1, TimeSpan.Zero);
        var first = await CostAsync(FirstTurns / options.Connections);
        await clients.RepeatAsync(request, tokens: 1, WarmUp);
        _published.Add((first, await CostAsync(FirstTurns / options.Connections)));

        async Task<double> CostAsync(int times)
        {
            var before = target.ProcessorTime;
            await clients.AskAsync(request, tokens: 1, times);
            return (target.ProcessorTime - before).TotalMicroseconds / (times * options.Connections);
        }
    }

    private ServerProcess Start(string name, IPEndPoint model) => name == PassThroughName
        ? ServerProcess.Self("serve", Limits.PassThrough, model.ToString())
        : ServerProcess.Api(folder, Settings(name, model));

    private (string, string)[] Settings(string store, IPEndPoint model) =>
    [
        ("SESSIONS__STORAGE_TYPE", store), ("SESSIONS__DB_PATH", Path.Combine(folder, $"streams-{Guid.NewGuid():N}.db")),
        ("AGENTS__ADVANCED__PROVIDER", "openai"), ("AGENTS__ADVANCED__MODEL", "mock"), ("AGENTS__ADVANCED__ENDPOINT", $"http://{model}/v1"),
        .. ManyRequests,
    ];

    // Turns of one token, one after the other on each connection.
    private async Task RepeatAsync(string? row, Target target, int connections, TimeSpan time)
    {
        using var clients = new StreamClients(cancellationToken);
        await clients.ConnectAsync(target.Addresses[0], connections);
        var before = target.ProcessorTime;
        await clients.RepeatAsync(Request(target, tokens: 1, TimeSpan.Zero), tokens: 1, time);
        var each = (target.ProcessorTime - before).TotalMicroseconds / Math.Max(1, clients.Turns);
        Add(row, target.Name, connections, clients, each, clients.Turns / time.TotalSeconds,
            target.Processes[0].ResidentBytes / (double)(1 << 20));
    }

    // So many streams at once; what is measured begins when all of them are under way.
    private async Task StreamAsync(string row, Target target, int streams, TimeSpan interval, TimeSpan wait, TimeSpan time)
    {
        using var clients = new StreamClients(cancellationToken);
        await clients.ConnectAsync(target.Addresses[0], streams);
        var tokens = (int)((wait + time) / interval) + 1;
        var asked = clients.AskAllAsync(Request(target, tokens, interval), tokens);
        await Task.Delay(wait, cancellationToken);
        clients.Ways.Reset();
        var before = target.ProcessorTime;
        await Task.Delay(time - TimeSpan.FromMilliseconds(100), cancellationToken);
        var each = (target.ProcessorTime - before).TotalMicroseconds / Math.Max(1, clients.Ways.TotalCount);
        var resident = target.Processes[0].ResidentBytes / (double)(1 << 20);
        await asked;
        Add(row, target.Name, streams, clients, each, perSecond: 0, resident);
    }

    private void Add(string? row, string name, int streams, StreamClients clients, double microseconds, double perSecond, double resident)
    {
        if (clients.Failure is { } failure)
        {
            _failures.Add($"{row} on {name}: {failure}");
        }

        if (row is null)
        {
            return;
        }

        if (!_rounds.TryGetValue((row, name), out var rounds))
        {
            _rounds[(row, name)] = rounds = [];
        }

        rounds.Add(new StreamMeasurement(
            streams, microseconds, perSecond, Milliseconds(clients.Ways, 50), Milliseconds(clients.Ways, 99),
            Milliseconds(clients.Firsts, 50), Milliseconds(clients.Firsts, 99), resident, clients.Failures));
        Console.Error.WriteLine($"{row}, {name}: {rounds[^1]}");
    }

    private static double Milliseconds(HistogramBase ticks, double percentile) =>
        ticks.TotalCount == 0 ? 0 : TimeSpan.FromTicks(ticks.GetValueAtPercentile(percentile)).TotalMilliseconds;

    private static byte[] Request(Target target, int tokens, TimeSpan interval)
    {
        var asked = MockModel.Ask(tokens, interval);
        var messages = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = asked });
        return target.Name == PassThroughName
            ? Requests.Post("/v1/chat/completions", new() { ["model"] = "mock", ["stream"] = true, ["messages"] = messages })
            : Requests.Post("/query", new() { ["query"] = asked, ["stream"] = true });
    }

    private void Print()
    {
        Console.WriteLine($"| streamed turns, beside a pass-through; medians of {options.StreamRounds} (least to most) | "
            + "| processor, ratio | a token's way, p99, ratio | first token, p99, ratio | KiB a stream beyond it |");
        Console.WriteLine("|---|---|---:|---:|---:|---:|");
        foreach (var ((row, name), ours) in _rounds.Where(run => run.Key.Name != PassThroughName))
        {
            var beside = _rounds[(row, PassThroughName)];
            string Ratio(Func<StreamMeasurement, double> part) =>
                Spread([.. ours.Zip(beside, (one, other) => part(one) / part(other))], "0.00");
            var memory = ours.Zip(beside, (one, other) => (one.ResidentMegabytes - other.ResidentMegabytes) * 1024 / one.Streams).ToList();
            Console.WriteLine(
                $"| {row} | {name} | {Ratio(run => run.Microseconds)} | {Ratio(run => run.WayP99)} | {Ratio(run => run.FirstP99)} "
                + $"| {Spread(memory, "0")} |");
        }

        Console.WriteLine();
        Console.WriteLine("| | | processor µs per turn or token | turns per second | a token's way, p50, p99, ms "
            + "| first token, p50, p99, ms | resident, MiB | failures |");
        Console.WriteLine("|---|---|---:|---:|---:|---:|---:|---:|");
        foreach (var ((row, name), rounds) in _rounds)
        {
            double Median(Func<StreamMeasurement, double> part) => Bench.Sqlite.Bench.Median(rounds.Select(part));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"| {row} | {name} | {Median(run => run.Microseconds):0.0} | {Median(run => run.PerSecond):N0} "
                + $"| {Median(run => run.WayP50):0.0}, {Median(run => run.WayP99):0.0} "
                + $"| {Median(run => run.FirstP50):0.0}, {Median(run => run.FirstP99):0.0} "
                + $"| {Median(run => run.ResidentMegabytes):N0} | {rounds.Sum(run => run.Failures)} |"));
        }

        Console.WriteLine();
        if (_published.Count > 0)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| as published (ReadyToRun), memory "
                + $"| processor µs of each of the first {FirstTurns:N0} turns of one token | of as many when warm | ratio |"));
            Console.WriteLine("|---|---:|---:|---:|");
            Console.WriteLine($"| | {Spread([.. _published.Select(run => run.First)], "0")} "
                + $"| {Spread([.. _published.Select(run => run.Warm)], "0")} "
                + $"| {Spread([.. _published.Select(run => run.First / run.Warm)], "0.00")} |\n");
        }

        _failures.ForEach(failure => Console.WriteLine($"{failure}\n"));
    }

    private static string Spread(List<double> values, string format) => string.Create(CultureInfo.InvariantCulture,
        $"{Bench.Sqlite.Bench.Median(values).ToString(format, CultureInfo.InvariantCulture)} "
        + $"({values.Min().ToString(format, CultureInfo.InvariantCulture)} to "
        + $"{values.Max().ToString(format, CultureInfo.InvariantCulture)})");
}

/// <summary>What one run of streams measured.</summary>
/// <param name="Streams">How many streams there were at a time.</param>
/// <param name="Microseconds">Processor time of the server for each turn or token.</param>
/// <param name="PerSecond">Turns per second, where as many as can be are asked for.</param>
/// <param name="WayP50">From the model to the client, in milliseconds.</param>
/// <param name="WayP99">The same.</param>
/// <param name="FirstP50">From the request to the first token.</param>
/// <param name="FirstP99">The same.</param>
/// <param name="ResidentMegabytes">What the server has in memory while all streams run.</param>
/// <param name="Failures">How many did not come whole.</param>
internal sealed record StreamMeasurement(
    int Streams, double Microseconds, double PerSecond, double WayP50, double WayP99, double FirstP50, double FirstP99,
    double ResidentMegabytes, long Failures);
