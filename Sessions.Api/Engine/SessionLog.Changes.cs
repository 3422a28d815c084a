using System.Text.Json;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <content>Changing, deleting and looking after what there is.</content>
internal sealed partial class SessionLog
{
    private const int BranchPageSize = 1000;

    /// <summary>
    /// Changes the client's own metadata: reads it, and writes what comes of it, again and again where the session has changed in between.
    /// </summary>
    /// <param name="session">The session.</param>
    /// <param name="owner">On whose behalf.</param>
    /// <param name="change">What comes of the session as it is; <see langword="null"/>: nothing is to be changed.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>The session as it is then; <see langword="null"/>: there is none.</returns>
    /// <exception cref="DomainException"><c>session_busy</c>, <c>storage_full</c>.</exception>
    public async ValueTask<Session?> ChangeMetadataAsync(
        SessionRef session, Owner owner, Func<Session, ReadOnlyMemory<byte>?> change, CancellationToken cancellationToken)
    {
        for (var attempt = 0; attempt < Attempts; attempt++)
        {
            var opening = await OpenAsync("get", new OpenRequest { Session = session, Owner = owner }, cancellationToken);
            if (opening.Session is not { } head)
            {
                return null;
            }

            if (Apply(change, head) is not { } metadata)
            {
                return head;
            }

            using var scope = await WritingScopeAsync(head.UserId, cancellationToken);
            var replacement = new ReplaceMetadata(scope?.SealMetadata(head.Id, head.Key, metadata) ?? metadata);
            var result = await WriteAsync("replace_metadata", opening.Opened, replacement, cancellationToken);
            switch (result.Status)
            {
                case WriteStatus.Written:
                    return result.Session is { } written
                        ? OpenedHead(written, head) with { Metadata = metadata, LastTurn = head.LastTurn }
                        : await GetAsync(session, owner, cancellationToken);
                case WriteStatus.Gone:
                    return null;
                case WriteStatus.Full:
                    throw new DomainException(Error.StorageFull(result.Limit ?? "limits.stored_bytes"));
            }
        }

        throw new DomainException(Error.SessionBusy(session.ToString()));
    }

    /// <summary>
    /// Deletes an item: its bytes leave the store, what is remembered, previews, streams and replays; its place stays taken. A summary
    /// that covers it goes. With a call goes its output, which says nothing without it; with what the model made goes the reasoning right
    /// before it, which providers take only with what it led to.
    /// </summary>
    /// <returns>The session as it is then; <see langword="null"/>: there is no such item for this owner.</returns>
    public async ValueTask<Session?> DeleteItemAsync(ItemId item, Owner owner, CancellationToken cancellationToken)
    {
        if (await GetAsync(SessionRef.ByKey(item.Key), owner, cancellationToken) is not { } source)
        {
            return null;
        }

        // It is not to live on in what went on from there, in the same order as where the session is deleted.
        await DeleteInBranchesAsync(source);
        var session = await DeleteItemAsync(item.Key, item, owner, cancellationToken);
        return session is not null && await DeleteInBranchesAsync(session) is { } damage ? throw damage : session;

        async ValueTask<StoredDataException?> DeleteInBranchesAsync(Session of) =>
            await ForEachAsync(await BranchesOfAsync(of, cancellationToken), async branch =>
            {
                if (await GetAsync(branch, Owner.Anyone, cancellationToken) is { } chain)
                {
                    await DeleteItemAsync(chain.Key, item, Owner.Anyone, cancellationToken);
                }
            });
    }

