using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

public abstract partial class OpenAiContract
{
    [Fact]
    public async Task A_key_of_the_client_gives_the_same_answer_and_does_nothing_twice()
    {
        var server = await StartAsync();
        foreach (var store in (bool[])[true, false])
        {
            var conversation = await server.IdOfAsync("/v1/conversations");
            var body = new { model = "model", input = "once", conversation, store };
            var first = await server.PostAsync("/v1/responses", body, ("Idempotency-Key", $"a{store}"));
            var again = await server.PostAsync("/v1/responses", body, ("Idempotency-Key", $"a{store}"));
            Assert.Equal("true", again.Headers["Idempotency-Replayed"]);
            Assert.False(first.Headers.ContainsKey("Idempotency-Replayed"));
            if (store)
            {
                Assert.Equal(first.Text, again.Text);
            }
            else
            {
                Assert.Equal(WithoutTimes(first.Json), WithoutTimes(again.Json));
            }

            Assert.Equal(2, (await server.ItemsAsync(conversation)).Count);
            var other = await server.PostAsync("/v1/responses", new { model = "model", input = "other", conversation, store },
                ("Idempotency-Key", $"a{store}"));
            Assert.Equal((422, "idempotency_key_reused"), (other.Status, (string?)other.Json["error"]!["code"]));
        }

        // A new chain; one that starts from a conversation; a conversation; items.
        var made = await server.MakeAsync("/v1/responses",
            new { model = "model", input = "one", conversation = await server.IdOfAsync("/v1/conversations") });
        var kept = await server.IdOfAsync("/v1/conversations");
        foreach (var (path, body) in (IEnumerable<(string, object)>)
        [
            ("/v1/responses", new { model = "model", input = "new" }),
            ("/v1/responses", new { model = "model", input = "aside", previous_response_id = (string?)made["id"] }),
            ("/v1/conversations", new { metadata = new { a = "b" }, items = new[] { new { role = "user", content = "x" } } }),
            ($"/v1/conversations/{kept}/items", new { items = new[] { new { role = "user", content = "x" } } }),
        ])
        {
            var asked = server.Model.Requests.Count;
            var key = $"k{body}";
            var first = await server.PostAsync(path, body, ("Idempotency-Key", key));
            var again = await server.PostAsync(path, body, ("Idempotency-Key", key));
            Assert.True(first.Status == 200, first.Text);
            Assert.Equal(first.Text, again.Text);
            Assert.Equal("true", again.Headers["Idempotency-Replayed"]);
            Assert.True(server.Model.Requests.Count <= asked + 1);
        }

        Assert.Single(await server.ItemsAsync(kept));

        // What was deleted since is not given again.
        var deleted = new { model = "model", input = "deleted" };
        var id = (string)(await server.PostAsync("/v1/responses", deleted, ("Idempotency-Key", "d"))).Json["id"]!;
        Assert.Equal(200, (await server.DeleteAsync($"/v1/responses/{id}")).Status);
        var gone = await server.PostAsync("/v1/responses", deleted, ("Idempotency-Key", "d"));
        Assert.Equal((404, $"Response with id '{id}' not found."), (gone.Status, (string?)gone.Json["error"]!["message"]));
    }

    [Fact]
    public async Task Requests_with_one_key_that_come_at_once_do_one_thing_which_stays()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var made = await server.MakeAsync("/v1/responses", new { model = "model", input = "one", conversation });
        foreach (var (path, body) in (IEnumerable<(string, object)>)
        [
            ("/v1/conversations", new { items = new[] { new { role = "user", content = "x" } } }),
            ("/v1/responses", new { model = "model", input = "aside", previous_response_id = (string?)made["id"] }),
        ])
        {
            for (var round = 0; round < 5; round++)
            {
                var key = ("Idempotency-Key", $"{path}{round}");
                var answers = await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => server.PostAsync(path, body, key)));
                Assert.All(answers, answer => Assert.True(answer.Status == 200
                    || (answer.Status, (string?)answer.Json["error"]!["code"]) == (409, "idempotency_in_progress"), answer.Text));

