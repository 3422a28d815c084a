using System.Net.Http.Json;
using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

public abstract partial class OpenAiContract
{
    [Fact]
    public async Task Instructions_hold_for_one_response_alone_and_come_behind_the_agents_own()
    {
        var server = await StartAsync(("agents:model:instructions", "You are a test."));
        var conversation = await server.IdOfAsync("/v1/conversations");
        var first = await server.MakeAsync("/v1/responses",
            new { model = "model", input = "options", instructions = "Be brief.", conversation });
        Assert.Equal(["You are a test.", "Be brief."], Prompts(first));
        var second = await server.MakeAsync("/v1/responses", new { model = "model", input = "options", conversation });
        Assert.Equal(["You are a test."], Prompts(second));
        Assert.Null((string?)second["instructions"]);
        var third = await server.MakeAsync("/v1/responses",
            new { model = "model", input = "options", previous_response_id = (string?)first["id"], instructions = "Be long." });
        Assert.Equal(["You are a test.", "Be long."], Prompts(third));
        Assert.Equal(4, (await server.ItemsAsync(conversation)).Count);

        static IEnumerable<string> Prompts(JsonNode response) =>
            JsonNode.Parse(TextOf(response))!["system"]!.AsArray()
                .SelectMany(text => ((string)text!).Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Fact]
    public async Task Names_of_models_may_have_slashes()
    {
        var server = await StartAsync(("agents:model:aliases:1", "openai/gpt-5"));
        foreach (var path in (string[])["/v1/models/openai%2Fgpt-5", "/v1/models/openai/gpt-5"])
        {
            Assert.Equal("openai/gpt-5", (string?)(await server.GetAsync(path)).Json["id"]);
        }

        Assert.Equal("openai/gpt-5",
            (string?)(await server.MakeAsync("/v1/responses", new { model = "openai/gpt-5", input = "x" }))["model"]);
        Assert.Equal(404, (await server.GetAsync("/v1/models/openai%2Fgpt-4")).Status);
        Assert.NotEmpty((await server.GetAsync("/v1/models/")).Json["data"]!.AsArray());
    }

    [Fact]
    public async Task An_unknown_conversation_is_not_created()
    {
        var server = await StartAsync();
        foreach (var id in (string[])["mine", "conv_00000000000000000000000000000000"])
        {
            foreach (var stream in (bool[])[false, true])
            {
                var refused = await server.PostAsync("/v1/responses", new { model = "model", input = "x", conversation = id, stream });
                Assert.Equal((404, $"Conversation with id '{id}' not found."),
                    (refused.Status, (string?)refused.Json["error"]!["message"]));
            }

            Assert.Equal(404, (await server.SendAsync(HttpMethod.Get, $"/sessions/{id}")).Status);
        }
    }

    [Fact]
    public async Task A_history_that_is_too_long_is_refused_or_cut_at_the_front_and_never_inside_a_call()
    {
        var server = await StartAsync(("limits:history_bytes", "3000"), ("agents:model:history_turns", "1"));
        var conversation = await server.IdOfAsync("/v1/conversations");
        var call = await server.MakeAsync("/v1/responses",
            new { model = "model", input = $"call add 1 {new string('a', 1000)}", conversation, tools = Functions });
        await server.MakeAsync("/v1/responses", new { model = "model", input = Output(call, "1"), conversation, tools = Functions });
        await server.MakeAsync("/v1/responses", new { model = "model", input = $"say {new string('b', 1100)}", conversation });

        var refused = await server.PostAsync("/v1/responses", new { model = "model", input = "next", conversation });
        Assert.Equal((400, "context_length_exceeded", "input"),
            (refused.Status, (string?)refused.Json["error"]!["code"], (string?)refused.Json["error"]!["param"]));
        Assert.Equal(
            "input: the turns before it must have at most 3000 bytes as they are kept, with what those made under /v1 keep of their "
            + "responses, such as instructions and tools; the operator can raise that (limits.history_bytes).",
            (string?)refused.Json["error"]!["message"]);
        refused = await server.PostAsync("/v1/responses",
            new { model = "model", input = "next", conversation, stream = true, truncation = "disabled" });
        Assert.Equal((400, "context_length_exceeded"), (refused.Status, (string?)refused.Json["error"]!["code"]));
        var made = await server.MakeAsync("/v1/responses", new { model = "model", input = "next", conversation, truncation = "auto" });
        Assert.Equal("auto", (string?)made["truncation"]);
        Assert.DoesNotContain("call add", TextOf(made), StringComparison.Ordinal);
        AssertCallsAreWhole(server.Model.Requests[^1]);
    }

    [Fact]
    public async Task Headers_that_the_operator_names_carry_the_session_of_a_chat()
    {
        var server = await StartAsync(("openai:session_header", "X-OpenWebUI-Chat-Id, X-Session-Id"));
        object Body(string text) => new { model = "model", messages = new[] { new { role = "user", content = text } } };
        await server.PostAsync("/v1/chat/completions", Body("one"), ("X-OpenWebUI-Chat-Id", "chat"), ("X-Session-Id", "other"));
        var second = await server.PostAsync("/v1/chat/completions", Body("two"), ("X-Session-Id", "chat"));
        Assert.Equal("I heard 2: one / two", (string?)second.Json["choices"]![0]!["message"]!["content"]);
        Assert.Equal(404, (await server.GetAsync("/v1/conversations/other")).Status);
        var alone = await server.PostAsync("/v1/chat/completions", Body("three"));
        Assert.Equal("I heard 1: three", (string?)alone.Json["choices"]![0]!["message"]!["content"]);
        Assert.Equal(4, (await server.ItemsAsync("chat")).Count);
    }

    [Fact]
    public async Task A_chat_with_the_same_key_in_another_session_is_another_request()
    {
        var server = await StartAsync();
        const string Body = """{"model":"model","stream":true,"messages":[{"role":"user","content":"hold this"}]}""";

        // Both run at once: neither is told the other's answer.
        using var one = await SendAsync("one");
        using var two = await SendAsync("two");
        server.Model.LetGo();
        foreach (var (session, stream) in (IEnumerable<(string, HttpResponseMessage)>)[("one", one), ("two", two)])
        {
            Assert.Contains("[DONE]", await stream.Content.ReadAsStringAsync(Cancel), StringComparison.Ordinal);
            Assert.Equal(2, (await server.ItemsAsync(session)).Count);
        }

        async Task<HttpResponseMessage> SendAsync(string session)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/chat/completions")
            {
                Content = new StringContent(Body, System.Text.Encoding.UTF8, "application/json"),
                Headers = { { "X-Session-Id", session }, { "Idempotency-Key", "key" } },
            };
            return await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        }
    }

