using System.Security.Cryptography;
using System.Text;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Native;

/// <summary>
/// Who may have expired sessions removed: everybody, unless <c>SESSIONS__CLEANUP_KEY</c> is set, as the AppHost does where it deploys;
/// then only who sends that key, as the janitor does.
/// </summary>
internal static class CleanupKey
{
    /// <summary>The answer to a request without the key.</summary>
    public static Problem Required => new(StatusCodes.Status401Unauthorized, "cleanup_key_required",
        $"Cleaning up is for the janitor here: send the key in the header {SessionSettings.CleanupKeyHeader}. "
        + "Expired sessions are never returned, whether or not they were cleaned up.");

    /// <summary>Whether a request may go on.</summary>
    public static bool Allows(HttpRequest request, SessionSettings settings) =>
        string.IsNullOrEmpty(settings.CleanupKey)
        || Same(settings.CleanupKey, request.Headers[SessionSettings.CleanupKeyHeader].ToString());

    /// <summary>Whether there is a key, and a request carries it.</summary>
    public static bool IsSent(HttpRequest request, SessionSettings settings) =>
        !string.IsNullOrEmpty(settings.CleanupKey) && Allows(request, settings);

    // In constant time: the hashes have the same length whatever was sent.
    private static bool Same(string key, string given) =>
        CryptographicOperations.FixedTimeEquals(
            SHA256.HashData(Encoding.UTF8.GetBytes(key)), SHA256.HashData(Encoding.UTF8.GetBytes(given)));
}
