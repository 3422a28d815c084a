using System.Text;
using Microsoft.AspNetCore.Http;

namespace Sessions.Tests.Agents;

/// <summary>What models say, as items and as events: the same told piece by piece and at once.</summary>
public sealed class AgentAnswerTests
{
    private const string Call = """{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":"""
        + """{"name":"weather","arguments":"{\"city\": \"Oslo\"}"}},{"id":"call_2","type":"function","function":"""
        + """{"name":"time","arguments":"{}"}}]}""";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_text_is_kept_as_a_text_and_told_piece_by_piece()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.StreamAsync(
            http, Wire.Piece("The "), Wire.Piece("sky 😀"),
            Wire.End(more: ""","usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18"""
                + ""","prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":3}}"""),
            "[DONE]");
        var told = new Recorder();

        var answer = await host.AskAsync(Items.OfText("hello"), told);

        // The wire contract's order: added, deltas, done; the item that is done is what is kept.
        Assert.Equal(
            [
                """added 0 message {"type":"message","role":"assistant","status":"in_progress","content":[]}""",
                "text 0.0 The ",
                "text 0.0 sky 😀",
                """done 0 message {"type":"message","role":"assistant","status":"completed","content":"""
                + """[{"type":"output_text","text":"The sky \uD83D\uDE00","annotations":[],"logprobs":[]}]}""",
            ],
            told.Told);
        Assert.Equal(Items.OfText("The sky 😀"), answer.Output);
        Assert.Equal(("openai/test-model", "test-model-2026", "stop", (string?)null),
            (answer.AgentUsed, answer.Model, answer.FinishReason, answer.IncompleteReason));
        Assert.Equal(new TokenUsage(11, 7, 5, 3), answer.Usage);
    }

    [Fact]
    public async Task Pieces_with_differing_ids_are_one_text_as_they_were_told()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.StreamAsync(http, Wire.Piece("The", "a"), Wire.Piece(" sky", "b"), Wire.End());

        // Not "The", a line break, " sky".
        Assert.Equal(Items.OfText("The sky"), (await host.AskAsync(Items.OfText("hello"), new Recorder())).Output);
    }

    [Fact]
    public async Task Calls_are_told_as_their_arguments_come_one_after_the_other()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.StreamAsync(
            http,
            Wire.Piece("Let me see."),
            Wire.Delta("""{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}]}"""),
            Wire.Delta("""{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]}"""),
            Wire.Delta("""{"tool_calls":[{"index":0,"function":{"arguments":" \"Oslo\"}"}}]}"""),
            Wire.Delta("""{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"time","arguments":"{}"}}]}"""),
            Wire.End("\"tool_calls\""),
            "[DONE]");
        var told = new Recorder();

        var answer = await host.AskAsync(Items.OfText("hello"), told);

        Assert.Equal(
            [
                """added 0 message {"type":"message","role":"assistant","status":"in_progress","content":[]}""",
                "text 0.0 Let me see.",
                """done 0 message {"type":"message","role":"assistant","status":"completed","content":"""
                + """[{"type":"output_text","text":"Let me see.","annotations":[],"logprobs":[]}]}""",
                "added 1 function_call "
                + """{"type":"function_call","call_id":"call_1","name":"weather","arguments":"","status":"in_progress"}""",
                """arguments 1 {"city":""",
                """arguments 1  "Oslo"}""",
                """done 1 function_call {"type":"function_call","call_id":"call_1","name":"weather","arguments":"{\"city\": """
                + """\"Oslo\"}","status":"completed"}""",
                """added 2 function_call {"type":"function_call","call_id":"call_2","name":"time","arguments":"","status":"in_progress"}""",
                "arguments 2 {}",
                """done 2 function_call {"type":"function_call","call_id":"call_2","name":"time","arguments":"{}","status":"completed"}""",
            ],
            told.Told);
        Assert.Equal("tool_calls", answer.FinishReason);

        // What is kept are the items that were done, in that order.
        var done = told.Told.Where(line => line.StartsWith("done", StringComparison.Ordinal))
            .Select(line => line[line.IndexOf('{', StringComparison.Ordinal)..]);
        Assert.Equal($"[{string.Join(',', done)}]", answer.Output.ToString());
    }

    [Fact]
    public async Task An_answer_at_once_has_the_same_items()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.JsonAsync(http, Wire.Whole(Call, "\"tool_calls\""));
        var atOnce = await host.AskAsync(Items.OfText("hello"));
        model.Reply = (_, _, http) => Wire.StreamAsync(http, Wire.Delta(Call), Wire.End("\"tool_calls\""));
        var streamed = await host.AskAsync(Items.OfText("hello"), new Recorder());

        // The arguments as the model wrote them, space and all.
        Assert.Equal(
            """[{"type":"function_call","call_id":"call_1","name":"weather","arguments":"{\"city\": \"Oslo\"}","status":"completed"},"""
            + """{"type":"function_call","call_id":"call_2","name":"time","arguments":"{}","status":"completed"}]""",
            atOnce.Output.ToString());
        Assert.Equal(atOnce.Output, streamed.Output);
    }

    [Fact]
    public async Task Thoughts_and_a_refusal_are_items_too()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.StreamAsync(
            http, Wire.Delta("""{"role":"assistant","reasoning_content":"Hm. "}"""), Wire.Delta("""{"reasoning_content":"No."}"""),
            Wire.Piece("Well: "), Wire.Delta("""{"refusal":"I won't."}"""), Wire.End());
        var told = new Recorder();
        var streamed = await host.AskAsync(Items.OfText("hello"), told);
        model.Reply = (_, _, http) => Wire.JsonAsync(http,
            Wire.Whole("""{"role":"assistant","content":"Well: ","reasoning_content":"Hm. No.","refusal":"I won't."}"""));
        var atOnce = await host.AskAsync(Items.OfText("hello"));

        const string Items2 = """[{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"Hm. No."}]},"""
            + """{"type":"message","role":"assistant","status":"completed","content":"""
            + """[{"type":"output_text","text":"Well: ","annotations":[],"logprobs":[]},{"type":"refusal","refusal":"I won't."}]}]""";
        Assert.Equal(Items2, streamed.Output.ToString());
        Assert.Equal(Items2, atOnce.Output.ToString());
        Assert.Contains("refusal 1.1 I won't.", told.Told);
        Assert.Equal("Well: I won't.", streamed.Output.TextOf(ItemSide.Output).ToString());
    }

    // Servers that number calls their own way: the same index for all (Gemini), no ids, no index, arguments as an object (Ollama).
    [Theory]
    [InlineData("""[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]""",
        """[{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}]""")]
    [InlineData("""[{"id":"a","function":{"name":"f","arguments":{}}},{"id":"b","function":{"name":"g","arguments":{}}}]""", "[]")]
    [InlineData("""[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]""",
        """[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}},{"index":7,"id":"b","function":{"name":"g","arguments":"{}"}}]""")]
    public async Task Calls_are_told_apart_however_they_are_numbered(string first, string second)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) =>
            Wire.StreamAsync(http, Wire.Delta($$"""{"tool_calls":{{first}}}"""), Wire.Delta($$"""{"tool_calls":{{second}}}"""), Wire.End());

        var answer = await host.AskAsync(Items.OfText("hello"), new Recorder());

        Assert.Equal(
            """[{"type":"function_call","call_id":"a","name":"f","arguments":"{}","status":"completed"},"""
            + """{"type":"function_call","call_id":"b","name":"g","arguments":"{}","status":"completed"}]""",
            answer.Output.ToString());
    }

    [Theory]
    [InlineData("\"length\"", "length", "max_output_tokens")]
    [InlineData("\"content_filter\"", "content_filter", "content_filter")]
    [InlineData("\"MAX_TOKENS\"", "MAX_TOKENS", "max_output_tokens")]
    [InlineData("\"eos\"", "eos", null)]
    [InlineData("\"model_length\"", "model_length", "max_output_tokens")]
    [InlineData("null", null, null)]
    [InlineData("1", null, null)]
    public async Task The_finish_reason_is_told_as_the_provider_says_and_none_is_a_failure(
        string told, string? finishReason, string? incompleteReason)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.StreamAsync(http, Wire.Piece("so far"), Wire.End(told), "[DONE]");
        var streamed = await host.AskAsync(Items.OfText("hello"), new Recorder());
        model.Reply = (_, _, http) => Wire.JsonAsync(http, Wire.Whole("""{"role":"assistant","content":"so far"}""", told));
        var atOnce = await host.AskAsync(Items.OfText("hello"));

        // A server that does not stream, asked for a stream.
        var inOnePiece = await host.AskAsync(Items.OfText("hello"), new Recorder());

        Assert.Equal((finishReason, incompleteReason, "so far"),
            (inOnePiece.FinishReason, inOnePiece.IncompleteReason, inOnePiece.Output.ToString()));
        Assert.Equal((finishReason, incompleteReason, "so far"),
            (streamed.FinishReason, streamed.IncompleteReason, streamed.Output.ToString()));
        Assert.Equal((finishReason, incompleteReason, "so far"), (atOnce.FinishReason, atOnce.IncompleteReason, atOnce.Output.ToString()));
    }

    [Fact]
    public async Task An_answer_cut_off_before_its_first_word_is_incomplete_and_empty()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.JsonAsync(http, Wire.Whole("""{"role":"assistant","content":""}""", "\"length\""));

        var answer = await host.AskAsync(Items.OfText("hello"));

        Assert.Equal((Items.None, "max_output_tokens"), (answer.Output, answer.IncompleteReason));
    }

    [Theory]
    [InlineData("null", null, null)]
    [InlineData("{}", null, null)]
    [InlineData("""{"prompt_tokens":11.0,"completion_tokens":7.0}""", 11L, 7L)]
    [InlineData("""{"prompt_tokens":"11","completion_tokens":null}""", 11L, null)]
    [InlineData("""{"prompt_tokens":5000000000,"completion_tokens":7,"total_tokens":5000000007}""", 5_000_000_000L, 7L)]
    [InlineData("""{"prompt_tokens":1e300,"completion_tokens":-1}""", null, null)]
    [InlineData("""{"prompt_tokens":[],"prompt_tokens_details":7,"completion_tokens":7}""", null, 7L)]
    [InlineData("\"many\"", null, null)]
    public async Task Usage_in_any_form_loses_no_answer(string usage, long? input, long? output)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        var more = $",\"usage\":{usage}";
        model.Reply = (_, _, http) => Wire.StreamAsync(http, Wire.Piece("yes"), Wire.End(more: more), "[DONE]");
        var streamed = await host.AskAsync(Items.OfText("hello"), new Recorder());
        model.Reply = (_, _, http) => Wire.JsonAsync(http, Wire.Whole("""{"role":"assistant","content":"yes"}""", more: more));
        var atOnce = await host.AskAsync(Items.OfText("hello"));

        var inOnePiece = await host.AskAsync(Items.OfText("hello"), new Recorder());

        TokenUsage? expected = input is null && output is null ? null : new TokenUsage(input, output);
        Assert.Equal((expected, "yes"), (streamed.Usage, streamed.Output.ToString()));
        Assert.Equal((expected, "yes"), (inOnePiece.Usage, inOnePiece.Output.ToString()));
        Assert.Equal((expected, "yes"), (atOnce.Usage, atOnce.Output.ToString()));
    }

    [Fact]
    public async Task Usage_that_is_told_with_each_piece_is_not_added_up()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.StreamAsync(http, Enumerable.Range(1, 5).Select(i =>
            Wire.Delta("""{"content":"x"}""",
                more: $$""","usage":{"prompt_tokens":10,"completion_tokens":{{i}},"total_tokens":{{10 + i}}}""")).Append(Wire.End()));

        // Not 50 and 15.
        Assert.Equal(new TokenUsage(10, 5), (await host.AskAsync(Items.OfText("hello"), new Recorder())).Usage);
    }

    [Fact]
    public async Task Stopped_it_gives_what_it_has()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = async (_, _, http) =>
        {
            await Wire.StreamAsync(http, Wire.Piece("half an "));
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        };
        using var stop = new CancellationTokenSource();
        var told = new Recorder { Happened = happened => _ = happened is TextDelta ? stop.CancelAsync() : null };

        var answer = await host.Catalog.Get("model").AnswerAsync(AgentHost.Request(Items.OfText("hello")), told, stop.Token, Cancel);

        Assert.Equal((Items.OfText("half an "), "cancelled"), (answer.Output, answer.IncompleteReason));
        Assert.StartsWith("done 0 message", told.Told[^1], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Stopped_before_it_said_anything_it_gives_nothing()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        using var stop = new CancellationTokenSource();
        model.Reply = async (_, _, http) =>
        {
            await stop.CancelAsync();
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        };
        var answer = await host.Catalog.Get("model").AnswerAsync(AgentHost.Request(Items.OfText("hello")), null, stop.Token, Cancel);

        Assert.Equal((Items.None, "cancelled"), (answer.Output, answer.IncompleteReason));
    }

    [Fact]
    public async Task Stopped_in_the_middle_of_a_call_it_leaves_the_call_out()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = async (_, _, http) =>
        {
            await Wire.StreamAsync(http, Wire.Piece("Let me see."),
                Wire.Delta("""{"tool_calls":[{"index":0,"id":"call_1","function":{"name":"f","arguments":"{\"a\":"}}]}"""));
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        };
        using var stop = new CancellationTokenSource();
        var told = new Recorder { Happened = happened => _ = happened is ArgumentsDelta ? stop.CancelAsync() : null };

        var answer = await host.Catalog.Get("model").AnswerAsync(AgentHost.Request(Items.OfText("hello")), told, stop.Token, Cancel);

        // Nobody could give the output of half a call, and the session would wait for it.
        Assert.Equal("Let me see.", answer.Output.TextOf(ItemSide.Output).ToString());
        Assert.DoesNotContain("function_call", answer.Output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_client_that_goes_away_cancels()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        using var gone = new CancellationTokenSource();
        model.Reply = async (_, _, http) =>
        {
            await gone.CancelAsync();
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        };

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => host.Catalog.Get("model")
            .AnswerAsync(AgentHost.Request(Items.OfText("hello")), null, CancellationToken.None, gone.Token).AsTask());
    }

    [Fact]
    public async Task The_builtin_agent_quotes_the_last_few_things_said()
    {
        await using var host = AgentHost.Start([]);
        var first = await host.AskAsync(Items.OfText("I am a Python programmer"), agent: "advanced");
        var history = new List<Turn> { AgentHost.Turn(1, Items.OfText("I am a Python programmer"), first.Output) };
        var told = new Recorder();
        var second = await host.AskAsync(Items.OfText("What tools do you recommend for work?"), told, history: history, agent: "advanced");
        history.AddRange(Enumerable.Range(2, 4).Select(number => AgentHost.Turn(number, Items.OfText($"q{number}"), Items.OfText("a"))));

        // Word by word what README.md shows.
        Assert.Equal("You said: \"I am a Python programmer\". Nothing came before it in this session; I will remember it.",
            first.Output.ToString());
        Assert.Equal("To \"What tools do you recommend for work?\" I can say what you told me before: \"I am a Python programmer\".",
            second.Output.ToString());
        Assert.Equal(second.Output.ToString(), string.Concat(told.Told.Where(line => line.StartsWith("text 0.0 ", StringComparison.Ordinal))
            .Select(line => line["text 0.0 ".Length..])));
        Assert.Equal(("builtin", (string?)null, "stop"), (first.AgentUsed, first.Model, first.FinishReason));
        Assert.Equal(
            "To \"and?\" I can say what you told me before: \"q3\"; \"q4\"; \"q5\".",
            (await host.AskAsync(Items.OfText("and?"), history: history, agent: "advanced")).Output.ToString());
        Assert.Equal(
            "You said: \"\". Nothing came before it in this session; I will remember it.",
            (await host.AskAsync(AgentHost.Json("""[{"role":"assistant","content":"x"}]"""), agent: "advanced")).Output.ToString());
    }

    [Theory]
    [InlineData(2, "You said:", "max_output_tokens")]
    [InlineData(100, "You said: \"a b\". Nothing came before it in this session; I will remember it.", null)]
    public async Task The_builtin_agent_says_no_more_words_than_it_may(int max, string answer, string? reason)
    {
        await using var host = AgentHost.Start([]);
        foreach (var observer in (Recorder?[])[null, new Recorder()])
        {
            var said = await host.AskAsync(Items.OfText("a b"), observer,
                AnswerOptions.None with { MaxOutputTokens = max }, agent: "advanced");
            Assert.Equal((answer, reason), (said.Output.ToString(), said.IncompleteReason));
        }
    }

    [Fact]
    public async Task A_long_quotation_is_shortened_between_characters()
    {
        await using var host = AgentHost.Start([]);

        var answer = await host.AskAsync(Items.OfText(new string('x', 159) + "😀 and more"), agent: "advanced");

        Assert.Equal($"You said: \"{new string('x', 159)}…\". Nothing came before it in this session; I will remember it.",
            answer.Output.ToString());
        Assert.Equal(answer.Output.ToString(), Encoding.UTF8.GetString(answer.Output.Bytes.Span));
    }
}
