using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Sessions.Api;

/// <summary>
/// Where sessions and their turns are kept. This is the whole contract between the server and a store; the suite
/// <c>SessionStoreContract</c> in the tests holds every store to it.
/// </summary>
/// <remarks>
/// <para>
/// <b>Expiry.</b> A session whose <see cref="Session.ExpiresAt"/> has come does not exist for any operation here, whether or not
/// it still takes up space. Time is the store's <see cref="TimeProvider"/>.
/// </para>
/// <para>
/// <b>Ownership.</b> An operation that carries an <see cref="Owner"/> treats a session that the owner may not have exactly like one that
/// does not exist.
/// </para>
/// <para>
/// <b>Per-user limit.</b> Whatever gives a user one session more (creating, forking, claiming) removes that user's least recently active
/// other sessions in the same atomic step, until the limit holds.
/// </para>
/// <para><b>Atomicity.</b> Every operation takes effect as a whole or not at all, also when it is cancelled or the process dies.</para>
/// <para><b>Failure.</b> Each operation throws <see cref="StoreUnavailableException"/> while the store can't be reached or can't write.</para>
/// </remarks>
internal interface ISessionStore
{
    /// <summary>Creates a session without turns.</summary>
    /// <returns>The session; <see langword="null"/> where one with that id exists already.</returns>
    ValueTask<Session?> CreateAsync(NewSession session, CancellationToken cancellationToken);

    /// <summary>Reads a session.</summary>
    /// <returns>The session, or <see langword="null"/> where there is none for this owner.</returns>
    ValueTask<Session?> GetAsync(string sessionId, Owner owner, CancellationToken cancellationToken);

    /// <summary>Removes a session with its history and all that belongs to it. A turn that is running on it can't be committed any more.</summary>
    /// <returns>Whether there was one for this owner.</returns>
    ValueTask<bool> DeleteAsync(string sessionId, Owner owner, CancellationToken cancellationToken);

    /// <summary>Reads one page of a user's sessions, in order of activity. Costs no more than the page.</summary>
    ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken);

    /// <summary>Reads one page of a session's turns, in order. Costs no more than the page.</summary>
    /// <returns>The page, or <see langword="null"/> where there is no such session for this owner.</returns>
    ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken);

    /// <summary>
    /// Replaces the client's own metadata, provided that the session still has the version <paramref name="expectedVersion"/>. Does not count
    /// as activity.
    /// </summary>
    ValueTask<MetadataReplacement> ReplaceMetadataAsync(string sessionId, Owner owner, long expectedVersion, ReadOnlyMemory<byte> metadata, CancellationToken cancellationToken);

    /// <summary>Creates a session that starts with the first turns of another one, and belongs to whom that one belongs, whatever <paramref name="session"/> says. The copied turns keep their numbers and times; a summary goes along
    /// where it covers no more than these.</summary>
    ValueTask<Fork> ForkAsync(string sourceId, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken);

    /// <summary>
    /// Starts a turn: finds the session (or that there is none), the turns before it, and whether the same request has been answered
    /// before. Nothing is created yet. Where a store serves several processes that must take turns, the session is held for this one from now
    /// until the turn ends by <see cref="CommitTurnAsync"/>, <see cref="FailTurnAsync"/> or <see cref="AbandonTurnAsync"/>.
    /// </summary>
    ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken);

    /// <summary>
    /// Ends a turn well: turn, counters, context, expiry, binding and idempotency record in one atomic step; creates the session where there
    /// was none. Durable, where the store is, when it returns. Refused where the session has changed hands, moved on or gone since the turn began.
    /// </summary>
    /// <param name="start">The turn's beginning.</param>
    /// <param name="turn">The turn.</param>
    /// <param name="summary">Replaces the session's summary in the same step, if there is a new one.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken);

    /// <summary>
    /// Ends a turn that failed: counts the failure and records <paramref name="error"/>, and nothing else; the history stays as it was. A session
    /// that did not exist is created for it, unless that would cost the user another session.
    /// </summary>
    ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken);

    /// <summary>Ends a turn without a trace, as when its client has gone. Must be called, and does nothing, after the turn has ended otherwise.</summary>
    ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken);

    /// <summary>
    /// Ties an idempotency key to the id of the session that its request is going to create, or finds the id that it was tied to. Lasts as long
    /// as that session; where none came of it, as long as an idle session would. A key whose session the owner may not have is one that was used
    /// for another request, and the id is not told.
    /// </summary>
    ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken);

    /// <summary>Removes everything of a user: sessions, turns, index entries, idempotency records.</summary>
    ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken);

    /// <summary>Frees the space of expired sessions. Others may work meanwhile.</summary>
    /// <returns>How many sessions were removed.</returns>
    ValueTask<int> RemoveExpiredAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Reads everything, to be moved to another store: each session, followed by its turns in order. A session is shown as it stands at one moment;
    /// one that comes or goes meanwhile may be among them or not.
    /// </summary>
    IAsyncEnumerable<ArchiveEntry> ExportAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Adds a session as it was in another store, with its ids, times, turns and idempotency records, in one atomic step after its last turn was read.
    /// Does not count for the per-user limit until the user creates another one.
    /// </summary>
    /// <param name="session">The session.</param>
    /// <param name="turns">All its turns, in order; read once, and no more of them held than a store needs for one step.</param>
    /// <param name="cancellationToken">Gives up; nothing is added then.</param>
    /// <exception cref="InvalidDataException">The turns are not those that the session has.</exception>
    ValueTask<ImportStatus> ImportAsync(ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken);

    /// <summary>Counts what is there now.</summary>
    ValueTask<StoreStatistics> GetStatisticsAsync(CancellationToken cancellationToken);

    /// <summary>Whether the store can read and write, for <c>/health</c>. Does not throw.</summary>
    ValueTask<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken);
}

