using System.Buffers;
using System.Collections.Frozen;
using System.Security.Claims;
using System.Security.Cryptography;
using System.Text;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>The API keys that this server knows. Of each it has the hash alone.</summary>
/// <remarks>
/// SHA-256 without salt or rounds: a key is 256 random bits, which nobody finds by trying, and every request pays for the hash. What was not made
/// by <see cref="NewKey"/> is no key.
/// </remarks>
internal sealed class ApiKeys
{
    /// <summary>What every key begins with, so that scanners for leaked secrets know one.</summary>
    public const string Prefix = "sess_";

    private const int KeyBytes = 32;
    private const int KeyLength = 5 + 43;

    private static readonly SearchValues<char> Base64UrlCharacters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");

    private readonly FrozenDictionary<string, Entry> _byHash;

    /// <summary>Reads the keys of the settings.</summary>
    /// <exception cref="SettingsException">Something is wrong with one of them.</exception>
    public ApiKeys(ApiKeysSettings keys)
    {
        if (keys.Count == 0)
        {
            throw new SettingsException("auth.keys: is missing; auth.mode: api_key needs at least one. The command 'key' makes one.");
        }

        Dictionary<string, Entry> entries = new(StringComparer.Ordinal);
        foreach (var (name, settings) in keys)
        {
            var hash = ReadHash(name, settings.Hash);
            if (!entries.TryAdd(Convert.ToHexString(hash), new Entry(hash, new ClaimsPrincipal(new CallerIdentity(ReadCaller(name, settings), ApiKeyHandler.SchemeName)))))
            {
                throw new SettingsException($"auth.keys.{name}.hash: is that of another key as well.");
            }
        }

        _byHash = entries.ToFrozenDictionary(StringComparer.Ordinal);
    }

    /// <summary>Makes a key.</summary>
    public static string NewKey() => Prefix + System.Buffers.Text.Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(KeyBytes));

    /// <summary>What is kept of a key.</summary>
    public static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));

    /// <summary>Finds out whose key this is.</summary>
    /// <returns>The caller; <see langword="null"/> where there is no such key.</returns>
    public ClaimsPrincipal? Find(string key)
    {
        if (key.Length != KeyLength || !key.StartsWith(Prefix, StringComparison.Ordinal) || key.AsSpan(Prefix.Length).ContainsAnyExcept(Base64UrlCharacters))
        {
            return null;
        }

        // How long the look-up takes depends on a hash that nobody can aim; what decides is compared in constant time.
        var hash = Hash(key);
        var entry = _byHash.GetValueOrDefault(Convert.ToHexString(hash));
        return CryptographicOperations.FixedTimeEquals(hash, entry?.Hash ?? new byte[hash.Length]) ? entry?.Principal : null;
    }

    private static byte[] ReadHash(string name, string? text)
    {
        if (string.IsNullOrEmpty(text))
        {
            throw new SettingsException($"auth.keys.{name}.hash: is missing; the command 'key' prints it with the key.");
        }

        var hash = new byte[SHA256.HashSizeInBytes];
        return text.Length == 2 * hash.Length && Convert.FromHexString(text, hash, out _, out _) == OperationStatus.Done
            || Convert.TryFromBase64String(text, hash, out var written) && written == hash.Length
            ? hash
            : throw new SettingsException($"auth.keys.{name}.hash: is no SHA-256 (64 hexadecimal digits, or 44 characters of Base64); the command 'key' prints it with the key.");
    }

    private static Caller ReadCaller(string name, ApiKeySettings settings)
    {
        var (isUser, isService, isAdmin) = (settings.Scopes.Contains(Scope.User), settings.Scopes.Contains(Scope.Service), settings.Scopes.Contains(Scope.Admin));
        if (settings.Scopes.Length == 0)
        {
            throw new SettingsException($"auth.keys.{name}.scopes: is missing; allowed: user or service, and admin.");
        }

        if (isUser && isService)
        {
            throw new SettingsException($"auth.keys.{name}.scopes: user and service exclude one another: a key acts for its own user, or for those it names.");
        }

        if (isUser != settings.UserId is not null)
        {
            throw new SettingsException(isUser ? $"auth.keys.{name}.user_id: is missing; the scope user needs it." : $"auth.keys.{name}.user_id: is only for the scope user.");
        }

        if (settings.UserId is not null && !Identifiers.IsUserId(settings.UserId))
        {
            throw new SettingsException($"auth.keys.{name}.user_id: {Identifiers.UserIdRule}.");
        }

        return isUser ? Caller.User(settings.UserId!, isAdmin) : isService ? Caller.Service(name, isAdmin) : Caller.Admin(name);
    }

    private sealed record Entry(byte[] Hash, ClaimsPrincipal Principal);
}
