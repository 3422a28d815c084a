using System.Collections.Concurrent;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>What a <see cref="SessionLog"/> is made of beside its store.</summary>
internal sealed record SessionLogOptions
{
    /// <summary>What the store keeps to.</summary>
    public StorePolicy Policy { get; init; } = new() { Lifetime = _ => TimeSpan.FromHours(24), MaxPerUser = _ => 0 };

    /// <summary>Tells what went away: <see cref="StoreEvents.Removed"/> of the policy must lead there.</summary>
    public LogEvents Events { get; init; } = new();

    /// <summary>What is remembered; <see langword="null"/> where the store itself is memory: it would be there twice.</summary>
    public HistoryTail? Tail { get; init; }

    /// <summary>Seals, where there is encryption.</summary>
    public Sealer? Sealer { get; init; }

    /// <summary>Times and traces.</summary>
    public StoreMeter Meter { get; init; } = new("", null);

    /// <summary>How long a lease lasts that is not renewed: how long a session is held by a process that has died.</summary>
    public TimeSpan Lease { get; init; } = TimeSpan.FromSeconds(10);
}

/// <summary>
/// The log of sessions as everybody above the stores has it, one for all stores and the only caller of <see cref="ISessionStore"/>: what
/// is remembered (<see cref="HistoryTail"/>), sealing,
/// metering and tracing, waiting for a lease, filters, idempotent creation.
/// </summary>
internal sealed partial class SessionLog
{
    // How often a change is tried again because something else was written in between.
    private const int Attempts = 16;

    // A caller that waits for a lease asks again and again: soon at first, and then less often.
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(2);
    private static readonly TimeSpan LongestPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan WaiterTimeout = TimeSpan.FromMilliseconds(500);

    private readonly ISessionStore _store;
    private readonly StorePolicy _policy;
    private readonly LogEvents _events;
    private readonly HistoryTail? _tail;
    private readonly Sealer? _sealer;
    private readonly StoreMeter _meter;
    private readonly TimeSpan _lease;
    private readonly bool _hasLeases;
    private readonly bool _mayBeDamaged;
    private readonly ConcurrentDictionary<BegunTurn, bool> _running = new();
    private readonly ConcurrentDictionary<Guid, string> _damaged = new();

    /// <summary>Makes the log of a store.</summary>
    public SessionLog(ISessionStore store, SessionLogOptions? options = null)
    {
        options ??= new SessionLogOptions();
        (_store, _policy, _events, _tail, _sealer, _meter, _lease) =
            (store, options.Policy, options.Events, options.Tail, options.Sealer, options.Meter, options.Lease);
        (_mayBeDamaged, _hasLeases) = (store.Capabilities.IsDurable, store.Capabilities.HasLeases);
        _events.OnRemoved(OnRemovedAsync);
    }

    /// <summary>How many removals there have been: see <see cref="HistoryTail.Removals"/>.</summary>
    internal long Removals => _tail?.Removals ?? 0;

    /// <summary>Begins a turn: waits for the session where another process holds it, and gives what the turn is to know.</summary>
    /// <exception cref="DomainException">
    /// <c>session_not_found</c>, <c>session_busy</c>, <c>idempotency_key_reused</c>, <c>no_such_turn</c>. A request that was answered
    /// before is no error: see <see cref="BegunTurn.Replay"/>.
    /// </exception>
    public async ValueTask<BegunTurn> BeginAsync(BeginRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (request.BranchOf is not null)
        {
            // A request with a key may have made it before.
            if (await GetAsync(request.Session, request.Owner, cancellationToken) is null)
            {
                return await BeginBranchAsync(request, cancellationToken);
            }

            request = request with { BranchOf = null };
        }

        var open = new OpenRequest
        {
            Session = request.Session,
            Owner = request.Owner,

            // The turn that is continued is read in any case: its run goes on.
            HistoryTurns = request.AfterTurn > 0 ? Math.Max(1, request.HistoryTurns) : request.HistoryTurns,
            HistoryBytes = request.HistoryBytes,
            Tip = request.AfterTurn,
            Idempotency = request.Idempotency,
            Lease = request.ReadsOnly ? null : NewLease(
                request.MinLifetime, waits: request.Wait > TimeSpan.Zero, isExclusive: request.Kind != SessionKind.Chain),
        };
        var opening = await OpenPatientlyAsync("begin_turn", open, request.Wait, cancellationToken);
        var id = request.Session.Id ?? opening.Session?.Id ?? request.Session.ToString();
        switch (opening.Opened.Status)
        {
            case OpenStatus.NotFound:
                throw new DomainException(Error.SessionNotFound(id));
            case OpenStatus.KeyReused:
                throw new DomainException(Error.IdempotencyKeyReused);
            case OpenStatus.Busy:
                await _store.ReleaseAsync(opening.Opened);
                throw new DomainException(Error.SessionBusy(id));
            case OpenStatus.NoSuchTurn:
                throw new DomainException(Error.NoSuchTurn("after_turn", opening.Opened.Session?.TurnCount ?? 0));
        }

        if (opening.Session is null && (request.MustExist || request.Session.Id is null))
        {
            await _store.ReleaseAsync(opening.Opened);
            throw new DomainException(Error.SessionNotFound(id));
        }

        if (opening.Session is null && request.AfterTurn > 0)
        {
            await _store.ReleaseAsync(opening.Opened);
            throw new DomainException(Error.NoSuchTurn("after_turn", 0));
        }

        var turn = new BegunTurn(this, request, opening);
        if (turn.Replay is null && !request.ReadsOnly)
        {
            Run(turn);
        }

        return turn;
    }