/// <summary>A session to be created.</summary>
/// <param name="Id">Its id.</param>
/// <param name="UserId">The user it is bound to, if any.</param>
/// <param name="Metadata">The client's own metadata: a JSON object in UTF-8, or empty.</param>
/// <param name="CreatedFrom">How it comes to be.</param>
/// <param name="IdempotencyKey">The key by which <see cref="ISessionStore.ReserveSessionIdAsync"/> gave the id, if it did: it is kept as long as the session.</param>
internal sealed record NewSession(string Id, string? UserId, ReadOnlyMemory<byte> Metadata, SessionOrigin CreatedFrom, Guid? IdempotencyKey = null);

/// <summary>A page of something.</summary>
/// <param name="Items">What is on it.</param>
/// <param name="Next">Where the next page starts; <see langword="null"/> on the last one. Of a list that was not filtered an existing next page is never empty.</param>
internal sealed record Page<T>(IReadOnlyList<T> Items, PageCursor? Next);

/// <summary>A place in a list: just behind the entry with these keys, which need not exist any more.</summary>
/// <param name="Position">Of a session: its last activity in microseconds since 1970. Of a turn: its number.</param>
/// <param name="Id">Of a session: its id, which orders those with the same activity (ordinal). Of a turn: empty.</param>
internal readonly record struct PageCursor(long Position, string Id);

/// <summary>Which page of a user's sessions is wanted.</summary>
internal sealed record SessionPageRequest
{
    /// <summary>How many sessions at the most.</summary>
    public required int Limit { get; init; }

    /// <summary>Start behind this place; <see langword="null"/>: at the start.</summary>
    public PageCursor? After { get; init; }

    /// <summary>Oldest activity first, rather than newest.</summary>
    public bool Ascending { get; init; }

    /// <summary>Only sessions that pass. A store reads <see cref="ScanLimit"/> of the user's sessions at the most for one page, and then tells where to go on.</summary>
    public Func<Session, bool>? Filter { get; init; }

    /// <summary>How many sessions a filtered page may look at.</summary>
    public const int ScanLimit = 1000;
}

/// <summary>Which page of a session's turns is wanted.</summary>
/// <param name="Limit">How many turns at the most.</param>
/// <param name="After">Start behind this place; <see langword="null"/>: at the start.</param>
/// <param name="Descending">Newest turn first, rather than oldest.</param>
internal sealed record TurnPageRequest(int Limit, PageCursor? After, bool Descending);

/// <summary>What came of replacing metadata.</summary>
/// <param name="Session">The session as it now is; <see langword="null"/>: there is none.</param>
/// <param name="Replaced">Whether the change was made; if not, the version was another.</param>
internal readonly record struct MetadataReplacement(Session? Session, bool Replaced);

/// <summary>What came of a fork.</summary>
/// <param name="Status">Whether it was made.</param>
/// <param name="Session">The new session, where it was made.</param>
internal readonly record struct Fork(ForkStatus Status, Session? Session = null);

/// <summary>Whether a fork was made.</summary>
internal enum ForkStatus
{
    /// <summary>It was.</summary>
    Created,

    /// <summary>There is no session to fork for this owner.</summary>
    SourceNotFound,

    /// <summary>The session to fork does not have the turn that was named.</summary>
    NoSuchTurn,

    /// <summary>A session with the new id exists.</summary>
    IdTaken,
}

/// <summary>A turn that is about to start.</summary>
internal sealed record TurnRequest
{
    /// <summary>The session, which need not exist.</summary>
    public required string SessionId { get; init; }

    /// <summary>On whose behalf. The first one who names a user binds the session to it.</summary>
    public required Owner Owner { get; init; }

    /// <summary>How many of the last turns are wanted.</summary>
    public required int HistoryTurns { get; init; }

    /// <summary>The request's idempotency key, within the session.</summary>
    public Idempotency? Idempotency { get; init; }

    /// <summary>The key by which <see cref="ISessionStore.ReserveSessionIdAsync"/> gave the session's id, if it did.</summary>
    public Guid? ReservedBy { get; init; }

    /// <summary>How long to wait for another process that holds the session.</summary>
    public TimeSpan Wait { get; init; }
}

