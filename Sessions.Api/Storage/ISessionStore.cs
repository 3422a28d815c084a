using System.Collections.Immutable;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage;

/// <summary>
/// Where sessions are kept: an append-only log of turns under a head that is changed on conditions, and nothing else. This is the whole
/// contract between the server and a store; the suite <c>StoreContract</c> in the tests holds every store to it. Its only caller is
/// <c>SessionLog</c>, which adds what is the same above all stores: what is remembered, sealing, metering, waiting for a lease, filters.
/// </summary>
/// <remarks>
/// <para>
/// <b>Expiry.</b> A session whose <see cref="Session.ExpiresAt"/> has come does not exist for any operation here, whether or not it still
/// takes up space; until it was swept that space may count for limits in bytes. Time is the store's <see cref="TimeProvider"/>.
/// </para>
/// <para>
/// <b>Ownership.</b> An operation that carries an <see cref="Owner"/> treats a session that the owner may not have exactly like one that
/// does not exist.
/// </para>
/// <para>
/// <b>Limits.</b> Whatever gives a user one session more of a kind (creating, copying, claiming) removes that user's least recently active
/// others of that kind in the same atomic step, until <see cref="StorePolicy.MaxPerUser"/> holds: those first on which no turn runs
/// (<see cref="StorePolicy.IsRunning"/>, or a lease), and one that runs only where there is no other. Chains make room by bytes: see
/// <see cref="StorePolicy.ChainBytesPerOwner"/>. Past <see cref="StorePolicy.StoredBytes"/>, and past
/// <see cref="StorePolicy.UnownedBytes"/> for what is bound to nobody, the same owner's oldest chains go, and then a write that adds bytes
/// is <see cref="WriteStatus.Full"/>; where these would not be enough, none of them goes. Bytes are those of
/// <see cref="StorePolicy.SizeOf"/>. Nobody's session ever makes room for another owner's.
/// </para>
/// <para><b>Atomicity.</b> Every operation takes effect as a whole or not at all, also when it is cancelled or the process dies.</para>
/// <para>
/// <b>Failure.</b> Each operation throws <see cref="StoreUnavailableException"/> while the store can't be reached or can't write, within
/// some seconds, and <see cref="StoredDataException"/> where what it is about can't be read: nothing is removed then. A list, a sweep, an
/// export or an erasure goes past what can't be read and reports it to <see cref="StorePolicy.Damage"/>; only <see cref="DeleteAsync"/>,
/// <see cref="EraseAsync"/> and expiry remove it.
/// </para>
/// </remarks>
internal interface ISessionStore
{
    /// <summary>What this store can do.</summary>
    StoreCapabilities Capabilities { get; }

    /// <summary>
    /// Opens a session, or finds that there is none: its head, the last turns on a path within bounds, and the turn that has answered the
    /// same request before. Nothing is created. Where a lease is asked for and the store has leases, the session is held for this caller
    /// from now on until <see cref="WriteAsync"/> ends the turn or <see cref="ReleaseAsync"/> lets go; never waits for one
    /// (<see cref="OpenStatus.Busy"/>). Where a turn begins and less is left of the session than <see cref="LeaseRequest.MinLifetime"/>,
    /// its
    /// expiry moves that far in the same step.
    /// </summary>
    ValueTask<OpenedSession> OpenAsync(OpenRequest request, CancellationToken cancellationToken);

    /// <summary>
    /// One conditional write on a session that was opened: it takes effect where the session is still the one that was opened (or still
    /// missing, where it was) and, as far as the change asks for it, unchanged; and, where there is a lease, while no other has it.
    /// Durable, where the store is, when it returns. Ends the lease.
    /// </summary>
    ValueTask<WriteResult> WriteAsync(OpenedSession opened, SessionChange change, CancellationToken cancellationToken);

    /// <summary>
    /// Keeps the lease for another <see cref="LeaseRequest.Duration"/>; takes it again where it ran out and nobody else did. Tells whether
    /// somebody wants the turn to stop.
    /// </summary>
    ValueTask<LeaseState> RenewAsync(OpenedSession opened, CancellationToken cancellationToken);

