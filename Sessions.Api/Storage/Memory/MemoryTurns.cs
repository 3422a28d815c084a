using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <summary>
/// The turns of a session in memory: packed into arrays of up to <see cref="ChunkBytes"/>, so that a short session has one. What an array
/// holds is never changed, only replaced by another array: who has copied this under the store's lock has a snapshot, and reads it
/// outside. Only the original is added to; a session of its own begins with <see cref="Take"/>.
/// </summary>
internal struct MemoryTurns
{
    private const int ChunkBytes = 2048;

    private byte[]? _last;
    private Chunk[]? _earlier;
    private int _earlierCount;
    private int _firstOfLast;
    private int _lastTurnAt;

    /// <summary>How many there are.</summary>
    public int Count { get; private set; }

    /// <summary>Adds a turn as <see cref="TurnCodec.Pack"/> wrote it.</summary>
    public void Add(byte[] packed)
    {
        Count++;
        if (_last is null || _last.Length + packed.Length > ChunkBytes)
        {
            if (_last is not null)
            {
                AddChunk(new Chunk(_firstOfLast, _last));
            }

            (_last, _firstOfLast, _lastTurnAt) = (packed, Count, 0);
            return;
        }

        _lastTurnAt = _last.Length;
        _last = [.. _last, .. packed];
    }

    /// <summary>Puts another turn in the place of one.</summary>
    public void Replace(int number, byte[] packed)
    {
        var index = IndexOf(number);
        var chunk = ChunkAt(index);
        var start = StartOf(chunk, number);
        var end = start + TurnCodec.LengthOf(chunk.Turns.AsSpan(start));
        byte[] replaced = [.. chunk.Turns.AsSpan(0, start), .. packed, .. chunk.Turns.AsSpan(end)];
        if (index < _earlierCount)
        {
            // Snapshots go on with the old ones.
            _earlier = [.. _earlier.AsSpan(0, _earlierCount)];
            _earlier[index] = chunk with { Turns = replaced };
            return;
        }

        _last = replaced;
        _lastTurnAt = number == Count ? start : _lastTurnAt + packed.Length - (end - start);
    }

    /// <summary>The newest of them.</summary>
    public readonly Turn Last(AgentNames names) => TurnCodec.Unpack(_last.AsMemory(_lastTurnAt), Count, names, out _);

    /// <summary>One of them.</summary>
    public readonly Turn Read(int number, AgentNames names) => number == Count ? Last(names) : Read(number, number, names)[0];

    /// <summary>Those from one number to another, both included. The texts stay where they are.</summary>
    public readonly Turn[] Read(int first, int last, AgentNames names)
    {
        if (first > last)
        {
            return [];
        }

        var turns = new Turn[last - first + 1];
        var index = IndexOf(first);
        var chunk = ChunkAt(index);
        ReadOnlyMemory<byte> rest = chunk.Turns.AsMemory(StartOf(chunk, first));
        for (var i = 0; i < turns.Length; i++)
        {
            if (rest.IsEmpty)
            {
                rest = ChunkAt(++index).Turns;
            }

            turns[i] = TurnCodec.Unpack(rest, first + i, names, out var length);
            rest = rest[length..];
        }

        return turns;
    }

    /// <summary>The first of them, for another session: the arrays are shared.</summary>
    public readonly MemoryTurns Take(int count)
    {
        if (count == 0)
        {
            return default;
        }

        var index = IndexOf(count);
        var chunk = ChunkAt(index);
        var start = StartOf(chunk, count);
        var end = count == Count ? chunk.Turns.Length : start + TurnCodec.LengthOf(chunk.Turns.AsSpan(start));
        return new MemoryTurns
        {
            Count = count,
            _earlier = index == 0 ? null : [.. _earlier.AsSpan(0, index)],
            _earlierCount = index,
            _last = end == chunk.Turns.Length ? chunk.Turns : chunk.Turns[..end],
            _firstOfLast = chunk.First,
            _lastTurnAt = start,
        };
    }

