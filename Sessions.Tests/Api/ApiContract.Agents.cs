using Microsoft.AspNetCore.Http;

namespace Sessions.Tests.Api;

public abstract partial class ApiContract
{
    [Fact]
    public async Task A_failed_turn_is_told_counted_and_recorded_and_does_not_poison_the_session()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model")]);
        await server.QueryAsync("first", "a", agent: "model");
        model.Reply = (_, _, http) =>
        {
            http.Response.StatusCode = 500;
            return http.Response.WriteAsync("the provider's own words: sk-secret", TestContext.Current.CancellationToken);
        };

        var failed = (await server.TryQueryAsync("second", "a", agent: "model")).IsProblem(502, "agent_failed");
        var created = (await server.TryQueryAsync("third", agent: "model")).IsProblem(502, "agent_failed");

        Assert.Equal("a", (string?)failed.Json["thread_id"]);
        Assert.DoesNotContain("secret", failed.Text, StringComparison.Ordinal);
        var session = (await server.GetAsync("/sessions/a")).Json;
        Assert.Equal(1, (int)session["context"]!["error_count"]!);
        Assert.Equal("The agent's provider answered with status 500.", (string?)session["context"]!["last_error"]);
        Assert.Equal("first", (string?)session["context"]!["last_query"]);
        Assert.Equal(1, (int)session["metadata"]!["query_count"]!);
        Assert.Single((await server.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray());
        var empty = (await server.GetAsync($"/sessions/{created.Json["thread_id"]}")).Json;
        Assert.Equal(1, (int)empty["context"]!["error_count"]!);
        Assert.Equal(0, (int)empty["metadata"]!["query_count"]!);

        model.Reply = (request, _, http) => ChatCompletionsServer.AnswerAsync(http,
            string.Join('|', ChatCompletionsServer.Messages(request).Select(message => message.Text)));
        var next = await server.QueryAsync("fourth", "a", agent: "model");
        Assert.Equal(2, (int)next["metadata"]!["turn"]!);
        Assert.Equal("first|echo first|fourth", (string?)next["response"]);
    }

    [Theory]
    [InlineData("""{"user_tag":"\ud83d"}""")]
    [InlineData("""{"user_tag":[{"\ud83d":1}]}""")]
    public async Task A_parameter_that_is_no_Unicode_is_the_clients_mistake(string parameters)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model")]);

