using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace Sessions.Tests.Processes;

/// <summary>What clients see of a server that is told to stop, and what it leaves behind.</summary>
public sealed class GracefulStopTests(RedisFixture redis, PostgresFixture postgres) : IDisposable
{
    private const int Clients = 16;
    private const int AnsweredBeforeStop = 200;

    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("memory")]
    [InlineData("sqlite")]
    [InlineData("redis")]
    [InlineData("postgres")]
    public async Task Clients_that_hammer_it_get_an_answer_to_every_request_and_every_answered_turn_is_kept(string store)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        model.Reply = async (request, _, http) =>
        {
            await Task.Delay(50, Cancel);
            await ChatCompletionsServer.AnswerAsync(http, $"echo {ChatCompletionsServer.Messages(request)[^1].Text}");
        };
        (string Key, string Value)[] settings = [.. await StoreAsync(store), .. model.Agent("model"),
            ("SESSIONS__MAX_SESSIONS_PER_USER", "0")];
        var answered = new ConcurrentDictionary<string, List<string>>();
        var count = 0;
        var enough = new TaskCompletionSource();
        await using (var api = ServiceProcess.Api(settings))
        {
            var address = await api.AddressAsync();
            var clients = Enumerable.Range(0, Clients).Select(client => Task.Run(async () =>
            {
                using var http = new HttpClient { BaseAddress = address };
                var queries = answered.GetOrAdd($"s{client}", _ => []);
                for (var i = 0; ; i++)
                {
                    var query = $"c{client} q{i}";
                    HttpResponseMessage response;
                    try
                    {
                        response = await http.PostAsJsonAsync("/query",
                            new { query, thread_id = $"s{client}", agent_type = client % 2 == 0 ? "model" : null }, Cancel);
                    }
                    catch (HttpRequestException e) when (e.HttpRequestError == HttpRequestError.ConnectionError)
                    {
                        // Refused before anything was sent.
                        return;
                    }

                    var body = await response.Content.ReadFromJsonAsync<JsonElement>(Cancel);
                    if (response.StatusCode == HttpStatusCode.ServiceUnavailable)
                    {
                        Assert.Equal("shutting_down", body.GetProperty("code").GetString());
                        Assert.NotNull(response.Headers.RetryAfter);
                        Assert.True(response.Headers.ConnectionClose);
                        return;
                    }

                    Assert.True(response.IsSuccessStatusCode, body.ToString());
                    queries.Add(query);
                    if (Interlocked.Increment(ref count) == AnsweredBeforeStop)
                    {
                        enough.SetResult();
                    }
                }
            }, Cancel)).ToList();

            await Task.WhenAny([enough.Task, .. clients]);
            Assert.Equal(0, await api.StopAsync());
            await Task.WhenAll(clients);
            Assert.DoesNotContain(api.Lines, line => line.StartsWith("fail:", StringComparison.Ordinal));
        }

        Assert.InRange(count, AnsweredBeforeStop, int.MaxValue);
        if (store == "memory")
        {
            return;
        }

        await CheckNothingIsLeftAsync(store, settings);
        await using var again = ServiceProcess.Api(settings);
        using var reader = new HttpClient { BaseAddress = await again.AddressAsync() };
        foreach (var (session, queries) in answered)
        {
            Assert.Equal(queries, await HistoryAsync(reader, session));
        }
    }

    [Fact]
    public async Task What_runs_is_finished_what_waits_too_and_what_is_new_is_refused()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var release = new TaskCompletionSource();
        var started = new SemaphoreSlim(0);
        model.Reply = async (_, _, http) =>
        {
            started.Release();
            await release.Task.WaitAsync(Cancel);
            await ChatCompletionsServer.AnswerAsync(http, "done");
        };
        await using var api = ServiceProcess.Api(model.Agent("model"));
        using var http = new HttpClient { BaseAddress = await api.AddressAsync() };
        var running = http.PostAsJsonAsync("/query", new { query = "a", thread_id = "t", agent_type = "model" }, Cancel);
        await started.WaitAsync(Cancel);
        var waiting = http.PostAsJsonAsync("/query", new { query = "b", thread_id = "t", agent_type = "model" }, Cancel);
        Assert.Equal("Healthy", (string?)(await http.GetFromJsonAsync<JsonNode>("/health", Cancel))!["status"]);
        await WaitsAsync(http);

        api.Signal("TERM");
        await api.SaysAsync("Stopping: ");

        using var health = await http.GetAsync("/health", Cancel);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, health.StatusCode);
        Assert.Equal("Unhealthy", (string?)(await health.Content.ReadFromJsonAsync<JsonNode>(Cancel))!["checks"]!["server"]!["status"]);
        using var alive = await http.GetAsync("/alive", Cancel);
        Assert.Equal(HttpStatusCode.OK, alive.StatusCode);
        foreach (var refused in (HttpResponseMessage[])
            [await http.PostAsJsonAsync("/query", new { query = "d" }, Cancel), await http.GetAsync("/sessions/t", Cancel)])
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
            Assert.Equal("shutting_down", (string?)(await refused.Content.ReadFromJsonAsync<JsonNode>(Cancel))!["code"]);
            Assert.True(refused.Headers.ConnectionClose);
            Assert.NotNull(refused.Headers.RetryAfter);
        }

        // Once more, as somebody does who is impatient: what runs is not given up for it.
        api.Signal("TERM");
        using (var still = await http.GetAsync("/alive", Cancel))
        {
            Assert.Equal(HttpStatusCode.OK, still.StatusCode);
        }

        release.SetResult();
        Assert.Equal(HttpStatusCode.OK, (await running).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await waiting).StatusCode);
        Assert.Equal(0, await api.ExitAsync());
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("redis")]
    [InlineData("postgres")]
    public async Task What_does_not_finish_in_time_is_refused_with_an_answer(string store)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var started = new SemaphoreSlim(0);
        model.Reply = async (_, _, http) =>
        {
            started.Release();
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        };
        (string Key, string Value)[] settings = [.. await StoreAsync(store), .. model.Agent("model"), ("LIMITS__SHUTDOWN_SECONDS", "0.5")];
        await using (var api = ServiceProcess.Api(settings))
        {
            using var http = new HttpClient { BaseAddress = await api.AddressAsync() };
            var plain = http.PostAsJsonAsync("/query", new { query = "a", thread_id = "plain", agent_type = "model" }, Cancel);
            using var streamed = await StreamAsync(http, "streamed");
            using (await StreamAsync(http, "abandoned"))
            {
                // Hung up at once: the turn goes on without anybody who listens.
            }

            for (var i = 0; i < 3; i++)
            {
                await started.WaitAsync(Cancel);
            }

            // So that the check below looks where leases are.
            Assert.True(store == "sqlite" || await LeasesAsync(store, settings) > 0);
            var queued = http.PostAsJsonAsync("/query", new { query = "b", thread_id = "plain", agent_type = "model" }, Cancel);
            await WaitsAsync(http);
            Assert.Equal(0, await api.StopAsync());

            foreach (var refused in (HttpResponseMessage[])[await plain, await queued])
            {
                Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
                Assert.Equal("shutting_down", (string?)(await refused.Content.ReadFromJsonAsync<JsonNode>(Cancel))!["code"]);
            }

            var events = await streamed.Content.ReadAsStringAsync(Cancel);
            Assert.Contains("event: error\n", events, StringComparison.Ordinal);
            Assert.Contains("\"code\":\"shutting_down\"", events, StringComparison.Ordinal);
            Assert.DoesNotContain(api.Lines, line => line.StartsWith("fail:", StringComparison.Ordinal));
        }

        await CheckNothingIsLeftAsync(store, settings);
        await using var again = ServiceProcess.Api(settings);
        using var reader = new HttpClient { BaseAddress = await again.AddressAsync() };
        Assert.Equal(HttpStatusCode.NotFound, (await reader.GetAsync("/sessions/plain", Cancel)).StatusCode);
    }

    [Fact]
    public async Task A_stream_that_is_in_the_middle_is_told_to_its_end_and_kept()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var next = new SemaphoreSlim(1);
        model.Reply = (_, _, http) => ChatCompletionsServer.StreamAsync(http, ["Once ", "upon ", "a time"], _ => next.WaitAsync(Cancel));
        (string Key, string Value)[] settings = [.. await StoreAsync("sqlite"), .. model.Agent("model")];
        await using (var api = ServiceProcess.Api(settings))
        {
            using var http = new HttpClient { BaseAddress = await api.AddressAsync() };
            using var streamed = await StreamAsync(http, "s");
            using var lines = new StreamReader(await streamed.Content.ReadAsStreamAsync(Cancel));
            while (await lines.ReadLineAsync(Cancel) != "event: delta")
            {
            }

            api.Signal("TERM");
            await api.SaysAsync("Stopping: 1 requests and 1 streamed turns");
            next.Release(2);
            var rest = await lines.ReadToEndAsync(Cancel);

            Assert.Contains("event: done\n", rest, StringComparison.Ordinal);
            Assert.Contains("\"response\":\"Once upon a time\"", rest, StringComparison.Ordinal);
            Assert.Equal(0, await api.ExitAsync());
        }

        await CheckNothingIsLeftAsync("sqlite", settings);
        await using var again = ServiceProcess.Api(settings);
        using var reader = new HttpClient { BaseAddress = await again.AddressAsync() };
        Assert.Equal(["tell me"], await HistoryAsync(reader, "s"));
    }

    [Fact]
    public async Task The_last_spans_reach_the_collector()
    {
        await using var collector = await OtlpReceiver.StartAsync();
        await using var api = ServiceProcess.Api(
            [.. collector.Environment, ("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_METRIC_EXPORT_INTERVAL", "600000")]);
        using var http = new HttpClient { BaseAddress = await api.AddressAsync() };
        (await http.PostAsJsonAsync("/query", new { query = "Hello" }, Cancel)).EnsureSuccessStatusCode();
        Assert.Empty(collector.Spans);

        Assert.Equal(0, await api.StopAsync());

        Assert.Contains(collector.Spans, span => span.Name == "POST /query");
        Assert.Equal(1, collector.Metric("Sessions.Api", "sessions.turn.duration"));
    }

    /// <summary>Until a query waits for the turn before it.</summary>
    private static Task WaitsAsync(HttpClient http) => ServiceProcess.UntilAsync(async () =>
        (int)(await http.GetFromJsonAsync<JsonNode>("/activity", Cancel))!["waiting_turns"]! == 1);

    private static Task<HttpResponseMessage> StreamAsync(HttpClient http, string session)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "/query")
        {
            Content = new StringContent($$"""{"query":"tell me","thread_id":"{{session}}","agent_type":"model","stream":true}""",
                Encoding.UTF8, "application/json"),
        };
        return http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
    }

    private static async Task<List<string>> HistoryAsync(HttpClient http, string session)
    {
        List<string> queries = [];
        for (string? next = ""; next is not null;)
        {
            var page = (await http.GetFromJsonAsync<JsonNode>($"/sessions/{session}/history?limit=100{next}", Cancel))!;
            queries.AddRange(page["turns"]!.AsArray().Select(turn => (string)turn!["query"]!));
            next = (string?)page["next"] is { } cursor ? $"&after={cursor}" : null;
        }

        return queries;
    }

    private async Task<(string Key, string Value)[]> StoreAsync(string store) => store switch
    {
        "sqlite" => [("SESSIONS__STORAGE_TYPE", "sqlite"), ("SESSIONS__DB_PATH", _folder["sessions.db"])],
        "redis" => [("SESSIONS__STORAGE_TYPE", "redis"), ("ConnectionStrings__redis", await redis.NewDatabaseAsync())],
        "postgres" => [("SESSIONS__STORAGE_TYPE", "postgres"), ("ConnectionStrings__postgres", await postgres.NewSchemaAsync())],
        _ => [],
    };

    // Of SQLite one file, with everything in it; of leases elsewhere none, so that another replica need not wait for them.
    private async Task CheckNothingIsLeftAsync(string store, (string Key, string Value)[] settings)
    {
        if (store == "sqlite")
        {
            Assert.Equal(["sessions.db"], Directory.GetFiles(_folder.Path).Select(Path.GetFileName));
            return;
        }

        Assert.Equal(0, await LeasesAsync(store, settings));
    }

    private static async Task<long> LeasesAsync(string store, (string Key, string Value)[] settings)
    {
        if (store == "postgres")
        {
            await using var source = Npgsql.NpgsqlDataSource.Create(settings.Single(setting =>
                setting.Key == "ConnectionStrings__postgres").Value);
            await using var command = source.CreateCommand("SELECT count(*) FROM sessions WHERE lease_token IS NOT NULL OR version = 0");
            return (long)(await command.ExecuteScalarAsync(Cancel))!;
        }

        await using var connection = await StackExchange.Redis.ConnectionMultiplexer.ConnectAsync(
            settings.Single(setting => setting.Key == "ConnectionStrings__redis").Value);
        var (server, database) = (connection.GetServers().Single(), connection.GetDatabase().Database);
        var keys = new RedisKeys();
        return ((string[])[keys.Lease("*")!, keys.Waiter("*")!]).Sum(pattern => server.Keys(database, pattern).LongCount());
    }
}
