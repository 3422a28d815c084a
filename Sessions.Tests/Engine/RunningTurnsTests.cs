using System.Buffers;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Engine;

/// <summary>Which turns run, and what becomes of their streams when they have ended.</summary>
public sealed class RunningTurnsTests
{
    private static readonly Owner Ada = Owner.Of("ada");

    [Fact]
    public void A_turn_that_has_ended_runs_no_longer()
    {
        var running = new RunningTurns();
        var first = running.Add("a", Ada);
        first.HasBegun = true;
        using (running.Add("a", Owner.Of("bob")))
        {
            Assert.True(running.Stop("a", Ada));
        }

        first.Dispose();
        first.Dispose();

        Assert.False(running.IsRunning("a"));
        Assert.False(running.Stop("a", Owner.Anyone));
    }

    [Fact]
    public void A_turn_that_waits_for_another_replicas_is_there_and_is_not_asked_to_stop()
    {
        var running = new RunningTurns();
        using var waiting = running.Add("a", Ada);

        Assert.True(running.IsRunning("a"));
        Assert.Equal(1, running.Count);
        Assert.False(running.Stop("a", Owner.Anyone));
        Assert.False(waiting.Stopped.IsCancellationRequested);
    }

    [Fact]
    public async Task A_user_who_stops_a_first_turn_stops_no_other_users_first_turn_of_that_id()
    {
        var (ada, bob) = (ApiKeys.NewKey(), ApiKeys.NewKey());
        await using var model = await ScriptedModel.StartAsync();
        await using var server = SessionsServer.Start(
            [
                .. model.Agent("model"), ("auth:mode", "api_key"),
                .. AuthTests.Setting("ada", ada, "user", "ada"), .. AuthTests.Setting("bob", bob, "user", "bob"),
            ]);
        var (adas, bobs) = (HoldAsync(ada), HoldAsync(bob));
        await ServiceProcess.UntilAsync(() => model.Requests.Count == 2);

        Assert.Equal(202, (await server.PostAsync("/sessions/first/cancel", null, AuthTests.Key(ada))).Status);
        (await adas).IsProblem(409, "turn_cancelled");
        model.LetGo();

        var answered = await bobs;
        Assert.True(answered.Status == 200, answered.Text);
        Assert.Equal("It begins", (string?)answered.Json["response"]);

        Task<Answer> HoldAsync(string key) =>
            server.PostAsync("/query", new { query = "hold", thread_id = "first", agent_type = "model" }, AuthTests.Key(key));
    }

    [Fact]
    public void A_session_that_is_only_gone_on_from_is_kept_and_is_not_one_that_a_turn_runs_on()
    {
        var running = new RunningTurns();
        using var own = running.Add("branch", Ada);
        using (running.Add("source", Ada, isSource: true))
        {
            Assert.Equal((1, true), (running.Count, running.IsRunning("source")));
            Assert.False(running.Stop("source", Ada));
        }

        Assert.False(running.IsRunning("source"));
    }

    [Fact]
    public void A_piece_that_comes_after_the_end_keeps_no_reader_waiting()
    {
        using var host = SessionsServer.Start([]);
        using var turn = NewFailedTurn(host);
        turn.On(new TextDelta(0, 0, "late"));

        Assert.IsType<TurnBegun>(turn.Read(0, out _));
        Assert.IsType<TurnFailed>(turn.Read(1, out _));
        Assert.Null(turn.Read(2, out var ended));
        Assert.True(ended);
    }

    [Fact]
    public async Task What_one_stream_could_not_send_is_not_what_the_next_one_begins_with()
    {
        await using var host = SessionsServer.Start([]);
        using var turn = NewFailedTurn(host);

        // What there is is sent on the caller's thread.
        await Assert.ThrowsAsync<FormatException>(() => StreamAsync("theirs", fails: true, new MemoryStream()));
        using var sent = new MemoryStream();
        await StreamAsync("mine", fails: false, sent);

        Assert.Equal("minemine", System.Text.Encoding.UTF8.GetString(sent.ToArray()));

        Task StreamAsync(string text, bool fails, Stream body)
        {
            var context = new DefaultHttpContext { RequestServices = host.Services };
            context.Response.Body = body;
            var streaming = new TurnEventStream(turn, 0, new Formatter(text, fails), host.Get<StreamedTurns>()).ExecuteAsync(context);
            Assert.True(streaming.IsCompleted);
            return streaming;
        }
    }

    [Fact]
    public void A_reader_waits_for_more_for_its_heartbeat_and_not_when_its_client_has_gone()
    {
        var time = new FakeTimeProvider();
        var reader = new StreamedTurnReader(time);
        var silence = TimeSpan.FromSeconds(15);

        reader.Wake();
        Assert.True(reader.WaitAsync().AsTask() is { IsCompletedSuccessfully: true, Result: true });

        var waiting = reader.WaitAsync().AsTask();
        time.Advance(silence / 2);
        reader.WakeAfter(silence);
        Assert.False(waiting.IsCompleted);
        time.Advance(silence / 2);
        reader.WakeAfter(silence);
        Assert.True(waiting is { IsCompletedSuccessfully: true, Result: false });

        // One that does not wait has nothing to say.
        reader.WakeAfter(TimeSpan.Zero);
        waiting = reader.WaitAsync().AsTask();
        Assert.False(waiting.IsCompleted);

        reader.Leave();
        Assert.True(waiting.IsCanceled);
        Assert.True(reader.WaitAsync().AsTask().IsCanceled);
    }

    private sealed class Formatter(string text, bool fails) : ITurnEventFormatter
    {
        public void Write(IBufferWriter<byte> writer, int number, TurnEvent happened)
        {
            writer.Write(System.Text.Encoding.UTF8.GetBytes(text));
            if (fails)
            {
                throw new FormatException();
            }
        }

        public IResult Refuse(Error error) => Results.Empty;
    }

    private static StreamedTurn NewFailedTurn(SessionsServer host)
    {
        var turn = new StreamedTurn(new TurnCommand
        {
            Owner = Ada,
            Input = Items.OfText("hello"),
            Agent = host.Get<AgentCatalog>().Get(null),
            Options = AnswerOptions.None,
        });
        turn.On(new TurnBegun("a", Guid.NewGuid(), default, 1, SessionCreated: true, DateTimeOffset.UnixEpoch));
        turn.Fail(new TurnFailed(new Error("agent_failed", "It was cut off.")));
        return turn;
    }
}
