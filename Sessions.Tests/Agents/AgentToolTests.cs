using System.Text.Json.Nodes;

namespace Sessions.Tests.Agents;

/// <summary>Tools that the model calls and the server runs, over the native API, with a real tool server.</summary>
public sealed class AgentToolTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Calls_are_run_told_to_the_model_and_kept_as_items_in_order(bool streamed)
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);

        Assert.Equal("after 2 calls: echo 1, echo 2", await AskAsync(server, "call echo 2", streamed));

        Assert.Equal(["echo", "echo"], tools.Calls);
        var turn = await TurnAsync(server);
        Assert.Equal(["mcp_call", "mcp_call", "message"], turn["output"]!.AsArray().Select(item => (string?)item!["type"]));
        var call = turn["output"]![1]!.AsObject();
        call.Remove("id");
        Assert.Equal(
            """{"type":"mcp_call","server_label":"tools","name":"echo","arguments":"{\"round\":2}","output":"echo 2","error":null"""
            + ""","approval_request_id":null,"status":"completed"}""",
            call.ToJsonString(new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }));

        // All that the model took, of all rounds.
        Assert.Equal(33, (long)turn["usage"]!["input_tokens"]!);

        // And the next turn is told what was done in this one.
        await AskAsync(server, "say done", streamed);
        Assert.Equal(
            ["user", "assistant", "tool", "assistant", "tool", "assistant", "user"],
            model.Requests[^1]["messages"]!.AsArray().Select(message => (string?)message!["role"]));
    }

    [Fact]
    public async Task A_stream_tells_each_call_when_it_has_run()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);
        await using var events = await EventReader.OpenAsync(server,
            """{"query":"call echo 1","thread_id":"a","agent_type":"model","stream":true}""");

        var told = await events.RestAsync();

        Assert.Equal("session", told[0].Name);
        Assert.Equal(("item", "mcp_call"), (told[1].Name, (string?)told[1].Data["type"]));
        Assert.Equal("done", told[^1].Name);
        Assert.Equal(
            (string?)told[^1].Data["response"],
            string.Concat(told.Where(happened => happened.Name == "delta").Select(happened => (string?)happened.Data["text"])));
    }

    [Theory]
    [InlineData("fail", "An error occurred invoking 'fail': no luck with 1")]
    [InlineData("large", "The tool's result is longer than the 262144 bytes that it may have.")]
    public async Task What_a_tool_cannot_do_is_told_to_the_model_and_kept(string tool, string error)
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);

        Assert.Equal($"after 1 calls: Error: {error}", await AskAsync(server, $"call {tool} 1"));

        var call = (await TurnAsync(server))["output"]![0]!;
        Assert.Equal(("failed", error, (string?)null), ((string?)call["status"], (string?)call["error"], (string?)call["output"]));
    }

    [Fact]
    public async Task A_tool_that_hangs_is_given_up_and_the_model_goes_on()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start(
            [.. model.Agent("model"), .. tools.Of("model"), ("agents:model:tools:tools:timeout_seconds", "20")]);
        var asked = AskAsync(server, "call hang 1");
        await tools.Hanging.WaitAsync(Cancel);
        server.Time.Advance(TimeSpan.FromSeconds(20));

        Assert.Equal("after 1 calls: Error: The tool did not answer within 20 s.", await asked);
    }

    [Fact]
    public async Task A_turn_that_takes_too_long_in_a_tool_fails_and_is_not_to_be_repeated()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start(
            [.. model.Agent("model"), .. tools.Of("model"), ("agents:model:tools:tools:timeout_seconds", "60")]);
        var asked = server.TryQueryAsync("call hang 1", "a", agent: "model");
        await tools.Hanging.WaitAsync(Cancel);
        server.Time.Advance(TimeSpan.FromSeconds(30));

        var failed = (await asked).IsProblem(504, "agent_timeout");

        Assert.Equal("false", failed.Headers["x-should-retry"]);
        Assert.Empty((await server.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray());
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/a")).Json["context"]!["error_count"]!);
    }

    [Fact]
    public async Task Once_a_tool_has_run_what_fails_is_final()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);
        model.Reply = (_, before, http) =>
        {
            http.Response.Headers.RetryAfter = "7";
            http.Response.StatusCode = 503;
            return before == 0 ? CallAsync(http, "echo", """{"round":1}""") : Task.CompletedTask;
        };

        var failed = (await server.TryQueryAsync("hello", "a", agent: "model")).IsProblem(502, "agent_failed");

        Assert.Equal("false", failed.Headers["x-should-retry"]);
        Assert.DoesNotContain("Retry-After", failed.Headers.Keys);
        Assert.Equal(["echo"], tools.Calls);
        Assert.Empty((await server.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray());
    }

    [Fact]
    public async Task A_session_that_moved_on_is_a_conflict_and_no_second_run()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var tools = await TestTools.StartAsync();
        using var folder = new TestFolder();
        (string, string)[] store = [("sessions:storage_type", "sqlite"), ("sessions:db_path", folder["sessions.db"])];
        await using var server = SessionsServer.Start([.. store, .. model.Agent("model"), .. tools.Of("model")]);
        await using var other = SessionsServer.Start(store);
        await server.QueryAsync("hello", "a", agent: "model");
        var before = model.Requests.Count;
        model.Reply = async (_, asked, http) =>
        {
            if (asked == before)
            {
                await CallAsync(http, "echo", """{"round":1}""");
                return;
            }

            // Another process on the same file is faster.
            await other.QueryAsync("meanwhile", "a");
            await ChatCompletionsServer.AnswerAsync(http, "done");
        };

        var refused = (await server.TryQueryAsync("go", "a", agent: "model")).IsProblem(409, "session_busy");

        Assert.Equal("false", refused.Headers["x-should-retry"]);
        Assert.Equal(["echo"], tools.Calls);
        Assert.Equal(2, (await server.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray().Count);
    }

    [Fact]
    public async Task A_server_that_is_away_is_told_and_found_again()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync(FreePort.Find());
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);
        await tools.StopAsync();
        Assert.Equal("Healthy", (string?)(await server.GetAsync("/health")).Json["status"]);

        var refused = (await server.TryQueryAsync("call echo 1", "a", agent: "model")).IsProblem(502, "agent_tools_unavailable");
        Assert.Equal("The tool server 'tools' can't be reached.", (string?)refused.Json["detail"]);
        Assert.Equal("5", refused.Headers["Retry-After"]);
        var stream = await server.PostAsync("/query", """{"query":"call echo 1","agent_type":"model","stream":true}""");
        stream.IsProblem(502, "agent_tools_unavailable");
        var health = (await server.GetAsync("/health")).Json;
        Assert.Equal("Degraded", (string?)health["status"]);
        Assert.Equal("Tool servers: model/tools can't be reached (ConnectionRefused).",
            (string?)health["checks"]!["tools"]!["description"]);
        Assert.Empty(model.Requests);

        await tools.StartAgainAsync();
        server.Time.Advance(TimeSpan.FromSeconds(6));
        Assert.Equal("after 1 calls: echo 1", await AskAsync(server, "call echo 1"));
        Assert.Equal("Healthy", (string?)(await server.GetAsync("/health")).Json["status"]);

        // Started anew between two turns, and in the middle of one.
        await tools.StopAsync();
        await tools.StartAgainAsync();
        Assert.Equal("after 1 calls: echo 1", await AskAsync(server, "call echo 1"));
    }

    [Fact]
    public async Task Only_tools_that_are_allowed_are_offered_and_they_are_listed()
    {
        Environment.SetEnvironmentVariable("TOOLS__TEST_KEY", "s3cret");
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start(
            [
                .. model.Agent("model"), .. tools.Of("model"), ("agents:model:tools:tools:allowed", "echo"),
                ("agents:model:tools:tools:headers:x-tools-key", "Key ${TOOLS__TEST_KEY}"),
            ]);
        Assert.Equal("""[{"server":"tools","name":"echo","description":null}]""", await ListAsync(server));

        var options = JsonNode.Parse(await AskAsync(server, "options"))!;

        Assert.Equal(["echo"], options["tools"]!.AsArray().Select(tool => (string?)tool!["function"]!["name"]));
        Assert.Equal("Does echo.", (string?)options["tools"]![0]!["function"]!["description"]);
        Assert.Equal("integer", (string?)options["tools"]![0]!["function"]!["parameters"]!["properties"]!["round"]!["type"]);
        Assert.Equal("""[{"server":"tools","name":"echo","description":"Does echo."}]""", await ListAsync(server));
        Assert.Equal("Key s3cret", tools.Key);
        Assert.True(tools.HadLengths);

        // What the model calls all the same is not run, and it is told so.
        Assert.StartsWith("after 1 calls: Error", await AskAsync(server, "call fail 1"), StringComparison.Ordinal);
        Assert.Empty(tools.Calls);

        static async Task<string> ListAsync(SessionsServer server) =>
            (await server.GetAsync("/agents")).Json["agents"]![1]!["tools"]!.ToJsonString();
    }

    [Fact]
    public async Task Rounds_are_bounded_and_the_model_then_answers_without_tools()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start(
            [.. model.Agent("model"), .. tools.Of("model"), ("agents:model:max_tool_rounds", "2")]);

        // This model goes on calling.
        var failed = (await server.TryQueryAsync("call echo 9", "a", agent: "model")).IsProblem(502, "agent_failed");

        Assert.Equal("The agent called tools and returned no text.", (string?)failed.Json["detail"]);
        Assert.Equal(2, tools.Calls.Count);
        Assert.Null(model.Requests[^1]["tools"]);
    }

    [Fact]
    public async Task Results_have_the_bytes_of_the_answer_and_no_more()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start(
            [.. model.Agent("model"), .. tools.Of("model"), ("limits:response_bytes", "10000"),
                ("agents:model:tools:tools:result_bytes", "20000000")]);

        Assert.Equal(
            "after 1 calls: Error: The tool's result does not fit into the 10000 bytes that limits.response_bytes allows an answer.",
            await AskAsync(server, "call large 1"));
    }

    [Theory]
    [InlineData("[1]")]
    [InlineData("{")]
    public async Task Arguments_that_are_none_are_told_to_the_model(string arguments)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);
        model.Reply = (request, before, http) => before == 0 ? CallAsync(http, "echo", arguments)
            : ChatCompletionsServer.AnswerAsync(http, (string?)request["messages"]!.AsArray()[^1]!["content"]);

        Assert.Equal("Error: The arguments are not a JSON object.",
            (string?)(await server.QueryAsync("hello", agent: "model"))["response"]);
        Assert.Empty(tools.Calls);
    }

    [Fact]
    public async Task A_turn_that_is_stopped_in_a_tool_keeps_what_was_begun()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), .. tools.Of("model")]);
        var asked = server.TryQueryAsync("call hang 1", "a", agent: "model");
        await tools.Hanging.WaitAsync(Cancel);

        Assert.Equal(202, (await server.PostAsync("/sessions/a/cancel")).Status);

        Assert.Equal("cancelled", (string?)(await asked).Json["metadata"]!["incomplete_reason"]);
        var call = (await TurnAsync(server))["output"]![0]!;
        Assert.Equal(("incomplete", "The turn was stopped while the tool was running."), ((string?)call["status"], (string?)call["error"]));
        Assert.Equal("done", await AskAsync(server, "say done"));
    }

    [Fact]
    public async Task A_local_program_is_a_tool_server_too_and_ends_with_this_one()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using (var server = SessionsServer.Start(
            [.. model.Agent("model"), .. TestTools.LocalOf("model"), ("agents:model:tools:local:env", "HOME")]))
        {
            Assert.Equal("after 2 calls: echo 1, echo 2", await AskAsync(server, "call echo 2"));
            Assert.Equal("after 1 calls: Error: An error occurred invoking 'fail': no luck with 1", await AskAsync(server, "call fail 1"));
            Assert.Equal("after 1 calls: Error: The tool's result is longer than the 262144 bytes that it may have.",
                await AskAsync(server, "call large 1"));
            Assert.Equal("local", (string?)(await TurnAsync(server))["output"]![0]!["server_label"]);
        }
    }

    [Fact]
    public async Task A_program_that_cannot_be_started_is_told()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model"), ("agents:model:tools:x:command", "/nowhere/at-all")]);

        (await server.TryQueryAsync("say hi", "a", agent: "model")).IsProblem(502, "agent_tools_unavailable");

        Assert.Equal("Tool servers: model/x can't be reached (the command can't be started).",
            (string?)(await server.GetAsync("/health")).Json["checks"]!["tools"]!["description"]);
    }

    [Fact]
    public async Task Two_servers_tools_of_one_name_are_told_apart()
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var tools = await TestTools.StartAsync();
        await using var server = SessionsServer.Start(
            [.. model.Agent("model"), .. tools.Of("model"), ("agents:model:tools:more:url", tools.Url),
                ("agents:model:tools:more:allowed", "echo")]);

        Assert.Equal("after 1 calls: echo 1", await AskAsync(server, "call more_echo 1"));
        Assert.Equal("more", (string?)(await TurnAsync(server))["output"]![0]!["server_label"]);
    }

    internal static Task CallAsync(Microsoft.AspNetCore.Http.HttpContext http, string name, string arguments)
    {
        http.Response.StatusCode = 200;
        return Wire.JsonAsync(http, Wire.Whole(
            new JsonObject
            {
                ["role"] = "assistant",
                ["tool_calls"] = new JsonArray(new JsonObject
                {
                    ["id"] = "call_0",
                    ["type"] = "function",
                    ["function"] = new JsonObject { ["name"] = name, ["arguments"] = arguments },
                }),
            },
            "\"tool_calls\""));
    }

    private static async Task<string> AskAsync(SessionsServer server, string query, bool streamed = false)
    {
        if (!streamed)
        {
            return (string)(await server.QueryAsync(query, "a", agent: "model"))["response"]!;
        }

        await using var events = await EventReader.OpenAsync(server,
            $$"""{"query":"{{query}}","thread_id":"a","agent_type":"model","stream":true}""");
        var last = (await events.RestAsync())[^1];
        Assert.True(last.Name == "done", last.Data.ToJsonString());
        return (string)last.Data["response"]!;
    }

    private static async Task<JsonNode> TurnAsync(SessionsServer server) =>
        (await server.GetAsync("/sessions/a/history?include=items&order=desc&limit=1")).Json["turns"]![0]!;
}