    private async ValueTask<Session?> DeleteItemAsync(Guid key, ItemId item, Owner owner, CancellationToken cancellationToken)
    {
        List<(TurnNonce Nonce, ItemSide Side, int Index)> gone = [(item.Nonce, item.Side, item.Index)];
        if (await FindTurnAsync(key, item.Nonce, owner, cancellationToken) is { } found)
        {
            gone.AddRange(await OutputsOfAsync(found.Session, found.Turn, item, owner, cancellationToken));
            gone.AddRange(await ReasoningBeforeAsync(found.Session, found.Turn, item, owner, cancellationToken));
        }

        Session? session = null;
        // Its own last: while it is there, what did not go with it goes when it is asked for again.
        foreach (var ofTurn in gone.GroupBy(place => place.Nonce).OrderBy(places => places.Key == item.Nonce))
        {
            var changed = await ReplaceTurnAsync(key, ofTurn.Key, owner, (_, turn) => Without(turn, ofTurn), cancellationToken);
            if (ofTurn.Key == item.Nonce && changed is null)
            {
                return null;
            }

            session = changed ?? session;
        }

        return session;

        Turn? Without(Turn turn, IEnumerable<(TurnNonce Nonce, ItemSide Side, int Index)> places)
        {
            Turn? changed = null;
            foreach (var (_, side, index) in places)
            {
                var before = changed ?? turn with { HistoryTokens = null };
                if (ItemDeletion.Without(side == ItemSide.Input ? before.Input : before.Output, index) is { } left)
                {
                    changed = side == ItemSide.Input ? before with { Input = left } : before with { Output = left };
                }
                else if (turn.Nonce == item.Nonce && (side, index) == (item.Side, item.Index))
                {
                    return null;
                }
            }

            return changed;
        }
    }

    // Where the outputs of a call are: on each path that goes on from it the first one that no call before it has.
    private async ValueTask<List<(TurnNonce Nonce, ItemSide Side, int Index)>> OutputsOfAsync(
        Session session, Turn turn, ItemId item, Owner owner, CancellationToken cancellationToken)
    {
        List<(TurnNonce, ItemSide, int)> outputs = [];
        if (ToolCalls.Find(turn, item.Side, item.Index) is not { } call)
        {
            return outputs;
        }

        if (call.Output is { } here)
        {
            return [(turn.Nonce, here.Side, here.Index)];
        }

        // How many outputs are those of other calls with that id, by the turns behind which it still waits.
        Dictionary<int, int> waiting = new() { [turn.Number] = call.Ahead };
        for (int? after = turn.Number; after is not null;)
        {
            var request = new TurnPageRequest { Limit = PageTurns, MaxBytes = PageBytes, After = after, AllBranches = true };
            if (await ReadTurnsAsync(SessionRef.ByKey(session.Key), owner, request, cancellationToken) is not { } page)
            {
                break;
            }

            foreach (var next in page.Turns)
            {
                if (waiting.TryGetValue(next.Parent, out var ahead))
                {
                    if (ToolCalls.FindOutput(next, call.CallId, ref ahead) is { } output)
                    {
                        outputs.Add((next.Nonce, output.Side, output.Index));
                    }
                    else
                    {
                        waiting[next.Number] = ahead;
                    }
                }
            }

            after = page.Next;
        }

        return outputs;
    }

    // Where the reasoning is that led to an item: items that are added one by one stand in turns of their own.
    private async ValueTask<List<(TurnNonce Nonce, ItemSide Side, int Index)>> ReasoningBeforeAsync(
        Session session, Turn turn, ItemId item, Owner owner, CancellationToken cancellationToken)
    {
        List<(TurnNonce, ItemSide, int)> reasoning = [];
        var isAll = Add(turn, ItemDeletion.ReasoningOf(turn, item.Side, item.Index));

        // In the last run each turn has one behind it. Elsewhere another branch may go on from the one before.
        var runStart = session.LastTurn?.RunStart ?? int.MaxValue;
        try
        {
            for (var limit = 1; isAll && turn.Number > runStart; limit = PageTurns)
            {
                var request = new TurnPageRequest { Limit = limit, MaxBytes = PageBytes, After = turn.Number, Descending = true };
                if (await ReadTurnsAsync(SessionRef.ByKey(session.Key), owner, request, cancellationToken) is not { Turns.Count: > 0 } page)
                {
                    break;
                }

                foreach (var before in page.Turns.TakeWhile(before => isAll && before.Number >= runStart))
                {
                    turn = before;
                    isAll = Add(turn, ItemDeletion.ReasoningAtEnd(turn));
                }
            }
        }
        catch (StoredDataException e) when (Report(e, session))
        {
            // What can't be read before it does not keep the item.
        }

        return reasoning;

        bool Add(Turn of, (List<(ItemSide Side, int Index)> Places, bool IsAll) found)
        {
            reasoning.AddRange(found.Places.Select(place => (of.Nonce, place.Side, place.Index)));
            return found.IsAll;
        }
    }

