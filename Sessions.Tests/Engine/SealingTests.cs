using System.Text;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Engine;

/// <summary>What users wrote can't be read where it is stored, can't be moved or replaced there, and not be read at all once its key was
/// destroyed.</summary>
public sealed class SealingTests
{
    private const string Canary = "canary-Zw3q";

    private readonly string _master = TestLog.NewMaster();

    private static CancellationToken Cancel => TestLog.Cancel;

    [Fact]
    public async Task Nothing_that_users_wrote_is_in_the_files_and_all_of_it_comes_back()
    {
        await using var log = TestLog.Open(_master);
        await FillAsync(log);
        Assert.False(log.IsInFiles(Canary));
        Assert.True(log.IsInFiles("ada"));

        foreach (var hasTail in (bool[])[true, false])
        {
            await using var another = TestLog.Open(_master, log, hasTail);
            var session = (await another.GetAsync("a"))!;
            Assert.Contains(Canary, Encoding.UTF8.GetString(session.Metadata.Span), StringComparison.Ordinal);
            Assert.Equal($"summary {Canary}", session.Summary!.Text.ToString());
            Assert.Equal($"error {Canary}", session.LastError!.Value.ToString());
            Assert.Equal($"query {Canary} 2", session.LastTurn!.Input.ToString());
            Assert.Equal([$"query {Canary} 1", $"query {Canary} 2"], await another.HistoryAsync("a"));
            var turns = await another.TurnsAsync("a");
            Assert.Equal($$"""{"x":"{{Canary}}"}""", Encoding.UTF8.GetString(turns[1].Response.Span));
            Assert.Equal([Canary], (await another.Log.ListAsync(new SessionPageRequest { UserId = "ada", Limit = 10 }, null, Cancel)).Items
                .Select(listed => listed.LastTurn!.Output.ToString()));
        }
    }

    [Theory]
    [InlineData("UPDATE turns SET query_bytes = (SELECT query_bytes FROM turns WHERE number = 2) WHERE number = 1 AND session = 1")]
    [InlineData("UPDATE turns SET query_bytes = (SELECT response_bytes FROM turns WHERE number = 1) WHERE number = 1 AND session = 1")]
    [InlineData("UPDATE turns SET query_bytes = (SELECT query_bytes FROM turns WHERE session = (SELECT key FROM sessions WHERE id = 'b')) "
        + "WHERE number = 1 AND session = 1")]
    [InlineData("UPDATE turns SET query_bytes = CAST(substr(query_bytes, 1, length(query_bytes) - 1) || x'00' AS BLOB) "
        + "WHERE number = 1 AND session = 1")]
    [InlineData("UPDATE turns SET query_bytes = NULL, query = 'plaintext' WHERE number = 1 AND session = 1")]
    [InlineData("UPDATE turns SET response_object = CAST('{}' AS BLOB) WHERE number = 1 AND session = 1")]
    [InlineData("UPDATE sessions SET metadata = (SELECT metadata FROM sessions WHERE id = 'b') WHERE id = 'a'")]
    [InlineData("UPDATE sessions SET metadata = CAST('{\"x\":1}' AS BLOB) WHERE id = 'a'")]
    [InlineData("UPDATE sessions SET summary_covers = 2 WHERE id = 'a'")]
    public async Task What_was_changed_moved_or_put_there_is_refused_and_stays(string sql)
    {
        await using var log = TestLog.Open(_master);
        await FillAsync(log);
        var before = await log.Store.ReadTurnsAsync(SessionRef.ById("a"), Owner.Anyone,
            new TurnPageRequest { Limit = 9, MaxBytes = 99999 }, Cancel);
        log.Tamper(sql);

        await using var tampered = TestLog.Open(_master, log);
        for (var i = 0; i < 2; i++)
        {
            await Assert.ThrowsAsync<StoredDataException>(async () => await tampered.BeginAsync("a", "ada"));
            await Assert.ThrowsAsync<StoredDataException>(async () => await tampered.TurnsAsync("a"));
        }

        // It is told, and stops nothing else.
        await IsAsync(tampered, HealthStatus.Degraded);
        Assert.Equal(1, tampered.Policy.Damage.Count);
        Assert.Equal(2, (await tampered.TurnAsync("b", "bob")).Number);
        var export = await ExportAsync(tampered);
        Assert.Contains("b", export.Where(entry => entry.Session is not null).Select(entry => entry.Session!.Session.Id));
        Assert.DoesNotContain(export, entry => entry.Turn?.Turn.Input.ToString() == "plaintext");

        // Nothing was removed by that; a deletion removes it, and the health is well again.
        Assert.Equal(before!.Turns.Count, (await tampered.Store.ReadTurnsAsync(SessionRef.ById("a"), Owner.Anyone,
            new TurnPageRequest { Limit = 9, MaxBytes = 99999 }, Cancel))!.Turns.Count);
        Assert.True(await tampered.Log.DeleteAsync(SessionRef.ById("a"), Owner.Anyone, Cancel));
        await IsAsync(tampered, HealthStatus.Healthy);
    }

