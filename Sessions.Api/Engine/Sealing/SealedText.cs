using System.Security.Cryptography;

namespace Sessions.Api.Engine.Sealing;

/// <summary>How a text lies in the store, as its first bytes tell.</summary>
internal enum TextForm
{
    /// <summary>Sealed by this version.</summary>
    Sealed,

    /// <summary>Encrypted by the version before, which tied a text to its field alone.</summary>
    Former,

    /// <summary>Not encrypted.</summary>
    Plain,
}

/// <summary>
/// A text as it is sealed: a mark, the id of the key, and what AES-256-GCM (the platform's own) makes: 12 random bytes of nonce, 16 of
/// tag, the ciphertext. The mark is a byte that
/// no UTF-8 holds, so that what was not sealed is never taken for it.
/// </summary>
internal static class SealedText
{
    /// <summary>How much longer a text is when it is sealed.</summary>
    public const int Overhead = HeaderBytes + Aead.Overhead;

    private const byte Mark = 0xFE;
    private const int IdBytes = 16;
    private const int HeaderBytes = 1 + IdBytes;

    /// <summary>How a text lies in the store.</summary>
    public static TextForm FormOf(ReadOnlySpan<byte> text) =>
        text.Length >= Overhead && text[0] == Mark ? TextForm.Sealed
        : FormerCipher.IsEncrypted(text, out _) ? TextForm.Former
        : TextForm.Plain;

    /// <summary>The id of the key that a text was sealed with.</summary>
    public static Guid KeyIdOf(ReadOnlySpan<byte> text) => new(text.Slice(1, IdBytes));

    /// <summary>Seals.</summary>
    /// <param name="key">The key.</param>
    /// <param name="plain">What to seal.</param>
    /// <param name="context">Where it belongs: it opens only there.</param>
    public static byte[] Seal(UserKey key, ReadOnlySpan<byte> plain, ReadOnlySpan<byte> context)
    {
        var text = new byte[Overhead + plain.Length];
        text[0] = Mark;
        key.Id.TryWriteBytes(text.AsSpan(1));
        Aead.Seal(key.Cipher, plain, context, text.AsSpan(HeaderBytes));
        return text;
    }

    /// <summary>Opens what <see cref="Seal"/> made.</summary>
    /// <returns><see langword="null"/>: another key, another context, or not what was sealed.</returns>
    public static byte[]? Open(UserKey key, ReadOnlySpan<byte> text, ReadOnlySpan<byte> context) =>
        Aead.Open(key.Cipher, text[HeaderBytes..], context);
}

/// <summary>AES-256-GCM: 12 random bytes of nonce, 16 of tag, the ciphertext.</summary>
internal static class Aead
{
    /// <summary>How many bytes a key has.</summary>
    public const int KeyBytes = 32;

    /// <summary>How much longer the ciphertext is.</summary>
    public const int Overhead = NonceBytes + TagBytes;

    private const int NonceBytes = 12;
    private const int TagBytes = 16;

    /// <summary>Makes a cipher of a key. For one thread at a time.</summary>
    public static AesGcm Cipher(ReadOnlySpan<byte> key) => new(key, TagBytes);

    /// <summary>Encrypts.</summary>
    /// <param name="cipher">The key.</param>
    /// <param name="plain">What to encrypt.</param>
    /// <param name="context">What it belongs to: it opens only with the same.</param>
    /// <param name="result">Where it goes: <see cref="Overhead"/> bytes more than the text has.</param>
    public static void Seal(AesGcm cipher, ReadOnlySpan<byte> plain, ReadOnlySpan<byte> context, Span<byte> result)
    {
        var nonce = result[..NonceBytes];
        RandomNumberGenerator.Fill(nonce);
        cipher.Encrypt(nonce, plain, result[Overhead..], result.Slice(NonceBytes, TagBytes), context);
    }

    /// <summary>Decrypts.</summary>
    /// <returns><see langword="null"/>: another key, another context, or not what was encrypted.</returns>
    public static byte[]? Open(AesGcm cipher, ReadOnlySpan<byte> sealedBytes, ReadOnlySpan<byte> context)
    {
        if (sealedBytes.Length < Overhead)
        {
            return null;
        }

        var plain = new byte[sealedBytes.Length - Overhead];
        try
        {
            cipher.Decrypt(sealedBytes[..NonceBytes], sealedBytes[Overhead..], sealedBytes.Slice(NonceBytes, TagBytes), plain, context);
            return plain;
        }
        catch (AuthenticationTagMismatchException)
        {
            return null;
        }
    }
}
