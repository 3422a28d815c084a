using System.Collections.Concurrent;
using System.Text.Json.Nodes;

namespace Sessions.Tests.Api;

public abstract partial class ApiContract
{
    [Fact]
    public async Task What_is_wrong_with_an_input_is_said_with_one_full_stop()
    {
        var server = Start();

        var answer = (await server.PostAsync("/query", """{"query":"a","input":[{"type":"input_video"}]}"""))
            .IsProblem(422, "invalid_request");

        Assert.Matches(@"[^.]\.$", (string?)answer.Json["detail"]);
    }

    [Fact]
    public async Task An_expired_session_is_gone_and_its_id_starts_afresh()
    {
        var server = Start(("sessions:timeout_hours", "0.5"), ("sessions:cleanup_interval_minutes", "6000"));
        await server.QueryAsync("I am a secret agent", "a", "ada");
        server.Time.Advance(TimeSpan.FromMinutes(29));
        Assert.Equal(2, (int)(await server.QueryAsync("still there?", "a", "ada"))["metadata"]!["turn"]!);
        server.Time.Advance(TimeSpan.FromMinutes(30));

        (await server.GetAsync("/sessions/a")).IsProblem(404, "session_not_found");
        (await server.GetAsync("/sessions/a/history")).IsProblem(404, "session_not_found");
        (await server.PostAsync("/sessions/a/fork")).IsProblem(404, "session_not_found");
        (await server.DeleteAsync("/sessions/a")).IsProblem(404, "session_not_found");
        Assert.Empty(Ids(await server.GetAsync("/users/ada/sessions")));
        Assert.Equal(0, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);

        var fresh = await server.QueryAsync("What am I?", "a", "eve");
        Assert.True((bool)fresh["metadata"]!["session_created"]!);
        Assert.Equal(1, (int)fresh["metadata"]!["turn"]!);
        Assert.DoesNotContain("secret", fresh.ToJsonString(), StringComparison.Ordinal);
        Assert.Equal("eve", (string?)fresh["metadata"]!["user_id"]);
    }

    [Fact]
    public async Task One_session_too_many_removes_the_least_recently_active_one()
    {
        var server = Start(("sessions:max_sessions_per_user", "2"));
        foreach (var id in (string[])["a", "b", "a", "c"])
        {
            await server.QueryAsync("hello", id, "ada");
            server.Time.Advance(TimeSpan.FromSeconds(1));
        }

        Assert.Equal(["c", "a"], Ids(await server.GetAsync("/users/ada/sessions")));
        (await server.GetAsync("/sessions/b")).IsProblem(404, "session_not_found");
        await server.PostAsync("/sessions", """{"user_id":"ada"}""");
        Assert.Equal(2, Ids(await server.GetAsync("/users/ada/sessions")).Count());
    }

    [Fact]
    public async Task Many_clients_at_once_never_see_more_sessions_of_a_user_than_allowed()
    {
        var server = Start(("sessions:max_sessions_per_user", "5"));

        var seen = new ConcurrentBag<int>();
        await Task.WhenAll(Enumerable.Range(0, 64).Select(async i =>
        {
            var created = i % 2 == 0
                ? await server.PostAsync("/sessions", """{"user_id":"ada"}""")
                : await server.TryQueryAsync("hello", user: "ada");
            Assert.InRange(created.Status, 200, 201);
            seen.Add(Ids(await server.GetAsync("/users/ada/sessions")).Count());
        }));

        Assert.Equal(5, seen.Max());
        Assert.Equal(5, Ids(await server.GetAsync("/users/ada/sessions")).Count());
        Assert.Equal(5, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
    }

    [Fact]
    public async Task A_session_is_not_to_be_had_by_another_user()
    {
        var server = Start();
        await server.QueryAsync("I am Ada", "a", "ada");
        var before = (await server.GetAsync("/sessions/a")).Text;

        var refused = (await server.TryQueryAsync("Who am I?", "a", "eve")).IsProblem(404, "session_not_found");

        Assert.DoesNotContain("Ada", refused.Text.Replace("Adapt", "", StringComparison.Ordinal), StringComparison.Ordinal);
        Assert.Equal(before, (await server.GetAsync("/sessions/a")).Text);
        Assert.Empty(Ids(await server.GetAsync("/users/eve/sessions")));
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);

        // Without a user the id alone continues it, and it stays Ada's.
        var anonymous = await server.QueryAsync("Who am I?", "a");
        Assert.Equal(2, (int)anonymous["metadata"]!["turn"]!);
        Assert.Equal("ada", (string?)anonymous["metadata"]!["user_id"]);
    }

