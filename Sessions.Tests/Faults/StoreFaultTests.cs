
namespace Sessions.Tests.Faults;

/// <summary>A store that fails, is slow, or hangs, at any of its operations: what the client is told, what is kept, and how it goes
/// on.</summary>
public sealed class StoreFaultTests
{
    // Each operation of the store that a client can bring about, by the request that does.
    private static readonly Dictionary<string, (string Method, string Path, string? Body)> Requests = new()
    {
        ["create"] = ("POST", "/sessions", "{}"),
        ["get"] = ("GET", "/sessions/a", null),
        ["delete"] = ("DELETE", "/sessions/a", null),
        ["list"] = ("GET", "/users/ada/sessions", null),
        ["read_history"] = ("GET", "/sessions/a/history", null),
        ["replace_metadata"] = ("PATCH", "/sessions/a", """{"metadata":{"topic":"tea"}}"""),
        ["fork"] = ("POST", "/sessions/a/fork", """{"session_id":"b"}"""),
        ["begin_turn"] = ("POST", "/query", """{"query":"and?","thread_id":"a","user_id":"ada"}"""),
        ["commit_turn"] = ("POST", "/query", """{"query":"and?","thread_id":"a","user_id":"ada"}"""),
        ["fail_turn"] = ("POST", "/query", """{"query":"and?","thread_id":"a","user_id":"ada","agent_type":"gone"}"""),
        ["reserve_session_id"] = ("POST", "/query", """{"query":"and?","user_id":"ada"}"""),
        ["erase_user"] = ("DELETE", "/users/ada/sessions", null),
        ["remove_expired"] = ("POST", "/sessions/cleanup", null),
        ["get_statistics"] = ("GET", "/sessions/stats", null),
    };

