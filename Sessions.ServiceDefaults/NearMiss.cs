namespace Sessions.ServiceDefaults;

/// <summary>
/// Finds what somebody meant who wrote something else: in other case, with other separators, with a slip, or cut short.
/// </summary>
public static class NearMiss
{
    // What is shorter is near to too much.
    private const int ShortestPart = 4;

    /// <summary>The candidate nearest to what was given.</summary>
    /// <returns><see langword="null"/> where none is near.</returns>
    public static string? Find(string given, IEnumerable<string> candidates)
    {
        var plain = Plain(given);
        return candidates.Select(candidate => (Candidate: candidate, Distance: Distance(plain, Plain(candidate))))
            .Where(near => near.Distance is not null)
            .OrderBy(near => near.Distance).ThenBy(near => near.Candidate.Length)
            .Select(near => near.Candidate)
            .FirstOrDefault();
    }

    /// <summary>" Did you mean '…'?", or nothing.</summary>
    public static string Ask(string given, IEnumerable<string> candidates) =>
        Find(given, candidates) is { } near ? $" Did you mean '{near}'?" : "";

    /// <summary>A name without what people write differently: case and separators.</summary>
    public static string Plain(string name) => string.Concat(name.Where(char.IsLetterOrDigit).Select(char.ToLowerInvariant));

    private static int? Distance(string given, string candidate)
    {
        if (given.Length == 0 || candidate.Length == 0)
        {
            return null;
        }

        var allowed = Math.Clamp(Math.Max(given.Length, candidate.Length) / 4, 1, 3);
        if (Math.Abs(given.Length - candidate.Length) <= allowed && Edits(given, candidate) is var edits && edits <= allowed
            && edits < candidate.Length)
        {
            return edits;
        }

        // Named by a part of it: 'timeout' for timeout_hours, 'storage_type' for sessions:storage_type.
        var isPart = given.Length >= ShortestPart
            && (candidate.StartsWith(given, StringComparison.Ordinal) || candidate.EndsWith(given, StringComparison.Ordinal));
        return isPart ? allowed + candidate.Length - given.Length : null;
    }

    // Letters left out, put in, changed or swapped.
    private static int Edits(string a, string b)
    {
        var rows = new int[a.Length + 1, b.Length + 1];
        for (var i = 0; i <= a.Length; i++)
        {
            for (var j = 0; j <= b.Length; j++)
            {
                if (i == 0 || j == 0)
                {
                    rows[i, j] = i + j;
                    continue;
                }

                rows[i, j] = Math.Min(Math.Min(rows[i - 1, j], rows[i, j - 1]) + 1, rows[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                {
                    rows[i, j] = Math.Min(rows[i, j], rows[i - 2, j - 2] + 1);
                }
            }
        }

        return rows[a.Length, b.Length];
    }
}
