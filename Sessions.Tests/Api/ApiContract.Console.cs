using System.Globalization;
using System.Text.Json.Nodes;

namespace Sessions.Tests.Api;

/// <summary>What a console asks for: usage, what a model was given, all branches, who asks, what the server does.</summary>
public abstract partial class ApiContract
{
    [Fact]
    public async Task A_users_turns_and_tokens_are_counted_by_agent_and_day()
    {
        await using var model = await ScriptedModel.StartAsync();
        var server = Start([.. model.Agent("model"), ("sessions:timeout_hours", "240"), ("sessions:max_sessions_per_user", "0")], null);
        await server.QueryAsync("too early", "early", "ada");
        server.Time.Advance(TimeSpan.FromDays(2));
        await server.QueryAsync("say one", "a", "ada", "model");
        await server.QueryAsync("say two", "a", "ada", "model");
        await server.PostAsync("/query", new { query = "a branch", thread_id = "a", user_id = "ada", after_turn = 1 });
        await server.PostAsync("/v1/responses", new { model = "model", input = "say three", user = "x" });
        server.Time.Advance(TimeSpan.FromDays(1));
        await server.QueryAsync("hello", "b", "ada");
        await server.TryQueryAsync("fail", "b", "ada", "model");
        await server.QueryAsync("hello", "other", "grace");

        var usage = (await server.GetAsync("/users/ada/usage?days=2")).Json;

        Assert.True((bool)usage["is_complete"]!);
        Assert.Equal((2, 4, "ada"), ((int)usage["sessions"]!, (int)usage["turns"]!, (string)usage["user_id"]!));
        var last = server.Time.GetUtcNow().UtcDateTime;
        Assert.Equal(
            [$"{Date(last.AddDays(-1))} advanced 1 0/0 1", $"{Date(last.AddDays(-1))} model 2 22/14 0", $"{Date(last)} advanced 1 0/0 1"],
            usage["days"]!.AsArray().Select(day => $"{day!["date"]} {day["agent_type"]} {day["turns"]} "
                + $"{day["input_tokens"]}/{day["output_tokens"]} {day["turns_without_tokens"]}"));
        Assert.Equal(5, (int)(await server.GetAsync("/users/ada/usage")).Json["turns"]!);
        Assert.Empty((await server.GetAsync("/users/nobody/usage")).Json["days"]!.AsArray());
        (await server.GetAsync("/users/ada/usage?days=0")).IsProblem(422, "invalid_request");
        (await server.GetAsync("/users/ada/usage?days=367")).IsProblem(422, "invalid_request");
        await server.DeleteAsync("/users/ada/sessions");
        Assert.Equal(0, (int)(await server.GetAsync("/users/ada/usage")).Json["turns"]!);

        static string Date(DateTime day) => day.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task What_a_turns_agent_was_given_is_what_its_provider_was_sent()
    {
        await using var model = await ScriptedModel.StartAsync();
        var server = Start(
            [.. model.Agent("advanced"), ("agents:advanced:history_turns", "2"), ("agents:advanced:instructions", "Be brief.")], null);
        foreach (var text in (IEnumerable<string>)["one", "two", "three", "four"])
        {
            await server.QueryAsync($"say {text}", "s", "ada");
        }

        await server.PostAsync("/query", new { query = "say branch", thread_id = "s", user_id = "ada", after_turn = 2 });
        await server.PostAsync("/sessions/s/turns", new { query = "mine", response = "own", user_id = "ada" });

        foreach (var turn in (IEnumerable<int>)[1, 2, 4, 5])
        {
            var context = (await server.GetAsync($"/sessions/s/turns/{turn}/context?user_id=ada")).Json;
            var said = model.Requests[turn - 1]["messages"]!.AsArray().Where(message => (string?)message!["role"] == "user").SkipLast(1)
                .Select(message => (string)message!["content"]!);
            var turns = (await HistoryOf(server)).ToDictionary(entry => (int)entry!["turn"]!, entry => (string?)entry!["query"]);
            Assert.Equal(said, context["turns"]!.AsArray().Select(number => turns[(int)number!]));
            Assert.True((bool)context["is_known"]!);
            Assert.True((bool)context["has_instructions"]!);
            Assert.DoesNotContain("Be brief", context.ToJsonString(), StringComparison.Ordinal);
        }

        Assert.False((bool)(await server.GetAsync("/sessions/s/turns/6/context")).Json["is_known"]!);
        (await server.GetAsync("/sessions/s/turns/7/context")).IsProblem(422, "no_such_turn");
        (await server.GetAsync("/sessions/s/turns/0/context")).IsProblem(422, "invalid_request");
        (await server.GetAsync("/sessions/s/turns/1/context?user_id=grace")).IsProblem(404, "session_not_found");
        (await server.GetAsync("/sessions/none/turns/1/context")).IsProblem(404, "session_not_found");
    }

    [Fact]
    public async Task What_came_with_a_request_under_v1_is_told_of_its_turn()
    {
        await using var model = await ScriptedModel.StartAsync();
        var server = Start(model.Agent("model"), null);
        await server.PostAsync("/sessions", new { session_id = "s" });
        var answer = await server.PostAsync("/v1/responses", """
            {"model":"model","conversation":"s","input":"say yes","instructions":"Be kind.",
             "tools":[{"type":"function","name":"get_weather","parameters":{"type":"object","properties":{}}}]}
            """);
        Assert.True(answer.Status == 200, answer.Text);

        var context = (await server.GetAsync("/sessions/s/turns/1/context")).Json;

        Assert.Equal("Be kind.", (string?)context["instructions"]);
        Assert.Equal(["get_weather"], context["tools"]!.AsArray().Select(tool => (string?)tool));
    }

    [Fact]
    public async Task A_history_of_all_branches_has_every_turn_once()
    {
        var server = Start();
        await server.QueryAsync("one", "s");
        await server.QueryAsync("two", "s");
        await server.PostAsync("/query", new { query = "three", thread_id = "s", after_turn = 1 });

        var first = (await server.GetAsync("/sessions/s/history?branches=all&order=desc&limit=2")).Json;
        var second = (await server.GetAsync($"/sessions/s/history?branches=all&order=desc&limit=2&after={first["next"]}")).Json;

        Assert.Equal([3, 2], first["turns"]!.AsArray().Select(turn => (int)turn!["turn"]!));
        Assert.Equal([1], second["turns"]!.AsArray().Select(turn => (int)turn!["turn"]!));
        Assert.False((bool)second["has_more"]!);
        (await server.GetAsync("/sessions/s/history?branches=all&tip=1")).IsProblem(422, "invalid_request");
        (await server.GetAsync("/sessions/s/history?branches=some")).IsProblem(422, "invalid_request");
    }

    [Fact]
    public async Task Lists_are_narrowed_by_agent_failures_and_expiry()
    {
        await using var model = await ScriptedModel.StartAsync();
        var server = Start([.. model.Agent("model"), ("sessions:timeout_hours", "2")], null);
        await server.QueryAsync("hello", "old", "ada");
        server.Time.Advance(TimeSpan.FromHours(1));
        await server.QueryAsync("say hello", "new", "ada", "model");
        server.Time.Advance(TimeSpan.FromSeconds(1));
        await server.TryQueryAsync("fail", "bad", "ada", "model");
        var within = $"{server.Time.GetUtcNow().AddMinutes(90):yyyy-MM-dd'T'HH:mm:ss'Z'}";

        Assert.Equal(["new"], Ids(await server.GetAsync("/users/ada/sessions?agent_type=model")));
        Assert.Equal(["bad"], Ids(await server.GetAsync("/users/ada/sessions?failed=true")));
        Assert.Equal(["new", "old"], Ids(await server.GetAsync("/users/ada/sessions?failed=false")));
        Assert.Equal(["old"], Ids(await server.GetAsync($"/users/ada/sessions?expires_before={within}")));
        Assert.Equal(["bad", "new"], Ids(await server.GetAsync($"/users/ada/sessions?expires_after={within}")));
        (await server.GetAsync("/users/ada/sessions?failed=maybe")).IsProblem(422, "invalid_request");
        (await server.GetAsync("/users/ada/sessions?user_id=grace")).IsProblem(422, "invalid_request");

        // That of all, of one user.
        server.Time.Advance(TimeSpan.FromSeconds(1));
        await server.QueryAsync("hello", "others", "grace");
        Assert.Equal(["others", "bad", "new", "old"], Ids(await server.GetAsync("/sessions")));
        Assert.Equal(["bad", "new", "old"], Ids(await server.GetAsync("/sessions?user_id=ada")));
        Assert.Equal(["old"], Ids(await server.GetAsync($"/sessions?user_id=ada&expires_before={within}")));
        (await server.GetAsync("/sessions?user_id=")).IsProblem(422, "invalid_request");
        (await server.GetAsync("/sessions?user_id=ada&user_id=grace")).IsProblem(422, "invalid_request");
    }

    [Fact]
    public async Task The_server_tells_what_it_does_second_by_second_to_who_looks()
    {
        await using var model = await ScriptedModel.StartAsync();
        var server = Start(model.Agent("model"), null);
        await server.QueryAsync("before anybody looked", "s");
        Assert.Empty((await server.GetAsync("/activity")).Json["samples"]!.AsArray());
        await server.QueryAsync("hello", "s");
        await server.TryQueryAsync("fail", "s", agent: "model");

        List<JsonNode> samples = [];
        await ServiceProcess.UntilAsync(async () =>
        {
            var activity = (await server.GetAsync($"/activity?after={(samples.Count == 0 ? 0 : (int)samples[^1]["number"]!)}")).Json;
            samples.AddRange(activity["samples"]!.AsArray().Select(sample => sample!));
            return samples.Sum(sample => (int)sample["turns"]!["count"]!) >= 2;
        });

        Assert.Equal(Enumerable.Range(1, samples.Count), samples.Select(sample => (int)sample["number"]!));
        Assert.Equal((2, 1),
            (samples.Sum(sample => (int)sample["turns"]!["count"]!), samples.Sum(sample => (int)sample["turns"]!["failed"]!)));
        Assert.All(samples.Where(sample => (int)sample["store"]!["count"]! > 0),
            sample => Assert.True((double)sample["store"]!["max"]! >= (double)sample["store"]!["p50"]!));
        var now = (await server.GetAsync("/activity")).Json;
        Assert.Equal(["advanced 1 0", "model 1 1"],
            now["agents"]!.AsArray().Select(agent => $"{agent!["name"]} {agent["latency"]!["count"]} {agent["latency"]!["failed"]}"));
        Assert.Contains("commit_turn", now["store_operations"]!.AsArray().Select(operation => (string?)operation!["name"]));
        (await server.GetAsync("/activity?after=x")).IsProblem(422, "invalid_request");
    }

    private static async Task<JsonArray> HistoryOf(SessionsServer server) =>
        (await server.GetAsync("/sessions/s/history?branches=all")).Json["turns"]!.AsArray();
}
