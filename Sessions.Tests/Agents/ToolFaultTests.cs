using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Testing;
using Sessions.Tests.OpenAi;

namespace Sessions.Tests.Agents;

/// <summary>Tools whose server, client, provider or process fails in the middle, and what is kept of them on every store.</summary>
public sealed class ToolFaultTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_program_that_does_nothing_any_more_is_replaced()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Only Linux shows the state of other processes.");
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start(
            [
                .. model.Agent("model"), .. TestTools.LocalOf("model"),
                ("agents:model:timeout_seconds", "3600"), ("agents:model:tools:local:timeout_seconds", "20"),
            ]);
        Assert.Equal("after 1 calls: echo 1", await AskAsync(server, "call echo 1"));

        // Not before it stands still: it would be there for the next turn, and then not.
        var asked = AskAsync(server, "call freeze 1");
        await ServiceProcess.UntilAsync(TestTools.IsFrozen);
        while (!asked.IsCompleted)
        {
            server.Time.Advance(TimeSpan.FromSeconds(20));
            await Task.WhenAny(asked, Task.Delay(500, Cancel));
        }

        Assert.Equal("after 1 calls: Error: The tool did not answer within 20 s.", await asked);
        Assert.Equal("after 2 calls: echo 1, echo 2", await AskAsync(server, "call echo 2"));
    }

    [Fact]
    public async Task A_call_whose_server_was_started_anew_is_made_again_and_runs_once()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);
        await AskAsync(server, "call echo 1");
        tools.Forget();

        Assert.Equal("after 2 calls: echo 1, echo 2", await AskAsync(server, "call echo 2"));
        Assert.Equal(3, tools.Calls.Count);
    }

    [Fact]
    public async Task A_client_that_goes_away_while_a_tool_runs_finds_the_turn_by_its_key()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start(
            [.. model.Agent("model"), .. tools.Of("model"), ("agents:model:tools:tools:timeout_seconds", "20")]);
        const string Query = """{"query":"call hang 1","thread_id":"a","agent_type":"model"}""";
        using var gone = new CancellationTokenSource();
        using var request = new HttpRequestMessage(HttpMethod.Post, "/query")
        {
            Content = new StringContent(Query, System.Text.Encoding.UTF8, "application/json"),
            Headers = { { "Idempotency-Key", "k" } },
        };
        var asked = server.Client.SendAsync(request, gone.Token);
        await tools.Hanging.WaitAsync(Cancel);
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asked);
        server.Time.Advance(TimeSpan.FromSeconds(20));

        var found = await RetryAsync();
        while (found.Code == "idempotency_in_progress")
        {
            await Task.Delay(50, Cancel);
            found = await RetryAsync();
        }

        Assert.Equal("after 1 calls: Error: The tool did not answer within 20 s.", (string?)found.Json["response"]);
        Assert.Equal("true", found.Headers["Idempotency-Replayed"]);
        Assert.Equal(["hang"], tools.Calls);

        Task<Answer> RetryAsync() => server.PostAsync("/query", Query, ("Idempotency-Key", "k"));
    }

    [Fact]
    public async Task A_retry_of_what_failed_after_a_tool_is_told_so_and_runs_nothing()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);
        model.Reply = (request, _, http) =>
        {
            if (request["messages"]!.AsArray().Count == 1)
            {
                return AgentToolTests.CallAsync(http, "echo", """{"round":1}""");
            }

            http.Response.StatusCode = 500;
            return Task.CompletedTask;
        };

        foreach (var stream in (bool[])[false, false, true])
        {
            var failed = (await AskAsync("hello", stream)).IsProblem(502, "agent_failed");
            Assert.Equal("false", failed.Headers["x-should-retry"]);
            Assert.Equal(["echo"], tools.Calls);
        }

        (await AskAsync("another", stream: false)).IsProblem(422, "idempotency_key_reused");

        Task<Answer> AskAsync(string query, bool stream) =>
            server.PostAsync("/query", new { query, thread_id = "a", agent_type = "model", stream }, ("Idempotency-Key", "k"));
    }

    [Theory]
    [InlineData("storage_damaged")]
    [InlineData("storage_unavailable")]
    public async Task What_the_store_fails_at_after_a_tool_is_final_too(string code)
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        using var logs = new FakeLoggerProvider();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")], services =>
        {
            FaultySessionStore.Around(services);
            services.AddSingleton<ILoggerProvider>(logs);
        });
        var faults = server.Get<FaultySessionStore>();
        faults.Fail("commit_turn", tookEffect: false, code == "storage_damaged"
            ? new StoredDataException("a", "The session is damaged.")
            : new StoreUnavailableException("The store is on fire.", TimeSpan.FromSeconds(7)));

        for (var i = 0; i < 2; i++)
        {
            var failed = (await server.PostAsync(
                "/query", """{"query":"call echo 1","thread_id":"a","agent_type":"model"}""",
                ("Idempotency-Key", "k"))).IsProblem(503, code);
            Assert.Equal("false", failed.Headers["x-should-retry"]);
            Assert.DoesNotContain("Retry-After", failed.Headers.Keys);
            Assert.Equal(["echo"], tools.Calls);
            faults.Heal();
        }

        Assert.Equal(
            code == "storage_unavailable" ? ["The store is unavailable: The store is on fire."] : [],
            logs.Collector.GetSnapshot().Where(log => log.Message.StartsWith("The store is unavailable", StringComparison.Ordinal))
                .Select(log => log.Message));
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("redis")]
    [InlineData("postgres")]
    public async Task Calls_are_there_after_a_restart_on_every_store(string storeName)
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var store = await OpenAiStore.CreateAsync(storeName);
        await using (var server = SessionsServer.Start([.. store.Settings, .. model.Agent("model"), .. tools.Of("model")]))
        {
            Assert.Equal("after 2 calls: echo 1, echo 2", await AskAsync(server, "call echo 2"));
            Assert.StartsWith("after 1 calls: Error", await AskAsync(server, "call fail 1"), StringComparison.Ordinal);
        }

        await using var again = SessionsServer.Start([.. store.Settings, .. model.Agent("model"), .. tools.Of("model")]);
        var turns = (await again.GetAsync("/sessions/a/history?include=items")).Json["turns"]!.AsArray();
        Assert.Equal(
            ["completed echo 1", "completed echo 2", "failed "],
            turns.SelectMany(turn => turn!["output"]!.AsArray()).Where(item => (string?)item!["type"] == "mcp_call")
                .Select(item => $"{(string?)item!["status"]} {(string?)item["output"]}"));
        Assert.Equal("done", await AskAsync(again, "say done"));
        Assert.Equal(3, model.Requests[^1]["messages"]!.AsArray().Count(message => (string?)message!["role"] == "tool"));
    }

    private static async Task<string> AskAsync(SessionsServer server, string query) =>
        (string)(await server.QueryAsync(query, "a", agent: "model"))["response"]!;
}
