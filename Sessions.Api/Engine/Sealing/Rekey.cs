using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine.Sealing;

/// <summary>What a <see cref="Rekey"/> has done.</summary>
/// <param name="Keys">How many users' keys there are.</param>
/// <param name="Rewrapped">How many of them were not under the current master key.</param>
/// <param name="Sessions">How many sessions were sealed anew.</param>
/// <param name="Unreadable">How many could not be read, and stay as they are.</param>
internal readonly record struct RekeyResult(int Keys, int Rewrapped, long Sessions, long Unreadable)
{
    public override string ToString() =>
        $"Keys wrapped again: {Rewrapped} of {Keys}; all are under the current master key. Sessions sealed again: {Sessions}."
        + (Unreadable == 0 ? "" : $" Could not be read, and stay as they are: {Unreadable}; the keys that they may need are kept.");
}

/// <summary>
/// Brings keys and what they seal up to date: wraps all users' keys with the current master key; gives everybody new keys, where that is
/// asked for; and seals what is not sealed with the current keys:
/// what was written before encryption was turned on, what an earlier version encrypted, and what former keys have sealed. Session by
/// session and turn by turn, in steps that can be
/// broken off and begun again.
/// </summary>
internal sealed class Rekey(ISessionStore store, Sealer sealer)
{
    private const int Attempts = 16;
    private const int PageTurns = 100;
    private const int PageBytes = 1024 * 1024;
    private const int PageSessions = 100;

    /// <summary>Does it.</summary>
    /// <param name="data">Whether everybody gets new keys.</param>
    /// <param name="cancellationToken">Breaks off: what is done by then stays.</param>
    public async Task<RekeyResult> RunAsync(bool data, CancellationToken cancellationToken)
    {
        var ring = sealer.Ring;
        var former = data ? await ring.RotateAsync(cancellationToken) : [];
        var (rewrapped, keys) = await ring.RewrapAsync(cancellationToken);
        long renewed = 0, unreadable = 0;
        var acceptsUnsealed = !await ring.Keys.IsAllSealedAsync(cancellationToken);
        if (data || acceptsUnsealed)
        {
            foreach (var key in await FindSessionsAsync(cancellationToken))
            {
                try
                {
                    renewed += await RenewAsync(key, acceptsUnsealed, cancellationToken) ? 1 : 0;
                }
                catch (Exception e) when (e is StoredDataException or KeyDestroyedException)
                {
                    unreadable++;
                }
            }
        }

        // What a list went past may need the former keys as well.
        unreadable = Math.Max(unreadable, sealer.Damaged);
        if (unreadable == 0)
        {
            await ring.Keys.SetAllSealedAsync(cancellationToken);
            foreach (var (holder, id) in former)
            {
                await ring.Keys.RemoveAsync(holder, id, cancellationToken);
            }
        }

        return new(keys, rewrapped, renewed, unreadable);
    }

    // By the keys of the sessions: whatever moves in the list meanwhile is sealed with the current key already.
    private async Task<HashSet<Guid>> FindSessionsAsync(CancellationToken cancellationToken)
    {
        HashSet<Guid> keys = [];
        foreach (var kind in SessionPageRequest.AllKinds)
        {
            for (PageCursor? after = null; ;)
            {
                var request = new SessionPageRequest { Kind = kind, Limit = PageSessions, After = after, Ascending = true };
                var page = await store.ListAsync(request, cancellationToken);
                keys.UnionWith(page.Items.Select(session => session.Key));
                if (page.Next is null)
                {
                    break;
                }

                after = page.Next;
            }
        }

        return keys;
    }

