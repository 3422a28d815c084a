using Microsoft.Extensions.Logging.Abstractions;

namespace Sessions.Bench.Sqlite;

/// <summary>What the measurements have in common.</summary>
internal static class Bench
{
    /// <summary>Texts of the length that the tables name.</summary>
    public static readonly string Query = new('q', 100);

    /// <inheritdoc cref="Query"/>
    public static readonly string Response = new('r', 400);

    private static readonly StorePolicy Policy = new() { Lifetime = _ => TimeSpan.FromHours(24), MaxPerUser = _ => 0 };

    public static SqliteSessionStore Open(string path) =>
        new(SqliteFile.Prepare(path), Policy, TimeProvider.System, NullLogger<SqliteSessionStore>.Instance);

    public static MemorySessionStore OpenMemory() => new(Policy, TimeProvider.System);

    public static Turn NewTurn(int number, string? query = null, string? response = null) => new()
    {
        Number = number,
        Parent = number - 1,
        RunStart = 1,
        Nonce = TurnNonce.New(number),
        Input = Items.OfText(query ?? Query),
        Output = Items.OfText(response ?? Response),
        AgentType = "advanced",
        AgentUsed = "builtin",
        CreatedAt = TimeProvider.System.GetUtcNowMicroseconds(),
        ExecutionTime = TimeSpan.FromMilliseconds(1.5),
        StartedSession = number == 1,
    };

    /// <summary>Reads what was said before, and takes the session for a turn.</summary>
    public static ValueTask<OpenedSession> BeginAsync(ISessionStore store, string sessionId, string? userId = null, int historyTurns = 1) =>
        store.OpenAsync(new OpenRequest
        {
            Session = SessionRef.ById(sessionId),
            Owner = Owner.Claiming(userId),
            HistoryTurns = historyTurns,
            Lease = new LeaseRequest(Guid.NewGuid(), TimeSpan.FromSeconds(30), TimeSpan.Zero, Waits: false, TimeSpan.FromSeconds(5)),
        }, CancellationToken.None);

    /// <summary>Commits a turn on what was opened.</summary>
    public static async Task CommitAsync(ISessionStore store, OpenedSession opened, string? query = null, string? response = null)
    {
        var turn = NewTurn((opened.Session?.TurnCount ?? 0) + 1, query, response);
        var create = opened.Session is not null ? null : new NewSession(
            opened.Request.Session.ToString(), SessionKey.New(), SessionKind.Session, opened.Request.Owner.UserId, default,
            SessionOrigin.Query);
        var written = await store.WriteAsync(opened, new AppendTurn(turn, 1) { Create = create }, CancellationToken.None);
        if (written.Status != WriteStatus.Written)
        {
            throw new InvalidOperationException($"The turn is {written.Status}.");
        }
    }

    /// <summary>One turn, as the API makes it: what was said before is read, then the turn is committed.</summary>
    public static async Task AppendAsync(ISessionStore store, string sessionId, string? userId = null, int historyTurns = 1,
        string? query = null, string? response = null) =>
        await CommitAsync(store, await BeginAsync(store, sessionId, userId, historyTurns), query, response);

    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}