    [Fact]
    public async Task An_unbound_session_is_bound_by_the_first_user_who_comes()
    {
        var server = Start();
        await server.QueryAsync("hello", "a");

        Assert.Equal("ada", (string?)(await server.QueryAsync("mine", "a", "ada"))["metadata"]!["user_id"]);

        (await server.TryQueryAsync("mine", "a", "eve")).IsProblem(404, "session_not_found");
        Assert.Equal(["a"], Ids(await server.GetAsync("/users/ada/sessions")));
    }

    [Fact]
    public async Task Two_users_who_claim_at_once_do_not_share()
    {
        var server = Start();
        for (var i = 0; i < 10; i++)
        {
            var id = $"s{i}";
            await server.QueryAsync("hello", id);
            var answers = await Task.WhenAll(Enumerable.Range(0, 6).Select(n => server.TryQueryAsync("mine", id, $"u{n}")));

            var owner = (string)(await server.GetAsync($"/sessions/{id}")).Json["user_id"]!;
            Assert.Equal(1, answers.Count(answer => answer.Status == 200));
            Assert.Equal(owner, (string?)answers.Single(answer => answer.Status == 200).Json["metadata"]!["user_id"]);
            Assert.Equal(2, (await server.GetAsync($"/sessions/{id}/history")).Json["turns"]!.AsArray().Count);
        }
    }

    [Fact]
    public async Task Concurrent_queries_on_one_session_take_turns_and_each_sees_those_before_it()
    {
        const int Clients = 16;
        const int Each = 50;
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model"), ("agents:model:history_turns", "1000")]);

        // The model answers with a digest of what it was given: how many queries, and a hash over all of them.
        model.Reply = (request, _, http) => ChatCompletionsServer.AnswerAsync(
            http, ChatCompletionsServer.Digest(ChatCompletionsServer.Messages(request).Where(message => message.Role == "user")
                .Select(message => message.Text)));

        var answers = await Task.WhenAll(Enumerable.Range(0, Clients).Select(client => Task.Run(async () =>
        {
            List<int> turns = [];
            for (var i = 0; i < Each; i++)
            {
                var answer = await server.PostAsync("/query",
                    new { query = $"{client}-{i}", thread_id = "a", agent_type = "model", parameters = new { history_turns = 1000 } });
                Assert.True(answer.Status == 200, answer.Text);
                turns.Add((int)answer.Json["metadata"]!["turn"]!);
            }

            return turns;
        })));

        var history = await AllTurnsAsync(server, "a");
        Assert.Equal(Enumerable.Range(1, Clients * Each), history.Select(turn => (int)turn["turn"]!));
        Assert.Equal(Enumerable.Range(1, Clients * Each), answers.SelectMany(turns => turns).Order());
        Assert.All(answers, turns => Assert.Equal(turns.Order(), turns));
        var queries = history.Select(turn => (string)turn["query"]!).ToList();
        Assert.Equal(Clients * Each, queries.Distinct().Count());
        Assert.All(history,
            turn => Assert.Equal(ChatCompletionsServer.Digest(queries.Take((int)turn["turn"]!)), (string)turn["response"]!));
    }

