namespace Sessions.Tests.Storage.Sqlite;

/// <summary>What the API's executable does besides serving, on files.</summary>
public sealed class CommandsTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_backup_taken_under_load_is_whole_and_opens()
    {
        var copy = _folder["copy.db"];
        await using var store = SqliteTests.Open(_folder["sessions.db"]);
        await SqliteTests.FillAsync(store, "long", "user", 5000);
        using var stop = new CancellationTokenSource();
        var load = Task.Run(async () =>
        {
            for (var i = 0; !stop.IsCancellationRequested; i++)
            {
                await SqliteTests.TurnAsync(store, $"s{i % 10}", "user");
            }
        }, TestContext.Current.CancellationToken);

        var (code, output) = await RunAsync("sqlite", "backup", copy);
        await stop.CancelAsync();
        await load;

        Assert.True(code == 0, output);
        Assert.Equal("ok", SqliteTests.Ask(copy, "PRAGMA integrity_check"));
        Assert.Equal("0", SqliteTests.Ask(copy,
            "SELECT count(*) FROM sessions s WHERE turn_count <> (SELECT count(*) FROM turns t WHERE t.session = s.key)"));
        await using var restored = SqliteTests.Open(copy);
        Assert.Equal(5000, (await SqliteTests.GetAsync(restored, "long"))!.TurnCount);
        Assert.Equal(1, (await RunAsync("sqlite", "backup", copy)).ExitCode);
    }

    [Fact]
    public async Task An_export_that_was_cut_off_imports_whole_sessions_and_says_so()
    {
        await using var from = SqliteTests.Open(_folder["from.db"]);
        await using var to = SqliteTests.Open(_folder["to.db"]);
        foreach (var id in (string[])["a", "b", "c"])
        {
            await SqliteTests.TurnAsync(from, id, "user");
            await SqliteTests.TurnAsync(from, id, "user", "x\0y \"ü\"");
        }

        await from.DisposeAsync();
        Assert.Equal(0, (await RunAsync("from.db", "export", _folder["whole"])).ExitCode);
        var whole = await File.ReadAllTextAsync(_folder["whole"], TestStore.Cancel);
        var lines = whole.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal((3 * 3) + 1, lines.Length);

        // In the middle of the second session, at a line's end and within a line.
        foreach (var cut in (string[])[string.Join('\n', lines[..5]) + "\n", string.Join('\n', lines[..5]) + lines[5][..20]])
        {
            await File.WriteAllTextAsync(_folder["cut"], cut, TestStore.Cancel);
            Assert.Equal(1, (await RunAsync("to.db", "import", _folder["cut"])).ExitCode);
            Assert.Equal(1, (await to.CountAsync(TestStore.Cancel)).ActiveSessions);
        }

        var (_, imported) = await RunAsync("to.db", "import", _folder["whole"]);
        Assert.Contains("Sessions imported: 2; turns: 4; there already: 1; expired: 0.", imported, StringComparison.Ordinal);
        Assert.Equal(0, (await RunAsync("to.db", "export", _folder["again"])).ExitCode);
        Assert.Equal(whole, await File.ReadAllTextAsync(_folder["again"], TestStore.Cancel));

        Task<(int ExitCode, string Output)> RunAsync(string database, params string[] command) => SqliteTests.RunAsync("dotnet",
            ["exec", typeof(ISessionStore).Assembly.Location, .. command, "--sessions:storage_type=sqlite",
                $"--sessions:db_path={_folder[database]}"]);
    }

    [Fact]
    public async Task What_is_no_command_is_told_with_exit_code_2()
    {
        var (code, output) = await RunAsync("sqlite", "bakcup", "x");
        Assert.Equal(2, code);
        Assert.Contains("'bakcup' is not a command. Did you mean 'backup'?", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_backup_is_restored_while_no_server_runs_and_what_was_there_is_kept()
    {
        var (database, backup) = (_folder["sessions.db"], _folder["backup.db"]);
        await using (var store = SqliteTests.Open(database))
        {
            await SqliteTests.TurnAsync(store, "old", "user");
            Assert.Equal(0, (await RunAsync("sqlite", "backup", backup)).ExitCode);
            await SqliteTests.TurnAsync(store, "new", "user");

            Refused(await RunAsync("sqlite", "restore", backup), $"'{database}' exists. With --replace it is kept under another name");
            Refused(await RunAsync("sqlite", "restore", backup, "--replace"), $"'{database}' is in use: stop every server first.");
        }

        var (code, output) = await RunAsync("sqlite", "restore", backup, "--replace");
        Assert.True(code == 0, output);
        var kept = Assert.Single(Directory.GetFiles(_folder.Path, "sessions.db.before-*"));
        Assert.Contains($"what was there is '{kept}'", output, StringComparison.Ordinal);
        await using (var restored = SqliteTests.Open(database))
        {
            Assert.NotNull(await SqliteTests.GetAsync(restored, "old"));
            Assert.Null(await SqliteTests.GetAsync(restored, "new"));
        }

        await using var before = SqliteTests.Open(kept);
        Assert.NotNull(await SqliteTests.GetAsync(before, "new"));
    }

    [Fact]
    public async Task What_is_no_backup_is_not_restored_and_a_damaged_database_is_replaced()
    {
        var (database, backup, other) = (_folder["sessions.db"], _folder["backup.db"], _folder["other.db"]);
        await using (var store = SqliteTests.Open(database))
        {
            await SqliteTests.TurnAsync(store, "old", "user");
            Assert.Equal(0, (await RunAsync("sqlite", "backup", backup)).ExitCode);
        }

        await File.WriteAllTextAsync(database, new string('x', 5000), TestStore.Cancel);
        await File.WriteAllTextAsync(_folder["text.db"], new string('x', 5000), TestStore.Cancel);
        SqliteTests.Execute(other, "CREATE TABLE t (a)");

        Refused(await RunAsync("sqlite", "restore", _folder["nowhere.db"], "--replace"), "there is no such file");
        Refused(await RunAsync("sqlite", "restore", _folder["text.db"], "--replace"), "can't be restored");
        Refused(await RunAsync("sqlite", "restore", other, "--replace"), "it is not a database of Sessions");
        var files = Directory.GetFiles(_folder.Path).Length;
        var (code, output) = await RunAsync("sqlite", "restore", backup, "--replace");

        Assert.True(code == 0, output);
        Assert.Equal(files + 1, Directory.GetFiles(_folder.Path).Length);
        await using var restored = SqliteTests.Open(database);
        Assert.NotNull(await SqliteTests.GetAsync(restored, "old"));
    }

    [Fact]
    public async Task A_database_is_brought_to_this_version_by_a_command()
    {
        var path = _folder["sessions.db"];
        SqliteTests.Execute(path, "PRAGMA journal_mode = WAL");
        using (var link = new SqliteDatabase(path, TimeSpan.Zero))
        {
            SqliteSchema.Migrate(link, 1);
        }

        var (code, output) = await RunAsync("sqlite", "migrate");
        Assert.True(code == 0, output);
        Assert.Contains($"had format 1 and has format {SqliteSchema.Version} now", output, StringComparison.Ordinal);
        Assert.Contains($"has format {SqliteSchema.Version} already", (await RunAsync("sqlite", "migrate")).Output,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("check")]
    [InlineData("migrate")]
    [InlineData("backup", "x")]
    [InlineData("export", "x")]
    public async Task A_database_that_is_not_there_is_an_error_and_is_not_made(params string[] command)
    {
        Refused(await RunAsync("sqlite", command), "there is no such file");
        Assert.Empty(Directory.GetFiles(_folder.Path));
    }

    private static void Refused((int ExitCode, string Output) run, string message)
    {
        Assert.Equal(1, run.ExitCode);
        Assert.Contains(message, run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Memory_has_nothing_to_export() => Assert.Equal(1, (await RunAsync("memory", "export", "-")).ExitCode);

    private Task<(int ExitCode, string Output)> RunAsync(string storageType, params string[] command) => SqliteTests.RunAsync("dotnet",
        ["exec", typeof(ISessionStore).Assembly.Location, .. command, $"--sessions:storage_type={storageType}",
            $"--sessions:db_path={_folder["sessions.db"]}"]);
}