        (await server.PostAsync("/query", $$"""{"query":"hello","agent_type":"model","parameters":{{parameters}}}"""))
            .IsProblem(422, "invalid_request");
        Assert.Empty(model.Requests);
    }

    [Fact]
    public async Task A_provider_that_cannot_be_reached_fails_the_turn()
    {
        var server = Start(("agents:gone:provider", "openai"), ("agents:gone:model", "m"),
            ("agents:gone:endpoint", "http://127.0.0.1:1/v1"), ("agents:gone:max_retries", "0"));

        var failed = (await server.TryQueryAsync("hello", agent: "gone")).IsProblem(502, "agent_failed");

        Assert.Equal("The agent's provider can't be reached.", (string?)failed.Json["detail"]);
    }

    [Fact]
    public async Task An_agent_that_hangs_is_cut_off_and_the_queue_moves_on()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var (entered, leave) = Hold(model);
        var server = Start([.. model.Agent("model", timeoutSeconds: 20)]);
        var hanging = server.TryQueryAsync("first", "a", agent: "model");
        await entered.WaitAsync(TestContext.Current.CancellationToken);
        var waiting = server.TryQueryAsync("second", "a");
        server.Time.Advance(TimeSpan.FromSeconds(20));

        var cut = (await hanging).IsProblem(504, "agent_timeout");

        Assert.Equal("The agent did not answer within 20 s.", (string?)cut.Json["detail"]);
        Assert.Equal(1, (int)(await waiting).Json["metadata"]!["turn"]!);
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/a")).Json["context"]!["error_count"]!);
        leave.Release();
    }

    [Fact]
    public async Task An_agent_that_says_nothing_or_too_much_fails_the_turn()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model"), ("limits:response_bytes", "1000")]);
        foreach (var content in (string?[])[null, "", new string('x', 1001), new string('é', 501)])
        {
            model.Reply = (_, _, http) => ChatCompletionsServer.AnswerAsync(http, content);
            (await server.TryQueryAsync("hello", "a", agent: "model")).IsProblem(502, "agent_failed");
        }

        model.Reply = (_, _, http) => http.Response.WriteAsync("this is no JSON", TestContext.Current.CancellationToken);
        (await server.TryQueryAsync("hello", "a", agent: "model")).IsProblem(502, "agent_failed");
        Assert.Equal(5, (int)(await server.GetAsync("/sessions/a")).Json["context"]!["error_count"]!);
        model.Reply = (_, _, http) => ChatCompletionsServer.AnswerAsync(http, new string('x', 1000));
        Assert.Equal(1, (int)(await server.QueryAsync("hello", "a", agent: "model"))["metadata"]!["turn"]!);
    }

    [Fact]
    public async Task A_model_gets_instructions_the_history_in_order_and_the_parameters()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model"), ("agents:model:instructions", "Be brief."), ("agents:model:history_turns", "2")]);
        foreach (var query in (string[])["one", "two", "three"])
        {
            await server.QueryAsync(query, "a", agent: "model");
        }

        var answer = await server.PostAsync("/query", new
        {
            query = "four",
            thread_id = "a",
            agent_type = "model",
            parameters = new { temperature = 0.5, top_p = 0.25, max_output_tokens = 99, seed = 7, stop = "END", unheard_of = "yes" },
        });
        await server.PostAsync("/query",
            """{"query":"five","thread_id":"a","agent_type":"model","parameters":{"history_turns":1,"temperature":null}}""");
        await server.PostAsync("/query", """{"query":"six","thread_id":"a","agent_type":"model","parameters":{"history_turns":0}}""");

        var request = model.Requests[3];
        Assert.Equal(
            [("system", "Be brief."), ("user", "two"), ("assistant", "echo two"), ("user", "three"),
                ("assistant", "echo three"), ("user", "four")],
            ChatCompletionsServer.Messages(request));
        Assert.Equal("test-model", (string?)request["model"]);
        Assert.Equal(0.5, (double)request["temperature"]!);
        Assert.Equal(0.25, (double)request["top_p"]!);
        Assert.Equal(99, (int)request["max_completion_tokens"]!);
        Assert.Equal(7, (int)request["seed"]!);
        Assert.Equal("END", (string?)request["stop"]![0]);
        Assert.Equal("""{"input_tokens":11,"output_tokens":7}""", answer.Json["metadata"]!["usage"]!.ToJsonString());
        Assert.Equal("openai/test-model", (string?)answer.Json["metadata"]!["agent_used"]);
        Assert.Equal(["four", "echo four", "five"],
            ChatCompletionsServer.Messages(model.Requests[4]).Skip(1).Select(message => message.Text));
        Assert.Equal(["six"], ChatCompletionsServer.Messages(model.Requests[5]).Skip(1).Select(message => message.Text));
    }

    [Fact]
    public async Task A_long_history_is_cut_to_the_tokens_allowed()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model"), ("agents:model:history_tokens", "60")]);
        var words = string.Join(' ', Enumerable.Repeat("word", 20));
        for (var i = 0; i < 4; i++)
        {
            await server.QueryAsync($"{i} {words}", "a", agent: "model");
        }

        // Some 22 tokens a query and 23 a response: one whole turn fits, two do not.
        Assert.Equal(3, ChatCompletionsServer.Messages(model.Requests[3]).Count);
        Assert.StartsWith("2 ", ChatCompletionsServer.Messages(model.Requests[3])[0].Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_long_history_is_summarised_and_stays_readable()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model"), ("agents:model:summarize", "true"), ("agents:model:history_turns", "2")]);
        model.Reply = (request, _, http) => ChatCompletionsServer.AnswerAsync(
            http, ChatCompletionsServer.Messages(request)[^1].Role == "system"
                ? "SUMMARY"
                : $"r{ChatCompletionsServer.Messages(request)[^1].Text}");

        for (var i = 1; i <= 12; i++)
        {
            await server.QueryAsync($"q{i}", "a", "ada", "model");
        }

        // Up to the fifth turn all were given. The sixth found five, twice the two and one more: three became the summary.
        var turns = model.Requests.Where(request => ChatCompletionsServer.Messages(request)[^1].Role == "user")
            .Select(ChatCompletionsServer.Messages).ToList();
        Assert.Equal(["q1", "rq1", "q2", "rq2", "q3", "rq3", "q4", "rq4", "q5"], turns[4].Select(message => message.Text));
        Assert.Equal(["SUMMARY", "q4", "rq4", "q5", "rq5", "q6"], turns[5].Select(message => message.Text));
        Assert.All(turns, messages => Assert.InRange(messages.Count, 1, 10));
        Assert.Equal(["SUMMARY", "q10", "rq10", "q11", "rq11", "q12"], turns[11].Select(message => message.Text));
        var summaries = model.Requests.Select(ChatCompletionsServer.Messages).Where(messages => messages[^1].Role == "system").ToList();
        Assert.Equal(3, summaries.Count);
        Assert.Equal("SUMMARY", summaries[1][0].Text);

        Assert.Equal(Enumerable.Range(1, 12), (await AllTurnsAsync(server, "a")).Select(turn => (int)turn["turn"]!));
        Assert.Contains("\"summary\":{\"text\":\"SUMMARY\",\"covers_turns\":9}", (await server.GetAsync("/users/ada/export")).Text,
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_provider_that_is_busy_for_a_moment_is_asked_again()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model", maxRetries: 2)]);
        model.Reply = (request, before, http) =>
        {
            if (before > 0)
            {
                return ChatCompletionsServer.AnswerAsync(http, "now");
            }

            http.Response.StatusCode = 429;
            http.Response.Headers["Retry-After"] = "0";
            return Task.CompletedTask;
        };

        Assert.Equal("now", (string?)(await server.QueryAsync("hello", agent: "model"))["response"]);
        Assert.Equal(2, model.Requests.Count);
    }

    [Fact]
    public async Task An_unknown_agent_is_refused_with_the_known_ones()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var server = Start([.. model.Agent("model")]);

        var refused = (await server.TryQueryAsync("hello", "a", agent: "nobody")).IsProblem(422, "unknown_agent_type");

        Assert.Equal("must be one of: advanced, model", (string?)refused.Json["errors"]!["agent_type"]![0]);
        (await server.GetAsync("/sessions/a")).IsProblem(404, "session_not_found");
    }

    [Theory]
    [InlineData("temperature", "\"hot\"")]
    [InlineData("temperature", "2.1")]
    [InlineData("temperature", "-0.1")]
    [InlineData("top_p", "1.5")]
    [InlineData("max_output_tokens", "0")]
    [InlineData("max_output_tokens", "1.5")]
    [InlineData("max_output_tokens", "99999999999")]
    [InlineData("history_turns", "-1")]
    [InlineData("history_turns", "1001")]
    [InlineData("frequency_penalty", "3")]
    [InlineData("presence_penalty", "[]")]
    [InlineData("seed", "1e99")]
    [InlineData("stop", "{}")]
    [InlineData("stop", "[1]")]
    [InlineData("stop", """["a","b","c","d","e"]""")]
    [InlineData("stop", "\"\\ud800\"")]
    public async Task A_parameter_out_of_range_is_refused_by_name(string name, string value)
    {
        var server = Start();

        var refused = (await server.PostAsync("/query", $"{{\"query\":\"hello\",\"parameters\":{{\"{name}\":{value}}}}}"))
            .IsProblem(422, "invalid_request");

        Assert.StartsWith("parameters", refused.Json["errors"]!.AsObject().Single().Key, StringComparison.Ordinal);
        Assert.Equal(0, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
    }
}