    /// <summary>
    /// Keeps other processes from running the same request meanwhile, where its session does not: turns of a chain grow side by side, and
    /// what is not stored has none. It is a lease on an id that no session has.
    /// </summary>
    /// <param name="name">Names the request. Holds what no id of a session may.</param>
    /// <param name="owner">On whose behalf.</param>
    /// <param name="wait">How long to wait for another process that runs it.</param>
    /// <param name="minLifetime">How long the request may take at the most.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <returns>To be disposed of when the request has ended; <see langword="null"/> where the store has no leases.</returns>
    /// <exception cref="DomainException"><c>idempotency_in_progress</c>: another process runs it.</exception>
    public async ValueTask<IAsyncDisposable?> HoldRequestAsync(
        string name, Owner owner, TimeSpan wait, TimeSpan minLifetime, CancellationToken cancellationToken)
    {
        if (!_hasLeases)
        {
            return null;
        }

        var open = new OpenRequest
        {
            Session = SessionRef.ById(name),
            Owner = owner,
            Tip = 0,
            Lease = NewLease(minLifetime, waits: wait > TimeSpan.Zero, isExclusive: true),
        };
        var opened = (await OpenPatientlyAsync("hold_request", open, wait, cancellationToken)).Opened;
        if (opened.Status == OpenStatus.Busy)
        {
            await _store.ReleaseAsync(opened);
            throw new DomainException(Error.IdempotencyInProgress(""));
        }

        return new RequestLease(_store, opened, new LeaseKeeper(_store, opened, _lease, turn: null));
    }

    /// <summary>Commits a turn on what it began with. Its number, run, parent and nonce are given by the log.</summary>
    /// <returns>The turn as it stands in the log; <see langword="null"/>: the session has moved on, and the turn must be run again on a
    /// new beginning.</returns>
    /// <exception cref="DomainException"><c>session_gone</c>, <c>storage_full</c>.</exception>
    public async ValueTask<Turn?> CommitAsync(BegunTurn begun, Turn turn, Summary? summary, CancellationToken cancellationToken)
    {
        if (begun.IsBranch)
        {
            return await CommitBranchAsync(begun, turn, summary, cancellationToken);
        }

        await begun.StopKeepingAsync();

        // With the run that the store is going to give it, too: then it is not copied once more.
        turn = turn with
        {
            Number = begun.ExpectedNumber,
            Parent = begun.Parent,
            RunStart = Turn.RunStartOf(begun.ExpectedNumber, begun.Parent, begun.ParentRun),
            Nonce = begun.Nonce,
            StartedSession = begun.Session is null,
        };
        using var scope = await WritingScopeAsync(begun.Session?.UserId ?? begun.Request.Owner.UserId, cancellationToken);
        var change = new AppendTurn(scope?.Seal(begun.SessionId, begun.SessionKey, turn) ?? turn, begun.ParentRun)
        {
            BesideOthers = begun.IsBesideOthers,
            Summary = scope is null ? summary : scope.Seal(begun.SessionId, begun.SessionKey, summary),
            Create = begun.Create,
        };
        var result = await WriteAsync("commit_turn", begun.Opening.Opened, change, cancellationToken);
        switch (result.Status)
        {
            case WriteStatus.Stale:
                return null;
            case WriteStatus.Gone:
                throw new DomainException(Error.SessionGone(begun.SessionId));
            case WriteStatus.Full:
                throw new DomainException(Error.StorageFull(result.Limit ?? "limits.stored_bytes"));
        }

        if (result.Turn is { } written)
        {
            turn = turn.At(written.Number, written.Parent, written.RunStart);
        }

        if (_tail is not null && result.Session is { } head)
        {
            // One goes where one comes, once there are as many as are asked for.
            var before = begun.Opening.Path;
            IReadOnlyList<Turn> path = [.. before.Skip(before.Count < begun.Request.HistoryTurns ? 0 : 1), turn];
            head = OpenedHead(head, begun.Session) with { LastTurn = turn, Summary = summary ?? begun.Session?.Summary };
            await RememberAsync(head, path, begun, scope);
        }

        return turn;
    }

