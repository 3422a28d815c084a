using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>What remembered turns take. Alone, because what other tests hold meanwhile would be counted as well.</summary>
[Collection(nameof(Alone))]
public sealed class MemoryTurnCacheMemoryTests
{
    [Fact]
    public async Task Memory_is_bounded_and_what_was_used_last_stays()
    {
        using var cache = new MemoryTurnCache(new SessionSettings(), TimeProvider.System, TestStore.NewMeters());
        var before = GC.GetTotalMemory(forceFullCollection: true);
        const int Sessions = 40_000;
        for (var i = 0; i < Sessions; i++)
        {
            // 2.5 times what there is room for; small turns, so that what surrounds their texts counts most.
            var turns = Enumerable.Range(1, 10).Select(number => SqliteTests.NewTurn(number, new string('q', 40), new string('r', 40)) with { AgentUsed = $"agent {i}" }).ToList();
            await cache.PutAsync($"s{i}", new TurnWindow(new SessionStamp(i, 0, 0, 0), turns));
        }

        // What there is no room for is forgotten in the background.
        await ServiceProcess.UntilAsync(async () =>
        {
            await cache.PutAsync("last", new TurnWindow(default, [SqliteTests.NewTurn(1)]));
            return await cache.FindAsync("last") is not null;
        });
        var took = GC.GetTotalMemory(forceFullCollection: true) - before;
        var found = 0;
        for (var i = 0; i < Sessions; i++)
        {
            found += await cache.FindAsync($"s{i}") is null ? 0 : 1;
        }

        Assert.InRange(took, MemoryTurnCache.MostBytes / 4, MemoryTurnCache.MostBytes);
        Assert.InRange(found, 4_000, Sessions / 2);
    }
}