    /// <summary>
    /// Lets go of what was opened without a change: its lease, if it has one, or the place of a caller that was
    /// <see cref="OpenStatus.Busy"/> and does not come back. Does nothing after <see cref="WriteAsync"/> has ended it. Does not throw for
    /// trouble: both run out.
    /// </summary>
    ValueTask ReleaseAsync(OpenedSession opened);

    /// <summary>Asks whoever has the lease on a session to stop its turn: told by <see cref="RenewAsync"/>.</summary>
    /// <returns>
    /// Whether there is a lease. Always <see langword="false"/> where the store has none: then turns run in this process alone.
    /// </returns>
    ValueTask<bool> CancelAsync(SessionRef session, Owner owner, CancellationToken cancellationToken);

    /// <summary>Reads one page of turns. Costs no more than the page, and what of branches lies between.</summary>
    /// <returns>
    /// The page, with the head that it belongs to; <see langword="null"/> where there is no such session for this owner.
    /// </returns>
    ValueTask<TurnPage?> ReadTurnsAsync(SessionRef session, Owner owner, TurnPageRequest request, CancellationToken cancellationToken);

    /// <summary>Reads one page of sessions in order of activity: of a user's, or of all. Costs no more than the page.</summary>
    ValueTask<Page<Session>> ListAsync(SessionPageRequest request, CancellationToken cancellationToken);

    /// <summary>
    /// Makes a session in one atomic step after its last turn was read: without turns; with the first turns of another one, which keep
    /// their numbers, times, parents and nonces; or with turns that are handed in, as an import or a sealed fork has them. Where a source
    /// is named it must still be there, the same, when the step is made.
    /// </summary>
    ValueTask<CopyResult> CopyAsync(CopyRequest request, CancellationToken cancellationToken);

    /// <summary>
    /// Removes a session with its turns and all that belongs to it, also one that can't be read. A turn that is running on it can't be
    /// committed any more.
    /// </summary>
    /// <returns>Whether there was one for this owner.</returns>
    ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken);

    /// <summary>
    /// Removes everything of a user: sessions of all kinds, turns, index entries, idempotency records; what is being made for the user
    /// meanwhile does not come to be. Holds up nobody else's turns.
    /// </summary>
    ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken);

    /// <summary>Frees the space of expired sessions, in steps that hold up nobody for long.</summary>
    /// <returns>How many sessions (not chains) were removed.</returns>
    ValueTask<int> SweepAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Ties an idempotency key to the id of the session that its request is going to create, or finds the id that it was tied to. Lasts as
    /// long as that session; where none came of it, as long as an idle session would. A key whose session the owner may not have is one
    /// that was used for another request, and the id is not told, unless it is the id that the owner asks for.
    /// </summary>
    /// <exception cref="DomainException">
    /// <c>storage_full</c>: there is no room for the session that would come. Nothing is kept of the key then.
    /// </exception>
    ValueTask<KeyReservation> ReserveAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken);

    /// <summary>
    /// Reads everything, or everything of a user, to be moved to another store: each session, followed by all its turns in order. A
    /// session is shown as it stands when it comes, with no turn that is added later; where it goes while its turns are taken, or
    /// something of them is deleted, that is shown no more. One that comes or goes meanwhile may be among them or not. Nothing is held
    /// in the store while an entry is taken, however long that takes.
    /// </summary>
    IAsyncEnumerable<ArchiveEntry> ExportAsync(string? userId, CancellationToken cancellationToken);

    /// <summary>Counts what is there now. Costs no more than what has expired and was not yet swept.</summary>
    ValueTask<StoreStatistics> CountAsync(CancellationToken cancellationToken);

    /// <summary>Whether the store can read and write, for <c>/health</c>. Does not throw, and answers within 2 seconds.</summary>
    ValueTask<HealthCheckResult> CheckAsync(CancellationToken cancellationToken);
}

/// <summary>What a store can do; the contract suite asks for what is declared.</summary>
/// <param name="IsDurable">What was written survives the process.</param>
/// <param name="HasLeases">
/// Several processes may share it, and leases keep their turns apart. Without, the number of the turn decides at the commit.
/// </param>
internal readonly record struct StoreCapabilities(bool IsDurable, bool HasLeases);

