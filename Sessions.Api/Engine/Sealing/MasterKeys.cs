using System.Security.Cryptography;
using System.Text;
using Sessions.Api.Storage;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// The keys that are kept outside of the store, and wrap the users' keys in it. The first one wraps; the others, which it has replaced,
/// still unwrap.
/// </summary>
internal sealed class MasterKeys
{
    private const int IdBytes = 8;

    private readonly List<(byte[] Id, byte[] Key)> _keys;

    private MasterKeys(List<(byte[] Id, byte[] Key)> keys) => _keys = keys;

    /// <summary>Reads the master keys out of a file, or as they stand in a variable.</summary>
    /// <param name="keyFile"><c>encryption.key_file</c>, if that is set.</param>
    /// <param name="masterKey"><c>encryption.master_key</c>, if that is set.</param>
    /// <param name="baseFolder">Where a relative path starts.</param>
    /// <exception cref="SettingsException">There are none, or they are not what they should be. Never quotes them.</exception>
    public static MasterKeys Read(string? keyFile, string? masterKey, string baseFolder)
    {
        var file = string.IsNullOrWhiteSpace(keyFile) ? null : Path.GetFullPath(keyFile, baseFolder);
        try
        {
            return file is null
                ? Parse(masterKey!, "ENCRYPTION__MASTER_KEY")
                : Parse(File.ReadAllText(file), $"encryption.key_file: '{file}'");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SettingsException($"encryption.key_file: '{file}' can't be read: {e.Message}");
        }
    }

    /// <summary>Wraps a key for its holder: for another one it can't be unwrapped.</summary>
    public byte[] Wrap(ReadOnlySpan<byte> key, string holder)
    {
        var (id, master) = _keys[0];
        var wrapped = new byte[IdBytes + Aead.Overhead + key.Length];
        id.CopyTo(wrapped, 0);
        using var cipher = Aead.Cipher(master);
        Aead.Seal(cipher, key, Encoding.UTF8.GetBytes(holder), wrapped.AsSpan(IdBytes));
        return wrapped;
    }

    /// <summary>The key that was wrapped.</summary>
    /// <param name="wrapped">The wrapped key.</param>
    /// <param name="holder">Whose it is.</param>
    /// <param name="keyId">Its id, for the message.</param>
    /// <exception cref="StoredDataException">It was wrapped with a master key that is not here, or for another holder.</exception>
    public byte[] Unwrap(ReadOnlySpan<byte> wrapped, string holder, Guid keyId)
    {
        foreach (var (id, master) in _keys)
        {
            if (wrapped.StartsWith(id))
            {
                using var cipher = Aead.Cipher(master);
                if (Aead.Open(cipher, wrapped[IdBytes..], Encoding.UTF8.GetBytes(holder)) is { } key)
                {
                    return key;
                }
            }
        }

        throw new StoredDataException($"key {keyId:N}", "What is stored was encrypted with a master key that this server does not have.");
    }

    /// <summary>Whether a key was wrapped with the first master key.</summary>
    public bool IsCurrent(ReadOnlySpan<byte> wrapped) => wrapped.StartsWith(_keys[0].Id);

    // White space and commas separate, so that lines of a file and a list in a variable are the same.
    private static MasterKeys Parse(string text, string origin)
    {
        List<(byte[] Id, byte[] Key)> keys = [];
        foreach (var part in text.Split([' ', ',', '\t', '\r', '\n'], StringSplitOptions.RemoveEmptyEntries))
        {
            var key = new byte[Aead.KeyBytes];
            if (!Convert.TryFromBase64String(part, key, out var length) || length != Aead.KeyBytes)
            {
                throw new SettingsException(
                    $"{origin}: key {keys.Count + 1} is not one; allowed: {Aead.KeyBytes} bytes as base64, one key to a line, "
                    + $"the current one first. Make one with: openssl rand -base64 {Aead.KeyBytes}");
            }

            keys.Add((SHA256.HashData([.. "sessions master key"u8, .. key])[..IdBytes], key));
        }

        return keys.Count > 0 ? new MasterKeys(keys)
            : throw new SettingsException($"{origin}: holds no key. Make one with: openssl rand -base64 {Aead.KeyBytes}");
    }
}
