namespace Sessions.Tests.Storage;

/// <content>Expiry, and clocks that jump.</content>
public abstract partial class StoreContract
{
    [Fact]
    public async Task An_expired_session_is_gone_for_every_operation_before_any_cleanup()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await store.AppendAsync(await store.BeginAsync("a", "user", idempotency: key), "old");
        var byKey = SessionRef.ByKey((await store.GetAsync("a"))!.Key);
        store.Time.Advance(TimeSpan.FromHours(1) - TimeSpan.FromMicroseconds(1));
        Assert.NotNull(await store.GetAsync("a"));
        var changing = await store.ReadAsync("a", history: 1);
        store.Time.Advance(TimeSpan.FromMicroseconds(1));

        Assert.Null(await store.GetAsync("a"));
        Assert.Null(await store.GetAsync(byKey, Owner.Anyone));
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Empty(await store.ListIdsAsync("user", ascending: true));
        Assert.Empty(await store.ListIdsAsync(null));
        Assert.Equal(0, await store.CountAsync());
        Assert.Empty(await store.ExportAsync());
        Assert.Empty(await store.ExportAsync("user"));
        Assert.Null(await store.Store.ReadTurnsAsync(SessionRef.ById("a"), Owner.Anyone, new TurnPageRequest { Limit = 1, MaxBytes = 1 },
            Cancel));
        Assert.Equal(CopyStatus.SourceNotFound, (await store.ForkAsync("a", "b")).Status);
        Assert.Equal(WriteStatus.Gone, (await store.Store.WriteAsync(changing, new ReplaceTurn(changing.Turns[0], false), Cancel)).Status);
        Assert.False(await store.DeleteAsync("a"));
        Assert.Equal(default, await store.Store.EraseAsync("nobody", Cancel));
        var again = await store.BeginAsync("a", "user", idempotency: key);
        Assert.Equal(OpenStatus.Opened, again.Status);
        Assert.Null(again.Session);
        await store.Store.ReleaseAsync(again);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_id_that_expired_last_of_many_starts_afresh_too(bool byTurn)
    {
        const int Many = 20;
        await using var store = await OpenAsync(lifetimeHours: 1);
        for (var i = 0; i < Many; i++)
        {
            store.Time.Advance(TimeSpan.FromSeconds(1));
            await store.CreateAsync($"a{i}", "ada");
        }

        store.Time.Advance(TimeSpan.FromHours(1));
        if (byTurn)
        {
            await store.TurnAsync($"a{Many - 1}", "eve");
        }
        else
        {
            await store.CreateAsync($"a{Many - 1}", "eve");
        }

        Assert.Equal("eve", (await store.GetAsync($"a{Many - 1}"))!.UserId);
        Assert.Equal([$"a{Many - 1}"], await store.ListIdsAsync("eve"));
        Assert.Empty(await store.ListIdsAsync("ada"));
        Assert.Equal(1, await store.CountAsync());
    }

    [Fact]
    public async Task An_expired_id_starts_afresh_for_anyone()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        await store.TurnAsync("a", "first", "old");
        await store.TurnAsync("b", "first", "old");
        store.Time.Advance(TimeSpan.FromHours(1));

        var turn = await store.TurnAsync("a", "second", "new");
        await store.CreateAsync("b", "second");

