using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>What the tests of the SQLite store have in common.</summary>
internal static class SqliteTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static StorePolicy NewPolicy(TimeSpan? lifetime = null, int maxPerUser = 0, DamageReport? damage = null) => new()
    {
        Lifetime = _ => lifetime ?? TimeSpan.FromHours(24),
        MaxPerUser = kind => kind == SessionKind.Chain ? 0 : maxPerUser,
        Damage = damage ?? new DamageReport(),
    };

    public static SqliteSessionStore Open(string path, StorePolicy? policy = null, TimeProvider? time = null) =>
        new(SqliteFile.Prepare(path), policy ?? NewPolicy(), time ?? TimeProvider.System, NullLogger<SqliteSessionStore>.Instance);

    public static string? Ask(string path, string sql)
    {
        using var db = new SqliteDatabase(path, TimeSpan.FromSeconds(10));
        return db.Ask(sql);
    }

    public static void Execute(string path, string sql)
    {
        File.Open(path, FileMode.OpenOrCreate).Dispose();
        using var db = new SqliteDatabase(path, TimeSpan.FromSeconds(10));
        db.Execute(sql);
    }

    public static async Task<Session?> GetAsync(ISessionStore store, string id) =>
        (await store.OpenAsync(new OpenRequest { Session = SessionRef.ById(id), Owner = Owner.Anyone }, Cancel)).Session;

    public static async Task<Session> CreateAsync(
        ISessionStore store, string id, string? userId = null, string? metadata = null, SessionKind kind = SessionKind.Session)
    {
        var made = await store.CopyAsync(new CopyRequest { Session = TestStore.New(id, userId, metadata, kind) }, Cancel);
        Assert.Equal(CopyStatus.Created, made.Status);
        return made.Session!;
    }

    /// <summary>Opens a session for a turn.</summary>
    public static ValueTask<OpenedSession> BeginAsync(
        ISessionStore store, string id, string? userId = null, Idempotency? key = null, TimeSpan? atLeast = null) =>
        store.OpenAsync(
            new OpenRequest
            {
                Session = SessionRef.ById(id),
                Owner = Owner.Claiming(userId),
                HistoryTurns = 1,
                Idempotency = key,
                Lease = TestStore.NewLease(atLeast),
            }, Cancel);

    /// <summary>Commits a turn on what was opened.</summary>
    public static async Task<WriteStatus> CommitAsync(
        ISessionStore store, OpenedSession opened, string query = "query", string response = "response") =>
        (await store.WriteAsync(opened,
            TestStore.NewAppend(opened, NewTurn((opened.Session?.TurnCount ?? 0) + 1, query, response)), Cancel)).Status;

    /// <summary>One turn, as the API makes it.</summary>
    public static async Task<WriteStatus> TurnAsync(
        ISessionStore store, string id, string? userId = null, string query = "query", string response = "response",
        Idempotency? key = null) =>
        await CommitAsync(store, await BeginAsync(store, id, userId, key), query, response);

    public static Turn NewTurn(int number, string query = "query", string response = "response") => new()
    {
        Number = number,
        Parent = number - 1,
        RunStart = 1,
        Nonce = TurnNonce.New(number),
        Input = Items.OfText(query),
        Output = Items.OfText(response),
        AgentType = "advanced",
        AgentUsed = "builtin",
        CreatedAt = TimeProvider.System.GetUtcNowMicroseconds(),
        ExecutionTime = TimeSpan.FromMilliseconds(1.5),
        StartedSession = number == 1,
    };

    /// <summary>A session with many turns, made in few steps.</summary>
    public static async Task FillAsync(ISessionStore store, string id, string? userId, int turns, string response = "response")
    {
        var made = await store.CopyAsync(
            new CopyRequest { Session = TestStore.New(id, userId), Turns = TurnsAsync(turns, response) }, Cancel);
        Assert.Equal(CopyStatus.Created, made.Status);
        Assert.Equal(turns, made.Session!.TurnCount);
    }

    public static async IAsyncEnumerable<ArchivedTurn> TurnsAsync(int turns, string response = "response")
    {
        for (var number = 1; number <= turns; number++)
        {
            yield return new ArchivedTurn(NewTurn(number, $"q{number}", response), null);
        }

        await Task.CompletedTask;
    }

    public static async Task<IReadOnlyList<Turn>> HistoryAsync(ISessionStore store, string id) =>
        (await store.ReadTurnsAsync(SessionRef.ById(id), Owner.Anyone,
            new TurnPageRequest { Limit = 100_000, MaxBytes = int.MaxValue }, Cancel))!.Turns;

    /// <summary>Runs another program to its end, and gives what it wrote.</summary>
    public static async Task<(int ExitCode, string Output)> RunAsync(string program, params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEndAsync(Cancel);
        var output = await process.StandardOutput.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        return (process.ExitCode, output + await error);
    }
}
