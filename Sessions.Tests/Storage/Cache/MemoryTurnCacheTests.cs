using System.Runtime.CompilerServices;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>What a process remembers is what SQLite would give, whoever else writes into the file; it is bounded, and what is removed is not remembered.</summary>
public sealed class MemoryTurnCacheTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private string Db => _folder["a.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Turns_that_were_committed_here_are_not_read_again()
    {
        await using var one = new RememberingStore(Db);
        await TurnsAsync(one, 4);
        await one.Test.CommitAsync(await one.Test.BeginAsync("a", "ada"), "q5", summary: new Summary("sum", 3));
        var read = await one.Test.GetAsync("a");
        SqliteTests.Execute(Db, "UPDATE turns SET query = 'from the disk'");

        var start = await one.BeginsAsync("hit", ["q1", "q2", "q3", "q4", "q5"]);
        Assert.Equal(read, start.Session! with { Metadata = read!.Metadata });
        Assert.Equal(start.History, await one.Test.HistoryAsync("a"));
        await one.BeginsAsync("hit", ["q5"], history: 1);
        await one.BeginsAsync("hit", [], history: 0);
    }

    [Fact]
    public async Task Processes_that_continue_a_session_in_turn_see_each_others_turns()
    {
        await using var one = new RememberingStore(Db);
        await using var two = new RememberingStore(Db, time: one.Time);
        List<string> queries = [];
        for (var i = 1; i <= 6; i++)
        {
            var store = i % 2 == 1 ? one : two;
            await store.Test.CommitAsync(await store.BeginsAsync(i <= 2 ? "miss" : "stale", queries), $"q{i}");
            queries.Add($"q{i}");
        }
    }

    [Fact]
    public async Task A_turn_that_another_process_has_overtaken_is_not_committed()
    {
        await using var one = new RememberingStore(Db);
        await using var two = new RememberingStore(Db, time: one.Time);
        await TurnsAsync(one, 2);
        var start = await one.BeginsAsync("hit", ["q1", "q2"]);
        await two.Test.TurnAsync("a", query: "faster");

        Assert.Equal(CommitStatus.Stale, await one.Test.CommitAsync(start, "slower"));
        await one.Test.CommitAsync(await one.BeginsAsync("stale", ["q1", "q2", "faster"]), "again");
        await one.BeginsAsync("hit", ["q1", "q2", "faster", "again"]);
    }

    [Fact]
    public async Task Metadata_that_is_replaced_during_a_turn_is_in_the_session_of_the_next_one()
    {
        await using var one = new RememberingStore(Db);
        await TurnsAsync(one, 2);
        var start = await one.Test.BeginAsync("a");
        Assert.True((await one.Store.ReplaceMetadataAsync("a", Owner.Anyone, 2, "{\"k\":1}"u8.ToArray(), Cancel)).Replaced);
        Assert.Equal(CommitStatus.Committed, await one.Test.CommitAsync(start, "q3"));

        await one.BeginsAsync("hit", ["q1", "q2", "q3"]);
        await one.Test.TurnAsync("a", query: "q4");
        var session = (await one.BeginsAsync("hit", ["q1", "q2", "q3", "q4"])).Session!;
        Assert.Equal("{\"k\":1}", System.Text.Encoding.UTF8.GetString(session.Metadata.Span));
    }

    [Theory]
    [InlineData("deleted")]
    [InlineData("erased")]
    [InlineData("expired")]
    [InlineData("another's")]
    [InlineData("anew", "new", "new")]
    [InlineData("failed", "q1", "q2")]
    [InlineData("by hand", "q1")]
    public async Task What_another_process_did_to_a_session_counts_at_once(string change, params string[] queries)
    {
        await using var one = new RememberingStore(Db);
        await using var two = SqliteTests.Open(Db, time: one.Time);
        var other = new TestStore(two, one.Time, new SessionSettings());
        await one.Test.TurnAsync("a", change == "erased" ? "ada" : null, "q1");
        await one.Test.TurnAsync("a", change == "erased" ? "ada" : null, "q2");
        switch (change)
        {
            case "deleted":
                Assert.True(await two.DeleteAsync("a", Owner.Anyone, Cancel));
                break;
            case "erased":
                Assert.Equal(new Erasure(1, 2), await two.EraseUserAsync("ada", Cancel));
                break;
            case "expired":
                one.Time.Advance(one.Test.Settings.Timeout);
                break;
            case "another's":
                await other.TurnAsync("a", "bob");
                Assert.Equal(TurnStartStatus.NotFound, (await one.Test.BeginAsync("a", "ada")).Status);
                return;
            case "anew":
                // To the same number of turns at the same moment.
                Assert.True(await two.DeleteAsync("a", Owner.Anyone, Cancel));
                await other.TurnAsync("a", query: "new");
                await other.TurnAsync("a", query: "new");
                break;
            case "failed":
                await other.FailAsync("a");
                break;
            case "by hand":
                SqliteTests.Execute(Db, "DELETE FROM turns WHERE number = 2; UPDATE sessions SET turn_count = 1, version = version + 1, last_turn = (SELECT key FROM turns WHERE session = sessions.key)");
                break;
        }

        var start = await one.BeginsAsync(change == "expired" ? "miss" : "stale", queries);
        Assert.Equal(queries.Length, start.Session?.TurnCount ?? 0);
    }

    [Theory]
    [InlineData("deleted")]
    [InlineData("erased")]
    [InlineData("evicted")]
    [InlineData("expired")]
    public async Task What_is_removed_is_not_held_in_memory(string how)
    {
        await using var one = new RememberingStore(Db, new SessionSettings { MaxSessionsPerUser = 1, TimeoutHours = 0.5 });
        var held = await WatchedTurnAsync(one);
        Assert.True(IsAlive(held));
        switch (how)
        {
            case "deleted":
                Assert.True(await one.Store.DeleteAsync("a", Owner.Anyone, Cancel));
                break;
            case "erased":
                await one.Store.EraseUserAsync("ada", Cancel);
                break;
            case "evicted":
                await one.Test.CreateAsync("b", "ada");
                break;
            case "expired":
                one.Time.Advance(TimeSpan.FromHours(0.5));
                Assert.Equal(1, await one.Store.RemoveExpiredAsync(Cancel));
                break;
        }

        Assert.False(IsAlive(held));
    }

    [Fact]
    public async Task A_session_that_is_removed_while_its_turn_is_being_remembered_is_not_held_in_memory()
    {
        await using var sqlite = SqliteTests.Open(Db, new SessionSettings { MaxSessionsPerUser = 1 });
        using var cache = new MemoryTurnCache(new SessionSettings(), TimeProvider.System, TestStore.NewMeters());
        var store = new CachedSessionStore(sqlite, cache);
        var removed = sqlite.OnRemoved!;
        await SqliteTests.TurnAsync(store, "old", "ada");
        sqlite.OnRemoved = async ids =>
        {
            // The turn is committed, and made room for itself; it is removed before it is remembered.
            sqlite.OnRemoved = removed;
            await removed(ids);
            Assert.True(await store.DeleteAsync("a", Owner.Anyone, Cancel));
        };

        await SqliteTests.TurnAsync(store, "a", "ada");

        Assert.Null(await cache.FindAsync("a"));
    }

    [Fact]
    public async Task Of_long_turns_only_the_last_are_remembered()
    {
        await using var one = new RememberingStore(Db);
        var text = new string('x', 100_000);
        for (var i = 1; i <= 5; i++)
        {
            await one.Test.TurnAsync("a", query: $"q{i}", response: text);
        }

        SqliteTests.Execute(Db, "UPDATE turns SET query = query || '!'");
        await one.BeginsAsync("hit", ["q1!", "q2!", "q3!", "q4", "q5"]);
    }

    private static async Task TurnsAsync(RememberingStore store, int turns)
    {
        for (var i = 1; i <= turns; i++)
        {
            await store.Test.TurnAsync("a", query: $"q{i}");
        }
    }

    // Not inlined: nothing of it may stay on the stack.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static async Task<WeakReference> WatchedTurnAsync(RememberingStore store)
    {
        var start = await store.Test.BeginAsync("a", "ada");
        var turn = store.Test.NewTurn(start);
        Assert.Equal(CommitStatus.Committed, await store.Store.CommitTurnAsync(start, turn, null, Cancel));
        return new WeakReference(turn);
    }

    private static bool IsAlive(WeakReference held)
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        return held.IsAlive;
    }
}
