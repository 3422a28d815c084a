using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Sessions.Api;

/// <summary>A SQLite store whose last turns of sessions are also in a cache: in this process's memory, or in a Redis. So a turn's beginning need not read them from the file.</summary>
/// <remarks>
/// What is in the cache is never believed: each use asks SQLite for the session itself, and what was cached goes only with the very state of the session that it was
/// cached with. So nothing has to be invalidated for the sake of truth, in this process or in another: an entry that is out of date, of an earlier session or of another
/// file is simply not used. Turns never change, and they are cached when they are committed.
/// </remarks>
internal sealed class CachedSessionStore : ISessionStore
{
    private readonly SqliteSessionStore _store;
    private readonly ITurnCache _cache;
    private long _removals;

    public CachedSessionStore(SqliteSessionStore store, ITurnCache cache)
    {
        (_store, _cache) = (store, cache);
        store.OnRemoved = ids =>
        {
            Interlocked.Increment(ref _removals);
            return cache.RemoveAsync(ids);
        };
    }

    // Two rows in any case, mostly recent ones: asking the cache would take longer.
    public ValueTask<Session?> GetAsync(string sessionId, Owner owner, CancellationToken cancellationToken) => _store.GetAsync(sessionId, owner, cancellationToken);

    public async ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken)
    {
        // Where there is more than a page, only the newest turns are cached.
        if (request.After is not null)
        {
            return await _store.ReadHistoryAsync(sessionId, owner, request, cancellationToken);
        }

        cancellationToken.ThrowIfCancellationRequested();
        var known = await _cache.FindAsync(sessionId);
        var (page, held) = _store.ReadHistory(sessionId, owner, request, known);
        _cache.Used(known, held);
        return page;
    }

    public async ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var known = await _cache.FindAsync(request.SessionId);
        var (start, held) = _store.Begin(request, known);
        _cache.Used(known, held);
        return start;
    }

    public async ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken)
    {
        var removals = Interlocked.Read(ref _removals);
        var (status, stamp, session) = await _store.CommitAsync(start, turn, summary, cancellationToken);
        if (status == CommitStatus.Committed)
        {
            var id = start.Request.SessionId;
            await _cache.PutAsync(id, new TurnWindow(stamp, TurnWindow.After(((SqliteTurnStart)start).LastTurns, start.Request.HistoryTurns, turn)) { Session = session });

            // Whoever has removed the session meanwhile may have looked into the cache before this was there.
            if ((_cache.IsShared || Interlocked.Read(ref _removals) != removals) && !StillExists(stamp))
            {
                await _cache.RemoveAsync([id]);
            }
        }

        return status;
    }

    public ValueTask<Session?> CreateAsync(NewSession session, CancellationToken cancellationToken) => _store.CreateAsync(session, cancellationToken);

    public ValueTask<bool> DeleteAsync(string sessionId, Owner owner, CancellationToken cancellationToken) => _store.DeleteAsync(sessionId, owner, cancellationToken);

    public ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken) => _store.ListAsync(userId, request, cancellationToken);

    public ValueTask<MetadataReplacement> ReplaceMetadataAsync(string sessionId, Owner owner, long expectedVersion, ReadOnlyMemory<byte> metadata, CancellationToken cancellationToken) =>
        _store.ReplaceMetadataAsync(sessionId, owner, expectedVersion, metadata, cancellationToken);

    public ValueTask<Fork> ForkAsync(string sourceId, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken) =>
        _store.ForkAsync(sourceId, owner, afterTurn, session, cancellationToken);

    public ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken) => _store.FailTurnAsync(start, error, cancellationToken);

    public ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken) => _store.AbandonTurnAsync(start, cancellationToken);

    public ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        _store.ReserveSessionIdAsync(key, owner, sessionId, cancellationToken);

    public ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken) => _store.EraseUserAsync(userId, cancellationToken);

    public ValueTask<int> RemoveExpiredAsync(CancellationToken cancellationToken)
    {
        _cache.RemoveExpired();
        return _store.RemoveExpiredAsync(cancellationToken);
    }

    public IAsyncEnumerable<ArchiveEntry> ExportAsync(CancellationToken cancellationToken) => _store.ExportAsync(cancellationToken);

    public ValueTask<ImportStatus> ImportAsync(ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken) =>
        _store.ImportAsync(session, turns, cancellationToken);

    public ValueTask<StoreStatistics> GetStatisticsAsync(CancellationToken cancellationToken) => _store.GetStatisticsAsync(cancellationToken);

    // Of the store: without its cache it is as sound as with it. The cache has a check of its own.
    public ValueTask<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken) => _store.CheckHealthAsync(cancellationToken);

    private bool StillExists(SessionStamp stamp)
    {
        try
        {
            return _store.Exists(stamp);
        }
        catch (StoreUnavailableException)
        {
            // The turn is committed, whatever is the matter now; what is not known to be there is better not cached.
            return false;
        }
    }
}