    /// <summary>Deletes a response: it is found no more; of a chain its items go with it, those in a conversation stay.</summary>
    /// <returns>Whether there was one.</returns>
    public async ValueTask<bool> DeleteResponseAsync(ResponseId response, Owner owner, CancellationToken cancellationToken) =>
        await ReplaceTurnAsync(response.Key, response.Nonce, owner, (session, turn) =>
            turn.Response.IsEmpty ? null
            : session.Kind != SessionKind.Chain ? turn with { Response = default }
            : turn with
            {
                Response = default,
                Input = ItemDeletion.WithoutAll(turn.Input),
                Output = ItemDeletion.WithoutAll(turn.Output),
                HistoryTokens = null,
            }, cancellationToken) is not null;

    /// <summary>The turn of a response that is being made here is to come to nothing, also where tools have run.</summary>
    public void Drop(ResponseId response)
    {
        foreach (var turn in _running.Keys.Where(turn => turn.SessionKey == response.Key && turn.Nonce == response.Nonce))
        {
            turn.Drop();
        }
    }

    /// <inheritdoc cref="ISessionStore.DeleteAsync"/>
    /// <remarks>With it go the chains that went on from its turns: they hold copies of them.</remarks>
    public async ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        var (head, key) = await HeadToDeleteAsync(session, owner, cancellationToken);
        if (head is not null)
        {
            // Before it: the session alone leads to them, also when a deletion that broke off is asked for again.
            await DeleteAllAsync(await BranchesOfAsync(head, cancellationToken), cancellationToken);
        }

        var deleted = await CallAsync("delete", (session, owner, cancellationToken),
            static (store, x) => store.DeleteAsync(x.session, x.owner, x.cancellationToken));
        if (!deleted)
        {
            // There is none yet, and the turn that was to create it won't.
            await LoseFirstTurnsAsync(turn => turn.IsOf(session) && owner.MayHave(turn.Request.Owner.UserId));
        }
        else if ((session.Id ?? head?.Id) is { } id)
        {
            _policy.Damage.Forget(DamageReport.NameOf(id));
        }

        if (deleted)
        {
            // And those that were being made at the same time: from now on none is. Of a session that can't be read the key tells.
            var branches = head is not null ? await BranchesOfAsync(head, cancellationToken)
                : key is { } known ? await ListBranchesAsync(known, cancellationToken)
                : [];
            if (await DeleteAllAsync(branches, cancellationToken) is { } damage)
            {
                throw damage;
            }
        }

