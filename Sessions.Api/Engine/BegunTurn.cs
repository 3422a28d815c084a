using Sessions.Api.Domain;

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

    /// <summary>The request's idempotency key, within the session.</summary>
    public Idempotency? Idempotency { get; init; }

    /// <summary>The key by which <see cref="SessionLog.ReserveAsync"/> gave the session's id, if it did.</summary>
    public Guid? ReservedBy { get; init; }

    /// <summary>How long to wait for another process that holds the session.</summary>
    public required TimeSpan Wait { get; init; }

    /// <summary>How long the turn may take at the most: the session lives at least that long.</summary>
    public required TimeSpan AtLeast { get; init; }

    /// <summary>Whether the turn only reads: it will not be committed, and nothing is held.</summary>
    public bool ReadsOnly { get; init; }
}

/// <summary>A turn that has begun. Disposed of when it has ended, which lets go of its session if that was not done yet.</summary>
internal abstract class BegunTurn : IAsyncDisposable
{
    /// <summary>What was asked for.</summary>
    public abstract BeginRequest Request { get; }

    /// <summary>The session as it is before the turn; <see langword="null"/>: there is none yet.</summary>
    public abstract Session? Session { get; }

    /// <summary>The id of the session, also of one that the turn is going to create.</summary>
    public abstract string SessionId { get; }

    /// <summary>The key of the session, also of one that the turn is going to create.</summary>
    public abstract Guid SessionKey { get; }

    /// <summary>The last turns of the path, oldest first. May be unpacked as it is used: copy what is needed twice.</summary>
    public abstract IReadOnlyList<Turn> History { get; }

    /// <summary>Whether turns that were asked for did not fit into <see cref="BeginRequest.HistoryBytes"/>.</summary>
    public abstract bool IsCut { get; }

    /// <summary>The turn that has answered the same request before: then nothing is held, and nothing is to be run.</summary>
    public abstract Turn? Replay { get; }

    /// <summary>The number that the turn is going to have; of a chain others may come in between.</summary>
    public abstract int ExpectedNumber { get; }

    /// <summary>What the ids of the turn are made of.</summary>
    public abstract TurnNonce Nonce { get; }

    /// <summary>Cancelled when the turn is to stop because somebody asked for it on another replica.</summary>
    public abstract CancellationToken Cancelled { get; }

    /// <summary>
    /// Cancelled when the turn can't be committed any more: its session was deleted, erased or evicted, or another process has it.
    /// </summary>
    public abstract CancellationToken Lost { get; }

    public abstract ValueTask DisposeAsync();
}
