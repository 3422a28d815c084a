using System.Collections;

namespace Sessions.Api;

/// <summary>
/// The turns of a session in memory: packed into arrays of up to <see cref="ChunkBytes"/>, so that a short session has one. An array is never changed, only
/// replaced by a longer one: who has taken a <see cref="Range"/> under the store's lock may read it outside. A copy of this shares them, and must not be added to
/// beside the original: see <see cref="Take"/>.
/// </summary>
internal struct MemoryTurns
{
    private const int ChunkBytes = 2048;

    private byte[]? _last;
    private List<(int First, byte[] Turns)>? _earlier;
    private int _firstOfLast;
    private int _lastTurnAt;

    /// <summary>How many there are.</summary>
    public int Count { get; private set; }

    /// <summary>Adds a turn as <see cref="MemoryTurnFormat.Pack"/> wrote it.</summary>
    public void Add(ReadOnlySpan<byte> packed)
    {
        Count++;
        if (_last is null || _last.Length + packed.Length > ChunkBytes)
        {
            if (_last is not null)
            {
                (_earlier ??= []).Add((_firstOfLast, _last));
            }

            (_last, _firstOfLast, _lastTurnAt) = (packed.ToArray(), Count, 0);
            return;
        }

        _lastTurnAt = _last.Length;
        _last = [.. _last, .. packed];
    }

    /// <summary>The newest of them.</summary>
    public readonly ReadOnlyMemory<byte> Last => _last.AsMemory(_lastTurnAt);

    /// <summary>Those from one number to another, both included. None where the first is behind the last.</summary>
    public readonly Range Select(int first, int last)
    {
        if (first > last)
        {
            return default;
        }

        if (first >= _firstOfLast)
        {
            return new Range(null, _last!, _firstOfLast, first, last);
        }

        var start = _earlier!.Count - 1;
        while (_earlier[start].First > first)
        {
            start--;
        }

        // Those that are needed alone: the list goes on to grow.
        var end = start;
        while (end + 1 < _earlier.Count && _earlier[end + 1].First <= last)
        {
            end++;
        }

        var chunks = new byte[end - start + (last >= _firstOfLast ? 2 : 1)][];
        for (var i = start; i <= end; i++)
        {
            chunks[i - start] = _earlier[i].Turns;
        }

        if (last >= _firstOfLast)
        {
            chunks[^1] = _last!;
        }

        return new Range(chunks, chunks[0], _earlier[start].First, first, last);
    }

    /// <summary>The first of them, for another session.</summary>
    public readonly MemoryTurns Take(int count)
    {
        var taken = new MemoryTurns();
        if (count == 0)
        {
            return taken;
        }

        if (count == Count)
        {
            taken = this;
            taken._earlier = _earlier is null ? null : [.. _earlier];
            return taken;
        }

        // The array in which the last one lies, up to its end.
        var (before, chunk, number) = (_earlier?.Count ?? 0, _last!, _firstOfLast);
        while (number > count)
        {
            (number, chunk) = _earlier![--before];
        }

        taken.Count = count;
        taken._firstOfLast = number;
        taken._earlier = before > 0 ? _earlier!.GetRange(0, before) : null;
        var end = 0;
        for (; number <= count; number++)
        {
            taken._lastTurnAt = end;
            end += MemoryTurnFormat.Length(chunk.AsSpan(end));
        }

        taken._last = chunk[..end];
        return taken;
    }

    /// <summary>Some turns in a row, still packed.</summary>
    public readonly struct Range(byte[][]? chunks, byte[] chunk, int firstOfChunk, int first, int last)
    {
        private readonly byte[][]? _chunks = chunks;
        private readonly byte[] _chunk = chunk;
        private readonly int _firstOfChunk = firstOfChunk;

        /// <summary>How many there are.</summary>
        public int Count => _chunk is null ? 0 : last - first + 1;

        /// <summary>Unpacks them; the texts stay where they are.</summary>
        /// <param name="agents">The names that were packed.</param>
        public Turn[] ToArray(AgentNames agents)
        {
            var all = new Turn[Count];
            var packed = new Reader(this, first);
            for (var i = 0; i < all.Length; i++)
            {
                all[i] = MemoryTurnFormat.Unpack(packed.Next(), first + i, agents, out var length);
                packed.Skip(length);
            }

            return all;
        }

        /// <summary>Copies what was asked in each, but for some at the beginning.</summary>
        public void CopyQueries(int skipped, Span<Utf8Text> queries)
        {
            var packed = new Reader(this, first + skipped);
            for (var i = 0; i < Count - skipped; i++)
            {
                queries[i] = MemoryTurnFormat.UnpackQuery(packed.Next(), out var length);
                packed.Skip(length);
            }
        }

        // Goes from turn to turn, and from array to array.
        private ref struct Reader
        {
            private readonly byte[][]? _chunks;
            private ReadOnlyMemory<byte> _rest;
            private int _nextChunk = 1;

            public Reader(in Range range, int number)
            {
                (_chunks, _rest) = (range._chunks, range._chunk);
                for (var before = range._firstOfChunk; before < number && range.Count > 0; before++)
                {
                    Skip(MemoryTurnFormat.Length(Next().Span));
                }
            }

            public ReadOnlyMemory<byte> Next()
            {
                if (_rest.IsEmpty)
                {
                    _rest = _chunks![_nextChunk++];
                }

                return _rest;
            }

            public void Skip(int length) => _rest = _rest[length..];
        }
    }
}

/// <summary>The history of a turn, unpacked when somebody wants more of it than what was asked.</summary>
internal sealed class MemoryHistory(MemoryTurns.Range range, AgentNames agents) : IReadOnlyList<Turn>, IHistoryQueries
{
    private Turn[]? _turns;

    public int Count => range.Count;

    public Turn this[int index] => Turns[index];

    private Turn[] Turns => _turns ??= range.ToArray(agents);

    public void CopyQueries(int first, Span<Utf8Text> queries) => range.CopyQueries(first, queries);

    public IEnumerator<Turn> GetEnumerator() => ((IEnumerable<Turn>)Turns).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => Turns.GetEnumerator();
}