        return deleted;
    }

    private ValueTask<StoredDataException?> DeleteAllAsync(IReadOnlyList<SessionRef> sessions, CancellationToken cancellationToken) =>
        ForEachAsync(sessions, async session => await _store.DeleteAsync(session, Owner.Anyone, cancellationToken));

    // What can't be read stops nothing else, and is told in the end.
    private async ValueTask<StoredDataException?> ForEachAsync(IReadOnlyList<SessionRef> sessions, Func<SessionRef, ValueTask> action)
    {
        StoredDataException? damage = null;
        foreach (var session in sessions)
        {
            try
            {
                await action(session);
            }
            catch (StoredDataException e) when (Report(e, null))
            {
                damage ??= e;
            }
        }

        return damage;
    }

    // What can't be read can be deleted all the same.
    private async ValueTask<(Session? Head, Guid? Key)> HeadToDeleteAsync(
        SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        try
        {
            return (await GetAsync(session, owner, cancellationToken), null);
        }
        catch (StoredDataException)
        {
        }

        try
        {
            return ((await _store.OpenAsync(new OpenRequest { Session = session, Owner = owner }, cancellationToken)).Session, null);
        }
        catch (StoredDataException e)
        {
            return (null, session.Id is null ? session.Key : e.SessionKey);
        }
    }

    // Null: nobody can say.
    private static IReadOnlyList<string>? NotedBranches(Session source)
    {
        try
        {
            return BranchMarker.Read(source);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null;
        }
    }

    private async ValueTask<IReadOnlyList<SessionRef>> BranchesOfAsync(Session source, CancellationToken cancellationToken)
    {
        if (source.Kind == SessionKind.Chain || source.TurnCount == 0)
        {
            return [];
        }

        if (NotedBranches(source) is not { } ids)
        {
            return await ListBranchesAsync(source.Key, cancellationToken);
        }

        List<SessionRef> branches = [];
        foreach (var id in ids)
        {
            var named = SessionRef.ById(id);
            try
            {
                // What somebody has called so since is no chain.
                var opened = await _store.OpenAsync(new OpenRequest { Session = named, Owner = Owner.Anyone }, cancellationToken);
                if (opened.Session is { Kind: SessionKind.Chain } chain)
                {
                    branches.Add(SessionRef.ByKey(chain.Key));
                }
            }
            catch (StoredDataException)
            {
                // It can be deleted all the same, and whatever has to read it tells.
                branches.Add(named);
            }
        }

        return branches;
    }

    private async ValueTask<IReadOnlyList<SessionRef>> ListBranchesAsync(Guid sourceKey, CancellationToken cancellationToken)
    {
        // Oldest activity first: what becomes active meanwhile goes to the end, where it is met again.
        List<SessionRef> branches = [];
        var prefix = BranchMarker.PrefixOf(sourceKey);
        for (var (after, isFirst) = ((PageCursor?)null, true); isFirst || after is not null; isFirst = false)
        {
            var request = new SessionPageRequest
            {
                Kind = SessionKind.Chain,
                Limit = BranchPageSize,
                MaxBytes = PageBytes,
                After = after,
                Ascending = true,
            };
            var page = await _store.ListAsync(request, cancellationToken);
            branches.AddRange(page.Items.Where(chain => chain.Id.StartsWith(prefix, StringComparison.Ordinal))
                .Select(chain => SessionRef.ByKey(chain.Key)));
            after = page.Next;
        }

        return [.. branches.Distinct()];
    }

    /// <inheritdoc cref="ISessionStore.EraseAsync"/>
    public async ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken)
    {
        try
        {
            var erasure = await CallAsync("erase_user", (userId, cancellationToken),
                static (store, x) => store.EraseAsync(x.userId, x.cancellationToken));
            await LoseFirstTurnsAsync(turn => turn.Request.Owner.UserId == userId);
            foreach (var turn in _running.Keys.Where(turn => turn.Session is { UserId: null } && turn.Request.Owner.UserId == userId))
            {
                // It would bind nobody's session to the user again.
                turn.Drop();
            }

            return erasure;
        }
        finally
        {
            if (_sealer is not null)
            {
                // Also where not everything could be removed: it can't be read any more.
                await _sealer.Ring.DestroyAsync(userId, CancellationToken.None);
            }
        }
    }

    // Turns that were to create their sessions, and can't any more: the store has nothing of them to tell of.
    private async ValueTask LoseFirstTurnsAsync(Func<BegunTurn, bool> isLost)
    {
        var keys = _running.Keys.Where(turn => turn.Session is null && isLost(turn)).Select(turn => turn.SessionKey).ToList();
        if (keys.Count > 0)
        {
            await _events.RemovedAsync(keys);
        }
    }

    /// <inheritdoc cref="ISessionStore.SweepAsync"/>
    public async ValueTask<int> SweepAsync(CancellationToken cancellationToken)
    {
        _tail?.RemoveExpired();
        var removed = await CallAsync("remove_expired", cancellationToken, static (store, x) => store.SweepAsync(x));
        if (_sealer is not null)
        {
            await _sealer.Ring.RemoveExpiredAsync(cancellationToken);
        }

        return removed;
    }

    /// <inheritdoc cref="ISessionStore.CancelAsync"/>
    public ValueTask<bool> CancelAsync(SessionRef session, Owner owner, CancellationToken cancellationToken) =>
        CallAsync("cancel_turn", (session, owner, cancellationToken),
            static (store, x) => store.CancelAsync(x.session, x.owner, x.cancellationToken));

    /// <inheritdoc cref="ISessionStore.CountAsync"/>
    public ValueTask<StoreStatistics> CountAsync(CancellationToken cancellationToken) =>
        CallAsync("get_statistics", cancellationToken, static (store, x) => store.CountAsync(x));

    /// <summary>The same for a gauge: asked again and again by whoever collects metrics, and so neither timed nor traced.</summary>
    public ValueTask<StoreStatistics> ObserveAsync(CancellationToken cancellationToken) => _store.CountAsync(cancellationToken);

    /// <summary>The store, the users' keys, and what can't be read.</summary>
    public async ValueTask<HealthCheckResult> CheckAsync(CancellationToken cancellationToken)
    {
        // Asked every few seconds by orchestrators, and so neither timed nor traced.
        var result = await _store.CheckAsync(cancellationToken);
        if (result.Status == HealthStatus.Unhealthy)
        {
            return result;
        }

        if (_sealer is not null)
        {
            try
            {
                await _sealer.Ring.FindAsync(null, cancellationToken);
            }
            catch (StoreUnavailableException e)
            {
                return HealthCheckResult.Unhealthy(e.Message, e);
            }
        }

        var damaged = _policy.Damage.Count;
        return damaged == 0 ? result : HealthCheckResult.Degraded(
            $"{(damaged == 1 ? "One thing that is stored can't" : $"{damaged} things that are stored can't")} be read, "
            + "and the log names what; nothing is removed but by a deletion or its expiry.");
    }

    private async ValueTask<Session?> ReplaceTurnAsync(
        Guid key, TurnNonce nonce, Owner owner, Func<Session, Turn, Turn?> change, CancellationToken cancellationToken)
    {
        for (var attempt = 0; attempt < Attempts; attempt++)
        {
            // Opened first: what was read behind it is of the same state, or there is another try.
            var opening = await OpenAsync("get", new OpenRequest { Session = SessionRef.ByKey(key), Owner = owner }, cancellationToken);
            if (opening.Session is null || await FindTurnAsync(key, nonce, owner, cancellationToken) is not { } found)
            {
                return null;
            }

            if (found.Session.Revision != opening.Session.Revision)
            {
                continue;
            }

            if (Apply(session => change(session, found.Turn), found.Session) is not { } turn)
            {
                return null;
            }

            using var scope = await WritingScopeAsync(found.Session.UserId, cancellationToken);
            var sealedTurn = scope?.Seal(found.Session.Id, key, turn) ?? turn;
            var dropSummary = found.Session.Summary?.CoversTurns >= turn.Number;
            var result = await WriteAsync("replace_turn", opening.Opened, new ReplaceTurn(sealedTurn, dropSummary), cancellationToken);
            switch (result.Status)
            {
                case WriteStatus.Gone:
                    return null;
                case WriteStatus.Full:
                    throw new DomainException(Error.StorageFull(result.Limit ?? "limits.stored_bytes"));
                case WriteStatus.Written:
                    await ForgetAsync(key);
                    await _events.RewrittenAsync(key, nonce);
                    return await GetAsync(SessionRef.ByKey(key), owner, cancellationToken);
            }
        }

        throw new DomainException(Error.SessionBusy(ConversationId.Of(key)));
    }

    // Nothing but JSON is ever written where JSON is read.
    private T? Apply<T>(Func<Session, T?> change, Session session)
    {
        try
        {
            return change(session);
        }
        catch (StoredDataException e) when (Report(e, session))
        {
            throw;
        }
        catch (JsonException e)
        {
            var damaged = new StoredDataException(DamageReport.NameOf(session.Id), "What is stored of the session is damaged.", e);
            Report(damaged, session);
            throw damaged;
        }
    }

    private ValueTask ForgetAsync(Guid key) => _tail?.RemoveAsync([key]) ?? default;
}