    [Fact]
    public async Task A_turn_that_another_was_put_in_place_of_is_refused()
    {
        await using var log = TestLog.Open(_master, hasTail: false);
        await FillAsync(log);

        // With all that belongs to it: only its number gives it away.
        log.Tamper("""
            UPDATE turns SET (details, query_bytes, response_bytes, response_object) =
              (SELECT details, query_bytes, response_bytes, response_object FROM turns t
              WHERE t.session = turns.session AND t.number = 1) WHERE number = 2 AND session = (SELECT key FROM sessions WHERE id = 'a')
            """);

        await Assert.ThrowsAsync<StoredDataException>(async () => await log.BeginAsync("a"));
    }

    [Fact]
    public async Task What_was_erased_is_gone_also_in_a_backup()
    {
        await using var log = TestLog.Open(_master);
        await FillAsync(log);
        var backup = log.Folder["backup.db"];
        SqliteBackup.Write(SqliteFile.Existing(log.Path), backup);

        Assert.Equal(1, (await log.Log.EraseAsync("ada", Cancel)).Sessions);
        Assert.Null(await log.GetAsync("a"));
        Assert.Equal(1, (await log.TurnAsync("a", "ada", "anew")).Number);
        await log.CloseAsync();

        // The old sessions, and the newest keys.
        foreach (var file in (string[])[log.Path, log.Path + "-wal", log.Path + "-shm"])
        {
            File.Delete(file);
        }

        File.Move(backup, log.Path);
        await using var restored = TestLog.Open(_master, log);
        Assert.Null(await restored.GetAsync("a"));
        Assert.Empty((await restored.Log.ListAsync(new SessionPageRequest { UserId = "ada", Limit = 10 }, null, Cancel)).Items);
        Assert.Equal(Canary, (await restored.GetAsync("b"))!.LastTurn!.Output.ToString());
        Assert.Equal(1, (await restored.TurnAsync("a", "ada", "anew")).Number);
        await IsAsync(restored, HealthStatus.Healthy);
    }

    [Fact]
    public async Task A_missing_key_is_no_destroyed_one_and_nothing_is_deleted()
    {
        await using var log = TestLog.Open(_master);
        await FillAsync(log);
        await log.CloseAsync();
        using (var keys = new SqliteDatabase(log.Path + SqliteUserKeys.Suffix, SqliteFile.BusyTimeout))
        {
            keys.Execute("CREATE TABLE kept AS SELECT * FROM user_keys WHERE holder = 'ada'; DELETE FROM user_keys WHERE holder = 'ada'");
        }

        await using (var without = TestLog.Open(_master, log))
        {
            await Assert.ThrowsAsync<StoredDataException>(async () => await without.BeginAsync("a", "ada"));
            await Assert.ThrowsAsync<StoredDataException>(async () => await without.GetAsync("a"));
            await IsAsync(without, HealthStatus.Degraded);
            Assert.NotNull(await without.GetAsync("b"));
        }

        using (var keys = new SqliteDatabase(log.Path + SqliteUserKeys.Suffix, SqliteFile.BusyTimeout))
        {
            keys.Execute("INSERT OR REPLACE INTO user_keys SELECT * FROM kept; DROP TABLE kept");
        }

        await using var with = TestLog.Open(_master, log);
        Assert.Equal(2, (await with.TurnsAsync("a")).Count);
    }

