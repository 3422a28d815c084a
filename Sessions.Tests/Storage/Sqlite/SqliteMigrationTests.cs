using System.Globalization;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>
/// Files that earlier versions have left become files of this one, with everything in them. In the folder Files: of ada "plain" (40
/// turns, a summary, a failure, an idempotency key) and "empty" (made by a key), "few" (3 turns) of nobody, and "sealed" (5 turns,
/// encrypted) of eve.
/// </summary>
public sealed class SqliteMigrationTests : IDisposable
{
    private static readonly DateTimeOffset Written = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private readonly TestFolder _folder = new();
    private readonly FakeTimeProvider _time = new(Written.AddHours(1));

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private string Db => _folder["a.db"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Everything_is_there_once_and_in_order_and_goes_on(int format)
    {
        await using var store = await OpenAsync(format);

        var plain = (await store.GetAsync("plain"))!;
        Assert.Equal(("ada", SessionKind.Session, SessionOrigin.Api, 40, 1, "went wrong"),
            (plain.UserId!, plain.Kind, plain.CreatedFrom, plain.TurnCount, plain.ErrorCount, $"{plain.LastError}"));
        Assert.Equal(("summary", 28), ($"{plain.Summary!.Text}", plain.Summary.CoversTurns));
        Assert.Equal("""{"tag":"blue"}""", System.Text.Encoding.UTF8.GetString(plain.Metadata.Span));
        Assert.NotEqual(default, plain.Key);
        Assert.Equal(plain.Key, (await store.GetAsync(SessionRef.ByKey(plain.Key), Owner.Anyone))!.Key);
        var turns = await store.TurnsAsync("plain");
        Assert.Equal(Numbered("q", 40), turns.Select(turn => $"{turn.Input}"));
        Assert.Equal(Enumerable.Range(1, 40).Select(i => $"r{i} ü\0"), turns.Select(turn => $"{turn.Output}"));
        Assert.All(turns, turn => Assert.Equal((turn.Number - 1, 1, TurnNonce.OfNumber(turn.Number), TurnStatus.Completed),
            (turn.Parent, turn.RunStart, turn.Nonce, turn.Status)));
        Assert.All(turns,
            turn => Assert.Equal(("advanced", "builtin", 1.5), (turn.AgentType, turn.AgentUsed, turn.ExecutionTime.TotalMilliseconds)));
        Assert.Equal(Written.AddSeconds(39), turns[39].CreatedAt);
        Assert.True(turns[0] is { StartedSession: false } && (await store.TurnsAsync("few"))[0].StartedSession);
        Assert.Equal(Numbered("few", 3), (await store.TurnsAsync("few")).Select(turn => $"{turn.Input}"));
        Assert.Equal(5,
            (await store.TurnsAsync("sealed")).Count(turn => turn.Input.ToString().StartsWith("\u0001E1", StringComparison.Ordinal)));
        Assert.Equal(4, await store.CountAsync());
        Assert.Equal(["empty", "plain"], (await store.ListIdsAsync("ada")).Order());
        Assert.Equal(["empty", "few", "plain", "sealed"], (await store.ListIdsAsync(null)).Order());

        // Idempotency records.
        var replayed = await store.BeginAsync("plain", "ada",
            idempotency: new Idempotency(new Guid(5, 0, 0, new byte[8]), new Guid(6, 0, 0, new byte[8])));
        Assert.Equal((OpenStatus.Replayed, "q5"), (replayed.Status, $"{replayed.Replay?.Input}"));
        var reserved = await store.Store.ReserveAsync(new Idempotency(new Guid(7, 0, 0, new byte[8]), new Guid(8, 0, 0, new byte[8])),
            Owner.Anyone, "another", Cancel);
        Assert.Equal(new KeyReservation("empty", SameBody: true, IsNew: false), reserved);

        // It goes on, also as a branch out of the old turns.
        await store.TurnAsync("plain", "ada", "q41");
        await store.TurnAsync("empty", "ada", "empty1");
        Assert.Equal(Numbered("q", 41), (await store.PathAsync("plain")).Select(turn => $"{turn.Input}"));
        var branch = await store.TurnAsync("plain", "ada", "again", tip: 17);
        Assert.Equal((42, 17, 42), (branch.Number, branch.Parent, branch.RunStart));
        Assert.Equal([.. Numbered("q", 17), "again"], (await store.PathAsync("plain")).Select(turn => $"{turn.Input}"));
        Assert.Equal(CopyStatus.Created, (await store.ForkAsync("plain", "fork", 33)).Status);
        Assert.Equal(Numbered("q", 33), (await store.PathAsync("fork")).Select(turn => $"{turn.Input}"));
        Assert.Equal(new Erasure(3, 42 + 1 + 33), await store.Store.EraseAsync("ada", Cancel));
        Assert.True(await store.DeleteAsync("few"));
        Assert.True(await store.DeleteAsync("sealed"));
        await store.Store.SweepAsync(Cancel);
        Assert.Equal("0 0 0", SqliteTests.Ask(Db, "SELECT (SELECT count(*) FROM turns) || ' ' || (SELECT count(*) FROM sessions) || ' ' || "
            + "(SELECT value FROM totals WHERE name = 'unowned_size')"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task An_old_turn_can_be_rewritten(int format)
    {
        await using var store = await OpenAsync(format);
        var opened = await store.ReadAsync("plain");
        var old = (await store.TurnsAsync("plain"))[16];

        Assert.Equal(WriteStatus.Written, (await store.Store.WriteAsync(opened,
            new ReplaceTurn(old with { Input = Items.OfJson("[null]"u8.ToArray()) }, DropSummary: true), Cancel)).Status);

        var turns = await store.TurnsAsync("plain");
        Assert.Equal("[null]", $"{turns[16].Input}");
        Assert.Equal(old with { Input = turns[16].Input, Response = turns[16].Response }, turns[16]);
        Assert.Equal("q18", $"{turns[17].Input}");
        Assert.Null((await store.GetAsync("plain"))!.Summary);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Keys_are_given_once_whoever_asks_first(int format)
    {
        await using var store = await OpenAsync(format);
        var asked = await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => Task.Run(() => store.GetAsync("plain"), Cancel)));
        Assert.Single(asked.Select(session => session!.Key).Distinct());
        var exported = await store.ExportAsync();
        Assert.Equal(4, exported.Where(entry => entry.Session is not null).Select(entry => entry.Session!.Session.Key)
            .Where(key => key != default).Distinct().Count());
        await store.ReopenAsync();
        Assert.Equal(asked[0]!.Key, (await store.GetAsync("plain"))!.Key);
    }

    [Fact]
    public async Task No_turn_is_read_or_written_on_the_way_from_format_2()
    {
        await using (await OpenAsync(2))
        {
        }

        Assert.Equal("3", SqliteTests.Ask(Db, "PRAGMA user_version"));
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT count(*) FROM turns WHERE details IS NOT NULL"));
        Assert.Equal("48", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
    }

    [Fact]
    public async Task A_server_of_the_version_before_that_still_runs_can_not_add_turns()
    {
        await using var store = await OpenAsync(2);

        // It would know nothing of branches.
        Assert.ThrowsAny<Microsoft.Data.Sqlite.SqliteException>(() => SqliteTests.Execute(Db, """
            INSERT INTO turns
            (session, number, previous, created_at, execution_us, started_session, agent_type, agent_used, query, response) VALUES
            (1, 41, 1, 1, 1, 0, '', '', '', '')
            """));

        // What it creates or deletes is counted all the same.
        var now = _time.GetUtcNow().ToMicroseconds();
        SqliteTests.Execute(Db, string.Create(CultureInfo.InvariantCulture, $"""
            INSERT INTO sessions (id, created_at, created_from, last_activity_at, expires_at, version, turn_count, error_count)
            VALUES ('old', {now}, 'api', {now}, {now + 3_600_000_000}, 1, 0, 0)
            """));
        Assert.Equal(5, await store.CountAsync());
        Assert.NotEqual(default, (await store.GetAsync("old"))!.Key);
        SqliteTests.Execute(Db, "DELETE FROM sessions WHERE id = 'old'");
        Assert.Equal(4, await store.CountAsync());
    }

    [Fact]
    public async Task Several_that_start_at_once_migrate_once()
    {
        File.Copy(Fixture(1), Db);
        var stores = await Task.WhenAll(Enumerable.Range(0, 8)
            .Select(_ => Task.Run(() => SqliteTests.Open(Db, SqliteTests.NewPolicy(), _time), Cancel)));
        foreach (var store in stores)
        {
            Assert.Equal(40, (await SqliteTests.GetAsync(store, "plain"))!.TurnCount);
            await store.DisposeAsync();
        }
    }

    [Fact]
    public void The_size_of_a_session_is_that_of_the_policy()
    {
        SqliteFile.Prepare(Db);
        SqliteTests.Execute(Db, """
            INSERT INTO sessions (id, created_at, created_from, last_activity_at, expires_at, version, turn_count, error_count, bytes)
            VALUES ('a', 0, 'api', 0, 1, 1, 7, 0, 1000)
            """);
        Assert.Equal($"{StorePolicy.SizeOf(1000, 7)}", SqliteTests.Ask(Db, "SELECT size FROM sessions"));
        Assert.Equal($"{StorePolicy.SizeOf(1000, 7)}", SqliteTests.Ask(Db, "SELECT value FROM totals WHERE name = 'unowned_size'"));
    }

    private async Task<TestStore> OpenAsync(int format)
    {
        File.Copy(Fixture(format), Db);
        return await TestStore.OpenAsync(SqliteTests.NewPolicy(), _time, policy => new(SqliteTests.Open(Db, policy, _time)));
    }

    private static string Fixture(int format) => Repository.File("Sessions.Tests", "Storage", "Sqlite", "Files", $"format{format}.db");

    private static IEnumerable<string> Numbered(string prefix, int count) =>
        Enumerable.Range(1, count).Select(i => string.Create(CultureInfo.InvariantCulture, $"{prefix}{i}"));
}