/// <summary>What all stores are to keep to: made of the settings by the engine.</summary>
internal sealed class StorePolicy
{
    // About what a store needs beside the texts: many small things are large together.
    private const int BytesOfSession = 512;
    private const int BytesOfTurn = 128;

    /// <summary>How many bytes a session counts for against the limits in bytes.</summary>
    /// <param name="bytes">Its <see cref="Session.Bytes"/>.</param>
    /// <param name="turns">Its <see cref="Session.TurnCount"/>.</param>
    public static long SizeOf(long bytes, int turns) => bytes + BytesOfSession + ((long)BytesOfTurn * turns);

    /// <summary>How long an idle session lives, by its kind. Each write moves its expiry that far from its activity.</summary>
    public required Func<SessionKind, TimeSpan> Lifetime { get; init; }

    /// <summary>How many live sessions of a kind one user may have. 0: any number.</summary>
    public required Func<SessionKind, int> MaxPerUser { get; init; }

    /// <summary>
    /// How many bytes of chains (<see cref="SessionKind.Chain"/>) one user may have, or nobody; past it the oldest go. 0: any number.
    /// </summary>
    public long ChainBytesPerOwner { get; init; }

    /// <summary>How many bytes may be bound to nobody in all, of all kinds. 0: any number.</summary>
    public long UnownedBytes { get; init; }

    /// <summary>Whether there is room for one session more that is bound to nobody.</summary>
    /// <param name="bytes">What is bound to nobody and makes no room: all but chains.</param>
    public bool HasUnownedRoom(long bytes) => UnownedBytes <= 0 || bytes + SizeOf(0, 0) <= UnownedBytes;

    /// <summary>How many bytes the store may hold in all; for the memory store. 0: any number.</summary>
    public long StoredBytes { get; init; }

    /// <summary>Whether a turn runs in this process on the session with that id.</summary>
    public Func<string, bool> IsRunning { get; init; } = _ => false;

    /// <summary>Told of what can't be read.</summary>
    public DamageReport Damage { get; init; } = new();

    /// <summary>Looks whether those above a store can read what it has read of a session; throws <see cref="StoredDataException"/> where
    /// they can't.</summary>
    public Action<Session> Inspect { get; init; } = _ => { };

    /// <summary>
    /// Whether something of a session is known not to be readable. Such a session does not make room for others: only a deletion, an
    /// erasure or its expiry removes it.
    /// </summary>
    public bool IsDamaged(string id) => Damage.Has(DamageReport.NameOf(id));

    /// <summary>Whether a session that is to make room can be read; where it can't, that is told.</summary>
    /// <param name="read">Reads it.</param>
    public bool IsReadable(Func<Session> read)
    {
        try
        {
            Inspect(read());
            return true;
        }
        catch (StoredDataException e)
        {
            Damage.Report(e.What, e);
            return false;
        }
    }

    /// <summary>Told of sessions that come and go by themselves, for the metrics.</summary>
    public StoreEvents Events { get; init; } = new();
}

/// <summary>What a store tells of sessions that come and go.</summary>
internal sealed class StoreEvents
{
    /// <summary>Sessions were created that are not chains.</summary>
    public Action<SessionOrigin> Created { get; init; } = _ => { };

    /// <summary>So many sessions that had expired were removed.</summary>
    public Action<long> Expired { get; init; } = _ => { };

    /// <summary>So many sessions made room for others of their user.</summary>
    public Action<long> Evicted { get; init; } = _ => { };

    /// <summary>
    /// Sessions were deleted, erased or evicted here: their keys, told before whoever removed them is answered, so that nothing of them is
    /// kept elsewhere.
    /// </summary>
    public Func<IReadOnlyCollection<Guid>, ValueTask> Removed { get; init; } = _ => default;
}

/// <summary>Collects what can't be read, for <c>/health</c> and the log: each thing is told once.</summary>
internal sealed class DamageReport
{
    private const int MaxKept = 1000;

    private readonly Lock _lock = new();
    private readonly HashSet<string> _seen = new(StringComparer.Ordinal);

    /// <summary>Called for each thing that is met for the first time.</summary>
    public Action<string, Exception?> OnFirst { get; init; } = (_, _) => { };

    /// <summary>How a session is named, whatever of it can't be read: it is forgotten by that when the session is gone.</summary>
    public static string NameOf(string sessionId) => $"session '{sessionId}'";