    /// <summary>Ends a turn that failed: counted and recorded, and nothing else.</summary>
    public async ValueTask FailAsync(BegunTurn begun, string error, CancellationToken cancellationToken)
    {
        await begun.StopKeepingAsync();

        // A failure binds no session: it is the session's user who reads it.
        var reader = begun.Session is null ? begun.Request.Owner.UserId : begun.Session.UserId;
        using var scope = await WritingScopeAsync(reader, cancellationToken);
        Utf8Text text = error;
        var change = new RecordFailure(scope?.SealError(begun.SessionId, begun.SessionKey, text) ?? text, begun.Create);
        var result = await WriteAsync("fail_turn", begun.Opening.Opened, change, cancellationToken);
        if (_tail is not null && result is { Status: WriteStatus.Written, Session: { } head } && begun.Session is not null
            && begun.Request.AfterTurn is null)
        {
            head = OpenedHead(head, begun.Session) with { LastError = text, LastTurn = begun.Session.LastTurn };
            await RememberAsync(head, begun.Opening.Path, begun, scope);
        }
    }

    /// <summary>Lets go of a turn that has ended, or was not to be.</summary>
    internal async ValueTask EndAsync(BegunTurn turn)
    {
        await turn.StopKeepingAsync();
        _running.TryRemove(turn, out _);
        if (turn.Replay is null)
        {
            await _store.ReleaseAsync(turn.Opening.Opened);
        }
    }

    // The turn knows what its session is going to be; until then it only reads the one that it branches off.
    private async ValueTask<BegunTurn> BeginBranchAsync(BeginRequest request, CancellationToken cancellationToken)
    {
        var source = SessionRef.ByKey(request.BranchOf!.Value);
        var opening = await OpenAsync(
            "begin_turn",
            new OpenRequest
            {
                Session = source,
                Owner = request.Owner,
                HistoryTurns = Math.Max(1, request.HistoryTurns),
                HistoryBytes = request.HistoryBytes,
                Tip = request.AfterTurn,

                // It stays, and keeps nobody waiting: until the turn ends, nobody knows whether there is to be a copy.
                Lease = NewLease(request.MinLifetime, waits: false, isExclusive: false),
            },
            cancellationToken);
        if (opening.Session is not { } head || request.AfterTurn is not { } last)
        {
            await _store.ReleaseAsync(opening.Opened);
            throw new DomainException(Error.SessionNotFound(source.ToString()));
        }

        var branch = head with
        {
            Id = request.Session.Id!,
            Key = SessionKey.New(),
            Place = 0,
            Kind = SessionKind.Chain,
            TurnCount = last,
            LastTurn = opening.Path is [.., var tip] ? tip : null,
            Summary = head.Summary?.CoversTurns <= last ? head.Summary : null,
        };
        var turn = new BegunTurn(this, request, opening with { Session = branch });
        Run(turn);
        return turn;
    }

    private LeaseRequest NewLease(TimeSpan minLifetime, bool waits, bool isExclusive) =>
        new(_hasLeases ? Guid.NewGuid() : Guid.Empty, _lease, minLifetime, waits, WaiterTimeout, isExclusive);

