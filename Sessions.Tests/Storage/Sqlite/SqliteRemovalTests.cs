using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>What is removed is gone from the disk, without holding up anybody, and its space comes back.</summary>
public sealed class SqliteRemovalTests : IDisposable
{
    private const string Canary = "canary-7f3a";

    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Nothing_of_an_erased_user_is_left_in_any_file()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Looks at open files with grep.");
        await using var store = SqliteTests.Open(Db);
        foreach (var round in Enumerable.Range(0, 30))
        {
            // Woven into what stays, in rows of many sizes, so that they share pages and spill over into others.
            var text = string.Concat(Enumerable.Repeat(Canary + " ", 1 + (round * round)));
            await SqliteTests.CreateAsync(store, $"m{round}", "gone", $$"""{"k":"{{Canary}}"}""");
            for (var turn = 0; turn < 5; turn++)
            {
                await SqliteTests.TurnAsync(store, $"gone{round % 7}", "gone", Canary, text);
                await SqliteTests.TurnAsync(store, $"stays{round % 5}", "stays", "stays", new string('s', 1 + (round * 37)));
            }

            var failing = await SqliteTests.BeginAsync(store, $"gone{round % 7}");
            await store.WriteAsync(failing, new RecordFailure($"{Canary} {text[..Math.Min(text.Length, 500)]}", null), Cancel);
        }

        await SqliteTests.CreateAsync(store, "chain", "gone", Canary, SessionKind.Chain);
        await SqliteTests.FillAsync(store, "long", "gone", 2000, Canary);
        Assert.NotEqual(0, await OccurrencesAsync(Canary));

        var erasure = await store.EraseAsync("gone", Cancel);

        Assert.Equal(new Erasure(30 + 7 + 1 + 1, 150 + 2000), erasure);
        Assert.Equal(0, await OccurrencesAsync(Canary));
        Assert.Equal(5, (await store.CountAsync(Cancel)).ActiveSessions);
        Assert.Equal("ok", SqliteTests.Ask(Db, "PRAGMA integrity_check"));
        Assert.Equal("150", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT count(*) FROM chain_sizes"));
    }

    [Theory]
    [InlineData(10)]
    [InlineData(100_000)]
    public async Task Nothing_of_a_deleted_item_is_left_in_any_file(int length)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Looks at open files with grep.");
        await using var store = SqliteTests.Open(Db);
        for (var i = 1; i <= 20; i++)
        {
            await SqliteTests.TurnAsync(store, "a", "user", i == 7 ? Canary + new string('x', length) : "stays");
        }

        Assert.NotEqual(0, await OccurrencesAsync(Canary));
        var opened = await store.OpenAsync(new OpenRequest { Session = SessionRef.ById("a"), Owner = Owner.Anyone }, Cancel);
        var turn = (await SqliteTests.HistoryAsync(store, "a"))[6];

        var written = await store.WriteAsync(opened,
            new ReplaceTurn(turn with { Input = Items.OfJson("[null]"u8.ToArray()) }, DropSummary: false), Cancel);

