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

        // A turn made while the clock is behind expires by that clock.
        var start = await store.BeginTurnAsync(
            new TurnRequest { SessionId = "future", Owner = Owner.Anyone, HistoryTurns = 0 }, TestContext.Current.CancellationToken);
        await store.FailTurnAsync(start, "error", TestContext.Current.CancellationToken);
        time.Now = Start.AddHours(2);
        Assert.Equal(0, (await store.GetStatisticsAsync(TestContext.Current.CancellationToken)).ActiveSessions);
    }

    // The store keeps the id of a session as it was given: when the string is gone, so is the session.
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
