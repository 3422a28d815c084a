using System.Security.Cryptography;
using System.Text;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>
/// The keys that are kept outside of the store, and wrap the users' keys in it. The first one wraps; the others, which it has replaced, still unwrap.
/// </summary>
internal sealed class MasterKeys
{
    private const int KeyBytes = 32;
    private const int IdBytes = 8;

    private readonly List<(byte[] Id, byte[] Key)> _keys;

    private MasterKeys(List<(byte[] Id, byte[] Key)> keys) => _keys = keys;

    /// <summary>Reads the master keys that the settings name.</summary>
    /// <exception cref="SettingsException">There are none, or they are not what they should be. Never quotes them.</exception>
    public static MasterKeys Read(EncryptionSettings settings, string baseFolder)
    {
        var file = string.IsNullOrWhiteSpace(settings.KeyFile) ? null : Path.GetFullPath(settings.KeyFile, baseFolder);
        if (string.IsNullOrWhiteSpace(settings.MasterKey) == (file is null))
        {
            throw new SettingsException("encryption.enabled needs a master key: set either encryption.key_file or the environment variable ENCRYPTION__MASTER_KEY. Make one with: openssl rand -base64 32");
        }

        try
        {
            return Parse(file is null ? settings.MasterKey! : File.ReadAllText(file), file is null ? "ENCRYPTION__MASTER_KEY" : $"encryption.key_file: '{file}'");
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
        return [.. id, .. Aead.Seal(master, key, Encoding.UTF8.GetBytes(holder))];
    }

    /// <summary>The key that was wrapped.</summary>
    /// <exception cref="StoreUnavailableException">It was wrapped with a master key that is not here, or for another holder.</exception>
    public byte[] Unwrap(ReadOnlySpan<byte> wrapped, string holder)
    {
        foreach (var (id, master) in _keys)
        {
            if (wrapped.StartsWith(id) && Aead.Open(master, wrapped[IdBytes..], Encoding.UTF8.GetBytes(holder)) is { } key)
            {
                return key;
            }
        }

        throw new StoreUnavailableException("What is stored was encrypted with a master key that this server does not have.", TimeSpan.FromMinutes(1));
    }

    /// <summary>Whether a key was wrapped with the first master key.</summary>
    public bool IsCurrent(ReadOnlySpan<byte> wrapped) => wrapped.StartsWith(_keys[0].Id);

    // White space and commas separate, so that lines of a file and a list in a variable are the same.
    private static MasterKeys Parse(string text, string origin)
    {
        List<(byte[] Id, byte[] Key)> keys = [];
        foreach (var part in text.Split([' ', ',', '\t', '\r', '\n'], StringSplitOptions.RemoveEmptyEntries))
        {
            var key = new byte[KeyBytes];
            if (!Convert.TryFromBase64String(part, key, out var length) || length != KeyBytes)
            {
                throw new SettingsException($"{origin}: key {keys.Count + 1} is not one; allowed: {KeyBytes} bytes as base64, one key to a line, the current one first. Make one with: openssl rand -base64 {KeyBytes}");
            }

            keys.Add((SHA256.HashData([.. "sessions master key"u8, .. key])[..IdBytes], key));
        }

        return keys.Count > 0 ? new MasterKeys(keys) : throw new SettingsException($"{origin}: holds no key. Make one with: openssl rand -base64 {KeyBytes}");
    }
}
