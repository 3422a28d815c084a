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
    /// that covers it goes.
    /// </summary>
    /// <returns>The session as it is then; <see langword="null"/>: there is no such item for this owner.</returns>
    public async ValueTask<Session?> DeleteItemAsync(ItemId item, Owner owner, CancellationToken cancellationToken)
    {
        var session = await ReplaceTurnAsync(item.Key, item.Nonce, owner, Without, cancellationToken);
        if (session is not null)
        {
            // It is not to live on in what went on from there.
            foreach (var branch in await BranchesOfAsync(session, cancellationToken))
            {
                await ReplaceTurnAsync(branch, item.Nonce, Owner.Anyone, Without, cancellationToken);
            }
        }

        return session;

        Turn? Without(Session _, Turn turn) =>
            ItemDeletion.Without(item.Side == ItemSide.Input ? turn.Input : turn.Output, item.Index) is not { } left ? null
            : item.Side == ItemSide.Input ? turn with { Input = left, HistoryTokens = null }
            : turn with { Output = left, HistoryTokens = null };
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

    /// <inheritdoc cref="ISessionStore.DeleteAsync"/>
    /// <remarks>With it go the chains that went on from its turns: they hold copies of them.</remarks>
    public async ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        Session? head = null;
        try
        {
            head = (await _store.OpenAsync(new OpenRequest { Session = session, Owner = owner }, cancellationToken)).Session;
        }
        catch (StoredDataException)
        {
            // What can't be read can be deleted all the same.
        }

        var deleted = await CallAsync("delete", (session, owner, cancellationToken),
            static (store, x) => store.DeleteAsync(x.session, x.owner, x.cancellationToken));
        if (deleted && (session.Id ?? head?.Id) is { } id)
        {
            _policy.Damage.Forget(DamageReport.NameOf(id));
        }

        if (deleted && head is not null)
        {
            foreach (var branch in await BranchesOfAsync(head, cancellationToken))
            {
                await _store.DeleteAsync(SessionRef.ByKey(branch), Owner.Anyone, cancellationToken);
            }
        }

        return deleted;
    }

    /// <summary>An id for a chain that goes on from a turn of a session: it tells the session, so that both go together.</summary>
    public static string NewBranchId(Guid sessionKey, TimeProvider time) => $"{sessionKey:N}.{Identifiers.NewSessionId(time)}";

    private async ValueTask<List<Guid>> BranchesOfAsync(Session source, CancellationToken cancellationToken)
    {
        List<Guid> keys = [];
        if (source.Kind == SessionKind.Chain)
        {
            return keys;
        }

        var prefix = $"{source.Key:N}.";
        PageCursor? after = null;
        do
        {
            var request = new SessionPageRequest
            {
                UserId = source.UserId,
                Kind = SessionKind.Chain,
                Limit = BranchPageSize,
                MaxBytes = PageBytes,
                After = after,
            };
            var page = await _store.ListAsync(request, cancellationToken);
            keys.AddRange(page.Items.Where(chain => chain.Id.StartsWith(prefix, StringComparison.Ordinal)).Select(chain => chain.Key));
            after = page.Next;
        }
        while (after is not null);
        return keys;
    }

    /// <inheritdoc cref="ISessionStore.EraseAsync"/>
    public async ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken)
    {
        try
        {
            return await CallAsync("erase_user", (userId, cancellationToken),
                static (store, x) => store.EraseAsync(x.userId, x.cancellationToken));
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
        catch (JsonException e)
        {
            var damaged = new StoredDataException(DamageReport.NameOf(session.Id), "What is stored of the session is damaged.", e);
            Report(damaged, session);
            throw damaged;
        }
    }

    private ValueTask ForgetAsync(Guid key) => _tail?.RemoveAsync([key]) ?? default;
}
