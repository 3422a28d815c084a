using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Sessions.Api;

/// <summary>A store whose operations are timed and traced. While nobody listens, calls are only passed on.</summary>
internal sealed class MeteredSessionStore : ISessionStore
{
    private readonly ISessionStore _store;
    private readonly string _name;
    private readonly Histogram<double> _duration;

    /// <summary>Wraps a store.</summary>
    /// <param name="store">The store.</param>
    /// <param name="name">Its name, as config.yaml has it.</param>
    /// <param name="meters">Makes the meter.</param>
    public MeteredSessionStore(ISessionStore store, string name, IMeterFactory meters)
    {
        _store = store;
        _name = name;
        _duration = meters.Create(SessionMetrics.MeterName).CreateHistogram("sessions.store.operation.duration", "s", "How long an operation of the store took.",
            advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 30] });
    }

    public ValueTask<Session?> CreateAsync(NewSession session, CancellationToken cancellationToken) =>
        TimeAsync("create", (session, cancellationToken), static (store, x) => store.CreateAsync(x.session, x.cancellationToken));

    public ValueTask<Session?> GetAsync(string sessionId, Owner owner, CancellationToken cancellationToken) =>
        TimeAsync("get", (sessionId, owner, cancellationToken), static (store, x) => store.GetAsync(x.sessionId, x.owner, x.cancellationToken));

    public ValueTask<bool> DeleteAsync(string sessionId, Owner owner, CancellationToken cancellationToken) =>
        TimeAsync("delete", (sessionId, owner, cancellationToken), static (store, x) => store.DeleteAsync(x.sessionId, x.owner, x.cancellationToken));

    public ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken) =>
        TimeAsync("list", (userId, request, cancellationToken), static (store, x) => store.ListAsync(x.userId, x.request, x.cancellationToken));

    public ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken) =>
        TimeAsync("read_history", (sessionId, owner, request, cancellationToken), static (store, x) => store.ReadHistoryAsync(x.sessionId, x.owner, x.request, x.cancellationToken));

    public ValueTask<MetadataReplacement> ReplaceMetadataAsync(string sessionId, Owner owner, long expectedVersion, ReadOnlyMemory<byte> metadata, CancellationToken cancellationToken) =>
        TimeAsync("replace_metadata", (sessionId, owner, expectedVersion, metadata, cancellationToken),
            static (store, x) => store.ReplaceMetadataAsync(x.sessionId, x.owner, x.expectedVersion, x.metadata, x.cancellationToken));

    public ValueTask<Fork> ForkAsync(string sourceId, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken) =>
        TimeAsync("fork", (sourceId, owner, afterTurn, session, cancellationToken),
            static (store, x) => store.ForkAsync(x.sourceId, x.owner, x.afterTurn, x.session, x.cancellationToken));

    public ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken) =>
        TimeAsync("begin_turn", (request, cancellationToken), static (store, x) => store.BeginTurnAsync(x.request, x.cancellationToken));

    public ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken) =>
        TimeAsync("commit_turn", (start, turn, summary, cancellationToken), static (store, x) => store.CommitTurnAsync(x.start, x.turn, x.summary, x.cancellationToken));

    public async ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken) =>
        await TimeAsync("fail_turn", (start, error, cancellationToken), static async (store, x) =>
        {
            await store.FailTurnAsync(x.start, x.error, x.cancellationToken);
            return true;
        });

    // Follows every turn and mostly has nothing to do: it would only blur the picture.
    public ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken) => _store.AbandonTurnAsync(start, cancellationToken);

    public ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        TimeAsync("reserve_session_id", (key, owner, sessionId, cancellationToken), static (store, x) => store.ReserveSessionIdAsync(x.key, x.owner, x.sessionId, x.cancellationToken));

    public ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken) =>
        TimeAsync("erase_user", (userId, cancellationToken), static (store, x) => store.EraseUserAsync(x.userId, x.cancellationToken));

    public ValueTask<int> RemoveExpiredAsync(CancellationToken cancellationToken) =>
        TimeAsync("remove_expired", cancellationToken, static (store, x) => store.RemoveExpiredAsync(x));

    // Whole stores are moved by a command, which nobody watches.
    public IAsyncEnumerable<ArchiveEntry> ExportAsync(CancellationToken cancellationToken) => _store.ExportAsync(cancellationToken);

    public ValueTask<ImportStatus> ImportAsync(ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken) =>
        _store.ImportAsync(session, turns, cancellationToken);

    public ValueTask<StoreStatistics> GetStatisticsAsync(CancellationToken cancellationToken) =>
        TimeAsync("get_statistics", cancellationToken, static (store, x) => store.GetStatisticsAsync(x));

    // Asked every few seconds by orchestrators, and not traced there either.
    public ValueTask<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken) => _store.CheckHealthAsync(cancellationToken);

    // Static lambdas with their arguments handed through: nothing is allocated while nobody listens.
    private ValueTask<T> TimeAsync<TArguments, T>(string operation, TArguments arguments, Func<ISessionStore, TArguments, ValueTask<T>> call) =>
        _duration.Enabled || QueryMetrics.Source.HasListeners() ? TimedAsync(operation, arguments, call) : call(_store, arguments);

    private async ValueTask<T> TimedAsync<TArguments, T>(string operation, TArguments arguments, Func<ISessionStore, TArguments, ValueTask<T>> call)
    {
        var tags = new TagList { { "sessions.store", _name }, { "sessions.store.operation", operation } };
        using var activity = QueryMetrics.Source.StartActivity(ActivityKind.Internal, tags: tags, name: $"store {operation}");
        var began = Stopwatch.GetTimestamp();
        try
        {
            return await call(_store, arguments);
        }
        catch (Exception e)
        {
            tags.Add("error.type", e.GetType().Name);
            activity?.SetTag("error.type", e.GetType().Name).SetStatus(ActivityStatusCode.Error, (e as StoreUnavailableException)?.Message);
            throw;
        }
        finally
        {
            _duration.Record(Stopwatch.GetElapsedTime(began).TotalSeconds, tags);
        }
    }
}
