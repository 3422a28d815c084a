using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// Seals and opens what one user's sessions hold, within one operation. A session may hold texts from before it was the user's: those are
/// under nobody's keys. For one thread at a time.
/// </summary>
internal sealed class SealScope(UserKeyRing ring, string? userId, bool acceptsUnsealed, CancellationToken cancellationToken) : IDisposable
{
    private readonly List<UserKey> _keys = [];
    private readonly List<Guid> _used = [];
    private UserKey? _writing;
    private bool _hasOwn;
    private bool _hasNobodys;
    private SealContext? _context;
    private Guid _contextKey;

    /// <summary>The ids of the keys that were used so far: what was opened with them may be used while they are there.</summary>
    public Guid[] UsedKeys => [.. _used];

    /// <summary>Whether keys are still there.</summary>
    public async ValueTask<bool> HaveAsync(Guid[] ids)
    {
        foreach (var id in ids)
        {
            if (await FindAsync(id) is null)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>What everything is sealed with, once <see cref="ForWritingAsync"/> has got it.</summary>
    public UserKey? WritingKey => _writing;

    /// <summary>A head as it was before it was sealed.</summary>
    /// <exception cref="KeyDestroyedException">It is gone.</exception>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public async ValueTask<Session> OpenAsync(Session session)
    {
        var context = ContextOf(session.Id, session.Key);
        await EnsureKeyAsync(session.Metadata, session.Id);
        await EnsureKeyAsync(session.Summary?.Text.Bytes ?? default, session.Id);
        return session with
        {
            Metadata = session.Metadata.IsEmpty ? default
                : TryOpen(session.Metadata, context.Of(TextField.Metadata), TextField.Metadata)
                    ?? throw Unreadable(session.Metadata, session.Id),
            Summary = session.Summary is { } summary ? Open(summary, context) : null,
            LastError = await OpenErrorAsync(session, context),
            LastTurn = session.LastTurn is { } turn ? await OpenAsync(session.Id, session.Key, session.Kind, turn) : null,
        };
    }

    /// <summary>A turn as it was before it was sealed.</summary>
    /// <inheritdoc cref="OpenAsync(Session)"/>
    public async ValueTask<Turn> OpenAsync(string sessionId, Guid sessionKey, SessionKind kind, Turn turn)
    {
        var context = ContextOf(sessionId, sessionKey);
        var keys = EnsureKeysAsync(turn, sessionId);
        if (!keys.IsCompletedSuccessfully)
        {
            await keys;
        }

        CheckNumber(sessionId, kind, turn);
        return turn with
        {
            Input = Open(turn.Input, TextField.Input, context, turn),
            Output = Open(turn.Output, TextField.Output, context, turn),
            Response = turn.Response.IsEmpty ? default
                : TryOpen(turn.Response, context.Of(TextField.Response, ItemsForm.None, turn.Nonce), TextField.Response)
                    ?? throw Unreadable(turn.Response, sessionId, turn),
        };
    }

    /// <summary>Turns as they were before they were sealed.</summary>
    /// <inheritdoc cref="OpenAsync(Session)"/>
    public async ValueTask<Turn[]> OpenAsync(Session session, IReadOnlyList<Turn> turns)
    {
        var opened = new Turn[turns.Count];
        for (var i = 0; i < opened.Length; i++)
        {
            opened[i] = await OpenAsync(session.Id, session.Key, session.Kind, turns[i]);
        }

        return opened;
    }

    /// <summary>Gets the key that everything is sealed with from now on in this scope.</summary>
    /// <param name="until">When what is written expires, where that is not the usual time from now.</param>
    public async ValueTask<SealScope> ForWritingAsync(DateTimeOffset? until = null)
    {
        if (_writing is null)
        {
            _writing = await ring.ForWritingAsync(userId, until, cancellationToken);
            Use(_writing.Id);
        }

        return this;
    }

    /// <summary>Seals a new session.</summary>
    public NewSession Seal(NewSession session) =>
        session with { Metadata = Seal(session.Metadata, ContextOf(session.Id, session.Key).Of(TextField.Metadata)) };

    /// <summary>Seals the texts of a head.</summary>
    public Session Seal(Session session) => session with
    {
        Metadata = SealMetadata(session.Id, session.Key, session.Metadata),
        Summary = Seal(session.Id, session.Key, session.Summary),
        LastError = session.LastError is { } error ? SealError(session.Id, session.Key, error) : (Utf8Text?)null,
    };

    /// <summary>Seals a client's metadata.</summary>
    public ReadOnlyMemory<byte> SealMetadata(string sessionId, Guid sessionKey, ReadOnlyMemory<byte> metadata) =>
        Seal(metadata, ContextOf(sessionId, sessionKey).Of(TextField.Metadata));

    /// <summary>Seals a summary.</summary>
    public Summary? Seal(string sessionId, Guid sessionKey, Summary? summary)
    {
        if (summary is null)
        {
            return null;
        }

        var context = ContextOf(sessionId, sessionKey).Of(TextField.Summary, summary.CoversTurns);
        return summary with { Text = new Utf8Text(SealedText.Seal(_writing!, summary.Text.Span, context)) };
    }

    /// <summary>Seals why a turn failed.</summary>
    public Utf8Text SealError(string sessionId, Guid sessionKey, Utf8Text error) =>
        new(SealedText.Seal(_writing!, error.Span, ContextOf(sessionId, sessionKey).Of(TextField.Error)));

    /// <summary>Seals a turn.</summary>
    public Turn Seal(string sessionId, Guid sessionKey, Turn turn)
    {
        var context = ContextOf(sessionId, sessionKey);
        return turn with
        {
            Input = Seal(turn.Input, TextField.Input, context, turn.Nonce),
            Output = Seal(turn.Output, TextField.Output, context, turn.Nonce),
            Response = Seal(turn.Response, context.Of(TextField.Response, ItemsForm.None, turn.Nonce)),
        };
    }

    /// <summary>Whether a text is not sealed with the current key, once <see cref="ForWritingAsync"/> has got that.</summary>
    public bool IsOutdated(ReadOnlyMemory<byte> text) =>
        !text.IsEmpty && (SealedText.FormOf(text.Span) != TextForm.Sealed || SealedText.KeyIdOf(text.Span) != _writing!.Id);

    /// <inheritdoc cref="IsOutdated(ReadOnlyMemory{byte})"/>
    public bool IsOutdated(Turn turn) =>
        (!turn.Input.IsNone && (turn.Input.Length == 0 || IsOutdated(turn.Input.Bytes)))
        || (!turn.Output.IsNone && (turn.Output.Length == 0 || IsOutdated(turn.Output.Bytes)))
        || IsOutdated(turn.Response);

    public void Dispose()
    {
        _writing?.Dispose();
        foreach (var key in _keys)
        {
            key.Dispose();
        }
    }

    // A nonce can't be changed, as it is sealed with the texts: so a turn can't be passed off for another one of its session either.
    private static void CheckNumber(string sessionId, SessionKind kind, Turn turn)
    {
        if (kind == SessionKind.Chain ? turn.Nonce.ExpectedNumber > turn.Number : turn.Nonce.ExpectedNumber != turn.Number)
        {
            throw new StoredDataException(DamageReport.NameOf(sessionId),
                $"Turn {turn.Number} is not where it was put: it was moved, or another was removed.");
        }
    }

    private SealContext ContextOf(string sessionId, Guid sessionKey)
    {
        if (_context is null || _contextKey != sessionKey || !string.Equals(_context.SessionId, sessionId, StringComparison.Ordinal))
        {
            (_context, _contextKey) = (new SealContext(sessionId, sessionKey), sessionKey);
        }

        return _context;
    }

    private Items Seal(Items items, TextField field, SealContext context, TurnNonce nonce) =>
        items.IsNone ? items : items.With(SealedText.Seal(_writing!, items.Bytes.Span, context.Of(field, items.Form, nonce)));

    private ReadOnlyMemory<byte> Seal(ReadOnlyMemory<byte> text, ReadOnlySpan<byte> context) =>
        text.IsEmpty ? default : SealedText.Seal(_writing!, text.Span, context);

    private Items Open(Items items, TextField field, SealContext context, Turn turn) => items.IsNone ? items
        : items.With(TryOpen(items.Bytes, context.Of(field, items.Form, turn.Nonce), field)
            ?? throw Unreadable(items.Bytes, context.SessionId, turn));

    private Summary Open(Summary summary, SealContext context) => summary with
    {
        Text = new Utf8Text(TryOpen(summary.Text.Bytes, context.Of(TextField.Summary, summary.CoversTurns), TextField.Summary)
            ?? throw Unreadable(summary.Text.Bytes, context.SessionId)),
    };

    private byte[]? TryOpen(ReadOnlyMemory<byte> text, ReadOnlySpan<byte> context, TextField field)
    {
        switch (SealedText.FormOf(text.Span))
        {
            case TextForm.Sealed:
                return Loaded(SealedText.KeyIdOf(text.Span)) is { } key ? SealedText.Open(key, text.Span, context) : null;
            case TextForm.Former:
                return acceptsUnsealed && FormerCipher.IsEncrypted(text.Span, out var id) && Loaded(id) is { } former
                    ? FormerCipher.Decrypt(former, text.Span, field)
                    : null;
            default:
                return acceptsUnsealed ? text.ToArray() : null;
        }
    }

    private static StoredDataException Unreadable(ReadOnlyMemory<byte> text, string sessionId, Turn? turn = null)
    {
        var what = turn is null ? "Something of the session" : $"Turn {turn.Number} of the session";
        return new(DamageReport.NameOf(sessionId), SealedText.FormOf(text.Span) switch
        {
            TextForm.Sealed => $"{what} can't be decrypted: it was changed, or put in the place of something else.",
            TextForm.Former => $"{what} was encrypted by an earlier version: the command rekey seals it again.",
            _ => $"{what} is not encrypted: it was written before encryption was turned on, and the command rekey seals it; "
                + "or somebody else put it there.",
        });
    }

    // For people who look into what went wrong, and for nothing else: a session is not refused for it, and what can't be opened is not
    // shown. A rekey leaves it as it is.
    private async ValueTask<Utf8Text?> OpenErrorAsync(Session session, SealContext context)
    {
        if (session.LastError is not { } error)
        {
            return null;
        }

        try
        {
            await EnsureKeyAsync(error.Bytes, session.Id);
            return new Utf8Text(TryOpen(error.Bytes, context.Of(TextField.Error), TextField.Error)
                ?? throw Unreadable(error.Bytes, session.Id));
        }
        catch (Exception e) when (e is KeyDestroyedException or StoredDataException)
        {
            return null;
        }
    }

    private async ValueTask EnsureKeysAsync(Turn turn, string sessionId)
    {
        await EnsureKeyAsync(turn.Input.Bytes, sessionId);
        await EnsureKeyAsync(turn.Output.Bytes, sessionId);
        await EnsureKeyAsync(turn.Response, sessionId);
    }

    private ValueTask EnsureKeyAsync(ReadOnlyMemory<byte> text, string sessionId)
    {
        var id = Guid.Empty;
        switch (SealedText.FormOf(text.Span))
        {
            case TextForm.Sealed:
                id = SealedText.KeyIdOf(text.Span);
                break;
            case TextForm.Former when acceptsUnsealed:
                FormerCipher.IsEncrypted(text.Span, out id);
                break;
        }

        return id == Guid.Empty || Loaded(id) is not null ? default : LoadAsync(id, sessionId);
    }

    private async ValueTask LoadAsync(Guid id, string sessionId)
    {
        if (await FindAsync(id) is null)
        {
            throw await ring.WasDestroyedAsync(id, cancellationToken)
                ? new KeyDestroyedException(sessionId)
                : new StoredDataException(DamageReport.NameOf(sessionId), "The key that what is stored was encrypted with is missing.");
        }
    }

    /// <summary>A key that texts of this user's may be sealed with.</summary>
    public async ValueTask<UserKey?> FindAsync(Guid id)
    {
        if (!_hasOwn)
        {
            _hasOwn = true;
            await AddAsync(userId);
        }

        if (Loaded(id) is null && userId is not null && !_hasNobodys)
        {
            _hasNobodys = true;
            await AddAsync(null);
        }

        return Loaded(id);
    }

    private async ValueTask AddAsync(string? holder)
    {
        foreach (var key in await ring.FindAsync(holder, cancellationToken))
        {
            _keys.Add(ring.Use(holder, key));
        }
    }

    private UserKey? Loaded(Guid id)
    {
        foreach (var key in _keys)
        {
            if (key.Id == id)
            {
                Use(id);
                return key;
            }
        }

        return null;
    }

    private void Use(Guid id)
    {
        if (!_used.Contains(id))
        {
            _used.Add(id);
        }
    }
}
