using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>A turn that is to begin.</summary>
internal sealed record BeginRequest
{
    /// <summary>The session, which need not exist where it is named by id.</summary>
    public required SessionRef Session { get; init; }

    /// <summary>On whose behalf. The first one who names a user binds the session to it.</summary>
    public required Owner Owner { get; init; }

    /// <summary>What kind of session the turn creates where there is none; chains grow beside one another.</summary>
    public SessionKind Kind { get; init; }

    /// <summary>Whether there must be a session already: without one it is <c>session_not_found</c>.</summary>
    public bool MustExist { get; init; }

    /// <summary>How many of the last turns are wanted.</summary>
    public required int HistoryTurns { get; init; }

    /// <summary>How many bytes their items may have together.</summary>
    public required int HistoryBytes { get; init; }

    /// <summary>The turn to go on from; 0: from none; <see langword="null"/>: from the newest.</summary>
    public int? AfterTurn { get; init; }

    /// <summary>
    /// The session, by its key, whose turns up to <see cref="AfterTurn"/> the turn's own begins with. That one is made when the turn is
    /// committed: of a turn that comes to nothing there is no copy. Until then this one is kept as if the turn were on it.
    /// </summary>
    public Guid? BranchOf { get; init; }

    /// <summary>What the ids of the turn are made of, where that was drawn before.</summary>
    public TurnNonce? Nonce { get; init; }

    /// <summary>The request's idempotency key, within the session.</summary>
    public Idempotency? Idempotency { get; init; }

    /// <summary>The key by which <see cref="SessionLog.ReserveAsync"/> gave the session's id, if it did.</summary>
    public Guid? ReservedBy { get; init; }

    /// <summary>The key of a session that the turn creates, where one was drawn with its id.</summary>
    public Guid? NewKey { get; init; }

    /// <summary>How long to wait for another process that holds the session.</summary>
    public required TimeSpan Wait { get; init; }

    /// <summary>How long the turn may take at the most: the session lives at least that long.</summary>
    public required TimeSpan MinLifetime { get; init; }

    /// <summary>Whether the turn only reads: it will not be committed, and nothing is held.</summary>
    public bool ReadsOnly { get; init; }
}

/// <summary>What opening a session gave, with its texts opened.</summary>
/// <param name="Opened">What the store gave: goes back to it.</param>
/// <param name="Session">The head; <see langword="null"/>: there is no session.</param>
/// <param name="Path">The last turns of the path, oldest first: those that were asked for, and what else of them is known.</param>
/// <param name="IsCut">Whether the path has more that were asked for.</param>
/// <param name="KeyIds">The keys that these texts are sealed with.</param>
internal sealed record Opening(OpenedSession Opened, Session? Session, IReadOnlyList<Turn> Path, bool IsCut, Guid[] KeyIds)
{
    /// <summary>The turn that has answered the same request before.</summary>
    public Turn? Replay { get; init; }

    /// <summary>Those that were asked for.</summary>
    public IReadOnlyList<Turn> History { get; init; } = Path;
}

/// <summary>
/// A turn that has begun, with what holds its session meanwhile. Disposed of when it has ended, which lets go of its session if that was
/// not done yet.
/// </summary>
internal sealed class BegunTurn : IAsyncDisposable
{
    private readonly SessionLog _log;
    private CancellationTokenSource? _cancelled;
    private CancellationTokenSource? _lost;
    private LeaseKeeper? _lease;
    private int _disposed;

    public BegunTurn(SessionLog log, BeginRequest request, Opening opening)
    {
        // The turn that is continued was read in any case.
        (_log, Request, Opening, History) = (log, request, opening, request.HistoryTurns == 0 ? [] : opening.History);
        var session = opening.Session;
        SessionId = session?.Id ?? request.Session.Id ?? throw new InvalidOperationException("A session is created by its id.");
        SessionKey = session?.Key ?? request.NewKey ?? Domain.SessionKey.New();
        ExpectedNumber = (session?.TurnCount ?? 0) + 1;
        Nonce = request.Nonce ?? TurnNonce.New(ExpectedNumber);
        Parent = request.AfterTurn ?? session?.TurnCount ?? 0;
        Removals = log.Removals;
    }

    /// <summary>What was asked for.</summary>
    public BeginRequest Request { get; }

