using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>What can't be read is told where it is asked for and gone past where it is not; nothing of it is removed but by deletion,
/// erasure and expiry.</summary>
public sealed class SqliteDamageTests : IDisposable
{
    private const int PageBytes = 4096;

    private readonly TestFolder _folder = new();
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
    private readonly DamageReport _damage = new();

    public SqliteDamageTests() =>
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows lets nobody write into a file that SQLite has open.");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    // SQLite does not notice these: each reads as something that nobody wrote.
    [Fact]
    public async Task Damaged_metadata_is_told_as_that_and_health_says_so()
    {
        await using var server = SessionsServer.Start([("sessions:storage_type", "sqlite"), ("sessions:db_path", Db)]);
        Assert.Equal(201, (await server.PostAsync("/sessions", new { session_id = "bad", metadata = new { a = 1 } })).Status);
        SqliteTests.Execute(Db, "UPDATE sessions SET metadata = CAST('{' AS BLOB) WHERE id = 'bad'");

        var answer = await server.SendAsync(HttpMethod.Patch, "/sessions/bad", """{"metadata":{"b":2}}""");

        answer.IsProblem(503, "storage_damaged");
        Assert.Contains("Degraded", (await server.GetAsync("/health")).Text, StringComparison.Ordinal);
        Assert.Equal(200, (await server.DeleteAsync("/sessions/bad")).Status);
        Assert.DoesNotContain("Degraded", (await server.GetAsync("/health")).Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("metadata = CAST('{' AS BLOB)", false)]
    [InlineData("metadata = CAST('{' AS BLOB)", true)]
    [InlineData("turn_count = -1", false)]
    [InlineData("turn_count = -1", true)]
    public Task What_can_not_be_read_makes_no_room(string update, bool isKnown) => DamagedSessions.MakesNoRoomAsync(
        limit => SessionsServer.Start([("sessions:storage_type", "sqlite"), ("sessions:db_path", Db), limit]),
        id => SqliteTests.Execute(Db, $"UPDATE sessions SET {update} WHERE id = '{id}'"), isKnown);

    [Fact]
    public Task A_chain_that_can_not_be_read_makes_no_room() => DamagedSessions.ChainMakesNoRoomAsync(
        limit => SessionsServer.Start([("sessions:storage_type", "sqlite"), ("sessions:db_path", Db), limit]),
        () => Task.Run(() => SqliteTests.Execute(Db, "UPDATE sessions SET metadata = CAST('{' AS BLOB)"), Cancel));

    [Theory]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("""{"a":"\ud800"}""")]
    [InlineData("""{"\u0001v1":1}""")]
    public async Task Metadata_that_nobody_wrote_is_told_as_damage_under_v1_as_well(string stored)
    {
        await using var server = SessionsServer.Start([("sessions:storage_type", "sqlite"), ("sessions:db_path", Db)]);
        Assert.Equal(201,
            (await server.PostAsync("/sessions", new { session_id = "bad", user_id = "ada", metadata = new { a = 1 } })).Status);
        SqliteTests.Execute(Db, $"UPDATE sessions SET metadata = CAST('{stored}' AS BLOB) WHERE id = 'bad'");

        foreach (var answer in (Answer[])
            [
                await server.GetAsync("/v1/conversations/bad"),
                await server.PostAsync("/v1/conversations/bad", new { metadata = new { b = "2" } }),
            ])
        {
            Assert.Equal((503, "storage_damaged"), (answer.Status, (string?)answer.Json["error"]!["code"]));
        }

        Assert.Contains("Degraded", (await server.GetAsync("/health")).Text, StringComparison.Ordinal);
        var list = await server.GetAsync("/v1/conversations?user_id=ada");
        Assert.Equal((200, 0), (list.Status, list.Json["data"]!.AsArray().Count));
        Assert.Equal(200, (await server.DeleteAsync("/v1/conversations/bad")).Status);
    }

    [Theory]
    [InlineData("query_bytes")]
    [InlineData("response_bytes")]
    [InlineData("response_object")]
    public async Task A_turn_whose_json_is_damaged_is_told_and_the_others_of_its_session_are_there(string column)
    {
        await using var server = SessionsServer.Start([("sessions:storage_type", "sqlite"), ("sessions:db_path", Db)]);
        foreach (var text in (string[])["one", "two", "three"])
        {
            Assert.Equal(201, (await server.PostAsync("/sessions/bad/turns", new
            {
                input = new[] { new { role = "user", content = text } },
                output = new[] { new { role = "assistant", content = "good day" } },
                user_id = "ada",
            })).Status);
        }

        SqliteTests.Execute(Db, $"UPDATE turns SET {column} = CAST('[{{' AS BLOB) WHERE number = 2");
        await using var again = SessionsServer.Start([("sessions:storage_type", "sqlite"), ("sessions:db_path", Db)]);

        Assert.Equal("three", (string?)(await again.GetAsync("/sessions/bad")).Json["context"]!["last_query"]);
        Assert.Equal("one", (string?)(await again.GetAsync("/sessions/bad/history?limit=1")).Json["turns"]![0]!["query"]);
        (await again.GetAsync("/sessions/bad/history")).IsProblem(503, "storage_damaged");
        (await again.TryQueryAsync("four", "bad", "ada")).IsProblem(503, "storage_damaged");
        Assert.Contains("Degraded", (await again.GetAsync("/health")).Text, StringComparison.Ordinal);
        Assert.False((bool)(await again.GetAsync("/users/ada/usage")).Json["is_complete"]!);

        // In an export it keeps its place.
        var export = (await again.GetAsync("/users/ada/export")).Text;
        Assert.Equal([null, "unreadable", null], export.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => System.Text.Json.Nodes.JsonNode.Parse(line)!["turn"]).OfType<System.Text.Json.Nodes.JsonNode>()
            .Select(turn => (string?)turn["incomplete_reason"]));

