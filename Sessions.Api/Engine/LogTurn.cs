using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

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
}

/// <summary>A turn that has begun, with what holds its session meanwhile.</summary>
internal sealed class LogTurn : BegunTurn
{
    private readonly SessionLog _log;
    private readonly Lock _lock = new();
    private CancellationTokenSource? _cancelled;
    private CancellationTokenSource? _lost;
    private LeaseKeeper? _lease;
    private int _disposed;

    public LogTurn(SessionLog log, BeginRequest request, Opening opening, IReadOnlyList<Turn> history)
    {
        (_log, Request, Opening, History) = (log, request, opening, history);
        var session = opening.Session;
        SessionId = session?.Id ?? request.Session.Id ?? throw new InvalidOperationException("A session is created by its id.");
        SessionKey = session?.Key ?? Domain.SessionKey.New();
        ExpectedNumber = (session?.TurnCount ?? 0) + 1;
        Nonce = TurnNonce.New(ExpectedNumber);
        Parent = request.AfterTurn ?? session?.TurnCount ?? 0;
        Removals = log.Removals;
    }

    public override BeginRequest Request { get; }

    public override Session? Session => Opening.Session;

    public override string SessionId { get; }

    public override Guid SessionKey { get; }

    public override IReadOnlyList<Turn> History { get; }

    public override bool IsCut => Opening.IsCut;

    public override Turn? Replay => Opening.Replay;

    public override int ExpectedNumber { get; }

    public override TurnNonce Nonce { get; }

    public override CancellationToken Cancelled => SourceOf(ref _cancelled).Token;

    public override CancellationToken Lost => SourceOf(ref _lost).Token;

    /// <summary>What it began with.</summary>
    public Opening Opening { get; }

    /// <summary>The turn that it continues.</summary>
    public int Parent { get; }

    /// <summary>The run of that turn.</summary>
    public int ParentRun =>
        Parent == 0 ? 0
        : Opening.Path is [.., var last] && last.Number == Parent ? last.RunStart
        : Session?.LastTurn is { } newest && newest.Number == Parent ? newest.RunStart
        : throw new InvalidOperationException("The store gave no turn to go on from.");

    /// <summary>How many removals there had been when it began.</summary>
    public long Removals { get; }

    /// <summary>The session that the turn creates, if there is none.</summary>
    public NewSession? Create => Session is not null ? null : new NewSession(
        SessionId, SessionKey, Request.Kind, Request.Owner.UserId, default,
        Request.Kind == SessionKind.Session ? SessionOrigin.Query : SessionOrigin.Api, Request.ReservedBy);

    /// <summary>Whether the turn grows beside others.</summary>
    public bool IsBesideOthers => (Session?.Kind ?? Request.Kind) == SessionKind.Chain;

    /// <summary>Keeps the lease until the turn ends.</summary>
    public void Keep(LeaseKeeper lease) => _lease = lease;

    /// <summary>Somebody asked for the turn to stop.</summary>
    public void Cancel() => _ = SourceOf(ref _cancelled).CancelAsync();

    /// <summary>The turn can't be committed any more.</summary>
    public void Lose() => _ = SourceOf(ref _lost).CancelAsync();

    /// <summary>Stops keeping the lease: a renewal that came after the end would take it again.</summary>
    public ValueTask StopKeepingAsync() => Interlocked.Exchange(ref _lease, null) is { } lease ? lease.DisposeAsync() : default;

    public override async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            await _log.EndAsync(this);
        }
    }

    // Made for whoever wants it first: most turns end before anybody could ask.
    private CancellationTokenSource SourceOf(ref CancellationTokenSource? source)
    {
        lock (_lock)
        {
            return source ??= new CancellationTokenSource();
        }
    }
}

/// <summary>Renews a lease for as long as its turn runs, and hears whether somebody wants the turn to stop.</summary>
internal sealed class LeaseKeeper : IAsyncDisposable
{
    // A turn that is cancelled on another replica stops within 2 seconds.
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1.5);

    private readonly PeriodicTimer _timer;
    private readonly Task _renewing;

    /// <summary>Starts.</summary>
    /// <param name="store">The store.</param>
    /// <param name="turn">The turn.</param>
    /// <param name="lease">How long a lease lasts. In real time: it is the servers' clocks that it runs out by.</param>
    public LeaseKeeper(ISessionStore store, LogTurn turn, TimeSpan lease)
    {
        _timer = new PeriodicTimer(lease / 3 < LongestPause ? lease / 3 : LongestPause);
        _renewing = RenewAsync(store, turn);
    }

    public async ValueTask DisposeAsync()
    {
        _timer.Dispose();
        await _renewing;
    }

    private async Task RenewAsync(ISessionStore store, LogTurn turn)
    {
        while (await _timer.WaitForNextTickAsync())
        {
            try
            {
                switch (await store.RenewAsync(turn.Opening.Opened, CancellationToken.None))
                {
                    case LeaseState.Cancelled:
                        turn.Cancel();
                        break;
                    case LeaseState.Lost:
                        turn.Lose();
                        return;
                }
            }
            catch (Exception e) when (e is StoreUnavailableException or StoredDataException)
            {
                // The next one may get through; where none does, the commit finds out.
            }
        }
    }
}
