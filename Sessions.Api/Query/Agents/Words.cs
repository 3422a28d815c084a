using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Text;

namespace Sessions.Api;

/// <summary>The words of a text in UTF-8, one after the other: of four letters and more, as shorter ones say little.</summary>
/// <remarks>
/// An agent that is built in looks at every word of twenty statements for each query: where a text is ASCII, 64 bytes at a time are told apart into those
/// that words are made of and others.
/// </remarks>
internal ref struct Words(ReadOnlySpan<byte> text)
{
    /// <summary>From one block of ASCII to the next: a word that starts in one of these places shows within the block that it is long enough.</summary>
    public const int Step = BlockLength - Shortest + 1;

    /// <summary>So many letters of a word of ASCII are in the hash as they are, but for their case.</summary>
    public const int LettersInHash = 8;

    /// <summary>Set in the hash of a word that is not of ASCII.</summary>
    public const ulong BeyondAscii = 1UL << 63;

    private const int Shortest = 4;
    private const int BlockLength = 64;

    private readonly ReadOnlySpan<byte> _text = text;
    private readonly bool _isAscii = Ascii.IsValid(text);

    // Where the block lies, a bit for each of its bytes that is in a word, and one for each that starts a word which is still to come.
    private int _block = -Step;
    private ulong _inWords;
    private ulong _starts;

    private int _next;
    private int _end;

    /// <summary>Where the word starts.</summary>
    public int Start { get; private set; }

    /// <summary>The word.</summary>
    public readonly ReadOnlySpan<byte> Current => _isAscii ? WordAt(_text, Start, _block, _inWords) : _text[Start.._end];

    /// <summary>The same for words that differ in case alone.</summary>
    public ulong Hash { get; private set; }

    /// <summary>Goes on to the next word.</summary>
    /// <returns>Whether there is one.</returns>
    public bool Next()
    {
        if (!_isAscii)
        {
            return NextOfRunes();
        }

        while (_starts == 0)
        {
            if (_block + Step >= _text.Length)
            {
                return false;
            }

            _block += Step;
            _starts = Starts(_text, _block, ref _inWords);
        }

        Start = _block + BitOperations.TrailingZeroCount(_starts);
        Hash = HashOfAscii(WordAt(_text, Start, _block, _inWords));
        _starts &= _starts - 1;
        return true;
    }

    /// <summary>Finds the words that start in a block of ASCII.</summary>
    /// <param name="text">The text.</param>
    /// <param name="block">Where the block starts.</param>
    /// <param name="inWords">A bit for each byte of the block that is in a word, short or long; before, those of the block before.</param>
    /// <returns>A bit for each byte that starts a word.</returns>
    public static ulong Starts(ReadOnlySpan<byte> text, int block, ref ulong inWords)
    {
        var before = inWords >> (Step - 1) & 1;
        var missing = block + BlockLength - text.Length;
        if (missing <= 0)
        {
            inWords = InWords(text[block..]);
        }
        else if (text.Length >= BlockLength)
        {
            inWords = InWords(text[^BlockLength..]) >> missing;
        }
        else
        {
            Span<byte> padded = stackalloc byte[BlockLength];
            padded.Clear();
            text.CopyTo(padded);
            inWords = InWords(padded) >> block;
        }

        // With three more behind it, and none before it.
        return inWords & (inWords >> 1) & (inWords >> 2) & (inWords >> 3) & ~((inWords << 1) | before);
    }

    /// <summary>The word that starts somewhere in ASCII.</summary>
    /// <param name="text">The text.</param>
    /// <param name="start">Where the word starts.</param>
    /// <param name="block">Where the block starts in which it does.</param>
    /// <param name="inWords">The bytes of the block that are in words.</param>
    public static ReadOnlySpan<byte> WordAt(ReadOnlySpan<byte> text, int start, int block, ulong inWords)
    {
        var end = start + BitOperations.TrailingZeroCount(~(inWords >> (start - block)));
        while (end >= block + BlockLength && end < text.Length && char.IsAsciiLetterOrDigit((char)text[end]))
        {
            end++;
        }

        return text[start..end];
    }

    /// <summary>
    /// What <see cref="Hash"/> is of a word of ASCII: its first eight letters, or all where there are fewer. With this bit the case of a letter is gone, and digits have it.
    /// </summary>
    public static ulong HashOfAscii(ReadOnlySpan<byte> word)
    {
        // Its first four and its last four, which may overlap.
        var length = Math.Min(word.Length, LettersInHash);
        return BinaryPrimitives.ReadUInt32LittleEndian(word) | 0x20202020
            | ((ulong)(BinaryPrimitives.ReadUInt32LittleEndian(word[(length - Shortest)..]) | 0x20202020) << (8 * (length - Shortest)));
    }

    private static ulong InWords(ReadOnlySpan<byte> block)
    {
        ref var first = ref MemoryMarshal.GetReference(block);
        return InWords(Vector256.LoadUnsafe(ref first)) | ((ulong)InWords(Vector256.LoadUnsafe(ref first, (nuint)Vector256<byte>.Count)) << Vector256<byte>.Count);
    }

    // Letters, without regard to case, and digits.
    private static uint InWords(Vector256<byte> bytes) =>
        (Vector256.LessThan((bytes | Vector256.Create((byte)0x20)) - Vector256.Create((byte)'a'), Vector256.Create((byte)26))
            | Vector256.LessThan(bytes - Vector256.Create((byte)'0'), Vector256.Create((byte)10))).ExtractMostSignificantBits();

    private bool NextOfRunes()
    {
        while (_next < _text.Length)
        {
            var (start, letters, hash) = (_next, 0, 0ul);
            _end = _next;
            while (_next < _text.Length)
            {
                Rune.DecodeFromUtf8(_text[_next..], out var rune, out var length);
                _next += length;
                if (!Rune.IsLetterOrDigit(rune) && rune.IsBmp)
                {
                    break;
                }

                hash = (hash * 31) + (ulong)Rune.ToUpperInvariant(rune).Value;
                letters++;
                _end = _next;
            }

            if (letters >= Shortest)
            {
                var word = _text[start.._end];
                (Start, Hash) = (start, Ascii.IsValid(word) ? HashOfAscii(word) : hash | BeyondAscii);
                return true;
            }
        }

        return false;
    }
}