        // No copy ends with it.
        (await again.PostAsync("/sessions/bad/fork", new { after_turn = 2, session_id = "copy" })).IsProblem(503, "storage_damaged");
        (await again.GetAsync("/sessions/copy")).IsProblem(404, "session_not_found");
        Assert.Equal(201, (await again.PostAsync("/sessions/bad/fork", new { after_turn = 1, session_id = "copy" })).Status);
        Assert.Equal(["one"], await again.HistoryAsync("copy"));
        Assert.Equal("3", SqliteTests.Ask(Db, "SELECT count(*) FROM turns WHERE session = (SELECT key FROM sessions WHERE id = 'bad')"));
    }

    [Theory]
    [InlineData("sessions SET created_at = 9000000000000000000")]
    [InlineData("sessions SET last_activity_at = 9000000000000000000")]
    [InlineData("sessions SET expires_at = 9000000000000000000")]
    [InlineData("sessions SET created_at = -9000000000000000000")]
    [InlineData("sessions SET turn_count = -36")]
    [InlineData("sessions SET turn_count = 5000000000")]
    [InlineData("sessions SET turn_count = 21")]
    [InlineData("sessions SET turn_count = 19")]
    [InlineData("sessions SET created_from = '?'")]
    [InlineData("sessions SET kind = 1, session_key = x'010203'")]
    [InlineData("sessions SET kind = 77")]
    [InlineData("sessions SET rewrites = -1")]
    [InlineData("sessions SET last_turn = 4711")]
    [InlineData("sessions SET last_turn = (SELECT key FROM turns WHERE session <> sessions.key)")]
    [InlineData("turns SET details = x''")]
    [InlineData("turns SET details = x'ff'")]
    [InlineData("turns SET details = x'ffffffffffffffffff7f0000'")]
    [InlineData("turns SET details = NULL, created_at = 9000000000000000000")]
    [InlineData("turns SET details = NULL, execution_us = -9000000000000000000")]
    [InlineData("turns SET number = -1")]
    [InlineData("turns SET session = 4711")]
    public async Task Values_that_nobody_wrote_are_told_and_stop_nothing_else(string update)
    {
        await using var store = await FillAsync();
        var key = update.StartsWith("turns", StringComparison.Ordinal) ? "session" : "key";
        SqliteTests.Execute(Db, $"UPDATE {update} WHERE {key} = (SELECT key FROM sessions WHERE id = 'bad')");

        await Assert.ThrowsAsync<StoredDataException>(async () => await SqliteTests.BeginAsync(store, "bad", "ada"));
        await Assert.ThrowsAsync<StoredDataException>(async () => await SqliteTests.HistoryAsync(store, "bad"));
        await Assert.ThrowsAsync<StoredDataException>(async () =>
            await store.CopyAsync(new CopyRequest { Session = TestStore.New("fork"), Source = SessionRef.ById("bad") }, Cancel));
        Assert.Equal(1, _damage.Count);

        // The others are there for all who do not ask for this one.
        Assert.Equal(["good", "good2"], (await store.ListAsync(new SessionPageRequest { UserId = "ada", Limit = 10 }, Cancel)).Items
            .Select(session => session.Id).Order());
        Assert.Equal(["good", "good2"], await ExportedAsync(store));
        Assert.Equal(1, _damage.Count);
        Assert.Equal(WriteStatus.Written, await SqliteTests.TurnAsync(store, "good", "ada"));
        Assert.Equal(0, await store.SweepAsync(Cancel));

        // It is still what it was, until somebody removes it.
        Assert.Equal("1", SqliteTests.Ask(Db, "SELECT count(*) FROM sessions WHERE id = 'bad'"));
        Assert.True(await store.DeleteAsync(SessionRef.ById("bad"), Owner.Of("ada"), Cancel));
        Assert.Equal(0, _damage.Count);
        Assert.Null(await SqliteTests.GetAsync(store, "bad"));
        Assert.Equal(2, (await store.CountAsync(Cancel)).ActiveSessions);
        Assert.Equal(new Erasure(2, 41), await store.EraseAsync("ada", Cancel));
    }

    [Theory]
    [InlineData("details = x'ff'")]
    [InlineData("previous = key")]
    [InlineData("previous = 4711")]
    [InlineData("number = number + 1")]
    public async Task A_damaged_turn_is_told_and_those_behind_it_can_be_read(string update)
    {
        await using var store = await FillAsync();
        SqliteTests.Execute(Db, $"UPDATE turns SET {update} WHERE number = 5 AND session = (SELECT key FROM sessions WHERE id = 'bad')");

        var tail = await store.OpenAsync(
            new OpenRequest { Session = SessionRef.ById("bad"), Owner = Owner.Anyone, HistoryTurns = 10 }, Cancel);
        Assert.Equal(Enumerable.Range(11, 10), tail.Turns.Select(turn => turn.Number));
        await Assert.ThrowsAsync<StoredDataException>(async () => await store.OpenAsync(
            new OpenRequest { Session = SessionRef.ById("bad"), Owner = Owner.Anyone, HistoryTurns = 20 }, Cancel));
        await Assert.ThrowsAsync<StoredDataException>(async () => await SqliteTests.HistoryAsync(store, "bad"));

        // As a whole or not at all: another store would be given a session with a hole.
        Assert.Equal(["good", "good2"], await ExportedAsync(store));
        Assert.Equal(1, _damage.Count);
        Assert.Equal(WriteStatus.Written, await SqliteTests.TurnAsync(store, "bad", "ada"));

        await store.EraseAsync("ada", Cancel);
        Assert.Equal(0, _damage.Count);
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT count(*) FROM turns WHERE number > 16 OR number % 16 = 0"));
    }

    [Fact]
    public async Task A_reservation_that_can_not_be_read_stops_no_sweep()
    {
        await using var store = await FillAsync();
        var now = _time.GetUtcNow().ToMicroseconds();
        SqliteTests.Execute(Db, $"INSERT INTO reservations VALUES (x'010203', x'04', 'a', {now - 2}), (x'', x'', 'b', {now - 2})");
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await store.ReserveAsync(key, Owner.Anyone, "later", Cancel);
        SqliteTests.Execute(Db, "UPDATE reservations SET body = x'04' WHERE session_id = 'later'");

        await Assert.ThrowsAsync<StoredDataException>(async () => await store.ReserveAsync(key, Owner.Anyone, "later", Cancel));
        Assert.Equal(0, await store.SweepAsync(Cancel));
        Assert.Equal(3, _damage.Count);

        // They had expired; the third one has not.
        Assert.Equal("1", SqliteTests.Ask(Db, "SELECT count(*) FROM reservations"));
        _time.Advance(TimeSpan.FromHours(25));
        Assert.Equal(3, await store.SweepAsync(Cancel));
        Assert.Equal("0 0 0", SqliteTests.Ask(Db,
            "SELECT (SELECT count(*) FROM reservations) || ' ' || (SELECT count(*) FROM sessions) || ' ' || (SELECT count(*) FROM turns)"));
    }

    [Fact]
    public async Task A_sessions_reservation_that_can_not_be_read_goes_with_it_and_is_left_out_of_exports()
    {
        await using var store = await FillAsync();
        SqliteTests.Execute(Db, "INSERT INTO reservations VALUES (x'010203', x'04', 'bad', 9000000000000000000); "
            + "UPDATE sessions SET reserved_by = x'010203' WHERE id = 'bad'");

        Assert.Equal(["bad", "good", "good2"], await ExportedAsync(store));
        Assert.Equal(1, _damage.Count);
        Assert.True(await store.DeleteAsync(SessionRef.ById("bad"), Owner.Anyone, Cancel));
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT count(*) FROM reservations"));
    }

    [Fact]
    public async Task Pages_that_are_overwritten_are_told_and_refused_at_the_start()
    {
        await (await FillAsync()).DisposeAsync();
        await using (var store = SqliteTests.Open(Db, SqliteTests.NewPolicy(damage: _damage), _time))
        {
            var (exitCode, output) = await SqliteTests.RunAsync(
                "dd", "if=/dev/urandom", $"of={Db}", $"bs={PageBytes}", "seek=2",
                $"count={(new FileInfo(Db).Length / PageBytes) - 2}", "conv=notrunc");
            Assert.True(exitCode == 0, output);

            await Assert.ThrowsAsync<StoredDataException>(async () => await SqliteTests.TurnAsync(store, "good", "ada"));
            await Assert.ThrowsAsync<StoredDataException>(async () => await SqliteTests.CreateAsync(store, "new"));
            Assert.Equal(1, _damage.Count);
        }

        Assert.Contains("damaged", Assert.Throws<ServiceDefaults.SettingsException>(() => SqliteFile.Prepare(Db)).Message,
            StringComparison.Ordinal);
    }

    private async Task<SqliteSessionStore> FillAsync()
    {
        var store = SqliteTests.Open(Db, SqliteTests.NewPolicy(damage: _damage), _time);
        foreach (var id in (string[])["good", "bad", "good2"])
        {
            await SqliteTests.FillAsync(store, id, "ada", 20);
        }

        return store;
    }

    private static async Task<IEnumerable<string>> ExportedAsync(SqliteSessionStore store)
    {
        List<string> ids = [];
        await foreach (var entry in store.ExportAsync(null, Cancel))
        {
            if (entry.Session is { } session)
            {
                ids.Add(session.Session.Id);
            }
        }

        return ids.Order();
    }
}
