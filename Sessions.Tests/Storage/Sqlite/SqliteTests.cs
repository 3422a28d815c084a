using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>What the tests of the SQLite store have in common.</summary>
internal static class SqliteTests
{
    public static SqliteSessionStore Open(string path, SessionSettings? settings = null, TimeProvider? time = null) =>
        new(SqliteFile.Prepare(path), settings ?? new SessionSettings { MaxSessionsPerUser = 0 }, time ?? TimeProvider.System, TestStore.NewMetrics(),
            NullLogger<SqliteSessionStore>.Instance);

    public static string? Ask(string path, string sql)
    {
        using var link = new SqliteLink(path, TimeSpan.FromSeconds(10));
        return link.Ask(sql);
    }

    public static void Execute(string path, string sql)
    {
        File.Open(path, FileMode.OpenOrCreate).Dispose();
        using var link = new SqliteLink(path, TimeSpan.FromSeconds(10));
        link.Execute(sql);
    }

    /// <summary>One turn, as the API makes it.</summary>
    public static async Task<CommitStatus> TurnAsync(ISessionStore store, string id, string? userId = null, string query = "query", string response = "response", Idempotency? key = null)
    {
        var start = await store.BeginTurnAsync(new TurnRequest { SessionId = id, Owner = Owner.Claiming(userId), HistoryTurns = 1, Idempotency = key }, TestStore.Cancel);
        return await store.CommitTurnAsync(start, NewTurn((start.Session?.TurnCount ?? 0) + 1, query, response), null, TestStore.Cancel);
    }

    public static Turn NewTurn(int number, string query = "query", string response = "response") => new()
    {
        Number = number,
        Query = query,
        Response = response,
        AgentType = "advanced",
        AgentUsed = "builtin",
        CreatedAt = TimeProvider.System.GetUtcNowMicroseconds(),
        ExecutionTime = TimeSpan.FromMilliseconds(1.5),
        StartedSession = number == 1,
    };

    /// <summary>A session with many turns, made in few steps.</summary>
    public static async Task FillAsync(SqliteSessionStore store, string id, string? userId, int turns, string response = "response")
    {
        var session = (await store.CreateAsync(TestStore.New(id, userId), TestStore.Cancel))! with { TurnCount = turns };
        await store.DeleteAsync(id, Owner.Anyone, TestStore.Cancel);
        Assert.Equal(ImportStatus.Imported, await store.ImportAsync(new ArchivedSession(session, null), TurnsAsync(turns, response), TestStore.Cancel));
    }

    public static async IAsyncEnumerable<ArchivedTurn> TurnsAsync(int turns, string response = "response")
    {
        for (var number = 1; number <= turns; number++)
        {
            yield return new ArchivedTurn(NewTurn(number, $"q{number}", response), null);
        }

        await Task.CompletedTask;
    }

    /// <summary>Runs another program to its end, and gives what it wrote.</summary>
    public static async Task<(int ExitCode, string Output)> RunAsync(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEndAsync(TestStore.Cancel);
        var output = await process.StandardOutput.ReadToEndAsync(TestStore.Cancel);
        await process.WaitForExitAsync(TestStore.Cancel);
        return (process.ExitCode, output + await error);
    }
}
