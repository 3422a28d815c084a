using System.Buffers;
using System.Globalization;
using System.Text;

namespace Sessions.Api.Domain;

/// <summary>The rules for ids that clients choose.</summary>
internal static class Identifiers
{
    /// <summary>What a session's id must be.</summary>
    public const string SessionIdRule = "must be 1 to 128 characters out of A-Z a-z 0-9 . _ : @ - and none of: stats, cleanup, '.', '..'";

    /// <summary>What a user's id must be.</summary>
    public const string UserIdRule = "must be 1 to 256 printable characters, and neither '.' nor '..'";

    private static readonly SearchValues<char> SessionIdCharacters =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-");

    /// <summary>Whether that can be a session's id.</summary>
    // Our own words are routes beside /sessions/{session_id}, and no path can hold a dot segment: such a session could never be fetched.
    // Routes are matched without regard to case, so the words are as well.
    public static bool IsSessionId(string id) =>
        id.Length is >= 1 and <= 128
        && !id.AsSpan().ContainsAnyExcept(SessionIdCharacters)
        && !id.Equals("stats", StringComparison.OrdinalIgnoreCase)
        && !id.Equals("cleanup", StringComparison.OrdinalIgnoreCase)
        && id is not ("." or "..");

    /// <summary>Whether that can be a user's id.</summary>
    public static bool IsUserId(string id)
    {
        if (id.Length is 0 or > 512 || id is "." or "..")
        {
            return false;
        }

        var characters = 0;
        foreach (var rune in id.EnumerateRunes())
        {
            // A lone surrogate is enumerated as U+FFFD, which a string can also hold by right; both are of no use in an id.
            if (++characters > 256 || rune == Rune.ReplacementChar || Rune.GetUnicodeCategory(rune)
                is UnicodeCategory.Control or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator)
            {
                return false;
            }
        }

        return true;
    }
}