/// <summary>The different words of a text, without regard to case: as many as there is room for.</summary>
internal readonly ref struct WordSet
{
    private const int Places = 64;

    private readonly ReadOnlySpan<byte> _text;
    private readonly ReadOnlySpan<Entry> _entries;

    // Where the words of each place begin, and a bit for each place that has one, so that most other words are known for such at once.
    private readonly PlacesOfWords _first;
    private readonly ulong _taken;

    public WordSet(ReadOnlySpan<byte> text, Span<Entry> room)
    {
        _text = text;
        var count = 0;
        var words = new Words(text);
        while (count < Math.Min(room.Length, byte.MaxValue) && words.Next())
        {
            var word = words.Current;
            if (!Contains(words.Hash, word))
            {
                var place = Place(words.Hash);
                var next = (_taken & (1UL << place)) == 0 ? Entry.None : _first[place];
                room[count] = new Entry(words.Hash, words.Start, word.Length, next);
                _first[place] = (byte)count++;
                _taken |= 1UL << place;
                _entries = room[..count];
            }
        }
    }

    /// <summary>How many of a text's first words are among these.</summary>
    /// <param name="text">The text.</param>
    /// <param name="most">How many of its words are looked at.</param>
    public int CountIn(ReadOnlySpan<byte> text, int most)
    {
        var count = 0;
        if (!Ascii.IsValid(text))
        {
            for (var words = new Words(text); most > 0 && words.Next(); most--)
            {
                count += Contains(words) ? 1 : 0;
            }

            return count;
        }

        // The same in registers.
        var inWords = 0UL;
        for (var block = 0; block < text.Length; block += Words.Step)
        {
            for (var starts = Words.Starts(text, block, ref inWords); starts != 0 && most > 0; starts &= starts - 1, most--)
            {
                var word = Words.WordAt(text, block + BitOperations.TrailingZeroCount(starts), block, inWords);
                count += Contains(Words.HashOfAscii(word), word) ? 1 : 0;
            }
        }

        return count;
    }

    /// <summary>Whether the word is one of these.</summary>
    public bool Contains(in Words word) => Contains(word.Hash, word.Current);

    private bool Contains(ulong hash, ReadOnlySpan<byte> word)
    {
        var place = Place(hash);
        if ((_taken & (1UL << place)) == 0)
        {
            return false;
        }

        for (var i = _first[place]; i != Entry.None; i = _entries[i].Next)
        {
            ref readonly var entry = ref _entries[i];
            if (entry.Hash == hash && IsSame(_text.Slice(entry.Start, entry.Length), word, hash))
            {
                return true;
            }
        }

        return false;
    }

    // Where the hashes are the same.
    private static bool IsSame(ReadOnlySpan<byte> one, ReadOnlySpan<byte> other, ulong hash) =>
        (hash & Words.BeyondAscii) != 0 ? Encoding.UTF8.GetString(one).Equals(Encoding.UTF8.GetString(other), StringComparison.OrdinalIgnoreCase)
        : one.Length == other.Length && (one.Length <= Words.LettersInHash || Ascii.EqualsIgnoreCase(one[Words.LettersInHash..], other[Words.LettersInHash..]));

    private static int Place(ulong hash) => (int)((hash * 0x9E3779B97F4A7C15) >> 58);

    public readonly record struct Entry(ulong Hash, int Start, int Length, byte Next)
    {
        public const byte None = byte.MaxValue;
    }

    [InlineArray(Places)]
    private struct PlacesOfWords
    {
        private byte _first;
    }
}
