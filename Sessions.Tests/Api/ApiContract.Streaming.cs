using Microsoft.AspNetCore.Http;

namespace Sessions.Tests.Api;

public abstract partial class ApiContract
{
    private const string Streamed = """{"query":"tell me","thread_id":"a","agent_type":"model","stream":true}""";

    [Fact]
    public async Task A_streamed_answer_comes_piece_by_piece_and_commits_like_any_other()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var next = new SemaphoreSlim(0);
        model.Reply = (_, _, http) =>
            ChatCompletionsServer.StreamAsync(http, ["Once ", "upon ", "a time"], _ => next.WaitAsync(http.RequestAborted));
        var server = Start([.. model.Agent("model")]);
        await using var reader = await EventReader.OpenAsync(server, Streamed);

        var session = await reader.NextAsync();
        Assert.Equal("text/event-stream", reader.Response.Content.Headers.ContentType?.MediaType);
        Assert.Equal("""{"thread_id":"a","turn":1,"session_created":true}""", session!.Value.Data.ToJsonString());
        List<string> ids = [session.Value.Id];
        foreach (var piece in (string[])["Once ", "upon ", "a time"])
        {
            next.Release();
            var delta = await reader.NextAsync();
            Assert.Equal(("delta", piece), (delta!.Value.Name, (string?)delta.Value.Data["text"]));
            ids.Add(delta.Value.Id);
        }