    /// <summary>Whether that is known not to be readable.</summary>
    public bool Has(string what)
    {
        lock (_lock)
        {
            return _seen.Contains(what);
        }
    }

    /// <summary>How many things can't be read, as far as is known.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _seen.Count;
            }
        }
    }

    /// <summary>Something can't be read.</summary>
    /// <param name="what">What it is, in words fit for a log: an id, never a text.</param>
    /// <param name="reason">What the decoder said.</param>
    public void Report(string what, Exception? reason)
    {
        lock (_lock)
        {
            if (_seen.Count >= MaxKept || !_seen.Add(what))
            {
                return;
            }
        }

        OnFirst(what, reason);
    }

    /// <summary>It is gone, or readable again.</summary>
    public void Forget(string what)
    {
        lock (_lock)
        {
            _seen.Remove(what);
        }
    }
}

/// <summary>A page of something.</summary>
/// <param name="Items">What is on it.</param>
/// <param name="Next">
/// Where the next page starts; <see langword="null"/> on the last one. An existing next page is never empty, but where what is on it can't
/// be read.
/// </param>
internal sealed record Page<T>(IReadOnlyList<T> Items, PageCursor? Next);

/// <summary>A position in a list of sessions: just behind the entry with these keys, which need not exist any more.</summary>
/// <param name="Position">Its last activity in microseconds since 1970.</param>
/// <param name="Id">Its id, which orders those with the same activity (ordinal).</param>
internal readonly record struct PageCursor(long Position, string Id);

/// <summary>Which page of sessions is wanted.</summary>
internal sealed record SessionPageRequest
{
    /// <summary>The values of <see cref="Kind"/> that give all sessions, one after the other.</summary>
    public static ImmutableArray<SessionKind?> AllKinds { get; } = [null, SessionKind.Chain];

    /// <summary>Whose; <see langword="null"/>: everybody's.</summary>
    public string? UserId { get; init; }

    /// <summary>Only sessions of this kind; <see langword="null"/>: all but chains.</summary>
    public SessionKind? Kind { get; init; }

    /// <summary>How many sessions at the most.</summary>
    public required int Limit { get; init; }

    /// <summary>How many bytes they may have together, by what a list shows of them: at least one is given, however large.</summary>
    public int MaxBytes { get; init; } = int.MaxValue;

    /// <summary>Start behind this position; <see langword="null"/>: at the start.</summary>
    public PageCursor? After { get; init; }

    /// <summary>Oldest activity first, rather than newest.</summary>
    public bool Ascending { get; init; }
}

/// <summary>Which page of a session's turns is wanted.</summary>
internal sealed record TurnPageRequest
{
    /// <summary>How many turns at the most.</summary>
    public required int Limit { get; init; }

    /// <summary>How many bytes their items may have together: at least one turn is given, however large.</summary>
    public required int MaxBytes { get; init; }

    /// <summary>Start behind this turn; <see langword="null"/>: at the start.</summary>
    public int? After { get; init; }

    /// <summary>Newest turn first, rather than oldest.</summary>
    public bool Descending { get; init; }

    /// <summary>The path that ends with this turn; <see langword="null"/>: with the newest.</summary>
    public int? Tip { get; init; }

    /// <summary>All turns in the order of commits, whatever path they are on. <see cref="Tip"/> is not used then.</summary>
    public bool AllBranches { get; init; }
}

/// <summary>A page of turns.</summary>
/// <param name="Session">The head of their session, at the same moment.</param>
/// <param name="Turns">The turns, in the order asked for.</param>
/// <param name="HasMore">Whether there are more behind them.</param>
internal sealed record TurnPage(Session Session, IReadOnlyList<Turn> Turns, bool HasMore)
{
    /// <summary>Whether the request named a tip that the session does not have: then there are no turns.</summary>
    public bool IsTipMissing { get; init; }

    /// <summary>The turn behind which the next page begins; <see langword="null"/>: there is none.</summary>
    public int? Next => HasMore && Turns.Count > 0 ? Turns[^1].Number : null;
}

/// <summary>What is wanted of a session.</summary>
internal sealed record OpenRequest
{
    /// <summary>The session, which need not exist.</summary>
    public required SessionRef Session { get; init; }

