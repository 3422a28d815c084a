using System.Buffers;
using System.Buffers.Text;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// Encrypted texts of the version before: a mark, and in base64 the key's id and what <see cref="Aead"/> made, tied to nothing but the
/// kind of text. They are read only to be
/// sealed anew, by <c>rekey</c>.
/// </summary>
internal static class FormerCipher
{
    private const int IdBytes = 16;
    private const int IdCharacters = 24;

    private static ReadOnlySpan<byte> Mark => "\u0001E1"u8;

    /// <summary>Whether a text was encrypted by that version, and with which key.</summary>
    public static bool IsEncrypted(ReadOnlySpan<byte> text, out Guid keyId)
    {
        Span<byte> id = stackalloc byte[18];
        keyId = default;
        if (text.Length < Mark.Length + IdCharacters || !text.StartsWith(Mark)
            || Base64Url.DecodeFromUtf8(text.Slice(Mark.Length, IdCharacters), id, out _, out _) != OperationStatus.Done)
        {
            return false;
        }

        keyId = new Guid(id[..IdBytes]);
        return true;
    }

    /// <summary>Decrypts a text that <see cref="IsEncrypted"/> with this key.</summary>
    /// <returns><see langword="null"/>: it is not what was encrypted.</returns>
    public static byte[]? Decrypt(UserKey key, ReadOnlySpan<byte> text, TextField field)
    {
        var encoded = text[Mark.Length..];
        return Base64Url.IsValid(encoded) && Base64Url.DecodeFromUtf8(encoded) is { Length: >= IdBytes } cipher
            ? Aead.Open(key.Cipher, cipher.AsSpan(IdBytes), [MarkOf(field)])
            : null;
    }

    private static byte MarkOf(TextField field) => field switch
    {
        TextField.Input => (byte)'q',
        TextField.Output => (byte)'r',
        TextField.Metadata => (byte)'m',
        TextField.Summary => (byte)'s',
        TextField.Error => (byte)'e',
        _ => 0,
    };
}
