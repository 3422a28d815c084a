using System.Runtime.CompilerServices;
using System.Text;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace Sessions.Api;

/// <summary>
/// A store that keeps what users wrote encrypted: queries, responses, summaries, the users' metadata and error messages, each user's with a key of its own. The
/// store beneath keeps these texts like any others; ids, users, times and counters it has to see.
/// </summary>
/// <remarks>
/// Erasing a user destroys the key: what is left anywhere of that user's texts can't be read again. A session whose key is gone is treated like one that
/// does not exist, and removed when it is met. What was written before encryption was turned on is read as it is.
/// </remarks>
internal sealed class EncryptedSessionStore(ISessionStore store, UserKeyRing ring) : ISessionStore, IAsyncDisposable
{
    private const int FilteredAtOnce = 100;

    public async ValueTask<Session?> CreateAsync(NewSession session, CancellationToken cancellationToken) =>
        await store.CreateAsync(await SealAsync(session, cancellationToken), cancellationToken) is { } created
            ? created with { Metadata = session.Metadata }
            : null;

    public async ValueTask<Session?> GetAsync(string sessionId, Owner owner, CancellationToken cancellationToken) =>
        await store.GetAsync(sessionId, owner, cancellationToken) is { } session ? await Texts(session.UserId, cancellationToken).OpenAsync(session) : null;

    public ValueTask<bool> DeleteAsync(string sessionId, Owner owner, CancellationToken cancellationToken) => store.DeleteAsync(sessionId, owner, cancellationToken);

