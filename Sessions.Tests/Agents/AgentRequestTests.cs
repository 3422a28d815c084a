using System.Text.Json;
using System.Text.Json.Nodes;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Agents;

/// <summary>What providers are sent: items as messages, tools and parameters as they were given, keys to those whose they are.</summary>
public sealed class AgentRequestTests
{
    private static readonly JsonElement Schema = JsonDocument.Parse(
        """{"$schema":"x","type":"object","properties":{"city":{"type":"string","minLength":1}},"$defs":{"a":{}}}""").RootElement;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Items_become_messages_with_each_step_followed_by_the_outputs_of_its_calls()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("agents:model:instructions", "Be brief.")]);
        var history = new[]
        {
            AgentHost.Turn(1, Items.OfText("weather?"), AgentHost.Json("""
                [{"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}]},
                 {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Let me see.","annotations":[]}]},
                 {"type":"function_call","call_id":"a","name":"weather","arguments":"{\"city\": \"Oslo\"}"},
                 {"type":"function_call","call_id":"b","name":"time","arguments":"not JSON"}]
                """)),

            // The outputs in another order, with other things between; a deleted item; one whose call was deleted.
            AgentHost.Turn(2, AgentHost.Json("""
                [{"role":"user","content":"here"},
                 {"type":"function_call_output","call_id":"b","output":
                  [{"type":"input_text","text":"12"},{"type":"input_text","text":"o'clock"}]},
                 null,
                 {"type":"function_call_output","call_id":"gone","output":"?"},
                 {"type":"function_call_output","call_id":"a","output":"rain"}]
                """), AgentHost.Json("""
                [{"type":"mcp_list_tools","server_label":"s","tools":[]},
                 {"type":"mcp_call","server_label":"s","name":"look","arguments":"{}","output":"a cat","error":null},
                 {"role":"assistant","content":[{"type":"refusal","refusal":"No."}]}]
                """)),
        };

        await host.AskAsync(AgentHost.Json("""[{"role":"developer","content":"Now."},{"role":"system","content":"""
            + """[{"type":"input_text","text":"Sys"}]},{"role":"user","content":"and?"}]"""),
            options: AnswerOptions.None with { Instructions = "In Norwegian." }, history: history);

        Assert.Equal(
            """
            {"role":"system","content":"Be brief.\n\nIn Norwegian."}
            {"role":"user","content":"weather?"}
            {"role":"assistant","content":"Let me see.","tool_calls":[{"id":"a","type":"function","function":
            """
            + """{"name":"weather","arguments":"{\u0022city\u0022: \u0022Oslo\u0022}"}},{"id":"b","type":"function","function":"""
            + """
            {"name":"time","arguments":"not JSON"}}]}
            {"role":"tool","content":"rain","tool_call_id":"a"}
            {"role":"tool","content":"12\no\u0027clock","tool_call_id":"b"}
            {"role":"user","content":"here"}
            {"role":"assistant","tool_calls":[{"id":"mcp","type":"function","function":{"name":"look","arguments":"{}"}}]}
            {"role":"tool","content":"a cat","tool_call_id":"mcp"}
            {"role":"assistant","refusal":"No."}
            {"role":"developer","content":"Now."}
            {"role":"system","content":"Sys"}
            {"role":"user","content":"and?"}
            """,
            string.Join('\n', model.Requests[0]["messages"]!.AsArray().Select(Normalize))
                .Replace("mcp_10", "mcp", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Images_and_files_are_passed_on_where_they_are_accepted_and_nothing_is_fetched()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("agents:model:accepts", "image,file")]);
        var input = AgentHost.Json("""
            [{"role":"user","content":[{"type":"input_text","text":"See"},
              {"type":"input_image","image_url":"http://127.0.0.1:1/cat.png","detail":"low"},
              {"type":"input_image","image_url":"data:image/png;base64,AAEC"},
              {"type":"input_file","filename":"a.csv","file_data":"data:text/csv;base64,YSxi"}]}]
            """);
        host.Catalog.Get("model").Check(input, AnswerOptions.None);

        await host.AskAsync(input);

        Assert.Equal(
            """[{"type":"text","text":"See"},{"type":"image_url","image_url":{"url":"http://127.0.0.1:1/cat.png","detail":"low"}},"""
            + """{"type":"image_url","image_url":{"url":"data:image/png;base64,AAEC"}},{"type":"file","file":"""
            + """{"filename":"a.csv","file_data":"data:text/csv;base64,YSxi"}}]""",
            model.Requests[0]["messages"]![0]!["content"]!.ToJsonString());
    }

    [Theory]
    [InlineData("", """{"type":"input_image","image_url":"https://x/y.png"}""", "this agent does not take images")]
    [InlineData("image", """{"type":"input_image","file_id":"file_1"}""",
        "an image must be given by image_url: an http or https address, or a data URL")]
    [InlineData("image", """{"type":"input_image","image_url":"file:///etc/passwd"}""",
        "an image must be given by image_url: an http or https address, or a data URL")]
    [InlineData("image", """{"type":"input_image","image_url":"data:image/png;base64,*"}""", "is not a data URL with a media type")]
    [InlineData("image", """{"type":"input_file","file_data":"data:text/csv;base64,YSxi"}""", "this agent does not take files")]
    [InlineData("file", """{"type":"input_file","file_url":"http://169.254.169.254/"}""",
        "a file must be given by file_data: a data URL; this agent takes none by file_url or file_id")]
    [InlineData("file", """{"type":"input_audio","input_audio":{}}""", "parts of the type 'input_audio' are not known to this agent")]
    public async Task Content_that_is_not_accepted_is_refused_by_its_place(string accepts, string part, string rule)
    {
        await using var host = AgentHost.Start([("agents:model:provider", "openai"), ("agents:model:model", "m"),
            ("agents:model:endpoint", "http://127.0.0.1:1/v1"), ("agents:model:accepts", accepts)]);
        var input = AgentHost.Json(
            $$"""[{"role":"user","content":"a"},{"role":"user","content":[{"type":"input_text","text":"b"},{{part}}]}]""");

        var refused = Assert.Throws<DomainException>(() => host.Catalog.Get("model").Check(input, AnswerOptions.None)).Error;
        var inHistory = (await Assert.ThrowsAsync<DomainException>(
            () => host.AskAsync(Items.OfText("and?"), history: [AgentHost.Turn(1, input, Items.OfText("x"))]))).Error;

        Assert.Equal(("content_not_supported", "input[1].content[1]", rule), (refused.Code, refused.Field, refused.Rule));
        Assert.Equal(("content_not_supported", $"history: {rule}."), (inHistory.Code, inHistory.Message));
    }

    [Fact]
    public async Task Tools_and_options_reach_the_model_as_they_were_given()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        var options = new AnswerOptions
        {
            Temperature = 0.5f,
            TopP = 0.25f,
            MaxOutputTokens = 99,
            Seed = 7,
            Stop = ["END"],
            Tools = [new FunctionTool("weather", "Of a city", Schema, true), new FunctionTool("now", null, null, null)],
            ToolChoice = "function:weather",
            ParallelToolCalls = false,
            Format = new ResponseFormat("json_schema", "city", null, Schema, false),
            ReasoningEffort = "minimal",
            Verbosity = "low",
            Others = new Dictionary<string, JsonElement>
            {
                ["top_k"] = Json("5"),
                ["max_tokens"] = Json("77"),
                ["chat_template_kwargs"] = Json("""{"thinking":false}"""),
                ["logit_bias"] = Json("""{"1":-1}"""),
            },
        };
        host.Catalog.Get("model").Check(Items.OfText("hello"), options);

        await host.AskAsync(Items.OfText("hello"), options: options);
        await host.AskAsync(Items.OfText("hello"), new Recorder(),
            AnswerOptions.None with { Tools = options.Tools, ToolChoice = "required", Format = new ResponseFormat("json_object") });

        var request = model.Requests[0].AsObject();
        request.Remove("messages");
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse($$$"""
            {"model":"test-model","temperature":0.5,"top_p":0.25,"max_completion_tokens":99,"seed":7,"stop":["END"],
             "tools":[
              {"type":"function","function":
               {"name":"weather","description":"Of a city","parameters":{{{Schema.GetRawText()}}},"strict":true}},
              {"type":"function","function":{"name":"now"}}],
             "tool_choice":{"type":"function","function":{"name":"weather"}},"parallel_tool_calls":false,
             "response_format":{"type":"json_schema","json_schema":{"name":"city","schema":{{{Schema.GetRawText()}}},"strict":false}},
             "reasoning_effort":"minimal","verbosity":"low","top_k":5,"max_tokens":77,"chat_template_kwargs":{"thinking":false},
             "logit_bias":{"1":-1}}
            """), request), request.ToJsonString());
        Assert.Equal(("required", "json_object"),
            ((string?)model.Requests[1]["tool_choice"], (string?)model.Requests[1]["response_format"]!["type"]));
    }

    [Fact]
    public async Task What_an_agent_does_not_take_is_refused_by_name()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("agents:model:allow_instructions", "false")]);
        Error Refused(string agent, AnswerOptions options) =>
            Assert.Throws<DomainException>(() => host.Catalog.Get(agent).Check(Items.OfText("a"), options)).Error;

        var tools = Refused("advanced", AnswerOptions.None with { Tools = [new FunctionTool("f", null, null, null)] });
        Assert.Equal(("unsupported_parameter", "tools"), (tools.Code, tools.Field));
        var format = Refused("advanced", AnswerOptions.None with { Format = new ResponseFormat("json_object") });
        Assert.Equal(("unsupported_parameter", "text.format"), (format.Code, format.Field));
        var choice = Refused("model", AnswerOptions.None with { ToolChoice = "required" });
        Assert.Equal(("unsupported_parameter", "tool_choice"), (choice.Code, choice.Field));
        var instructions = Refused("model", AnswerOptions.None with { Instructions = "x" });
        Assert.Equal(("unsupported_parameter", "instructions"), (instructions.Code, instructions.Field));
        var others = new Dictionary<string, JsonElement> { ["messages[0].content"] = Json("1") };
        Assert.Equal("parameters.messages[0].content", Refused("model", AnswerOptions.None with { Others = others }).Field);
        Assert.Equal((false, true), (host.Catalog.Get(null).TakesTools, host.Catalog.Get("model").TakesTools));
    }

    [Fact]
    public async Task The_session_is_told_where_it_is_to_be_and_an_endpoint_may_be_a_service_by_name()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        List<(string? Session, string? User, string? Turn, string? Authorization)> told = [];
        var reply = model.Reply;
        model.Reply = (request, before, http) =>
        {
            told.Add((http.Request.Headers["X-Sessions-Session-Id"], http.Request.Headers["X-Sessions-User-Id"],
                http.Request.Headers["X-Sessions-Turn"], http.Request.Headers.Authorization));
            return reply(request, before, http);
        };
        await using var host = AgentHost.Start([.. model.Agent("model"), .. model.Agent("own"),
            ("agents:own:endpoint", "http://my-agent/v1"), ("agents:own:send_session", "true"), ("agents:own:aliases", "gpt-4o,my-own"),
            ("services:my-agent:http:0", new Uri(model.Endpoint).GetLeftPart(UriPartial.Authority)), ("OPENAI_API_KEY", "sk-openai"),
            ("agents:own:api_key", "sk-own")]);

        await host.AskAsync(Items.OfText("hello"));
        await host.Catalog.Get("GPT-4o").AnswerAsync(AgentHost.Request(Items.OfText("hello")) with { UserId = "ada/é" }, new Recorder(),
            CancellationToken.None, Cancel);

        // OpenAI's key is for OpenAI; where there is none, the header must hold something.
        Assert.Equal([(null, null, null, "Bearer none"), ("s1", "ada%2F%C3%A9", "1", "Bearer sk-own")], told);
    }

    // With a secret that was read from a file, line break and all.
    private static (string Key, string Value)[] ToolAddress => [("agents:model:tools:t:url", "http://127.0.0.1:1"), ("BROKEN", "s3cret\n")];

    [Theory]
    [InlineData("agents:model:model", "", "agents.model.model: is missing; an agent of the provider openai needs one.")]
    [InlineData("agents:model:endpoint", "https://eu.api.openai.com/v1",
        "agents.model.api_key: is missing, and OpenAI's own endpoint needs it; "
        + "set the environment variable OPENAI_API_KEY or AGENTS__MODEL__API_KEY.")]
    [InlineData("agents:model:aliases", "ADVANCED", "agents.model.aliases: 'ADVANCED' is the name of an agent already.")]
    [InlineData("agents:advanced:summarize", "true", "agents.advanced.summarize: needs a language model; the builtin agent is not one.")]
    [InlineData("agents:advanced:send_session", "true", "agents.advanced.send_session: needs an endpoint; the builtin agent has none.")]
    [InlineData("agents:advanced:tools:t:url", "http://127.0.0.1:1",
        "agents.advanced.tools: need a language model; the builtin agent is not one.")]
    [InlineData("agents:model:tools:t:allowed", "a",
        "agents.model.tools.t.url: is missing; a tool server needs a url, or a command that starts it.")]
    [InlineData("agents:model:tools:a b:url", "http://127.0.0.1:1",
        "agents.model.tools.a b: must be called by 1 to 64 letters, digits, '_' and '-'.")]
    [InlineData("agents:model:tools:t:headers:a", "x\n", "agents.model.tools.t.headers: 'a' can't be a header with that value.")]
    [InlineData("agents:model:tools:t:headers:a", "${BROKEN}", "agents.model.tools.t.headers: 'a' can't be a header with that value.")]
    [InlineData("agents:model:tools:t:headers:a", "${NOWHERE}",
        "agents.model.tools.t.headers: a needs the environment variable NOWHERE, which is not set.")]
    [InlineData("agents:advanced:accepts", "image", "agents.advanced.accepts: is not for the builtin agent, which takes only text.")]
    public async Task A_setting_that_cannot_be_is_refused(string key, string value, string message)
    {
        var refused = await Assert.ThrowsAsync<SettingsException>(async () =>
        {
            await using var host = AgentHost.Start(
                [
                    ("agents:model:provider", "openai"), ("agents:model:model", "m"), ("agents:model:endpoint", "http://127.0.0.1:1/v1"),
                    .. key.Contains(":headers:", StringComparison.Ordinal) ? ToolAddress : [],
                    (key, value),
                ]);
            _ = host.Catalog;
        });

        Assert.EndsWith(message, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_unknown_agent_is_refused_with_the_known_ones()
    {
        await using var host = AgentHost.Start([]);

        var error = Assert.Throws<DomainException>(() => host.Catalog.Get("nobody")).Error;

        Assert.Equal(("unknown_agent_type", "agent_type", "must be one of: advanced"), (error.Code, error.Field, error.Rule));
        Assert.Null(host.Catalog.Find("nobody"));
    }

    private static JsonElement Json(string json) => JsonDocument.Parse(json).RootElement;

    // A text as one part, and an empty one, are the same as a text, and none.
    private static string Normalize(JsonNode? message)
    {
        var said = message!.AsObject();
        if (said["content"] is JsonArray { Count: 1 } parts)
        {
            said["content"] = (string?)parts[0]!["text"];
        }

        if ((string?)said["content"] is null or "")
        {
            said.Remove("content");
        }

        var ordered = new JsonObject();
        foreach (var name in (string[])["role", "content", "tool_calls", "tool_call_id", "refusal"])
        {
            if (said[name] is { } value)
            {
                ordered[name] = value.DeepClone();
            }
        }

        return ordered.ToJsonString();
    }
}
