using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api;

namespace Sessions.Tests.Storage;

/// <summary>The file is moved, deleted or replaced under a running server: noticed before anything is answered that a restart would lose.</summary>
public sealed class SqliteLostFileTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public SqliteLostFileTests() => Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows lets nobody take away a file that is open.");

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("moved", "was moved or deleted")]
    [InlineData("deleted", "was moved or deleted")]
    [InlineData("replaced", "was replaced by another file")]
    [InlineData("log deleted", "lost its write-ahead log")]
    public async Task It_is_told_and_stays_so_until_a_restart(string how, string said)
    {
        await using var server = Start();
        await server.QueryAsync("hello", "a", "ada");
        TakeAway(how);

        // Deleted logs are noticed by the first who writes; what it wrote is not answered with 200.
        var refused = (await server.PostAsync("/query", """{"query":"and?","thread_id":"a","user_id":"ada"}""", ("Idempotency-Key", "k"))).IsProblem(503, "storage_unavailable");
        Assert.Contains(said, (string)refused.Json["detail"]!, StringComparison.Ordinal);
        Assert.Equal("60", refused.Headers["Retry-After"]);
        if (how == "moved")
        {
            File.Move(Db + ".away", Db);
        }

        Assert.All(await Task.WhenAll(
            server.TryQueryAsync("and?", "a", "ada"),
            server.PostAsync("/sessions"),
            server.GetAsync("/sessions/a"),
            server.GetAsync("/sessions/a/history"),
            server.GetAsync("/users/ada/sessions"),
            server.GetAsync("/sessions/stats"),
            server.PostAsync("/sessions/cleanup"),
            server.DeleteAsync("/sessions/a")), answer => Assert.Contains(said, (string)answer.IsProblem(503, "storage_unavailable").Json["detail"]!, StringComparison.Ordinal));
        Assert.Equal(503, (await server.GetAsync("/health")).Status);
        Assert.Equal(200, (await server.GetAsync("/alive")).Status);
    }

    [Theory]
    [InlineData("moved")]
    [InlineData("replaced")]
    [InlineData("log deleted")]
    public async Task After_a_restart_with_the_file_in_its_place_everything_that_was_answered_is_there(string how)
    {
        await using (var server = Start())
        {
            await server.QueryAsync("one", "a", "ada");
            await server.QueryAsync("two", "a", "ada");
            TakeAway(how);
            (await server.TryQueryAsync("lost", "a", "ada")).IsProblem(503, "storage_unavailable");

            // As after a kill: the server does nothing more for its files.
            File.Copy(how == "log deleted" ? Db : Db + ".away", Db + ".saved");
        }

        File.Move(Db + ".saved", Db, overwrite: true);
        await using var again = Start();
        var kept = (await again.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray().Select(turn => (string)turn!["query"]!).ToList();

        // The turn that was refused may be there only where nobody could know before it was written.
        Assert.Equal(how == "log deleted" ? ["one", "two", "lost"] : ["one", "two"], kept);
        Assert.Equal(kept.Count + 1, (int)(await again.QueryAsync("next", "a", "ada"))["metadata"]!["turn"]!);
        Assert.Equal(200, (await again.GetAsync("/health")).Status);
    }

    [Fact]
    public async Task After_a_restart_without_the_file_a_new_one_begins_and_takes_nothing_from_the_old_log()
    {
        await using (var server = Start())
        {
            await server.QueryAsync("hello", "a", "ada");
            TakeAway("deleted");
            (await server.TryQueryAsync("and?", "a", "ada")).IsProblem(503, "storage_unavailable");
            Assert.Equal(0, new FileInfo(Db + "-wal").Length);
        }

        await using var again = Start();
        (await again.GetAsync("/sessions/a")).IsProblem(404, "session_not_found");
        Assert.Equal(1, (int)(await again.QueryAsync("hello", "a", "ada"))["metadata"]!["turn"]!);
    }

    [Theory]
    [InlineData("moved")]
    [InlineData("deleted")]
    [InlineData("replaced")]
    public async Task Health_notices_without_any_traffic(string how)
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.TurnAsync(store, "a");
        Assert.Equal(HealthStatus.Healthy, (await store.CheckHealthAsync(TestStore.Cancel)).Status);
        TakeAway(how);

        var health = await store.CheckHealthAsync(TestStore.Cancel);

        Assert.Equal(HealthStatus.Unhealthy, health.Status);
        Assert.Contains("while the server was running", health.Description, StringComparison.Ordinal);

        // And what is in the log is not left to be mixed with another file.
        await ServiceProcess.UntilAsync(() => new FileInfo(Db + "-wal").Length == 0);
    }

    [Fact]
    public async Task A_file_that_took_its_place_is_neither_read_nor_changed()
    {
        await using var store = SqliteTests.Open(Db);
        await store.CreateAsync(TestStore.New("mine"), TestStore.Cancel);
        TakeAway("replaced");
        var theirs = await File.ReadAllBytesAsync(Db, TestStore.Cancel);

        // Nobody has read so far: the first who does has to open the file.
        await Assert.ThrowsAsync<StoreUnavailableException>(async () => await store.GetAsync("theirs", Owner.Anyone, TestStore.Cancel));
        var turns = Enumerable.Range(0, 8).Select(i => SqliteTests.TurnAsync(store, $"s{i}")).ToList();
        foreach (var turn in turns)
        {
            await Assert.ThrowsAsync<StoreUnavailableException>(() => turn);
        }

        await store.DisposeAsync();
        Assert.Equal(theirs, await File.ReadAllBytesAsync(Db, TestStore.Cancel));
        Assert.Equal("mine", SqliteTests.Ask(Db + ".away", "SELECT group_concat(id) FROM sessions"));
    }

    [Theory]
    [InlineData("moved")]
    [InlineData("deleted")]
    public async Task Users_keys_that_are_gone_encrypt_nothing_more(string how)
    {
        var master = _folder["master.key"];
        await File.WriteAllTextAsync(master, Convert.ToBase64String(new byte[32]), TestStore.Cancel);
        await using var server = Start(("encryption:key_file", master), ("encryption:enabled", "true"));
        await server.QueryAsync("hello", "a", "ada");
        TakeAway(how, Db + SqliteUserKeys.Suffix);

        foreach (var user in (string[])["ada", "eve"])
        {
            var refused = (await server.TryQueryAsync("and?", null, user)).IsProblem(503, "storage_unavailable");
            Assert.Contains("keys was moved or deleted", (string)refused.Json["detail"]!, StringComparison.Ordinal);
        }

        Assert.Equal("1", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
    }

    private SessionsServer Start(params IEnumerable<(string Key, string Value)> settings) =>
        SessionsServer.Start([("sessions:storage_type", "sqlite"), ("sessions:db_path", Db), .. settings]);

    private void TakeAway(string how) => TakeAway(how, Db);

    private static void TakeAway(string how, string path)
    {
        switch (how)
        {
            case "deleted":
                File.Delete(path);
                break;
            case "log deleted":
                File.Delete(path + "-wal");
                break;
            case "replaced":
                var other = path + ".other";
                SqliteFile.Prepare(other);
                File.Move(path, path + ".away");
                File.Move(other, path);
                break;
            default:
                File.Move(path, path + ".away");
                break;
        }
    }
}