    /// <summary>On whose behalf. The first one who names a user binds the session to it, with the first turn.</summary>
    public required Owner Owner { get; init; }

    /// <summary>How many of the last turns on the path are wanted at the most.</summary>
    public int HistoryTurns { get; init; }

    /// <summary>
    /// How many bytes their items may have together: of those asked for, the newest that fit. The last one is given in any case, where one
    /// is asked for.
    /// </summary>
    public int HistoryBytes { get; init; } = int.MaxValue;

    /// <summary>The path that ends with this turn; 0: the empty path; <see langword="null"/>: the one that ends with the newest.</summary>
    public int? Tip { get; init; }

    /// <summary>The request's idempotency key, within the session.</summary>
    public Idempotency? Idempotency { get; init; }

    /// <summary>Holds the session for a turn. <see langword="null"/>: it is only read.</summary>
    public LeaseRequest? Lease { get; init; }

    /// <summary>What the caller remembers of the session.</summary>
    public RememberedTail? Remembered { get; init; }
}

/// <summary>A turn is to begin.</summary>
/// <param name="Token">Names the lease: who comes with the same one again has it already.</param>
/// <param name="Duration">How long it lasts unless it is renewed.</param>
/// <param name="MinLifetime">How much the session must have left to live, so that it does not expire while the turn runs.</param>
/// <param name="Waits">
/// Whether the caller comes back where the session is held: it then stays in front of those who come later, for
/// <paramref name="WaiterTimeout"/>.
/// </param>
/// <param name="WaiterTimeout">How long it does so without coming back.</param>
/// <param name="IsExclusive">
/// Whether others are kept away: not for chains, whose branches grow side by side, nor for a session that a turn of another one goes on
/// from. Then it only tells other replicas that a turn needs the session, which is the last to make room.
/// </param>
internal sealed record LeaseRequest(
    Guid Token, TimeSpan Duration, TimeSpan MinLifetime, bool Waits, TimeSpan WaiterTimeout, bool IsExclusive = true);

/// <summary>What a caller remembers of a session, so that it need not be sent again.</summary>
/// <param name="Key">The session's key.</param>
/// <param name="Revision">The state that is remembered.</param>
/// <param name="LastTurn">The number of the last turn that is remembered; 0: none.</param>
/// <param name="LastNonce">The nonce of that turn: where the log has another one there, what is remembered was lost in a failover.</param>
/// <param name="Rewrites">The session's <see cref="Session.Rewrites"/> then.</param>
/// <param name="Place">The session's <see cref="Session.Place"/>.</param>
internal readonly record struct RememberedTail(
    Guid Key, Revision Revision, int LastTurn, TurnNonce LastNonce, int Rewrites, long Place = 0);

/// <summary>What came of opening a session.</summary>
internal enum OpenStatus
{
    /// <summary>
    /// It is open; or there is none (<see cref="OpenedSession.Session"/> is <see langword="null"/>), and the first turn may create it.
    /// </summary>
    Opened,

    /// <summary>It is open, and still as the caller remembers it: neither head nor turns are given.</summary>
    Unchanged,

    /// <summary>The session is not to be had by this owner.</summary>
    NotFound,

    /// <summary>The same request has been answered before: <see cref="OpenedSession.Replay"/>. Nothing is held.</summary>
    Replayed,

    /// <summary>The idempotency key has been used for another request. Nothing is held.</summary>
    KeyReused,

    /// <summary>Another process holds the session. Nothing is held, but a place where the caller waits.</summary>
    Busy,

    /// <summary>The session does not have the turn that <see cref="OpenRequest.Tip"/> names. Nothing is held; the head is given.</summary>
    NoSuchTurn,
}

/// <summary>A session that was opened. Goes back to the store that made it, which may keep more in a type of its own.</summary>
/// <param name="request">What was asked for.</param>
/// <param name="status">What came of it.</param>
internal class OpenedSession(OpenRequest request, OpenStatus status)
{
    /// <summary>What was asked for.</summary>
    public OpenRequest Request { get; } = request;

    /// <summary>What came of it.</summary>
    public OpenStatus Status { get; } = status;

    /// <summary>The session as it is; <see langword="null"/>: there is none, or it is as the caller remembers it.</summary>
    public Session? Session { get; init; }

