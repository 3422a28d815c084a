using Sessions.Api.Domain;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <content>Opening sessions and writing to them: what is remembered, and what is sealed.</content>
internal sealed partial class SessionLog
{
    private async ValueTask<Opening> OpenAsync(string operation, OpenRequest request, CancellationToken cancellationToken)
    {
        try
        {
            var mayRecall = true;
            while (true)
            {
                var tail = mayRecall ? await RecallAsync(request, cancellationToken) : null;
                var asked = tail is null ? request : request with { Remembered = tail.Remembered };
                var opened = await _meter.TimeAsync(operation, _store, (asked, cancellationToken),
                    static (store, x) => store.OpenAsync(x.asked, x.cancellationToken));
                Count(request, opened, tail);
                try
                {
                    if (await UnsealAsync(opened, tail, cancellationToken) is { } opening)
                    {
                        return opening;
                    }

                    // The keys of what is remembered are gone: the store's own state tells whether the session is. The lease, if there is
                    // one, is this caller's already.
                    mayRecall = false;
                    await _tail!.RemoveAsync([tail!.Session.Key]);
                }
                catch (KeyDestroyedException)
                {
                    // It is gone for good, and so like one that does not exist.
                    mayRecall = false;
                    await _store.ReleaseAsync(opened);
                    await _store.DeleteAsync(SessionRef.ByKey((opened.Session ?? tail!.Session).Key), Owner.Anyone, cancellationToken);
                }
                catch
                {
                    await _store.ReleaseAsync(opened);
                    throw;
                }
            }
        }
        catch (StoredDataException e) when (Report(e, null))
        {
            throw;
        }
    }

    // Null: what is remembered can't be used any more.
    private async ValueTask<Opening?> UnsealAsync(OpenedSession opened, Tail? tail, CancellationToken cancellationToken)
    {
        switch (opened.Status)
        {
            case OpenStatus.Unchanged:
            case OpenStatus.Opened when opened.FollowsRemembered:
                return tail is null
                    ? throw new InvalidOperationException("The store knows what nobody named.")
                    : await FollowAsync(opened, tail, cancellationToken);
            case OpenStatus.Opened when opened.Session is { } session:
                using (var scope = _sealer?.For(session.UserId, cancellationToken))
                {
                    var turns = await ReadableAsync(scope, session, opened.Turns);
                    return new Opening(opened, await ReadableAsync(scope, session), turns, opened.IsCut, scope?.UsedKeys ?? []);
                }

            case OpenStatus.Replayed:
                return await ReplayAsync(opened, cancellationToken);
            default:
                return new Opening(opened, null, [], false, []);
        }
    }

    private async ValueTask<Opening?> FollowAsync(OpenedSession opened, Tail tail, CancellationToken cancellationToken)
    {
        var head = opened.Session;
        var keyIds = tail.KeyIds;
        IReadOnlyList<Turn> path = tail.Turns;
        using var scope = _sealer?.For((head ?? tail.Session).UserId, cancellationToken);
        if (scope is not null && !await scope.HaveAsync(keyIds))
        {
            return null;
        }

        if (head is not null)
        {
            path = opened.Turns.Count == 0 ? path : [.. path, .. await ReadableAsync(scope, head, opened.Turns)];
            head = await ReadableAsync(scope, head);
        }

        keyIds = scope?.UsedKeys ?? keyIds;

        var isCut = false;
        var history = path == tail.Turns && tail.Fits(opened.Request.HistoryTurns, opened.Request.HistoryBytes) ? path
            : Tail.Take(path, opened.Request.HistoryTurns, opened.Request.HistoryBytes, out isCut);
        return new Opening(opened, head ?? tail.Session, path, isCut, keyIds) { History = history };
    }

    private async ValueTask<Opening> ReplayAsync(OpenedSession opened, CancellationToken cancellationToken)
    {
        var replay = opened.Replay ?? throw new InvalidOperationException("The store replays nothing.");
        var session = opened.Session;
        if (session is null)
        {
            // Only the turn was given.
            var request = new OpenRequest { Session = opened.Request.Session, Owner = opened.Request.Owner };
            session = (await _store.OpenAsync(request, cancellationToken)).Session
                ?? throw new StoreUnavailableException("The session went away at the same moment.", TimeSpan.FromSeconds(1));
        }

        using var scope = _sealer?.For(session.UserId, cancellationToken);
        return new Opening(opened, await ReadableAsync(scope, session), [], false, [])
        {
            Replay = (await ReadableAsync(scope, session, [replay]))[0],
        };
    }

    private ValueTask<WriteResult> WriteAsync(
        string operation, OpenedSession opened, SessionChange change, CancellationToken cancellationToken) =>
        CallAsync(operation, (opened, change, cancellationToken),
            static (store, x) => store.WriteAsync(x.opened, x.change, x.cancellationToken));

    // Calls the store, timed. What it can't read is told.
    private async ValueTask<T> CallAsync<TArguments, T>(
        string operation, TArguments arguments, Func<ISessionStore, TArguments, ValueTask<T>> call)
    {
        try
        {
            return await _meter.TimeAsync(operation, _store, arguments, call);
        }
        catch (StoredDataException e) when (Report(e, null))
        {
            throw;
        }
    }

    private async ValueTask<SealScope?> WritingScopeAsync(string? userId, CancellationToken cancellationToken)
    {
        if (_sealer is null)
        {
            return null;
        }

        var scope = _sealer.For(userId, cancellationToken);
        try
        {
            return await scope.ForWritingAsync();
        }
        catch
        {
            scope.Dispose();
            throw;
        }
    }

