
namespace Sessions.Tests.Api;

/// <summary>Past what the server can take it answers at once, and keeps nothing.</summary>
public sealed class OverloadTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task More_requests_than_allowed_are_refused_at_once_and_health_still_answers()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var release = new TaskCompletionSource();
        var started = new SemaphoreSlim(0);
        model.Reply = async (_, _, http) =>
        {
            started.Release();
            await release.Task.WaitAsync(Cancel);
            await ChatCompletionsServer.AnswerAsync(http, "done");
        };
        await using var server = SessionsServer.Start([.. model.Agent("model"), ("limits:concurrent_requests", "2")]);
        var running = Enumerable.Range(0, 2).Select(i => server.TryQueryAsync("hello", $"s{i}", agent: "model")).ToList();
        await started.WaitAsync(Cancel);
        await started.WaitAsync(Cancel);

        for (var i = 0; i < 50; i++)
        {
            var refused = (await server.TryQueryAsync("hello")).IsProblem(503, "overloaded");
            Assert.Equal("1", refused.Headers["Retry-After"]);
        }

        Assert.Equal(200, (await server.GetAsync("/health")).Status);
        Assert.Equal(200, (await server.GetAsync("/alive")).Status);
        release.SetResult();
        Assert.All(await Task.WhenAll(running), answer => Assert.Equal(200, answer.Status));

        // An answer is there before its request is counted no more.
        await ServiceProcess.UntilAsync(() => server.Get<Admission>().Requests == 0);
        Assert.Equal(200, (await server.TryQueryAsync("hello")).Status);
        await ServiceProcess.UntilAsync(() => server.Get<Admission>().Requests == 0);
    }

    [Fact]
    public async Task Streamed_turns_whose_clients_have_gone_are_bounded_as_well()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var release = new TaskCompletionSource();
        model.Reply = async (_, _, http) => await ChatCompletionsServer.StreamAsync(http, ["done"], _ => release.Task.WaitAsync(Cancel));
        await using var server = SessionsServer.Start([.. model.Agent("model"), ("limits:concurrent_requests", "2")]);
        for (var i = 0; i < 2; i++)
        {
            await using var reader = await EventReader.OpenAsync(server,
                $$"""{"query":"hello","thread_id":"s{{i}}","agent_type":"model","stream":true}""");
            Assert.Equal("session", (await reader.NextAsync())!.Value.Name);
        }

        await ServiceProcess.UntilAsync(() => server.Get<Admission>().Requests == 0);
        Assert.Equal(2, server.Get<StreamedTurns>().Running);
        (string, string) key = ("Idempotency-Key", "key-1");
        (await server.PostAsync("/query", """{"query":"hello","stream":true}""", key)).IsProblem(503, "overloaded");

        release.SetResult();
        await ServiceProcess.UntilAsync(() => server.Get<StreamedTurns>().Running == 0);
        Assert.Equal(200, (await server.PostAsync("/query", """{"query":"hello","stream":true}""", key)).Status);
    }

    [Fact]
    public async Task Streams_that_can_be_picked_up_again_take_a_bounded_amount_of_memory()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var text = new string('x', 900_000);
        model.Reply = (_, _, http) => ChatCompletionsServer.StreamAsync(http, [text]);
        await using var server = SessionsServer.Start([.. model.Agent("model"), ("sessions:max_sessions_per_user", "1")]);
        string? first = null, last = null;
        const string Body = """{"query":"hello","user_id":"ada","agent_type":"model","stream":true}""";
        for (var i = 0; i < 45; i++)
        {
            await using var reader = await EventReader.OpenAsync(server, Body);
            var events = await reader.RestAsync();
            Assert.Equal("done", events[^1].Name);
            (first, last) = (first ?? events[0].Id, events[0].Id);
        }

        await ServiceProcess.UntilAsync(() => server.Get<StreamedTurns>().Running == 0);
        Assert.InRange(server.Get<StreamedTurns>().KeptBytes, 32 << 20, 64 << 20);
        (await server.PostAsync("/query", Body, ("Last-Event-ID", first!))).IsProblem(404, "stream_not_found");
        Assert.Equal(200, (await server.PostAsync("/query", Body, ("Last-Event-ID", last!))).Status);
    }
}
