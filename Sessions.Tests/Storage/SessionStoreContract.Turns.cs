using Sessions.Api;

namespace Sessions.Tests.Storage;

public abstract partial class SessionStoreContract
{
    [Fact]
    public async Task A_turn_on_no_session_creates_it_when_it_commits_and_not_before()
    {
        await using var store = await OpenAsync();

        var start = await store.BeginAsync("a", "user");
        Assert.Null(start.Session);
        Assert.Empty(start.History);
        Assert.Null(await store.GetAsync("a"));
        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(start, "hello", "hi"));

        var session = (await store.GetAsync("a"))!;
        Assert.Equal("user", session.UserId);
        Assert.Equal(SessionOrigin.Query, session.CreatedFrom);
        Assert.Equal(1, session.TurnCount);
        Assert.Equal(1, session.Version);
        Assert.Equal("hello", session.LastTurn!.Query);
        Assert.True(session.LastTurn.StartedSession);
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task An_abandoned_turn_leaves_no_trace()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("old", "user");
        var before = await store.GetAsync("old");

        await store.Store.AbandonTurnAsync(await store.BeginAsync("new", "user"), Cancel);
        await store.Store.AbandonTurnAsync(await store.BeginAsync("old", "user"), Cancel);

        Assert.Null(await store.GetAsync("new"));
        AssertSame(before, await store.GetAsync("old"));
        await store.TurnAsync("old", "user");
    }

    [Fact]
    public async Task Turns_keep_everything_they_were_committed_with()
    {
        await using var store = await OpenAsync();
        var start = await store.BeginAsync("a");
        var turn = store.NewTurn(start, "q", "r") with
        {
            AgentType = "support",
            AgentUsed = "openai/gpt-5-mini",
            ExecutionTime = TimeSpan.FromMicroseconds(1234567),
            InputTokens = 12,
            OutputTokens = 0,
        };
        Assert.Equal(CommitStatus.Committed, await store.Store.CommitTurnAsync(start, turn, null, Cancel));
        await store.Store.AbandonTurnAsync(start, Cancel);

        Assert.Equal(turn, Assert.Single(await store.HistoryAsync("a")));
        Assert.Equal(turn, (await store.GetAsync("a"))!.LastTurn);
        var next = await store.BeginAsync("a");
        Assert.Equal(turn, Assert.Single(next.History));
        await store.Store.AbandonTurnAsync(next, Cancel);
    }

    [Theory]
    [InlineData(0, new int[0])]
    [InlineData(1, new[] { 5 })]
    [InlineData(3, new[] { 3, 4, 5 })]
    [InlineData(100, new[] { 1, 2, 3, 4, 5 })]
    public async Task A_turn_starts_with_as_many_of_the_last_turns_as_were_asked_for(int wanted, int[] numbers)
    {
        await using var store = await OpenAsync();
        for (var i = 1; i <= 5; i++)
        {
            await store.TurnAsync("a", query: $"q{i}");
        }

        var start = await store.BeginAsync("a", history: wanted);

        Assert.Equal(numbers, start.History.Select(turn => turn.Number));
        Assert.Equal(numbers.Select(number => $"q{number}"), start.History.Select(turn => turn.Query.ToString()));
        Assert.Equal(5, start.Session!.TurnCount);
        await store.Store.AbandonTurnAsync(start, Cancel);
    }

    [Fact]
    public async Task A_commit_moves_version_activity_and_expiry()
    {
        await using var store = await OpenAsync(timeoutHours: 2);
        await store.TurnAsync("a");
        store.Time.Advance(TimeSpan.FromHours(1));
        await store.TurnAsync("a");

        var session = (await store.GetAsync("a"))!;
        Assert.Equal(2, session.Version);
        Assert.Equal(Start, session.CreatedAt);
        Assert.Equal(Start.AddHours(1), session.LastActivityAt);
        Assert.Equal(Start.AddHours(3), session.ExpiresAt);
    }

    [Fact]
    public async Task A_summary_is_committed_with_a_turn_and_stays_until_the_next()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");
        Assert.Null((await store.GetAsync("a"))!.Summary);

        await store.CommitAsync(await store.BeginAsync("a", "user"), summary: new Summary("what was said: שלום", 1));
        await store.TurnAsync("a", "user");
        Assert.Equal(new Summary("what was said: שלום", 1), (await store.GetAsync("a"))!.Summary);
        await store.CommitAsync(await store.BeginAsync("a", "user"), summary: new Summary("more", 3));

        var start = await store.BeginAsync("a", "user");
        Assert.Equal(new Summary("more", 3), start.Session!.Summary);
        await store.Store.AbandonTurnAsync(start, Cancel);
        Assert.Equal(new Summary("more", 3), (await store.Store.ForkAsync("a", Owner.Anyone, 3, TestStore.New("b"), Cancel)).Session!.Summary);
        Assert.Null((await store.Store.ForkAsync("a", Owner.Anyone, 2, TestStore.New("c"), Cancel)).Session!.Summary);
    }

    [Fact]
    public async Task The_first_user_binds_an_unbound_session()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        Assert.Null((await store.GetAsync("a"))!.UserId);

        await store.TurnAsync("a", "user");

        Assert.Equal("user", (await store.GetAsync("a"))!.UserId);
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        Assert.Equal(TurnStartStatus.NotFound, (await store.BeginAsync("a", "other")).Status);
        await store.TurnAsync("a");
        Assert.Equal("user", (await store.GetAsync("a"))!.UserId);
    }

    [Fact]
    public async Task A_failed_turn_is_counted_and_recorded_and_not_in_the_history()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user", "good");
        store.Time.Advance(TimeSpan.FromHours(1));

        await store.FailAsync("a", "user", "first");
        await store.FailAsync("a", "user", "second");

        var session = (await store.GetAsync("a"))!;
        Assert.Equal(2, session.ErrorCount);
        Assert.Equal("second", session.LastError);
        Assert.Equal(1, session.TurnCount);
        Assert.Equal("good", session.LastTurn!.Query);
        Assert.Equal(3, session.Version);
        Assert.Equal(Start.AddHours(25), session.ExpiresAt);
        Assert.Single(await store.HistoryAsync("a"));
        await store.TurnAsync("a", "user");
        Assert.Equal(2, (await store.GetAsync("a"))!.TurnCount);
    }

    [Fact]
    public async Task A_failed_turn_on_no_session_creates_it_empty()
    {
        await using var store = await OpenAsync();

        await store.FailAsync("a", "user", "why");

        var session = (await store.GetAsync("a"))!;
        Assert.Equal("user", session.UserId);
        Assert.Equal(0, session.TurnCount);
        Assert.Equal(1, session.ErrorCount);
        Assert.Equal("why", session.LastError);
        Assert.Equal(1, session.Version);
        var next = await store.TurnAsync("a", "user");
        Assert.NotNull(next.Session);
    }

    [Fact]
    public async Task A_failed_turn_never_costs_the_user_another_session()
    {
        await using var store = await OpenAsync(maxPerUser: 1);
        await store.TurnAsync("a", "user");

        await store.FailAsync("b", "user");

        Assert.Null(await store.GetAsync("b"));
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task Of_two_turns_on_the_same_history_the_second_is_stale()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var session = await store.GetAsync("a");
        var late = new TurnRequest { SessionId = "a", Owner = Owner.Anyone, HistoryTurns = 1, Wait = TimeSpan.Zero };

        var first = await store.Store.BeginTurnAsync(late, Cancel);
        var second = await store.Store.BeginTurnAsync(late, Cancel);
        Assert.SkipWhen(second.Status == TurnStartStatus.Busy, "This store lets only one turn begin at a time.");
        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(first, "first"));
        Assert.Equal(CommitStatus.Stale, await store.CommitAsync(second, "second"));

        Assert.Equal(session!.TurnCount + 1, (await store.GetAsync("a"))!.TurnCount);
        Assert.Equal("first", (await store.GetAsync("a"))!.LastTurn!.Query);
    }

    [Fact]
    public async Task Of_two_turns_that_would_create_a_session_the_second_is_stale()
    {
        await using var store = await OpenAsync();
        var request = new TurnRequest { SessionId = "a", Owner = Owner.Anyone, HistoryTurns = 1, Wait = TimeSpan.Zero };

        var first = await store.Store.BeginTurnAsync(request, Cancel);
        var second = await store.Store.BeginTurnAsync(request, Cancel);
        Assert.SkipWhen(second.Status == TurnStartStatus.Busy, "This store lets only one turn begin at a time.");
        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(first, "first"));
        Assert.Equal(CommitStatus.Stale, await store.CommitAsync(second, "second"));

        Assert.Single(await store.HistoryAsync("a"));
    }

    [Fact]
    public async Task Changing_metadata_during_a_turn_does_not_stop_it()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var start = await store.BeginAsync("a");
        Assert.True((await store.Store.ReplaceMetadataAsync("a", Owner.Anyone, 1, "{\"k\":1}"u8.ToArray(), Cancel)).Replaced);

        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(start));

        var session = (await store.GetAsync("a"))!;
        Assert.Equal(3, session.Version);
        Assert.Equal("{\"k\":1}", System.Text.Encoding.UTF8.GetString(session.Metadata.Span));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_session_deleted_during_a_turn_stays_deleted(bool recreated)
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", query: "old");
        var start = await store.BeginAsync("a");
        await store.Store.DeleteAsync("a", Owner.Anyone, Cancel);
        if (recreated)
        {
            await store.CreateAsync("a", "new");
        }

        Assert.Equal(CommitStatus.Gone, await store.CommitAsync(start, "late"));

        Assert.Equal(recreated, await store.GetAsync("a") is { TurnCount: 0, UserId: "new" });
        Assert.Equal(!recreated, await store.GetAsync("a") is null);
        var failing = await store.BeginAsync("a");
        await store.Store.DeleteAsync("a", Owner.Anyone, Cancel);
        if (recreated)
        {
            await store.Store.FailTurnAsync(failing, "late", Cancel);
            Assert.Null(await store.GetAsync("a"));
        }

        await store.Store.AbandonTurnAsync(failing, Cancel);
    }

    [Fact]
    public async Task A_session_that_expires_during_a_turn_may_still_be_committed_to()
    {
        await using var store = await OpenAsync(timeoutHours: 1);
        await store.TurnAsync("a");
        var start = await store.BeginAsync("a");
        store.Time.Advance(TimeSpan.FromHours(2));
        Assert.Null(await store.GetAsync("a"));

        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(start));

        Assert.Equal(2, (await store.GetAsync("a"))!.TurnCount);
    }

    [Fact]
    public async Task A_request_with_a_key_is_answered_once()
    {
        await using var store = await OpenAsync();
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(await store.BeginAsync("a", "user", idempotency: key), "keyed"));
        await store.TurnAsync("a", "user", "another");

        var again = await store.BeginAsync("a", "user", idempotency: key);
        var changed = await store.BeginAsync("a", "user", idempotency: key with { Body = Guid.NewGuid() });
        var elsewhere = await store.BeginAsync("b", "user", idempotency: key);

        Assert.Equal(TurnStartStatus.Replayed, again.Status);
        Assert.Equal(1, again.Replay!.Number);
        Assert.Equal("keyed", again.Replay.Query);
        Assert.Equal(2, again.Session!.TurnCount);
        Assert.Equal(TurnStartStatus.KeyReused, changed.Status);
        Assert.Equal(TurnStartStatus.Started, elsewhere.Status);
        Assert.Equal(TurnStartStatus.NotFound, (await store.BeginAsync("a", "other", idempotency: key)).Status);
        await store.Store.AbandonTurnAsync(elsewhere, Cancel);
        Assert.Equal(2, (await store.GetAsync("a"))!.TurnCount);
    }

    [Fact]
    public async Task A_failed_turn_does_not_use_up_its_key()
    {
        await using var store = await OpenAsync();
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        var failing = await store.BeginAsync("a", idempotency: key);
        await store.Store.FailTurnAsync(failing, "error", Cancel);
        await store.Store.AbandonTurnAsync(failing, Cancel);

        var again = await store.BeginAsync("a", idempotency: key);

        Assert.Equal(TurnStartStatus.Started, again.Status);
        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(again));
    }

    [Fact]
    public async Task Keys_end_with_their_session()
    {
        await using var store = await OpenAsync(timeoutHours: 1);
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await store.CommitAsync(await store.BeginAsync("a", idempotency: key));
        store.Time.Advance(TimeSpan.FromHours(2));

        var again = await store.BeginAsync("a", idempotency: key);

        Assert.Equal(TurnStartStatus.Started, again.Status);
        Assert.Null(again.Session);
        await store.Store.AbandonTurnAsync(again, Cancel);
    }

    [Fact]
    public async Task A_reserved_session_id_stays_the_same_for_the_same_request()
    {
        await using var store = await OpenAsync(timeoutHours: 1);
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());

        Assert.Equal(new KeyReservation("a", SameBody: true, IsNew: true), await store.Store.ReserveSessionIdAsync(key, Owner.Anyone, "a", Cancel));
        Assert.Equal(new KeyReservation("a", SameBody: true, IsNew: false), await store.Store.ReserveSessionIdAsync(key, Owner.Anyone, "b", Cancel));
        Assert.False((await store.Store.ReserveSessionIdAsync(key with { Body = Guid.NewGuid() }, Owner.Anyone, "b", Cancel)).SameBody);
        Assert.Equal("b", (await store.Store.ReserveSessionIdAsync(key with { Key = Guid.NewGuid() }, Owner.Anyone, "b", Cancel)).SessionId);

        // Nothing came of it: it ends like an idle session.
        store.Time.Advance(TimeSpan.FromHours(2));
        Assert.Equal(new KeyReservation("c", SameBody: true, IsNew: true), await store.Store.ReserveSessionIdAsync(key, Owner.Anyone, "c", Cancel));
    }

    [Fact]
    public async Task A_reservation_lasts_as_long_as_its_session()
    {
        await using var store = await OpenAsync(timeoutHours: 1);
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await store.Store.ReserveSessionIdAsync(key, Owner.Anyone, "a", Cancel);
        await store.CommitAsync(await store.BeginAsync("a", idempotency: key, reservedBy: key.Key));
        for (var i = 0; i < 4; i++)
        {
            store.Time.Advance(TimeSpan.FromMinutes(40));
            await store.TurnAsync("a");
            await store.Store.RemoveExpiredAsync(Cancel);
            Assert.Equal("a", (await store.Store.ReserveSessionIdAsync(key, Owner.Anyone, "x", Cancel)).SessionId);
        }

        await store.Store.DeleteAsync("a", Owner.Anyone, Cancel);
        Assert.Equal("y", (await store.Store.ReserveSessionIdAsync(key, Owner.Anyone, "y", Cancel)).SessionId);
    }

    [Fact]
    public async Task Concurrent_turns_on_one_session_leave_no_gap_and_no_double()
    {
        await using var store = await OpenAsync();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(client => Task.Run(async () =>
        {
            for (var i = 0; i < 10;)
            {
                var start = await store.Store.BeginTurnAsync(
                    new TurnRequest { SessionId = "a", Owner = Owner.Anyone, HistoryTurns = 1, Wait = TimeSpan.FromSeconds(30) }, Cancel);
                if (start.Status == TurnStartStatus.Started && await store.CommitAsync(start, $"{client}-{i}") == CommitStatus.Committed)
                {
                    i++;
                }
            }
        }, Cancel)));

        var history = await store.HistoryAsync("a");
        Assert.Equal(Enumerable.Range(1, 80), history.Select(turn => turn.Number));
        Assert.Equal(80, history.Select(turn => turn.Query).Distinct().Count());
    }
}
