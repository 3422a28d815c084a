namespace Sessions.Api;

/// <summary>The sessions of a user in memory, ordered by their activity. As with them, the store's lock is held for everything here.</summary>
internal sealed class MemoryUser(string id)
{
    // Up to so many stand in an array, which takes least; more of them in a tree, so that none takes long to find its place.
    private const int MostInArray = 64;

    private MemorySession[] _few = new MemorySession[1];
    private SortedSet<MemorySession>? _many;
    private int _count;

    public string Id { get; } = id;

    public int Count => _many?.Count ?? _count;

    /// <summary>The least recently active one, if there are any.</summary>
    public MemorySession? Oldest => _many is { } many ? many.Min : _count > 0 ? _few[0] : null;

    /// <summary>All of them, the least recently active one first.</summary>
    public IEnumerable<MemorySession> All => (IEnumerable<MemorySession>?)_many ?? _few.Take(_count);

    public void Add(MemorySession session)
    {
        if (_many is null && _count == MostInArray)
        {
            _many = new SortedSet<MemorySession>(All, ByActivity.Instance);
            _few = [];
        }

        if (_many is not null)
        {
            _many.Add(session);
            return;
        }

        if (_count == _few.Length)
        {
            Array.Resize(ref _few, _count < 4 ? _count + 1 : _count + (_count / 2));
        }

        // Mostly the newest, and so the last.
        var place = _count;
        while (place > 0 && ByActivity.Instance.Compare(_few[place - 1], session) > 0)
        {
            _few[place] = _few[--place];
        }

        _few[place] = session;
        _count++;
    }

    public void Remove(MemorySession session)
    {
        if (_many is not null)
        {
            _many.Remove(session);
            return;
        }

        var place = Array.IndexOf(_few, session, 0, _count);
        Array.Copy(_few, place + 1, _few, place, --_count - place);
        _few[_count] = null!;
    }

    /// <summary>Those behind a place in the list, in the order asked for.</summary>
    public IEnumerable<MemorySession> Behind(PageCursor? cursor, bool ascending)
    {
        if (cursor is not { } after)
        {
            return ascending ? All : _many?.Reverse() ?? _few.Take(_count).Reverse();
        }

        var place = new MemorySession(after.Id, after.Position, SessionOrigin.Api);
        if (_many is null)
        {
            return ascending
                ? _few.Take(_count).SkipWhile(session => ByActivity.Instance.Compare(session, place) <= 0)
                : _few.Take(_count).Reverse().SkipWhile(session => ByActivity.Instance.Compare(session, place) >= 0);
        }

        if (ByActivity.Instance.Compare(ascending ? _many.Max : _many.Min, place) is var end && (ascending ? end <= 0 : end >= 0))
        {
            return [];
        }

        var rest = ascending ? _many.GetViewBetween(place, _many.Max) : _many.GetViewBetween(_many.Min, place).Reverse();
        return rest.Where(session => ByActivity.Instance.Compare(session, place) != 0);
    }

    private sealed class ByActivity : IComparer<MemorySession>
    {
        public static readonly ByActivity Instance = new();

        public int Compare(MemorySession? x, MemorySession? y)
        {
            var byTime = x!.LastActivityAt.CompareTo(y!.LastActivityAt);
            return byTime != 0 ? byTime : string.CompareOrdinal(x.Id, y.Id);
        }
    }
}