/// <summary>How a turn starts. Goes back to the store that made it, which may keep more in a type of its own.</summary>
/// <param name="request">The turn that was asked for.</param>
/// <param name="status">Whether it may go on.</param>
internal class TurnStart(TurnRequest request, TurnStartStatus status)
{
    /// <summary>The turn that was asked for.</summary>
    public TurnRequest Request { get; } = request;

    /// <summary>Whether it may go on.</summary>
    public TurnStartStatus Status { get; } = status;

    /// <summary>The session as it is before the turn; <see langword="null"/>: there is none yet.</summary>
    public Session? Session { get; init; }

    /// <summary>The last turns of the session, oldest first.</summary>
    public IReadOnlyList<Turn> History { get; init; } = [];

    /// <summary>The turn that has answered this request before, where <see cref="Status"/> says so.</summary>
    public Turn? Replay { get; init; }
}

/// <summary>A history that tells what was asked without making a <see cref="Turn"/> of each.</summary>
internal interface IHistoryQueries
{
    /// <summary>Copies what was asked in each turn, oldest first.</summary>
    /// <param name="first">The first turn to be copied, from 0.</param>
    /// <param name="queries">Where to: at least as many as there are.</param>
    void CopyQueries(int first, Span<Utf8Text> queries);
}

/// <summary>Whether a turn may go on.</summary>
internal enum TurnStartStatus
{
    /// <summary>It may.</summary>
    Started,

    /// <summary>The session is not to be had by this owner.</summary>
    NotFound,

    /// <summary>The same request has been answered before: <see cref="TurnStart.Replay"/>.</summary>
    Replayed,

    /// <summary>The idempotency key has been used for another request.</summary>
    KeyReused,

    /// <summary>Another process holds the session, and did not let go of it in time.</summary>
    Busy,
}

/// <summary>What came of committing a turn.</summary>
internal enum CommitStatus
{
    /// <summary>It is in the history.</summary>
    Committed,

    /// <summary>Other turns were committed since it began (or the session was created): it must run again on the history as it now is.</summary>
    Stale,

    /// <summary>The session was deleted, evicted or claimed by somebody else since the turn began.</summary>
    Gone,
}

/// <summary>The session id an idempotency key is tied to.</summary>
/// <param name="SessionId">The id, where it is the same request.</param>
/// <param name="SameBody">Whether the key was tied by the same request, on behalf of somebody who may have the session.</param>
/// <param name="IsNew">Whether the key was tied just now.</param>
internal readonly record struct KeyReservation(string SessionId, bool SameBody, bool IsNew);

/// <summary>What an erasure removed.</summary>
/// <param name="Sessions">Sessions.</param>
/// <param name="Turns">Turns in them.</param>
internal readonly record struct Erasure(long Sessions, long Turns);

/// <summary>A session as it is moved from one store to another.</summary>
/// <param name="Session">The session. Its <see cref="Session.LastTurn"/> says nothing here: the turns follow.</param>
/// <param name="CreatedBy">The key by which <see cref="ISessionStore.ReserveSessionIdAsync"/> gave its id, if it did, and the request it came with.</param>
internal sealed record ArchivedSession(Session Session, Idempotency? CreatedBy);

/// <summary>A turn as it is moved from one store to another.</summary>
/// <param name="Turn">The turn.</param>
/// <param name="AnsweredTo">The idempotency key it answered, if any.</param>
internal sealed record ArchivedTurn(Turn Turn, Idempotency? AnsweredTo);

/// <summary>A session, or one of the turns of the session before it.</summary>
internal readonly record struct ArchiveEntry(ArchivedSession? Session, ArchivedTurn? Turn);

/// <summary>What came of importing a session.</summary>
internal enum ImportStatus
{
    /// <summary>It is there.</summary>
    Imported,

    /// <summary>There is a session with that id, which stays as it is.</summary>
    IdTaken,

    /// <summary>It has expired.</summary>
    Expired,
}

/// <summary>What a store holds.</summary>
/// <param name="ActiveSessions">Sessions that have not expired.</param>
/// <param name="ActiveSessionsInMemory">Those of them that this process holds in its memory.</param>
internal readonly record struct StoreStatistics(long ActiveSessions, long ActiveSessionsInMemory);

/// <summary>The store can't be reached or can't write at the moment. Nothing of the operation took effect, as far as anyone can know.</summary>
/// <param name="message">What is wrong, in words fit for a client: no paths, no secrets.</param>
/// <param name="retryAfter">When it is worth trying again.</param>
/// <param name="innerException">What the store's own library said.</param>
internal sealed class StoreUnavailableException(string message, TimeSpan retryAfter, Exception? innerException = null) : Exception(message, innerException)
{
    /// <summary>When it is worth trying again.</summary>
    public TimeSpan RetryAfter { get; } = retryAfter;

    /// <summary>Whether nothing was tried, because the trouble is known. Then it has been logged already.</summary>
    public bool WasKnown { get; init; }
}
