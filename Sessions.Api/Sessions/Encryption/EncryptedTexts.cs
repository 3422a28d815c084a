using System.Text;

namespace Sessions.Api;

/// <summary>Decrypts what one user's sessions hold, within one operation. A session may hold texts from before it was the user's: those are under nobody's key.</summary>
internal sealed class EncryptedTexts(UserKeyRing ring, string? userId, CancellationToken cancellationToken)
{
    private UserKey? _own;
    private UserKey? _nobodys;
    private bool _hasOwn;
    private bool _hasNobodys;

    /// <summary>A session as it was before it was encrypted.</summary>
    /// <returns><see langword="null"/>: its key was destroyed, and it with it.</returns>
    public async ValueTask<Session?> OpenAsync(Session session)
    {
        if (await OpenAsync(session.Metadata, TextCipher.Field.Metadata) is not { } metadata)
        {
            return null;
        }

        Turn? last = null;
        if (session.LastTurn is { } turn && (last = await OpenAsync(turn)) is null)
        {
            return null;
        }

        var summary = session.Summary;
        if (summary is not null)
        {
            if (await OpenAsync(summary.Text.Bytes, TextCipher.Field.Summary) is not { } text)
            {
                return null;
            }

            summary = summary with { Text = new Utf8Text(text) };
        }

        return session with { Metadata = metadata, LastTurn = last, Summary = summary, LastError = await OpenAsync(session.LastError) };
    }

    /// <inheritdoc cref="OpenAsync(Session)"/>
    public async ValueTask<Turn?> OpenAsync(Turn turn) =>
        await OpenAsync(turn.Query.Bytes, TextCipher.Field.Query) is { } query && await OpenAsync(turn.Response.Bytes, TextCipher.Field.Response) is { } response
            ? turn with { Query = new Utf8Text(query), Response = new Utf8Text(response) }
            : null;

    /// <summary>All of these turns.</summary>
    /// <returns><see langword="null"/>: a key was destroyed.</returns>
    public async ValueTask<Turn[]?> OpenAsync(IReadOnlyList<Turn> turns)
    {
        var opened = new Turn[turns.Count];
        for (var i = 0; i < opened.Length; i++)
        {
            if (await OpenAsync(turns[i]) is not { } turn)
            {
                return null;
            }

            opened[i] = turn;
        }

        return opened;
    }

    // A turn that another user began before the session was this one's may have left its error: then it stays unread.
    private async ValueTask<string?> OpenAsync(string? error) =>
        error is not null && await OpenAsync(Encoding.UTF8.GetBytes(error), TextCipher.Field.Error) is { } text ? Encoding.UTF8.GetString(text.Span) : null;

    private async ValueTask<ReadOnlyMemory<byte>?> OpenAsync(ReadOnlyMemory<byte> text, TextCipher.Field field)
    {
        if (!TextCipher.IsEncrypted(text.Span, out var keyId))
        {
            return text;
        }

        if (!_hasOwn)
        {
            (_own, _hasOwn) = (await ring.FindAsync(userId, cancellationToken), true);
        }

        var key = _own?.Id == keyId ? _own : null;
        if (key is null && userId is not null)
        {
            if (!_hasNobodys)
            {
                (_nobodys, _hasNobodys) = (await ring.FindAsync(null, cancellationToken), true);
            }

            key = _nobodys?.Id == keyId ? _nobodys : null;
        }

        return key is not null && TextCipher.Decrypt(key, text.Span, field) is { } plain ? plain : (ReadOnlyMemory<byte>?)null;
    }
}
