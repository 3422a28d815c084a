using System.Net.Http.Json;
using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

public abstract partial class OpenAiContract
{
    [Theory]
    [InlineData("responses")]
    [InlineData("items")]
    [InlineData("chain")]
    [InlineData("chat")]
    public async Task The_first_turn_that_names_a_user_binds_what_is_nobodys(string by)
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var first = await server.MakeAsync("/v1/responses", new { model = "model", input = "root" });
        var (path, body, address) = by switch
        {
            "responses" =>
                ("/v1/responses", (object)new { model = "model", input = "x", conversation }, $"/v1/conversations/{conversation}"),
            "items" => ($"/v1/conversations/{conversation}/items", new { items = new[] { new { role = "user", content = "x" } } },
                $"/v1/conversations/{conversation}"),
            "chain" => ("/v1/responses", new { model = "model", input = "x", previous_response_id = (string?)first["id"] },
                $"/v1/responses/{first["id"]}"),
            _ => ("/v1/chat/completions", new { model = "model", messages = new[] { new { role = "user", content = "x" } } },
                $"/v1/conversations/{conversation}"),
        };
        Assert.Equal(404, (await server.GetAsync($"{address}?user_id=ada")).Status);
        var made = await server.PostAsync($"{path}?user_id=ada", body, ("X-Session-Id", conversation));
        Assert.True(made.Status == 200, made.Text);
        Assert.Equal(200, (await server.GetAsync($"{address}?user_id=ada")).Status);
        Assert.Equal(404, (await server.GetAsync($"{address}?user_id=bob")).Status);
        Assert.InRange((await server.PostAsync($"{path}?user_id=bob", body, ("X-Session-Id", conversation))).Status, 400, 404);
    }

    [Fact]
    public async Task A_stream_of_what_it_binds_is_found_by_its_user_while_it_runs()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var had = await server.ReadAsync(HttpMethod.Post, "/v1/responses?user_id=ada",
            new { model = "model", input = "hold", conversation, stream = true }, 5);
        var address = $"/v1/responses/{had[0].Json["response"]!["id"]}";
        Assert.Equal("in_progress", (string?)(await server.GetAsync($"{address}?user_id=ada")).Json["status"]);
        Assert.Equal(404, (await server.GetAsync($"{address}?user_id=bob")).Status);
        server.Model.LetGo();
    }

    [Fact]
    public async Task Items_that_are_there_already_are_told_and_not_added_again()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations",
            new { items = new[] { new { role = "user", content = "one" }, new { role = "assistant", content = "two" } } });
        var made = await server.MakeAsync("/v1/responses", new { model = "model", input = "three", conversation });
        var items = await server.ItemsAsync(conversation);
        Assert.Equal(4, items.Count);

        // As they came, all of them; and with new ones between.
        var again = await server.MakeAsync($"/v1/conversations/{conversation}/items", new { items });
        Assert.Equal(items.Select(item => item.ToJsonString()), again["data"]!.AsArray().Select(item => item!.ToJsonString()));
        JsonNode[] mixed = [items[0].DeepClone(), JsonNode.Parse("""{"role":"user","content":"new"}""")!, items[3].DeepClone()];
        again = await server.MakeAsync($"/v1/conversations/{conversation}/items", new { items = mixed });
        Assert.Equal(["one", "new", "I heard 2: one / three"],
            again["data"]!.AsArray().Select(item => (string?)item!["content"]![0]!["text"]));
        var after = await server.ItemsAsync(conversation);
        Assert.Equal(5, after.Count);
        Assert.Equal((string?)after[4]["id"], (string?)again["data"]![1]!["id"]);
        Assert.Equal((string?)made["output"]![0]!["id"], (string?)again["data"]![2]!["id"]);

        // Those of another conversation are new ones.
        var other = await server.IdOfAsync("/v1/conversations");
        await server.MakeAsync($"/v1/conversations/{other}/items", new { items });
        Assert.Equal(4, (await server.ItemsAsync(other)).Count);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task With_a_call_goes_its_output(bool isAppended)
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        if (isAppended)
        {
            // The same id twice at once, and the outputs in one batch with the calls.
            await server.MakeAsync($"/v1/conversations/{conversation}/items", new { items = JsonNode.Parse("""
                [{"role":"user","content":"hi"},{"type":"function_call","call_id":"c","name":"add","arguments":"{}"},
                 {"type":"function_call","call_id":"c","name":"add","arguments":"{}"},
                 {"type":"function_call_output","call_id":"c","output":"1"},{"type":"function_call_output","call_id":"c","output":"2"}]
                """) });
        }
        else
        {
            var call = await server.MakeAsync("/v1/responses",
                new { model = "model", input = "call add 1", conversation, tools = Functions });
            await server.MakeAsync("/v1/responses", new { model = "model", input = Output(call, "1"), conversation, tools = Functions });
        }

        var items = await server.ItemsAsync(conversation);
        var deleted = items.Last(item => (string?)item["type"] == "function_call");
        var output = items.Last(item => (string?)item["type"] == "function_call_output");
        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}/items/{deleted["id"]}")).Status);

        var left = await server.ItemsAsync(conversation);
        Assert.Equal(items.Where(item => item != deleted && item != output).Select(item => item.ToJsonString()),
            left.Select(item => item.ToJsonString()));
        Assert.Equal(404, (await server.GetAsync($"/v1/conversations/{conversation}/items/{output["id"]}")).Status);
        await server.MakeAsync("/v1/responses", new { model = "model", input = "next", conversation });
        AssertCallsAreWhole(server.Model.Requests[^1]);

        // What a client sends again of it is taken.
        await server.MakeAsync("/v1/responses", new { model = "model", input = left });
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task With_what_a_model_made_goes_the_reasoning_right_before_it(bool oneByOne)
    {
        var server = await StartAsync();
        var sent = JsonNode.Parse("""
            [{"role":"user","content":"hi"},
             {"type":"reasoning","summary":[{"type":"summary_text","text":"r1"}]},
             {"type":"reasoning","summary":[{"type":"summary_text","text":"r2"}]},
             {"type":"function_call","call_id":"c","name":"add","arguments":"{}"},
             {"type":"function_call_output","call_id":"c","output":"1"},
             {"type":"reasoning","summary":[{"type":"summary_text","text":"r3"}]},
             {"role":"assistant","content":"hello"},
             {"type":"reasoning","summary":[{"type":"summary_text","text":"r4"}]},
             {"type":"reasoning","summary":[{"type":"summary_text","text":"r5"}]},
             {"role":"user","content":"and?"}]
            """)!.AsArray();
        var conversation = await server.IdOfAsync("/v1/conversations");
        foreach (var items in oneByOne ? sent.Select(item => new JsonArray(item!.DeepClone())) : [sent])
        {
            await server.MakeAsync($"/v1/conversations/{conversation}/items", new { items });
        }

        async Task<string> LeftWithoutAsync(Func<JsonNode, bool> deleted)
        {
            var id = (await server.ItemsAsync(conversation)).Single(deleted)["id"];
            Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}/items/{id}")).Status);
            return string.Join(' ', (await server.ItemsAsync(conversation)).Select(item =>
                (string?)item["role"] ?? (string?)item["summary"]?[0]?["text"] ?? (string?)item["type"]));
        }

        // What a user said has none, and reasoning may be deleted by itself.
        Assert.Equal("user r1 r2 function_call function_call_output r3 assistant r4 r5",
            await LeftWithoutAsync(item => (string?)item["content"]?[0]?["text"] == "and?"));
        Assert.Equal("user r1 r2 function_call function_call_output r3 assistant r4",
            await LeftWithoutAsync(item => (string?)item["summary"]?[0]?["text"] == "r5"));
        Assert.Equal("user r1 r2 function_call function_call_output r4",
            await LeftWithoutAsync(item => (string?)item["role"] == "assistant"));
        Assert.Equal("user r4", await LeftWithoutAsync(item => (string?)item["type"] == "function_call"));
        await server.MakeAsync("/v1/responses", new { model = "model", input = "next", conversation });
    }

    [Fact]
    public async Task Reasoning_that_led_to_several_calls_goes_with_the_last_of_them()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        await server.MakeAsync($"/v1/conversations/{conversation}/items", new
        {
            items = JsonNode.Parse("""
                [{"type":"reasoning","summary":[{"type":"summary_text","text":"r"}]},
                 {"type":"function_call","call_id":"a","name":"add","arguments":"{}"},
                 {"type":"function_call","call_id":"b","name":"add","arguments":"{}"}]
                """),
        });
        foreach (var (call, left) in new[] { ("a", 2), ("b", 0) })
        {
            var id = (await server.ItemsAsync(conversation)).Single(item => (string?)item["call_id"] == call)["id"];
            Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}/items/{id}")).Status);
            Assert.Equal(left, (await server.ItemsAsync(conversation)).Count);
        }
    }

    [Fact]
    public async Task What_was_made_after_a_deleted_response_can_be_continued_whatever_that_had_answered()
    {
        var server = await StartAsync();
        var call = await server.MakeAsync("/v1/responses", new { model = "model", input = "call add 1", tools = Functions });
        var answer = await server.MakeAsync("/v1/responses",
            new { model = "model", input = Output(call, "1"), previous_response_id = (string?)call["id"], tools = Functions });
        var next = await server.MakeAsync("/v1/responses",
            new { model = "model", input = "next", previous_response_id = (string?)answer["id"] });
        Assert.Equal(200, (await server.DeleteAsync($"/v1/responses/{answer["id"]}")).Status);

        var last = await server.MakeAsync("/v1/responses",
            new { model = "model", input = "last", previous_response_id = (string?)next["id"] });
        Assert.Equal("I heard 3: call add 1 / next / last", TextOf(last));
        AssertCallsAreWhole(server.Model.Requests[^1]);
        var refused = await server.PostAsync("/v1/responses",
            new { model = "model", input = "x", previous_response_id = (string?)answer["id"] });
        Assert.Equal((400, "previous_response_not_found"), (refused.Status, (string?)refused.Json["error"]!["code"]));
    }

    [Fact]
    public async Task A_response_that_is_deleted_leaves_its_items_in_its_conversation()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var made = await server.MakeAsync("/v1/responses", new { model = "model", input = "one", conversation });
        Assert.Equal(200, (await server.DeleteAsync($"/v1/responses/{made["id"]}")).Status);
        Assert.Equal(404, (await server.GetAsync($"/v1/responses/{made["id"]}")).Status);
        Assert.Equal(404, (await server.GetAsync($"/v1/responses/{made["id"]}/input_items")).Status);
        Assert.Equal(2, (await server.ItemsAsync(conversation)).Count);
        Assert.Equal("I heard 2: one / two",
            TextOf(await server.MakeAsync("/v1/responses", new { model = "model", input = "two", conversation })));
        Assert.Equal(404, (await server.DeleteAsync($"/v1/responses/{made["id"]}")).Status);
    }

    [Fact]
    public async Task Errors_of_chat_completions_name_messages()
    {
        var server = await StartAsync();
        const string Image = """{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}""";
        foreach (var (messages, param) in (IEnumerable<(string, string)>)
        [
            ($$"""[{"role":"user","content":"a"},{"role":"user","content":[{"type":"text","text":"b"},{{Image}}]}]""",
                "messages[1].content[1]"),
            ($$"""[{"role":"user","content":"a"},{"role":"assistant","content":"x","tool_calls":[{"id":"c","function":"""
                + """{"name":"n","arguments":"{}"} }]},{"role":"tool","tool_call_id":"c","content":"1"},"""
                + $$"""{"role":"user","content":[{{Image}}]}]""", "messages[3].content[0]"),
            ("""[{"role":"user","content":"a"},{"role":"tool","tool_call_id":"c","content":"1"}]""", "messages"),
            ("""[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"n"}}]}]""", "messages"),
            ("""[{"role":"assistant","tool_calls":[{"id":"","function":{"name":"n"}}]}]""", "messages[0].tool_calls[0].id"),
            ("""[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":""}}]}]""", "messages[0].tool_calls[0].function.name"),
            ("""[{"role":"tool","tool_call_id":"","content":"x"}]""", "messages[0].tool_call_id"),
        ])
        {
            foreach (var stream in (string[])["false", "true"])
            {
                // The built-in agent takes no images.
                var answer = await server.PostAsync("/v1/chat/completions",
                    $$"""{"model":"advanced","messages":{{messages}},"stream":{{stream}}}""");
                var error = answer.Json["error"]!;
                Assert.Equal((400, param), (answer.Status, (string?)error["param"]));
                Assert.DoesNotContain("input[", (string?)error["message"], StringComparison.Ordinal);
            }
        }

        // With a session only what is new is its input.
        await server.MakeAsync("/v1/conversations");
        var later = await server.PostAsync("/v1/chat/completions",
            $$"""{"model":"advanced","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},"""
            + $$"""{"role":"user","content":[{{Image}}]}]}""", ("X-Session-Id", "chat"));
        Assert.Equal((400, "messages[2].content[0]"), (later.Status, (string?)later.Json["error"]!["param"]));
    }

    [Fact]
    public async Task Options_that_a_provider_does_not_know_are_refused_by_their_name_in_the_request()
    {
        var server = await StartAsync(("agents:model:api", "responses"), ("agents:llama:provider", "ollama"),
            ("agents:llama:model", "m"), ("agents:llama:endpoint", "http://127.0.0.1:1"));
        foreach (var (path, body, param) in (IEnumerable<(string, string, string)>)
        [
            ("/v1/chat/completions", """{"model":"model","messages":[{"role":"user","content":"x"}],"seed":1}""", "seed"),
            ("/v1/chat/completions", """{"model":"llama","messages":[{"role":"user","content":"x"}],"verbosity":"low"}""", "verbosity"),
            ("/v1/responses", """{"model":"llama","input":"x","text":{"verbosity":"low"}}""", "text.verbosity"),
        ])
        {
            var refused = await server.PostAsync(path, body);
            Assert.Equal((400, "unsupported_parameter", param),
                (refused.Status, (string?)refused.Json["error"]!["code"], (string?)refused.Json["error"]!["param"]));
            Assert.StartsWith($"{param}:", (string?)refused.Json["error"]!["message"], StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task What_went_on_from_a_conversation_goes_with_it_whoever_has_claimed_the_one_or_the_other()
    {
        var server = await StartAsync();
        foreach (var (ofSource, ofChain) in ((string?, string?)[])[(null, null), ("ada", null), (null, "bob"), ("ada", "bob")])
        {
            var conversation = await server.IdOfAsync("/v1/conversations", new { metadata = new { topic = "demo" } });
            var first = await server.MakeAsync("/v1/responses", new { model = "model", input = "canary", conversation });
            List<JsonNode> chains = [];
            for (var i = 0; i < 2; i++)
            {
                chains.Add(await server.MakeAsync("/v1/responses",
                    new { model = "model", input = $"aside {i}", previous_response_id = (string?)first["id"] }));
            }

            if (ofSource is not null)
            {
                await server.MakeAsync($"/v1/responses?user_id={ofSource}", new { model = "model", input = "mine now", conversation });
            }

            if (ofChain is not null)
            {
                chains[0] = await server.MakeAsync($"/v1/responses?user_id={ofChain}",
                    new { model = "model", input = "mine too", previous_response_id = (string?)chains[0]["id"] });
            }

            // The server's own notes are nobody's metadata.
            Assert.Equal("""{"topic":"demo"}""",
                (await server.GetAsync($"/v1/conversations/{conversation}")).Json["metadata"]!.ToJsonString());
            var native = (await server.SendAsync(HttpMethod.Get, $"/sessions/{conversation}")).Json["metadata"]!.AsObject();
            Assert.DoesNotContain(native, pair => pair.Key.StartsWith('\u0001'));

            // Neither is an item of it to live on.
            var item = (await server.ItemsAsync(conversation))[0];
            Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}/items/{item["id"]}")).Status);
            foreach (var chain in chains)
            {
                var next = await server.MakeAsync("/v1/responses",
                    new { model = "model", input = "and?", previous_response_id = (string?)chain["id"] });
                Assert.DoesNotContain("canary", TextOf(next).Replace("I heard 1: canary", "", StringComparison.Ordinal),
                    StringComparison.Ordinal);
            }

            Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}")).Status);
            foreach (var chain in chains)
            {
                Assert.Equal(404, (await server.GetAsync($"/v1/responses/{chain["id"]}")).Status);
            }
        }
    }

    [Fact]
    public async Task A_chain_may_start_from_a_conversation_whose_turn_runs()
    {
        foreach (var stream in (bool[])[false, true])
        {
            var server = await StartAsync();
            var conversation = await server.IdOfAsync("/v1/conversations");
            var first = await server.MakeAsync("/v1/responses", new { model = "model", input = "root", conversation });
            var asked = server.Model.Requests.Count;
            var running = stream
                ? server.ReadAsync(
                    HttpMethod.Post, "/v1/responses", new { model = "model", input = "hold", conversation, stream }, int.MaxValue)
                : server.PostAsync("/v1/responses", new { model = "model", input = "hold", conversation }) as Task;
            await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > asked);
            var aside = await server.MakeAsync("/v1/responses",
                new { model = "model", input = "aside", previous_response_id = (string?)first["id"] });
            Assert.Equal("I heard 2: root / aside", TextOf(aside));
            server.Model.LetGo();
            await running;

            // Neither has disturbed the other.
            Assert.Equal(asked + 2, server.Model.Requests.Count);
            Assert.Equal(4, (await server.ItemsAsync(conversation)).Count);
        }
    }

    [Fact]
    public async Task More_branches_than_are_noted_one_by_one_go_with_their_conversation_too()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var first = await server.MakeAsync("/v1/responses", new { model = "model", input = "root", conversation });
        var chains = await Task.WhenAll(Enumerable.Range(0, 20).Select(i =>
            server.MakeAsync("/v1/responses", new { model = "model", input = $"aside {i}", previous_response_id = (string?)first["id"] })));
        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}")).Status);
        foreach (var chain in chains)
        {
            Assert.Equal(404, (await server.GetAsync($"/v1/responses/{chain["id"]}")).Status);
        }
    }

    [Fact]
    public async Task What_is_given_twice_is_refused()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var made = await server.MakeAsync("/v1/responses", new { model = "model", input = "x", conversation });
        foreach (var (path, body, param) in (IEnumerable<(string, string, string)>)
        [
            ("/v1/responses", """{"model":"model","input":"a","input":"b"}""", "input"),
            ("/v1/responses", """{"model":"model","input":"a","metadata":{"k":"1","k":"2"}}""", "metadata.k"),
            ("/v1/responses", """{"model":"model","input":[{"role":"user","content":"a","\u0072ole":"system"}]}""", "input[0].role"),
            ("/v1/conversations", """{"metadata":{},"metadata":{"a":"b"}}""", "metadata"),
            ($"/v1/conversations/{conversation}/items", """{"items":[{"role":"user","content":"x"}],"items":[]}""", "items"),
            ("/v1/chat/completions", """{"model":"model","messages":[{"role":"user","content":"a","content":"b"}]}""",
                "messages[0].content"),
        ])
        {
            var answer = await server.PostAsync(path, body);
            Assert.Equal((400, param, "duplicate_parameter"),
                (answer.Status, (string?)answer.Json["error"]!["param"], (string?)answer.Json["error"]!["code"]));
        }

        var response = $"/v1/responses/{made["id"]}";
        foreach (var (path, param) in (IEnumerable<(string, string)>)
        [
            ($"{response}?stream=true&stream=true", "stream"),
            ($"{response}?stream=true&starting_after=1&starting_after=2", "starting_after"),
            ($"{response}?stream=perhaps", "stream"),
            ($"{response}?starting_after=1", "starting_after"),
            ($"{response}/input_items?limit=1&limit=2", "limit"),
            ($"/v1/conversations/{conversation}/items?after=a&after=b", "after"),
            ($"/v1/conversations/{conversation}/items?order=asc&order=asc", "order"),
            ($"/v1/conversations?user_id=ada&user_id=bob", "user_id"),
        ])
        {
            var answer = await server.GetAsync(path);
            Assert.Equal((400, param), (answer.Status, (string?)answer.Json["error"]!["param"]));
        }

        var chat = await server.PostAsync("/v1/chat/completions", """{"model":"model","messages":[{"role":"user","content":"a"}]}""",
            ("X-Session-Id", "a"), ("X-Session-Id", "b"));
        Assert.Equal((400, "X-Session-Id"), (chat.Status, (string?)chat.Json["error"]!["param"]));
        var history = await server.SendAsync(HttpMethod.Get, $"/sessions/{conversation}/history?tip=1&tip=1");
        Assert.Equal(422, history.Status);
    }

    [Fact]
    public async Task A_stream_on_a_conversation_that_is_deleted_says_so()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var reading = server.ReadAsync(HttpMethod.Post, "/v1/responses",
            new { model = "model", input = "hold", conversation, stream = true }, int.MaxValue);
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > 0);
        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}")).Status);
        var events = await reading;
        Assert.Equal(["error", "response.failed"], events.TakeLast(2).Select(happened => happened.Type));
        Assert.Equal("session_gone", (string?)events[^2].Json["code"]);

        conversation = await server.IdOfAsync("/v1/conversations");
        var plain = server.PostAsync("/v1/responses", new { model = "model", input = "hold", conversation });
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > 1);
        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}")).Status);
        var answer = await plain;
        Assert.Equal(
            (409, "session_gone", "false"), (answer.Status, (string?)answer.Json["error"]!["code"], answer.Headers["x-should-retry"]));
    }

    [Fact]
    public async Task A_conversations_id_means_it_on_native_routes_too()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations?user_id=ada");
        await server.MakeAsync("/v1/responses?user_id=ada", new { model = "model", input = "one", conversation });
        var query = await server.SendAsync(
            HttpMethod.Post, "/query", new { query = "two", thread_id = conversation, user_id = "ada", agent_type = "model" });
        Assert.Equal("I heard 2: one / two", (string?)query.Json["response"]);
        var own = (string)query.Json["metadata"]!["thread_id"]!;
        Assert.False((bool)query.Json["metadata"]!["session_created"]!);
        Assert.Equal(4, (await server.ItemsAsync(conversation)).Count);

        foreach (var (method, path, body, status, session) in (IEnumerable<(string, string, object?, int, string?)>)
        [
            ("GET", $"/sessions/{conversation}", null, 200, own),
            ("GET", $"/sessions/{conversation}/history", null, 200, own),
            ("GET", $"/sessions/{conversation}/turns/2/context", null, 200, own),
            ("PATCH", $"/sessions/{conversation}", new { metadata = new { a = "b" } }, 200, own),
            ("POST", $"/sessions/{conversation}/turns", new { query = "three", response = "3" }, 201, null),
            ("POST", $"/sessions/{conversation}/fork", new { after_turn = 1, session_id = "copy" }, 201, "copy"),
            ("POST", $"/sessions/{conversation}/cancel", null, 404, null),
            ("POST", "/sessions", new { session_id = conversation }, 409, null),
        ])
        {
            var answer = await server.SendAsync(new HttpMethod(method), path, body);
            Assert.True(answer.Status == status, $"{method} {path}: {answer.Text}");
            Assert.Equal(session, (string?)answer.Json["session_id"]);
            Assert.DoesNotContain(conversation, answer.Headers.GetValueOrDefault("Location", ""), StringComparison.Ordinal);
        }

        var stale = await server.SendAsync(
            HttpMethod.Patch, $"/sessions/{conversation}", new { metadata = new { a = "c" } }, ("If-Match", "\"0\""));
        Assert.Equal((412, own), (stale.Status, (string?)stale.Json["thread_id"]));
        Assert.Equal(6, (await server.ItemsAsync(conversation)).Count);
        Assert.Equal("b", (string?)(await server.GetAsync($"/v1/conversations/{conversation}")).Json["metadata"]!["a"]);

        // A foreign one is refused in the words for any foreign session, and nothing is made under its name.
        var foreign = await server.SendAsync(
            HttpMethod.Post, "/query", new { query = "mine", thread_id = conversation, user_id = "bob", agent_type = "model" });
        Assert.Equal((404, "session_not_found"), (foreign.Status, foreign.Code));
        var running = server.SendAsync(
            HttpMethod.Post, "/query", new { query = "hold", thread_id = conversation, user_id = "ada", agent_type = "model" });
        await ServiceProcess.UntilAsync(
            () => server.Model.Requests.Any(request => request.ToJsonString().Contains("hold", StringComparison.Ordinal)));
        var cancelled = await server.SendAsync(HttpMethod.Post, $"/sessions/{conversation}/cancel?user_id=ada");
        Assert.Equal((202, own), (cancelled.Status, (string?)cancelled.Json["session_id"]));
        await running;
        var deleted = await server.SendAsync(HttpMethod.Delete, $"/sessions/{conversation}?user_id=ada");
        Assert.Equal((200, own), (deleted.Status, (string?)deleted.Json["session_id"]));
        Assert.Equal(404, (await server.SendAsync(HttpMethod.Get, $"/sessions/{own}")).Status);

        // A session that somebody calls so where there is no such conversation is found by that name under /v1.
        const string Name = "conv_0123456789abcdef0123456789abcdef";
        await server.SendAsync(HttpMethod.Post, "/query", new { query = "x", thread_id = Name });
        Assert.Equal(2, (await server.ItemsAsync(Name)).Count);
    }

    [Fact]
    public async Task A_session_that_the_server_named_has_its_key_for_an_id()
    {
        var server = await StartAsync();
        var queried = (string)(await server.SendAsync(HttpMethod.Post, "/query", new { query = "x" })).Json["metadata"]!["thread_id"]!;
        var created = (string)(await server.SendAsync(HttpMethod.Post, "/sessions", new { })).Json["session_id"]!;
        Assert.Equal(2, (await server.ItemsAsync(NameOf(queried))).Count);
        Assert.Equal(200, (await server.GetAsync($"/v1/conversations/{NameOf(created)}")).Status);

        // Its name leads nowhere once it is gone, also where there is a session with that id again.
        Assert.Equal(200, (await server.SendAsync(HttpMethod.Delete, $"/sessions/{queried}")).Status);
        await server.SendAsync(HttpMethod.Post, "/query", new { query = "y", thread_id = queried });
        Assert.Equal(404, (await server.GetAsync($"/v1/conversations/{NameOf(queried)}")).Status);
        Assert.Equal(200, (await server.GetAsync($"/v1/conversations/{queried}")).Status);

        // A chain is known by its responses alone: what they tell of it is no session's id.
        var response = await server.IdOfAsync("/v1/responses", new { model = "advanced", input = "x" });
        var chain = Guid.ParseExact(response["resp_".Length..][..32], "N");
        Assert.Equal(404, (await server.SendAsync(HttpMethod.Get, $"/sessions/{chain}")).Status);
        var other = await server.SendAsync(HttpMethod.Post, "/query", new { query = "x", thread_id = chain });
        Assert.True((bool)other.Json["metadata"]!["session_created"]!);

        static string NameOf(string id) => "conv_" + id.Replace("-", "", StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_first_turn_of_a_session_is_stopped_by_its_user_and_nobody_else()
    {
        var server = await StartAsync();
        var running = server.SendAsync(HttpMethod.Post, "/query",
            new { query = "hold", thread_id = "first", user_id = "ada", agent_type = "model" });
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > 0);
        Assert.Equal(404, (await server.SendAsync(HttpMethod.Post, "/sessions/first/cancel?user_id=bob")).Status);
        Assert.Equal(202, (await server.SendAsync(HttpMethod.Post, "/sessions/first/cancel?user_id=ada")).Status);
        var stopped = await running;
        Assert.Equal((409, "turn_cancelled"), (stopped.Status, stopped.Code));
    }

    [Fact]
    public async Task A_request_from_inside_a_turn_to_its_own_session_is_refused_at_once()
    {
        var server = await StartAsync(("limits:turn_wait_seconds", "120"));
        var conversation = await server.IdOfAsync("/v1/conversations");
        var own = (string)(await server.SendAsync(HttpMethod.Get, $"/sessions/{conversation}")).Json["session_id"]!;
        var running = server.PostAsync("/v1/responses", new { model = "model", input = "hold", conversation });
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > 0);
        object message = new { role = "user", content = "x" };
        foreach (var (path, body) in (IEnumerable<(string, object)>)
        [
            ("/v1/responses", new { model = "model", input = "x", conversation }),
            ("/v1/responses", new { model = "model", input = "x", conversation, stream = true }),
            ($"/v1/conversations/{conversation}/items", new { items = new[] { message } }),
            ("/v1/chat/completions", new { model = "model", messages = new[] { message } }),
        ])
        {
            var refused = await server.PostAsync(path, body, ("X-Sessions-Session-Id", own), ("X-Session-Id", conversation))
                .WaitAsync(TimeSpan.FromMinutes(1), Cancel);
            Assert.True((409, "conversation_locked") == (refused.Status, (string?)refused.Json["error"]!["code"]), refused.Text);
        }

        foreach (var (path, body) in (IEnumerable<(string, object)>)
        [
            ("/query", new { query = "x", thread_id = conversation, agent_type = "model" }),
            ($"/sessions/{own}/turns", new { query = "x", response = "y" }),
        ])
        {
            var refused = await server.SendAsync(HttpMethod.Post, path, body, ("X-Sessions-Session-Id", own))
                .WaitAsync(TimeSpan.FromMinutes(1), Cancel);
            Assert.Equal((409, "session_busy"), (refused.Status, refused.Code));
        }

        server.Model.LetGo();
        Assert.Equal(200, (await running).Status);
    }

    [Fact]
    public async Task What_turns_hold_whose_clients_have_left_is_bounded_in_bytes()
    {
        var server = await StartAsync(("limits:content_bytes", $"{1 << 20}"), ("limits:request_bodies_bytes", $"{1 << 20}"),
            ("limits:request_bodies_bytes_per_caller", $"{1 << 20}"));
        object[] input = [new { role = "user", content = new string('x', 600_000) }, new { role = "user", content = "hold" }];
        object Body() => new { model = "model", input, stream = true };
        await server.ReadAsync(HttpMethod.Post, "/v1/responses", Body(), 3);
        var refused = await server.PostAsync("/v1/responses", Body());
        Assert.Equal((503, "overloaded"), (refused.Status, (string?)refused.Json["error"]!["code"]));
        Assert.NotEmpty(refused.Headers["Retry-After"]);
        await server.StreamAsync(new { model = "model", input = "small" });
        server.Model.LetGo();
        await ServiceProcess.UntilAsync(async () =>
        {
            using var answer = await server.Client.PostAsJsonAsync(new Uri("/v1/responses", UriKind.Relative), Body(), Cancel);
            return answer.IsSuccessStatusCode;
        });
    }

    [Fact]
    public async Task A_refusal_in_the_history_of_a_chat_is_told_to_the_model()
    {
        var server = await StartAsync();
        object user = new { role = "user", content = "refuse" };
        var refused = await server.MakeAsync("/v1/chat/completions", new { model = "model", messages = new[] { user } });
        var message = refused["choices"]![0]!["message"]!;
        Assert.Equal("I won't.", (string?)message["refusal"]);
        await server.MakeAsync("/v1/chat/completions",
            new { model = "model", messages = new[] { user, message, new { role = "user", content = "why?" } } });
        Assert.Contains("I won't.",
            server.Model.Requests[^1]["messages"]![1]!.ToJsonString().Replace("\\u0027", "'", StringComparison.Ordinal),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_a_chat_says_before_it_refuses_is_its_content()
    {
        var server = await StartAsync();

        var refused = await server.MakeAsync("/v1/chat/completions",
            new { model = "model", messages = new[] { new { role = "user", content = "refuse Well:" } } });

        var message = refused["choices"]![0]!["message"]!;
        Assert.Equal(("Well:", "I won't."), ((string?)message["content"], (string?)message["refusal"]));
    }

    private static object[] Output(JsonNode response, string output) =>
        [new { type = "function_call_output", call_id = (string?)response["output"]![0]!["call_id"], output }];

    // As providers want them: each call with its output behind it, and no output without its call.
    private static void AssertCallsAreWhole(JsonNode request)
    {
        List<string?> waiting = [];
        foreach (var message in request["messages"]!.AsArray())
        {
            if ((string?)message!["role"] == "tool")
            {
                Assert.True(waiting.Remove((string?)message["tool_call_id"]), request.ToJsonString());
                continue;
            }

            Assert.True(waiting.Count == 0, request.ToJsonString());
            waiting.AddRange((message["tool_calls"] as JsonArray ?? []).Select(call => (string?)call!["id"]));
        }

        Assert.Empty(waiting);
    }
}
