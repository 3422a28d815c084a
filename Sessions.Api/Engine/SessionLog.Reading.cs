using Sessions.Api.Domain;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <content>Reading heads, turns and lists.</content>
internal sealed partial class SessionLog
{
    // How many sessions are looked at for one page of a filtered list, and how many of them at a time.
    private const int ScanLimit = 1000;
    private const int ScannedAtOnce = 100;

    // Pages of turns that are read for something else than to be answered.
    private const int PageTurns = 100;
    private const int PageBytes = 1024 * 1024;

    /// <summary>The session that an id names: by its own id, or by <c>conv_</c> and its key, as <c>/v1</c> shows it.</summary>
    /// <remarks>
    /// Whoever's it is: one that the caller may not have is refused like any other, not made anew under that name. Where there is neither,
    /// the id is what a new session gets.
    /// </remarks>
    public ValueTask<SessionRef> RefOfAsync(string id, CancellationToken cancellationToken) =>
        ConversationId.TryParse(id, out var key) ? RefOfAsync(id, key, cancellationToken) : new(SessionRef.ById(id));

    private async ValueTask<SessionRef> RefOfAsync(string id, Guid key, CancellationToken cancellationToken)
    {
        try
        {
            var request = new OpenRequest { Session = SessionRef.ByKey(key), Owner = Owner.Anyone };
            return SessionRef.ById(
                (await _store.OpenAsync(request, cancellationToken)).Session is { Kind: not SessionKind.Chain } session ? session.Id : id);
        }
        catch (StoredDataException)
        {
            // It is there, and told as damaged by whatever reads it; it can be deleted all the same.
            return SessionRef.ByKey(key);
        }
    }

    /// <summary>Reads a session's head.</summary>
    public async ValueTask<Session?> GetAsync(SessionRef session, Owner owner, CancellationToken cancellationToken) =>
        (await OpenAsync("get", new OpenRequest { Session = session, Owner = owner }, cancellationToken)).Session;

    /// <inheritdoc cref="ISessionStore.ReadTurnsAsync"/>
    public async ValueTask<TurnPage?> ReadTurnsAsync(
        SessionRef session, Owner owner, TurnPageRequest request, CancellationToken cancellationToken)
    {
        var page = await ReadSealedAsync(session, owner, request, cancellationToken);
        return page is null ? null : await UnsealAsync(page, cancellationToken);
    }

    /// <summary>Finds the turn that ids under <c>/v1</c> name.</summary>
    public async ValueTask<(Session Session, Turn Turn)?> FindTurnAsync(
        Guid key, TurnNonce nonce, Owner owner, CancellationToken cancellationToken)
    {
        var session = SessionRef.ByKey(key);
        if (_tail?.Find(session) is { } tail && tail.Turns.FirstOrDefault(turn => turn.Nonce == nonce) is { } remembered)
        {
            // Only where the store says that nothing has changed since.
            var opening = await OpenAsync("get", new OpenRequest { Session = session, Owner = owner }, cancellationToken);
            if (opening.Session is null)
            {
                return null;
            }

            if (opening.Session.Revision == tail.Session.Revision && opening.Opened.Status == OpenStatus.Unchanged)
            {
                return (opening.Session, remembered);
            }
        }

        // A turn never has a lower number than it was to get, and a higher one only where others were committed beside it: mostly it is
        // the first one looked at.
        var limit = 1;
        for (int? after = Math.Max(0, nonce.ExpectedNumber - 1); after is not null; limit = PageTurns)
        {
            var request = new TurnPageRequest { Limit = limit, MaxBytes = PageBytes, After = after, AllBranches = true };
            if (await ReadSealedAsync(session, owner, request, cancellationToken) is not { } page)
            {
                return null;
            }

            if (page.Turns.FirstOrDefault(turn => turn.Nonce == nonce) is { } found)
            {
                return await UnsealAsync(page with { Turns = [found] }, cancellationToken) is { } opened
                    ? (opened.Session, opened.Turns[0]) : null;
            }

            after = page.Session.Kind == SessionKind.Chain ? page.Next : null;
        }

        return null;
    }