    [Fact]
    public async Task A_busy_session_refuses_past_its_bounds()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var (entered, leave) = Hold(model);
        var server = Start([.. model.Agent("model", timeoutSeconds: 3600), ("limits:turn_queue", "1"), ("limits:turn_wait_seconds", "10")]);
        var running = server.TryQueryAsync("first", "a", agent: "model");
        await entered.WaitAsync(TestContext.Current.CancellationToken);
        var rejected = await server.PostAsync("/query", """{"query":"no","thread_id":"a","agent_type":"model","on_busy":"reject"}""");

        // One of two waits, whichever came first; the other finds the queue full.
        var second = server.TryQueryAsync("second", "a", agent: "model");
        var third = server.TryQueryAsync("third", "a", agent: "model");
        var refused = await Task.WhenAny(second, third);
        var waiting = refused == second ? third : second;
        var full = await refused;
        rejected.IsProblem(409, "session_busy");
        full.IsProblem(409, "session_busy");
        Assert.Equal("1", full.Headers["Retry-After"]);
        Assert.Equal("a", (string?)full.Json["thread_id"]);

        // Whoever waited is told when its time is up; the one who runs is not disturbed. Its time may begin only now: it is in the queue
        // before its clock runs.
        server.Time.Advance(TimeSpan.FromSeconds(10));
        while (!waiting.IsCompleted)
        {
            await Task.WhenAny(waiting, Task.Delay(20, TestContext.Current.CancellationToken));
            server.Time.Advance(TimeSpan.FromSeconds(1));
        }

