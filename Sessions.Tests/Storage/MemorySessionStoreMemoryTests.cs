using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>What only the memory store promises: that memory stays bounded without a timer, and that clocks may jump.</summary>
public sealed class MemorySessionStoreMemoryTests
{
    private static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    [Fact]
    public async Task New_sessions_push_out_the_expired_ones_without_any_cleanup()
    {
        var expired = new List<WeakReference>();
        var time = new FakeTimeProvider(Start);
        var store = new MemorySessionStore(new SessionSettings { TimeoutHours = 1, MaxSessionsPerUser = 0 }, time, TestStore.NewMetrics());
        for (var round = 0; round < 20; round++)
        {
            for (var i = 0; i < 500; i++)
            {
                await store.CreateAsync(Watched($"r{round}-{i}", expired), TestContext.Current.CancellationToken);
            }

            time.Advance(TimeSpan.FromHours(1));
        }

        // Each creation frees a few: of the 19 rounds that have expired no more than the last is still held.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        Assert.InRange(expired.Count(reference => reference.IsAlive), 0, 1000);
        GC.KeepAlive(store);
    }

    [Fact]
    public async Task Deleted_sessions_do_not_pile_up()
    {
        var held = new List<WeakReference>();
        var store = new MemorySessionStore(new SessionSettings(), TimeProvider.System, TestStore.NewMetrics());
        for (var i = 0; i < 5000; i++)
        {
            var session = Watched($"s{i}", held);
            await store.CreateAsync(session, TestContext.Current.CancellationToken);
            await store.DeleteAsync(session.Id, Owner.Anyone, TestContext.Current.CancellationToken);
        }

        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        Assert.InRange(held.Count(reference => reference.IsAlive), 0, 200);
        GC.KeepAlive(store);
    }

    [Fact]
    public async Task A_clock_that_is_set_back_neither_loses_nor_keeps_sessions()
    {
        var time = new JumpingTimeProvider { Now = Start.AddHours(5) };
        var store = new MemorySessionStore(new SessionSettings { TimeoutHours = 1 }, time, TestStore.NewMetrics());
        await store.CreateAsync(TestStore.New("future", "user"), TestContext.Current.CancellationToken);
        time.Now = Start;
        await store.CreateAsync(TestStore.New("now", "user"), TestContext.Current.CancellationToken);

        Assert.Equal(2, (await store.GetStatisticsAsync(TestContext.Current.CancellationToken)).ActiveSessions);
        time.Now = Start.AddHours(1);
        Assert.Null(await store.GetAsync("now", Owner.Anyone, TestContext.Current.CancellationToken));
        Assert.Equal(1, (await store.GetStatisticsAsync(TestContext.Current.CancellationToken)).ActiveSessions);
        var page = await store.ListAsync("user", new SessionPageRequest { Limit = 10 }, TestContext.Current.CancellationToken);
        Assert.Equal("future", Assert.Single(page.Items).Id);

        // A turn made while the clock is behind takes nothing back.
        var start = await store.BeginTurnAsync(
            new TurnRequest { SessionId = "future", Owner = Owner.Anyone, HistoryTurns = 0 }, TestContext.Current.CancellationToken);
        await store.FailTurnAsync(start, "error", TestContext.Current.CancellationToken);
        time.Now = Start.AddHours(6).AddMicroseconds(-1);
        Assert.Equal(1, (await store.GetStatisticsAsync(TestContext.Current.CancellationToken)).ActiveSessions);
        time.Now = Start.AddHours(6);
        Assert.Equal(0, (await store.GetStatisticsAsync(TestContext.Current.CancellationToken)).ActiveSessions);
    }