    /// <summary>
    /// The last turns of the path, oldest first: all that were asked for and fit; or, where <see cref="FollowsRemembered"/>, those behind
    /// the last one that the caller remembers.
    /// </summary>
    public IReadOnlyList<Turn> Turns { get; init; } = [];

    /// <summary>Whether <see cref="Turns"/> go on behind what the caller remembers, which still holds.</summary>
    public bool FollowsRemembered { get; init; }

    /// <summary>
    /// Whether the path has more turns than were given, that were asked for but did not fit into <see cref="OpenRequest.HistoryBytes"/>.
    /// </summary>
    public bool IsCut { get; init; }

    /// <summary>The turn that has answered this request before, where <see cref="Status"/> says so.</summary>
    public Turn? Replay { get; init; }
}

/// <summary>A change of a session.</summary>
internal abstract record SessionChange;

/// <summary>
/// Adds a turn, with counters, context, expiry, binding and idempotency record in one step; creates the session where there was none.
/// </summary>
/// <param name="Turn">
/// The turn. Its number and run are given by the store: one more than the log holds; and the run of its parent
/// (<paramref name="ParentRun"/>) where that is the turn before it, else one of its own.
/// </param>
/// <param name="ParentRun">The <see cref="Domain.Turn.RunStart"/> of the parent; 0 where it has none.</param>
internal sealed record AppendTurn(Turn Turn, int ParentRun) : SessionChange
{
    /// <summary>
    /// Whether other turns may have been committed since the session was opened: its parent is there in any case. For chains alone; else
    /// the change is <see cref="WriteStatus.Stale"/>.
    /// </summary>
    public bool BesideOthers { get; init; }

    /// <summary>
    /// Replaces the session's summary in the same step, if there is a new one. Not kept where a turn was rewritten since the session was
    /// opened: it may hold what was deleted.
    /// </summary>
    public Summary? Summary { get; init; }

    /// <summary>The session to be created, where there was none.</summary>
    public NewSession? Create { get; init; }

    /// <summary>The turn with that number, and the run it then stands in.</summary>
    public Turn At(int number)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(Turn.Parent, number);
        return Turn.At(number, Turn.Parent, Turn.RunStartOf(number, Turn.Parent, ParentRun));
    }
}

/// <summary>
/// Counts a failed turn and keeps why it failed; the log stays as it was. A session that did not exist is created for it, unless that
/// would cost the user another session: then nothing is written, and it is <see cref="WriteStatus.Full"/>.
/// </summary>
/// <param name="Error">Why, in words fit for a client.</param>
/// <param name="Create">The session to be created, where there was none.</param>
internal sealed record RecordFailure(Utf8Text Error, NewSession? Create) : SessionChange;

/// <summary>
/// Replaces the client's own metadata, where the session is still in the state that was opened. No activity: its expiry stays.
/// </summary>
/// <param name="Metadata">A JSON object in UTF-8, or empty.</param>
internal sealed record ReplaceMetadata(ReadOnlyMemory<byte> Metadata) : SessionChange;

/// <summary>
/// Puts a turn in the place of the one with its number, where the session is still in the state that was opened: items, or its response,
/// were deleted. What was there is overwritten. No activity.
/// </summary>
/// <param name="Turn">The turn as it is from now on.</param>
/// <param name="DropSummary">Whether the session's summary goes, as it may hold what was deleted.</param>
internal sealed record ReplaceTurn(Turn Turn, bool DropSummary) : SessionChange;

/// <summary>What came of a change.</summary>
internal enum WriteStatus
{
    /// <summary>It was made.</summary>
    Written,

    /// <summary>
    /// The session has moved on since it was opened (or was created, or another has the lease by now, or the same request was answered
    /// beside this one): nothing was changed, and what was made of it must be made anew.
    /// </summary>
    Stale,

    /// <summary>The session was deleted, erased, evicted or claimed by somebody else since it was opened.</summary>
    Gone,

    /// <summary>There is no room: see <see cref="ISessionStore"/> on limits. <see cref="WriteResult.Limit"/> names which.</summary>
    Full,
}

