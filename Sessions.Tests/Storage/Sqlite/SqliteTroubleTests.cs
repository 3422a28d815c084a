using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api;

namespace Sessions.Tests.Storage;

/// <summary>A full disk, a bad change, too many at once: told plainly, nothing that was answered is lost, and over when its cause is.</summary>
public sealed class SqliteTroubleTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_full_database_refuses_turns_says_so_and_recovers()
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.TurnAsync(store, "a");
        await LimitAsync(store, "PRAGMA max_page_count = 1");

        await FillUpAndRecoverAsync(store, () => LimitAsync(store, "PRAGMA max_page_count = 1000000"));
    }

    [Fact]
    public async Task A_full_disk_refuses_turns_says_so_and_recovers()
    {
        var disk = Directory.CreateDirectory(_folder["disk"]).FullName;
        Assert.SkipUnless(OperatingSystem.IsLinux() && Environment.UserName == "root" && (await SqliteTests.RunAsync("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk)).ExitCode == 0,
            "Only root can make a small disk.");
        try
        {
            await using var store = SqliteTests.Open(Path.Combine(disk, "sessions.db"));
            await SqliteTests.TurnAsync(store, "a");
            var ballast = Path.Combine(disk, "ballast");
            await File.WriteAllBytesAsync(ballast, new byte[1_000_000], TestStore.Cancel);

            await FillUpAndRecoverAsync(store, () =>
            {
                File.Delete(ballast);
                return Task.CompletedTask;
            });
        }
        finally
        {
            await SqliteTests.RunAsync("umount", disk);
        }
    }

    [Fact]
    public async Task A_bad_change_fails_alone()
    {
        await using var store = SqliteTests.Open(Db);
        var release = new ManualResetEventSlim();
        var held = store.Writer.RunAsync(_ =>
        {
            release.Wait(TestStore.Cancel);
            return 0;
        }, TestStore.Cancel);

        // All of these wait, and are committed together.
        var before = store.CreateAsync(TestStore.New("before"), TestStore.Cancel).AsTask();
        var bad = store.Writer.RunAsync(tables =>
        {
            // The same request twice.
            tables.Append(1, SqliteTests.NewTurn(1), 1, null, default(Idempotency));
            tables.Append(1, SqliteTests.NewTurn(2), 2, null, default(Idempotency));
            return 0;
        }, TestStore.Cancel);
        var thrown = store.Writer.RunAsync<int>(_ => throw new InvalidOperationException("mine"), TestStore.Cancel);
        var after = store.CreateAsync(TestStore.New("after"), TestStore.Cancel).AsTask();
        release.Set();

        await held;
        Assert.NotNull(await before);
        Assert.NotNull(await after);
        await Assert.ThrowsAsync<SqliteException>(() => bad);
        Assert.Equal("mine", (await Assert.ThrowsAsync<InvalidOperationException>(() => thrown)).Message);
        Assert.Equal(2, (await store.GetStatisticsAsync(TestStore.Cancel)).ActiveSessions);
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
        Assert.Equal(HealthStatus.Healthy, (await store.CheckHealthAsync(TestStore.Cancel)).Status);
    }

    [Fact]
    public async Task What_was_cancelled_while_it_waited_does_not_happen()
    {
        await using var store = SqliteTests.Open(Db);
        var release = new ManualResetEventSlim();
        var held = store.Writer.RunAsync(_ =>
        {
            release.Wait(TestStore.Cancel);
            return 0;
        }, TestStore.Cancel);
        using var cancellation = new CancellationTokenSource();
        var cancelled = store.CreateAsync(TestStore.New("a"), cancellation.Token).AsTask();
        await cancellation.CancelAsync();
        release.Set();

        await held;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
        Assert.Null(await store.GetAsync("a", Owner.Anyone, TestStore.Cancel));
    }

    [Fact]
    public async Task More_than_can_wait_is_refused_at_once()
    {
        await using var store = SqliteTests.Open(Db);
        var release = new ManualResetEventSlim();
        var waiting = new List<Task<int>>();
        var refused = Assert.Throws<StoreUnavailableException>(() =>
        {
            for (var i = 0; i < 100_000; i++)
            {
                waiting.Add(store.Writer.RunAsync(_ =>
                {
                    release.Wait(TestStore.Cancel);
                    return 0;
                }, TestStore.Cancel));
            }
        });
        release.Set();

        Assert.True(refused.RetryAfter > TimeSpan.Zero);
        await Task.WhenAll(waiting);
    }

    [Fact]
    public async Task A_stopped_store_says_so()
    {
        var store = SqliteTests.Open(Db);
        await store.DisposeAsync();

        await Assert.ThrowsAsync<StoreUnavailableException>(async () => await store.CreateAsync(TestStore.New("a"), TestStore.Cancel));
        Assert.Equal(HealthStatus.Unhealthy, (await store.CheckHealthAsync(TestStore.Cancel)).Status);
    }

    private static async Task FillUpAndRecoverAsync(SqliteSessionStore store, Func<Task> makeRoomAsync)
    {
        var answered = 0;
        StoreUnavailableException? refused = null;
        for (var i = 0; refused is null && i < 1000; i++)
        {
            // Several at once: they fail one by one, and those that still fit are committed.
            var turns = Enumerable.Range(0, 4).Select(j => SqliteTests.TurnAsync(store, $"s{i}-{j}", "user", response: new string('x', 20_000))).ToList();
            foreach (var turn in turns)
            {
                try
                {
                    Assert.Equal(CommitStatus.Committed, await turn);
                    answered++;
                }
                catch (StoreUnavailableException e)
                {
                    refused = e;
                }
            }
        }

        Assert.NotNull(refused);
        Assert.Contains("full", refused.Message, StringComparison.Ordinal);
        Assert.True(refused.RetryAfter > TimeSpan.Zero);
        var health = await store.CheckHealthAsync(TestStore.Cancel);
        Assert.Equal(HealthStatus.Unhealthy, health.Status);
        Assert.Equal(refused.Message, health.Description);

        // What is there can still be read.
        Assert.NotNull(await store.GetAsync("a", Owner.Anyone, TestStore.Cancel));
        Assert.Equal(answered + 1, (await store.GetStatisticsAsync(TestStore.Cancel)).ActiveSessions);

        await makeRoomAsync();
        Assert.Equal(HealthStatus.Healthy, (await store.CheckHealthAsync(TestStore.Cancel)).Status);
        Assert.Equal(CommitStatus.Committed, await SqliteTests.TurnAsync(store, "after", response: new string('x', 20_000)));
        Assert.Equal(answered + 2, (await store.GetStatisticsAsync(TestStore.Cancel)).ActiveSessions);
    }

    // On the connection that writes, and outside of a transaction.
    private static Task<string?> LimitAsync(SqliteSessionStore store, string pragma) => store.Writer.RunAloneAsync(tables => tables.Link.Ask(pragma), TestStore.Cancel);
}
