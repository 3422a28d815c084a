using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>The file, or what belongs to it, is moved, deleted or replaced under a running store: noticed before anything is answered
/// that a restart would lose.</summary>
public sealed class SqliteLostFileTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public SqliteLostFileTests() => Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows lets nobody take away a file that is open.");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("moved", "was moved or deleted")]
    [InlineData("deleted", "was moved or deleted")]
    [InlineData("replaced", "was replaced by another file")]
    [InlineData("log deleted", "lost its write-ahead log")]
    [InlineData("shm deleted", "lost the -shm file beside it")]
    public async Task It_is_told_and_stays_so_until_a_restart(string how, string said)
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.TurnAsync(store, "a", "ada");
        var opened = await SqliteTests.BeginAsync(store, "a", "ada");
        TakeAway(how);

        await AssertToldAsync(async () => await SqliteTests.CommitAsync(store, opened));
        if (how == "moved")
        {
            File.Move(Db + ".away", Db);
        }

        await AssertToldAsync(async () => await SqliteTests.TurnAsync(store, "a", "ada"));
        await AssertToldAsync(async () => await SqliteTests.GetAsync(store, "a"));
        await AssertToldAsync(async () => await SqliteTests.HistoryAsync(store, "a"));
        await AssertToldAsync(async () => await store.ListAsync(new SessionPageRequest { Limit = 1 }, Cancel));
        await AssertToldAsync(async () => await store.CountAsync(Cancel));
        await AssertToldAsync(async () => await store.SweepAsync(Cancel));
        await AssertToldAsync(async () => await store.DeleteAsync(SessionRef.ById("a"), Owner.Anyone, Cancel));
        var health = await store.CheckAsync(Cancel);
        Assert.Equal(HealthStatus.Unhealthy, health.Status);
        Assert.Contains(said, health.Description, StringComparison.Ordinal);

        async Task AssertToldAsync(Func<Task> act)
        {
            var refused = await Assert.ThrowsAsync<StoreUnavailableException>(act);
            Assert.Contains(said, refused.Message, StringComparison.Ordinal);
            Assert.Equal(60, refused.RetryAfter.TotalSeconds);
        }
    }

    [Theory]
    [InlineData("moved")]
    [InlineData("replaced")]
    [InlineData("log deleted")]
    [InlineData("shm deleted")]
    public async Task After_a_restart_with_the_file_in_its_place_everything_that_was_answered_is_there(string how)
    {
        await using (var store = SqliteTests.Open(Db))
        {
            await SqliteTests.TurnAsync(store, "a", "ada", "one");
            await SqliteTests.TurnAsync(store, "a", "ada", "two");
            TakeAway(how);
            await Assert.ThrowsAsync<StoreUnavailableException>(() => SqliteTests.TurnAsync(store, "a", "ada", "lost"));
        }

        if (File.Exists(Db + ".away"))
        {
            File.Move(Db + ".away", Db, overwrite: true);
        }

        await using var again = SqliteTests.Open(Db);
        var kept = (await SqliteTests.HistoryAsync(again, "a")).Select(turn => $"{turn.Input}");

        // The turn that was refused may be there only where nobody could know before it was written.
        Assert.Equal(how == "log deleted" ? ["one", "two", "lost"] : ["one", "two"], kept);
        Assert.Equal(WriteStatus.Written, await SqliteTests.TurnAsync(again, "a", "ada", "next"));
        await TestStore.HealthyAsync(again);
    }

    [Fact]
    public async Task Two_processes_that_do_not_know_of_each_other_lose_nothing_that_was_answered()
    {
        await using (var store = SqliteTests.Open(Db))
        {
            Assert.Equal(WriteStatus.Written, await SqliteTests.TurnAsync(store, "a", "user", "one"));
            File.Delete(Db + "-shm");

            // It makes a -shm file of its own, and knows nothing of this process.
            using var other = await SqliteProcess.StartAsync(Db);
            Assert.Equal("opened", await other.AskAsync("open"));
            Assert.Equal("1", await other.AskAsync("count a"));
            Assert.Equal("Written", await other.AskAsync("turn a two"));
            await Assert.ThrowsAsync<StoreUnavailableException>(() => SqliteTests.TurnAsync(store, "a", "user", "lost"));
            Assert.Equal("Written", await other.AskAsync("turn a three"));
            await Assert.ThrowsAsync<StoreUnavailableException>(() => SqliteTests.GetAsync(store, "a"));
            other.Kill();
        }

        // Closing it has not thrown away what the other one had written.
        await using var again = SqliteTests.Open(Db);
        Assert.Equal(["one", "two", "three"], (await SqliteTests.HistoryAsync(again, "a")).Select(turn => $"{turn.Input}"));
        Assert.Equal("ok", SqliteTests.Ask(Db, "PRAGMA integrity_check"));
    }

    [Theory]
    [InlineData("moved")]
    [InlineData("deleted")]
    [InlineData("replaced")]
    [InlineData("shm deleted")]
    public async Task Health_notices_without_any_traffic(string how)
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.TurnAsync(store, "a");
        await TestStore.HealthyAsync(store);
        TakeAway(how);

        var health = await store.CheckAsync(Cancel);

        Assert.Equal(HealthStatus.Unhealthy, health.Status);
        Assert.Contains("while the server was running", health.Description, StringComparison.Ordinal);
        if (how != "shm deleted")
        {
            // And what is in the log is not left to be mixed with another file.
            await ServiceProcess.UntilAsync(() => new FileInfo(Db + "-wal").Length == 0);
        }
    }

    [Fact]
    public async Task A_file_that_took_its_place_is_neither_read_nor_changed()
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.CreateAsync(store, "mine");
        TakeAway("replaced");
        var theirs = await File.ReadAllBytesAsync(Db, Cancel);

        await ServiceProcess.UntilAsync(IsToldAsync);

        var turns = Enumerable.Range(0, 8).Select(i => SqliteTests.TurnAsync(store, $"s{i}")).ToList();
        foreach (var turn in turns)
        {
            await Assert.ThrowsAsync<StoreUnavailableException>(() => turn);
        }

        await store.DisposeAsync();
        Assert.Equal(theirs, await File.ReadAllBytesAsync(Db, Cancel));
        Assert.Equal("mine", SqliteTests.Ask(Db + ".away", "SELECT group_concat(id) FROM sessions"));

        // Readers look now and then.
        async Task<bool> IsToldAsync()
        {
            try
            {
                await SqliteTests.GetAsync(store, "theirs");
                return false;
            }
            catch (StoreUnavailableException)
            {
                return true;
            }
        }
    }

    private void TakeAway(string how)
    {
        switch (how)
        {
            case "deleted":
                File.Delete(Db);
                break;
            case "log deleted":
                File.Delete(Db + "-wal");
                break;
            case "shm deleted":
                File.Delete(Db + "-shm");
                break;
            case "replaced":
                var other = Db + ".other";
                SqliteFile.Prepare(other);
                File.Move(Db, Db + ".away");
                File.Move(other, Db);
                break;
            default:
                File.Move(Db, Db + ".away");
                break;
        }
    }
}
