using System.Runtime.CompilerServices;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <content>Making sessions: new ones, and copies.</content>
internal sealed partial class SessionLog
{
    /// <summary>Creates a session without turns. With a key: the one that the same request created, as it was then.</summary>
    /// <param name="session">The session; its id is a new one where the client chose none.</param>
    /// <param name="isOwnId">Whether the client chose the id: one that is taken is <c>session_exists</c>.</param>
    /// <param name="idempotency">The request's key, if it has one.</param>
    /// <param name="owner">On whose behalf.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    /// <exception cref="DomainException"><c>session_exists</c>, <c>idempotency_key_reused</c>, <c>session_not_found</c> (it is gone by
    /// now), <c>storage_full</c>.</exception>
    public async ValueTask<(Session Session, bool Replayed)> CreateAsync(
        NewSession session, bool isOwnId, Idempotency? idempotency, Owner owner, CancellationToken cancellationToken)
    {
        for (var attempt = 0; attempt < Attempts; attempt++)
        {
            if (idempotency is { } key)
            {
                var reservation = await ReserveAsync(key, owner, session.Id, cancellationToken);
                if (!reservation.SameBody)
                {
                    throw new DomainException(Error.IdempotencyKeyReused);
                }

                session = session with { Id = reservation.SessionId, ReservedBy = key.Key };
            }

            using var scope = await WritingScopeAsync(session.UserId, cancellationToken);
            var copy = new CopyRequest { Session = scope?.Seal(session) ?? session, Owner = owner };
            var result = await CopyAsync("create", copy, cancellationToken);
            switch (result.Status)
            {
                case CopyStatus.Created:
                    return (scope is null ? result.Session! : result.Session! with { Metadata = session.Metadata }, false);
                // An id that this server has chosen is in nobody's hands but the client's.
                case CopyStatus.IdTaken when (result.IsOwn || (!isOwnId && idempotency is not null))
                    && await GetAsync(SessionRef.ById(session.Id), owner, cancellationToken) is { } existing:
                    return (AsCreated(session, existing), true);
                case CopyStatus.IdTaken:
                    throw new DomainException(isOwnId ? Error.SessionExists(session.Id) : Error.SessionNotFound(session.Id));
                case CopyStatus.Full:
                    throw new DomainException(Error.StorageFull(result.Limit ?? "limits.stored_bytes"));
            }

            // An erasure of its user has overtaken it: it comes after that, with a key that was in nobody's hands.
            session = session with { Key = SessionKey.New() };
        }

        throw new DomainException(Error.SessionBusy(session.Id));
    }

