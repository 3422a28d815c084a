using System.Diagnostics;

namespace Sessions.Tests.Agents;

/// <summary>How much of a history an agent is given, and what becomes of the rest.</summary>
public sealed class AgentHistoryTests
{
    private static readonly Func<Microsoft.AspNetCore.Http.HttpContext, Task> Fails = http =>
    {
        http.Response.StatusCode = 500;
        return Task.CompletedTask;
    };

    [Fact]
    public async Task A_query_is_given_no_more_than_the_operator_allows()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("agents:model:history_turns", "20"), .. model.Agent("long"),
            ("agents:long:history_turns", "5"), ("agents:long:summarize", "true"), ("limits:history_bytes", "5000")]);
        int Turns(string agent, int? asked) => host.Catalog.Get(agent).HistoryFor(AnswerOptions.None with { HistoryTurns = asked }).Turns;

        // Asked for 1000, it is given 20.
        Assert.Equal((20, 20, 3, 0), (Turns("model", null), Turns("model", 1000), Turns("model", 3), Turns("model", 0)));
        Assert.Equal((11, 5, 2), (Turns("long", null), Turns("long", 1000), Turns("long", 2)));
        Assert.Equal((5000, true), (host.Catalog.Get("model").HistoryFor(AnswerOptions.None).Bytes,
            host.Catalog.Get("model").HistoryFor(AnswerOptions.None).MayCut));
    }

    [Fact]
    public async Task A_turns_tokens_are_counted_once_and_kept_with_it()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("agents:model:history_tokens", "60"), .. model.Agent("other")]);
        var words = string.Join(' ', Enumerable.Repeat("word", 20));

        var answer = await host.AskAsync(Items.OfText($"0 {words}"));
        var other = await host.AskAsync(Items.OfText($"0 {words}"), agent: "other");

        // "0" and 20 times " word"; "echo", " ", "0" and the 20 words.
        Assert.Equal((44, (int?)null), (answer.HistoryTokens, other.HistoryTokens));

        // What was counted is believed: two turns of 20 fit into 60, one of 50 before them does not.
        var history = new[] { (1, 50), (2, 20), (3, 20) }.Select(
            turn => AgentHost.Turn(turn.Item1, Items.OfText($"q{turn.Item1}"), Items.OfText("r"), tokens: turn.Item2)).ToList();
        await host.AskAsync(Items.OfText("and?"), history: history);
        Assert.Equal(["q2", "r", "q3", "r", "and?"], ChatCompletionsServer.Messages(model.Requests[^1]).Select(message => message.Text));

        // Turns of other agents' are counted then; and where nothing may be cut nothing is.
        await host.AskAsync(Items.OfText("and?"), history:
        [
            AgentHost.Turn(1, Items.OfText(words + words + words), Items.OfText("r")),
            AgentHost.Turn(2, Items.OfText("q"), Items.OfText("r")),
        ]);
        Assert.Equal(["q", "r", "and?"], ChatCompletionsServer.Messages(model.Requests[^1]).Select(message => message.Text));
        await host.Catalog.Get("model").AnswerAsync(
            AgentHost.Request(Items.OfText("and?"), history: history) with { MayCut = false }, null, CancellationToken.None,
            TestContext.Current.CancellationToken);
        Assert.Equal(7, ChatCompletionsServer.Messages(model.Requests[^1]).Count);
    }

    [Theory]
    [InlineData(64 << 10)]
    [InlineData(1 << 20)]
    public async Task Counting_a_word_of_any_length_takes_no_time_to_speak_of(int length)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("agents:model:history_tokens", "1000000")]);
        model.Reply = (_, _, http) => ChatCompletionsServer.AnswerAsync(http, "r");
        await host.AskAsync(Items.OfText("warm up"));
        var started = Stopwatch.GetTimestamp();

        var answer = await host.AskAsync(Items.OfText(new string('a', length)));

        // Before: 2 to 4 s for 64 KiB, minutes for 1 MiB. Some eight letters are a token.
        Assert.True(Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(60), Stopwatch.GetElapsedTime(started).ToString());
        Assert.InRange(answer.HistoryTokens!.Value, length / 16, length / 2);
    }

    [Fact]
    public async Task A_long_history_is_summarised_in_whole_turns()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(
            [.. model.Agent("model"), ("agents:model:summarize", "true"), ("agents:model:history_turns", "2")]);
        model.Reply = (request, _, http) =>
            ChatCompletionsServer.AnswerAsync(http, ChatCompletionsServer.Messages(request)[^1].Role == "system" ? "SUMMARY" : "r");

        var answer = await host.AskAsync(Items.OfText("q6"), history: Turns(1, 5));

        // Twice the two and one more: all but two became the summary.
        Assert.Equal(new Summary("SUMMARY", 3), answer.Summary);
        Assert.Equal(["q1", "r", "q2", "r", "q3", "r"],
            ChatCompletionsServer.Messages(model.Requests[0]).SkipLast(1).Select(message => message.Text));
        Assert.Equal(["SUMMARY", "q4", "r", "q5", "r", "q6"],
            ChatCompletionsServer.Messages(model.Requests[1]).Select(message => message.Text));

        // With one at hand: it is told, and grows with what it does not cover.
        var next = await host.AskAsync(Items.OfText("q7"), history: Turns(2, 6), summary: answer.Summary);
        Assert.Null(next.Summary);
        Assert.Equal(["SUMMARY", "q4", "r", "q5", "r", "q6", "r", "q7"],
            ChatCompletionsServer.Messages(model.Requests[2]).Select(message => message.Text));
        Assert.Equal(new Summary("SUMMARY", 6),
            (await host.AskAsync(Items.OfText("q9"), history: Turns(4, 8), summary: answer.Summary)).Summary);
        Assert.Equal(["SUMMARY", "q4", "r", "q5", "r", "q6", "r"],
            ChatCompletionsServer.Messages(model.Requests[3]).SkipLast(1).Select(message => message.Text));
    }

    [Fact]
    public async Task A_summary_claims_only_what_was_read()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(
            [.. model.Agent("model"), ("agents:model:summarize", "true"), ("agents:model:history_turns", "2")]);

        // Turns 1 to 23 were never given to this agent, and then those between 3 and 24.
        var answers = new[]
        {
            await host.AskAsync(Items.OfText("q29"), history: Turns(24, 28)),
            await host.AskAsync(Items.OfText("q29"), history: Turns(24, 28), summary: new Summary("OLD", 3)),
        };

        Assert.All(answers, answer => Assert.Null(answer.Summary));
        Assert.Equal(["q24", "r", "q25", "r", "q26", "r", "q27", "r", "q28", "r", "q29"],
            ChatCompletionsServer.Messages(model.Requests[0]).Select(message => message.Text));
        Assert.Equal("OLD", ChatCompletionsServer.Messages(model.Requests[1])[0].Text);
        Assert.Equal(2, model.Requests.Count);
    }

    [Theory]
    [InlineData("fails")]
    [InlineData("is empty")]
    [InlineData("is cut short")]
    public async Task A_summary_that_cannot_be_made_stops_no_answer(string how)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(
            [.. model.Agent("model"), ("agents:model:summarize", "true"), ("agents:model:history_turns", "2")]);
        model.Reply = (request, _, http) =>
            ChatCompletionsServer.Messages(request)[^1].Role != "system" ? ChatCompletionsServer.AnswerAsync(http, "r")
            : how == "fails" ? Fails(http)
            : Wire.JsonAsync(http,
                how == "is empty" ? Wire.Whole("""{"content":" "}""") : Wire.Whole("""{"content":"They"}""", "\"length\""));

        var answer = await host.AskAsync(Items.OfText("q6"), history: Turns(1, 5));

        Assert.Equal(("r", (Summary?)null), (answer.Output.ToString(), answer.Summary));
        Assert.Equal(11, ChatCompletionsServer.Messages(model.Requests[1]).Count);
        Assert.Contains(host.Logs, record => record.Message.StartsWith("Agent model: no summary could be made", StringComparison.Ordinal));

        // What the summary's question cost is not told as the answer's.
        Assert.Equal(new TokenUsage(11, 7), answer.Usage);
    }

    private static List<Turn> Turns(int first, int last) =>
        [.. Enumerable.Range(first, last - first + 1)
            .Select(number => AgentHost.Turn(number, Items.OfText($"q{number}"), Items.OfText("r")))];
}