    private void Run(BegunTurn turn)
    {
        _running[turn] = true;
        if (_hasLeases)
        {
            turn.Keep(new LeaseKeeper(_store, turn.Opening.Opened, _lease, turn));
        }
    }

    private async ValueTask<Turn?> CommitBranchAsync(
        BegunTurn begun, Turn turn, Summary? summary, CancellationToken cancellationToken)
    {
        var (request, branch) = (begun.Request, begun.Session!);
        var session = new NewSession(
            branch.Id, branch.Key, branch.Kind, branch.UserId, default, SessionOrigin.Fork, request.ReservedBy);
        try
        {
            await ForkAsync(SessionRef.ByKey(begun.SourceKey), request.Owner, branch.TurnCount, session, cancellationToken);
        }
        catch (DomainException e) when (e.Error.Code == "session_exists")
        {
            // The same request has made it meanwhile, on another replica.
            return null;
        }
        catch (DomainException e) when (e.Error.Code == "session_not_found")
        {
            throw new DomainException(Error.SessionGone(branch.Id));
        }

        try
        {
            var onBranch = request with { BranchOf = null, MustExist = true, HistoryTurns = 1, Nonce = begun.Nonce };
            await using var again = await BeginAsync(onBranch, cancellationToken);
            return again.Replay is null ? await CommitAsync(again, turn, summary, cancellationToken) : null;
        }
        catch
        {
            await RemoveUnusedAsync(branch);
            throw;
        }
    }

    // As well as can be: what is left expires.
    private async ValueTask RemoveUnusedAsync(Session branch)
    {
        try
        {
            var key = SessionRef.ByKey(branch.Key);
            if ((await GetAsync(key, Owner.Anyone, CancellationToken.None))?.TurnCount == branch.TurnCount)
            {
                await DeleteAsync(key, Owner.Anyone, CancellationToken.None);
            }
        }
        catch (Exception e) when (e is StoreUnavailableException or StoredDataException)
        {
        }
    }

    // One way of waiting for all stores that have leases. In real time: the servers' clocks are what leases run out by.
    private async ValueTask<Opening> OpenPatientlyAsync(
        string operation, OpenRequest request, TimeSpan wait, CancellationToken cancellationToken)
    {
        var opening = await OpenAsync(operation, request, cancellationToken);
        if (opening.Opened.Status != OpenStatus.Busy || wait <= TimeSpan.Zero)
        {
            return opening;
        }

        var began = TimeProvider.System.GetTimestamp();
        for (var pause = FirstPause; ; pause = pause < LongestPause / 2 ? 2 * pause : LongestPause)
        {
            var left = wait - TimeProvider.System.GetElapsedTime(began);
            if (left <= TimeSpan.Zero)
            {
                return opening;
            }

            var busy = opening.Opened;
            try
            {
                // Not all at the same moment: somewhere between half of the pause and the whole.
                var jittered = pause * (0.5 + (Random.Shared.NextDouble() / 2));
                await Task.Delay(jittered < left ? jittered : left, cancellationToken);
                opening = await OpenAsync(operation, request, cancellationToken);
            }
            catch
            {
                // Neither a place in the queue nor, where the answer was lost, a lease is left behind.
                await _store.ReleaseAsync(busy);
                throw;
            }

            if (opening.Opened.Status == OpenStatus.Busy)
            {
                continue;
            }

            if (opening.Opened.Status is not (OpenStatus.Opened or OpenStatus.Unchanged))
            {
                // Answered, or refused: a place was kept all the same, before it was.
                await _store.ReleaseAsync(busy);
            }

            return opening;
        }
    }

    private ValueTask OnRemovedAsync(IReadOnlyCollection<Guid> keys)
    {
        foreach (var (turn, _) in _running)
        {
            if (keys.Contains(turn.SessionKey) || keys.Contains(turn.SourceKey))
            {
                turn.Drop();
            }
        }

        foreach (var key in keys)
        {
            if (_damaged.TryRemove(key, out var what))
            {
                _policy.Damage.Forget(what);
            }
        }

        return _tail?.RemoveAsync(keys) ?? default;
    }

    private sealed class RequestLease(ISessionStore store, OpenedSession opened, LeaseKeeper keeper) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            await keeper.DisposeAsync();
            await store.ReleaseAsync(opened);
        }
    }
}
