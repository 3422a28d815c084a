using System.Text.Json.Nodes;
using Sessions.Tests.Agents;

namespace Sessions.Tests.OpenAi;

/// <summary>Loops of calls and outputs that are longer than what an agent is given of the history.</summary>
public sealed class ToolLoopTests
{
    private static readonly object[] Functions = [new { type = "function", name = "add", parameters = new { type = "object" } }];

    private static readonly object[] ChatFunctions =
        [new { type = "function", function = new { name = "add", parameters = new { type = "object" } } }];

    [Theory]
    [InlineData("history_turns", "0")]
    [InlineData("history_turns", "1")]
    [InlineData("history_turns", "3")]
    [InlineData("history_tokens", "1")]
    public async Task A_chat_may_loop_for_longer_than_its_window(string key, string value)
    {
        await using var model = await StartModelAsync();
        using var server = SessionsServer.Start([.. model.Agent("model"), ($"agents:model:{key}", value)]);

        object message = new { role = "user", content = "count" };
        for (var round = 1; round <= 7; round++)
        {
            var answer = await ChatAsync(server, message);
            Assert.True(answer.Status == 200, $"{round}: {answer.Text}");
            var id = (string?)answer.Json["choices"]![0]!["message"]!["tool_calls"]![0]!["id"];
            Assert.Equal($"c{round}", id);
            message = new { role = "tool", tool_call_id = id, content = $"output {round}" };

            // The output that was sent is told, with its call; of the others only pairs.
            var told = Told(model.Requests[^1]);
            Assert.Equal(round == 1 ? "user count" : $"tool c{round - 1} output {round - 1}", told[^1]);
            var pairs = Math.Min(round - 1, key == "history_turns" && value == "3" ? 3 : 1);
            Assert.Equal(Enumerable.Range(round - pairs, pairs).SelectMany(n => (string[])[$"call c{n}", $"tool c{n} output {n}"]),
                told.Where(line => line != "user count"));
        }
    }

    [Fact]
    public async Task A_conversation_whose_oldest_turns_are_left_out_may_loop_as_well()
    {
        await using var model = await StartModelAsync();
        using var server = SessionsServer.Start([.. model.Agent("model"), ("limits:history_bytes", "6000")]);
        var conversation = (string?)(await server.PostAsync("/v1/conversations", "{}")).Json["id"];

        object input = "count";
        for (var round = 1; round <= 8; round++)
        {
            var answer = await server.PostAsync(
                "/v1/responses", new { model = "model", conversation, truncation = "auto", tools = Functions, input });
            Assert.True(answer.Status == 200, $"{round}: {answer.Text}");
            input = new[] { new { type = "function_call_output", call_id = $"c{round}", output = new string('x', 1000) } };
        }

        // Some were left out by then, and not more than had to be.
        var told = Told(model.Requests[^1]);
        Assert.DoesNotContain("user count", told);
        Assert.True(told.Count >= 4, string.Join(", ", told));
        Assert.StartsWith("call c", told[0], StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_output_that_was_deleted_is_given_again_however_long_ago_its_call_was_made()
    {
        await using var model = await StartModelAsync();
        model.Reply = (request, before, http) => Wire.JsonAsync(http, before > 0 ? Wire.Whole("""{"content":"ok"}""")
            : Wire.Whole($$"""{"content":null,"tool_calls":[{{Call("a")}},{{Call("b")}}]}""", "\"tool_calls\""));
        using var server = SessionsServer.Start(
            [.. model.Agent("model"), ("agents:model:history_turns", "2"), .. model.Agent("short"), ("agents:short:history_turns", "0")]);
        await ChatAsync(server, new { role = "user", content = "count" });

        // Also an agent that is given nothing may not be asked while they wait.
        var early = await server.TryQueryAsync("early", "loop", agent: "short");
        early.IsProblem(409, "tool_output_required");
        await ChatAsync(server, Output("a", "1"), Output("b", "2"));
        for (var i = 0; i < 120; i++)
        {
            Assert.Equal(200, (await server.TryQueryAsync($"q{i}", "loop", agent: "model")).Status);
        }

        var items = (await server.GetAsync("/v1/conversations/loop/items?order=asc&limit=5")).Json["data"]!.AsArray();
        var deleted = items.Single(item => (string?)item!["call_id"] == "b" && (string?)item["type"] == "function_call_output")!["id"];
        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/loop/items/{deleted}")).Status);

        Assert.Equal(400, (await ChatAsync(server, Output("c", "no such call"))).Status);
        Assert.Equal(400, (await ChatAsync(server, Output("a", "a second time"))).Status);
        var answer = await ChatAsync(server, Output("b", "3"));
        Assert.True(answer.Status == 200, answer.Text);
        Assert.Equal(["user count", "call b", "tool b 3", "user q118", "user q119"],
            Told(model.Requests[^1]).Where(line => line != "ok"));
    }

    [Fact]
    public async Task Outputs_that_come_one_by_one_are_told_together()
    {
        await using var model = await StartModelAsync();
        model.Reply = (request, before, http) => Wire.JsonAsync(http, before > 0 ? Wire.Whole("""{"content":"ok"}""")
            : Wire.Whole($$"""{"content":null,"tool_calls":[{{Call("a")}},{{Call("b")}}]}""", "\"tool_calls\""));
        using var server = SessionsServer.Start([.. model.Agent("model"), ("agents:model:history_tokens", "1")]);
        await ChatAsync(server, new { role = "user", content = "count" });

        var appended = await server.PostAsync("/v1/conversations/loop/items",
            new { items = new[] { new { type = "function_call_output", call_id = "a", output = "1" } } });
        Assert.Equal(200, appended.Status);
        Assert.Equal(200, (await ChatAsync(server, Output("b", "2"))).Status);

        Assert.Equal(["user count", "call a", "call b", "tool a 1", "tool b 2"], Told(model.Requests[^1]));
        var context = (await server.GetAsync("/sessions/loop/turns/3/context")).Json;
        Assert.Equal([1, 2], context["turns"]!.AsArray().Select(turn => (int)turn!));
    }

    private static object Output(string id, string content) => new { role = "tool", tool_call_id = id, content };

    private static string Call(string id) =>
        $$$"""{"id":"{{{id}}}","type":"function","function":{"name":"add","arguments":"{}"}}""";

    private static Task<Answer> ChatAsync(SessionsServer server, params object[] messages) => server.PostAsync(
        "/v1/chat/completions", new { model = "model", messages, tools = ChatFunctions }, ("X-Session-Id", "loop"));

    // A model that calls a function each time: c1, c2, …
    private static async Task<ChatCompletionsServer> StartModelAsync()
    {
        var model = await ChatCompletionsServer.StartAsync();
        model.Reply = (_, before, http) => Wire.JsonAsync(
            http, Wire.Whole($$"""{"content":null,"tool_calls":[{{Call($"c{before + 1}")}}]}""", "\"tool_calls\""));
        return model;
    }

    // One line for each message, or call.
    private static List<string> Told(JsonNode request)
    {
        List<string> told = [];
        foreach (var message in request["messages"]!.AsArray())
        {
            var text = message!["content"] is JsonArray parts ? (string?)parts[0]!["text"] : (string?)message["content"];
            if (message["tool_calls"] is JsonArray calls)
            {
                told.AddRange(calls.Select(call => $"call {call!["id"]}"));
            }
            else
            {
                told.Add((string?)message["role"] switch
                {
                    "tool" => $"tool {message["tool_call_id"]} {text}",
                    "user" => $"user {text}",
                    _ => $"{text}",
                });
            }
        }

        return told;
    }
}
