using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api;

namespace Sessions.Tests;

/// <summary>A store that misbehaves as a test tells it: before an operation takes effect, or after it has.</summary>
internal sealed class FaultySessionStore(ISessionStore store) : ISessionStore
{
    /// <summary>What comes over a store: it may throw, or keep the caller waiting.</summary>
    /// <param name="operation">The operation, as the metrics name it.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public delegate Task Fault(string operation, CancellationToken cancellationToken);

    /// <summary>Before the operation: it does not take effect where this throws.</summary>
    public Fault? Before { get; set; }

    /// <summary>After the operation: it has taken effect, and nobody is told.</summary>
    public Fault? After { get; set; }

    /// <summary>How a server gets it: around its own store.</summary>
    public static void Around(IServiceCollection services)
    {
        var own = services.Last(service => service.ServiceType == typeof(ISessionStore));
        services.AddSingleton(all => new FaultySessionStore((ISessionStore)own.ImplementationFactory!(all)));
        services.AddSingleton<ISessionStore>(all => all.GetRequiredService<FaultySessionStore>());
    }

    /// <summary>Lets one operation throw, always.</summary>
    /// <param name="operation">The operation.</param>
    /// <param name="tookEffect">Whether it takes effect all the same.</param>
    /// <param name="exception">What it throws.</param>
    public void Fail(string operation, bool tookEffect, Exception exception)
    {
        Task FailAsync(string called, CancellationToken cancellationToken) => called == operation ? Task.FromException(exception) : Task.CompletedTask;
        Before = tookEffect ? null : FailAsync;
        After = tookEffect ? FailAsync : null;
    }

    /// <summary>Works properly again.</summary>
    public void Heal() => (Before, After) = (null, null);

    public ValueTask<Session?> CreateAsync(NewSession session, CancellationToken cancellationToken) =>
        CallAsync("create", () => store.CreateAsync(session, cancellationToken), cancellationToken);

    public ValueTask<Session?> GetAsync(string sessionId, Owner owner, CancellationToken cancellationToken) =>
        CallAsync("get", () => store.GetAsync(sessionId, owner, cancellationToken), cancellationToken);

    public ValueTask<bool> DeleteAsync(string sessionId, Owner owner, CancellationToken cancellationToken) =>
        CallAsync("delete", () => store.DeleteAsync(sessionId, owner, cancellationToken), cancellationToken);

    public ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken) =>
        CallAsync("list", () => store.ListAsync(userId, request, cancellationToken), cancellationToken);

    public ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken) =>
        CallAsync("read_history", () => store.ReadHistoryAsync(sessionId, owner, request, cancellationToken), cancellationToken);

    public ValueTask<MetadataReplacement> ReplaceMetadataAsync(string sessionId, Owner owner, long expectedVersion, ReadOnlyMemory<byte> metadata, CancellationToken cancellationToken) =>
        CallAsync("replace_metadata", () => store.ReplaceMetadataAsync(sessionId, owner, expectedVersion, metadata, cancellationToken), cancellationToken);

    public ValueTask<Fork> ForkAsync(string sourceId, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken) =>
        CallAsync("fork", () => store.ForkAsync(sourceId, owner, afterTurn, session, cancellationToken), cancellationToken);

    public ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken) =>
        CallAsync("begin_turn", () => store.BeginTurnAsync(request, cancellationToken), cancellationToken);

    public ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken) =>
        CallAsync("commit_turn", () => store.CommitTurnAsync(start, turn, summary, cancellationToken), cancellationToken);

    public async ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken) =>
        await CallAsync("fail_turn", async () =>
        {
            await store.FailTurnAsync(start, error, cancellationToken);
            return true;
        }, cancellationToken);

    // No store of ours does more here than to let go, which can't fail.
    public ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken) => store.AbandonTurnAsync(start, cancellationToken);

    public ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        CallAsync("reserve_session_id", () => store.ReserveSessionIdAsync(key, owner, sessionId, cancellationToken), cancellationToken);

    public ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken) =>
        CallAsync("erase_user", () => store.EraseUserAsync(userId, cancellationToken), cancellationToken);

    public ValueTask<int> RemoveExpiredAsync(CancellationToken cancellationToken) => CallAsync("remove_expired", () => store.RemoveExpiredAsync(cancellationToken), cancellationToken);

    public IAsyncEnumerable<ArchiveEntry> ExportAsync(CancellationToken cancellationToken) => store.ExportAsync(cancellationToken);

    public ValueTask<ImportStatus> ImportAsync(ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken) =>
        store.ImportAsync(session, turns, cancellationToken);

    public ValueTask<StoreStatistics> GetStatisticsAsync(CancellationToken cancellationToken) => CallAsync("get_statistics", () => store.GetStatisticsAsync(cancellationToken), cancellationToken);

    public ValueTask<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken) => store.CheckHealthAsync(cancellationToken);

    private async ValueTask<T> CallAsync<T>(string operation, Func<ValueTask<T>> call, CancellationToken cancellationToken)
    {
        await (Before?.Invoke(operation, cancellationToken) ?? Task.CompletedTask);
        var result = await call();
        await (After?.Invoke(operation, cancellationToken) ?? Task.CompletedTask);
        return result;
    }
}
