namespace Sessions.Tests.Storage;

/// <content>What a caller remembers need not be sent again, and is never taken for what it is not.</content>
public abstract partial class StoreContract
{
    [Fact]
    public async Task A_session_that_is_as_it_is_remembered_is_not_sent_again()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");
        await store.TurnAsync("a", "user");
        var known = RememberedOf((await store.GetAsync("a"))!);

        var opened = await OpenRememberedAsync(store, known);
        Assert.Equal(OpenStatus.Unchanged, opened.Status);
        Assert.Null(opened.Session);
        Assert.Empty(opened.Turns);

        // And a turn can be committed on it.
        var turn = store.NewTurn(opened);
        var result = await store.Store.WriteAsync(opened, new AppendTurn(turn, 1), Cancel);
        Assert.Equal(WriteStatus.Written, result.Status);
        Assert.Equal((3, 2, 1), (result.Turn!.Number, result.Turn.Parent, result.Turn.RunStart));
        var session = (await store.GetAsync("a"))!;
        AssertSame(session with { LastTurn = null }, result.Session! with { LastTurn = null });
        Assert.Equal("user", session.UserId);
        Assert.Equal(3, session.TurnCount);
    }

    [Fact]
    public async Task A_session_that_is_remembered_can_be_changed_and_fail_as_well()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var opened = await OpenRememberedAsync(store, RememberedOf((await store.GetAsync("a"))!), lease: false);
        Assert.Equal(OpenStatus.Unchanged, opened.Status);
        var replaced = await store.ReplaceMetadataAsync(opened, "{}");
        Assert.Equal(WriteStatus.Written, replaced.Status);

        var failing = await OpenRememberedAsync(store,
            RememberedOf(replaced.Session! with { LastTurn = (await store.GetAsync("a"))!.LastTurn }));
        Assert.Equal(OpenStatus.Unchanged, failing.Status);
        var result = await store.Store.WriteAsync(failing, new RecordFailure("why", null), Cancel);
        AssertSame((await store.GetAsync("a"))! with { LastTurn = null }, result.Session! with { LastTurn = null });
        Assert.Equal(1, result.Session!.ErrorCount);

        var stale = await OpenRememberedAsync(store, RememberedOf((await store.GetAsync("a"))!), lease: false);
        Assert.Equal(OpenStatus.Unchanged, stale.Status);
        await store.FailAsync("a");
        Assert.Equal(WriteStatus.Stale, (await store.ReplaceMetadataAsync(stale, "{}")).Status);
    }

    [Fact]
    public async Task Of_a_session_that_went_on_only_what_is_new_is_sent()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        await store.TurnAsync("a");
        var known = RememberedOf((await store.GetAsync("a"))!);
        await store.ReplaceMetadataAsync(await store.ReadAsync("a"), "{}");

        var changed = await OpenRememberedAsync(store, known);
        Assert.Equal(OpenStatus.Opened, changed.Status);
        Assert.True(changed.FollowsRemembered);
        Assert.Empty(changed.Turns);
        AssertSame(await store.GetAsync("a"), changed.Session);
        await store.Store.ReleaseAsync(changed);

        await store.TurnAsync("a");
        await store.TurnAsync("a");
        var longer = await OpenRememberedAsync(store, known);
        Assert.Equal(OpenStatus.Opened, longer.Status);
        Assert.True(longer.FollowsRemembered);
        Assert.Equal([3, 4], longer.Turns.Select(turn => turn.Number));
        Assert.False(longer.IsCut);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(longer)).Status);

        // Not more than was asked for, nor more than fits.
        var few = await OpenRememberedAsync(store, known, history: 2);
        Assert.Equal([4, 5], few.Turns.Select(turn => turn.Number));
        Assert.False(few.FollowsRemembered);
        await store.Store.ReleaseAsync(few);
        var tight = await OpenRememberedAsync(store, known, bytes: 30);
        Assert.Equal([4, 5], tight.Turns.Select(turn => turn.Number));
        Assert.False(tight.FollowsRemembered);
        Assert.True(tight.IsCut);
        await store.Store.ReleaseAsync(tight);
    }

    [Fact]
    public async Task What_is_remembered_wrongly_is_not_gone_on_from()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", query: "first");
        await store.TurnAsync("a", query: "second");
        var known = RememberedOf((await store.GetAsync("a"))!);

        foreach (var wrong in (RememberedTail[])
        [
            known with { Revision = known.Revision with { Tag = known.Revision.Tag + 1 }, LastNonce = TurnNonce.New(2) },
            known with { Revision = known.Revision.Next(), LastTurn = 3, LastNonce = TurnNonce.New(3) },
            known with { Revision = known.Revision.Next(), LastTurn = 1 },
            known with { Revision = known.Revision.Next(), Rewrites = 1 },
            known with { Key = SessionKey.New() },
            known with { Key = SessionKey.New(), Place = 0 },
            known with { Revision = known.Revision.Next(), Place = known.Place + 1, LastTurn = 3 },
        ])
        {
            var opened = await OpenRememberedAsync(store, wrong);
            Assert.Equal(OpenStatus.Opened, opened.Status);
            Assert.False(opened.FollowsRemembered);
            Assert.Equal([1, 2], opened.Turns.Select(turn => turn.Number));
            AssertSame(await store.GetAsync("a"), opened.Session);
            await store.Store.ReleaseAsync(opened);
        }

        // Another state than the one that is remembered, with the same turns.
        var failover = await OpenRememberedAsync(store, known with { Revision = known.Revision with { Tag = known.Revision.Tag + 1 } });
        Assert.Equal(OpenStatus.Opened, failover.Status);
        AssertSame(await store.GetAsync("a"), failover.Session);
        await store.Store.ReleaseAsync(failover);
    }

    [Fact]
    public async Task Nothing_is_remembered_of_a_session_that_was_made_anew_rewritten_or_taken_by_another()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var known = RememberedOf((await store.GetAsync("a"))!);
        var reading = await store.ReadAsync("a", history: 1);
        await store.Store.WriteAsync(reading, new ReplaceTurn(reading.Turns[0] with { Output = Items.None }, false), Cancel);

        var rewritten = await OpenRememberedAsync(store, known);
        Assert.False(rewritten.FollowsRemembered);
        Assert.True(Assert.Single(rewritten.Turns).Output.IsNone);
        await store.Store.ReleaseAsync(rewritten);

        await store.TurnAsync("a", "user");
        Assert.Equal(OpenStatus.NotFound, (await store.Store.OpenAsync(
            new OpenRequest
            {
                Session = SessionRef.ById("a"),
                Owner = Owner.Of("other"),
                HistoryTurns = 1,
                Remembered = RememberedOf((await store.GetAsync("a"))!),
            }, Cancel)).Status);

        await store.DeleteAsync("a");
        var missing = await OpenRememberedAsync(store, known);
        Assert.Equal(OpenStatus.Opened, missing.Status);
        Assert.Null(missing.Session);
        await store.Store.ReleaseAsync(missing);
        await store.TurnAsync("a", query: "other");
        var anew = await OpenRememberedAsync(store, known);
        Assert.False(anew.FollowsRemembered);
        Assert.Equal("other", Assert.Single(anew.Turns).Input.ToString());
        await store.Store.ReleaseAsync(anew);
    }

    [Fact]
    public async Task What_is_remembered_of_another_branch_is_not_gone_on_from()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        await store.TurnAsync("a");
        var known = RememberedOf((await store.GetAsync("a"))!);
        await store.TurnAsync("a", tip: 1);
        await store.TurnAsync("a");

        var opened = await OpenRememberedAsync(store, known);
        Assert.False(opened.FollowsRemembered);
        Assert.Equal([1, 3, 4], opened.Turns.Select(turn => turn.Number));
        await store.Store.ReleaseAsync(opened);

        // A branch in between that the path comes back from.
        await store.TurnAsync("a", tip: 2);
        opened = await OpenRememberedAsync(store, known);
        Assert.Equal(opened.FollowsRemembered ? [5] : [1, 2, 5], opened.Turns.Select(turn => turn.Number));
        await store.Store.ReleaseAsync(opened);
    }

    [Fact]
    public async Task A_session_whose_expiry_moved_at_the_beginning_of_a_turn_is_not_as_it_was()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        await store.TurnAsync("a");
        var known = RememberedOf((await store.GetAsync("a"))!);

        var opened = await store.Store.OpenAsync(
            new OpenRequest
            {
                Session = SessionRef.ById("a"),
                Owner = Owner.Anyone,
                HistoryTurns = 5,
                Remembered = known,
                Lease = TestStore.NewLease(TimeSpan.FromHours(2)),
            }, Cancel);

        Assert.Equal(OpenStatus.Opened, opened.Status);
        Assert.Equal(Start.AddHours(2), opened.Session!.ExpiresAt);
        Assert.Equal(WriteStatus.Written, (await store.Store.WriteAsync(opened, new AppendTurn(store.NewTurn(opened), 1), Cancel)).Status);
    }

    private protected static RememberedTail RememberedOf(Session session) =>
        new(session.Key, session.Revision, session.LastTurn?.Number ?? 0, session.LastTurn?.Nonce ?? default,
            session.Rewrites, session.Place);

    private static ValueTask<OpenedSession> OpenRememberedAsync(
        TestStore store, RememberedTail known, int history = 20, int bytes = int.MaxValue, bool lease = true) => store.Store.OpenAsync(
        new OpenRequest
        {
            Session = SessionRef.ById("a"),
            Owner = Owner.Anyone,
            HistoryTurns = history,
            HistoryBytes = bytes,
            Remembered = known,
            Lease = lease ? TestStore.NewLease() : null,
        }, Cancel);
}