    public async ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken)
    {
        var texts = Texts(userId, cancellationToken);
        List<Session> items = [];
        var scanned = 0;
        var most = request.Filter is null ? request.Limit : SessionPageRequest.ScanLimit;
        for (var after = request.After; ;)
        {
            // The store beneath can't look into what it keeps: it is filtered here.
            var page = await store.ListAsync(userId, request with { Filter = null, After = after, Limit = Math.Min(request.Filter is null ? most : FilteredAtOnce, most - scanned) }, cancellationToken);
            for (var i = 0; i < page.Items.Count; i++)
            {
                if (await texts.OpenAsync(page.Items[i]) is { } session && (request.Filter?.Invoke(session) ?? true))
                {
                    items.Add(session);
                    if (items.Count == request.Limit && i < page.Items.Count - 1)
                    {
                        return new Page<Session>(items, new PageCursor(session.LastActivityAt.ToMicroseconds(), session.Id));
                    }
                }
            }

            scanned += page.Items.Count;
            if (page.Next is null || items.Count == request.Limit || scanned >= most)
            {
                return new Page<Session>(items, page.Next);
            }

            after = page.Next;
        }
    }

    public async ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken)
    {
        if (await store.ReadHistoryAsync(sessionId, owner, request, cancellationToken) is not { } page
            || await store.GetAsync(sessionId, owner, cancellationToken) is not { } session)
        {
            return null;
        }

        return await Texts(session.UserId, cancellationToken).OpenAsync(page.Items) is { } turns ? page with { Items = turns } : null;
    }

    public async ValueTask<MetadataReplacement> ReplaceMetadataAsync(string sessionId, Owner owner, long expectedVersion, ReadOnlyMemory<byte> metadata, CancellationToken cancellationToken)
    {
        if (await store.GetAsync(sessionId, owner, cancellationToken) is not { } found)
        {
            return default;
        }

        var encrypted = await SealAsync(found.UserId, metadata, TextCipher.Field.Metadata, cancellationToken);
        var (session, replaced) = await store.ReplaceMetadataAsync(sessionId, owner, expectedVersion, encrypted, cancellationToken);
        return session is not null && await Texts(session.UserId, cancellationToken).OpenAsync(session) is { } opened ? new(opened, replaced) : default;
    }

    public async ValueTask<Fork> ForkAsync(string sourceId, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken)
    {
        if (await store.GetAsync(sourceId, owner, cancellationToken) is not { } source)
        {
            return new Fork(ForkStatus.SourceNotFound);
        }

        var fork = await store.ForkAsync(sourceId, owner, afterTurn, await SealAsync(session with { UserId = source.UserId }, cancellationToken), cancellationToken);
        return fork.Session is null ? fork
            : await Texts(fork.Session.UserId, cancellationToken).OpenAsync(fork.Session) is { } opened ? fork with { Session = opened }
            : new Fork(ForkStatus.SourceNotFound);
    }

    public async ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken)
    {
        while (true)
        {
            var start = await store.BeginTurnAsync(request, cancellationToken);
            if (start.Session is not { } session)
            {
                return start;
            }

            try
            {
                var texts = Texts(session.UserId, cancellationToken);
                if (await texts.OpenAsync(session) is { } opened && await texts.OpenAsync(start.History) is { } history
                    && (start.Replay is null ? [] : await texts.OpenAsync([start.Replay])) is { } replay)
                {
                    return new EncryptedTurnStart(start) { Session = opened, History = history, Replay = replay is [var turn] ? turn : null };
                }
            }
            catch
            {
                await store.AbandonTurnAsync(start, CancellationToken.None);
                throw;
            }

            await store.AbandonTurnAsync(start, CancellationToken.None);
            await store.DeleteAsync(session.Id, request.Owner, cancellationToken);
        }
    }

    public async ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken)
    {
        var key = await ring.ForWritingAsync(start.Session?.UserId ?? start.Request.Owner.UserId, cancellationToken);
        return await store.CommitTurnAsync(Inner(start), Seal(key, turn), summary is null ? null : Seal(key, summary), cancellationToken);
    }

    public async ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken)
    {
        // A failure binds no session: it is the session's user who reads it.
        var key = await ring.ForWritingAsync(start.Session is { } session ? session.UserId : start.Request.Owner.UserId, cancellationToken);
        await store.FailTurnAsync(Inner(start), Seal(key, error), cancellationToken);
    }

    public ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken) => store.AbandonTurnAsync(Inner(start), cancellationToken);

    public ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        store.ReserveSessionIdAsync(key, owner, sessionId, cancellationToken);

    public async ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken)
    {
        try
        {
            return await store.EraseUserAsync(userId, cancellationToken);
        }
        finally
        {
            // Also where not everything could be removed: it can't be read any more.
            await ring.DestroyAsync(userId, CancellationToken.None);
        }
    }

    public async ValueTask<int> RemoveExpiredAsync(CancellationToken cancellationToken)
    {
        var removed = await store.RemoveExpiredAsync(cancellationToken);
        await ring.RemoveExpiredAsync(cancellationToken);
        return removed;
    }

    public async IAsyncEnumerable<ArchiveEntry> ExportAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        EncryptedTexts? texts = null;
        await foreach (var entry in store.ExportAsync(cancellationToken))
        {
            if (entry.Session is { } archived)
            {
                texts = Texts(archived.Session.UserId, cancellationToken);
                if (await texts.OpenAsync(archived.Session) is { } session)
                {
                    yield return new(archived with { Session = session }, null);
                }
                else
                {
                    texts = null;
                }
            }
            else if (texts is not null && entry.Turn is { } turn)
            {
                yield return new(null, turn with { Turn = await texts.OpenAsync(turn.Turn) ?? throw new InvalidDataException($"Turn {turn.Turn.Number} is encrypted with a key that its session does not have.") });
            }
        }
    }

    public async ValueTask<ImportStatus> ImportAsync(ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken)
    {
        var imported = session.Session;
        var key = await ring.ForWritingAsync(imported.UserId, cancellationToken);
        return await store.ImportAsync(session with
        {
            Session = imported with
            {
                Metadata = imported.Metadata.IsEmpty ? default(ReadOnlyMemory<byte>) : TextCipher.Encrypt(key, imported.Metadata.Span, TextCipher.Field.Metadata),
                Summary = imported.Summary is { } summary ? Seal(key, summary) : null,
                LastError = imported.LastError is { } error ? Seal(key, error) : null,
            },
        }, SealAsync(key, turns, cancellationToken), cancellationToken);
    }

    public ValueTask<StoreStatistics> GetStatisticsAsync(CancellationToken cancellationToken) => store.GetStatisticsAsync(cancellationToken);

    public ValueTask<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken) => store.CheckHealthAsync(cancellationToken);

    public ValueTask DisposeAsync() => store is IAsyncDisposable disposable ? disposable.DisposeAsync() : default;

    private EncryptedTexts Texts(string? userId, CancellationToken cancellationToken) => new(ring, userId, cancellationToken);

    private static TurnStart Inner(TurnStart start) => start is EncryptedTurnStart encrypted ? encrypted.Inner : start;

    private async ValueTask<NewSession> SealAsync(NewSession session, CancellationToken cancellationToken) =>
        session with { Metadata = await SealAsync(session.UserId, session.Metadata, TextCipher.Field.Metadata, cancellationToken) };

    private async ValueTask<ReadOnlyMemory<byte>> SealAsync(string? userId, ReadOnlyMemory<byte> text, TextCipher.Field field, CancellationToken cancellationToken) =>
        text.IsEmpty ? default(ReadOnlyMemory<byte>) : TextCipher.Encrypt(await ring.ForWritingAsync(userId, cancellationToken), text.Span, field);

    private static async IAsyncEnumerable<ArchivedTurn> SealAsync(UserKey key, IAsyncEnumerable<ArchivedTurn> turns, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var turn in turns.WithCancellation(cancellationToken))
        {
            yield return turn with { Turn = Seal(key, turn.Turn) };
        }
    }

    private static Turn Seal(UserKey key, Turn turn) => turn with
    {
        Query = new Utf8Text(TextCipher.Encrypt(key, turn.Query.Span, TextCipher.Field.Query)),
        Response = new Utf8Text(TextCipher.Encrypt(key, turn.Response.Span, TextCipher.Field.Response)),
    };

    private static Summary Seal(UserKey key, Summary summary) => summary with { Text = new Utf8Text(TextCipher.Encrypt(key, summary.Text.Span, TextCipher.Field.Summary)) };

    private static string Seal(UserKey key, string error) => Encoding.ASCII.GetString(TextCipher.Encrypt(key, Encoding.UTF8.GetBytes(error), TextCipher.Field.Error));

    // The start that goes back to the store beneath, and what clients and agents see of it.
    private sealed class EncryptedTurnStart(TurnStart inner) : TurnStart(inner.Request, inner.Status)
    {
        public TurnStart Inner { get; } = inner;
    }
}