                // Whoever was told that it is made finds it, and so does a repeat.
                var last = await server.PostAsync(path, body, key);
                var id = (string?)last.Json["id"];
                Assert.All(answers.Where(answer => answer.Status == 200), answer => Assert.Equal(id, (string?)answer.Json["id"]));
                Assert.Equal(200, (await server.GetAsync($"{path}/{id}")).Status);
                if (path == "/v1/conversations")
                {
                    Assert.Single(await server.ItemsAsync(id!));
                }
            }
        }

        // What is refused every time leaves nothing.
        var refused = new { items = new[] { new { type = "function_call_output", call_id = "c", output = "x" } } };
        Assert.Equal(400, (await server.PostAsync("/v1/conversations?user_id=nobody", refused, ("Idempotency-Key", "refused"))).Status);
        Assert.Empty((await server.GetAsync("/v1/conversations?user_id=nobody")).Json["data"]!.AsArray());
    }

    [Fact]
    public async Task An_output_that_the_agent_does_not_take_is_refused_before_a_stream_begins()
    {
        var server = await StartAsync(("agents:model:history_tokens", "100"));
        var conversation = await server.IdOfAsync("/v1/conversations");
        var call = await server.MakeAsync("/v1/responses", new { model = "model", input = "call add 1", tools = Functions, conversation });
        object[] image = [new { type = "input_text", text = "1" }, new { type = "input_image", image_url = "data:image/png;base64,AA==" }];
        var input = new[] { new { type = "function_call_output", call_id = (string?)call["output"]![0]!["call_id"], output = image } };
        foreach (var stream in (bool[])[false, true])
        {
            foreach (var truncation in (string[])["disabled", "auto"])
            {
                foreach (var previous in (string?[])[null, (string?)call["id"]])
                {
                    var refused = await server.PostAsync("/v1/responses", new
                    {
                        model = "model",
                        input,
                        tools = Functions,
                        stream,
                        truncation,
                        previous_response_id = previous,
                        conversation = previous is null ? conversation : null,
                    });
                    Assert.Equal((400, "unsupported_parameter", "input[0].output[1]"),
                        (refused.Status, (string?)refused.Json["error"]!["code"], (string?)refused.Json["error"]!["param"]));
                }
            }

            var chat = await server.PostAsync("/v1/chat/completions", new
            {
                model = "model",
                stream,
                messages = new[]
                {
                    new
                    {
                        role = "tool",
                        tool_call_id = input[0].call_id,
                        content = new[] { new { type = "image_url", image_url = new { url = "data:image/png;base64,AA==" } } },
                    },
                },
            }, ("X-Session-Id", conversation));
            Assert.Equal((400, "messages[0].content[0]"), (chat.Status, (string?)chat.Json["error"]!["param"]));
            var query = await server.SendAsync(HttpMethod.Post, "/query", new
            {
                thread_id = "native",
                agent_type = "advanced",
                stream,
                input = new[] { new { type = "input_image", image_url = "data:image/png;base64,AA==" } },
            });
            query.IsProblem(422, "content_not_supported");
        }

        Assert.Equal(2, (await server.ItemsAsync(conversation)).Count);
    }

    [Fact]
    public async Task What_comes_to_nothing_behind_a_response_of_a_conversation_leaves_no_copy_of_it()
    {
        var server = await StartAsync(("limits:responses_bytes_per_user", "20000"));
        var kept = (string)(await server.MakeAsync("/v1/responses?user_id=ada", new { model = "model", input = "kept" }))["id"]!;
        var conversation = await server.IdOfAsync("/v1/conversations?user_id=ada");
        var call = await server.MakeAsync("/v1/responses?user_id=ada",
            new { model = "model", input = $"call add 1 {new string('x', 5000)}", conversation, tools = Functions });
        var done = await server.MakeAsync("/v1/responses?user_id=ada",
            new { model = "model", input = Output(call, "1"), conversation, tools = Functions });
        var before = (await server.SendAsync(HttpMethod.Get, $"/sessions/{conversation}")).Json["version"]!.ToJsonString();

        // Refused; failed, plain and in a stream; left by the client.
        object After(JsonNode response, object input, bool stream = false) =>
            new { model = "model", input, stream, previous_response_id = (string?)response["id"] };
        for (var round = 0; round < 3; round++)
        {
            Assert.Equal(400, (await server.PostAsync("/v1/responses?user_id=ada", After(call, "no output"))).Status);
            Assert.Equal(400, (await server.PostAsync("/v1/responses?user_id=ada", After(call, "no output", stream: true))).Status);
            Assert.Equal(502, (await server.PostAsync("/v1/responses?user_id=ada", After(done, "fail"))).Status);
            var failed = await server.ReadAsync(
                HttpMethod.Post, "/v1/responses?user_id=ada", After(done, "break", stream: true), int.MaxValue);
            Assert.Equal("response.failed", failed[^1].Type);
            using var gone = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
            var asked = server.Model.Requests.Count;
            var left = server.Client.PostAsJsonAsync("/v1/responses?user_id=ada", After(done, "hold"), gone.Token);
            await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > asked);
            await gone.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => left);
        }

        Assert.Equal(200, (await server.GetAsync($"/v1/responses/{kept}?user_id=ada")).Status);
        Assert.Equal(before, (await server.SendAsync(HttpMethod.Get, $"/sessions/{conversation}")).Json["version"]!.ToJsonString());

        // What is repeated makes one, with a key and without; a key whose first try failed is as good as new.
        Assert.Equal(502,
            (await server.PostAsync("/v1/responses?user_id=ada", After(done, "fail"), ("Idempotency-Key", "k"))).Status);
        Assert.Equal(502,
            (await server.PostAsync("/v1/responses?user_id=ada", After(done, "fail"), ("Idempotency-Key", "k"))).Status);
        HashSet<string> made = [];
        for (var round = 0; round < 5; round++)
        {
            var repeated = await server.PostAsync(
                "/v1/responses?user_id=ada", After(done, "say on"), ("X-Stainless-Retry-Count", $"{round}"));
            Assert.True(repeated.Status == 200, repeated.Text);
            made.Add((string)repeated.Json["id"]!);
        }

        Assert.Single(made);
        Assert.Equal(200, (await server.GetAsync($"/v1/responses/{kept}?user_id=ada")).Status);
        var next = await server.MakeAsync("/v1/responses?user_id=ada",
            new { model = "model", input = "and?", previous_response_id = made.Single() });
        Assert.EndsWith(" / say on / and?", TextOf(next), StringComparison.Ordinal);

        // What runs behind a conversation comes to nothing with it.
        var count = server.Model.Requests.Count;
        var running = server.PostAsync("/v1/responses?user_id=ada", After(done, "hold"));
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > count);
        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}?user_id=ada")).Status);
        var ended = await running;
        Assert.Equal((409, "session_gone"), (ended.Status, (string?)ended.Json["error"]!["code"]));
    }

    [Fact]
    public async Task What_goes_on_from_a_conversation_keeps_it_as_a_turn_of_its_own_would()
    {
        // Less than the agent may take, and no more than one beside it.
        var server = await StartAsync(
            ("sessions:timeout_hours", "0.02"), ("agents:model:timeout_seconds", "600"), ("sessions:max_conversations_per_user", "2"));
        var conversation = await server.IdOfAsync("/v1/conversations?user_id=ada");
        var first = await server.MakeAsync("/v1/responses?user_id=ada", new { model = "advanced", input = "one", conversation });
        var other = await server.IdOfAsync("/v1/conversations?user_id=ada");
        var running = server.PostAsync(
            "/v1/responses?user_id=ada", new { model = "model", input = "hold", previous_response_id = (string?)first["id"] });
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > 0);

        var kept = (await server.SendAsync(HttpMethod.Get, $"/sessions/{conversation}?user_id=ada")).Json;
        var (last, expires) = ((DateTimeOffset)kept["last_activity_at"]!, (DateTimeOffset)kept["expires_at"]!);
        Assert.True(expires - last > TimeSpan.FromHours(0.02) + TimeSpan.FromSeconds(1), kept.ToJsonString());
        await server.IdOfAsync("/v1/conversations?user_id=ada");
        Assert.Equal(200, (await server.GetAsync($"/v1/conversations/{conversation}?user_id=ada")).Status);
        Assert.Equal(404, (await server.GetAsync($"/v1/conversations/{other}?user_id=ada")).Status);

        server.Model.LetGo();
        Assert.Equal(200, (await running).Status);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_turn_that_would_bind_what_is_nobodys_to_a_user_that_is_erased_comes_to_nothing(bool isBranch)
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var first = await server.MakeAsync("/v1/responses", new { model = "advanced", input = "one", conversation });
        var running = server.PostAsync("/v1/responses?user_id=eve", isBranch
            ? new { model = "model", input = "hold", previous_response_id = (string?)first["id"] }
            : new { model = "model", input = "hold", conversation });
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > 0);

        Assert.Equal(200, (await server.SendAsync(HttpMethod.Delete, "/users/eve/sessions")).Status);
        var ended = await running;
        Assert.True(ended.Status == 409, ended.Text);
        Assert.Equal("session_gone", (string?)ended.Json["error"]!["code"]);
        Assert.Equal("", (await server.SendAsync(HttpMethod.Get, "/users/eve/export")).Text);
        Assert.Null((await server.SendAsync(HttpMethod.Get, $"/sessions/{conversation}")).Json["user_id"]);
    }

    [Fact]
    public async Task A_history_that_the_agent_does_not_take_is_refused_before_a_stream_begins()
    {
        var server = await StartAsync();
        var items = new[] { new { role = "user", content = new[] { new { type = "input_image", image_url = "nothing" } } } };
        var conversation = await server.IdOfAsync("/v1/conversations", new { items });
        foreach (var truncation in (string[])["disabled", "auto"])
        {
            foreach (var stream in (bool[])[false, true])
            {
                var request = new { model = "model", input = "x", conversation, stream, truncation };
                var refused = await server.PostAsync("/v1/responses", request);
                Assert.Equal((400, "unsupported_parameter"), (refused.Status, (string?)refused.Json["error"]!["code"]));
            }
        }

        Assert.Single(await server.ItemsAsync(conversation));
    }

    [Theory]
    [InlineData("""{"type":"input_image","image_url":"data:image/png;base64,AA=="}""")]
    [InlineData("""{"type":"input_file","filename":"a.txt","file_data":"data:text/plain;base64,YQ=="}""")]
    public async Task Content_that_has_no_place_in_a_message_is_refused_before_anything_runs(string part)
    {
        var server = await StartAsync();
        var item = $$"""{"role":"assistant","content":[{"type":"output_text","text":"here"},{{part}}]}""";
        var conversation = await server.IdOfAsync("/v1/conversations", $$"""{"items":[{{item}}]}""");
        foreach (var stream in (string[])["false", "true"])
        {
            var given = await server.PostAsync("/v1/responses",
                $$"""{"model":"model","input":[{{item}},{"role":"user","content":"what is it?"}],"stream":{{stream}}}""");
            var stored = await server.PostAsync("/v1/responses",
                $$"""{"model":"model","input":"what is it?","conversation":"{{conversation}}","stream":{{stream}}}""");
            Assert.Equal((400, "unsupported_parameter", "input[0].content[1]"),
                (given.Status, (string?)given.Json["error"]!["code"], (string?)given.Json["error"]!["param"]));
            Assert.Equal((400, "unsupported_parameter"), (stored.Status, (string?)stored.Json["error"]!["code"]));
        }

        Assert.Empty(server.Model.Requests);
        Assert.Single(await server.ItemsAsync(conversation));
    }

    [Fact]
    public async Task References_are_given_once_and_those_of_other_branches_too()
    {
        var server = await StartAsync();
        var root = await server.MakeAsync("/v1/responses", new { model = "model", input = "root" });
        var left = await server.MakeAsync("/v1/responses",
            new { model = "model", input = "left", previous_response_id = (string?)root["id"] });
        var right = await server.MakeAsync("/v1/responses",
            new { model = "model", input = "right", previous_response_id = (string?)root["id"] });
        var of = async (JsonNode response) =>
            (string?)(await server.GetAsync($"/v1/responses/{response["id"]}/input_items")).Json["data"]![0]!["id"];
        object[] input = [new { type = "item_reference", id = await of(root) }, new { type = "item_reference", id = await of(right) },
            new { role = "user", content = "now" }];
        Assert.Equal("I heard 4: root / left / right / now",
            TextOf(await server.MakeAsync("/v1/responses", new { model = "model", input, previous_response_id = (string?)left["id"] })));
        Assert.Equal("I heard 3: root / right / now", TextOf(await server.MakeAsync("/v1/responses", new { model = "model", input })));

        // An item of a client's with an id that is there already is that item; with any other id it is a new one.
        var conversation = await server.IdOfAsync("/v1/conversations", new { items = new[] { new { role = "user", content = "mine" } } });
        var mine = (string?)(await server.ItemsAsync(conversation))[0]["id"];
        input = [new { id = mine, role = "user", content = "mine" }, new { id = await of(root), role = "user", content = "new" },
            new { id = "msg_anything", type = "message", role = "user", content = "newer" }];
        Assert.Equal("I heard 3: mine / new / newer",
            TextOf(await server.MakeAsync("/v1/responses", new { model = "model", input, conversation })));
        var items = await server.ItemsAsync(conversation);
        Assert.Equal(4, items.Count);
        Assert.Equal(4, items.Select(item => (string?)item["id"]).Distinct().Count());
        Assert.DoesNotContain(await of(root), items.Select(item => (string?)item["id"]));
    }

    [Fact]
    public async Task Turns_in_one_conversation_run_one_after_another()
    {
        var server = await StartAsync(("limits:turn_queue", "100"), ("limits:turn_wait_seconds", "60"));
        var conversation = await server.IdOfAsync("/v1/conversations");
        await Task.WhenAll(Enumerable.Range(0, 12).Select(i => i % 3 == 0
            ? server.MakeAsync($"/v1/conversations/{conversation}/items",
                new { items = new[] { new { role = "user", content = $"a{i}" }, new { role = "assistant", content = $"a{i}" } } })
            : server.MakeAsync("/v1/responses", new { model = "model", input = $"r{i}", conversation })));
        var items = await server.ItemsAsync(conversation);
        Assert.Equal(24, items.Count);
        for (var i = 0; i < 24; i += 2)
        {
            Assert.Equal(("user", "assistant"), ((string?)items[i]["role"], (string?)items[i + 1]["role"]));
            var (asked, answered) = ((string?)items[i]["content"]![0]!["text"], (string?)items[i + 1]["content"]![0]!["text"]);
            Assert.EndsWith(asked!, answered, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Items_of_all_kinds_come_back_as_they_were_sent()
    {
        var server = await StartAsync();
        var sent = JsonNode.Parse("""
            [{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},
               {"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"low"},
               {"type":"input_file","filename":"a.txt","file_data":"data:text/plain;base64,YQ=="}]},
             {"type":"message","role":"system","content":[{"type":"input_text","text":"b"}]},
             {"type":"reasoning","summary":[{"type":"summary_text","text":"thought"}],"encrypted_content":"xyz"},
             {"type":"function_call","call_id":"c1","name":"add","arguments":"{\"a\":1}"},
             {"type":"function_call_output","call_id":"c1","output":"2"},
             {"type":"function_call","call_id":"c2","name":"add","arguments":"{}"},
             {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"2"}]},
             {"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"no"}]},
             {"type":"mcp_list_tools","server_label":"s","tools":[]},
             {"type":"mcp_call","server_label":"s","name":"t","arguments":"{}","output":"1","error":null,"approval_request_id":null}]
            """)!.AsArray();

        // Only a server's own tools can have failed, and say so.
        sent.Add(sent[^1]!.DeepClone());
        sent[^1]!["status"] = "failed";
        var conversation = await server.IdOfAsync("/v1/conversations", new { items = sent });
        var got = await server.ItemsAsync(conversation);
        Assert.Equal(sent.Count, got.Count);
        for (var i = 0; i < sent.Count; i++)
        {
            var item = got[i].DeepClone().AsObject();
            Assert.True(JsonNode.DeepEquals(got[i], (await server.GetAsync($"/v1/conversations/{conversation}/items/{item["id"]}")).Json));
            item.Remove("id");
            if (sent[i]!["status"] is null && item["type"]!.GetValue<string>() is not ("reasoning" or "mcp_list_tools"))
            {
                Assert.Equal("completed", (string?)item["status"]);
                item.Remove("status");
            }

            Assert.True(JsonNode.DeepEquals(sent[i], item), $"{sent[i]!.ToJsonString()}\n{item.ToJsonString()}");
        }

        Assert.Equal(["msg", "msg", "rs", "fc", "fco", "fc", "fco", "msg", "mcpl", "mcp", "mcp"],
            got.Select(item => ((string)item["id"]!).Split('_')[0]));
    }

    [Fact]
    public async Task What_is_refused_names_the_field_and_leaves_nothing()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        foreach (var (body, param, code) in (IEnumerable<(string, string?, string?)>)
        [
            ("""{"background":true}""", "background", "unsupported_parameter"),
            ("""{"prompt":{"id":"p"}}""", "prompt", "unsupported_parameter"),
            ("""{"context_management":[{"type":"compaction"}]}""", "context_management", "unsupported_parameter"),
            ("""{"moderation":{"model":"m"}}""", "moderation", "unsupported_parameter"),
            ("""{"tools":[{"type":"web_search"}]}""", "tools[0].type", "unsupported_parameter"),
            ("""{"tools":[{"type":"function","name":"a"},{"type":"mcp","server_label":"s"}]}""", "tools[1].type", "unsupported_parameter"),
            ("""{"tools":["add"]}""", "tools[0]", "invalid_type"),
            ("""{"tools":[{"type":"function"}]}""", "tools[0].name", "missing_required_parameter"),
            ("""{"tool_choice":{"type":"function","name":"none"}}""", "tool_choice", "invalid_value"),
            ("""{"temperature":2.5}""", "temperature", "decimal_above_max_value"),
            ("""{"top_p":-1}""", "top_p", "decimal_below_min_value"),
            ("""{"max_output_tokens":0}""", "max_output_tokens", "integer_below_min_value"),
            ("""{"max_output_tokens":"1"}""", "max_output_tokens", "invalid_type"),
            ("""{"top_logprobs":3}""", "top_logprobs", "integer_above_max_value"),
            ("""{"truncation":"some"}""", "truncation", "invalid_value"),
            ("""{"text":{"format":{"type":"grammar"}}}""", "text.format.type", "invalid_value"),
            ("""{"text":{"format":{"type":"json_schema","name":"x"}}}""", "text.format.schema", "missing_required_parameter"),
            ("""{"text":{"verbosity":"none"}}""", "text.verbosity", "invalid_value"),
            ("""{"reasoning":"low"}""", "reasoning", "invalid_type"),
            ("""{"include":["everything"]}""", "include[0]", "invalid_value"),
            ("""{"metadata":{"k":1}}""", "metadata.k", "invalid_type"),
            ("""{"metadata":[]}""", "metadata", "invalid_type"),
            ("""{"store":"yes"}""", "store", "invalid_type"),
            ("""{"instructions":["x"]}""", "instructions", "invalid_type"),
            ("""{"unheard_of":1}""", "unheard_of", "unknown_parameter"),
            ("""{"previous_response_id":"resp_x"}""", "previous_response_id", "mutually_exclusive_parameters"),
            ("""{"input":null}""", "input", "missing_required_parameter"),
            ("""{"input":7}""", "input", "invalid_type"),
            ("""{"input":[]}""", "input", "missing_required_parameter"),
            ("""{"input":[7]}""", "input[0]", "invalid_type"),
            ("""{"input":[{"content":"x"}]}""", "input[0].type", "missing_required_parameter"),
            ("""{"input":[{"role":"user","content":"x"},{"role":"tool","content":"x"}]}""", "input[1].role", "invalid_value"),
            ("""{"input":[{"role":"user"}]}""", "input[0].content", "missing_required_parameter"),
            ("""{"input":[{"role":"user","content":[{"type":"audio"}]}]}""", "input[0].content[0].type", "invalid_value"),
            ("""{"input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]}""", "input[0].content[0].file_id",
                "unsupported_parameter"),
            ("""{"input":[{"type":"shell_call","call_id":"c"}]}""", "input[0].type", "invalid_value"),
            ("""{"input":[{"type":"function_call","call_id":"c","name":"n"}]}""", "input[0].arguments", "missing_required_parameter"),
            ("""{"input":[{"type":"function_call_output","call_id":"c","output":"x"}]}""", "input", null),
            ("""{"input":[{"type":"function_call","call_id":"c","name":"n","arguments":"{}"}]}""", "input", null),
            ("""{"input":[{"type":"function_call","call_id":"","name":"n","arguments":"{}"}]}""", "input[0].call_id", "empty_string"),
            ("""{"input":[{"type":"function_call","call_id":"c","name":"","arguments":"{}"}]}""", "input[0].name", "empty_string"),
            ("""{"input":[{"type":"function_call_output","call_id":"","output":"x"}]}""", "input[0].call_id", "empty_string"),
            ("""{"input":[{"type":"reasoning","summary":"x"}]}""", "input[0].summary", "invalid_type"),
            ("""{"input":[{"type":"reasoning","summary":[7]}]}""", "input[0].summary[0]", "invalid_type"),
            ("""{"input":[{"type":"reasoning","summary":[{"type":"text","text":"x"}]}]}""", "input[0].summary[0].type", "invalid_value"),
            ("""{"input":[{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text"}]}]}""", "input[0].content[0].text",
                "missing_required_parameter"),
            ("""{"input":[{"type":"reasoning","summary":[],"encrypted_content":7}]}""", "input[0].encrypted_content", "invalid_type"),
            ("""{"input":[{"type":"mcp_call","name":"n","arguments":"{}"}]}""", "input[0].server_label", "missing_required_parameter"),
            ("""{"input":[{"type":"mcp_call","server_label":"s","name":"","arguments":"{}"}]}""", "input[0].name", "empty_string"),
            ("""{"input":[{"type":"mcp_call","server_label":"s","name":"n","arguments":{}}]}""", "input[0].arguments", "invalid_type"),
            ("""{"input":[{"type":"mcp_call","server_label":"s","name":"n","arguments":"{}","output":[]}]}""",
                "input[0].output", "invalid_type"),
            ("""{"input":[{"type":"mcp_list_tools","server_label":"s"}]}""", "input[0].tools", "missing_required_parameter"),
            ("""{"input":[{"type":"mcp_list_tools","server_label":"s","tools":[{}]}]}""", "input[0].tools[0].name",
                "missing_required_parameter"),
            ("""{"input":"\ud800"}""", "input", "invalid_value"),
            ("""{"input":[{"role":"user","content":"\ud83d\ude00"},{"role":"user","content":[{"type":"input_text","text":"\ud800"}]}]}""",
                "input[1].content[0].text", "invalid_value"),
            ("""{"metadata":{"\ud800":"x"}}""", "metadata", "invalid_value"),
            ("""{"metadata":{"":"x"}}""", "metadata.", "empty_string"),
            ("""{"\ud800":"x"}""", null, null),
            ("""{"model":"gpt-none"}""", "model", "model_not_found"),
        ])
        {
            foreach (var stream in (bool[])[false, true])
            {
                var json = JsonNode.Parse("{}")!.AsObject();
                var text = body[..^1] + (body.Contains("\"input\"", StringComparison.Ordinal) ? "" : ",\"input\":\"x\"")
                    + (body.Contains("\"model\"", StringComparison.Ordinal) ? "" : ",\"model\":\"model\"")
                    + $",\"conversation\":\"{conversation}\",\"stream\":{(stream ? "true" : "false")}}}";
                var answer = await server.PostAsync("/v1/responses", text);
                var error = answer.Json["error"]!;
                Assert.True(answer.Status == (code == "model_not_found" ? 404 : 400), $"{text}: {answer.Status} {answer.Text}");
                Assert.Equal("invalid_request_error", (string?)error["type"]);
                if (param is not null)
                {
                    Assert.True((param, code) == ((string?)error["param"], (string?)error["code"]), $"{text}: {answer.Text}");
                }
            }
        }

        Assert.Empty(await server.ItemsAsync(conversation));
        Assert.Empty(server.Model.Requests);
        var tools = await server.PostAsync("/v1/responses", new { model = "advanced", input = "x", tools = Functions });
        Assert.Equal((400, "tools", "unsupported_parameter"),
            (tools.Status, (string?)tools.Json["error"]!["param"], (string?)tools.Json["error"]!["code"]));
        var image = await server.PostAsync("/v1/responses", """{"model":"advanced","input":[{"role":"user","content":"""
            + """[{"type":"input_image","image_url":"data:image/png;base64,AA=="}]}]}""");
        Assert.Equal((400, "unsupported_parameter"), (image.Status, (string?)image.Json["error"]!["code"]));
        var cancel = await server.PostAsync("/v1/responses/resp_x/cancel");
        Assert.Equal(400, cancel.Status);
        var instructions = await (await StartAsync(("agents:model:allow_instructions", "false")))
            .PostAsync("/v1/responses", new { model = "model", input = "x", instructions = "y" });
        Assert.Equal((400, "instructions"), (instructions.Status, (string?)instructions.Json["error"]!["param"]));
        foreach (var (body, param) in (IEnumerable<(string, string)>)
        [
            ("""{"n":2}""", "n"), ("""{"audio":{}}""", "audio"), ("""{"functions":[]}""", "functions"),
            ("""{"logprobs":true}""", "logprobs"), ("""{"seed":"x"}""", "seed"), ("""{"seed":1.5}""", "seed"),
            ("""{"tools":["x"]}""", "tools[0]"),
            ("""{"messages":[]}""", "messages"), ("""{"messages":[{"role":"assistant","content":null}]}""", "messages[0].content"),
            ("""{"messages":["x"]}""", "messages[0]"), ("""{"messages":[{"role":"user"}]}""", "messages[0].content"),
            ("""{"messages":[{"role":"assistant","tool_calls":["x"]}]}""", "messages[0].tool_calls[0]"),
        ])
        {
            var messages = body.Contains("messages", StringComparison.Ordinal)
                ? ""
                : ",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]";
            var answer = await server.PostAsync("/v1/chat/completions", $"{body[..^1]}{messages}}}");
            Assert.True(answer.Status == 400, answer.Text);
            Assert.Equal(param, (string?)answer.Json["error"]!["param"]);
        }
    }

    [Fact]
    public async Task Every_failure_is_an_error_object()
    {
        var server = await StartAsync();
        foreach (var (method, path, body, status) in (IEnumerable<(string, string, string?, int)>)
        [
            ("GET", "/v1", null, 404),
            ("GET", "/v1/nothing", null, 404),
            ("POST", "/v1/responses/input_tokens", "{}", 404),
            ("POST", "/v1/responses/compact", "{}", 404),
            ("GET", "/v1/chat/completions/x", null, 404),
            ("GET", "/v1/models/none", null, 404),
            ("PUT", "/v1/responses", "{}", 405),
            ("PATCH", "/v1/conversations/conv_x", "{}", 405),
            ("POST", "/v1/responses", "{", 400),
            ("POST", "/v1/responses", "[]", 400),
            ("POST", "/v1/conversations", """{"metadata":{"a":"b"},"extra":1}""", 400),
            ("GET", "/v1/conversations/conv_00000000000000000000000000000000/items?limit=0", null, 400),
            ("GET", "/v1/conversations/conv_00000000000000000000000000000000/items?limit=101", null, 400),
            ("GET", "/v1/conversations/conv_00000000000000000000000000000000/items?order=up", null, 400),
            ("GET", "/v1/responses/resp_x?include[]=nothing", null, 400),
            ("GET", "/v1/conversations?user_id=", null, 400),
        ])
        {
            var answer = await server.SendAsync(new HttpMethod(method), path, body);
            Assert.True(answer.Status == status, $"{method} {path}: {answer.Status} {answer.Text}");
            Assert.Equal("invalid_request_error", (string?)answer.Json["error"]!["type"]);
        }

        using var wrongType = new HttpRequestMessage(HttpMethod.Post, "/v1/responses")
        {
            Content = new StringContent("input=x", new MediaTypeHeaderValue("application/x-www-form-urlencoded")),
        };
        using var refused = await server.Client.SendAsync(wrongType, Cancel);
        Assert.Equal(415, (int)refused.StatusCode);
        Schemas.Check("error", JsonNode.Parse(await refused.Content.ReadAsStringAsync(Cancel)));
        var failed = await server.PostAsync("/v1/responses", new { model = "model", input = "fail" });
        Assert.Equal((502, "server_error", "false"),
            (failed.Status, (string?)failed.Json["error"]!["type"], failed.Headers["x-should-retry"]));
    }

    [Fact]
    public async Task Bodies_are_bounded_well_above_what_agents_send()
    {
        var server = await StartAsync();
        var input = Enumerable.Range(0, 300)
            .Select(i => new { role = i % 2 == 0 ? "user" : "assistant", content = new string('x', 1000) }).ToArray();
        var made = await server.MakeAsync("/v1/responses", new { model = "model", input });
        var page = await server.GetAsync($"/v1/responses/{made["id"]}/input_items?limit=100");
        Assert.True((bool)page.Json["has_more"]!);
        var large = await server.PostAsync("/v1/responses", new { model = "model", input = new string('x', 21 << 20) });
        Assert.True(large.Status == 413, large.Text[..Math.Min(500, large.Text.Length)]);
    }

    [Fact]
    public async Task A_failure_in_a_stream_is_told_twice_and_kept_nowhere()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        var events = await server.StreamAsync(new { model = "model", input = "break", conversation });
        Assert.Equal(["error", "response.failed"], events.TakeLast(2).Select(happened => happened.Type));
        Assert.Empty(await server.ItemsAsync(conversation));
        Assert.Equal(404, (await server.GetAsync($"/v1/responses/{events[0].Json["response"]!["id"]}")).Status);
        Assert.Equal("I heard 1: on", TextOf(await server.MakeAsync("/v1/responses", new { model = "model", input = "on", conversation })));
    }

    [Fact]
    public async Task Sessions_are_conversations_and_what_one_side_does_the_other_sees()
    {
        var server = await StartAsync();
        var query = await server.SendAsync(HttpMethod.Post, "/query", new { query = "one", thread_id = "mine", agent_type = "model" });
        Assert.True(query.Status == 200, query.Text);
        var made = await server.MakeAsync("/v1/responses", new { model = "model", input = "two", conversation = "mine" });
        Assert.Equal("I heard 2: one / two", TextOf(made));
        var conversation = (string)made["conversation"]!["id"]!;
        Assert.StartsWith("conv_", conversation, StringComparison.Ordinal);
        Assert.Equal(4, (await server.ItemsAsync("mine")).Count);
        Assert.Equal(4, (await server.ItemsAsync(conversation)).Count);
        Assert.Equal(conversation, (string?)(await server.GetAsync("/v1/conversations/mine")).Json["id"]);
        var history = await server.SendAsync(HttpMethod.Get, "/sessions/mine/history");
        Assert.Contains("I heard 2: one / two", history.Text, StringComparison.Ordinal);

        // A call that waits for its output.
        var call = await server.MakeAsync("/v1/responses", new { model = "model", input = "call add 1", conversation, tools = Functions });
        var refused = await server.SendAsync(HttpMethod.Post, "/query", new { query = "three", thread_id = "mine", agent_type = "model" });
        Assert.Equal((409, "tool_output_required"), (refused.Status, (string?)refused.Json["code"]));
        Assert.Contains((string)call["output"]![0]!["call_id"]!, refused.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Keys_are_bearer_tokens_and_what_is_made_with_one_is_its_users()
    {
        var keys = ((string Name, string Scope)[])[("ada", "user"), ("bob", "user"), ("service", "service")];
        var server = await StartAsync([("auth:mode", "api_key"), .. keys.SelectMany(key => ((string, string)[])
        [
            ($"auth:keys:{key.Name}:hash", Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(KeyOf(key.Name))))),
            ($"auth:keys:{key.Name}:scopes", key.Scope),
            .. key.Scope == "user" ? ((string, string)[])[($"auth:keys:{key.Name}:user_id", key.Name)] : [],
        ])]);
        foreach (var headers in ((string, string)[][])[[], [("Authorization", "Bearer nonsense")]])
        {
            var refused = await server.PostAsync("/v1/responses", new { input = "x", stream = true }, headers);
            Assert.Equal((401, "invalid_api_key"), (refused.Status, (string?)refused.Json["error"]!["code"]));
        }

        var made = await server.PostAsync("/v1/responses", new { input = "mine" }, Bearer("ada"));
        Assert.True(made.Status == 200, made.Text);
        var address = $"/v1/responses/{made.Json["id"]}";
        Assert.Equal(404, (await server.SendAsync(HttpMethod.Get, address, null, Bearer("bob"))).Status);
        Assert.Equal(404, (await server.SendAsync(HttpMethod.Delete, address, null, Bearer("bob"))).Status);
        Assert.Equal(404, (await server.SendAsync(HttpMethod.Get, address, null, Bearer("service"))).Status);
        Assert.Equal(made.Text, (await server.SendAsync(HttpMethod.Get, $"{address}?user_id=ada", null, Bearer("service"))).Text);
        var claimed = await server.SendAsync(HttpMethod.Get, $"{address}?user_id=ada", null, Bearer("bob"));
        Assert.InRange(claimed.Status, 403, 404);
        var next = await server.PostAsync("/v1/responses?user_id=bob",
            new { input = "x", previous_response_id = (string?)made.Json["id"] }, Bearer("service"));
        Assert.Equal((400, "previous_response_not_found"), (next.Status, (string?)next.Json["error"]!["code"]));
        Assert.Equal(made.Text, (await server.SendAsync(HttpMethod.Get, address, null, Bearer("ada"))).Text);

        static string KeyOf(string name) => $"sess_{new string(name[0], 43)}";
        static (string, string) Bearer(string name) => ("Authorization", $"Bearer {KeyOf(name)}");
    }

    [Fact]
    public async Task Browsers_may_read_what_clients_show()
    {
        var server = await StartAsync(("cors:origins", "http://localhost:3000"));
        using var preflight = new HttpRequestMessage(HttpMethod.Options, "/v1/responses");
        preflight.Headers.TryAddWithoutValidation("Origin", "http://localhost:3000");
        preflight.Headers.TryAddWithoutValidation("Access-Control-Request-Method", "POST");
        preflight.Headers.TryAddWithoutValidation("Access-Control-Request-Headers",
            "authorization,content-type,idempotency-key,openai-organization,x-stainless-lang");
        using var allowed = await server.Client.SendAsync(preflight, Cancel);
        var headers = string.Join(',', allowed.Headers.GetValues("Access-Control-Allow-Headers"));
        Assert.All((string[])["authorization", "content-type", "idempotency-key", "openai-organization", "x-stainless-lang"],
            name => Assert.Contains(name, headers, StringComparison.OrdinalIgnoreCase));
        var answer = await server.SendAsync(HttpMethod.Get, "/v1/models", null, ("Origin", "http://localhost:3000"));
        Assert.All((string[])["x-request-id", "Retry-After", "x-should-retry", "Idempotency-Replayed"],
            name => Assert.Contains(name, answer.Headers["Access-Control-Expose-Headers"], StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public async Task Conversations_of_a_user_are_listed_newest_first()
    {
        var server = await StartAsync();
        List<string> made = [];
        for (var i = 0; i < 15; i++)
        {
            made.Add(await server.IdOfAsync("/v1/conversations?user_id=ada"));
        }

        await server.MakeAsync("/v1/responses?user_id=ada", new { input = "hidden" });
        List<string> listed = [];
        string? after = null;
        do
        {
            var page = (await server.GetAsync($"/v1/conversations?user_id=ada&limit=4{(after is null ? "" : $"&after={after}")}")).Json;
            listed.AddRange(page["data"]!.AsArray().Select(one => (string)one!["id"]!));
            after = (bool)page["has_more"]! ? (string?)page["last_id"] : null;
        }
        while (after is not null);
        Assert.Equal(made.AsEnumerable().Reverse(), listed);
        Assert.Empty((await server.GetAsync("/v1/conversations?user_id=bob")).Json["data"]!.AsArray());
    }

    private static string WithoutTimes(JsonNode response)
    {
        var copy = response.DeepClone();
        copy["created_at"] = copy["completed_at"] = null;
        return copy.ToJsonString();
    }
}