        var done = await reader.NextAsync();
        Assert.Equal("done", done!.Value.Name);
        Assert.Null(await reader.NextAsync());
        Assert.Equal("Once upon a time", (string?)done.Value.Data["response"]);
        Assert.Equal(18,
            (int)done.Value.Data["metadata"]!["usage"]!["input_tokens"]! + (int)done.Value.Data["metadata"]!["usage"]!["output_tokens"]!);
        AssertKeys(done.Value.Data, "response", "agent_type", "metadata");
        Assert.Equal(5, ids.Append(done.Value.Id).Distinct().Count());
        Assert.Equal("Once upon a time", (string?)(await server.GetAsync("/sessions/a/history")).Json["turns"]![0]!["response"]);
    }

    [Fact]
    public async Task The_builtin_agent_streams_when_the_Accept_header_asks_for_it()
    {
        var server = Start();
        await using var reader = await EventReader.OpenAsync(server, """{"query":"hello"}""", ("Accept", "text/event-stream"));

        var events = await reader.RestAsync();

        Assert.Equal("session", events[0].Name);
        Assert.Equal("done", events[^1].Name);
        var deltas = events[1..^1];
        Assert.True(deltas.Count > 3);
        Assert.Equal((string?)events[^1].Data["response"], string.Concat(deltas.Select(delta => (string)delta.Data["text"]!)));
    }

    [Fact]
    public async Task A_client_that_hangs_up_does_not_lose_the_answer()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var next = new SemaphoreSlim(1);
        model.Reply = (_, _, http) =>
            ChatCompletionsServer.StreamAsync(http, ["Once ", "upon ", "a time"], _ => next.WaitAsync(http.RequestAborted));
        var server = Start([.. model.Agent("model")]);
        string seen;
        await using (var reader = await EventReader.OpenAsync(server, Streamed))
        {
            await reader.NextAsync();
            seen = (await reader.NextAsync())!.Value.Id;
        }

        next.Release(2);
        await using var again = await EventReader.OpenAsync(server, Streamed, ("Last-Event-ID", seen));
        var rest = await again.RestAsync();

        Assert.Equal(["upon ", "a time"], rest[..^1].Select(delta => (string)delta.Data["text"]!));
        Assert.Equal("Once upon a time", (string?)rest[^1].Data["response"]);
        Assert.Equal("Once upon a time",
            (string?)Assert.Single((await server.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray())!["response"]);
        Assert.Single(model.Requests);

        // Not by another user, and not after a minute.
        var foreign = await server.PostAsync("/query", """{"query":"tell me","user_id":"eve","stream":true}""", ("Last-Event-ID", seen));
        foreign.IsProblem(404, "stream_not_found");
        await ServiceProcess.UntilAsync(() => server.Get<StreamedTurns>().Running == 0);
        server.Time.Advance(TimeSpan.FromSeconds(60));
        await PollAsync(() => server.PostAsync("/query", Streamed, ("Last-Event-ID", seen)),
            answer => answer.Status == 404 && answer.Code == "stream_not_found");
        (await server.PostAsync("/query", Streamed, ("Last-Event-ID", "nonsense"))).IsProblem(422, "invalid_request");
        Assert.Single(model.Requests);
    }

    [Fact]
    public async Task A_turn_whose_client_hangs_up_is_cancelled_where_that_is_wanted()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var aborted = new TaskCompletionSource();
        model.Reply = (_, _, http) => ChatCompletionsServer.StreamAsync(http, ["Once ", "upon "], async number =>
        {
            if (number == 1)
            {
                http.RequestAborted.Register(aborted.SetResult);
                await aborted.Task;
                http.RequestAborted.ThrowIfCancellationRequested();
            }
        });
        var server = Start([.. model.Agent("model"), ("streaming:on_disconnect", "cancel")]);
        await using (var reader = await EventReader.OpenAsync(server, Streamed))
        {
            await reader.NextAsync();
            await reader.NextAsync();
        }

        await aborted.Task.WaitAsync(TestContext.Current.CancellationToken);
        Assert.True((bool)(await server.QueryAsync("hello", "a"))["metadata"]!["session_created"]!);
    }

    [Fact]
    public async Task The_same_key_joins_the_stream_and_later_replays_it()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var next = new SemaphoreSlim(1);
        model.Reply = (_, _, http) => ChatCompletionsServer.StreamAsync(http, ["Once ", "upon"], _ => next.WaitAsync(http.RequestAborted));
        var server = Start([.. model.Agent("model")]);
        (string, string) key = ("Idempotency-Key", "key-1");
        await using var first = await EventReader.OpenAsync(server, Streamed, key);
        await first.NextAsync();
        await first.NextAsync();
        await using var second = await EventReader.OpenAsync(server, Streamed, key);
        (await server.PostAsync("/query", Streamed.Replace(",\"stream\":true", "", StringComparison.Ordinal), key))
            .IsProblem(409, "idempotency_in_progress");
        next.Release();

        var all = await second.RestAsync();
        await first.RestAsync();
        Assert.Equal(["session", "delta", "delta", "done"], all.Select(told => told.Name));
        var plain = await server.PostAsync("/query", Streamed.Replace(",\"stream\":true", "", StringComparison.Ordinal), key);
        Assert.Equal(all[^1].Data.ToJsonString(), plain.Json.ToJsonString());
        server.Time.Advance(TimeSpan.FromMinutes(5));
        await using var later = await EventReader.OpenAsync(server, Streamed, key);
        var replay = await later.RestAsync();
        Assert.Equal("Once upon", string.Concat(replay.Where(told => told.Name == "delta").Select(told => (string)told.Data["text"]!)));
        Assert.Equal(plain.Json.ToJsonString(), replay[^1].Data.ToJsonString());
        Assert.Single(model.Requests);
    }

    [Fact]
    public async Task What_goes_wrong_before_the_stream_is_a_plain_answer_and_after_it_an_event()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        model.Reply = async (_, _, http) =>
        {
            await ChatCompletionsServer.StreamAsync(http, ["Once "], _ => Task.CompletedTask);
            http.Abort();
        };
        var server = Start([.. model.Agent("model"), ("agents:gone:provider", "openai"), ("agents:gone:model", "m"),
            ("agents:gone:endpoint", "http://127.0.0.1:1/v1"), ("agents:gone:max_retries", "0")]);
        await server.QueryAsync("hello", "mine", "ada");

        (await server.PostAsync("/query", """{"query":"","stream":true}""")).IsProblem(422, "invalid_request");
        (await server.PostAsync("/query", """{"query":"a","thread_id":"mine","user_id":"eve","stream":true}"""))
            .IsProblem(404, "session_not_found");
        (await server.PostAsync("/query", """{"query":"a","stream":"yes"}""")).IsProblem(422, "invalid_request");

        await using var reader = await EventReader.OpenAsync(server, """{"query":"a","thread_id":"b","agent_type":"gone","stream":true}""");
        var events = await reader.RestAsync();
        Assert.Equal(["session", "error"], events.Select(told => told.Name));
        Assert.Equal("agent_failed", (string?)events[1].Data["code"]);
        Assert.Equal("b", (string?)events[1].Data["thread_id"]);
        Assert.NotNull(events[1].Data["trace_id"]);
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/b")).Json["context"]!["error_count"]!);
    }

    [Fact]
    public async Task A_stream_that_failed_does_not_use_up_its_key()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        model.Reply = (_, before, http) =>
        {
            http.Response.StatusCode = 500;
            return before == 0 ? Task.CompletedTask : ChatCompletionsServer.StreamAsync(SetOk(http), ["now"]);
        };
        var server = Start([.. model.Agent("model")]);
        (string, string) key = ("Idempotency-Key", "key-1");
        await using var first = await EventReader.OpenAsync(server, Streamed, key);
        Assert.Equal(["session", "error"], (await first.RestAsync()).Select(told => told.Name));

        await using var second = await EventReader.OpenAsync(server, Streamed, key);
        Assert.Equal(["session", "delta", "done"], (await second.RestAsync()).Select(told => told.Name));

        static HttpContext SetOk(HttpContext http)
        {
            http.Response.StatusCode = 200;
            return http;
        }
    }

    [Fact]
    public async Task A_client_that_accepts_both_gets_JSON()
    {
        var server = Start();

        Assert.Equal("application/json",
            (await server.PostAsync("/query", """{"query":"hello"}""", ("Accept", "application/json, text/event-stream"))).ContentType);
        Assert.Equal("application/json",
            (await server.PostAsync("/query", """{"query":"hello","stream":false}""", ("Accept", "text/event-stream"))).ContentType);
    }

    [Theory]
    [InlineData("sessions/a")]
    [InlineData("users/ada/sessions")]
    public async Task A_stream_gives_nothing_again_of_what_was_deleted_or_erased(string deleted)
    {
        var server = Start();
        (string, string) key = ("Idempotency-Key", "key-1");
        const string Body = """{"query":"tell me","thread_id":"a","user_id":"ada","stream":true}""";
        await using var reader = await EventReader.OpenAsync(server, Body, key);
        var events = await reader.RestAsync();
        await using (var replay = await EventReader.OpenAsync(server, Body, key))
        {
            Assert.Equal("true", Assert.Single(replay.Response.Headers.GetValues("Idempotency-Replayed")));
            Assert.Equal(events.Select(told => told.Id), (await replay.RestAsync()).Select(told => told.Id));
        }

        Assert.Equal(200, (await server.DeleteAsync("/" + deleted)).Status);

        (await server.PostAsync("/query", Body, ("Last-Event-ID", events[0].Id))).IsProblem(404, "stream_not_found");
        await using var anew = await EventReader.OpenAsync(server, Body, key);
        Assert.False(anew.Response.Headers.Contains("Idempotency-Replayed"));
        Assert.True((bool)(await anew.RestAsync())[^1].Data["metadata"]!["session_created"]!);
    }

    [Theory]
    [InlineData("sessions/first", 404)]
    [InlineData("users/ada/sessions", 200)]
    public async Task A_first_turn_that_is_deleted_or_erased_while_it_is_told_ends_and_is_not_told_again(string deleted, int status)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        model.Reply = (_, _, http) => ChatCompletionsServer.StreamAsync(
            http, ["one ", "two"], number => number == 0 ? Task.CompletedTask : Task.Delay(Timeout.Infinite, http.RequestAborted));
        var server = Start([.. model.Agent("model")]);
        const string Body = """{"query":"tell me","thread_id":"first","user_id":"ada","agent_type":"model","stream":true}""";
        await using var reader = await EventReader.OpenAsync(server, Body);
        Assert.Equal("session", (await reader.NextAsync())!.Value.Name);
        var delta = (await reader.NextAsync())!.Value;

        // The store has nothing of it yet.
        Assert.Equal(status, (await server.DeleteAsync("/" + deleted)).Status);

        Assert.Equal("session_gone", (string?)(await reader.RestAsync())[^1].Data["code"]);
        (await server.PostAsync("/query", Body, ("Last-Event-ID", delta.Id))).IsProblem(404, "stream_not_found");
        (await server.GetAsync("/sessions/first")).IsProblem(404, "session_not_found");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Silence_is_broken_by_comments(bool isResumed)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var next = new SemaphoreSlim(0);
        model.Reply = (_, _, http) => ChatCompletionsServer.StreamAsync(http, ["at last"], _ => next.WaitAsync(http.RequestAborted));
        var server = Start([.. model.Agent("model", timeoutSeconds: 3600)]);
        using var request = new HttpRequestMessage(HttpMethod.Post, "/query")
        {
            Content = new StringContent(Streamed, System.Text.Encoding.UTF8, "application/json"),
        };
        await using var first = isResumed ? await EventReader.OpenAsync(server, Streamed) : null;
        if (first is not null)
        {
            request.Headers.Add("Last-Event-ID", (await first.NextAsync())!.Value.Id);
        }

        // The headers come before anything is told.
        using var response = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken);
        using var lines = new StreamReader(await response.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken));
        var heartbeat = Task.Run(async () =>
        {
            while (await lines.ReadLineAsync(TestContext.Current.CancellationToken) is { } line)
            {
                if (line.StartsWith(':'))
                {
                    return true;
                }
            }

            return false;
        });

        await ServiceProcess.UntilAsync(() =>
        {
            server.Time.Advance(TimeSpan.FromSeconds(1));
            return heartbeat.IsCompleted;
        });

        Assert.True(await heartbeat);
        next.Release();
        Assert.Contains("event: done", await lines.ReadToEndAsync(TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }
}
