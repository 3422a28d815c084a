using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace Sessions.Api;

/// <summary>The words of a text in UTF-8, one after the other: of four letters and more, as shorter ones say little.</summary>
internal ref struct Words(ReadOnlySpan<byte> text)
{
    private const int Shortest = 4;

    // What no word goes on with: those bytes of ASCII that are neither letter nor digit. Longer characters have to be looked at.
    private static readonly SearchValues<byte> Outside = SearchValues.Create([.. Enumerable.Range(0, 128).Where(b => !char.IsLetterOrDigit((char)b)).Select(b => (byte)b)]);

    private readonly ReadOnlySpan<byte> _text = text;
    private int _next;

    /// <summary>Where the word starts.</summary>
    public int Start { get; private set; }

    /// <summary>The word.</summary>
    public ReadOnlySpan<byte> Current { get; private set; }

    /// <summary>The same for words that differ in case alone.</summary>
    public uint Hash { get; private set; }

    /// <summary>Goes on to the next word.</summary>
    /// <returns>Whether there is one.</returns>
    public bool Next()
    {
        while (_next < _text.Length)
        {
            var start = _next;
            var rest = _text[start..];
            var length = rest.IndexOfAny(Outside);
            length = length < 0 ? rest.Length : length;
            if (length < Shortest)
            {
                _next = start + length + 1;
                continue;
            }

            if (!Ascii.IsValid(rest[..length]))
            {
                if (NextOfRunes(start))
                {
                    return true;
                }

                continue;
            }

            // Its first four letters and its length tell most words apart; with this bit the case of a letter is gone, and digits have it.
            _next = start + length + 1;
            Found(start, start + length, (BinaryPrimitives.ReadUInt32LittleEndian(rest) | 0x20202020) + (uint)length);
            return true;
        }

        return false;
    }

    // The first word, if there is one before something that is in none.
    private bool NextOfRunes(int start)
    {
        var (end, letters, hash) = (start, 0, 0u);
        while (end < _text.Length)
        {
            Rune.DecodeFromUtf8(_text[end..], out var rune, out var length);
            if (!Rune.IsLetterOrDigit(rune) && rune.IsBmp)
            {
                _next = end + length;
                break;
            }

            hash = (hash * 31) + (uint)Rune.ToUpperInvariant(rune).Value;
            letters++;
            end += length;
            _next = end;
        }

        if (letters < Shortest)
        {
            return false;
        }

        Found(start, end, hash);
        return true;
    }

    private void Found(int start, int end, uint hash)
    {
        (Start, Hash) = (start, hash);
        Current = _text[start..end];
    }
}

/// <summary>The different words of a text, without regard to case: as many as there is room for.</summary>
internal readonly ref struct WordSet
{
    private readonly ReadOnlySpan<byte> _text;
    private readonly ReadOnlySpan<Entry> _entries;

    // A bit for each word, so that most others are known for such at once.
    private readonly ulong _bits;

    public WordSet(ReadOnlySpan<byte> text, Span<Entry> room)
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
            if (entry.Hash == word.Hash && AreSame(_text.Slice(entry.Start, entry.Length), word.Current))
            {
                return true;
            }
        }

        return false;
    }

    private static bool AreSame(ReadOnlySpan<byte> one, ReadOnlySpan<byte> other) =>
        Ascii.EqualsIgnoreCase(one, other) || (!Ascii.IsValid(one) && Encoding.UTF8.GetString(one).Equals(Encoding.UTF8.GetString(other), StringComparison.OrdinalIgnoreCase));

    private static ulong Bit(uint hash) => 1UL << (int)((hash * 0x9E3779B1) >> 26);

    public readonly record struct Entry(int Start, int Length, uint Hash);
}
