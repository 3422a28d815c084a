using System.Diagnostics;

namespace Sessions.Tests.Engine;

/// <summary>One way of waiting for a lease, of keeping it, and of hearing that it is lost.</summary>
public sealed class WaitingTests
{
    private static CancellationToken Cancel => TestLog.Cancel;

    [Fact]
    public async Task Who_waits_asks_again_with_the_same_token_until_it_is_free()
    {
        await using var log = TestLog.Open();
        var busy = 5;
        HashSet<Guid> tokens = [];
        log.Counting.OnOpen = request =>
        {
            tokens.Add(request.Lease!.Token);
            Assert.True(request.Lease.Waits);
            Assert.Equal(TimeSpan.FromMinutes(2), request.Lease.MinLifetime);
            return busy-- > 0 ? new OpenedSession(request, OpenStatus.Busy) : null;
        };

        await using var begun = await log.BeginAsync("a", wait: TimeSpan.FromSeconds(30));

        Assert.Equal(6, log.Counting.Opened.Count);
        Assert.Single(tokens);
        Assert.Equal(0, log.Counting.Released);
    }

    [Fact]
    public async Task Who_does_not_wait_is_refused_at_once()
    {
        await using var log = TestLog.Open();
        log.Counting.OnOpen = request =>
        {
            Assert.False(request.Lease!.Waits);
            return new OpenedSession(request, OpenStatus.Busy);
        };

        var refused = await Assert.ThrowsAsync<DomainException>(async () => await log.BeginAsync("a"));

        Assert.Equal("session_busy", refused.Error.Code);
        Assert.Single(log.Counting.Opened);
    }

    [Fact]
    public async Task Waiting_ends_in_time_and_leaves_no_place_behind()
    {
        await using var log = TestLog.Open();
        log.Counting.OnOpen = request => new OpenedSession(request, OpenStatus.Busy);
        var began = Stopwatch.GetTimestamp();

        var refused = await Assert.ThrowsAsync<DomainException>(
            async () => await log.BeginAsync("a", wait: TimeSpan.FromMilliseconds(120)));

        Assert.Equal("session_busy", refused.Error.Code);
        Assert.True(Stopwatch.GetElapsedTime(began) >= TimeSpan.FromMilliseconds(110));
        Assert.True(log.Counting.Released > 0);
    }

    [Fact]
    public async Task A_client_that_goes_away_leaves_no_place_behind()
    {
        await using var log = TestLog.Open();
        using var gone = new CancellationTokenSource();
        log.Counting.OnOpen = request =>
        {
            if (log.Counting.Opened.Count == 3)
            {
                gone.Cancel();
            }

            return new OpenedSession(request, OpenStatus.Busy);
        };
        var request = new Sessions.Api.Engine.BeginRequest
        {
            Session = SessionRef.ById("a"),
            Owner = Owner.Anyone,
            HistoryTurns = 0,
            HistoryBytes = 1,
            Wait = TimeSpan.FromMinutes(1),
            MinLifetime = TimeSpan.Zero,
        };

        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await log.Log.BeginAsync(request, gone.Token));

        Assert.True(log.Counting.Released > 0);
    }

    [Fact]
    public async Task Who_is_refused_after_it_has_waited_leaves_no_place_behind()
    {
        await using var log = TestLog.Open();
        log.Counting.OnOpen = request =>
            new OpenedSession(request, log.Counting.Opened.Count < 3 ? OpenStatus.Busy : OpenStatus.NotFound);

        var refused = await Assert.ThrowsAsync<DomainException>(async () => await log.BeginAsync("a", wait: TimeSpan.FromSeconds(30)));

        Assert.Equal("session_not_found", refused.Error.Code);
        Assert.Equal(1, log.Counting.Released);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_lease_is_kept_and_what_becomes_of_it_is_told(bool isLost)
    {
        var state = isLost ? LeaseState.Lost : LeaseState.Cancelled;
        await using var log = TestLog.Open();
        log.Counting.HasLeases = true;
        var leased = new Sessions.Api.Engine.SessionLog(log.Counting, new() { Policy = log.Policy, Lease = TimeSpan.FromMilliseconds(60) });
        var renewals = 0;
        log.Counting.OnRenew = () => ++renewals < 3 ? LeaseState.Held : state;
        var begun = await leased.BeginAsync(new()
        {
            Session = SessionRef.ById("a"),
            Owner = Owner.Anyone,
            HistoryTurns = 0,
            HistoryBytes = 1,
            Wait = TimeSpan.Zero,
            MinLifetime = TimeSpan.Zero,
        }, Cancel);

        await WaitAsync(state == LeaseState.Lost ? begun.Lost : begun.Cancelled);
        Assert.False((state == LeaseState.Lost ? begun.Cancelled : begun.Lost).IsCancellationRequested);

        // After the end nobody takes it again.
        await begun.DisposeAsync();
        var after = renewals;
        await begun.DisposeAsync();
        Assert.Equal(1, log.Counting.Released);
        Assert.Equal(after, renewals);
    }

    [Fact]
    public async Task A_turn_whose_session_is_removed_here_is_lost_at_once()
    {
        await using var log = TestLog.Open();
        await log.TurnAsync("a");
        await using var begun = await log.BeginAsync("a");
        await log.Log.DeleteAsync(SessionRef.ById("a"), Owner.Anyone, Cancel);

        await WaitAsync(begun.Lost);
        Assert.Equal("session_gone", (await Assert.ThrowsAsync<DomainException>(
            async () => await log.Log.CommitAsync(begun, TestLog.NewTurn(TestLog.Text("q"), TestLog.Text("r")), null, Cancel))).Error.Code);
    }

    [Fact]
    public async Task A_turn_that_another_was_faster_than_is_to_be_run_again()
    {
        await using var log = TestLog.Open();
        await using var other = TestLog.Open(on: log);
        await using var begun = await log.BeginAsync("a");
        await other.TurnAsync("a");

        Assert.Null(await log.Log.CommitAsync(begun, TestLog.NewTurn(TestLog.Text("q"), TestLog.Text("r")), null, Cancel));
    }

    private static async Task WaitAsync(CancellationToken token)
    {
        var told = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var registration = token.Register(told.SetResult);
        await told.Task.WaitAsync(TimeSpan.FromSeconds(60), Cancel);
    }
}