        (await waiting).IsProblem(409, "session_busy");
        leave.Release(10);
        Assert.Equal(200, (await running).Status);
        Assert.Equal(2, (int)(await server.QueryAsync("fourth", "a", agent: "model"))["metadata"]!["turn"]!);
    }

    [Fact]
    public async Task A_client_that_goes_away_leaves_nothing_behind()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var (entered, noticed) = (new SemaphoreSlim(0), new TaskCompletionSource());
        model.Reply = async (_, _, http) =>
        {
            entered.Release();
            http.RequestAborted.Register(noticed.SetResult);
            await noticed.Task;
        };
        var server = Start([.. model.Agent("model")]);
        using var gone = new CancellationTokenSource();
        using var body = new StringContent("""{"query":"never mind","thread_id":"a","agent_type":"model"}""",
            System.Text.Encoding.UTF8, "application/json");
        var running = server.Client.PostAsync(new Uri("/query", UriKind.Relative), body, gone.Token);
        await entered.WaitAsync(TestContext.Current.CancellationToken);
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        await noticed.Task.WaitAsync(TestContext.Current.CancellationToken);
        model.Reply = (_, _, http) => ChatCompletionsServer.AnswerAsync(http, "hello");

        // The turn behind it runs, on nothing.
        var next = await server.QueryAsync("hello", "a", agent: "model");
        Assert.Equal(1, (int)next["metadata"]!["turn"]!);
        Assert.True((bool)next["metadata"]!["session_created"]!);
        Assert.Equal(0, (int)(await server.GetAsync("/sessions/a")).Json["context"]!["error_count"]!);
    }

    [Fact]
    public async Task A_session_deleted_while_its_agent_answers_stays_deleted()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model")]);
        await server.QueryAsync("hello", "a", "ada");
        var (entered, leave) = Hold(model);
        var running = server.TryQueryAsync("late", "a", agent: "model");
        await entered.WaitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(200, (await server.DeleteAsync("/sessions/a")).Status);
        leave.Release(10);

        (await running).IsProblem(409, "session_gone");
        (await server.GetAsync("/sessions/a")).IsProblem(404, "session_not_found");
    }

    [Fact]
    public async Task What_can_only_be_refused_ties_no_key()
    {
        var server = Start(("limits:unowned_bytes", "4096"));
        (string, string) key = ("Idempotency-Key", "key-1");
        (await server.PostAsync("/query", """{"query":"hello","after_turn":1}""", key)).IsProblem(422, "no_such_turn");
        Assert.Equal(200, (await server.PostAsync("/query", """{"query":"hello"}""", key)).Status);

        // Nor where there is no room; and what was answered is answered again.
        (string, string) other = ("Idempotency-Key", "key-2");
        Answer full;
        do
        {
            full = await server.PostAsync("/sessions");
        }
        while (full.Status == 201);
        full.IsProblem(503, "storage_full");
        (await server.PostAsync("/query", """{"query":"hello"}""", other)).IsProblem(503, "storage_full");
        (await server.PostAsync("/sessions", "{}", other)).IsProblem(503, "storage_full");
        Assert.Equal(200, (await server.PostAsync("/query", """{"query":"hello"}""", key)).Status);
        Assert.Equal(200, (await server.PostAsync("/query", """{"query":"hello","user_id":"ada"}""", other)).Status);
    }

    [Fact]
    public async Task The_same_key_gives_the_same_answer_without_a_second_turn()
    {
        var server = Start();
        (string, string) key = ("Idempotency-Key", "key-1");
        foreach (var body in (string[])
            ["""{"query":"hello"}""", """{"query":"hello","thread_id":"a"}""", """{"query":"hello","user_id":"ada"}"""])
        {
            var first = await server.PostAsync("/query", body, key);
            await server.QueryAsync("in between", Thread(first.Json));
            var again = await server.PostAsync("/query", body, key);

            Assert.Equal(200, first.Status);
            Assert.False(first.Headers.ContainsKey("Idempotency-Replayed"));
            Assert.Equal("true", again.Headers["Idempotency-Replayed"]);
            Assert.Equal(first.Text, again.Text);
            Assert.Equal(2, (await server.GetAsync($"/sessions/{Thread(first.Json)}/history")).Json["turns"]!.AsArray().Count);
            (await server.PostAsync("/query", body.Replace("hello", "other", StringComparison.Ordinal), key))
                .IsProblem(422, "idempotency_key_reused");
        }

        Assert.Equal(3, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
        (await server.PostAsync("/query", """{"query":"hello"}""", ("Idempotency-Key", new string('k', 256))))
            .IsProblem(422, "invalid_request");
        (await server.PostAsync("/query", """{"query":"hello"}""", ("Idempotency-Key", ""))).IsProblem(422, "invalid_request");
    }

    [Fact]
    public async Task The_same_key_creates_one_session()
    {
        var server = Start();
        (string, string) key = ("Idempotency-Key", "key-1");
        const string Body = """{"user_id":"ada","metadata":{"a":1}}""";

        var first = await server.PostAsync("/sessions", Body, key);
        server.Time.Advance(TimeSpan.FromMinutes(1));
        await server.QueryAsync("hello", (string)first.Json["session_id"]!);
        var again = await server.PostAsync("/sessions", Body, key);

        Assert.Equal(201, again.Status);
        Assert.Equal(first.Text, again.Text);
        Assert.Equal(first.Headers["ETag"], again.Headers["ETag"]);
        Assert.Equal("true", again.Headers["Idempotency-Replayed"]);
        (await server.PostAsync("/sessions", """{"user_id":"ada"}""", key)).IsProblem(422, "idempotency_key_reused");
        Assert.Single(Ids(await server.GetAsync("/users/ada/sessions")));
        Assert.Equal(200, (await server.PostAsync("/query", """{"query":"hello","user_id":"ada"}""", key)).Status);
    }

    [Fact]
    public async Task Retries_at_the_same_time_make_one_turn()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var (entered, leave) = Hold(model);
        var server = Start([.. model.Agent("model")]);
        (string, string) key = ("Idempotency-Key", "key-1");
        const string Body = """{"query":"hello","agent_type":"model"}""";
        var running = server.PostAsync("/query", Body, key);
        await entered.WaitAsync(TestContext.Current.CancellationToken);

        var meanwhile = (await server.PostAsync("/query", Body, key)).IsProblem(409, "idempotency_in_progress");
        leave.Release(10);

        Assert.Equal("1", meanwhile.Headers["Retry-After"]);
        Assert.Equal((await running).Text, (await server.PostAsync("/query", Body, key)).Text);
        Assert.Single(model.Requests);
    }

    [Fact]
    public async Task Retries_after_lost_answers_make_every_turn_once()
    {
        const int Queries = 500;
        const int Sessions = 20;
        var server = Start(("limits:page_size_max", "1000"));

        static string Body(int i) => $$"""{"query":"question {{i}}","thread_id":"s{{i % Sessions}}","user_id":"u{{i % Sessions}}"}""";
        Task<Answer> AskAsync(int i) => server.PostAsync("/query", Body(i), ("Idempotency-Key", $"key-{i}"));

        var first = new ConcurrentDictionary<int, string>();
        for (var batch = 0; batch < Queries; batch += 50)
        {
            await Task.WhenAll(Enumerable.Range(batch, 50).Select(async i =>
            {
                if (i % 2 == 0)
                {
                    await HangUpAsync(server, Body(i), $"key-{i}");
                }

                var answer = await PollAsync(() => AskAsync(i), answer => answer.Code is not ("idempotency_in_progress" or "session_busy"));
                Assert.True(answer.Status == 200, answer.Text);
                first[i] = answer.Text;
            }));
            server = await RestartAsync(server);
        }

        for (var i = 0; i < Queries; i++)
        {
            Assert.Equal(first[i], (await AskAsync(i)).Text);
        }

        for (var session = 0; session < Sessions; session++)
        {
            var turns = await AllTurnsAsync(server, $"s{session}");
            Assert.Equal(Enumerable.Range(1, Queries / Sessions), turns.Select(turn => (int)turn["turn"]!));
            Assert.Equal(Queries / Sessions, turns.Select(turn => (string)turn["query"]!).Distinct().Count());
        }
    }

    /// <summary>Starts the server anew on the same data, where the store keeps them.</summary>
    private protected virtual Task<SessionsServer> RestartAsync(SessionsServer server) => Task.FromResult(server);

    // Sends a query and cuts the connection before an answer can have been read.
    private static async Task HangUpAsync(SessionsServer server, string body, string key)
    {
        using var socket = new System.Net.Sockets.TcpClient();
        await socket.ConnectAsync("127.0.0.1", server.Client.BaseAddress!.Port, TestContext.Current.CancellationToken);
        var request = $"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
            + $"Content-Length: {body.Length}\r\n\r\n{body}";
        await socket.GetStream().WriteAsync(System.Text.Encoding.ASCII.GetBytes(request), TestContext.Current.CancellationToken);
        if (body.Length % 2 > 0)
        {
            // Some after the answer has come back as far as this machine.
            await socket.GetStream().ReadExactlyAsync(new byte[1], TestContext.Current.CancellationToken);
        }
    }

    private static async Task<List<JsonNode>> AllTurnsAsync(SessionsServer server, string id)
    {
        List<JsonNode> turns = [];
        string? next = null;
        do
        {
            var page = (await server.GetAsync($"/sessions/{id}/history?limit=100{(next is null ? "" : $"&after={next}")}")).Json;
            turns.AddRange(page["turns"]!.AsArray().Select(turn => turn!));
            next = (string?)page["next"];
        }
        while (next is not null);
        return turns;
    }

    // The model tells when it is asked, and answers when it is told to.
    private static (SemaphoreSlim Entered, SemaphoreSlim Leave) Hold(ChatCompletionsServer model)
    {
        var (entered, leave) = (new SemaphoreSlim(0), new SemaphoreSlim(0));
        model.Reply = async (_, _, http) =>
        {
            entered.Release();
            await leave.WaitAsync(http.RequestAborted);
            await ChatCompletionsServer.AnswerAsync(http, "at last");
        };
        return (entered, leave);
    }

    private static async Task<Answer> PollAsync(Func<Task<Answer>> ask, Predicate<Answer> until)
    {
        for (var started = System.Diagnostics.Stopwatch.StartNew(); ;)
        {
            var answer = await ask();
            if (until(answer))
            {
                return answer;
            }

            Assert.True(started.Elapsed < TimeSpan.FromMinutes(2), $"Still {answer.Status}: {answer.Text}");
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }
}