    [Fact]
    public async Task Turns_are_whole_wherever_their_arrays_end()
    {
        await using var store = new TestStore(new MemorySessionStore(new SessionSettings { MaxSessionsPerUser = 0 }, TimeProvider.System, TestStore.NewMetrics()), new FakeTimeProvider(Start), new SessionSettings());
        for (var i = 1; i <= 60; i++)
        {
            var start = await store.BeginAsync("a");
            var turn = store.NewTurn(start, $"{i}{new string('ä', i * i % 700)}", new string('b', i * 37 % 1900)) with
            {
                AgentType = $"agent-{i % 3}",
                InputTokens = i % 2 == 0 ? i * 1000L : null,
                OutputTokens = i % 5 == 0 ? long.MaxValue : null,
                ExecutionTime = TimeSpan.FromMicroseconds(i * 12345),
            };
            Assert.Equal(CommitStatus.Committed, await store.Store.CommitTurnAsync(start, turn, null, TestContext.Current.CancellationToken));
            Assert.Equal(turn, (await store.GetAsync("a"))!.LastTurn);
        }

        var all = await store.HistoryAsync("a");
        Assert.Equal(60, all.Count);
        for (var turns = 0; turns <= 60; turns++)
        {
            var fork = await store.Store.ForkAsync("a", Owner.Anyone, turns, TestStore.New($"fork-{turns}"), TestContext.Current.CancellationToken);
            Assert.Equal(all.Take(turns), await store.HistoryAsync($"fork-{turns}"));
            Assert.Equal(turns == 0 ? null : all[turns - 1], fork.Session!.LastTurn);
            Assert.Equal(all.Take(turns).TakeLast(7), (await store.BeginAsync($"fork-{turns}", history: 7)).History);

            // Both go on, each for itself.
            await store.TurnAsync($"fork-{turns}", query: "own");
            Assert.Equal("own", (await store.HistoryAsync($"fork-{turns}"))[^1].Query);
            Assert.Equal(all, await store.HistoryAsync("a"));
            foreach (var isDescending in (bool[])[false, true])
            {
                var page = await store.Store.ReadHistoryAsync("a", Owner.Anyone, new TurnPageRequest(9, new PageCursor(turns, ""), isDescending), TestContext.Current.CancellationToken);
                Assert.Equal(isDescending ? all.Take(Math.Max(0, turns - 1)).TakeLast(9).Reverse() : all.Skip(turns).Take(9), page!.Items);
            }
        }
    }

    [Theory]
    [InlineData("01a20ae6-3490-7a40-adff-b1e282febc86")]
    [InlineData("01A20AE6-3490-7A40-ADFF-B1E282FEBC86")]
    [InlineData("01a20ae634907a40adffb1e282febc86")]
    [InlineData("00000000-0000-0000-0000-000000000000")]
    [InlineData("x")]
    public async Task An_id_comes_back_as_it_was_given_however_it_is_kept(string id)
    {
        await using var store = new TestStore(new MemorySessionStore(new SessionSettings(), TimeProvider.System, TestStore.NewMetrics()), new FakeTimeProvider(Start), new SessionSettings());
        await store.CreateAsync(id, "user");
        Assert.Equal(id, Assert.Single(await store.ListIdsAsync("user")));
        Assert.Equal(id, (await store.GetAsync(id))!.Id);
        foreach (var other in new[] { id.ToUpperInvariant(), id.ToLowerInvariant(), id.Replace("-", "", StringComparison.Ordinal) }.Where(other => other != id))
        {
            Assert.Null(await store.GetAsync(other));
        }
    }

    [Fact]
    public async Task A_user_with_many_sessions_keeps_them_in_order()
    {
        var time = new FakeTimeProvider(Start);
        await using var store = new TestStore(new MemorySessionStore(new SessionSettings { MaxSessionsPerUser = 0 }, time, TestStore.NewMetrics()), time, new SessionSettings());
        List<string> expected = [];
        for (var i = 0; i < 200; i++)
        {
            // Every other one touches one that is there.
            var id = i % 2 == 1 ? expected[i * 7 % expected.Count] : $"s{i}";
            await store.TurnAsync(id, "user");
            expected.Remove(id);
            expected.Add(id);
            time.Advance(TimeSpan.FromSeconds(1));
        }

        Assert.Equal(expected, await store.ListIdsAsync("user", ascending: true));
        expected.Reverse();
        Assert.Equal(expected, await store.ListIdsAsync("user"));
    }

    // The store keeps an id that is no UUID as it was given: when the string is gone, so is the session.
    private static NewSession Watched(string id, List<WeakReference> references)
    {
        var own = new string(id);
        references.Add(new WeakReference(own));
        return TestStore.New(own);
    }

    private sealed class JumpingTimeProvider : TimeProvider
    {
        public DateTimeOffset Now { get; set; }

        public override DateTimeOffset GetUtcNow() => Now;
    }
}
