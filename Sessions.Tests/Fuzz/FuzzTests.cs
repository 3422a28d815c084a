using Sessions.Tests.Storage;

namespace Sessions.Tests.Fuzz;

/// <summary>Nothing that a client sends breaks the server: docs/reliability.md says how to have a longer run, and how to repeat one.</summary>
[Collection(nameof(Alone))]
public sealed class FuzzTests
{
    private const int Parts = 8;

    // The pools of the server grow with the largest bodies that come at once. It is some 250 bytes for each request of the second half: a session or a stream that
    // was left behind by every tenth one would be more. A longer run looks closer.
    private const long Slack = 6 << 20;

    [Fact]
    public async Task Any_request_is_answered_by_the_rules_and_leaves_nothing_behind()
    {
        var requests = FuzzRun.Length(50_000);
        await using var run = await FuzzRun.StartAsync(("sessions:storage_type", "memory"));

        List<long> heap = [];
        for (var part = 0; part < Parts; part++)
        {
            await run.SendAsync(requests / Parts);
            await run.ClearAsync();
            GC.Collect();
            GC.WaitForPendingFinalizers();
            GC.Collect();
            heap.Add(GC.GetTotalMemory(forceFullCollection: false));
        }

        TestContext.Current.TestOutputHelper?.WriteLine($"{run}\nHeap after each part: {string.Join(", ", heap.Select(bytes => $"{bytes:N0}"))}");
        Assert.InRange(heap[(Parts - 2)..].Min() - heap[2..(Parts / 2)].Min(), long.MinValue, Slack);
    }
}

/// <summary>The same on the other stores, a smaller portion.</summary>
public sealed class StoreFuzzTests(RedisFixture redis) : IDisposable
{
    private const int Requests = 2_000;

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Any_request_is_answered_by_the_rules_on_SQLite()
    {
        await using (var run = await FuzzRun.StartAsync(("sessions:storage_type", "sqlite"), ("sessions:db_path", _folder["sessions.db"])))
        {
            await run.SendAsync(Requests);
            await run.ClearAsync();
        }

        Assert.Equal("ok", SqliteTests.Ask(_folder["sessions.db"], "PRAGMA integrity_check"));
    }

    [Fact]
    public async Task Any_request_is_answered_by_the_rules_on_Redis()
    {
        await using var run = await FuzzRun.StartAsync(("sessions:storage_type", "redis"), ("ConnectionStrings:cache", await redis.NewDatabaseAsync()));

        await run.SendAsync(Requests);
        await run.ClearAsync();
    }
}