        Assert.Equal(WriteStatus.Written, written.Status);
        Assert.Equal(0, await OccurrencesAsync(Canary));
        Assert.Equal(20, (await SqliteTests.HistoryAsync(store, "a")).Count);
    }

    [Fact]
    public async Task Nobody_waits_for_an_erasure_while_somebody_else_reads_for_long()
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.TurnAsync(store, "gone", "gone", Canary);
        using var reader = new SqliteDatabase(Db, TimeSpan.Zero);
        reader.Execute("BEGIN");
        reader.Ask("SELECT count(*) FROM turns");

        // As a backup, an export or a shell reads.
        var erasing = store.EraseAsync("gone", Cancel).AsTask();
        var erasingAgain = store.EraseAsync("nobody", Cancel).AsTask();
        var turns = 0;
        var slowest = TimeSpan.Zero;
        while (!erasing.IsCompleted && turns < 50)
        {
            var started = Stopwatch.GetTimestamp();
            Assert.Equal(WriteStatus.Written, await SqliteTests.TurnAsync(store, $"s{turns % 10}", "user"));
            slowest = Stopwatch.GetElapsedTime(started) is var took && took > slowest ? took : slowest;
            turns++;
        }

        // With the writer waiting for the reader, each of them takes 10 seconds.
        Assert.Equal(50, turns);
        Assert.InRange(slowest, TimeSpan.Zero, TimeSpan.FromSeconds(5));
        reader.Execute("COMMIT");
        Assert.Equal(new Erasure(1, 1), await erasing);
        Assert.Equal(default, await erasingAgain);
        Assert.Equal(0, await OccurrencesAsync(Canary));
    }

    [Fact]
    public async Task Removing_a_very_long_session_holds_up_nobody()
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.FillAsync(store, "long", "user", 50_000);

        // One right behind the other: who comes after the deletion, or after a step of what is done behind it, waits for no more of it.
        var release = new ManualResetEventSlim();
        var held = SqliteTroubleTests.HoldAsync(store, release);
        var deleting = store.DeleteAsync(SessionRef.ById("long"), Owner.Anyone, Cancel).AsTask();
        var step = store.Writer.RunAsync(work => work.RemoveUnlinked(), Cancel);
        var left = store.Writer.RunAsync(work => work.Db.Ask("SELECT count(*) FROM turns"), Cancel);
        release.Set();
        await held;

        Assert.True(await deleting);
        Assert.True(await step);
        Assert.InRange(int.Parse((await left)!, CultureInfo.InvariantCulture), 45_000, 49_999);
        Assert.Null(await SqliteTests.GetAsync(store, "long"));
        for (var i = 0; i < 50; i++)
        {
            await SqliteTests.TurnAsync(store, "long", "user");
        }

        await store.SweepAsync(Cancel);
        Assert.Equal("50", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
    }

    [Fact]
    public async Task What_a_process_did_not_get_to_remove_is_removed_by_the_next()
    {
        await using (var store = SqliteTests.Open(Db))
        {
            await SqliteTests.FillAsync(store, "long", "user", 5000);
        }

        SqliteTests.Execute(Db, SqliteSql.UnlinkUser.Replace("user_id = ?", "user_id = 'user'", StringComparison.Ordinal));
        await using (var store = SqliteTests.Open(Db))
        {
            Assert.Null(await SqliteTests.GetAsync(store, "long"));
            Assert.Equal(0, (await store.CountAsync(Cancel)).ActiveSessions);
            await store.SweepAsync(Cancel);
        }

        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT (SELECT count(*) FROM turns) + (SELECT count(*) FROM sessions)"));
    }

    [Fact]
    public async Task Cleanup_gives_the_space_back()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        await using (var store = SqliteTests.Open(Db, SqliteTests.NewPolicy(TimeSpan.FromHours(1)), time))
        {
            for (var i = 0; i < 300; i++)
            {
                await SqliteTests.TurnAsync(store, $"s{i}", "user", response: new string('x', 10_000));
            }

            time.Advance(TimeSpan.FromHours(2));
            Assert.Equal(0, (await store.CountAsync(Cancel)).ActiveSessions);
            Assert.Equal(300, await store.SweepAsync(Cancel));
            Assert.Equal(0, (await store.CountAsync(Cancel)).ActiveSessions);
        }

        Assert.InRange(new FileInfo(Db).Length, 0, 150_000);
    }

    [Fact]
    public async Task A_fork_of_a_very_long_session_holds_up_nobody_and_is_whole()
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.FillAsync(store, "long", "user", 20_000);

        var fork = store.CopyAsync(
            new CopyRequest { Session = TestStore.New("fork"), Source = SessionRef.ById("long"), AfterTurn = 19_999 }, Cancel).AsTask();
        await SqliteTests.TurnAsync(store, "other");
        Assert.Equal(CopyStatus.Created, (await fork).Status);

        var copy = (await SqliteTests.GetAsync(store, "fork"))!;
        Assert.Equal((19_999, "q19999", "user"), (copy.TurnCount, $"{copy.LastTurn!.Input}", copy.UserId!));
        Assert.Equal("19999|1|19999", SqliteTests.Ask(Db, "SELECT count(*) || '|' || min(number) || '|' || max(number) "
            + "FROM turns t JOIN sessions s ON s.key = t.session WHERE s.id = 'fork'"));
        Assert.Equal(CopyStatus.IdTaken,
            (await store.CopyAsync(new CopyRequest { Session = TestStore.New("fork"), Source = SessionRef.ById("long") }, Cancel)).Status);
        await store.SweepAsync(Cancel);
        Assert.Equal("40000", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
    }

    [Fact]
    public async Task An_import_that_breaks_off_leaves_nothing()
    {
        await using var store = SqliteTests.Open(Db);
        async IAsyncEnumerable<ArchivedTurn> BrokenAsync()
        {
            await foreach (var turn in SqliteTests.TurnsAsync(5000))
            {
                yield return turn;
            }

            throw new IOException("mine");
        }

        await Assert.ThrowsAsync<IOException>(
            async () => await store.CopyAsync(new CopyRequest { Session = TestStore.New("a"), Turns = BrokenAsync() }, Cancel));
        await store.SweepAsync(Cancel);
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT (SELECT count(*) FROM turns) + (SELECT count(*) FROM sessions)"));
    }

    [Fact]
    public async Task Two_turns_for_one_key_are_no_import()
    {
        await using var store = SqliteTests.Open(Db);
        async IAsyncEnumerable<ArchivedTurn> TwiceAsync()
        {
            var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
            await foreach (var turn in SqliteTests.TurnsAsync(2))
            {
                yield return turn with { AnsweredTo = key };
            }
        }

        await Assert.ThrowsAsync<InvalidDataException>(
            async () => await store.CopyAsync(new CopyRequest { Session = TestStore.New("a"), Turns = TwiceAsync() }, Cancel));
        Assert.Null(await SqliteTests.GetAsync(store, "a"));
    }

    // By another process: if this one opened and closed the file, SQLite's locks on it would be dropped.
    private async Task<int> OccurrencesAsync(string text)
    {
        var (_, output) = await SqliteTests.RunAsync("sh", "-c", $"cat '{Db}' '{Db}-wal' | grep -a -o -F -- '{text}' | wc -l");
        return int.Parse(output.Trim(), CultureInfo.InvariantCulture);
    }
}