    /// <summary>The session as it is before the turn; <see langword="null"/>: there is none yet.</summary>
    public Session? Session => Opening.Session;

    /// <summary>The id of the session, also of one that the turn is going to create.</summary>
    public string SessionId { get; }

    /// <summary>The key of the session, also of one that the turn is going to create.</summary>
    public Guid SessionKey { get; }

    /// <summary>The last turns of the path, oldest first. May be unpacked as it is used: copy what is needed twice.</summary>
    public IReadOnlyList<Turn> History { get; }

    /// <summary>Whether turns that were asked for did not fit into <see cref="BeginRequest.HistoryBytes"/>.</summary>
    public bool IsCut => Opening.IsCut;

    /// <summary>The turn that has answered the same request before: then nothing is held, and nothing is to be run.</summary>
    public Turn? Replay => Opening.Replay;

    /// <summary>The number that the turn is going to have; of a chain others may come in between.</summary>
    public int ExpectedNumber { get; }

    /// <summary>What the ids of the turn are made of.</summary>
    public TurnNonce Nonce { get; }

    /// <summary>Cancelled when the turn is to stop because somebody asked for it on another replica: the lease tells.</summary>
    public CancellationToken Cancelled => _lease is null ? CancellationToken.None : SourceOf(ref _cancelled).Token;

    /// <summary>
    /// Cancelled when the turn can't be committed any more: its session was deleted, erased or evicted, or another process has it.
    /// </summary>
    public CancellationToken Lost => SourceOf(ref _lost).Token;

    /// <summary>What it began with: its session, or the one that it branches off, with what holds that.</summary>
    public Opening Opening { get; }

    /// <summary>The turn that it continues.</summary>
    public int Parent { get; }

    /// <summary>The run of that turn.</summary>
    public int ParentRun =>
        Parent == 0 ? 0
        : Opening.Path is [.., var last] && last.Number == Parent ? last.RunStart
        : Session?.LastTurn is { } newest && newest.Number == Parent ? newest.RunStart
        : throw new InvalidOperationException("The store gave no turn to go on from.");

    /// <summary>Whether its session is yet to be made, of the first turns of another one.</summary>
    public bool IsBranch => Request.BranchOf is not null;

    /// <summary>The key of the session that it goes on from: its own, or the one that it branches off.</summary>
    public Guid SourceKey => Request.BranchOf ?? SessionKey;

    /// <summary>How many removals there had been when it began.</summary>
    public long Removals { get; }

    /// <summary>The session that the turn creates, if there is none.</summary>
    public NewSession? Create => Session is not null ? null : new NewSession(
        SessionId, SessionKey, Request.Kind, Request.Owner.UserId, default,
        Request.Kind == SessionKind.Session ? SessionOrigin.Query : SessionOrigin.Api, Request.ReservedBy);

    /// <summary>Whether it is on that session.</summary>
    public bool IsOf(SessionRef session) => session.Id is { } id ? id == SessionId : session.Key == SessionKey;

    /// <summary>Whether the turn grows beside others.</summary>
    public bool IsBesideOthers => (Session?.Kind ?? Request.Kind) == SessionKind.Chain;

    /// <summary>Keeps the lease until the turn ends.</summary>
    public void Keep(LeaseKeeper lease) => _lease = lease;

    /// <summary>Somebody asked for the turn to stop.</summary>
    public void Cancel() => _ = SourceOf(ref _cancelled).CancelAsync();

    /// <summary>Whether the turn is to come to nothing, as its session or its response was removed.</summary>
    public bool IsDropped { get; private set; }

    /// <summary>The turn is to come to nothing.</summary>
    public void Drop()
    {
        IsDropped = true;
        LoseLease();
    }

    /// <summary>The turn can't be committed any more: its session is gone, or another process has it.</summary>
    public void LoseLease() => _ = SourceOf(ref _lost).CancelAsync();

    /// <summary>Stops keeping the lease: a renewal that came after the end would take it again.</summary>
    public ValueTask StopKeepingAsync() => Interlocked.Exchange(ref _lease, null) is { } lease ? lease.DisposeAsync() : default;

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            await _log.EndAsync(this);
        }
    }

    // Made for whoever wants it first: most turns end before anybody could ask.
    private static CancellationTokenSource SourceOf(ref CancellationTokenSource? source) =>
        LazyInitializer.EnsureInitialized(ref source, static () => new CancellationTokenSource());
}
