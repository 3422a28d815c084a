using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Text;

namespace Sessions.Bench.Overload;

/// <summary>Ten times what the server can take, whether or not it answers; before and after that, half of it.</summary>
internal static class Overload
{
    private const int Concurrent = 200;
    private const int Factor = 10;

    private static readonly TimeSpan AgentTakes = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(5);
    private static readonly double Capacity = Concurrent / AgentTakes.TotalSeconds;

    public static async Task RunAsync(TimeSpan time)
    {
        await using var agent = await Agent.StartAsync(cancelled => Task.Delay(AgentTakes, cancelled));
        await using var server = await Server.StartAsync(
            agent, ("LIMITS__CONCURRENT_REQUESTS", $"{Concurrent}"), ("SESSIONS__MAX_SESSIONS_PER_USER", "1000"));
        using var http = new HttpClient(new SocketsHttpHandler { PooledConnectionIdleTimeout = TimeSpan.FromMinutes(5) })
        {
            BaseAddress = server.Address,
            Timeout = TimeSpan.FromSeconds(60),
        };
        Console.WriteLine($"{Concurrent} requests at a time, an agent that takes {AgentTakes.TotalMilliseconds:0} ms: "
            + $"{Capacity:0} queries per second at the most.");

        // Once for the compiler.
        await OfferAsync(http, server, Capacity / 2, TimeSpan.FromSeconds(5));
        Console.WriteLine();
        Console.WriteLine("| | offered per s | answered 200 | p50 ms | p99 ms | refused 503 | p50 ms | p99 ms | failed "
            + "| /health answered, slowest ms | MiB, start | most | end |");
        Console.WriteLine("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|");
        Print("before", await OfferAsync(http, server, Capacity / 2, TimeSpan.FromSeconds(10)));

        // Not waited for: what comes after it comes at once.
        var overload = await OfferAsync(http, server, Capacity * Factor, time, wait: false);
        var after = await OfferAsync(http, server, Capacity / 2, TimeSpan.FromSeconds(10));
        Print("overload", overload);
        Print("after", after);
        Console.WriteLine();
        Console.WriteLine($"At the agent at once, at the most: {agent.MostBusy}. "
            + $"Last refusal {after.LastRefusal.TotalSeconds:0.00} s after the overload ended.");
    }

    private static void Print(string name, Outcome o) => Console.WriteLine(
        $"| {name} | {o.Offered:0} | {o.Answered.Count} | {Percentile(o.Answered, 0.5):0} | {Percentile(o.Answered, 0.99):0} "
        + $"| {o.Refused.Count} | {Percentile(o.Refused, 0.5):0.0} | {Percentile(o.Refused, 0.99):0.0} | {o.Failed.Count} "
        + $"| {o.Healthy.Count(healthy => healthy.Ok)} of {o.Healthy.Count}, {o.Healthy.Max(healthy => healthy.Took):0} "
        + $"| {o.Memory[0]:0} | {o.Memory.Max():0} | {o.Memory[^1]:0} |");

    private static double Percentile(ConcurrentBag<double> values, double part) =>
        values.IsEmpty ? 0 : values.Order().ElementAt((int)(part * (values.Count - 1)));

    private static async Task<Outcome> OfferAsync(HttpClient http, Server server, double perSecond, TimeSpan time, bool wait = true)
    {
        var outcome = new Outcome();
        var (started, sent, tasks) = (Stopwatch.GetTimestamp(), 0, new List<Task>());
        using var ended = new CancellationTokenSource();
        var watching = WatchAsync(http, server, outcome, ended.Token);
        using var timer = new PeriodicTimer(Tick);
        while (Stopwatch.GetElapsedTime(started) < time && await timer.WaitForNextTickAsync())
        {
            for (var due = (int)(Stopwatch.GetElapsedTime(started).TotalSeconds * perSecond); sent < due; sent++)
            {
                tasks.Add(AskAsync(http, $"s{sent % 5000}", outcome, started));
            }
        }

        outcome.Offered = sent / Stopwatch.GetElapsedTime(started).TotalSeconds;
        if (wait)
        {
            await Task.WhenAll(tasks.Where(task => !task.IsCompleted));
        }

        await ended.CancelAsync();
        await watching;
        return outcome;
    }

    private static async Task AskAsync(HttpClient http, string session, Outcome outcome, long began)
    {
        await Task.Yield();
        var started = Stopwatch.GetTimestamp();
        try
        {
            using var body = new StringContent(
                $$"""{"query":"What tools do you recommend for work?","thread_id":"{{session}}","on_busy":"enqueue"}""",
                Encoding.UTF8, "application/json");
            using var response = await http.PostAsync(new Uri("/query", UriKind.Relative), body);
            var took = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
            if (response.StatusCode == HttpStatusCode.OK)
            {
                outcome.Answered.Add(took);
            }
            else if (response.StatusCode == HttpStatusCode.ServiceUnavailable)
            {
                outcome.Refused.Add(took);
                outcome.LastRefusal = Stopwatch.GetElapsedTime(began);
            }
            else
            {
                outcome.Failed.Add($"{(int)response.StatusCode}");
            }
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException or IOException)
        {
            outcome.Failed.Add(e.Message);
        }
    }

    private static async Task WatchAsync(HttpClient http, Server server, Outcome outcome, CancellationToken ended)
    {
        do
        {
            outcome.Memory.Add(server.Megabytes);
            var started = Stopwatch.GetTimestamp();
            using var health = await http.GetAsync(new Uri("/health", UriKind.Relative), CancellationToken.None);
            outcome.Healthy.Add((health.IsSuccessStatusCode, Stopwatch.GetElapsedTime(started).TotalMilliseconds));
            await Task.WhenAny(Task.Delay(250, ended));
        }
        while (!ended.IsCancellationRequested);
    }

    private sealed class Outcome
    {
        public double Offered { get; set; }

        public TimeSpan LastRefusal { get; set; }

        public ConcurrentBag<double> Answered { get; } = [];

        public ConcurrentBag<double> Refused { get; } = [];

        public ConcurrentBag<string> Failed { get; } = [];

        public List<(bool Ok, double Took)> Healthy { get; } = [];

        public List<double> Memory { get; } = [];
    }
}