    public static TheoryData<string, bool> Faults =>
        new(Requests.Keys.SelectMany(operation => (bool[])[false, true], (operation, tookEffect) => (operation, tookEffect)));

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task A_store_that_fails_is_told_and_everything_goes_on_when_it_works_again(string operation, bool tookEffect)
    {
        await using var server = await StartAsync();
        var faults = server.Get<FaultySessionStore>();
        var (method, path, body) = Requests[operation];
        faults.Fail(operation, tookEffect, new StoreUnavailableException("The store is on fire.", TimeSpan.FromSeconds(7)));

        for (var i = 0; i < 2; i++)
        {
            var refused = (await server.SendAsync(new HttpMethod(method), path, body, ("Idempotency-Key", $"k{i}")))
                .IsProblem(503, "storage_unavailable");
            Assert.Equal("The store is on fire.", (string?)refused.Json["detail"]);
            Assert.Equal("7", refused.Headers["Retry-After"]);
        }

        faults.Heal();
        await GoesOnAsync(server, keptTurns: operation is "commit_turn" && tookEffect ? ["hello", "and?", "and?"]
            : operation is "delete" or "erase_user" && tookEffect ? []
            : ["hello"]);
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task What_no_store_should_throw_is_a_500_that_tells_nothing_and_harms_nothing(string operation, bool tookEffect)
    {
        await using var server = await StartAsync();
        var faults = server.Get<FaultySessionStore>();
        var (method, path, body) = Requests[operation];
        faults.Fail(operation, tookEffect, new InvalidOperationException("secret"));

        var refused = (await server.SendAsync(new HttpMethod(method), path, body, ("Idempotency-Key", "k")))
            .IsProblem(500, "internal_error");
        Assert.DoesNotContain("secret", refused.Text, StringComparison.Ordinal);

        faults.Heal();
        await GoesOnAsync(server, keptTurns: operation is "commit_turn" && tookEffect ? ["hello", "and?"]
            : operation is "delete" or "erase_user" && tookEffect ? []
            : ["hello"]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_commit_of_which_nobody_heard_is_found_out_by_its_key(bool tookEffect)
    {
        await using var server = await StartAsync();
        var faults = server.Get<FaultySessionStore>();
        faults.Fail("commit_turn", tookEffect, new StoreUnavailableException("Gone.", TimeSpan.FromSeconds(1)));
        Task<Answer> AskAsync(string body) => server.PostAsync("/query", body, ("Idempotency-Key", "k"));
        const string Continued = """{"query":"and?","thread_id":"a","user_id":"ada"}""";
        const string Fresh = """{"query":"new?","user_id":"eve"}""";

        (await AskAsync(Continued)).IsProblem(503, "storage_unavailable");
        (await AskAsync(Fresh)).IsProblem(503, "storage_unavailable");
        faults.Heal();
        var (continued, fresh) = (await AskAsync(Continued), await AskAsync(Fresh));
        var again = await AskAsync(Fresh);

        Assert.Equal((200, 200), (continued.Status, fresh.Status));
        Assert.Equal((tookEffect, tookEffect, true), (Replayed(continued), Replayed(fresh), Replayed(again)));
        Assert.Equal(fresh.Text, again.Text);
        Assert.Equal(2, (int)continued.Json["metadata"]!["turn"]!);
        Assert.Equal(1, (int)fresh.Json["metadata"]!["turn"]!);
        Assert.Equal(["hello", "and?"], await server.HistoryAsync("a"));
        Assert.Single((await server.GetAsync("/users/eve/sessions")).Json["sessions"]!.AsArray());
    }

    [Theory]
    [InlineData(false, null)]
    [InlineData(false, "ada")]
    [InlineData(false, "eve")]
    [InlineData(true, null)]
    [InlineData(true, "ada")]
    [InlineData(true, "eve")]
    public async Task A_request_whose_session_is_deleted_before_it_is_opened_is_a_new_one(bool tiedTheKey, string? madeAgainBy)
    {
        await using var server = await StartAsync();
        var faults = server.Get<FaultySessionStore>();
        Task<Answer> AskAsync() => server.PostAsync("/query", new { query = "new?", user_id = "ada" }, ("Idempotency-Key", "k"));
        var deleted = tiedTheKey ? "" : ThreadOf(await AskAsync());
        faults.After = async (operation, _) =>
        {
            if (operation == "reserve_session_id")
            {
                // Between finding the session by the key and opening it.
                faults.Heal();
                deleted = tiedTheKey ? ThreadOf(await AskAsync()) : deleted;
                Assert.Equal(200, (await server.DeleteAsync($"/sessions/{deleted}?user_id=ada")).Status);
                if (madeAgainBy is not null)
                {
                    await server.QueryAsync("mine", deleted, madeAgainBy);
                }
            }
        };

        var (answer, again) = (await AskAsync(), await AskAsync());

        Assert.True(answer.Status == 200, answer.Text);
        Assert.NotEqual(deleted, ThreadOf(answer));
        Assert.Equal(1, (int)answer.Json["metadata"]!["turn"]!);
        Assert.Equal((false, true, answer.Text), (Replayed(answer), Replayed(again), again.Text));
        Assert.Equal(madeAgainBy is null ? 404 : 200, (await server.GetAsync($"/sessions/{deleted}")).Status);
        if (madeAgainBy is not null)
        {
            Assert.Equal(["mine"], await server.HistoryAsync(deleted));
        }

        static string ThreadOf(Answer answer) => (string)answer.Json["metadata"]!["thread_id"]!;
    }

    [Fact]
    public async Task A_creation_that_an_erasure_has_overtaken_comes_after_it()
    {
        await using var server = await StartAsync();
        server.Get<FaultySessionStore>().Overtaken = 2;

        var created = await server.PostAsync("/sessions", """{"user_id":"ada"}""", ("Idempotency-Key", "k"));

        Assert.True(created.Status == 201, created.Text);
        Assert.Equal(200, (await server.GetAsync($"/sessions/{created.Json["session_id"]}")).Status);
    }

    [Fact]
    public async Task A_stream_whose_commit_fails_ends_with_the_error_and_not_with_done()
    {
        await using var server = await StartAsync();
        var faults = server.Get<FaultySessionStore>();
        faults.Fail("commit_turn", tookEffect: false, new StoreUnavailableException("Gone.", TimeSpan.FromSeconds(1)));

        await using var stream = await EventReader.OpenAsync(server, """{"query":"and?","thread_id":"a","user_id":"ada","stream":true}""");
        var events = await stream.RestAsync();

        Assert.Equal("error", events[^1].Name);
        Assert.Equal("storage_unavailable", (string?)events[^1].Data["code"]);
        Assert.DoesNotContain("done", events.Select(told => told.Name));
        faults.Heal();
        await GoesOnAsync(server, ["hello"]);
    }

    [Fact]
    public async Task A_slow_store_delays_those_who_need_it_and_turns_stay_in_order()
    {
        await using var server = await StartAsync();
        var faults = server.Get<FaultySessionStore>();
        faults.Before = (_, cancellationToken) => Task.Delay(TimeSpan.FromSeconds(1), server.Time, cancellationToken);

        var asking = Enumerable.Range(0, 8).Select(i => server.TryQueryAsync($"q{i}", "a", "ada")).ToList();
        Assert.Equal(200, (await server.GetAsync("/alive")).Status);
        while (!asking.TrueForAll(asked => asked.IsCompleted))
        {
            // Not so fast that the session expires before the requests are done.
            server.Time.Advance(TimeSpan.FromSeconds(1));
            await Task.Delay(1, Cancel);
        }

        faults.Heal();
        var answers = await Task.WhenAll(asking);
        Assert.All(answers, answer => Assert.True(answer.Status is 200 || answer.Code == "session_busy", answer.Text));
        var kept = await server.HistoryAsync("a");
        Assert.Equal(answers.Count(answer => answer.Status == 200) + 1, kept.Count);
        Assert.Equal(kept.Count, kept.Distinct().Count());
    }

    [Theory]
    [InlineData("begin_turn")]
    [InlineData("get")]
    public async Task A_client_that_gives_up_on_a_store_that_hangs_leaves_the_session_free(string operation)
    {
        await using var server = await StartAsync();
        var faults = server.Get<FaultySessionStore>();
        var reached = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        faults.Before = (called, cancellationToken) =>
        {
            if (called != operation)
            {
                return Task.CompletedTask;
            }

            reached.TrySetResult();
            return Task.Delay(Timeout.Infinite, cancellationToken);
        };
        using var patience = new CancellationTokenSource();
        var (method, path, body) = Requests[operation];
        using var request = new HttpRequestMessage(new HttpMethod(method), path)
        {
            Content = body is null ? null : new StringContent(body, System.Text.Encoding.UTF8, "application/json"),
        };

        var hanging = server.Client.SendAsync(request, patience.Token);
        await reached.Task.WaitAsync(Cancel);
        await patience.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => hanging);

        faults.Heal();
        await GoesOnAsync(server, ["hello"]);
    }

    private static async Task<SessionsServer> StartAsync()
    {
        var server = SessionsServer.Start(
            [("agents:gone:provider", "openai"), ("agents:gone:model", "m"), ("agents:gone:endpoint", "http://127.0.0.1:1/v1"),
                ("agents:gone:max_retries", "0")], FaultySessionStore.Around);
        await server.QueryAsync("hello", "a", "ada");
        return server;
    }

    // The next turn follows what was kept, and what is counted is there.
    private static async Task GoesOnAsync(SessionsServer server, IReadOnlyList<string> keptTurns)
    {
        Assert.Equal(keptTurns.Count + 1, (int)(await server.QueryAsync("still there?", "a", "ada"))["metadata"]!["turn"]!);
        Assert.Equal([.. keptTurns, "still there?"], await server.HistoryAsync("a"));
        Assert.Equal(keptTurns.Count + 1, (int)(await server.GetAsync("/sessions/a")).Json["metadata"]!["query_count"]!);
        Assert.Equal(200, (await server.GetAsync("/health")).Status);
    }

    private static bool Replayed(Answer answer) => answer.Headers.ContainsKey("Idempotency-Replayed");
}
