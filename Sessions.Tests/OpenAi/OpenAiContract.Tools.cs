using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

// Tools that the server runs, on every store.
public abstract partial class OpenAiContract
{
    [Fact]
    public async Task The_servers_own_tools_run_between_the_models_answers()
    {
        await using var tools = await TestTools.StartAsync();
        var server = await StartAsync([.. tools.Of("model")]);
        var conversation = await server.IdOfAsync("/v1/conversations");

        var plain = await server.MakeAsync("/v1/responses", new { model = "model", conversation, input = "call echo 2" });
        var streamed = await server.StreamAsync(new { model = "model", conversation, input = "call fail 1" });

        string[] types = ["mcp_call", "mcp_call", "message"];
        Assert.Equal(types, plain["output"]!.AsArray().Select(item => (string?)item!["type"]));
        Assert.Equal("after 2 calls: echo 1, echo 2", (string?)plain["output"]![2]!["content"]![0]!["text"]);
        Assert.Equal(["echo 1", "echo 2", null], plain["output"]!.AsArray().Select(item => (string?)item!["output"]));
        Assert.Equal(
            [
                "response.created", "response.in_progress", "response.output_item.added", "response.mcp_call.in_progress",
                "response.mcp_call_arguments.delta", "response.mcp_call_arguments.done", "response.mcp_call.failed",
                "response.output_item.done",
                "response.output_item.added", "response.content_part.added",
            ],
            streamed.Take(10).Select(happened => happened.Type));
        Assert.Equal("An error occurred invoking 'fail': no luck with 1", (string?)streamed[^1].Json["response"]!["output"]![0]!["error"]);

        // Kept as they were told, and taken back as they were given.
        var items = await server.ItemsAsync(conversation);
        Assert.Equal(["message", .. types, "message", "mcp_call", "message"], items.Select(item => (string?)item["type"]));
        Assert.True(JsonNode.DeepEquals(plain["output"]![0], items[1]));
        JsonNode[] input = [.. items.Select(item => item.DeepClone()), new JsonObject { ["role"] = "user", ["content"] = "say ok" }];
        var again = await server.MakeAsync("/v1/responses", new { model = "model", input = new JsonArray(input) });
        Assert.Equal("ok", (string?)again["output"]![0]!["content"]![0]!["text"]);
        var replayed = await server.ReadAsync(HttpMethod.Get, $"/v1/responses/{plain["id"]}?stream=true", null, int.MaxValue);
        ResponseStream.Check(replayed);
    }

    [Fact]
    public async Task A_kill_in_the_middle_of_a_tool_leaves_nothing_half()
    {
        await using var tools = await TestTools.StartAsync();
        var server = await StartAsync([.. tools.Of("model")]);
        var conversation = await server.IdOfAsync("/v1/conversations");
        await server.MakeAsync("/v1/responses", new { model = "model", conversation, input = "say before" });
        var asked = server.PostAsync("/v1/responses", new { model = "model", conversation, input = "call hang 1" });
        await tools.Hanging.WaitAsync(Cancel);

        await server.RestartAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => asked);

        if (_store.IsDurable)
        {
            Assert.Equal(2, (await server.ItemsAsync(conversation)).Count);
            Assert.Equal("ok", (string?)(await server.MakeAsync("/v1/responses",
                new { model = "model", conversation, input = "say ok" }))["output"]![0]!["content"]![0]!["text"]);
            Assert.Equal(4, (await server.ItemsAsync(conversation)).Count);
        }
    }

    [Fact]
    public async Task The_clients_functions_wait_until_the_servers_tools_have_run()
    {
        await using var tools = await TestTools.StartAsync();
        var server = await StartAsync([.. tools.Of("model")]);
        var conversation = await server.IdOfAsync("/v1/conversations");
        object[] functions = [new { type = "function", name = "mine", parameters = new { type = "object" } }];

        foreach (var stream in (bool[])[false, true])
        {
            var body = new { model = "model", conversation, input = "mix mine echo", tools = functions };
            var output = stream
                ? (await server.StreamAsync(body))[^1].Json["response"]!["output"]!
                : (await server.MakeAsync("/v1/responses", body))["output"]!;
            Assert.Equal(["function_call", "mcp_call", "function_call"], output.AsArray().Select(item => (string?)item!["type"]));

            // The calls are the client's to answer, and the model then has all three outputs.
            var outputs = output.AsArray().Where(item => (string?)item!["type"] == "function_call")
                .Select((item, i) =>
                    (object)new { type = "function_call_output", call_id = (string?)item!["call_id"], output = $"mine {i}" }).ToArray();
            var last = await server.MakeAsync("/v1/responses", new { model = "model", conversation, input = outputs, tools = functions });
            Assert.Equal("after 3 calls: mine 0, echo 2, mine 1", (string?)last["output"]![0]!["content"]![0]!["text"]);
        }
    }

    [Fact]
    public async Task A_function_with_the_name_of_a_tool_is_refused_and_max_tool_calls_bounds_the_servers_own()
    {
        await using var tools = await TestTools.StartAsync();
        var server = await StartAsync([.. tools.Of("model")]);

        foreach (var stream in (bool[])[false, true])
        {
            var refused = await server.PostAsync("/v1/responses",
                new { model = "model", input = "hi", stream, tools = new object[] { new { type = "function", name = "echo" } } });
            Assert.Equal((400, "tools[0].name"), (refused.Status, (string?)refused.Json["error"]!["param"]));
        }

        var bounded = await server.MakeAsync("/v1/responses", new { model = "model", input = "call echo 2", max_tool_calls = 1 });
        Assert.Equal(["completed", "failed", "completed"], bounded["output"]!.AsArray().Select(item => (string?)item!["status"]));
        Assert.Equal(["echo"], tools.Calls);
    }

    [Fact]
    public async Task Chat_completions_have_the_answer_and_the_servers_tools_in_between()
    {
        await using var tools = await TestTools.StartAsync();
        var server = await StartAsync([.. tools.Of("model")]);

        var answer = await server.MakeAsync("/v1/chat/completions",
            new { model = "model", messages = new[] { new { role = "user", content = "call echo 1" } } });

        Assert.Equal("after 1 calls: echo 1", (string?)answer["choices"]![0]!["message"]!["content"]);
        Assert.Equal("stop", (string?)answer["choices"]![0]!["finish_reason"]);
        Assert.Null(answer["choices"]![0]!["message"]!["tool_calls"]);
    }
}