/// <summary>What came of a change.</summary>
/// <param name="Status">Whether it was made.</param>
internal readonly record struct WriteResult(WriteStatus Status)
{
    /// <summary>
    /// The head as it is now, where the change was made and nothing else is between it and what was opened; its
    /// <see cref="Session.LastTurn"/> need not be set.
    /// </summary>
    public Session? Session { get; init; }

    /// <summary>The turn as it was added, with its number and run.</summary>
    public Turn? Turn { get; init; }

    /// <summary>The limit that was passed, as <c>config.yaml</c> names it.</summary>
    public string? Limit { get; init; }
}

/// <summary>What has become of a lease.</summary>
internal enum LeaseState
{
    /// <summary>It is kept.</summary>
    Held,

    /// <summary>It is kept, and somebody asked for the turn to stop.</summary>
    Cancelled,

    /// <summary>Somebody else has it, or the session is gone: the turn can't be committed any more.</summary>
    Lost,
}

/// <summary>A session to be created.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Key">Its key.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="UserId">The user it is bound to, if any.</param>
/// <param name="Metadata">The client's own metadata: a JSON object in UTF-8, or empty.</param>
/// <param name="CreatedFrom">How it comes to be.</param>
/// <param name="ReservedBy">
/// The key by which <see cref="ISessionStore.ReserveAsync"/> gave the id, if it did: it is kept as long as the session.
/// </param>
internal sealed record NewSession(
    string Id, Guid Key, SessionKind Kind, string? UserId, ReadOnlyMemory<byte> Metadata, SessionOrigin CreatedFrom,
        Guid? ReservedBy = null);

/// <summary>A session to be made, alone or out of something.</summary>
internal sealed record CopyRequest
{
    /// <summary>The session. Where <see cref="Source"/> is named, its user is that of the source, whatever is said here.</summary>
    public required NewSession Session { get; init; }

    /// <summary>The session whose turns it gets, or that must still be there while <see cref="Turns"/> of it are handed in.</summary>
    public SessionRef? Source { get; init; }

    /// <summary>
    /// The source's key as it was when <see cref="Turns"/> were begun: another one by now is <see cref="CopyStatus.SourceNotFound"/>.
    /// </summary>
    public Guid? SourceKey { get; init; }

    /// <summary>On whose behalf the source is read.</summary>
    public Owner Owner { get; init; } = Owner.Anyone;

    /// <summary>The last turn to copy: those up to it in the order of commits; <see langword="null"/>: all.</summary>
    public int? AfterTurn { get; init; }

    /// <summary>
    /// The turns that are handed in, in order from 1; read once, and no more of them held than a store needs for one step.
    /// <see langword="null"/>: those of the source, if there is one.
    /// </summary>
    public IAsyncEnumerable<ArchivedTurn>? Turns { get; init; }

    /// <summary>
    /// Of an import: the head that the session gets, with its times, revision and counters; else they are new. Its
    /// <see cref="Session.TurnCount"/> must be how many turns come. Does not count for the limit per user until the user creates another
    /// one.
    /// </summary>
    public Session? Head { get; init; }

    /// <summary>Of an import: the reservation that its id came from.</summary>
    public Idempotency? CreatedBy { get; init; }

    /// <summary>
    /// The summary that goes along, where turns are handed in; where the store copies, it goes along by itself if it covers no more than
    /// these.
    /// </summary>
    public Summary? Summary { get; init; }
}

/// <summary>What came of making a session.</summary>
/// <param name="Status">Whether it was made.</param>
/// <param name="Session">The session, where it was; with <see cref="CopyStatus.NoSuchTurn"/> the source.</param>
internal readonly record struct CopyResult(CopyStatus Status, Session? Session = null)
{
    /// <summary>
    /// With <see cref="CopyStatus.IdTaken"/>: whether the session that has the id was made with the same
    /// <see cref="NewSession.ReservedBy"/>, by the same request then.
    /// </summary>
    public bool IsOwn { get; init; }

    /// <summary>The limit that was passed, as <c>config.yaml</c> names it.</summary>
    public string? Limit { get; init; }
}

/// <summary>Whether a session was made.</summary>
internal enum CopyStatus
{
    /// <summary>It was.</summary>
    Created,

    /// <summary>There is no source for this owner, or no longer.</summary>
    SourceNotFound,

