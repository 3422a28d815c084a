using Sessions.Api;

namespace Sessions.Tests.Storage;

public abstract partial class SessionStoreContract
{
    [Fact]
    public async Task An_expired_session_is_gone_for_every_operation_before_any_cleanup()
    {
        await using var store = await OpenAsync(timeoutHours: 1);
        await store.TurnAsync("a", "user", "old");
        var almost = TimeSpan.FromHours(1) - TimeSpan.FromMicroseconds(1);
        store.Time.Advance(almost);
        Assert.NotNull(await store.GetAsync("a"));
        store.Time.Advance(TimeSpan.FromMicroseconds(1));

        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Empty(await store.ListIdsAsync("user", ascending: true));
        Assert.Equal(0, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
        Assert.Null(await store.Store.ReadHistoryAsync("a", Owner.Anyone, new TurnPageRequest(1, null, false), Cancel));
        Assert.Equal(ForkStatus.SourceNotFound, (await store.Store.ForkAsync("a", Owner.Anyone, null, TestStore.New("b"), Cancel)).Status);
        Assert.Null((await store.Store.ReplaceMetadataAsync("a", Owner.Anyone, 1, default, Cancel)).Session);
        Assert.False(await store.Store.DeleteAsync("a", Owner.Anyone, Cancel));
        Assert.Equal(default, await store.Store.EraseUserAsync("nobody", Cancel));
    }

    [Fact]
    public async Task An_expired_id_starts_afresh_for_anyone()
    {
        await using var store = await OpenAsync(timeoutHours: 1);
        await store.TurnAsync("a", "first", "old");
        await store.TurnAsync("b", "first", "old");
        store.Time.Advance(TimeSpan.FromHours(1));

        var start = await store.TurnAsync("a", "second", "new");
        await store.CreateAsync("b", "second");

        Assert.Null(start.Session);
        Assert.Equal("new", Assert.Single(await store.HistoryAsync("a")).Query);
        Assert.Empty(await store.HistoryAsync("b"));
        Assert.Empty(await store.ListIdsAsync("first"));
        Assert.Equal(2, (await store.ListIdsAsync("second")).Count);
    }

    [Fact]
    public async Task Cleanup_removes_what_has_expired_and_nothing_else()
    {
        await using var store = await OpenAsync(maxPerUser: 0, timeoutHours: 1);
        for (var i = 0; i < 25; i++)
        {
            await store.TurnAsync($"old{i}", "user");
        }

        await store.TurnAsync("kept", "user");
        store.Time.Advance(TimeSpan.FromMinutes(40));
        await store.TurnAsync("kept", "user");
        await store.TurnAsync("young", "user");
        store.Time.Advance(TimeSpan.FromMinutes(30));

        Assert.Equal(2, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
        await store.Store.RemoveExpiredAsync(Cancel);
        Assert.Equal(0, await store.Store.RemoveExpiredAsync(Cancel));
        Assert.Equal(["kept", "young"], (await store.ListIdsAsync("user")).Order());
        Assert.Equal(2, (await store.HistoryAsync("kept")).Count);
    }

    [Fact]
    public async Task Cleanup_tells_how_many_it_removed()
    {
        await using var store = await OpenAsync(maxPerUser: 0, timeoutHours: 1);
        for (var i = 0; i < 7; i++)
        {
            await store.TurnAsync($"s{i}");
        }

        store.Time.Advance(TimeSpan.FromHours(1));

        Assert.Equal(7, await store.Store.RemoveExpiredAsync(Cancel));
    }

    [Fact]
    public async Task One_session_more_than_the_limit_removes_the_least_recently_active_one()
    {
        await using var store = await OpenAsync(maxPerUser: 3);
        foreach (var id in (string[])["a", "b", "c"])
        {
            await store.TurnAsync(id, "user");
            store.Time.Advance(TimeSpan.FromMinutes(1));
        }

        await store.TurnAsync("a", "user");
        store.Time.Advance(TimeSpan.FromMinutes(1));
        await store.CreateAsync("d", "user");
        Assert.Equal(["d", "a", "c"], await store.ListIdsAsync("user"));
        Assert.Null(await store.GetAsync("b"));
        store.Time.Advance(TimeSpan.FromMinutes(1));

        await store.TurnAsync("e", "user");
        Assert.Equal(["e", "d", "a"], await store.ListIdsAsync("user"));
        store.Time.Advance(TimeSpan.FromMinutes(1));

        // Claiming gives the user one more as well.
        await store.CreateAsync("f");
        await store.TurnAsync("f", "user");
        Assert.Equal(["f", "e", "d"], await store.ListIdsAsync("user"));
        store.Time.Advance(TimeSpan.FromMinutes(1));

        // And so does a fork, be it of the very session that has to go.
        Assert.Equal(ForkStatus.Created, (await store.Store.ForkAsync("d", Owner.Anyone, null, TestStore.New("g", "user"), Cancel)).Status);
        Assert.Equal(["g", "f", "e"], await store.ListIdsAsync("user"));
        Assert.Equal(3, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
    }

    [Fact]
    public async Task Expired_sessions_do_not_count_for_the_limit()
    {
        await using var store = await OpenAsync(maxPerUser: 2, timeoutHours: 1);
        await store.TurnAsync("a", "user");
        store.Time.Advance(TimeSpan.FromMinutes(50));
        await store.TurnAsync("b", "user");
        store.Time.Advance(TimeSpan.FromMinutes(20));

        await store.TurnAsync("c", "user");

        Assert.Equal(["c", "b"], await store.ListIdsAsync("user"));
        await store.FailAsync("d", "user");
        Assert.Equal(["c", "b"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task The_limit_holds_under_concurrency()
    {
        await using var store = await OpenAsync(maxPerUser: 5);
        await Task.WhenAll(Enumerable.Range(0, 64).Select(i => Task.Run(async () =>
        {
            if (i % 2 == 0)
            {
                await store.CreateAsync($"s{i}", "user");
            }
            else
            {
                await store.TurnAsync($"s{i}", "user");
            }

            Assert.InRange((await store.ListIdsAsync("user")).Count, 1, 5);
        }, Cancel)));

        Assert.Equal(5, (await store.ListIdsAsync("user")).Count);
        Assert.Equal(5, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
    }

    [Fact]
    public async Task Lists_are_in_order_of_activity_and_paged_without_gap_or_double()
    {
        await using var store = await OpenAsync(maxPerUser: 0);
        for (var i = 0; i < 23; i++)
        {
            await store.CreateAsync($"s{i:00}", "user");
            await store.CreateAsync($"other{i:00}", "other");

            // Every third one shares its time with the one before.
            store.Time.Advance(i % 3 == 0 ? TimeSpan.Zero : TimeSpan.FromSeconds(1));
        }

        var newest = await store.ListIdsAsync("user");
        var oldest = await store.ListIdsAsync("user", ascending: true);
        Assert.Equal(23, newest.Count);
        Assert.Equal("s22", newest[0]);
        Assert.Equal(newest.Reverse(), oldest);
        foreach (var ascending in (bool[])[false, true])
        {
            List<string> paged = [];
            PageCursor? after = null;
            do
            {
                var page = await store.Store.ListAsync("user", new SessionPageRequest { Limit = 5, After = after, Ascending = ascending }, Cancel);
                Assert.InRange(page.Items.Count, 1, 5);
                paged.AddRange(page.Items.Select(session => session.Id));
                after = page.Next;
            }
            while (after is not null);
            Assert.Equal(ascending ? oldest : newest, paged);
        }
    }

    [Fact]
    public async Task A_cursor_survives_writes()
    {
        await using var store = await OpenAsync(maxPerUser: 0);
        for (var i = 0; i < 6; i++)
        {
            await store.CreateAsync($"s{i}", "user");
            store.Time.Advance(TimeSpan.FromSeconds(1));
        }

        var first = await store.Store.ListAsync("user", new SessionPageRequest { Limit = 2 }, Cancel);
        Assert.Equal(["s5", "s4"], first.Items.Select(session => session.Id));
        await store.Store.DeleteAsync("s4", Owner.Anyone, Cancel);
        await store.CreateAsync("new", "user");
        await store.TurnAsync("s5", "user");

        var second = await store.Store.ListAsync("user", new SessionPageRequest { Limit = 10, After = first.Next }, Cancel);
        Assert.Equal(["s3", "s2", "s1", "s0"], second.Items.Select(session => session.Id));
        Assert.Null(second.Next);
        var beyond = await store.Store.ListAsync("user", new SessionPageRequest { Limit = 10, After = new PageCursor(0, "") }, Cancel);
        Assert.Empty(beyond.Items);
        var future = await store.Store.ListAsync("user", new SessionPageRequest { Limit = 10, After = new PageCursor(long.MaxValue, ""), Ascending = true }, Cancel);
        Assert.Empty(future.Items);
    }

    [Fact]
    public async Task A_filtered_list_looks_at_a_bounded_number_and_tells_where_to_go_on()
    {
        await using var store = await OpenAsync(maxPerUser: 0);
        var count = SessionPageRequest.ScanLimit + 50;
        for (var i = 0; i < count; i++)
        {
            await store.CreateAsync($"s{i:0000}", "user");
            store.Time.Advance(TimeSpan.FromMilliseconds(1));
        }

        var request = new SessionPageRequest { Limit = 2, Filter = session => session.Id is "s0003" or "s1030" or "s1045" };
        var first = await store.Store.ListAsync("user", request, Cancel);
        var second = await store.Store.ListAsync("user", request with { After = first.Next }, Cancel);
        var third = await store.Store.ListAsync("user", request with { After = second.Next }, Cancel);

        Assert.Equal(["s1045", "s1030"], first.Items.Select(session => session.Id));
        Assert.Empty(second.Items);
        Assert.NotNull(second.Next);
        Assert.Equal(["s0003"], third.Items.Select(session => session.Id));
        Assert.Null(third.Next);
    }

    [Theory]
    [InlineData(false, null, new[] { 1, 2, 3 }, 3)]
    [InlineData(false, 3, new[] { 4, 5, 6 }, 6)]
    [InlineData(false, 5, new[] { 6, 7 }, null)]
    [InlineData(false, 7, new int[0], null)]
    [InlineData(false, 99, new int[0], null)]
    [InlineData(true, null, new[] { 7, 6, 5 }, 5)]
    [InlineData(true, 5, new[] { 4, 3, 2 }, 2)]
    [InlineData(true, 2, new[] { 1 }, null)]
    [InlineData(true, 4, new[] { 3, 2, 1 }, null)]
    [InlineData(true, 1, new int[0], null)]
    [InlineData(true, 99, new[] { 7, 6, 5 }, 5)]
    public async Task History_is_paged_in_both_directions(bool descending, int? after, int[] numbers, int? next)
    {
        await using var store = await OpenAsync();
        for (var i = 1; i <= 7; i++)
        {
            await store.TurnAsync("a", query: $"q{i}");
        }

        var page = await store.Store.ReadHistoryAsync(
            "a", Owner.Anyone, new TurnPageRequest(3, after is { } place ? new PageCursor(place, "") : null, descending), Cancel);

        Assert.Equal(numbers, page!.Items.Select(turn => turn.Number));
        Assert.Equal(numbers.Select(number => $"q{number}"), page.Items.Select(turn => turn.Query.ToString()));
        Assert.Equal(next, (int?)page.Next?.Position);
    }

    [Fact]
    public async Task A_fork_starts_with_the_turns_up_to_there_and_goes_its_own_way()
    {
        await using var store = await OpenAsync();
        for (var i = 1; i <= 4; i++)
        {
            await store.TurnAsync("a", "user", $"q{i}");
        }

        store.Time.Advance(TimeSpan.FromMinutes(1));
        var fork = await store.Store.ForkAsync("a", Owner.Anyone, 2, TestStore.New("b", "user", """{"k":1}""") with { CreatedFrom = SessionOrigin.Fork }, Cancel);

        Assert.Equal(ForkStatus.Created, fork.Status);
        AssertSame(fork.Session, await store.GetAsync("b"));
        Assert.Equal(2, fork.Session!.TurnCount);
        Assert.Equal(1, fork.Session.Version);
        Assert.Equal("q2", fork.Session.LastTurn!.Query);
        Assert.Equal(SessionOrigin.Fork, fork.Session.CreatedFrom);
        Assert.Equal(Start.AddMinutes(1), fork.Session.CreatedAt);
        Assert.Equal((await store.HistoryAsync("a")).Take(2), await store.HistoryAsync("b"));
        await store.TurnAsync("b", "user", "own");
        await store.Store.DeleteAsync("a", Owner.Anyone, Cancel);
        Assert.Equal(["q1", "q2", "own"], (await store.HistoryAsync("b")).Select(turn => turn.Query.ToString()));
    }

    [Fact]
    public async Task A_fork_needs_a_session_a_turn_of_it_and_a_free_id()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        await store.CreateAsync("taken");

        async Task<ForkStatus> ForkAsync(string source, int? afterTurn, string id) =>
            (await store.Store.ForkAsync(source, Owner.Anyone, afterTurn, TestStore.New(id), Cancel)).Status;

        Assert.Equal(ForkStatus.SourceNotFound, await ForkAsync("none", null, "b"));
        Assert.Equal(ForkStatus.NoSuchTurn, await ForkAsync("a", 2, "b"));
        Assert.Equal(ForkStatus.NoSuchTurn, await ForkAsync("a", -1, "b"));
        Assert.Equal(ForkStatus.IdTaken, await ForkAsync("a", 1, "taken"));
        Assert.Equal(ForkStatus.IdTaken, await ForkAsync("a", 1, "a"));
        Assert.Equal(ForkStatus.Created, await ForkAsync("a", 0, "b"));
        Assert.Empty(await store.HistoryAsync("b"));
    }
}
