namespace Sessions.Api;

/// <summary>The words of a text, one after the other: of four letters and more, as shorter ones say little.</summary>
internal ref struct Words(ReadOnlySpan<char> text)
{
    private const int Shortest = 4;

    // What an ASCII character is in a word, without regard to case; 0: it is in none.
    private static readonly byte[] Folded = [.. Enumerable.Range(0, 128).Select(c => char.IsLetterOrDigit((char)c) ? (byte)char.ToLowerInvariant((char)c) : (byte)0)];

    private readonly ReadOnlySpan<char> _text = text;
    private int _next;

    /// <summary>Where the word starts.</summary>
    public int Start { get; private set; }

    /// <summary>The word.</summary>
    public ReadOnlySpan<char> Current { get; private set; }

    /// <summary>The same for words that differ in case alone.</summary>
    public uint Hash { get; private set; }

    /// <summary>Goes on to the next word.</summary>
    /// <returns>Whether there is one.</returns>
    public bool Next()
    {
        ReadOnlySpan<byte> folded = Folded;
        var start = _next;
        uint hash = 0;
        for (var i = start; i <= _text.Length; i++)
        {
            // Beyond ASCII letters look alike here: that no two cases of one are told apart is what matters.
            var letter = i == _text.Length ? 0
                : _text[i] is var c && c < folded.Length ? folded[c]
                : char.IsLetterOrDigit(c) || char.IsSurrogate(c) ? 1u : 0;
            if (letter != 0)
            {
                hash = (hash * 31) + letter;
                continue;
            }

            if (i - start >= Shortest)
            {
                Current = _text[start..i];
                (Start, Hash, _next) = (start, hash, i + 1);
                return true;
            }

            (start, hash) = (i + 1, 0);
        }

        return false;
    }
}

/// <summary>The different words of a text, without regard to case: as many as there is room for.</summary>
internal readonly ref struct WordSet
{
    private readonly ReadOnlySpan<char> _text;
    private readonly ReadOnlySpan<Entry> _entries;

    // A bit for each word, so that most others are known for such at once.
    private readonly ulong _bits;

    public WordSet(ReadOnlySpan<char> text, Span<Entry> room)
    {
        _text = text;
        var words = new Words(text);
        while (_entries.Length < room.Length && words.Next())
        {
            if (!Contains(words))
            {
                room[_entries.Length] = new Entry(words.Start, words.Current.Length, words.Hash);
                _entries = room[..(_entries.Length + 1)];
                _bits |= Bit(words.Hash);
            }
        }
    }

    /// <summary>Whether the word is one of these.</summary>
    public bool Contains(in Words word)
    {
        if ((_bits & Bit(word.Hash)) == 0)
        {
            return false;
        }

        foreach (var entry in _entries)
        {
            if (entry.Hash == word.Hash && _text.Slice(entry.Start, entry.Length).Equals(word.Current, StringComparison.OrdinalIgnoreCase))
            {
                return true;
            }
        }

        return false;
    }

    private static ulong Bit(uint hash) => 1UL << (int)((hash * 0x9E3779B1) >> 26);

    public readonly record struct Entry(int Start, int Length, uint Hash);
}