    [Fact]
    public async Task A_file_of_keys_that_is_missing_or_another_ones_is_refused_at_the_start()
    {
        await using var log = TestLog.Open(_master);
        await FillAsync(log);
        await log.CloseAsync();
        await using var other = TestLog.Open(_master);
        await other.TurnAsync("x");
        await other.CloseAsync();
        var keys = log.Path + SqliteUserKeys.Suffix;
        File.Move(keys, log.Folder["kept"]);

        Assert.Contains("is missing", Assert.Throws<SettingsException>(() => TestLog.Open(_master, log)).Message, StringComparison.Ordinal);
        Assert.False(File.Exists(keys));

        File.Copy(other.Path + SqliteUserKeys.Suffix, keys);
        Assert.Contains("of another file", Assert.Throws<SettingsException>(() => TestLog.Open(_master, log)).Message,
            StringComparison.Ordinal);

        File.Move(log.Folder["kept"], keys, overwrite: true);
        await using var again = TestLog.Open(_master, log);
        Assert.Equal(2, (await again.TurnsAsync("a")).Count);
    }

    [Fact]
    public async Task Another_master_key_is_refused_and_nothing_is_deleted()
    {
        await using var log = TestLog.Open(_master);
        await FillAsync(log);
        await using var wrong = TestLog.Open(TestLog.NewMaster(), log);

        await Assert.ThrowsAsync<SettingsException>(() => SealingStart.CheckAsync(wrong.Store, wrong.Sealer!.Ring, Cancel));
        await Assert.ThrowsAsync<StoredDataException>(async () => await wrong.BeginAsync("a", "ada"));

        Assert.Equal(2, (await log.TurnsAsync("a")).Count);
    }

    [Fact]
    public async Task Texts_from_before_a_session_had_a_user_are_read_with_it()
    {
        await using var log = TestLog.Open(_master, hasTail: false);
        await log.TurnAsync("a", query: "nobody's");
        await log.TurnAsync("a", "ada", "ada's");

        Assert.Equal(["nobody's", "ada's"], await log.HistoryAsync("a"));
        await log.Log.EraseAsync("ada", Cancel);
        Assert.Null(await log.GetAsync("a"));
    }

