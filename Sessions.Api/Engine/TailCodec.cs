using System.Buffers.Binary;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>
/// The last turns of a session as bytes, for a second level outside of the process: which state of the session they belong to, and behind
/// it the turns as <see cref="TurnCodec"/> has them.
/// With encryption the turns are sealed as one. Whatever is no such entry from its first byte to its last is refused.
/// </summary>
internal static class TailCodec
{
    // Counted up when the form changes: entries of another version are refused, and so are as if there were none.
    private const byte Plain = 1;
    private const byte Sealed = 2;
    private const int HeaderBytes = 1 + 16 + (2 * sizeof(long)) + sizeof(int);

    /// <summary>Writes an entry.</summary>
    /// <param name="tail">What is remembered.</param>
    /// <param name="key">What it is sealed with, if there is encryption.</param>
    public static byte[] Write(Tail tail, UserKey? key)
    {
        var texts = new MemoryStream();
        Span<byte> number = stackalloc byte[sizeof(int)];
        foreach (var turn in tail.Turns)
        {
            BinaryPrimitives.WriteInt32LittleEndian(number, turn.Number);
            texts.Write(number);
            texts.Write(TurnCodec.Pack(turn));
        }

        var header = Header(tail.Session, key is null ? Plain : Sealed);
        var body = texts.GetBuffer().AsSpan(0, (int)texts.Length);
        return key is null ? [.. header, .. body] : [.. header, .. SealedText.Seal(key, body, header)];
    }

    /// <summary>Reads the turns of an entry that was written at the same state of the session.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="session">The session as it is.</param>
    /// <param name="scope">The keys of its user, if there is encryption.</param>
    /// <returns><see langword="null"/>: it was written at another state, or can't be opened with the user's keys.</returns>
    /// <exception cref="InvalidDataException">It is no entry.</exception>
    public static async ValueTask<IReadOnlyList<Turn>?> ReadAsync(ReadOnlyMemory<byte> entry, Session session, SealScope? scope)
    {
        if (entry.Length < HeaderBytes || entry.Span[0] is not (Plain or Sealed))
        {
            throw new InvalidDataException("It is no entry of this version.");
        }

        // Where there is encryption, nothing is taken that is not sealed.
        var header = entry[..HeaderBytes];
        if (!header.Span.SequenceEqual(Header(session, scope is null ? Plain : Sealed)))
        {
            return null;
        }

        var body = entry[HeaderBytes..];
        if (scope is not null)
        {
            if (SealedText.FormOf(body.Span) != TextForm.Sealed || await scope.FindAsync(SealedText.KeyIdOf(body.Span)) is not { } key)
            {
                return null;
            }

            body = SealedText.Open(key, body.Span, header.Span) ?? throw new InvalidDataException("It was changed.");
        }

        List<Turn> turns = [];
        while (!body.IsEmpty)
        {
            var number = body.Length > sizeof(int) ? BinaryPrimitives.ReadInt32LittleEndian(body.Span)
                : throw new InvalidDataException("It ends too early.");
            var turn = TurnCodec.Unpack(body[sizeof(int)..], number, names: null, out var length);
            turns.Add(StoredJson.IsReadable(turn) ? turn : throw new InvalidDataException("It has a turn that can't be read."));
            body = body[(sizeof(int) + length)..];
        }

        return turns.Count > 0 && turns[^1].Number == session.TurnCount ? turns
            : throw new InvalidDataException("It does not end with the last turn.");
    }

    private static byte[] Header(Session session, byte version)
    {
        var header = new byte[HeaderBytes];
        header[0] = version;
        session.Key.TryWriteBytes(header.AsSpan(1));
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(17), session.Revision.Version);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(25), session.Revision.Tag);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(33), session.Rewrites);
        return header;
    }
}
