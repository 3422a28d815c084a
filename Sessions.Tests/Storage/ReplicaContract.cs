using System.Collections.Concurrent;
using System.Text;
using Microsoft.Extensions.DependencyInjection;

namespace Sessions.Tests.Storage;

/// <summary>Several servers on one store: to clients they are one.</summary>
public abstract class ReplicaContract
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private protected abstract Task<IReadOnlyList<(string Key, string Value)>> StorageAsync();

    [Fact]
    public async Task Clients_that_hammer_a_few_sessions_through_any_replica_find_every_turn_once_and_on_those_before_it()
    {
        const int Clients = 32;
        const int Sessions = 8;
        const int Each = 12;
        await using var model = await ChatCompletionsServer.StartAsync();
        model.Reply = (request, _, http) =>
            ChatCompletionsServer.AnswerAsync(http, ChatCompletionsServer.Digest(ChatCompletionsServer.Asked(request)));
        IEnumerable<(string, string)> settings =
            [.. await StorageAsync(), .. model.Agent("model"), ("agents:model:history_turns", "1000")];
        await using var one = SessionsServer.Start(settings);
        await using var two = SessionsServer.Start(settings);

        var answered = new ConcurrentDictionary<(string Session, int Turn), string>();
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(client => Task.Run(async () =>
        {
            for (var i = 0; i < Each; i++)
            {
                var session = $"s{(client + i) % Sessions}";
                var query = $"{client}-{i}";
                var parameters = new { history_turns = 1000 };
                var answer = await (Random.Shared.Next(2) == 0 ? one : two)
                    .PostAsync("/query", new { query, thread_id = session, user_id = session, agent_type = "model", parameters });
                Assert.True(answer.Status == 200, answer.Text);
                Assert.True(answered.TryAdd((session, (int)answer.Json["metadata"]!["turn"]!), query));
            }
        }, Cancel)));

        Assert.Equal(Clients * Each, answered.Count);
        for (var i = 0; i < Sessions; i++)
        {
            List<(string Query, string Response)> history = [];
            string? next = null;
            do
            {
                var page = (await two.GetAsync($"/sessions/s{i}/history?limit=100{(next is null ? "" : $"&after={next}")}")).Json;
                history.AddRange(page["turns"]!.AsArray().Select(turn => ((string)turn!["query"]!, (string)turn["response"]!)));
                next = (string?)page["next"];
            }
            while (next is not null);

            Assert.Equal(Clients * Each / Sessions, history.Count);
            for (var turn = 1; turn <= history.Count; turn++)
            {
                Assert.Equal(answered[($"s{i}", turn)], history[turn - 1].Query);
                Assert.Equal(ChatCompletionsServer.Digest(history.Take(turn).Select(item => item.Query)), history[turn - 1].Response);
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_replica_that_was_stopped_for_longer_than_its_lease_runs_its_turn_again_on_what_came_meanwhile(bool isStillRunning)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var (entered, overtakes, leave) = (new SemaphoreSlim(0), new SemaphoreSlim(0), new SemaphoreSlim(0));
        var stopped = new TaskCompletionSource();
        model.Reply = async (request, _, http) =>
        {
            var asked = ChatCompletionsServer.Asked(request).ToList();
            if (asked[^1] == "slow" && model.Requests.Count(earlier => ChatCompletionsServer.Asked(earlier).Last() == "slow") == 1)
            {
                entered.Release();
                using var aborted = http.RequestAborted.UnsafeRegister(_ => stopped.TrySetResult(), null);
                await leave.WaitAsync(Cancel);
            }

            if (asked[^1] == "fast" && isStillRunning)
            {
                overtakes.Release();
                await stopped.Task.WaitAsync(Cancel);
            }

            await ChatCompletionsServer.AnswerAsync(http, ChatCompletionsServer.Digest(asked));
        };
        IReadOnlyList<(string, string)> settings =
            [.. await StorageAsync(), .. model.Agent("model")];
        await using var fast = StartInRealTime(settings);
        await using var slow = StartProcess(settings);
        using var client = new HttpClient { BaseAddress = await slow.AddressAsync() };
        await fast.QueryAsync("first", "a", "ada", "model");

        using var body = new StringContent(
            """{"query":"slow","thread_id":"a","user_id":"ada","agent_type":"model"}""", Encoding.UTF8, "application/json");
        var running = client.PostAsync(new Uri("/query", UriKind.Relative), body, Cancel);
        await entered.WaitAsync(Cancel);
        slow.Signal("STOP");

        // Waits until the lease runs out.
        var overtaking = fast.QueryAsync("fast", "a", "ada", "model");
        if (isStillRunning)
        {
            // Until the one that wakes has heard that its lease is lost.
            await overtakes.WaitAsync(Cancel);
            slow.Signal("CONT");
        }

        var overtaken = await overtaking;
        leave.Release();
        slow.Signal("CONT");
        using var response = await running;
        var answer = await Answer.ReadAsync(response);

        Assert.Equal(2, (int)overtaken["metadata"]!["turn"]!);
        Assert.True(answer.Status == 200, answer.Text);
        Assert.Equal(3, (int)answer.Json["metadata"]!["turn"]!);
        Assert.Equal(ChatCompletionsServer.Digest(["first", "fast", "slow"]), (string?)answer.Json["response"]);
        Assert.Equal(
            ["first", "fast", "slow"],
            (await fast.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray().Select(turn => (string?)turn!["query"]));
    }

    [Fact]
    public async Task A_session_whose_replica_was_killed_in_the_middle_of_a_turn_goes_on_elsewhere()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var entered = new SemaphoreSlim(0);
        model.Reply = async (request, _, http) =>
        {
            if (ChatCompletionsServer.Asked(request).Last() == "lost")
            {
                entered.Release();
                await Task.Delay(Timeout.Infinite, http.RequestAborted);
            }

            await ChatCompletionsServer.AnswerAsync(http, ChatCompletionsServer.Digest(ChatCompletionsServer.Asked(request)));
        };
        IReadOnlyList<(string, string)> settings =
            [.. await StorageAsync(), .. model.Agent("model")];
        await using var other = StartInRealTime(settings);
        await using var doomed = StartProcess(settings);
        using var client = new HttpClient { BaseAddress = await doomed.AddressAsync() };
        await other.QueryAsync("first", "a", "ada", "model");

        using var body = new StringContent(
            """{"query":"lost","thread_id":"a","user_id":"ada","agent_type":"model"}""", Encoding.UTF8, "application/json");
        var running = client.PostAsync(new Uri("/query", UriKind.Relative), body, Cancel);
        await entered.WaitAsync(Cancel);
        doomed.Signal("KILL");
        await Assert.ThrowsAsync<HttpRequestException>(() => running);

        var next = await other.QueryAsync("next", "a", "ada", "model");
        Assert.Equal(2, (int)next["metadata"]!["turn"]!);
        Assert.Equal(ChatCompletionsServer.Digest(["first", "next"]), (string?)next["response"]);
    }

    [Fact]
    public async Task Cancelling_stops_the_turn_that_runs_elsewhere_and_not_the_one_that_waits_for_it_here()
    {
        await using var model = await ScriptedModel.StartAsync();
        IReadOnlyList<(string, string)> settings = [.. await StorageAsync(), .. model.Agent("model")];
        await using var one = StartInRealTime(settings);
        await using var two = StartInRealTime(settings);
        await one.QueryAsync("first", "a", "ada", "model");
        var running = AskAsync(one, "hold");
        await ServiceProcess.UntilAsync(() => model.Requests.Count == 2);
        var waiting = AskAsync(two, "say next");
        await ServiceProcess.UntilAsync(() => two.Get<RunningTurns>().IsRunning("a"));

        Assert.Equal(202, (await two.PostAsync("/sessions/a/cancel?user_id=ada")).Status);

        (await running).IsProblem(409, "turn_cancelled");
        var next = await waiting;
        Assert.True(next.Status == 200, next.Text);
        Assert.Equal(("next", 2), ((string?)next.Json["response"], (int)next.Json["metadata"]!["turn"]!));
        (await two.PostAsync("/sessions/a/cancel?user_id=ada")).IsProblem(404, "no_turn_running");

        static Task<Answer> AskAsync(SessionsServer server, string query) =>
            server.PostAsync("/query", new { query, thread_id = "a", user_id = "ada", agent_type = "model" });
    }

    [Fact]
    public async Task The_first_turn_of_a_session_is_cancelled_from_another_replica_by_its_user_alone()
    {
        await using var model = await ScriptedModel.StartAsync();
        IReadOnlyList<(string, string)> settings = [.. await StorageAsync(), .. model.Agent("model")];
        await using var one = StartInRealTime(settings);
        await using var two = StartInRealTime(settings);
        var running = one.PostAsync("/query", new { query = "hold", thread_id = "a", user_id = "ada", agent_type = "model" });
        await ServiceProcess.UntilAsync(() => model.Requests.Count == 1);

        (await two.PostAsync("/sessions/a/cancel?user_id=bob")).IsProblem(404, "session_not_found");
        (await two.PostAsync("/sessions/b/cancel?user_id=ada")).IsProblem(404, "session_not_found");
        Assert.Equal(202, (await two.PostAsync("/sessions/a/cancel?user_id=ada")).Status);

        (await running).IsProblem(409, "turn_cancelled");
        (await two.PostAsync("/sessions/a/cancel?user_id=ada")).IsProblem(404, "session_not_found");
    }

    [Fact]
    public async Task A_session_that_a_response_goes_on_from_makes_no_room_elsewhere_while_it_is_made()
    {
        await using var model = await ScriptedModel.StartAsync();
        IReadOnlyList<(string, string)> settings =
            [.. await StorageAsync(), .. model.Agent("model"), ("sessions:max_conversations_per_user", "2")];
        await using var one = StartInRealTime(settings);
        await using var two = StartInRealTime(settings);
        var source = (string)(await one.PostAsync("/v1/conversations?user_id=ada", new { })).Json["id"]!;
        var first = await one.PostAsync("/v1/responses?user_id=ada", new { model = "model", input = "say first", conversation = source });
        Assert.True(first.Status == 200, first.Text);
        var asked = model.Requests.Count;
        var running = one.PostAsync("/v1/responses?user_id=ada",
            new { model = "model", input = "hold", previous_response_id = (string)first.Json["id"]! });
        await ServiceProcess.UntilAsync(() => model.Requests.Count == asked + 1);

        for (var i = 0; i < 4; i++)
        {
            Assert.Equal(200, (await two.PostAsync("/v1/conversations?user_id=ada", new { })).Status);
        }

        Assert.Equal(200, (await two.GetAsync($"/v1/conversations/{source}?user_id=ada")).Status);
        model.LetGo();
        var answer = await running;
        Assert.True(answer.Status == 200, answer.Text);
        await ServiceProcess.UntilAsync(async () =>
        {
            await two.PostAsync("/v1/conversations?user_id=ada", new { });
            return (await two.GetAsync($"/v1/conversations/{source}?user_id=ada")).Status == 404;
        });
    }

    [Theory]
    [InlineData("anew", false)]
    [InlineData("anew", true)]
    [InlineData("a chain", false)]
    [InlineData("a conversation", false)]
    [InlineData("not stored", false)]
    public async Task A_response_that_is_made_here_is_not_made_elsewhere_for_the_same_key(string from, bool isStreamed)
    {
        await using var model = await ScriptedModel.StartAsync();
        IReadOnlyList<(string, string)> settings = [.. await StorageAsync(), .. model.Agent("model")];
        await using var one = StartInRealTime(settings);
        await using var two = StartInRealTime([.. settings, ("limits:on_busy", "reject")]);
        var conversation = from == "a conversation" ? (string)(await one.PostAsync("/v1/conversations", new { })).Json["id"]! : null;
        var first = await one.PostAsync("/v1/responses", new { model = "model", input = "say first", conversation });
        Assert.True(first.Status == 200, first.Text);
        var body = new
        {
            model = "model",
            input = "hold",
            previous_response_id = from is "a chain" or "a conversation" ? (string?)first.Json["id"] : null,
            store = from != "not stored",
            stream = isStreamed,
        };
        var key = ("Idempotency-Key", $"{Guid.NewGuid()}");
        var asked = model.Requests.Count;
        var running = one.PostAsync("/v1/responses", body, key);
        await ServiceProcess.UntilAsync(() => model.Requests.Count == asked + 1);

        var meanwhile = await two.PostAsync("/v1/responses", body, key);

        Assert.Equal((409, "idempotency_in_progress"), (meanwhile.Status, (string?)meanwhile.Json["error"]?["code"]));
        model.LetGo();
        var answer = await running;
        Assert.True(answer.Status == 200, answer.Text);
        Assert.Equal(asked + 1, model.Requests.Count);
        var repeated = await two.PostAsync("/v1/responses", body, key);
        Assert.True(repeated.Status == 200, repeated.Text);
        Assert.Equal(from == "not stored" ? asked + 2 : asked + 1, model.Requests.Count);
        if (from != "not stored" && !isStreamed)
        {
            Assert.Equal((string)answer.Json["id"]!, (string)repeated.Json["id"]!);
        }
    }

    [Fact]
    public async Task Who_asks_elsewhere_for_a_response_that_is_being_made_is_told_that_one()
    {
        await using var model = await ScriptedModel.StartAsync();
        IReadOnlyList<(string, string)> settings = [.. await StorageAsync(), .. model.Agent("model")];
        await using var one = StartInRealTime(settings);
        await using var two = StartInRealTime(settings);
        var key = ("Idempotency-Key", $"{Guid.NewGuid()}");
        var body = new { model = "model", input = "hold" };
        var running = one.PostAsync("/v1/responses", body, key);
        await ServiceProcess.UntilAsync(() => model.Requests.Count == 1);

        var waiting = two.PostAsync("/v1/responses", body, key);
        model.LetGo();

        Assert.Equal((string)(await running).Json["id"]!, (string)(await waiting).Json["id"]!);
        Assert.Single(model.Requests);
    }

    // Leases run by clocks, of the servers or of the store.
    private static SessionsServer StartInRealTime(IEnumerable<(string Key, string Value)> settings) =>
        SessionsServer.Start(settings, services => services.AddSingleton(TimeProvider.System));

    private static ServiceProcess StartProcess(IEnumerable<(string Key, string Value)> settings) =>
        ServiceProcess.Api(settings);
}