    private async Task<bool> RenewAsync(Guid key, bool acceptsUnsealed, CancellationToken cancellationToken)
    {
        var session = SessionRef.ByKey(key);
        var isRenewed = false;
        for (int? after = 0; after is not null;)
        {
            var request = new TurnPageRequest { Limit = PageTurns, MaxBytes = PageBytes, After = after, AllBranches = true };
            if (await store.ReadTurnsAsync(session, Owner.Anyone, request, cancellationToken) is not { } page)
            {
                return isRenewed;
            }

            var head = page.Session;
            using var scope = await sealer.For(head.UserId, cancellationToken, acceptsUnsealed).ForWritingAsync(head.ExpiresAt);
            foreach (var turn in page.Turns.Where(scope.IsOutdated))
            {
                isRenewed = true;
                await ReplaceAsync(session, scope, turn.Number, cancellationToken);
            }

            after = page.Next;
        }

        return await RenewHeadAsync(session, acceptsUnsealed, cancellationToken) || isRenewed;
    }

    // Read again, on the state that it is changed on.
    private async Task ReplaceAsync(SessionRef session, SealScope scope, int number, CancellationToken cancellationToken)
    {
        for (var attempt = 0; attempt < Attempts; attempt++)
        {
            var opened = await store.OpenAsync(new OpenRequest { Session = session, Owner = Owner.Anyone }, cancellationToken);
            var request = new TurnPageRequest { Limit = 1, MaxBytes = 1, After = number - 1, AllBranches = true };
            if (opened.Session is not { } head
                || await store.ReadTurnsAsync(session, Owner.Anyone, request, cancellationToken) is not { Turns: [var turn] } page)
            {
                return;
            }

            if (page.Session.Revision != head.Revision)
            {
                continue;
            }

            // A summary is sealed too, and can only be dropped: an agent that needs one makes it again.
            var plain = await scope.OpenAsync(head.Id, head.Key, head.Kind, turn);
            var dropSummary = head.Summary is { } summary && scope.IsOutdated(summary.Text.Bytes);
            var change = new ReplaceTurn(scope.Seal(head.Id, head.Key, plain), dropSummary);
            if (await IsDoneAsync(opened, change, cancellationToken))
            {
                return;
            }
        }

        throw ChangesAllTheTime(session);
    }

    private async Task<bool> RenewHeadAsync(SessionRef session, bool acceptsUnsealed, CancellationToken cancellationToken)
    {
        for (var attempt = 0; attempt < Attempts; attempt++)
        {
            var opened = await store.OpenAsync(new OpenRequest { Session = session, Owner = Owner.Anyone }, cancellationToken);
            if (opened.Session is not { } head)
            {
                return false;
            }

            using var scope = await sealer.For(head.UserId, cancellationToken, acceptsUnsealed).ForWritingAsync(head.ExpiresAt);
            if (head is { Summary: { } summary, LastTurn: { } last } && scope.IsOutdated(summary.Text.Bytes))
            {
                // Its turns are up to date: writing the last of them once more takes it away.
                await ReplaceAsync(session, scope, last.Number, cancellationToken);
                continue;
            }

            if (!scope.IsOutdated(head.Metadata))
            {
                return false;
            }

            var plain = await scope.OpenAsync(head with { LastTurn = null, Summary = null, LastError = null });
            var change = new ReplaceMetadata(scope.SealMetadata(head.Id, head.Key, plain.Metadata));
            if (await IsDoneAsync(opened, change, cancellationToken))
            {
                return true;
            }
        }

        throw ChangesAllTheTime(session);
    }

    // False: it has changed meanwhile. What is gone needs nothing any more; what finds no room is not sealed, and must not count as that.
    private async Task<bool> IsDoneAsync(OpenedSession opened, SessionChange change, CancellationToken cancellationToken)
    {
        var result = await store.WriteAsync(opened, change, cancellationToken);
        return result.Status == WriteStatus.Full
            ? throw new StoreUnavailableException(
                $"There is no room left ({result.Limit ?? "limits.stored_bytes"}): raise it or make room, and run it again.",
                TimeSpan.FromSeconds(1))
            : result.Status != WriteStatus.Stale;
    }

    private static StoreUnavailableException ChangesAllTheTime(SessionRef session) =>
        new($"Session {session} changes all the time: stop the servers, and run it again.", TimeSpan.FromSeconds(1));
}