    private static int StartOf(Chunk chunk, int number)
    {
        var start = 0;
        for (var before = chunk.First; before < number; before++)
        {
            start += TurnCodec.LengthOf(chunk.Turns.AsSpan(start));
        }

        return start;
    }

    private readonly Chunk ChunkAt(int index) => index < _earlierCount ? _earlier![index] : new Chunk(_firstOfLast, _last!);

    // Of the array that the turn lies in.
    private readonly int IndexOf(int number)
    {
        if (number >= _firstOfLast)
        {
            return _earlierCount;
        }

        var (low, high) = (0, _earlierCount - 1);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            (low, high) = _earlier![middle].First <= number ? (middle, high) : (low, middle - 1);
        }

        return low;
    }

    // Into room that no snapshot looks at, or a new array.
    private void AddChunk(Chunk chunk)
    {
        if (_earlier is null || _earlierCount == _earlier.Length)
        {
            Array.Resize(ref _earlier, Math.Max(2, _earlierCount + (_earlierCount / 2)));
        }

        _earlier[_earlierCount++] = chunk;
    }

    private readonly record struct Chunk(int First, byte[] Turns);
}

/// <summary>Turns along a path, read out of a snapshot.</summary>
/// <param name="turns">The snapshot.</param>
/// <param name="newest">The newest turn of it, which is unpacked already.</param>
/// <param name="tip">The last turn of the path.</param>
/// <param name="allBranches">All turns, whatever path they are on.</param>
/// <param name="names">The names that the turns were packed with.</param>
internal readonly struct MemoryPath(MemoryTurns turns, Turn? newest, int tip, bool allBranches, AgentNames names)
{
    private const int ReadAtOnce = 32;

    /// <summary>Newest first, from the one before <paramref name="before"/> on: so many as are wanted.</summary>
    public IEnumerable<Turn> Backward(int before, long wanted) =>
        BlocksBackward(before, wanted).SelectMany(Enumerable.Reverse);

    /// <summary>The same in blocks of turns that lie side by side: the newest block first, in each the oldest turn.</summary>
    public IEnumerable<Turn[]> BlocksBackward(int before, long wanted)
    {
        foreach (var (first, last) in Segments())
        {
            for (var end = Math.Min(last, before - 1); end >= first && wanted > 0;)
            {
                var block = turns.Read(Math.Max(first, end + 1 - AtOnce(wanted)), end, names);
                yield return block;
                end -= block.Length;
                wanted -= block.Length;
            }
        }
    }

    /// <summary>Oldest first, from the one behind <paramref name="after"/> on: so many as are wanted.</summary>
    public IEnumerable<Turn> Forward(int after, long wanted)
    {
        Stack<(int First, int Last)> segments = [];
        foreach (var segment in Segments())
        {
            if (segment.Last <= after)
            {
                break;
            }

            segments.Push(segment);
        }

        foreach (var (first, last) in segments)
        {
            for (var start = Math.Max(first, after + 1); start <= last && wanted > 0;)
            {
                var block = turns.Read(start, Math.Min(last, start - 1 + AtOnce(wanted)), names);
                foreach (var turn in block)
                {
                    yield return turn;
                }

                start += block.Length;
                wanted -= block.Length;
            }
        }
    }

    private static int AtOnce(long wanted) => (int)Math.Min(ReadAtOnce, wanted);

    // Unbroken runs of the path, the newest first.
    private IEnumerable<(int First, int Last)> Segments()
    {
        if (allBranches)
        {
            return turns.Count > 0 ? [(1, turns.Count)] : [];
        }

        return Runs(turns, newest, tip, names);

        static IEnumerable<(int First, int Last)> Runs(MemoryTurns turns, Turn? newest, int tip, AgentNames names)
        {
            while (tip > 0)
            {
                var first = (tip == newest?.Number ? newest : turns.Read(tip, names)).RunStart;
                yield return (first, tip);
                tip = first == 1 ? 0 : turns.Read(first, names).Parent;
            }
        }
    }
}
