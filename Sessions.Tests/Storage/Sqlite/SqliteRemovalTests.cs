using System.Diagnostics;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>What is removed is gone from the disk, without holding up anybody, and its space comes back.</summary>
public sealed class SqliteRemovalTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Nothing_of_an_erased_user_is_left_in_any_file()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Looks at open files with grep.");
        const string Canary = "canary-7f3a";
        await using var store = SqliteTests.Open(Db);
        foreach (var round in Enumerable.Range(0, 30))
        {
            // Woven into what stays, in rows of many sizes, so that they share pages and spill over into others.
            var text = string.Concat(Enumerable.Repeat(Canary + " ", 1 + (round * round)));
            await store.CreateAsync(TestStore.New($"m{round}", "gone", $$"""{"k":"{{Canary}}"}"""), TestStore.Cancel);
            for (var turn = 0; turn < 5; turn++)
            {
                await SqliteTests.TurnAsync(store, $"gone{round % 7}", "gone", Canary, text);
                await SqliteTests.TurnAsync(store, $"stays{round % 5}", "stays", "stays", new string('s', 1 + (round * 37)));
            }

            var failing = await store.BeginTurnAsync(new TurnRequest { SessionId = $"gone{round % 7}", Owner = Owner.Anyone, HistoryTurns = 0 }, TestStore.Cancel);
            await store.FailTurnAsync(failing, $"{Canary} {text[..Math.Min(text.Length, 500)]}", TestStore.Cancel);
        }

        await SqliteTests.FillAsync(store, "long", "gone", 2000, Canary);
        Assert.NotEqual(0, await OccurrencesAsync(Canary));

        var erasure = await store.EraseUserAsync("gone", TestStore.Cancel);

        Assert.Equal(new Erasure(30 + 7 + 1, 150 + 2000), erasure);
        Assert.Equal(0, await OccurrencesAsync(Canary));
        Assert.Equal(5, (await store.GetStatisticsAsync(TestStore.Cancel)).ActiveSessions);
        Assert.Equal("ok", SqliteTests.Ask(Db, "PRAGMA integrity_check"));
        Assert.Equal("150", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
    }

    [Fact]
    public async Task Removing_a_very_long_session_holds_up_nobody()
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.FillAsync(store, "long", "user", 100_000);

        Assert.True(await store.DeleteAsync("long", Owner.Anyone, TestStore.Cancel));
        Assert.Null(await store.GetAsync("long", Owner.Anyone, TestStore.Cancel));
        var slowest = TimeSpan.Zero;
        for (var i = 0; i < 50; i++)
        {
            var started = Stopwatch.GetTimestamp();
            await SqliteTests.TurnAsync(store, "long", "user");
            slowest = Stopwatch.GetElapsedTime(started) is var took && took > slowest ? took : slowest;
        }

        // In one step it takes seconds.
        Assert.InRange(slowest, TimeSpan.Zero, TimeSpan.FromSeconds(1));
        await store.RemoveExpiredAsync(TestStore.Cancel);
        Assert.Equal("50", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
    }

    [Fact]
    public async Task What_a_process_did_not_get_to_remove_is_removed_by_the_next()
    {
        await using (var store = SqliteTests.Open(Db))
        {
            await SqliteTests.FillAsync(store, "long", "user", 5000);
        }

        SqliteTests.Execute(Db, SqliteSql.UnlinkUser.Replace("?", "'user'", StringComparison.Ordinal));
        await using (var store = SqliteTests.Open(Db))
        {
            Assert.Null(await store.GetAsync("long", Owner.Anyone, TestStore.Cancel));
            Assert.Equal(0, (await store.GetStatisticsAsync(TestStore.Cancel)).ActiveSessions);
            await store.RemoveExpiredAsync(TestStore.Cancel);
        }

        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT (SELECT count(*) FROM turns) + (SELECT count(*) FROM sessions)"));
    }

    [Fact]
    public async Task Cleanup_gives_the_space_back()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        await using (var store = SqliteTests.Open(Db, new SessionSettings { TimeoutHours = 1, MaxSessionsPerUser = 0 }, time))
        {
            for (var i = 0; i < 300; i++)
            {
                await SqliteTests.TurnAsync(store, $"s{i}", "user", response: new string('x', 10_000));
            }

            time.Advance(TimeSpan.FromHours(2));
            Assert.Equal(300, await store.RemoveExpiredAsync(TestStore.Cancel));
        }

        Assert.InRange(new FileInfo(Db).Length, 0, 100_000);
    }

    [Fact]
    public async Task A_fork_of_a_very_long_session_holds_up_nobody_and_is_whole()
    {
        await using var store = SqliteTests.Open(Db);
        await SqliteTests.FillAsync(store, "long", "user", 20_000);

        var fork = store.ForkAsync("long", Owner.Anyone, 19_999, TestStore.New("fork", "user"), TestStore.Cancel).AsTask();
        await SqliteTests.TurnAsync(store, "other");
        Assert.Equal(ForkStatus.Created, (await fork).Status);

        var copy = (await store.GetAsync("fork", Owner.Anyone, TestStore.Cancel))!;
        Assert.Equal((19_999, "q19999"), (copy.TurnCount, copy.LastTurn!.Query));
        Assert.Equal("19999|1|19999", SqliteTests.Ask(Db, "SELECT count(*) || '|' || min(number) || '|' || max(number) FROM turns t JOIN sessions s ON s.key = t.session WHERE s.id = 'fork'"));
        Assert.Equal(ForkStatus.IdTaken, (await store.ForkAsync("long", Owner.Anyone, null, TestStore.New("fork", "user"), TestStore.Cancel)).Status);
        await store.RemoveExpiredAsync(TestStore.Cancel);
        Assert.Equal("40000", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
    }

    // By another process: if this one opened and closed the file, SQLite's locks on it would be dropped.
    private async Task<int> OccurrencesAsync(string text)
    {
        var (_, output) = await SqliteTests.RunAsync("sh", "-c", $"cat '{Db}' '{Db}-wal' | grep -a -o -F -- '{text}' | wc -l");
        return int.Parse(output.Trim(), System.Globalization.CultureInfo.InvariantCulture);
    }
}
