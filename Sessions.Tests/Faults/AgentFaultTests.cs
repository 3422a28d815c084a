using System.Diagnostics;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace Sessions.Tests.Faults;

/// <summary>A model that fails in each of the ways there are, asked plainly and for a stream: what the client is told, what is kept, and
/// how it goes on.</summary>
public sealed class AgentFaultTests
{
    private const double TimeoutSeconds = 20;
    private const int TenMebibytes = 10 << 20;

    // How the model answers, and what the client is told: plainly, and at the end of a stream where that differs.
    private static readonly Dictionary<string, Fault> Faults = new()
    {
        ["answers 500"] = new((_, http) => StatusAsync(http, 500), "The agent's provider answered with status 500."),
        ["answers 429"] = new(
            (_, http) => StatusAsync(http, 429),
            "The agent's provider answered with status 429: it is asked too often, or its quota is used up.")
        { Code = "agent_rate_limited" },
        ["answers 401"] = new(
            (_, http) => StatusAsync(http, 401),
            "The agent's provider answered with status 401: it does not accept the key that this server has for it.")
        { Code = "agent_unauthorized" },
        ["refuses connections"] = new((_, _) => Task.CompletedTask, "The agent's provider can't be reached.") { Agent = "gone" },
        ["hangs"] = new((fault, http) => fault.HangAsync(http), "The agent did not answer within 20 s.") { TimesOut = true },
        ["hangs in the middle"] = new(async (fault, http) =>
        {
            await HalfAsync(fault, http);
            await fault.HangAsync(http);
        }, "The agent did not answer within 20 s.")
        { TimesOut = true },
        ["hangs up at once"] = new((_, http) =>
        {
            http.Abort();
            return Task.CompletedTask;
        }, "The agent's provider can't be reached."),
        ["hangs up in the middle"] = new(async (fault, http) =>
        {
            await HalfAsync(fault, http);
            http.Abort();
        }, "The agent's provider can't be reached.")
        { MayHaveBegun = true },
        ["says nothing"] = new((fault, http) => fault.SayAsync(http, null), "The agent returned no text."),
        ["says an empty text"] = new((fault, http) => fault.SayAsync(http, ""), "The agent returned no text."),
        ["says only white space"] = new((fault, http) => fault.SayAsync(http, " \n\t "), "The agent returned no text."),
        ["answers with an empty body"] = new((_, _) => Task.CompletedTask, "The agent's answer can't be read."),
        ["answers with what is not JSON"] = new(
            (fault, http) => http.Response.WriteAsync(fault.IsStream ? "data: <html>\n\n" : "<html>", Cancel),
            "The agent's answer can't be read."),
        ["says half a surrogate pair"] = new((fault, http) => fault.WriteAsync(http, """half: \ud83d"""),
            "The agent's answer can't be read."),
        ["says the other half"] = new((fault, http) => fault.WriteAsync(http, """half: \ude00"""), "The agent's answer can't be read."),
        ["says 10 MiB"] = new((fault, http) => fault.SayAsync(http, new string('x', TenMebibytes)),
            "The agent's answer is longer than the 1048576 bytes that limits.response_bytes allows."),
    };

    public static TheoryData<string, bool> Cases =>
        new(Faults.Keys.SelectMany(fault => (bool[])[false, true], (fault, streamed) => (fault, streamed)));

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_fault_of_the_agent_is_told_and_recorded_and_the_next_query_works(string name, bool streamed)
    {
        var fault = Faults[name] with { IsStream = streamed, Hangs = new(TaskCreationOptions.RunContinuationsAsynchronously) };
        await using var model = await ChatCompletionsServer.StartAsync();
        var healthy = model.Reply;
        await using var server = SessionsServer.Start(
            [.. model.Agent("model", TimeoutSeconds), ("agents:gone:provider", "openai"), ("agents:gone:model", "m"),
                ("agents:gone:endpoint", "http://127.0.0.1:1/v1"), ("agents:gone:max_retries", "0")]);
        await server.QueryAsync("hello", "a", "ada", "model");
        model.Reply = (_, _, http) => fault.Reply(fault, http);
        var body = $$"""{"query":"and?","thread_id":"a","user_id":"ada","agent_type":"{{fault.Agent}}","stream":"""
            + $$"""{{(streamed ? "true" : "false")}}}""";

        var started = Stopwatch.GetTimestamp();
        var asking = AskAsync(server, body, streamed);
        if (fault.TimesOut)
        {
            await fault.Hangs.Task.WaitAsync(Cancel);
            server.Time.Advance(TimeSpan.FromSeconds(TimeoutSeconds));
        }

        var told = await asking;
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"told after {Stopwatch.GetElapsedTime(started).TotalMilliseconds:0} ms: {told["detail"]}");

        Assert.Equal(fault.TimesOut ? (504, "agent_timeout") : (502, fault.Code ?? "agent_failed"),
            ((int)told["status"]!, (string?)told["code"]));
        if (!fault.MayHaveBegun || (string?)told["detail"] != "The agent's provider broke its answer off.")
        {
            Assert.Equal(streamed ? fault.StreamedDetail : fault.Detail, (string?)told["detail"]);
        }

