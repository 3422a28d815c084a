using System.Diagnostics;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>A full disk, a lock, a bad change, too many at once: told plainly and in time, nothing that was answered is lost, and over
/// when its cause is.</summary>
public sealed class SqliteTroubleTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

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
        Assert.SkipUnless(
            OperatingSystem.IsLinux() && Environment.UserName == "root"
                && (await SqliteTests.RunAsync("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk)).ExitCode == 0,
            "Only root can make a small disk.");
        try
        {
            await using var store = SqliteTests.Open(Path.Combine(disk, "sessions.db"));
            await SqliteTests.TurnAsync(store, "a");
            var ballast = Path.Combine(disk, "ballast");
            await File.WriteAllBytesAsync(ballast, new byte[1_000_000], Cancel);

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
    public async Task A_lock_of_another_process_holds_nobody_up_for_longer_than_the_bound_and_health_answers()
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.TurnAsync(store, "a");
        store.Writer.LockWait = TimeSpan.FromSeconds(2);
        var slowest = TimeSpan.Zero;
        using (var shell = new SqliteDatabase(Db, TimeSpan.Zero))
        {
            shell.Execute("BEGIN IMMEDIATE");

            // They come one after the other, and each of them waits from its own arrival on: not first for those before it.
            List<Task<TimeSpan>> waiting = [];
            for (var i = 0; i < 40; i++)
            {
                waiting.Add(RefusedAfterAsync($"s{i}"));
                await Task.Delay(50, Cancel);
            }

            await ServiceProcess.UntilAsync(() => store.Writer.Trouble is not null);
            var started = Stopwatch.GetTimestamp();
            var health = await store.CheckAsync(Cancel);
            Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(5));
            Assert.Equal(HealthStatus.Unhealthy, health.Status);
            Assert.Contains("busy", health.Description, StringComparison.Ordinal);

            // Readers don't mind.
            Assert.NotNull(await SqliteTests.GetAsync(store, "a"));
            slowest = (await Task.WhenAll(waiting)).Max();
            shell.Execute("ROLLBACK");
        }

        Assert.InRange(slowest, TimeSpan.FromSeconds(1.9), TimeSpan.FromSeconds(10));
        Assert.Equal(WriteStatus.Written, await SqliteTests.TurnAsync(store, "a"));
        await TestStore.HealthyAsync(store);
        Assert.Equal(1, (await store.CountAsync(Cancel)).ActiveSessions);

        async Task<TimeSpan> RefusedAfterAsync(string id)
        {
            var started = Stopwatch.GetTimestamp();
            var refused = await Assert.ThrowsAsync<StoreUnavailableException>(() => SqliteTests.CreateAsync(store, id));
            Assert.Contains("busy", refused.Message, StringComparison.Ordinal);
            return Stopwatch.GetElapsedTime(started);
        }
    }

    [Fact]
    public async Task What_waits_for_a_lock_is_done_when_it_is_free()
    {
        await using var store = SqliteTests.Open(Db);
        using var shell = new SqliteDatabase(Db, TimeSpan.Zero);
        shell.Execute("BEGIN IMMEDIATE");
        var turns = Enumerable.Range(0, 20).Select(i => SqliteTests.TurnAsync(store, $"s{i}")).ToList();
        await ServiceProcess.UntilAsync(() => store.Writer.WaitsForLock > TimeSpan.Zero);
        using var cancellation = new CancellationTokenSource();
        var cancelled = store.CopyAsync(new CopyRequest { Session = TestStore.New("cancelled") }, cancellation.Token).AsTask();
        await cancellation.CancelAsync();
        shell.Execute("COMMIT");

        Assert.All(await Task.WhenAll(turns), status => Assert.Equal(WriteStatus.Written, status));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
        Assert.Equal(20, (await store.CountAsync(Cancel)).ActiveSessions);
        Assert.Equal(TimeSpan.Zero, store.Writer.WaitsForLock);
    }

    [Fact]
    public async Task A_bad_change_fails_alone()
    {
        await using var store = SqliteTests.Open(Db);
        var release = new ManualResetEventSlim();
        var held = HoldAsync(store, release);

        // All of these wait, and are committed together.
        var before = SqliteTests.CreateAsync(store, "before");
        var bad = store.Writer.RunAsync(work =>
        {
            // The same request twice.
            work.Append(1, SqliteTests.NewTurn(1), 0, default(Idempotency));
            work.Append(1, SqliteTests.NewTurn(2), 0, default(Idempotency));
            return 0;
        }, Cancel);
        var thrown = store.Writer.RunAsync<int>(_ => throw new InvalidOperationException("mine"), Cancel);
        var unavailable = store.Writer.RunAsync<int>(_ => throw new StoreUnavailableException("mine too", TimeSpan.Zero), Cancel);
        var after = SqliteTests.CreateAsync(store, "after");
        release.Set();

        await held;
        Assert.NotNull(await before);
        Assert.NotNull(await after);
        await Assert.ThrowsAsync<SqliteException>(() => bad);
        Assert.Equal("mine", (await Assert.ThrowsAsync<InvalidOperationException>(() => thrown)).Message);
        Assert.Equal("mine too", (await Assert.ThrowsAsync<StoreUnavailableException>(() => unavailable)).Message);
        Assert.Null(store.Writer.Trouble);
        Assert.Equal(2, (await store.CountAsync(Cancel)).ActiveSessions);
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
        await TestStore.HealthyAsync(store);
    }

    [Fact]
    public async Task What_was_cancelled_while_it_waited_does_not_happen()
    {
        await using var store = SqliteTests.Open(Db);
        var release = new ManualResetEventSlim();
        var held = HoldAsync(store, release);
        using var cancellation = new CancellationTokenSource();
        var cancelled = store.CopyAsync(new CopyRequest { Session = TestStore.New("a") }, cancellation.Token).AsTask();
        await cancellation.CancelAsync();
        release.Set();

        await held;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
        Assert.Null(await SqliteTests.GetAsync(store, "a"));
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
                waiting.Add(HoldAsync(store, release));
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

        await Assert.ThrowsAsync<StoreUnavailableException>(() => SqliteTests.CreateAsync(store, "a"));
        Assert.Equal(HealthStatus.Unhealthy, (await store.CheckAsync(Cancel)).Status);
    }

    [Fact]
    public async Task A_turn_that_begins_writes_only_where_its_session_would_end_before_it()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        await using var store = SqliteTests.Open(Db, SqliteTests.NewPolicy(TimeSpan.FromHours(1)), time);
        await SqliteTests.TurnAsync(store, "a");
        var written = SqliteTests.Ask(Db, "SELECT version || ' ' || tag || ' ' || expires_at FROM sessions");

        time.Advance(TimeSpan.FromMinutes(30));
        await SqliteTests.BeginAsync(store, "a", atLeast: TimeSpan.FromMinutes(30));
        Assert.Equal(written, SqliteTests.Ask(Db, "SELECT version || ' ' || tag || ' ' || expires_at FROM sessions"));

        var opened = await SqliteTests.BeginAsync(store, "a", atLeast: TimeSpan.FromMinutes(31));
        Assert.Equal(time.GetUtcNowMicroseconds().AddMinutes(31), opened.Session!.ExpiresAt);
        Assert.Equal(opened.Session.Revision, (await SqliteTests.GetAsync(store, "a"))!.Revision);
        time.Advance(TimeSpan.FromMinutes(30.5));
        Assert.Equal(0, await store.SweepAsync(Cancel));
        Assert.Equal(WriteStatus.Written, await SqliteTests.CommitAsync(store, opened));
        Assert.Equal(2, (await SqliteTests.HistoryAsync(store, "a")).Count);
    }

    [Fact]
    public async Task A_backup_taken_under_load_is_whole_and_opens()
    {
        var copy = _folder["copy.db"];
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.FillAsync(store, "long", "user", 5000);
        using var stop = new CancellationTokenSource();
        var load = Task.Run(async () =>
        {
            for (var i = 0; !stop.IsCancellationRequested; i++)
            {
                await SqliteTests.TurnAsync(store, $"s{i % 10}", "user");
            }
        }, Cancel);

        SqliteBackup.Write(SqliteFile.Existing(Db), copy);
        await stop.CancelAsync();
        await load;

        Assert.Equal("ok", SqliteTests.Ask(copy, "PRAGMA integrity_check"));
        Assert.Equal("0", SqliteTests.Ask(copy,
            "SELECT count(*) FROM sessions s WHERE turn_count <> (SELECT count(*) FROM turns t WHERE t.session = s.key)"));
        await using var restored = SqliteTests.Open(copy);
        Assert.Equal(5000, (await SqliteTests.GetAsync(restored, "long"))!.TurnCount);
        Assert.Throws<IOException>(() => SqliteBackup.Write(SqliteFile.Existing(Db), copy));
    }

    /// <summary>Keeps the writer from what comes behind this, until it is let go.</summary>
    internal static Task<int> HoldAsync(SqliteSessionStore store, ManualResetEventSlim release) => store.Writer.RunAsync(_ =>
    {
        release.Wait(Cancel);
        return 0;
    }, Cancel);

    private static async Task FillUpAndRecoverAsync(SqliteSessionStore store, Func<Task> makeRoomAsync)
    {
        var answered = 0;
        StoreUnavailableException? refused = null;
        for (var i = 0; refused is null && i < 1000; i++)
        {
            // Several at once: they fail one by one, and those that still fit are committed.
            var turns = Enumerable.Range(0, 4)
                .Select(j => SqliteTests.TurnAsync(store, $"s{i}-{j}", "user", response: new string('x', 20_000))).ToList();
            foreach (var turn in turns)
            {
                try
                {
                    Assert.Equal(WriteStatus.Written, await turn);
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
        var health = await store.CheckAsync(Cancel);
        Assert.Equal(HealthStatus.Unhealthy, health.Status);
        Assert.Equal(refused.Message, health.Description);

        // What is there can still be read.
        Assert.NotNull(await SqliteTests.GetAsync(store, "a"));
        Assert.Equal(answered + 1, (await store.CountAsync(Cancel)).ActiveSessions);

        await makeRoomAsync();
        await TestStore.HealthyAsync(store);
        Assert.Equal(WriteStatus.Written, await SqliteTests.TurnAsync(store, "after", response: new string('x', 20_000)));
        Assert.Equal(answered + 2, (await store.CountAsync(Cancel)).ActiveSessions);
    }

    // On the connection that writes.
    private static Task<string?> LimitAsync(SqliteSessionStore store, string pragma) =>
        store.Writer.RunAsync(work => work.Db.Ask(pragma), Cancel);
}
