using Sessions.Api;

namespace Sessions.Tests.Storage;

public abstract partial class SessionStoreContract
{
    [Fact]
    public async Task A_clock_that_jumps_forward_ends_sessions_and_breaks_nothing()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");
        await store.CreateAsync("b", "user");
        store.Time.Advance(TimeSpan.FromDays(400));

        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Equal(0, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
        await store.TurnAsync("a", "user", "after");
        Assert.Equal([1], (await store.HistoryAsync("a")).Select(turn => turn.Number));
        await store.Store.RemoveExpiredAsync(Cancel);
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
        Assert.Equal(before.Version + 2, after.Version);
        Assert.Equal([1, 2], (await store.HistoryAsync("a")).Select(turn => turn.Number));
        store.Time.AdjustTime(Start.AddHours(1));
        await store.TurnAsync("a", "user");
        Assert.Equal(Start.AddHours(1), (await store.GetAsync("a"))!.LastActivityAt);
        Assert.Equal([1, 2, 3], (await store.HistoryAsync("a")).Select(turn => turn.Number));
    }

    [Fact]
    public async Task A_session_that_is_used_while_the_clock_is_behind_does_not_expire_early()
    {
        await using var store = await OpenAsync(timeoutHours: 1);
        await store.TurnAsync("a", "user");
        await store.TurnAsync("nobody's");
        store.Time.AdjustTime(Start.AddHours(-5));
        await store.TurnAsync("a", "user");
        await store.TurnAsync("nobody's");

        // Right again, a minute after all this.
        store.Time.AdjustTime(Start.AddMinutes(1));

        Assert.Equal(0, await store.Store.RemoveExpiredAsync(Cancel));
        Assert.NotNull(await store.GetAsync("a"));
        Assert.NotNull(await store.GetAsync("nobody's"));
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        Assert.Equal(2, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
    }

    [Fact]
    public async Task A_session_that_is_used_while_the_clock_is_ahead_ends_all_the_same()
    {
        await using var store = await OpenAsync(timeoutHours: 1);
        await store.TurnAsync("a", "user");
        store.Time.AdjustTime(Start.AddMinutes(50));
        await store.TurnAsync("a", "user");
        store.Time.AdjustTime(Start);

        await store.TurnAsync("a", "user");
        Assert.Equal(Start.AddMinutes(110), (await store.GetAsync("a"))!.ExpiresAt);

        store.Time.AdjustTime(Start.AddMinutes(110));
        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ListIdsAsync("user"));
        await store.Store.RemoveExpiredAsync(Cancel);
        Assert.Equal(0, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
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

        List<string> seen = [];
        List<DateTimeOffset> times = [];
        for (var request = new SessionPageRequest { Limit = 2, Ascending = ascending }; ;)
        {
            var page = await store.Store.ListAsync("user", request, Cancel);
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