    [Fact]
    public async Task What_was_not_to_be_stored_is_found_by_nothing()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        foreach (var inConversation in (bool[])[false, true])
        {
            foreach (var stream in (bool[])[false, true])
            {
                var body = new { model = "model", input = "x", store = false, conversation = inConversation ? conversation : null };
                var made = stream ? (await server.StreamAsync(body))[^1].Json["response"]! : await server.MakeAsync("/v1/responses", body);
                Assert.False((bool)made["store"]!);
                var (id, item) = ((string)made["id"]!, (string)made["output"]![0]!["id"]!);
                Assert.Equal(404, (await server.GetAsync($"/v1/responses/{id}")).Status);
                Assert.Equal(404, (await server.GetAsync($"/v1/responses/{id}?stream=true")).Status);
                Assert.Equal(404, (await server.GetAsync($"/v1/responses/{id}/input_items")).Status);
                Assert.Equal(404, (await server.DeleteAsync($"/v1/responses/{id}")).Status);
                Assert.Equal(400,
                    (await server.PostAsync("/v1/responses", new { model = "model", input = "y", previous_response_id = id })).Status);
                var referred = await server.PostAsync("/v1/responses",
                    new { model = "model", input = new[] { new { type = "item_reference", id = item } } });
                Assert.Equal(inConversation ? 200 : 404, referred.Status);
            }
        }

        Assert.Equal(4, (await server.ItemsAsync(conversation)).Count);
    }

    [Fact]
    public async Task Conversations_sessions_and_responses_have_limits_of_their_own()
    {
        var server = await StartAsync(
            ("sessions:max_sessions_per_user", "2"), ("sessions:max_conversations_per_user", "3"),
            ("limits:responses_bytes_per_user", "20000"));
        await server.SendAsync(HttpMethod.Post, "/sessions", new { user_id = "ada", session_id = "native" });
        List<string> conversations = [];
        for (var i = 0; i < 4; i++)
        {
            conversations.Add(await server.IdOfAsync("/v1/conversations?user_id=ada"));
        }

        List<string> responses = [];
        for (var i = 0; i < 6; i++)
        {
            responses.Add((string)(await server.MakeAsync("/v1/responses?user_id=ada",
                new { model = "model", input = $"say {new string('x', 2000)}" }))["id"]!);
        }

        var found = await Task.WhenAll(
            conversations.Select(async id => (await server.GetAsync($"/v1/conversations/{id}?user_id=ada")).Status));
        Assert.Equal([404, 200, 200, 200], found);
        Assert.Equal(200, (await server.SendAsync(HttpMethod.Get, "/sessions/native")).Status);

        // The oldest of them made room.
        var statuses = await Task.WhenAll(responses.Select(async id => (await server.GetAsync($"/v1/responses/{id}?user_id=ada")).Status));
        Assert.Equal((404, 200), (statuses[0], statuses[^1]));
        Assert.Equal(statuses.Order().Reverse(), statuses);
        var gone = await server.PostAsync("/v1/responses?user_id=ada",
            new { model = "model", input = "x", previous_response_id = responses[0] });
        Assert.Equal((400, "previous_response_not_found"), (gone.Status, (string?)gone.Json["error"]!["code"]));
    }

    [Fact]
    public async Task Silence_is_filled_with_comments_and_nothing_else()
    {
        var server = await StartAsync(("streaming:heartbeat_seconds", "0.1"));
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/responses")
        {
            Content = JsonContent.Create(new { model = "model", input = "hold", stream = true }),
        };
        using var response = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Cancel));
        List<string> lines = [];
        while (await reader.ReadLineAsync(Cancel) is { } line)
        {
            lines.Add(line);
            if (lines.Count(comment => comment.StartsWith(':')) == 3)
            {
                server.Model.LetGo();
            }
        }

        Assert.All(lines, line => Assert.True(line.Length == 0 || line[0] == ':' || line.StartsWith("event: ", StringComparison.Ordinal)
            || line.StartsWith("data: ", StringComparison.Ordinal), line));
        Assert.Contains("event: response.completed", lines);
    }
}
