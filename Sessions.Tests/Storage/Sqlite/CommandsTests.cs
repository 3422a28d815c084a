using System.Text;
using Sessions.Api;

namespace Sessions.Tests.Storage;

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
        Assert.Equal("0", SqliteTests.Ask(copy, "SELECT count(*) FROM sessions s WHERE turn_count <> (SELECT count(*) FROM turns t WHERE t.session = s.key)"));
        await using var restored = SqliteTests.Open(copy);
        Assert.Equal(5000, (await restored.GetAsync("long", Owner.Anyone, TestStore.Cancel))!.TurnCount);
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

        using var written = new MemoryStream();
        await ArchiveCommands.ExportAsync(from, written, TestStore.Cancel);
        var lines = Encoding.UTF8.GetString(written.ToArray()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal((3 * 3) + 1, lines.Length);

        // In the middle of the second session, at a line's end and within a line.
        foreach (var cut in (string[])[string.Join('\n', lines[..5]) + "\n", string.Join('\n', lines[..5]) + lines[5][..20]])
        {
            await Assert.ThrowsAsync<InvalidDataException>(() => ArchiveCommands.ImportAsync(to, new MemoryStream(Encoding.UTF8.GetBytes(cut)), TestStore.Cancel));
            Assert.Equal(1, (await to.GetStatisticsAsync(TestStore.Cancel)).ActiveSessions);
        }

        Assert.Equal("2 sessions with 4 turns are imported; 1 were there already, 0 have expired.",
            await ArchiveCommands.ImportAsync(to, new MemoryStream(written.ToArray()), TestStore.Cancel));
        using var again = new MemoryStream();
        await ArchiveCommands.ExportAsync(to, again, TestStore.Cancel);
        Assert.Equal(Encoding.UTF8.GetString(written.ToArray()), Encoding.UTF8.GetString(again.ToArray()));
    }

    [Fact]
    public async Task What_is_no_command_is_told_with_exit_code_2()
    {
        var (code, output) = await RunAsync("sqlite", "bakcup", "x");
        Assert.Equal(2, code);
        Assert.Contains("'bakcup x' is no command", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Memory_has_nothing_to_export() => Assert.Equal(1, (await RunAsync("memory", "export", "-")).ExitCode);

    private Task<(int ExitCode, string Output)> RunAsync(string storageType, params string[] command) => SqliteTests.RunAsync("dotnet",
        ["exec", typeof(ISessionStore).Assembly.Location, .. command, $"--sessions:storage_type={storageType}", $"--sessions:db_path={_folder["sessions.db"]}"]);
}
