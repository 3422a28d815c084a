using Sessions.Api;

namespace Sessions.Tests.Storage;

/// <summary>A file that somebody writes into while it is in use: told, and never a 500; and a backup puts everything right.</summary>
public sealed class SqliteDamageTests : IDisposable
{
    private const int PageBytes = 4096;

    private readonly TestFolder _folder = new();

    public SqliteDamageTests() => Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows lets nobody write into a file that SQLite has open.");

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Pages_that_are_overwritten_are_told_and_a_backup_puts_it_right()
    {
        await FillAsync();
        File.Copy(Db, Db + ".backup");
        await using (var server = Start())
        {
            await OverwriteAsync(2, (int)(new FileInfo(Db).Length / PageBytes) - 2);

            var refused = (await server.TryQueryAsync("and?", "s1", "u1")).IsProblem(503, "storage_unavailable");
            Assert.Equal("The database that sessions are kept in is damaged.", (string?)refused.Json["detail"]);
            Assert.Equal("10", refused.Headers["Retry-After"]);
            Assert.Equal(503, (await server.GetAsync("/health")).Status);
            await AskEverythingAsync(server);
        }

        Assert.Contains("damaged", Assert.Throws<ServiceDefaults.SettingsException>(() => SqliteFile.Prepare(Db)).Message, StringComparison.Ordinal);
        File.Move(Db + ".backup", Db, overwrite: true);
        File.Delete(Db + "-wal");
        File.Delete(Db + "-shm");
        await using var again = Start();
        Assert.Equal(31, (int)(await again.QueryAsync("and?", "s1", "u1"))["metadata"]!["turn"]!);
        Assert.Equal(200, (await again.GetAsync("/health")).Status);
    }

    // SQLite does not notice these: each reads as something that nobody wrote.
    [Theory]
    [InlineData("sessions SET created_at = 9000000000000000000")]
    [InlineData("sessions SET last_activity_at = 9000000000000000000")]
    [InlineData("sessions SET expires_at = 9000000000000000000")]
    [InlineData("sessions SET created_at = -9000000000000000000")]
    [InlineData("sessions SET turn_count = -36")]
    [InlineData("sessions SET created_from = '?'")]
    [InlineData("sessions SET metadata = CAST('{' AS BLOB)")]
    [InlineData("sessions SET metadata = CAST('[]' AS BLOB)")]
    [InlineData("turns SET created_at = 9000000000000000000")]
    [InlineData("turns SET execution_us = 9000000000000000000")]
    [InlineData("turns SET execution_us = -9000000000000000000")]
    [InlineData("turns SET query = CAST(x'ff00fe' AS TEXT), response = CAST(x'c3' AS TEXT)")]
    public async Task Values_that_nobody_wrote_are_told_or_shown_and_never_a_500(string update)
    {
        await FillAsync();
        await using var server = Start();
        SqliteTests.Execute(Db, "UPDATE " + update);

        await AskEverythingAsync(server);
    }

    private SessionsServer Start() => SessionsServer.Start([("sessions:storage_type", "sqlite"), ("sessions:db_path", Db)]);

    private async Task FillAsync()
    {
        await using var store = SqliteTests.Open(Db, new ServiceDefaults.SessionSettings(), new Microsoft.Extensions.Time.Testing.FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero)));
        for (var i = 0; i < 8; i++)
        {
            await SqliteTests.FillAsync(store, $"s{i}", $"u{i % 3}", turns: 30, response: new string('x', 1000));
        }
    }

    private async Task OverwriteAsync(int page, int pages)
    {
        var (exitCode, output) = await SqliteTests.RunAsync("dd", "if=/dev/urandom", $"of={Db}", $"bs={PageBytes}", $"seek={page}", $"count={pages}", "conv=notrunc");
        Assert.True(exitCode == 0, output);
    }

    private static async Task AskEverythingAsync(SessionsServer server)
    {
        for (var i = 0; i < 8; i++)
        {
            foreach (var answer in (Answer[])
            [
                await server.GetAsync($"/sessions/s{i}"),
                await server.GetAsync($"/sessions/s{i}/history?limit=100"),
                await server.GetAsync($"/users/u{i % 3}/sessions"),
                await server.TryQueryAsync("and?", $"s{i}", $"u{i % 3}"),
                await server.PostAsync($"/sessions/s{i}/fork", "{}"),
                await server.PostAsync("/sessions", "{}"),
                await server.GetAsync("/sessions/stats"),
                await server.PostAsync("/sessions/cleanup"),
                await server.DeleteAsync($"/sessions/s{i}"),
            ])
            {
                Assert.True(answer.Status < 500 || (answer.Status, answer.Code) == (503, "storage_unavailable"), answer.Text);
            }
        }
    }
}
