using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>What happens to the file at the start: made, checked, brought up to date, or refused in one sentence.</summary>
public sealed class SqliteFileTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_new_file_is_made_with_its_folder_and_is_nobody_elses()
    {
        var path = _folder["a/b/sessions.db"];
        SqliteFile.Prepare(path);

        Assert.Equal($"{SqliteSchema.Version}", SqliteTests.Ask(path, "PRAGMA user_version"));
        Assert.Equal("wal", SqliteTests.Ask(path, "PRAGMA journal_mode"));
        Assert.Equal("2", SqliteTests.Ask(path, "PRAGMA auto_vacuum"));
        if (!OperatingSystem.IsWindows())
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
        }

        Assert.Equal(["sessions.db"], Directory.GetFiles(_folder["a/b"]).Select(Path.GetFileName));
    }

    [Fact]
    public void Everything_that_holds_conversations_is_for_its_owner_alone()
    {
        if (OperatingSystem.IsWindows())
        {
            Assert.Skip("Windows has no file modes.");
            return;
        }

        var path = _folder["new/data/sessions.db"];
        var file = SqliteFile.Prepare(path);
        using var db = file.OpenWriter();
        db.Execute("BEGIN IMMEDIATE; UPDATE sessions SET key = key; CREATE TABLE t (x); COMMIT");
        SqliteBackup.Write(file, _folder["new/data/backup.db"]);
        PrivateFile.Create(_folder["new/data/export.ndjson"]).Dispose();

        var files = Directory.GetFiles(_folder["new/data"]);
        Assert.Equal(["backup.db", "export.ndjson", "sessions.db", "sessions.db-shm", "sessions.db-wal"],
            files.Select(Path.GetFileName).Order(StringComparer.Ordinal));
        foreach (var name in files)
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(name));
        }

        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(_folder["new/data"]));
    }

    [Fact]
    public void The_writer_syncs_every_commit_and_wipes_what_it_deletes()
    {
        using var db = SqliteFile.Prepare(Db).OpenWriter();

        Assert.Equal("2", db.Ask("PRAGMA synchronous"));
        Assert.Equal("1", db.Ask("PRAGMA secure_delete"));
        Assert.Equal("wal", db.Ask("PRAGMA journal_mode"));
    }

    [Fact]
    public async Task The_log_of_a_large_file_may_be_longer()
    {
        await using (var store = SqliteTests.Open(Db))
        {
            Assert.Equal(("8000", "33554432"), await BoundsAsync(store));

            // While the server runs, it becomes one.
            SqliteTests.Execute(Db,
                "CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob(140000000)); PRAGMA wal_checkpoint(TRUNCATE)");
            for (var i = 0; i < 64; i++)
            {
                await SqliteTests.CreateAsync(store, $"s{i}");
            }

            Assert.Equal(("32000", "134217728"), await BoundsAsync(store));
        }

        await using (var again = SqliteTests.Open(Db))
        {
            Assert.Equal(("32000", "134217728"), await BoundsAsync(again));
        }

        static Task<(string?, string?)> BoundsAsync(SqliteSessionStore store) => store.Writer.RunAsync(
            work => (work.Db.Ask("PRAGMA wal_autocheckpoint"), work.Db.Ask("PRAGMA journal_size_limit")),
            TestContext.Current.CancellationToken);
    }

    [Fact]
    public void An_empty_file_becomes_one_of_this_version()
    {
        File.WriteAllBytes(Db, []);

        SqliteFile.Prepare(Db);

        Assert.Equal($"{SqliteSchema.Version}", SqliteTests.Ask(Db, "PRAGMA user_version"));
    }

    [Fact]
    public async Task A_file_of_this_version_stays_as_it_is()
    {
        await using (var store = SqliteTests.Open(Db))
        {
            await SqliteTests.CreateAsync(store, "a", "user");
        }

        await using var again = SqliteTests.Open(Db);
        Assert.NotNull(await SqliteTests.GetAsync(again, "a"));
    }

    [Fact]
    public void A_file_of_a_newer_version_is_refused_and_stays_as_it_is()
    {
        SqliteFile.Prepare(Db);
        SqliteTests.Execute(Db, "PRAGMA user_version = 99");

        AssertRefused(Db, "a newer version of Sessions has written it (format 99");
        Assert.Equal("99", SqliteTests.Ask(Db, "PRAGMA user_version"));
    }

    [Fact]
    public void Another_programs_database_is_refused_and_stays_as_it_is()
    {
        SqliteTests.Execute(Db, "CREATE TABLE theirs (x)");
        AssertRefused(Db, "another program");
        Assert.Equal("1", SqliteTests.Ask(Db, "SELECT count(*) FROM sqlite_schema"));
    }

    [Fact]
    public void What_is_not_a_database_is_refused_and_stays_as_it_is()
    {
        var text = string.Concat(Enumerable.Repeat("This is a letter, and no database. ", 1000));
        File.WriteAllText(Db, text);

        AssertRefused(Db, "not a SQLite database");
        Assert.Equal(text, File.ReadAllText(Db));
    }

    [Fact]
    public async Task A_damaged_file_is_refused()
    {
        await using (var store = SqliteTests.Open(Db))
        {
            for (var i = 0; i < 50; i++)
            {
                await SqliteTests.CreateAsync(store, $"s{i}", "user", "{\"k\":\"" + new string('x', 500) + "\"}");
            }
        }

        var bytes = await File.ReadAllBytesAsync(Db, TestStore.Cancel);
        Array.Fill(bytes, (byte)0x5a, 4096 * 3, bytes.Length - (4096 * 3));
        await File.WriteAllBytesAsync(Db, bytes, TestStore.Cancel);

        AssertRefused(Db, "it is damaged");
    }

    [Fact]
    public void A_folder_is_refused() => AssertRefused(_folder.Path, "it is a folder");

    [Fact]
    public void A_folder_that_can_not_be_made_is_refused()
    {
        File.WriteAllText(_folder["file"], "");
        AssertRefused(_folder["file/sessions.db"], "its folder can't be created");
    }

    [Fact]
    public void A_file_that_can_not_be_written_is_refused()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows() || Environment.UserName == "root", "Nothing is read-only for this user.");
        SqliteFile.Prepare(Db);
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(Db, UnixFileMode.UserRead);
        }

        AssertRefused(Db, "it can't be written");
    }

    [Theory]
    [InlineData("")]
    [InlineData("  ")]
    public void A_path_must_be_named(string path) => Assert.Throws<SettingsException>(() => SqliteFile.Locate(path, _folder.Path));

    [Fact]
    public void A_relative_path_starts_from_the_configurations_folder() =>
        Assert.Equal(_folder["data/x.db"], SqliteFile.Locate("data/x.db", _folder.Path));

    private static void AssertRefused(string path, string reason)
    {
        var message = Assert.Throws<SettingsException>(() => SqliteFile.Prepare(path)).Message;
        Assert.Contains($"'{path}'", message, StringComparison.Ordinal);
        Assert.Contains(reason, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }
}
