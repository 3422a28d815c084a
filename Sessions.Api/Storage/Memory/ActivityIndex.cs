namespace Sessions.Api.Storage.Memory;

/// <summary>
/// Sessions in order of their activity. As all here, under the store's lock. What was just active goes to the end, which takes no search;
/// what is taken out is found by halving. Kept in arrays of up to <see cref="MaxChunk"/>, so that nothing takes longer for many sessions,
/// and few take little room.
/// </summary>
internal sealed class ActivityIndex
{
    private const int MaxChunk = 512;

    // Most have one: no object for it, nor for the list of them.
    private Chunk[] _chunks = new Chunk[1];
    private int _chunkCount;

    /// <summary>How many there are.</summary>
    public int Count { get; private set; }

    public void Add(MemorySession session)
    {
        Count++;
        if (_chunkCount == 0)
        {
            InsertChunk(0, new Chunk(new MemorySession[1], 0));
        }

        var index = ChunkOf(session);
        if (_chunks[index].Count == MaxChunk)
        {
            // Mostly at the end: then the full one stays as it is.
            var isLast = index == _chunkCount - 1 && Compare(_chunks[index].Sessions[^1], session) < 0;
            InsertChunk(index + 1, isLast ? new Chunk(new MemorySession[1], 0) : _chunks[index].Split());
            if (isLast || Compare(_chunks[index + 1].Sessions[0], session) < 0)
            {
                index++;
            }
        }

        ref var chunk = ref _chunks[index];
        chunk.Insert(chunk.IndexOf(session), session);
    }

    /// <summary>Takes one out, before its activity changes.</summary>
    public void Remove(MemorySession session)
    {
        Count--;
        var index = ChunkOf(session);
        ref var chunk = ref _chunks[index];
        chunk.RemoveAt(chunk.IndexOf(session));
        if (chunk.Count == 0)
        {
            RemoveChunk(index);
        }
        else if (index > 0 && chunk.Count + _chunks[index - 1].Count <= MaxChunk / 2)
        {
            _chunks[index - 1].Append(chunk);
            RemoveChunk(index);
        }
    }

    /// <summary>All, the least recently active first.</summary>
    public IEnumerable<MemorySession> All => Behind(null, ascending: true);

    /// <summary>Those behind a place in the list, in the order asked for.</summary>
    public IEnumerable<MemorySession> Behind(PageCursor? after, bool ascending)
    {
        var position = after is { } cursor ? new MemorySession(cursor.Id, cursor.Position) : null;
        var index = position is null ? (ascending ? 0 : _chunkCount - 1) : ChunkOf(position);
        for (var isFirst = true; index >= 0 && index < _chunkCount; index += ascending ? 1 : -1, isFirst = false)
        {
            var chunk = _chunks[index];
            var start = position is null || !isFirst ? (ascending ? 0 : chunk.Count) : chunk.IndexOf(position);
            if (ascending)
            {
                start += position is not null && isFirst && start < chunk.Count && Compare(chunk.Sessions[start], position) == 0 ? 1 : 0;
            }

            for (var i = ascending ? start : start - 1; i >= 0 && i < chunk.Count; i += ascending ? 1 : -1)
            {
                yield return chunk.Sessions[i];
            }
        }
    }

    /// <summary>One order made of two.</summary>
    public static IEnumerable<MemorySession> Merge(IEnumerable<MemorySession> first, IEnumerable<MemorySession> second, bool ascending)
    {
        using var left = first.GetEnumerator();
        using var right = second.GetEnumerator();
        var (hasLeft, hasRight) = (left.MoveNext(), right.MoveNext());
        while (hasLeft || hasRight)
        {
            if (!hasRight || (hasLeft && Compare(left.Current, right.Current) < 0 == ascending))
            {
                yield return left.Current;
                hasLeft = left.MoveNext();
            }
            else
            {
                yield return right.Current;
                hasRight = right.MoveNext();
            }
        }
    }

    private static int Compare(MemorySession x, MemorySession y)
    {
        var byTime = x.LastActivityAt.CompareTo(y.LastActivityAt);
        return byTime != 0 || ReferenceEquals(x, y) ? byTime : string.CompareOrdinal(x.Id, y.Id);
    }

    // The last one that begins at it or before it.
    private int ChunkOf(MemorySession session)
    {
        var (low, high) = (0, _chunkCount - 1);
        while (low < high)
        {
            // The end first.
            var middle = high == _chunkCount - 1 ? high : (low + high + 1) / 2;
            (low, high) = Compare(_chunks[middle].Sessions[0], session) <= 0 ? (middle, high) : (low, middle - 1);
        }

        return low;
    }

    private void InsertChunk(int index, Chunk chunk)
    {
        if (_chunkCount == _chunks.Length)
        {
            Array.Resize(ref _chunks, Math.Max(4, 2 * _chunkCount));
        }

        Array.Copy(_chunks, index, _chunks, index + 1, _chunkCount++ - index);
        _chunks[index] = chunk;
    }

    private void RemoveChunk(int index)
    {
        Array.Copy(_chunks, index + 1, _chunks, index, --_chunkCount - index);
        _chunks[_chunkCount] = default;
    }

    private struct Chunk(MemorySession[] sessions, int count)
    {
        public MemorySession[] Sessions { get; private set; } = sessions;

        public int Count { get; private set; } = count;

        // Of the first that is not before it.
        public readonly int IndexOf(MemorySession session)
        {
            if (Count > 0 && Compare(Sessions[Count - 1], session) < 0)
            {
                return Count;
            }

            var (low, high) = (0, Count);
            while (low < high)
            {
                var middle = (low + high) / 2;
                (low, high) = Compare(Sessions[middle], session) < 0 ? (middle + 1, high) : (low, middle);
            }

            return low;
        }

        public void Insert(int index, MemorySession session)
        {
            if (Count == Sessions.Length)
            {
                var larger = new MemorySession[Math.Min(MaxChunk, Count < 4 ? Count + 1 : Count + (Count / 2))];
                Sessions.CopyTo(larger, 0);
                Sessions = larger;
            }

            Array.Copy(Sessions, index, Sessions, index + 1, Count - index);
            Sessions[index] = session;
            Count++;
        }

        public void RemoveAt(int index)
        {
            Array.Copy(Sessions, index + 1, Sessions, index, --Count - index);
            Sessions[Count] = null!;
        }

        public void Append(Chunk later)
        {
            Sessions = [.. Sessions.AsSpan(0, Count), .. later.Sessions.AsSpan(0, later.Count)];
            Count = Sessions.Length;
        }

        public Chunk Split()
        {
            var half = Count / 2;
            var upper = new Chunk(Sessions[half..Count], Count - half);
            Array.Clear(Sessions, half, Count - half);
            Count = half;
            return upper;
        }
    }
}
