using System.Buffers;
using System.Collections.Frozen;
using System.Security.Claims;
using System.Security.Cryptography;
using System.Text;

namespace Sessions.Api.Http.Auth;

/// <summary>The API keys that this server knows. Of each it has the hash alone.</summary>
/// <remarks>
/// SHA-256 without salt or rounds: a key is 256 random bits, which nobody finds by trying, and every request pays for the hash. What was
/// not made by <see cref="NewKey"/> is no key.
/// </remarks>
internal sealed class ApiKeys
{
    /// <summary>What every key begins with, so that scanners for leaked secrets know one.</summary>
    public const string Prefix = "sess_";

    private const int KeyBytes = 32;
    private const int KeyLength = 5 + 43;

    private static readonly SearchValues<char> Base64UrlCharacters =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");

    private readonly FrozenDictionary<string, Entry> _byHash;

    /// <summary>Takes the keys of the settings, which have been checked.</summary>
    public ApiKeys(ApiKeysSettings keys)
    {
        Dictionary<string, Entry> entries = new(StringComparer.Ordinal);
        foreach (var (name, settings) in keys)
        {
            var hash = settings.ReadHash()!;
            entries.Add(Convert.ToHexString(hash),
                new Entry(hash, new ClaimsPrincipal(new CallerIdentity(ReadCaller(name, settings), ApiKeyHandler.SchemeName))));
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
        if (key.Length != KeyLength || !key.StartsWith(Prefix, StringComparison.Ordinal)
            || key.AsSpan(Prefix.Length).ContainsAnyExcept(Base64UrlCharacters))
        {
            return null;
        }

        // How long the look-up takes depends on a hash that nobody can aim; what decides is compared in constant time.
        var hash = Hash(key);
        var entry = _byHash.GetValueOrDefault(Convert.ToHexString(hash));
        return CryptographicOperations.FixedTimeEquals(hash, entry?.Hash ?? new byte[hash.Length]) ? entry?.Principal : null;
    }

    private static Caller ReadCaller(string name, ApiKeySettings settings)
    {
        var isAdmin = settings.Scopes.Contains(Scope.Admin);
        var readsAll = settings.Scopes.Contains(Scope.ReadAll);
        return settings.Scopes.Contains(Scope.User) ? Caller.User(settings.UserId!, isAdmin, readsAll)
            : settings.Scopes.Contains(Scope.Service) ? Caller.Service(name, isAdmin, readsAll)
            : Caller.Operator(name, isAdmin, readsAll);
    }

    private sealed record Entry(byte[] Hash, ClaimsPrincipal Principal);
}