    /// <summary>
    /// The turns with the calls whose outputs are among some items, oldest first: of those that a turn began with, and where they are not
    /// all there, of those before these. With them those that have outputs of their other calls.
    /// </summary>
    public async ValueTask<IReadOnlyList<Turn>> FindCallsAsync(
        BegunTurn begun, Items input, Items output, CancellationToken cancellationToken)
    {
        if (input.Form != ItemsForm.Json && output.Form != ItemsForm.Json)
        {
            return [];
        }

        var search = new ToolCalls.Search(input, output);
        for (var i = begun.History.Count - 1; i >= 0 && !search.IsDone; i--)
        {
            search.LookAt(begun.History[i]);
        }

        for (var tip = begun.History.Count > 0 ? begun.History[0].Parent : begun.Parent; tip > 0 && !search.IsDone;)
        {
            var request = new TurnPageRequest { Limit = PageTurns, MaxBytes = PageBytes, Tip = tip, Descending = true };
            var page = await ReadTurnsAsync(SessionRef.ByKey(begun.SourceKey), begun.Request.Owner, request, cancellationToken);
            if (page is not { Turns.Count: > 0 })
            {
                break;
            }

            foreach (var turn in page.Turns)
            {
                search.LookAt(turn);
            }

            tip = page.Turns[^1].Parent;
        }

        return search.Found.Count == 0 ? [] : ToolCalls.WithOutputs(search.Found, begun.History);
    }

    /// <summary>
    /// Reads one page of sessions; of a filtered one no more than 1,000 are looked at, and the page then tells where to go on.
    /// </summary>
    public async ValueTask<Page<Session>> ListAsync(
        SessionPageRequest request, Func<Session, bool>? filter, CancellationToken cancellationToken)
    {
        if (filter is null && _sealer is null && !_mayBeDamaged)
        {
            // As the store has it.
            return await CallAsync("list", (request, cancellationToken),
                static (store, x) => store.ListAsync(x.request, x.cancellationToken));
        }

        List<Session> sessions = [];
        var (scanned, bytes) = (0, 0L);
        using var reader = new ListReader(this, cancellationToken);
        while (true)
        {
            // The store can't look into what it keeps: it is filtered here.
            var limit = filter is null ? request.Limit - sessions.Count : Math.Min(ScannedAtOnce, ScanLimit - scanned);
            var page = await CallAsync("list", (Request: request with { Limit = limit }, cancellationToken),
                static (store, x) => store.ListAsync(x.Request, x.cancellationToken));
            for (var i = 0; i < page.Items.Count; i++)
            {
                if (await reader.OpenAsync(page.Items[i]) is not { } session || !(filter?.Invoke(session) ?? true))
                {
                    continue;
                }

                bytes += session.Metadata.Length + (session.LastTurn?.Bytes ?? 0);
                if (bytes > request.MaxBytes && sessions.Count > 0)
                {
                    // The next page starts behind the last one that went in.
                    return new Page<Session>(sessions, CursorOf(sessions[^1]));
                }

                sessions.Add(session);
                if (sessions.Count == request.Limit && (i < page.Items.Count - 1 || page.Next is not null))
                {
                    return new Page<Session>(sessions, CursorOf(session));
                }
            }

            scanned += page.Items.Count;
            if (page.Next is null || filter is null || scanned >= ScanLimit)
            {
                return new Page<Session>(sessions, page.Next);
            }

            request = request with { After = page.Next };
        }
    }

    private static PageCursor CursorOf(Session session) => new(session.LastActivityAt.ToMicroseconds(), session.Id);

    // Null: its keys were destroyed, and the session with them.
    private async ValueTask<TurnPage?> UnsealAsync(TurnPage page, CancellationToken cancellationToken)
    {
        try
        {
            using var scope = _sealer?.For(page.Session.UserId, cancellationToken);
            var turns = await ReadableAsync(scope, page.Session, page.Turns);
            return page with { Session = await ReadableAsync(scope, page.Session), Turns = turns };
        }
        catch (KeyDestroyedException)
        {
            await _store.DeleteAsync(SessionRef.ByKey(page.Session.Key), Owner.Anyone, cancellationToken);
            return null;
        }
    }

    private ValueTask<TurnPage?> ReadSealedAsync(
        SessionRef session, Owner owner, TurnPageRequest request, CancellationToken cancellationToken) =>
        CallAsync("read_history", (session, owner, request, cancellationToken),
            static (store, x) => store.ReadTurnsAsync(x.session, x.owner, x.request, x.cancellationToken));

    // A list goes past what can't be read. Sessions of one user are opened with its keys read once.
    private sealed class ListReader(SessionLog log, CancellationToken cancellationToken) : IDisposable
    {
        private SealScope? _scope;
        private string? _userId;

        public async ValueTask<Session?> OpenAsync(Session session)
        {
            if (log._sealer is { } sealer && (_scope is null || !string.Equals(_userId, session.UserId, StringComparison.Ordinal)))
            {
                _scope?.Dispose();
                (_scope, _userId) = (sealer.For(session.UserId, cancellationToken), session.UserId);
            }

            try
            {
                return await log.ReadableAsync(_scope, session);
            }
            catch (StoredDataException)
            {
                return null;
            }
            catch (KeyDestroyedException)
            {
                await log._store.DeleteAsync(SessionRef.ByKey(session.Key), Owner.Anyone, cancellationToken);
                return null;
            }
        }

        public void Dispose() => _scope?.Dispose();
    }
}
