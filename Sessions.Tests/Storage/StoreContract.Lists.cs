namespace Sessions.Tests.Storage;

/// <content>Lists of sessions.</content>
public abstract partial class StoreContract
{
    [Theory]
    [InlineData("user")]
    [InlineData(null)]
    public async Task Lists_are_in_order_of_activity_and_paged_without_gap_or_double(string? user)
    {
        await using var store = await OpenAsync(maxPerUser: 0);
        for (var i = 0; i < 23; i++)
        {
            await store.CreateAsync($"s{i:00}", user ?? (i % 4 == 0 ? null : $"user {i % 4}"), kind: i % 5 == 0 ? SessionKind.Conversation
                : SessionKind.Session);
            await store.CreateAsync($"hidden{i:00}", user, kind: SessionKind.Chain);
            if (user is not null)
            {
                await store.CreateAsync($"other{i:00}", "other");
            }

            // Every third one shares its time with the one before.
            store.Time.Advance(i % 3 == 0 ? TimeSpan.Zero : TimeSpan.FromSeconds(1));
        }

        var newest = await store.ListIdsAsync(user);
        var oldest = await store.ListIdsAsync(user, ascending: true);
        Assert.Equal(23, newest.Count);
        Assert.Equal("s22", newest[0]);
        Assert.Equal(newest.Reverse(), oldest);
        foreach (var ascending in (bool[])[false, true])
        {
            Assert.Equal(ascending ? oldest : newest, await PagesAsync(store,
                new SessionPageRequest { UserId = user, Limit = 5, Ascending = ascending }));
            foreach (var kind in (SessionKind[])[SessionKind.Session, SessionKind.Conversation])
            {
                Assert.Equal((ascending ? oldest : newest).Where(id =>
                    int.Parse(id[1..], System.Globalization.CultureInfo.InvariantCulture) % 5 == 0 == (kind == SessionKind.Conversation)),
                    await PagesAsync(store, new SessionPageRequest { UserId = user, Kind = kind, Limit = 4, Ascending = ascending }));
            }

            Assert.Equal(23, (
                await PagesAsync(store, new SessionPageRequest
                {
                    UserId = user,
                    Kind = SessionKind.Chain,
                    Limit = 10,
                    Ascending = ascending,
                })).Count);
        }
    }

    [Fact]
    public async Task A_place_before_or_behind_all_there_is_gives_all_or_nothing()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a", "user");
        await store.CreateAsync("b", "user");
        foreach (var user in (string?[])["user", null])
        {
            foreach (var position in (long[])[long.MinValue, -1, 0, long.MaxValue])
            {
                foreach (var ascending in (bool[])[false, true])
                {
                    var after = new PageCursor(position, "a");
                    var page = await store.Store.ListAsync(
                        new SessionPageRequest { UserId = user, Limit = 5, After = after, Ascending = ascending }, Cancel);

                    Assert.Equal(ascending == (position <= 0) ? 2 : 0, page.Items.Count);
                    Assert.Null(page.Next);
                }
            }
        }
    }

    [Fact]
    public async Task A_list_shows_sessions_as_they_are()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a", "user", """{"k":1}""");
        await store.AppendAsync(await store.BeginAsync("a", "user"), "what was asked", "what was answered", new Summary("short", 1));
        await store.FailAsync("a", "user");

        var page = await store.Store.ListAsync(new SessionPageRequest { UserId = "user", Limit = 10 }, Cancel);

        AssertSame(await store.GetAsync("a"), Assert.Single(page.Items));
        AssertSame(await store.GetAsync("a"), Assert.Single((await store.Store.ListAsync(new SessionPageRequest { Limit = 10 }, Cancel))
            .Items));
    }

    [Theory]
    [InlineData("user")]
    [InlineData(null)]
    public async Task A_cursor_survives_writes(string? user)
    {
        await using var store = await OpenAsync(maxPerUser: 0);
        for (var i = 0; i < 6; i++)
        {
            await store.CreateAsync($"s{i}", "user");
            store.Time.Advance(TimeSpan.FromSeconds(1));
        }

        var first = await store.Store.ListAsync(new SessionPageRequest { UserId = user, Limit = 2 }, Cancel);
        Assert.Equal(["s5", "s4"], first.Items.Select(session => session.Id));
        await store.DeleteAsync("s4");
        await store.CreateAsync("new", "user");
        await store.TurnAsync("s5", "user");

        var second = await store.Store.ListAsync(new SessionPageRequest { UserId = user, Limit = 10, After = first.Next }, Cancel);
        Assert.Equal(["s3", "s2", "s1", "s0"], second.Items.Select(session => session.Id));
        Assert.Null(second.Next);
        foreach (var (place, ascending) in new[] { (0L, false), (long.MinValue, false), (long.MaxValue, true) })
        {
            var beyond = await store.Store.ListAsync(new SessionPageRequest
            {
                UserId = user,
                Limit = 10,
                After = new PageCursor(place, ""),
                Ascending = ascending,
            }, Cancel);
            Assert.Empty(beyond.Items);
            Assert.Null(beyond.Next);
        }

        foreach (var (place, ascending) in new[] { (long.MinValue, true), (long.MaxValue, false) })
        {
            var all = await store.Store.ListAsync(new SessionPageRequest
            {
                UserId = user,
                Limit = 10,
                After = new PageCursor(place, ""),
                Ascending = ascending,
            }, Cancel);
            Assert.Equal(6, all.Items.Count);
        }
    }

    [Fact]
    public async Task A_list_is_bounded_in_bytes_and_holds_at_least_one_session()
    {
        await using var store = await OpenAsync(maxPerUser: 0);
        for (var i = 0; i < 6; i++)
        {
            await store.CreateAsync($"s{i}", "user", new string('m', 10_000));
            store.Time.Advance(TimeSpan.FromSeconds(1));
        }

        foreach (var user in (string?[])["user", null])
        {
            foreach (var (bytes, least, most) in new[] { (0, 1, 1), (1, 1, 1), (35_000, 2, 3), (1_000_000, 6, 6) })
            {
                var page = await store.Store.ListAsync(new SessionPageRequest { UserId = user, Limit = 100, MaxBytes = bytes }, Cancel);
                Assert.InRange(page.Items.Count, least, most);
                Assert.Equal(page.Items.Count < 6, page.Next is not null);
                Assert.Equal(["s5", "s4", "s3", "s2", "s1", "s0"],
                    await PagesAsync(store, new SessionPageRequest { UserId = user, Limit = 100, MaxBytes = bytes }));
            }
        }
    }

    [Fact]
    public async Task A_list_of_a_user_who_has_nothing_is_empty()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a");
        await store.CreateAsync("b", "other");

        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Empty(await store.ListIdsAsync("user", kind: SessionKind.Chain));
        Assert.Equal(["a", "b"], (await store.ListIdsAsync(null)).Order());
    }

    private static async Task<List<string>> PagesAsync(TestStore store, SessionPageRequest request)
    {
        List<string> ids = [];
        while (true)
        {
            var page = await store.Store.ListAsync(request, Cancel);
            Assert.True(page.Items.Count <= request.Limit);
            Assert.True(page.Items.Count > 0 || request.After is null);
            ids.AddRange(page.Items.Select(session => session.Id));
            if (page.Next is not { } next)
            {
                return ids;
            }

            request = request with { After = next };
        }
    }
}
