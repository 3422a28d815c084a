using System.Buffers.Binary;
using System.Text;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Sealing;

/// <summary>Which text of a session or a turn.</summary>
internal enum TextField : byte
{
    Input = (byte)'i',
    Output = (byte)'o',
    Response = (byte)'r',
    Metadata = (byte)'m',
    Summary = (byte)'s',
    Error = (byte)'e',
}

/// <summary>
/// Where a sealed text belongs: its session's id and key, its turn's nonce, and its field. It is the associated data of the encryption, so
/// that no ciphertext can be moved to another
/// session, turn or field, nor to a later session with the same id. For one thread at a time.
/// </summary>
internal sealed class SealContext
{
    private const byte Version = 1;
    private const int NonceAt = 3;
    private const int KeyAt = NonceAt + sizeof(ulong);
    private const int IdAt = KeyAt + 16;

    private readonly byte[] _bytes;

    public SealContext(string sessionId, Guid sessionKey)
    {
        SessionId = sessionId;
        _bytes = new byte[IdAt + Encoding.UTF8.GetByteCount(sessionId)];
        _bytes[0] = Version;
        sessionKey.TryWriteBytes(_bytes.AsSpan(KeyAt));
        Encoding.UTF8.GetBytes(sessionId, _bytes.AsSpan(IdAt));
    }

    /// <summary>The session.</summary>
    public string SessionId { get; }

    /// <summary>Of a text of the head. It holds until the next call.</summary>
    /// <param name="field">Which text.</param>
    /// <param name="coversTurns">What a summary covers, so that it can't be passed off for more.</param>
    public ReadOnlySpan<byte> Of(TextField field, int coversTurns = 0) => Of(field, ItemsForm.None, (ulong)coversTurns);

    /// <summary>Of a text of a turn. It holds until the next call.</summary>
    public ReadOnlySpan<byte> Of(TextField field, ItemsForm form, TurnNonce nonce) => Of(field, form, nonce.Value);

    private ReadOnlySpan<byte> Of(TextField field, ItemsForm form, ulong number)
    {
        _bytes[1] = (byte)field;
        _bytes[2] = (byte)form;
        BinaryPrimitives.WriteUInt64BigEndian(_bytes.AsSpan(NonceAt), number);
        return _bytes;
    }
}