        Assert.Equal("a", (string?)told["thread_id"]);
        var session = (await server.GetAsync("/sessions/a")).Json;
        Assert.Equal(1, (int)session["context"]!["error_count"]!);
        Assert.Equal((string?)told["detail"], (string?)session["context"]!["last_error"]);
        Assert.Equal("hello", (string?)session["context"]!["last_query"]);
        Assert.Equal(1, (int)session["metadata"]!["query_count"]!);
        Assert.Equal(["hello"], await server.HistoryAsync("a"));

        // The very same request again: the failure was no answer, and is not replayed.
        model.Reply = healthy;
        var next = await server.PostAsync("/query",
            body.Replace("gone", "model", StringComparison.Ordinal).Replace("true", "false", StringComparison.Ordinal),
            ("Idempotency-Key", "k"));
        Assert.True(next.Status == 200, next.Text);
        Assert.DoesNotContain("Idempotency-Replayed", next.Headers.Keys);
        Assert.Equal(2, (int)next.Json["metadata"]!["turn"]!);
        Assert.Equal(["hello", "echo hello", "and?"], ChatCompletionsServer.Messages(model.Requests[^1]).Select(message => message.Text));
        Assert.Equal(["hello", "and?"], await server.HistoryAsync("a"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Any_character_can_be_said_NUL_too(bool streamed)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model", TimeoutSeconds)]);
        var says = new Fault((fault, http) => fault.WriteAsync(http, """a\u0000b \ud83d\ude00"""), "") { IsStream = streamed };
        model.Reply = (_, _, http) => says.Reply(says, http);

        var told = await AskAsync(server,
            $$"""{"query":"hello","thread_id":"a","agent_type":"model","stream":{{(streamed ? "true" : "false")}}}""", streamed);

        Assert.Equal("a\0b 😀", (string?)told["response"]);
        Assert.Equal("a\0b 😀", (string?)(await server.GetAsync("/sessions/a/history")).Json["turns"]![0]!["response"]);
    }

    private static Task StatusAsync(HttpContext http, int status)
    {
        http.Response.StatusCode = status;
        return http.Response.WriteAsync("the provider's own words", Cancel);
    }

    private static Task HalfAsync(Fault fault, HttpContext http) =>
        fault.IsStream
            ? fault.WriteAsync(http, "half an ans", ends: false)
            : http.Response.WriteAsync("""{"id":"1","object":"chat.comp""", Cancel);

    // What the client is told in the end: the answer, or the problem.
    private static async Task<JsonNode> AskAsync(SessionsServer server, string body, bool streamed)
    {
        if (!streamed)
        {
            return (await server.PostAsync("/query", body, ("Idempotency-Key", "k"))).Json;
        }

        await using var reader = await EventReader.OpenAsync(server, body, ("Idempotency-Key", "k"));
        var events = await reader.RestAsync();
        Assert.Equal("session", events[0].Name);
        Assert.All(events[1..^1], told => Assert.Equal("delta", told.Name));
        Assert.Equal(events[^1].Data["code"] is null ? "done" : "error", events[^1].Name);
        return events[^1].Data;
    }

    private sealed record Fault(Func<Fault, HttpContext, Task> Reply, string Detail, string? OtherStreamedDetail = null)
    {
        public string StreamedDetail => OtherStreamedDetail ?? Detail;

        public string Agent { get; init; } = "model";

        public string? Code { get; init; }

        public bool TimesOut { get; init; }

        /// <summary>Whether the beginning of an answer may arrive before the connection is gone, which is up to the network.</summary>
        public bool MayHaveBegun { get; init; }

        public bool IsStream { get; init; }

        public TaskCompletionSource Hangs { get; init; } = new();

        public async Task HangAsync(HttpContext http)
        {
            Hangs.TrySetResult();
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        }

        // Text as it is in JSON, escapes and all.
        public async Task WriteAsync(HttpContext http, string text, bool ends = true)
        {
            http.Response.ContentType = IsStream ? "text/event-stream" : "application/json";
            var said = $$"""{"id":"1","object":"chat.completion{{(IsStream ? ".chunk" : "")}}","created":1767225600"""
                + $$""","model":"m","choices":[{"index":0,"finish_reason":{{(ends ? "\"stop\"" : "null")}}"""
                + $$""","{{(IsStream ? "delta" : "message")}}":"""
                + $$"""{"role":"assistant","content":"{{text}}" } } ] }""";
            await http.Response.WriteAsync(IsStream ? $"data: {said}\n\n{(ends ? "data: [DONE]\n\n" : "")}" : said, Cancel);
            await http.Response.Body.FlushAsync(Cancel);
        }

        // Streamed, in pieces of at most 64 KiB.
        public Task SayAsync(HttpContext http, string? text) =>
            IsStream
                ? ChatCompletionsServer.StreamAsync(http, (text ?? "").Chunk(65536).Select(piece => new string(piece)))
                : ChatCompletionsServer.AnswerAsync(http, text);
    }
}
