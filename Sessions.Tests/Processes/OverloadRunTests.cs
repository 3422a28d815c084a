using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json.Nodes;

namespace Sessions.Tests.Processes;

/// <summary>Far more clients than the server can take, none of which waits: a few seconds of what bench/Sessions.Bench.Overload measures
/// at length.</summary>
public sealed class OverloadRunTests
{
    private const int Concurrent = 20;
    private const int Clients = 10 * Concurrent;
    private const int Seconds = 4;

    // What the answers to refused requests may leave behind until it is collected. Kept requests would take more within the time.
    private const int MostMegabytes = 200;

    private static readonly TimeSpan AgentTakes = TimeSpan.FromMilliseconds(100);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Everybody_is_answered_no_more_run_than_allowed_memory_stays_and_it_is_over_when_it_is_over()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var (busy, mostBusy) = (0, 0);
        model.Reply = async (_, _, http) =>
        {
            mostBusy = Math.Max(mostBusy, Interlocked.Increment(ref busy));
            await Task.Delay(AgentTakes, Cancel);
            Interlocked.Decrement(ref busy);
            await ChatCompletionsServer.AnswerAsync(http, "done");
        };
        await using var api = ServiceProcess.Api(
        [
            .. model.Agent("model"),
            ("LIMITS__CONCURRENT_REQUESTS", $"{Concurrent}"), ("SESSIONS__MAX_SESSIONS_PER_USER", "0"),
        ]);
        using var http = new HttpClient { BaseAddress = await api.AddressAsync() };
        var answers = new ConcurrentBag<(HttpStatusCode Status, string? Code, TimeSpan Took)>();

        async Task AskAsync(string session)
        {
            var started = Stopwatch.GetTimestamp();
            using var answer = await http.PostAsJsonAsync("/query",
                new { query = "hello", thread_id = session, agent_type = "model" }, Cancel);
            var body = (await answer.Content.ReadFromJsonAsync<JsonNode>(Cancel))!;
            answers.Add((answer.StatusCode, (string?)body["code"], Stopwatch.GetElapsedTime(started)));
        }

        // Once around, so that the compiler's memory is not taken for the requests'.
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(client => AskAsync($"s{client}")));
        answers.Clear();
        var before = Megabytes(api);

        var over = Stopwatch.GetTimestamp() + (Seconds * Stopwatch.Frequency);
        var clients = Enumerable.Range(0, Clients).Select(client => Task.Run(async () =>
        {
            while (Stopwatch.GetTimestamp() < over)
            {
                await AskAsync($"s{client}");
            }
        }, Cancel)).ToList();
        while (Stopwatch.GetTimestamp() < over)
        {
            using var health = await http.GetAsync(new Uri("/health", UriKind.Relative), Cancel);
            Assert.Equal(HttpStatusCode.OK, health.StatusCode);
        }

        await Task.WhenAll(clients);

        var accepted = answers.Where(answer => answer.Status == HttpStatusCode.OK).ToList();
        var refused = answers.Where(answer => answer.Code == "overloaded").ToList();
        Assert.Equal(answers.Count, accepted.Count + refused.Count);
        Assert.True(accepted.Count >= Concurrent, $"{accepted.Count} accepted");
        Assert.True(refused.Count > accepted.Count, $"{refused.Count} refused, {accepted.Count} accepted");
        Assert.InRange(mostBusy, 1, Concurrent);
        Assert.True(
            refused.Select(answer => answer.Took).Order().ElementAt(refused.Count / 2)
                < accepted.Select(answer => answer.Took).Order().ElementAt(accepted.Count / 2),
            "A refusal took longer than an answer.");
        Assert.InRange(Megabytes(api) - before, double.MinValue, MostMegabytes);

        // Nothing is left of it: as many as fit are all taken. Not at once, as an answer is there before its request is counted no more.
        await ServiceProcess.UntilAsync(async () =>
        {
            answers.Clear();
            await Task.WhenAll(Enumerable.Range(0, Concurrent).Select(client => AskAsync($"s{client}")));
            return answers.All(answer => answer.Status == HttpStatusCode.OK);
        });
    }

    private static double Megabytes(ServiceProcess process)
    {
        if (!OperatingSystem.IsLinux())
        {
            return 0;
        }

        var line = File.ReadLines($"/proc/{process.Id}/status").First(line => line.StartsWith("VmRSS", StringComparison.Ordinal));
        return double.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) / 1024;
    }
}