    // What the store has read, as everybody above has it: opened where it is sealed, and JSON where it is to be that. Memory is as it was
    // written.
    private async ValueTask<Session> ReadableAsync(SealScope? scope, Session session)
    {
        try
        {
            var opened = scope is null ? session : await scope.OpenAsync(session);
            if (_mayBeDamaged)
            {
                StoredJson.Check(opened);
            }

            return opened;
        }
        catch (StoredDataException e) when (Report(e, session))
        {
            throw;
        }
    }

    private async ValueTask<IReadOnlyList<Turn>> ReadableAsync(SealScope? scope, Session session, IReadOnlyList<Turn> turns)
    {
        try
        {
            var opened = scope is null ? turns : await scope.OpenAsync(session, turns);
            for (var i = 0; _mayBeDamaged && i < opened.Count; i++)
            {
                StoredJson.Check(session, opened[i]);
            }

            return opened;
        }
        catch (StoredDataException e) when (Report(e, session))
        {
            throw;
        }
    }

    // Which session can't be read is kept beside, so that it is not told any longer once that was removed.
    private bool Report(StoredDataException e, Session? session)
    {
        _policy.Damage.Report(e.What, e);
        if (session is not null)
        {
            _damaged[session.Key] = e.What;
        }

        return true;
    }

    // What is in the store is a head without what the engine knows of it in the clear.
    private Session OpenedHead(Session head, Session? before) => _sealer is null ? head
        : head with
        {
            Metadata = before?.Metadata ?? default,
            Summary = before?.Summary,
            LastError = before?.LastError,
            LastTurn = before?.LastTurn,
        };

    private async ValueTask<Tail?> RecallAsync(OpenRequest request, CancellationToken cancellationToken)
    {
        if (_tail is null || request.Tip == 0)
        {
            return null;
        }

        var tail = _tail.Find(request.Session);
        if (tail is null && _tail.Shared is not null && request.HistoryTurns > 0)
        {
            tail = await RecallSharedAsync(request, cancellationToken);
        }

        return tail is not null && (request.Tip is null || request.Tip == tail.Turns[^1].Number)
            && tail.Suffices(request.HistoryTurns, request.HistoryBytes) ? tail : null;
    }

    // The head is one row by its key, which the file gives faster than a Redis would; the turns lie apart in it.
    private async ValueTask<Tail?> RecallSharedAsync(OpenRequest request, CancellationToken cancellationToken)
    {
        var opened = await _store.OpenAsync(new OpenRequest { Session = request.Session, Owner = request.Owner }, cancellationToken);
        if (opened.Session is not { TurnCount: > 0 } session || await _tail!.Shared!.FindAsync(session.Key) is not { } entry)
        {
            return null;
        }

        try
        {
            using var scope = _sealer?.For(session.UserId, cancellationToken);
            return await TailCodec.ReadAsync(entry, session, scope) is not { } turns ? null
                : new Tail(await ReadableAsync(scope, session), turns, scope?.UsedKeys ?? []);
        }
        catch (InvalidDataException e)
        {
            await _tail.Shared.RemoveDamagedAsync(session.Key, e);
        }
        catch (Exception e) when (e is KeyDestroyedException or StoredDataException)
        {
            // Told when it is read from the store itself.
        }

        return null;
    }

    private async ValueTask RememberAsync(Session session, IReadOnlyList<Turn> path, BegunTurn turn, SealScope? scope)
    {
        // Where an item was deleted meanwhile, the path still has it.
        if (path.Count == 0 || path[^1].Number != session.TurnCount || session.Rewrites != (turn.Session?.Rewrites ?? 0))
        {
            return;
        }

        var keyIds = scope is null ? [] : turn.Opening.KeyIds.Union(scope.UsedKeys).ToArray();
        var tail = new Tail(session, path, keyIds).Trim();
        _tail!.Put(tail);
        if (_tail.Shared is { } shared)
        {
            await shared.PutAsync(session.Key, TailCodec.Write(tail, scope?.WritingKey));
        }

        // Whoever has removed the session, or an item of it, meanwhile may have looked before this was there.
        if ((_tail.Shared is not null || _tail.Removals != turn.Removals) && !await MayBeKeptAsync(session))
        {
            await _tail.RemoveAsync([session.Key]);
        }
    }

    private async ValueTask<bool> MayBeKeptAsync(Session session)
    {
        try
        {
            var request = new OpenRequest { Session = SessionRef.ByKey(session.Key), Owner = Owner.Anyone };
            var opened = await _store.OpenAsync(request, CancellationToken.None);
            return opened.Session?.Rewrites == session.Rewrites;
        }
        catch (Exception e) when (e is StoreUnavailableException or StoredDataException)
        {
            // The turn is committed, whatever is the matter now; what is not known to be there is better not kept.
            return false;
        }
    }

    private void Count(OpenRequest request, OpenedSession opened, Tail? tail)
    {
        // From no turn there is nothing to remember.
        if (_tail is not null && request is { Lease: not null, Tip: not 0 })
        {
            _tail.Count(
                tail is null ? _tail.Shared is { IsPaused: true } ? "bypassed" : "miss"
                : opened.Status == OpenStatus.Unchanged || opened.FollowsRemembered ? "hit"
                : "stale");
        }
    }
}
