using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;

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

    /// <summary>So many creations are answered as where an erasure of the user has overtaken them.</summary>
    public int Overtaken { get; set; }

    /// <summary>How a server gets it: around its own store.</summary>
    public static void Around(IServiceCollection services)
    {
        var own = services.Last(service => service.ServiceType == typeof(ISessionStore));
        services.AddSingleton(all => new FaultySessionStore(Own(all, own)));
        services.AddSingleton<ISessionStore>(all => all.GetRequiredService<FaultySessionStore>());
    }

    private static ISessionStore Own(IServiceProvider all, ServiceDescriptor own) => (ISessionStore)(
        own.ImplementationFactory?.Invoke(all) ?? ActivatorUtilities.CreateInstance(all, own.ImplementationType!));

    /// <summary>Lets one operation throw, always.</summary>
    /// <param name="operation">The operation.</param>
    /// <param name="tookEffect">Whether it takes effect all the same.</param>
    /// <param name="exception">What it throws.</param>
    public void Fail(string operation, bool tookEffect, Exception exception)
    {
        Task FailAsync(string called, CancellationToken cancellationToken) =>
            called == operation ? Task.FromException(exception) : Task.CompletedTask;
        Before = tookEffect ? null : FailAsync;
        After = tookEffect ? FailAsync : null;
    }

    /// <summary>Works properly again.</summary>
    public void Heal() => (Before, After) = (null, null);

    public StoreCapabilities Capabilities => store.Capabilities;

    public ValueTask<OpenedSession> OpenAsync(OpenRequest request, CancellationToken cancellationToken) =>
        CallAsync(request.Lease is null ? "get" : "begin_turn", () => store.OpenAsync(request, cancellationToken), cancellationToken);

    public ValueTask<WriteResult> WriteAsync(OpenedSession opened, SessionChange change, CancellationToken cancellationToken) =>
        CallAsync(NameOf(change), () => store.WriteAsync(opened, change, cancellationToken), cancellationToken);

    public ValueTask<LeaseState> RenewAsync(OpenedSession opened, CancellationToken cancellationToken) =>
        CallAsync("renew", () => store.RenewAsync(opened, cancellationToken), cancellationToken);

    // No store of ours does more here than to let go, which can't fail.
    public ValueTask ReleaseAsync(OpenedSession opened) => store.ReleaseAsync(opened);

    public ValueTask<bool> CancelAsync(SessionRef session, Owner owner, CancellationToken cancellationToken) =>
        CallAsync("cancel_turn", () => store.CancelAsync(session, owner, cancellationToken), cancellationToken);

    public ValueTask<TurnPage?> ReadTurnsAsync(
        SessionRef session, Owner owner, TurnPageRequest request, CancellationToken cancellationToken) =>
        CallAsync("read_history", () => store.ReadTurnsAsync(session, owner, request, cancellationToken), cancellationToken);

    public ValueTask<Page<Session>> ListAsync(SessionPageRequest request, CancellationToken cancellationToken) =>
        CallAsync("list", () => store.ListAsync(request, cancellationToken), cancellationToken);

    public ValueTask<CopyResult> CopyAsync(CopyRequest request, CancellationToken cancellationToken) =>
        request is { Source: null, Turns: null } && Overtaken-- > 0 ? new(new CopyResult(CopyStatus.SourceNotFound)) :
        CallAsync(request.Source is not null ? "fork" : request.Turns is not null ? "import" : "create",
            () => store.CopyAsync(request, cancellationToken), cancellationToken);

    public ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken) =>
        CallAsync("delete", () => store.DeleteAsync(session, owner, cancellationToken), cancellationToken);

    public ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken) =>
        CallAsync("erase_user", () => store.EraseAsync(userId, cancellationToken), cancellationToken);

    public ValueTask<int> SweepAsync(CancellationToken cancellationToken) =>
        CallAsync("remove_expired", () => store.SweepAsync(cancellationToken), cancellationToken);

    public ValueTask<KeyReservation> ReserveAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        CallAsync("reserve_session_id", () => store.ReserveAsync(key, owner, sessionId, cancellationToken), cancellationToken);

    public IAsyncEnumerable<ArchiveEntry> ExportAsync(string? userId, CancellationToken cancellationToken) =>
        store.ExportAsync(userId, cancellationToken);

    public ValueTask<StoreStatistics> CountAsync(CancellationToken cancellationToken) =>
        CallAsync("get_statistics", () => store.CountAsync(cancellationToken), cancellationToken);

    public ValueTask<HealthCheckResult> CheckAsync(CancellationToken cancellationToken) => store.CheckAsync(cancellationToken);

    private static string NameOf(SessionChange change) => change switch
    {
        AppendTurn => "commit_turn",
        RecordFailure => "fail_turn",
        ReplaceMetadata => "replace_metadata",
        _ => "replace_turn",
    };

    private async ValueTask<T> CallAsync<T>(string operation, Func<ValueTask<T>> call, CancellationToken cancellationToken)
    {
        await (Before?.Invoke(operation, cancellationToken) ?? Task.CompletedTask);
        var result = await call();
        await (After?.Invoke(operation, cancellationToken) ?? Task.CompletedTask);
        return result;
    }
}
