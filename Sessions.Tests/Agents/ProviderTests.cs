using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sessions.Tests.Agents;

/// <summary>Providers other than chat completions, each over real HTTP, by its own wire format.</summary>
public sealed class ProviderTests
{
    private const string Picture = """[{"type":"message","role":"user","content":[{"type":"input_text","text":"look"},"""
        + """{"type":"input_image","image_url":"data:image/png;base64,AAAA"}]}]""";
    private const string Link = """[{"type":"message","role":"user","content":"""
        + """[{"type":"input_image","image_url":"https://example.com/a.png"}]}]""";

    private static readonly JsonElement Schema = JsonElement.Parse(
        """{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}""");

    // What a library would tidy up.
    private static readonly JsonElement Strange = JsonElement.Parse(
        """{"$schema":"x","type":"object","properties":{"city":{"type":"string","minLength":1}},"$defs":{"a":{}}}""");

    private static readonly JsonSerializerOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly (string, string)[] Api = [("agents:model:api", "responses")];

    private static readonly AnswerOptions Weather = AnswerOptions.None with
    {
        Tools = [new FunctionTool("weather", "Of a city", Schema, null)],
        MaxOutputTokens = 99,
        Stop = ["END"],
    };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Anthropic_answers_with_thoughts_texts_and_calls(bool streamed)
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start(
            [.. wire.Agent("anthropic"), ("agents:model:accepts", "image,file"), ("agents:model:instructions", "Be brief.")]);
        wire.Reply = (request, http) => (bool?)request["stream"] == true
            ? WireServer.EventsAsync(http, AnthropicEvents())
            : WireServer.JsonAsync(http, AnthropicAnswer);

        var answer = await host.AskAsync(AgentHost.Json(Picture), streamed ? new Recorder() : null, Weather);

        const string Expected = """[{"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"SEAL"},"""
            + """{"type":"message","role":"assistant","status":"completed","content":"""
            + """[{"type":"output_text","text":"Let me see.","annotations":[],"logprobs":[]}]}"""
            + """,{"type":"function_call","call_id":"toolu_1","name":"weather","arguments":"{\"city\":\"Oslo\"}","status":"completed"}]""";
        Assert.Equal(Expected, answer.Output.ToString());
        Assert.Equal(("anthropic/test-model", "claude-x", "tool_calls"), (answer.AgentUsed, answer.Model, answer.FinishReason));
        Assert.Equal((14L, 7L, 3L),
            (answer.Usage!.InputTokens, answer.Usage.OutputTokens, answer.Usage.CachedInputTokens));
        var (path, body, headers) = wire.Last;
        Assert.Equal(("/v1/messages", 99, "END", "Be brief."),
            (path, (int)body["max_tokens"]!, (string?)body["stop_sequences"]![0], (string?)body["system"]![0]!["text"]));
        Assert.Equal(["text", "image"], body["messages"]![0]!["content"]!.AsArray().Select(part => (string?)part!["type"]));
        Assert.Equal("weather", (string?)body["tools"]![0]!["name"]);
        Assert.Contains("k3y", string.Concat(headers.GetValueOrDefault("Authorization"), headers.GetValueOrDefault("x-api-key")),
            StringComparison.Ordinal);