        Assert.True(turn.StartedSession);
        Assert.Equal("new", Assert.Single(await store.TurnsAsync("a")).Input.ToString());
        Assert.Empty(await store.TurnsAsync("b"));
        Assert.Empty(await store.ListIdsAsync("first"));
        Assert.Equal(2, (await store.ListIdsAsync("second")).Count);
    }

    [Fact]
    public async Task Each_kind_of_session_lives_as_long_as_its_kind_does()
    {
        var policy = new StorePolicy { Lifetime = kind => TimeSpan.FromHours(1 + (int)kind), MaxPerUser = _ => 0 };
        await using var store = await OpenAsync(policy, new(Start));
        foreach (var kind in Enum.GetValues<SessionKind>())
        {
            await store.TurnAsync($"{kind}", "user", kind: kind);
            await store.CreateAsync($"{kind} created", "user", kind: kind);
            Assert.Equal(Start.AddHours(1 + (int)kind), (await store.GetAsync($"{kind}"))!.ExpiresAt);
            Assert.Equal(Start.AddHours(1 + (int)kind), (await store.GetAsync($"{kind} created"))!.ExpiresAt);
        }

        store.Time.Advance(TimeSpan.FromHours(2));
        Assert.Null(await store.GetAsync("Conversation"));
        Assert.NotNull(await store.GetAsync("Chain"));
        Assert.Equal(0, await store.CountAsync());
        store.Time.Advance(TimeSpan.FromHours(1));
        Assert.Null(await store.GetAsync("Chain created"));
    }

    [Fact]
    public async Task Cleanup_removes_what_has_expired_and_nothing_else()
    {
        List<long> expired = [];
        await using var store = await OpenAsync(NewPolicy(0, 1, events: new StoreEvents { Expired = expired.Add }), new(Start));
        for (var i = 0; i < 25; i++)
        {
            await store.TurnAsync($"old{i}", "user");
        }

        await store.TurnAsync("kept", "user");
        store.Time.Advance(TimeSpan.FromMinutes(40));
        await store.TurnAsync("kept", "user");
        await store.TurnAsync("young", "user");
        store.Time.Advance(TimeSpan.FromMinutes(30));

        Assert.Equal(2, await store.CountAsync());
        await store.Store.SweepAsync(Cancel);
        Assert.Equal(0, await store.Store.SweepAsync(Cancel));
        Assert.Equal(25, expired.Sum());
        Assert.Equal(["kept", "young"], (await store.ListIdsAsync("user")).Order());
        Assert.Equal(2, (await store.TurnsAsync("kept")).Count);
    }

    [Fact]
    public async Task Cleanup_tells_how_many_it_removed()
    {
        await using var store = await OpenAsync(maxPerUser: 0, lifetimeHours: 1);
        for (var i = 0; i < 7; i++)
        {
            await store.TurnAsync($"s{i}");
            await store.TurnAsync($"chain{i}", kind: SessionKind.Chain);
        }

        store.Time.Advance(TimeSpan.FromHours(1));

        Assert.Equal(7, await store.Store.SweepAsync(Cancel));
    }

    [Fact]
    public async Task A_clock_that_jumps_forward_ends_sessions_and_breaks_nothing()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");
        await store.CreateAsync("b", "user");
        store.Time.Advance(TimeSpan.FromDays(400));

        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Equal(0, await store.CountAsync());
        await store.TurnAsync("a", "user", "after");
        Assert.Equal([1], (await store.TurnsAsync("a")).Select(turn => turn.Number));
        await store.Store.SweepAsync(Cancel);
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_clock_that_is_set_back_takes_no_activity_back_and_turns_go_on_without_gaps()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");
        var before = (await store.GetAsync("a"))!;
        store.Time.AdjustTime(Start.AddHours(-5));

        await store.TurnAsync("a", "user");
        await store.FailAsync("a", "user");
        var after = (await store.GetAsync("a"))!;

        Assert.Equal(before.LastActivityAt, after.LastActivityAt);
        Assert.Equal(before.ExpiresAt, after.ExpiresAt);
        Assert.True(after.LastActivityAt >= after.CreatedAt);
        Assert.Equal(before.Revision.Version + 2, after.Revision.Version);
        Assert.Equal([1, 2], (await store.TurnsAsync("a")).Select(turn => turn.Number));
        store.Time.AdjustTime(Start.AddHours(1));
        await store.TurnAsync("a", "user");
        Assert.Equal(Start.AddHours(1), (await store.GetAsync("a"))!.LastActivityAt);
        Assert.Equal([1, 2, 3], (await store.TurnsAsync("a")).Select(turn => turn.Number));
    }

    [Fact]
    public async Task A_session_that_is_used_while_the_clock_is_behind_does_not_expire_early()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        await store.TurnAsync("a", "user");
        await store.TurnAsync("nobody's");
        store.Time.AdjustTime(Start.AddHours(-5));
        await store.TurnAsync("a", "user");
        await store.TurnAsync("nobody's");

        // Right again, a minute after all this.
        store.Time.AdjustTime(Start.AddMinutes(1));

        Assert.Equal(0, await store.Store.SweepAsync(Cancel));
        Assert.NotNull(await store.GetAsync("a"));
        Assert.NotNull(await store.GetAsync("nobody's"));
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        Assert.Equal(2, await store.CountAsync());
    }

    [Fact]
    public async Task A_session_that_is_used_while_the_clock_is_ahead_ends_all_the_same()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        await store.TurnAsync("a", "user");
        store.Time.AdjustTime(Start.AddMinutes(50));
        await store.TurnAsync("a", "user");
        store.Time.AdjustTime(Start);

        await store.TurnAsync("a", "user");
        Assert.Equal(Start.AddMinutes(110), (await store.GetAsync("a"))!.ExpiresAt);

        store.Time.AdjustTime(Start.AddMinutes(110));
        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ListIdsAsync("user"));
        await store.Store.SweepAsync(Cancel);
        Assert.Equal(0, await store.CountAsync());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Lists_go_through_every_session_once_while_the_clock_jumps(bool ascending)
    {
        await using var store = await OpenAsync(maxPerUser: 0);
        for (var i = 0; i < 12; i++)
        {
            store.Time.AdjustTime(Start.AddMinutes((i * 37 % 12) - 6));
            await store.TurnAsync($"s{i}", "user");
            await store.TurnAsync($"s{i / 2}", "user");
        }

        foreach (var user in (string?[])["user", null])
        {
            store.Time.AdjustTime(Start);
            List<string> seen = [];
            List<DateTimeOffset> times = [];
            for (var request = new SessionPageRequest { UserId = user, Limit = 2, Ascending = ascending }; ;)
            {
                var page = await store.Store.ListAsync(request, Cancel);
                seen.AddRange(page.Items.Select(session => session.Id));
                times.AddRange(page.Items.Select(session => session.LastActivityAt));
                store.Time.AdjustTime(Start.AddHours(seen.Count % 4 == 0 ? -3 : 1));
                if (page.Next is not { } next)
                {
                    break;
                }

                request = request with { After = next };
            }

            Assert.Equal(Enumerable.Range(0, 12).Select(i => $"s{i}").Order(StringComparer.Ordinal), seen.Order(StringComparer.Ordinal));
            Assert.Equal(ascending ? times.Order() : times.OrderDescending(), times);
        }
    }
}