    [Fact]
    public async Task What_was_written_before_is_refused_until_it_is_sealed()
    {
        await using var plain = TestLog.Open();
        await FillAsync(plain);
        Assert.True(plain.IsInFiles(Canary));
        await using var log = TestLog.Open(_master, plain);
        var refusal = await Assert.ThrowsAsync<SettingsException>(() => SealingStart.CheckAsync(log.Store, log.Sealer!.Ring, Cancel));
        Assert.Contains("rekey", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("rekey", (await Assert.ThrowsAsync<StoredDataException>(async () => await log.GetAsync("a"))).Message,
            StringComparison.Ordinal);
        await log.CloseAsync();

        await using var rekeyed = TestLog.Open(_master, plain);
        var result = await new Rekey(rekeyed.Store, rekeyed.Sealer!).RunAsync(data: false, Cancel);

        Assert.Equal((2, 0), (result.Sessions, result.Unreadable));
        await SealingStart.CheckAsync(rekeyed.Store, rekeyed.Sealer!.Ring, Cancel);
        Assert.Equal([$"query {Canary} 1", $"query {Canary} 2"], await rekeyed.HistoryAsync("a"));
        Assert.Contains(Canary, Encoding.UTF8.GetString((await rekeyed.GetAsync("a"))!.Metadata.Span), StringComparison.Ordinal);

        // From now on what is not sealed was put there by somebody else, and no command makes it look genuine.
        rekeyed.Tamper("UPDATE turns SET query_bytes = NULL, query = 'plaintext' WHERE number = 1");
        Assert.True((await new Rekey(rekeyed.Store, rekeyed.Sealer!).RunAsync(data: true, Cancel)).Unreadable > 0);
        await Assert.ThrowsAsync<StoredDataException>(async () => await rekeyed.TurnsAsync("a"));
    }

    [Fact]
    public async Task What_finds_no_room_to_be_sealed_does_not_count_as_sealed()
    {
        await using var plain = TestLog.Open();
        await FillAsync(plain);
        await using var log = TestLog.Open(_master, plain);
        var full = new CountingStore(log.Store)
        {
            AnswersWrite = () => new WriteResult(WriteStatus.Full) { Limit = "limits.stored_bytes" },
        };

        var error = await Assert.ThrowsAsync<StoreUnavailableException>(() => new Rekey(full, log.Sealer!).RunAsync(data: false, Cancel));

        Assert.Contains("limits.stored_bytes", error.Message, StringComparison.Ordinal);
        Assert.False(await log.Keys.IsAllSealedAsync(Cancel));
        Assert.Equal((2, 0), await RekeyAsync(log));

        static async Task<(long, long)> RekeyAsync(TestLog log)
        {
            var result = await new Rekey(log.Store, log.Sealer!).RunAsync(data: false, Cancel);
            return (result.Sessions, result.Unreadable);
        }
    }

    [Fact]
    public async Task What_the_version_before_encrypted_is_sealed_anew()
    {
        await using var log = TestLog.Open(_master, hasTail: false);
        await log.TurnAsync("a", "ada");
        using (var key = await log.Sealer!.Ring.ForWritingAsync("ada", until: null, Cancel))
        {
            var (input, output) = (Former(key, "former Input", 'q'), Former(key, "former Output", 'r'));
            log.Tamper($"UPDATE turns SET query = '{input}', response = '{output}', query_bytes = NULL, response_bytes = NULL");
        }

        Assert.Contains("earlier version", (await Assert.ThrowsAsync<StoredDataException>(async () => await log.TurnsAsync("a"))).Message,
            StringComparison.Ordinal);
        log.Policy.Damage.Forget("session 'a'");

        Assert.Equal(1, (await new Rekey(log.Store, log.Sealer!).RunAsync(data: false, Cancel)).Sessions);

        var turn = Assert.Single(await log.TurnsAsync("a"));
        Assert.Equal(("former Input", "former Output"), (turn.Input.ToString(), turn.Output.ToString()));

        // As that version did.
        static string Former(UserKey key, string text, char field)
        {
            var cipher = new byte[16 + Aead.Overhead + Encoding.UTF8.GetByteCount(text)];
            key.Id.TryWriteBytes(cipher);
            Aead.Seal(key.Cipher, Encoding.UTF8.GetBytes(text), [(byte)field], cipher.AsSpan(16));
            return "\u0001E1" + System.Buffers.Text.Base64Url.EncodeToString(cipher);
        }
    }

    [Fact]
    public async Task Data_keys_are_changed_on_request_and_the_former_ones_go()
    {
        await using var log = TestLog.Open(_master, hasTail: false);
        await SealingStart.CheckAsync(log.Store, log.Sealer!.Ring, Cancel);
        await FillAsync(log);
        var before = (await log.Keys.FindAsync("ada", Cancel))[0].Id;

        var result = await new Rekey(log.Store, log.Sealer!).RunAsync(data: true, Cancel);

        Assert.Equal((2, 0), (result.Sessions, result.Unreadable));
        Assert.DoesNotContain(before, (await log.Keys.FindAsync("ada", Cancel)).Select(key => key.Id));
        Assert.Equal([$"query {Canary} 1", $"query {Canary} 2"], await log.HistoryAsync("a"));
        Assert.NotNull(await log.GetAsync("b"));
    }

    [Fact]
    public async Task A_fork_is_sealed_for_itself()
    {
        await using var log = TestLog.Open(_master, hasTail: false);
        await FillAsync(log);

        var fork = await log.Log.ForkAsync(SessionRef.ById("a"), Owner.Of("ada"), 1, TestLog.New("f", metadata: """{"m":1}"""), Cancel);

        Assert.Equal(("ada", 1, """{"m":1}"""), (fork.UserId, fork.TurnCount, Encoding.UTF8.GetString(fork.Metadata.Span)));
        Assert.Equal([$"query {Canary} 1"], await log.HistoryAsync("f"));
        Assert.Equal($"summary {Canary}", (await log.GetAsync("f"))!.Summary!.Text.ToString());
        await log.Log.DeleteAsync(SessionRef.ById("a"), Owner.Anyone, Cancel);
        Assert.Equal(2, (await log.TurnAsync("f", "ada", "goes on")).Number);
        Assert.Equal("no_such_turn", (await Assert.ThrowsAsync<DomainException>(
            async () => await log.Log.ForkAsync(SessionRef.ById("f"), Owner.Anyone, 7, TestLog.New("g"), Cancel))).Error.Code);
        Assert.Equal("session_not_found", (await Assert.ThrowsAsync<DomainException>(
            async () => await log.Log.ForkAsync(SessionRef.ById("f"), Owner.Of("bob"), 1, TestLog.New("g"), Cancel))).Error.Code);
    }

    [Fact]
    public async Task A_destroyed_key_is_not_in_the_files()
    {
        await using var log = TestLog.Open(_master);
        await log.TurnAsync("a", "ada");
        var wrapped = (await log.Keys.FindAsync("ada", Cancel))[0];
        await log.Log.EraseAsync("ada", Cancel);

        Assert.Empty(await log.Keys.FindAsync("ada", Cancel));
        Assert.True(await log.Keys.WasDestroyedAsync(wrapped.Id, Cancel));
        Assert.DoesNotContain(Directory.GetFiles(log.Folder.Path), file => File.ReadAllBytes(file).AsSpan().IndexOf(wrapped.Bytes) >= 0);

        // A tombstone lasts as long as what it tells of could.
        log.Time.Advance(TimeSpan.FromDays(30));
        await log.Log.SweepAsync(Cancel);
        Assert.False(await log.Keys.WasDestroyedAsync(wrapped.Id, Cancel));
    }

    internal static async Task<List<ArchiveEntry>> ExportAsync(TestLog log, string? userId = null)
    {
        List<ArchiveEntry> entries = [];
        await foreach (var entry in log.Log.ExportAsync(userId, Cancel))
        {
            entries.Add(entry);
        }

        return entries;
    }

    // Asked again where the file does not answer in time, on a machine that is busy.
    private static Task IsAsync(TestLog log, HealthStatus status) =>
        ServiceProcess.UntilAsync(async () => (await log.Log.CheckAsync(Cancel)).Status == status);

    private static async Task FillAsync(TestLog log)
    {
        await log.TurnAsync("a", TestLog.NewTurn(TestLog.Text($"query {Canary} 1"), TestLog.Text(Canary)), "ada",
            summary: new Summary($"summary {Canary}", 1));
        await log.TurnAsync(
            "a", TestLog.NewTurn(TestLog.Text($"query {Canary} 2"), TestLog.Text(Canary)) with
            {
                Response = Encoding.UTF8.GetBytes($$"""{"x":"{{Canary}}"}"""),
            }, "ada");
        await log.Log.ChangeMetadataAsync(SessionRef.ById("a"), Owner.Anyone,
            _ => Encoding.UTF8.GetBytes($$"""{"note":"{{Canary}}"}"""), Cancel);
        await using (var begun = await log.BeginAsync("a", "ada"))
        {
            await log.Log.FailAsync(begun, $"error {Canary}", Cancel);
        }

        await log.Log.CreateAsync(TestLog.New("b", "bob", $$"""{"note":"{{Canary}}"}"""), isOwnId: true, null, Owner.Of("bob"), Cancel);
        await log.TurnAsync("b", "bob", $"query {Canary}", Canary);
    }
}
