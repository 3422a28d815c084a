using System.Diagnostics;

namespace Sessions.Tests.Fuzz;

/// <summary>Nothing that a client sends breaks the server: docs/reliability.md says how to have a longer run, and how to repeat
/// one.</summary>
[Collection(nameof(Alone))]
public sealed class FuzzTests
{
    private const int Parts = 8;
    private const string HeapLine = "Heap after each part";

    // The pools of the server grow with the largest bodies that come at once, and what is kept for some real time (rate limiters, repeats)
    // comes to its level late. It is some 700 bytes for each request of the second half: a session or a stream that was left behind by
    // every fourth one would be more. A longer run looks closer.
    private const long Slack = 16 << 20;

    // In a process of its own: the heap of this one is full of what the hundreds of servers of other tests have left.
    [Fact]
    public async Task Any_request_is_answered_by_the_rules_and_leaves_nothing_behind()
    {
        var start = new ProcessStartInfo("dotnet",
            ["exec", typeof(FuzzTests).Assembly.Location, "-explicit", "only", "-showLiveOutput", "-method",
                $"{typeof(FuzzTests).FullName}.{nameof(Run)}"])
        {
            RedirectStandardOutput = true,
        };
        start.Environment["SESSIONS_FUZZ_SEED"] = FuzzRun.Seed;
        using var process = Process.Start(start)!;
        try
        {
            var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            TestContext.Current.TestOutputHelper?.WriteLine(output);
            Assert.True(process.ExitCode == 0 && output.Contains(HeapLine, StringComparison.Ordinal), output);
        }
        finally
        {
            process.Kill(entireProcessTree: true);
        }
    }

    /// <summary>Not a test, but what the test above runs in its process.</summary>
    [Fact(Explicit = true)]
    public async Task Run()
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

        TestContext.Current.TestOutputHelper?.WriteLine($"{run}\n{HeapLine}: {string.Join(", ", heap.Select(bytes => $"{bytes:N0}"))}");
        Assert.InRange(heap[(Parts - 2)..].Min() - heap[2..(Parts / 2)].Min(), long.MinValue, Slack);
    }
}

/// <summary>The same on the other stores, a smaller portion.</summary>
public sealed class StoreFuzzTests(RedisFixture redis, PostgresFixture postgres) : IDisposable
{
    private const int Requests = 2_000;

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Sizes_are_what_is_stored_where_the_memory_store_is_full()
    {
        await using var run = await FuzzRun.StartNearLimitsAsync(("sessions:storage_type", "memory"));

        await run.SendAsync(Requests);
        Assert.NotEqual(0, run.Answers(503));
        await run.ClearAsync();
    }

    [Fact]
    public async Task Sizes_are_what_is_stored_where_nobody_has_room_left_on_SQLite()
    {
        await using var run = await FuzzRun.StartNearLimitsAsync(
            ("sessions:storage_type", "sqlite"), ("sessions:db_path", _folder["sizes.db"]));

        await run.SendAsync(Requests);
        Assert.NotEqual(0, run.Answers(503));
        await run.ClearAsync();
    }

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
        await using var run = await FuzzRun.StartAsync(("sessions:storage_type", "redis"),
            ("ConnectionStrings:redis", await redis.NewDatabaseAsync()));

        await run.SendAsync(Requests);
        await run.ClearAsync();
    }

    [Fact]
    public async Task Any_request_is_answered_by_the_rules_on_PostgreSQL()
    {
        await using var run = await FuzzRun.StartAsync(
            ("sessions:storage_type", "postgres"), ("ConnectionStrings:postgres", await postgres.NewSchemaAsync()));

        await run.SendAsync(Requests);
        await run.ClearAsync();
    }
}