    /// <summary>The source does not have the turn that was named.</summary>
    NoSuchTurn,

    /// <summary>A session with that id (or key) exists, which stays as it is.</summary>
    IdTaken,

    /// <summary>What was to be imported has expired.</summary>
    Expired,

    /// <summary>There is no room.</summary>
    Full,
}

/// <summary>The session id an idempotency key is tied to.</summary>
/// <param name="SessionId">The id, where it is the same request.</param>
/// <param name="SameBody">
/// Whether the key was tied by the same request, on behalf of somebody who may have the session or has named its id.
/// </param>
/// <param name="IsNew">Whether the key was tied just now.</param>
internal readonly record struct KeyReservation(string SessionId, bool SameBody, bool IsNew)
{
    /// <summary>What is told of a key that was tied before.</summary>
    /// <param name="reserved">The id that it was tied to.</param>
    /// <param name="sameBody">Whether the request is the same.</param>
    /// <param name="asked">The id that the request would have.</param>
    /// <param name="mayHave">Whether the owner may have the session of that id, or there is none.</param>
    public static KeyReservation Found(string reserved, bool sameBody, string asked, bool mayHave) =>
        mayHave || reserved == asked ? new(reserved, sameBody, IsNew: false) : new(asked, SameBody: false, IsNew: false);
}

/// <summary>What an erasure removed.</summary>
/// <param name="Sessions">Sessions, chains included.</param>
/// <param name="Turns">Turns in them.</param>
internal readonly record struct Erasure(long Sessions, long Turns);

/// <summary>A session as it is moved from one store to another.</summary>
/// <param name="Session">The session. Its <see cref="Session.LastTurn"/> says nothing here: the turns follow.</param>
/// <param name="CreatedBy">
/// The key by which <see cref="ISessionStore.ReserveAsync"/> gave its id, if it did, and the request it came with.
/// </param>
internal sealed record ArchivedSession(Session Session, Idempotency? CreatedBy);

/// <summary>A turn as it is moved from one store to another.</summary>
/// <param name="Turn">The turn.</param>
/// <param name="AnsweredTo">The idempotency key it answered, if any.</param>
internal sealed record ArchivedTurn(Turn Turn, Idempotency? AnsweredTo);

/// <summary>A session, or one of the turns of the session before it.</summary>
internal readonly record struct ArchiveEntry(ArchivedSession? Session, ArchivedTurn? Turn);

/// <summary>What a store holds.</summary>
/// <param name="ActiveSessions">Sessions that have not expired, without chains.</param>
/// <param name="ActiveSessionsInMemory">Those of them that this process holds in its memory.</param>
internal readonly record struct StoreStatistics(long ActiveSessions, long ActiveSessionsInMemory)
{
    /// <summary>What the store holds in bytes, where it knows: memory.</summary>
    public long? Bytes { get; init; }
}

/// <summary>
/// The store can't be reached or can't write at the moment. Nothing of the operation took effect, as far as anyone can know.
/// </summary>
/// <param name="message">What is wrong, in words fit for a client: no paths, no secrets.</param>
/// <param name="retryAfter">When it is worth trying again.</param>
/// <param name="innerException">What the store's own library said.</param>
internal sealed class StoreUnavailableException(string message, TimeSpan retryAfter, Exception? innerException = null)
    : Exception(message, innerException)
{
    /// <summary>When it is worth trying again.</summary>
    public TimeSpan RetryAfter { get; } = retryAfter;

    /// <summary>Whether it is the same trouble as before, and has been logged already.</summary>
    public bool WasKnown { get; init; }
}

/// <summary>
/// Something that is stored can't be read: damaged, or sealed with a key that is not here. It stays as it is until it is deleted, erased,
/// or has expired.
/// </summary>
/// <param name="what">What it is: an id, never a text.</param>
/// <param name="message">What is wrong, in words fit for a client.</param>
/// <param name="innerException">What the decoder said.</param>
internal sealed class StoredDataException(string what, string message, Exception? innerException = null)
    : Exception(message, innerException)
{
    /// <summary>What it is.</summary>
    public string What { get; } = what;

    /// <summary>The key of the session that can't be read, where that can be: it leads to what went on from there.</summary>
    public Guid? SessionKey { get; set; }
}
