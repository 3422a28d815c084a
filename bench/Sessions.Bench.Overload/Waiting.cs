using System.Text;

namespace Sessions.Bench.Overload;

/// <summary>What queries cost that only wait for their agent.</summary>
internal static class Waiting
{
    private const int HistoryTurns = 20;

    public static async Task RunAsync(int queries)
    {
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        release.SetResult();
        await using var agent = await Agent.StartAsync(async cancelled => await Volatile.Read(ref release).Task.WaitAsync(cancelled));
        await using var server = await Server.StartAsync(
            agent, ("LIMITS__CONCURRENT_REQUESTS", $"{queries}"), ("LIMITS__CONNECTIONS", $"{queries + 100}"),
            ("SESSIONS__MAX_SESSIONS_PER_USER", "0"));
        using var http = new HttpClient { BaseAddress = server.Address, Timeout = TimeSpan.FromMinutes(10) };
        Console.WriteLine("| history of each | waiting queries | MiB before | MiB while they wait | KiB for each |");
        Console.WriteLine("|---|---:|---:|---:|---:|");
        await AskAllAsync(http, queries, "warm");
        foreach (var turns in (int[])[0, HistoryTurns])
        {
            for (var i = 0; i < turns; i++)
            {
                await AskAllAsync(http, queries, $"h{turns}");
            }

            // What was garbage is collected meanwhile, or used again.
            await Task.Delay(TimeSpan.FromSeconds(5));
            var before = server.Megabytes;
            Volatile.Write(ref release, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
            var all = AskAllAsync(http, queries, $"h{turns}", queries);
            while (agent.Busy < queries)
            {
                await Task.Delay(100);
            }

            var during = server.Megabytes;
            Console.WriteLine($"| {turns} turns | {queries:N0} | {before:0} | {during:0} | {(during - before) * 1024 / queries:0} |");
            release.SetResult();
            await all;
        }
    }

    private static Task AskAllAsync(HttpClient http, int queries, string sessions, int atOnce = 64) =>
        Parallel.ForEachAsync(Enumerable.Range(0, queries), new ParallelOptions { MaxDegreeOfParallelism = atOnce }, async (i, cancelled) =>
        {
            using var body = new StringContent($$"""{"query":"{{new string('q', 200)}}","thread_id":"{{sessions}}-{{i}}"}""",
                Encoding.UTF8, "application/json");
            (await http.PostAsync(new Uri("/query", UriKind.Relative), body, cancelled)).EnsureSuccessStatusCode();
        });
}