        // What it thought, it is given again; what another one thought, it is not.
        var own = AgentHost.Turn(1, Items.OfText("weather?"), answer.Output) with { AgentUsed = answer.AgentUsed };
        var output = AgentHost.Json("""[{"type":"function_call_output","call_id":"toolu_1","output":"sunny"}]""");
        await host.AskAsync(output, options: Weather, history: [own]);
        Assert.Equal(["thinking", "text", "tool_use"],
            wire.Last.Body["messages"]![1]!["content"]!.AsArray().Select(part => (string?)part!["type"]));
        Assert.Equal("SEAL", (string?)wire.Last.Body["messages"]![1]!["content"]![0]!["signature"]);
        Assert.Equal("tool_result", (string?)wire.Last.Body["messages"]![2]!["content"]![0]!["type"]);
        await host.AskAsync(output, options: Weather, history: [own with { AgentUsed = "openai/other" }]);
        Assert.Equal(["text", "tool_use"], wire.Last.Body["messages"]![1]!["content"]!.AsArray().Select(part => (string?)part!["type"]));
    }

    [Fact]
    public async Task Anthropic_is_told_a_user_first_and_no_thoughts_alone()
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start([.. wire.Agent("anthropic"), ("agents:model:instructions", "Be kind.")]);
        wire.Reply = (_, http) => WireServer.JsonAsync(http, AnthropicAnswer);
        const string Call = """{"type":"function_call","call_id":"c","name":"weather","arguments":"{}"}""";
        const string Output = """{"type":"function_call_output","call_id":"c","output":"1"}""";
        const string Thought = """{"type":"reasoning","summary":[],"encrypted_content":"SEAL"}""";
        Turn Own(int number, string input, string output) =>
            AgentHost.Turn(number, AgentHost.Json(input), AgentHost.Json(output)) with { AgentUsed = "anthropic/test-model" };

        // The window begins with the output of a call before it, and one call has no output any more.
        await host.AskAsync(Items.OfText("hi"), history: [Own(7, $"[{Output}]", $"[{Thought},{Call}]"),
            Own(8, $"[{Output}]", $$"""[{{Thought}},{{Call.Replace("\"c\"", "\"d\"", StringComparison.Ordinal)}}]""")]);

        Assert.Equal(["user", "assistant", "user", "user"],
            wire.Last.Body["messages"]!.AsArray().Select(message => (string?)message!["role"]));
    }

    [Fact]
    public async Task Anthropics_failures_are_told_apart()
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start([.. wire.Agent("anthropic"), ("agents:model:accepts", "file")]);
        wire.Reply = (_, http) =>
        {
            http.Response.StatusCode = 429;
            http.Response.Headers.RetryAfter = "7";
            return WireServer.JsonAsync(http, """{"type":"error","error":{"type":"rate_limit_error","message":"sk-secret"}}""");
        };
        var limited = await host.FailAsync();
        Assert.Equal(("agent_rate_limited", TimeSpan.FromSeconds(7)), (limited.Code, limited.RetryAfter));
        Assert.Contains(host.Logs,
            record => record.Message.Contains("status 429 (code (null), type rate_limit_error)", StringComparison.Ordinal));

        wire.Reply = (_, http) => WireServer.EventsAsync(http,
            [.. AnthropicEvents().Take(9), """{"type":"error","error":{"type":"overloaded_error","message":"sk-secret"}}"""]);
        Assert.Equal("The agent's provider answered with an error (overloaded_error).", (await host.FailAsync(streamed: true)).Message);
        wire.Reply = (_, http) => WireServer.EventsAsync(http, AnthropicEvents().Take(9));
        Assert.Equal("The agent's provider broke its answer off.", (await host.FailAsync(streamed: true)).Message);
        Assert.DoesNotContain(host.Logs,
            record => record.Message.Contains("secret", StringComparison.Ordinal) || record.Exception is not null);

        // What its library would drop is refused.
        var agent = host.Catalog.Get("model");
        Assert.Equal("parameters.seed", Refused(() => agent.Check(Items.OfText("a"), AnswerOptions.None with { Seed = 7 })).Field);
        Assert.Equal("content_not_supported", Refused(() => agent.Check(AgentHost.Json(
            """[{"type":"message","role":"user","content":[{"type":"input_file","file_data":"data:text/csv;base64,AAAA"}]}]"""),
            AnswerOptions.None)).Code);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Ollama_answers_with_texts_and_calls(bool streamed)
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start([.. wire.Agent("ollama"), ("agents:model:accepts", "image")]);
        wire.Reply = (request, http) => WireServer.JsonAsync(http, (bool?)request["stream"] == false
            ? """{"model":"llama-x","created_at":"2026-01-01T00:00:00Z","message":"""
                + """{"role":"assistant","content":"Let me see.","tool_calls":[{"function":{"name":"weather","arguments":"""
                + """{"city":"Oslo"}}}]},"done":true,"done_reason":"stop","prompt_eval_count":11,"eval_count":7}"""
            : """
              {"model":"llama-x","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"Let me "},"done":false}
              {"model":"llama-x","created_at":"2026-01-01T00:00:00Z","message":
              """
              + """{"role":"assistant","content":"see.","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Oslo"}}}]}"""
              + """
              ,"done":false}
              {"model":"llama-x","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true
              """
              + """
              ,"done_reason":"stop","prompt_eval_count":11,"eval_count":7}

              """, "application/x-ndjson");

        var options = Weather with
        {
            Others = new Dictionary<string, JsonElement> { ["num_ctx"] = JsonElement.Parse("8192") },
            Format = new ResponseFormat("json_schema", "city", null, Schema, true),
        };
        var answer = await host.AskAsync(AgentHost.Json(Picture), streamed ? new Recorder() : null, options);

        Assert.Equal("Let me see.", answer.Output.TextOf(ItemSide.Output).ToString());
        Assert.Contains("\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Oslo\\\"}\"", answer.Output.ToString(),
            StringComparison.Ordinal);
        Assert.Equal(("ollama/test-model", "llama-x", new TokenUsage(11, 7)), (answer.AgentUsed, answer.Model, answer.Usage));
        var (path, body, _) = wire.Last;
        Assert.Equal(("/api/chat", "AAAA", 8192, 99),
            (path, (string?)body["messages"]![0]!["images"]![0], (int)body["options"]!["num_ctx"]!, (int)body["options"]!["num_predict"]!));
        Assert.Equal("object", (string?)body["format"]!["type"]);

        // A result is told as the text that it is.
        var callId = JsonElement.Parse(answer.Output.ToString())[1].GetProperty("call_id").GetString();
        await host.AskAsync(AgentHost.Json($$"""[{"type":"function_call_output","call_id":"{{callId}}","output":"sunny"}]"""),
            options: Weather, history: [AgentHost.Turn(1, Items.OfText("weather?"), answer.Output)]);
        Assert.Equal("sunny", (string?)wire.Last.Body["messages"]![2]!["content"]);

        Assert.Equal("input[0].content[0]", Refused(() => host.Catalog.Get("model").Check(AgentHost.Json(Link), AnswerOptions.None)).Field);
    }

    [Fact]
    public async Task Ollamas_failures_are_told_apart()
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start([.. wire.Agent("ollama")]);
        wire.Reply = (_, http) =>
        {
            http.Response.StatusCode = 404;
            return WireServer.JsonAsync(http, """{"error":"model 'test-model' not found"}""");
        };
        Assert.Equal("agent_not_found", (await host.FailAsync()).Code);
        Assert.Equal("agent_not_found", (await host.FailAsync(streamed: true)).Code);
        wire.Reply = (_, http) => WireServer.JsonAsync(http, """
            {"model":"llama-x","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"Let me "},"done":false}

            """, "application/x-ndjson");
        Assert.Equal("The agent's provider broke its answer off.", (await host.FailAsync(streamed: true)).Message);
    }

    [Fact]
    public async Task Responses_keep_what_a_model_thought()
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start(
            [.. wire.Agent("openai", "/v1"), ("agents:model:api", "responses"), ("agents:model:instructions", "Be brief.")]);
        wire.Reply = (_, http) => WireServer.JsonAsync(http, Response("""{"type":"reasoning","id":"rs_1","summary":"""
            + """[{"type":"summary_text","text":"Hm."}],"encrypted_content":"SEAL"},"""
            + """{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":"""
            + """[{"type":"output_text","text":"Sunny.","annotations":[],"logprobs":[]}]}"""));

        var answer = await host.AskAsync(Items.OfText("weather?"), options: Weather with { ReasoningEffort = "low" });

        Assert.Equal(
            """[{"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"SEAL"},"""
            + """{"type":"message","role":"assistant","status":"completed","content":"""
            + """[{"type":"output_text","text":"Sunny.","annotations":[],"logprobs":[]}]}]""",
            answer.Output.ToString());
        Assert.Equal(new TokenUsage(11, 7, 3, 2), answer.Usage);
        var (path, body, _) = wire.Last;
        Assert.Equal(("/v1/responses", false, "reasoning.encrypted_content", "low"),
            (path, (bool)body["store"]!, (string?)body["include"]![0], (string?)body["reasoning"]!["effort"]));
        Assert.Null(body["previous_response_id"]);

        await host.AskAsync(Items.OfText("and tomorrow?"), history: [AgentHost.Turn(1, Items.OfText("weather?"), answer.Output)]);
        var again = wire.Last.Body["input"]!.AsArray().Single(item => (string?)item!["type"] == "reasoning")!;
        Assert.Equal("SEAL", (string?)again["encrypted_content"]);

        await using var plain = AgentHost.Start(
            [.. wire.Agent("openai", "/v1"), ("agents:model:api", "responses"), ("agents:model:keep_reasoning", "false")]);
        await plain.AskAsync(Items.OfText("weather?"));
        Assert.Null(wire.Last.Body["include"]);
    }

    [Theory]
    [InlineData("""{"type":"text"}""")]
    [InlineData("""{"type":"json_object"}""")]
    [InlineData("""{"type":"json_schema","name":"city","description":"A city","schema":{"minProperties":1},"strict":false}""")]
    public async Task Responses_are_asked_as_the_request_says(string form)
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start(
            [.. wire.Agent("openai", "/v1"), ("agents:model:api", "responses"), ("agents:model:accepts", "file")]);
        wire.Reply = (_, http) => WireServer.JsonAsync(http, Response(
            """{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":"""
            + """[{"type":"output_text","text":"Sunny.","annotations":[],"logprobs":[]}]}"""));
        var given = JsonElement.Parse(form);
        JsonElement? schema = given.TryGetProperty("schema", out var sent) ? sent : null;
        var type = given.GetProperty("type").GetString()!;
        var format = schema is null ? new ResponseFormat(type) : new ResponseFormat(type, "city", "A city", schema, false);
        foreach (var effort in AnswerOptions.ReasoningEfforts)
        {
            await host.AskAsync(Items.OfText("weather?"), options: AnswerOptions.None with
            {
                Format = format,
                Verbosity = "low",
                ReasoningEffort = effort,
                Tools = [new FunctionTool("weather", "Of a city", Strange, null), new FunctionTool("now", null, null, true)],
                ToolChoice = "required",
                ParallelToolCalls = false,
            });

            var body = wire.Last.Body;
            AssertSame($$"""{"format":{{form}},"verbosity":"low"}""", body["text"]);
            AssertSame($$"""{"effort":"{{effort}}"}""", body["reasoning"]);
            AssertSame(
                $$"""
                [{"type":"function","name":"weather","description":"Of a city","parameters":{{Strange.GetRawText()}},"strict":null},
                 {"type":"function","name":"now","parameters":null,"strict":true}]
                """, body["tools"]);
            Assert.Equal(("required", false), ((string?)body["tool_choice"], (bool?)body["parallel_tool_calls"]));
        }

        await host.AskAsync(Items.OfText("weather?"), options: AnswerOptions.None with { Verbosity = "high" });
        AssertSame("""{"verbosity":"high"}""", wire.Last.Body["text"]);

        // What the library would leave out or write anew.
        await host.AskAsync(AgentHost.Json("""
            [{"role":"user","content":[{"type":"input_file","filename":"a.csv","file_data":"data:text/csv;base64,YSxi"}]},
             {"role":"assistant","content":[{"type":"output_text","text":"Well."},{"type":"refusal","refusal":"No."}]},
             {"type":"function_call","call_id":"c","name":"f","arguments":"not {JSON"},
             {"type":"function_call_output","call_id":"c","output":"1"}]
            """));
        AssertSame(
            """
            [{"type":"message","role":"user","content":[{"type":"input_file","filename":"a.csv","file_data":"data:text/csv;base64,YSxi"}]},
             {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Well.","annotations":[]}]},
             {"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"No."}]},
             {"type":"function_call","call_id":"c","name":"f","arguments":"not {JSON"},
             {"type":"function_call_output","call_id":"c","output":"1"}]
            """, wire.Last.Body["input"]);
    }

    [Fact]
    public async Task Anthropic_is_told_how_to_answer()
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start(wire.Agent("anthropic"));
        wire.Reply = (_, http) => WireServer.JsonAsync(http, AnthropicAnswer);
        var others = new Dictionary<string, JsonElement> { ["top_k"] = JsonElement.Parse("5") };
        var history = AgentHost.Turn(1, Items.OfText("weather?"), AgentHost.Json(
            """[{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"I won't."}]}]"""));

        await host.AskAsync(Items.OfText("and now?"), options: Weather with
        {
            Temperature = 0.1f,
            TopP = 0.2f,
            ReasoningEffort = "max",
            Verbosity = "medium",
            Format = new ResponseFormat("json_schema", "city", null, Schema, true),
            Others = others,
        }, history: [history]);

        var body = wire.Last.Body;
        Assert.Equal(("test-model", 99, 0.1, 0.2, 5), ((string?)body["model"], (int)body["max_tokens"]!,
            (double)body["temperature"]!, (double)body["top_p"]!, (int)body["top_k"]!));
        Assert.Equal(("max", "json_schema"),
            ((string?)body["output_config"]!["effort"], (string?)body["output_config"]!["format"]!["type"]));
        Assert.Equal("I won't.", (string?)body["messages"]![1]!["content"]![0]!["text"]);
        await host.AskAsync(Items.OfText("plain"));
        body = wire.Last.Body;
        Assert.Equal((8192, null, null), ((int)body["max_tokens"]!, body["temperature"], body["output_config"]));
        await host.AskAsync(Items.OfText("one at a time"), options: Weather with { ToolChoice = null, ParallelToolCalls = false });
        AssertSame("""{"type":"auto","disable_parallel_tool_use":true}""", wire.Last.Body["tool_choice"]);
    }

    [Fact]
    public async Task Ollama_is_offered_no_tools_where_none_is_to_be_called()
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start(wire.Agent("ollama"));
        wire.Reply = (_, http) => WireServer.JsonAsync(http, """{"model":"llama-x","created_at":"2026-01-01T00:00:00Z","message":"""
            + """{"role":"assistant","content":"Let me see."},"done":true,"done_reason":"stop"}""");
        var history = AgentHost.Turn(1, Items.OfText("weather?"), AgentHost.Json(
            """[{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"I won't."}]}]"""));

        await host.AskAsync(Items.OfText("hi"), options: Weather with { ToolChoice = "none" }, history: [history]);

        Assert.Null(wire.Last.Body["tools"]);
        Assert.Equal("I won't.", (string?)wire.Last.Body["messages"]![1]!["content"]);
        await host.AskAsync(Items.OfText("hi"), options: Weather with { ToolChoice = "auto" });
        Assert.Single(wire.Last.Body["tools"]!.AsArray());
    }

    [Theory]
    [InlineData("openai", "seed", "parameters.seed")]
    [InlineData("openai", "presence", "parameters.presence_penalty")]
    [InlineData("openai", "stop", "parameters.stop")]
    [InlineData("anthropic", "verbosity", "text.verbosity")]
    [InlineData("anthropic", "json", "text.format")]
    [InlineData("anthropic", "no properties", "text.format")]
    [InlineData("ollama", "verbosity", "text.verbosity")]
    [InlineData("ollama", "choice", "tool_choice")]
    [InlineData("ollama", "one call", "parallel_tool_calls")]
    public async Task What_a_provider_does_not_know_is_refused(string provider, string option, string field)
    {
        await using var wire = await WireServer.StartAsync();
        await using var host = AgentHost.Start([.. wire.Agent(provider), .. provider == "openai" ? Api : []]);
        var options = option switch
        {
            "seed" => AnswerOptions.None with { Seed = 1 },
            "presence" => AnswerOptions.None with { PresencePenalty = 1 },
            "stop" => AnswerOptions.None with { Stop = ["END"] },
            "verbosity" => AnswerOptions.None with { Verbosity = "low" },
            "json" => AnswerOptions.None with { Format = new ResponseFormat("json_object") },
            "no properties" => AnswerOptions.None with { Format = new ResponseFormat("json_schema", "a", null, JsonElement.Parse("{}")) },
            "choice" => Weather with { ToolChoice = "required" },
            _ => Weather with { ParallelToolCalls = false },
        };

        var refused = Refused(() => host.Catalog.Get("model").Check(Items.OfText("a"), options));

        Assert.Equal(("unsupported_parameter", field), (refused.Code, refused.Field));
    }

    [Theory]
    [InlineData("openai", "chat_completions", "assistant")]
    [InlineData("openai", "responses", "assistant,system,developer")]
    [InlineData("anthropic", "chat_completions", "system,developer")]
    [InlineData("ollama", "chat_completions", "")]
    public async Task Images_and_files_are_passed_on_or_refused_in_every_message(string provider, string api, string refusedRoles)
    {
        await using var wire = await WireServer.StartAsync();
        var isImageAlone = provider == "ollama";
        await using var host = AgentHost.Start([.. wire.Agent(provider), ("agents:model:api", api),
            ("agents:model:accepts", isImageAlone ? "image" : "image,file")]);
        wire.Reply = (_, http) =>
        {
            http.Response.StatusCode = 400;
            return WireServer.JsonAsync(http, "{}");
        };
        var agent = host.Catalog.Get("model");
        foreach (var role in (string[])["user", "assistant", "system", "developer"])
        {
            foreach (var part in (string[])["""{"type":"input_image","image_url":"data:image/png;base64,TUFSSw=="}""",
                """{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,TUFSSw=="}"""])
            {
                if (isImageAlone && part.Contains("file", StringComparison.Ordinal))
                {
                    continue;
                }

                var items = AgentHost.Json(
                    $$"""[{"role":"{{role}}","content":[{"type":"input_text","text":"b"},{{part}}]},{"role":"user","content":"c"}]""");
                if (refusedRoles.Split(',').Contains(role))
                {
                    var refused = Refused(() => agent.Check(items, AnswerOptions.None));
                    Assert.Equal(("content_not_supported", "input[0].content[1]"), (refused.Code, refused.Field));
                    Assert.Equal("content_not_supported",
                        Refused(() => agent.CheckHistory([AgentHost.Turn(1, items, Items.OfText("x"))], [], mayCut: false)).Code);
                    continue;
                }

                agent.Check(items, AnswerOptions.None);
                await Assert.ThrowsAsync<AgentException>(() => host.AskAsync(items));
                Assert.Contains("TUFSSw==", wire.Last.Body.ToJsonString(Relaxed), StringComparison.Ordinal);
            }
        }
    }

    // The other endpoint is one of this server's own.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_agent_may_be_behind_any_endpoint_that_speaks_responses(bool streamed)
    {
        await using var model = await ScriptedModel.StartAsync();
        await using var upstream = SessionsServer.Start([.. model.Agent("model"), ("agents:model:accepts", "image")]);
        await using var host = AgentHost.Start(
            [
                ("agents:model:provider", "openai"), ("agents:model:api", "responses"), ("agents:model:model", "model"),
                ("agents:model:max_retries", "0"),
                ("agents:model:endpoint", $"{upstream.Client.BaseAddress}v1"), ("agents:model:accepts", "image"),
                ("agents:model:instructions", "Be brief."),
            ]);
        Recorder? observer = streamed ? new Recorder() : null;

        var called = await host.AskAsync(Items.OfText("call weather 1"), observer, Weather);
        Assert.Contains("\"name\":\"weather\",\"arguments\":\"{\\\"round\\\":1}\"", called.Output.ToString(), StringComparison.Ordinal);
        Assert.Equal(new TokenUsage(11, 7, 3, 2), called.Usage);
        var callId = JsonElement.Parse(called.Output.ToString())[0].GetProperty("call_id").GetString();
        var output = AgentHost.Json($$"""[{"type":"function_call_output","call_id":"{{callId}}","output":"sunny"}]""");
        var answered = await host.AskAsync(output, observer, Weather, [AgentHost.Turn(1, Items.OfText("call weather 1"), called.Output)]);
        Assert.Equal("after 1 calls: sunny", answered.Output.ToString());
        Assert.Equal("I heard 1: look, and saw 1", (await host.AskAsync(AgentHost.Json(Picture), observer)).Output.ToString());
        var cut = await host.AskAsync(Items.OfText("long"), observer);
        Assert.Equal(("This was going to be", "max_output_tokens"), (cut.Output.ToString(), cut.IncompleteReason));
        var options = JsonElement.Parse((await host.AskAsync(
            Items.OfText("options"), observer, AnswerOptions.None with
            {
                Temperature = 0.5f,
                Format = new ResponseFormat("json_schema", "city", null, Schema, true),
            })).Output.ToString());
        Assert.Equal(("Be brief.", 0.5), (options.GetProperty("system")[0].GetString(), options.GetProperty("temperature").GetDouble()));
        Assert.Equal("city", options.GetProperty("response_format").GetProperty("json_schema").GetProperty("name").GetString());

        var failed = (await Assert.ThrowsAsync<AgentException>(() => host.AskAsync(Items.OfText("fail"), observer))).Error;
        Assert.Equal("agent_failed", failed.Code);
        Assert.Equal("agent_failed", failed.Provider?.Code);
        Assert.Equal("agent_failed",
            (await Assert.ThrowsAsync<AgentException>(() => host.AskAsync(Items.OfText("break"), observer))).Error.Code);
    }

    [Theory]
    [InlineData("anthropic", "ANTHROPIC_API_KEY")]
    [InlineData("openai", "OPENAI_API_KEY")]
    public void A_providers_own_endpoint_needs_its_key(string provider, string variable)
    {
        (string, string)[] settings = [("agents:model:provider", provider), ("agents:model:model", "m")];
        var fault = Assert.Throws<Sessions.ServiceDefaults.SettingsException>(() => AgentHost.Start(settings));
        Assert.Contains($"set the environment variable {variable} or AGENTS__MODEL__API_KEY", fault.Message, StringComparison.Ordinal);
        AgentHost.Start([.. settings, (variable, "k")]);
        Assert.Throws<Sessions.ServiceDefaults.SettingsException>(
            () => AgentHost.Start([("agents:model:provider", "ollama"), ("agents:model:model", "m"), ("agents:model:accepts", "file")]));
    }

    private static void AssertSame(string expected, JsonNode? actual) =>
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(expected), actual), actual?.ToJsonString());

    private static Error Refused(Action check) => Assert.Throws<DomainException>(check).Error;

    private static string Response(string output) =>
        $$$"""{"id":"resp_1","object":"response","created_at":1767225600,"status":"completed","model":"test-model-2026","output":"""
        + $$$"""[{{{output}}}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":"""
        + """{"input_tokens":11,"input_tokens_details":{"cached_tokens":3},"output_tokens":7"""
        + ""","output_tokens_details":{"reasoning_tokens":2},"total_tokens":18},"metadata":{}}""";

    private const string AnthropicAnswer = """{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":"""
        + """[{"type":"thinking","thinking":"Hm.","signature":"SEAL"},{"type":"text","text":"Let me see."},"""
        + """{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Oslo"}}],"stop_reason":"tool_use","stop_sequence":null"""
        + ""","usage":{"input_tokens":11,"output_tokens":7,"cache_read_input_tokens":3,"cache_creation_input_tokens":0}}""";

    private static IEnumerable<string> AnthropicEvents() =>
    [
        """{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[]"""
        + ""","model":"claude-x","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":11,"output_tokens":1"""
        + ""","cache_read_input_tokens":3,"cache_creation_input_tokens":0}}}""",
        """{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}""",
        """{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}""",
        """{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"SEAL"}}""",
        """{"type":"content_block_stop","index":0}""",
        """{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}""",
        """{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Let me "}}""",
        """{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"see."}}""",
        """{"type":"content_block_stop","index":1}""",
        """{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"weather","input":{}}}""",
        """{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"city\": "}}""",
        """{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"Oslo\"}"}}""",
        """{"type":"content_block_stop","index":2}""",
        """{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":7}}""",
        """{"type":"message_stop"}""",
    ];
}
