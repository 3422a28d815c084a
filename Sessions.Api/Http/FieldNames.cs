using Sessions.Api.Domain;

namespace Sessions.Api.Http;

/// <summary>Names of fields and parameters as clients write them.</summary>
internal static class FieldNames
{
    // Ours are shorter.
    private const int MaxLength = 64;

    /// <summary>Whether a name is a known one in other case or with other separators: <c>userId</c>, <c>User-Id</c>.</summary>
    public static bool AreAlike(ReadOnlySpan<char> name, ReadOnlySpan<char> known)
    {
        if (name.Length > MaxLength)
        {
            return false;
        }

        var at = 0;
        foreach (var c in name)
        {
            if (IsSeparator(c))
            {
                continue;
            }

            while (at < known.Length && IsSeparator(known[at]))
            {
                at++;
            }

            if (at == known.Length || char.ToLowerInvariant(c) != known[at++])
            {
                return false;
            }
        }

        return at == known.Length;
    }

    /// <summary>The answer to a name that is almost a known one.</summary>
    public static Error Misspelt(string name, string known) => Error.InvalidField(name, $"is not known; it is called {known}");

    private static bool IsSeparator(char c) => c is '_' or '-' or '.' or ' ';
}
