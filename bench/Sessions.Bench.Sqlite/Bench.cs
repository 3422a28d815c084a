using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Bench.Sqlite;

/// <summary>What the measurements have in common.</summary>
internal static class Bench
{
    /// <summary>Texts of the length that the tables name.</summary>
    public static readonly string Query = new('q', 100);

    /// <inheritdoc cref="Query"/>
    public static readonly string Response = new('r', 400);

    private static readonly SessionSettings Settings = new() { MaxSessionsPerUser = 0 };

    public static SqliteSessionStore Open(string path) =>
        new(SqliteFile.Prepare(path), Settings, TimeProvider.System, NewMetrics(), NullLogger<SqliteSessionStore>.Instance);

    public static MemorySessionStore OpenMemory() => new(Settings, TimeProvider.System, NewMetrics());

    public static Turn NewTurn(int number, string? query = null, string? response = null) => new()
    {
        Number = number,
        Query = query ?? Query,
        Response = response ?? Response,
        AgentType = "advanced",
        AgentUsed = "builtin",
        CreatedAt = TimeProvider.System.GetUtcNowMicroseconds(),
        ExecutionTime = TimeSpan.FromMilliseconds(1.5),
        StartedSession = number == 1,
    };

    /// <summary>One turn, as the API makes it: what was said before is read, then the turn is committed.</summary>
    public static async Task AppendAsync(ISessionStore store, string sessionId, string? userId = null, int historyTurns = 1, string? query = null, string? response = null)
    {
        var start = await store.BeginTurnAsync(new TurnRequest { SessionId = sessionId, Owner = Owner.Claiming(userId), HistoryTurns = historyTurns }, CancellationToken.None);
        var status = await store.CommitTurnAsync(start, NewTurn((start.Session?.TurnCount ?? 0) + 1, query, response), null, CancellationToken.None);
        if (status != CommitStatus.Committed)
        {
            throw new InvalidOperationException($"The turn is {status}.");
        }
    }

    private static SessionMetrics NewMetrics() => new(new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>());

    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}
