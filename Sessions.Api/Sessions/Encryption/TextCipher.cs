using System.Buffers.Text;

namespace Sessions.Api;

/// <summary>
/// Encrypted texts as a store keeps them: a mark, and in base64 the key's id and what <see cref="Aead"/> made. Plain characters, so that a store can keep
/// them wherever it keeps texts.
/// </summary>
internal static class TextCipher
{
    private const int IdBytes = 16;

    // What is not marked was written before encryption was turned on. The control character keeps what people type from looking like it.
    private static ReadOnlySpan<byte> Mark => "\u0001E1"u8;

    /// <summary>Whether a text is encrypted, and with which key.</summary>
    public static bool IsEncrypted(ReadOnlySpan<byte> text, out Guid keyId)
    {
        Span<byte> id = stackalloc byte[18];
        keyId = default;
        if (text.Length < Mark.Length + 24 || !text.StartsWith(Mark) || Base64Url.DecodeFromUtf8(text.Slice(Mark.Length, 24), id, out _, out _) != System.Buffers.OperationStatus.Done)
        {
            return false;
        }

        keyId = new Guid(id[..IdBytes]);
        return true;
    }

    /// <summary>Encrypts a text.</summary>
    /// <param name="key">The key.</param>
    /// <param name="text">The text in UTF-8.</param>
    /// <param name="field">Which of the texts of a session or turn it is: it can't be passed off as another one.</param>
    public static byte[] Encrypt(UserKey key, ReadOnlySpan<byte> text, Field field)
    {
        byte[] cipher = [.. key.Id.ToByteArray(), .. Aead.Seal(key.Key, text, [(byte)field])];
        var encoded = new byte[Mark.Length + Base64Url.GetEncodedLength(cipher.Length)];
        Mark.CopyTo(encoded);
        Base64Url.EncodeToUtf8(cipher, encoded.AsSpan(Mark.Length));
        return encoded;
    }

    /// <summary>Decrypts a text that <see cref="IsEncrypted"/> with this key.</summary>
    /// <returns><see langword="null"/>: it is not what was encrypted.</returns>
    public static byte[]? Decrypt(UserKey key, ReadOnlySpan<byte> text, Field field)
    {
        var encoded = text[Mark.Length..];
        return Base64Url.IsValid(encoded) && Base64Url.DecodeFromUtf8(encoded) is { Length: >= IdBytes } cipher
            ? Aead.Open(key.Key, cipher.AsSpan(IdBytes), [(byte)field])
            : null;
    }

    /// <summary>What is encrypted.</summary>
    public enum Field : byte
    {
        Query = (byte)'q',
        Response = (byte)'r',
        Metadata = (byte)'m',
        Summary = (byte)'s',
        Error = (byte)'e',
    }
}