    /// <summary>Ties a key to the id of the session that its request is going to create.</summary>
    public ValueTask<KeyReservation> ReserveAsync(
        Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        CallAsync("reserve_session_id", (key, owner, sessionId, cancellationToken),
            static (store, x) => store.ReserveAsync(x.key, x.owner, x.sessionId, x.cancellationToken));

    /// <summary>Makes a session that starts with the first turns of another one. Where there is encryption they are sealed anew.</summary>
    /// <exception cref="DomainException"><c>session_not_found</c>, <c>invalid_request</c>, <c>session_exists</c>,
    /// <c>storage_full</c>.</exception>
    public async ValueTask<Session> ForkAsync(
        SessionRef source, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken)
    {
        if (session.Kind == SessionKind.Chain)
        {
            // Noted first: a note of what did not come to be does no harm.
            await ChangeMetadataAsync(source, owner, head => BranchMarker.Add(head, session.Id), cancellationToken);
        }

        CopyResult result;
        if (_sealer is null)
        {
            if (afterTurn > 0)
            {
                // What can't be read is not copied to be the last turn of another session.
                var last = new TurnPageRequest { Limit = 1, MaxBytes = 1, After = afterTurn - 1, AllBranches = true };
                await ReadTurnsAsync(source, owner, last, cancellationToken);
            }

            var copy = new CopyRequest { Session = session, Source = source, Owner = owner, AfterTurn = afterTurn };
            result = await CopyAsync("fork", copy, cancellationToken);
        }
        else
        {
            var head = await GetAsync(source, owner, cancellationToken)
                ?? throw new DomainException(Error.SessionNotFound(source.ToString()));
            if (afterTurn > head.TurnCount || afterTurn < 0)
            {
                throw new DomainException(Error.NoSuchTurn("after_turn", head.TurnCount));
            }

            session = session with { UserId = head.UserId };
            result = await ForkSealedAsync(head, owner, afterTurn ?? head.TurnCount, session, cancellationToken);
        }

        if (result.Status == CopyStatus.Created && session.Kind == SessionKind.Chain
            && await GetAsync(source, owner, cancellationToken) is null)
        {
            // Whoever has deleted the source meanwhile may have looked for its chains before this one was noted.
            await _store.DeleteAsync(SessionRef.ByKey(session.Key), Owner.Anyone, CancellationToken.None);
            throw new DomainException(Error.SessionNotFound(source.ToString()));
        }

        return result.Status switch
        {
            CopyStatus.Created => await OpenMadeAsync(result.Session!, cancellationToken),
            CopyStatus.NoSuchTurn => throw new DomainException(Error.NoSuchTurn("after_turn", result.Session?.TurnCount ?? 0)),
            CopyStatus.IdTaken => throw new DomainException(Error.SessionExists(session.Id)),
            CopyStatus.Full => throw new DomainException(Error.StorageFull(result.Limit ?? "limits.stored_bytes")),
            _ => throw new DomainException(Error.SessionNotFound(source.ToString())),
        };
    }

    // The original answer: the session as it was created, whatever has become of it since.
    private Session AsCreated(NewSession request, Session existing) => new()
    {
        Id = existing.Id,
        Key = existing.Key,
        Kind = existing.Kind,
        UserId = request.UserId,
        CreatedAt = existing.CreatedAt,
        LastActivityAt = existing.CreatedAt,
        ExpiresAt = existing.CreatedAt + _policy.Lifetime(existing.Kind),
        Revision = existing.Revision.Version == 1 ? existing.Revision : new Revision(1, 0),
        CreatedFrom = existing.CreatedFrom,
        Metadata = request.Metadata,
        TurnCount = 0,
    };

    private ValueTask<CopyResult> CopyAsync(string operation, CopyRequest request, CancellationToken cancellationToken) =>
        CallAsync(operation, (request, cancellationToken), static (store, x) => store.CopyAsync(x.request, x.cancellationToken));

    private async ValueTask<CopyResult> ForkSealedAsync(
        Session source, Owner owner, int afterTurn, NewSession session, CancellationToken cancellationToken)
    {
        using var scope = _sealer!.For(source.UserId, cancellationToken);
        await scope.ForWritingAsync();

        // A summary that covers more than is copied would tell of what is not there.
        var summary = source.Summary?.CoversTurns <= afterTurn ? scope.Seal(session.Id, session.Key, source.Summary) : null;
        var result = await CopyAsync("fork", new CopyRequest
        {
            Session = scope.Seal(session),
            Source = SessionRef.ByKey(source.Key),
            SourceKey = source.Key,
            Owner = owner,
            AfterTurn = afterTurn,
            Summary = summary,
            Turns = SealAsync(
                scope, session.Id, session.Key, session.Kind, FirstTurnsAsync(source, owner, afterTurn, cancellationToken),
                cancellationToken),
        }, cancellationToken);
        if (result.Status == CopyStatus.Created
            && (await GetAsync(SessionRef.ByKey(source.Key), owner, cancellationToken))?.Rewrites != source.Rewrites)
        {
            // Something was deleted in the source after it was read for the copy: it is not to live on there.
            await DeleteAsync(SessionRef.ByKey(session.Key), Owner.Anyone, cancellationToken);
            throw new DomainException(new Error("turn_conflict", "The session was changed while it was copied; try again."));
        }

        return result;
    }

    private async IAsyncEnumerable<ArchivedTurn> FirstTurnsAsync(
        Session source, Owner owner, int count, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (var last = 0; last < count;)
        {
            var limit = Math.Min(PageTurns, count - last);
            var request = new TurnPageRequest { Limit = limit, MaxBytes = PageBytes, After = last, AllBranches = true };
            if (await ReadTurnsAsync(SessionRef.ByKey(source.Key), owner, request, cancellationToken) is not { Turns.Count: > 0 } page)
            {
                throw new DomainException(Error.SessionNotFound(source.Id));
            }

            foreach (var turn in page.Turns)
            {
                yield return new ArchivedTurn(turn, null);
                last = turn.Number;
            }
        }
    }

    private static async IAsyncEnumerable<ArchivedTurn> SealAsync(
        SealScope scope, string sessionId, Guid sessionKey, SessionKind kind, IAsyncEnumerable<ArchivedTurn> turns,
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var archived in turns.WithCancellation(cancellationToken))
        {
            // A turn of a chain may have come later than it was to; in a session that people see its nonce tells its number.
            var turn = archived.Turn;
            var nonce = kind != SessionKind.Chain && turn.Nonce.ExpectedNumber != turn.Number
                ? new TurnNonce(((ulong)turn.Number << 32) | (uint)turn.Nonce.Value)
                : turn.Nonce;
            yield return archived with { Turn = scope.Seal(sessionId, sessionKey, turn with { Nonce = nonce }) };
        }
    }

    private async ValueTask<Session> OpenMadeAsync(Session session, CancellationToken cancellationToken)
    {
        using var scope = _sealer?.For(session.UserId, cancellationToken);
        return await ReadableAsync(scope, session);
    }
}
