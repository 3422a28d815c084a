using System.Diagnostics.Metrics;
using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>
/// The end of a session's path as it was at one moment: its head, and its last turns without gaps, oldest first, at least one. Opened,
/// where there is encryption.
/// </summary>
/// <param name="Session">The head.</param>
/// <param name="Turns">The turns; the last one is the newest of the session.</param>
/// <param name="KeyIds">The users' keys that the texts are sealed with in the store: they are used only while these are there.</param>
internal sealed record Tail(Session Session, IReadOnlyList<Turn> Turns, Guid[] KeyIds)
{
    /// <summary>What the texts of one session may take.</summary>
    public const int MaxBytes = 256 * 1024;

    // What .NET adds to the texts: objects, arrays and their places in others. Rounded up; a test bounds the whole.
    private const int BytesPerTurn = 320;
    private const int BytesPerTail = 1024;

    /// <summary>What the store is told of it.</summary>
    public RememberedTail Remembered =>
        new(Session.Key, Session.Revision, Turns[^1].Number, Turns[^1].Nonce, Session.Rewrites, Session.Place);

    // Added up once: each turn asks several times, and its history lies in no cache of the processor.
    private readonly long _turnBytes = Turns.Sum(turn => turn.Bytes);

    /// <summary>What it takes in memory, roughly.</summary>
    public long BytesInMemory => BytesPerTail + ((long)Turns.Count * BytesPerTurn) + _turnBytes
        + Session.Metadata.Length + (Session.Summary?.Text.Length ?? 0) + (Session.LastError?.Length ?? 0);

    /// <summary>The same with as many of its last turns as are not too large.</summary>
    public Tail Trim() => _turnBytes <= MaxBytes || Turns.Count == 1 ? this
        : new Tail(Session, Take(Turns, Turns.Count, MaxBytes, out _), KeyIds);

    /// <summary>Whether all of its turns are given to a request for so many, with so many bytes.</summary>
    public bool Fits(int turns, int bytes) => Turns.Count <= turns && _turnBytes <= bytes;

    /// <summary>Whether these are all the turns that a request for so many, with so many bytes, can be given.</summary>
    public bool Suffices(int turns, int bytes)
    {
        if (Turns.Count >= turns || Turns[0].Parent == 0)
        {
            return true;
        }

        Take(Turns, turns, bytes, out var isCut);
        return isCut;
    }

    /// <summary>The newest of some turns, so many at the most and with so many bytes together; the last one in any case.</summary>
    /// <param name="turns">All.</param>
    /// <param name="count">How many are wanted.</param>
    /// <param name="bytes">How many bytes they may have.</param>
    /// <param name="isCut">Whether one more was wanted and did not fit.</param>
    public static IReadOnlyList<Turn> Take(IReadOnlyList<Turn> turns, int count, long bytes, out bool isCut)
    {
        isCut = false;
        var first = turns.Count;
        for (var left = bytes; first > 0 && turns.Count - first < count; first--)
        {
            left -= turns[first - 1].Bytes;
            if (left < 0 && first < turns.Count)
            {
                isCut = true;
                break;
            }
        }

        return first == 0 ? turns : first == turns.Count ? [] : [.. turns.Skip(first)];
    }
}

/// <summary>
/// The last turns of the sessions that were used last, in the memory of this process, and, where <c>sessions.cache: redis</c> asks for it,
/// in a Redis as a second level. What is here is never
/// believed: each use names the revision to the store, and only what the store says is still so is used. So an entry that is out of date,
/// of an earlier session, or of another file is not used.
/// </summary>
/// <remarks>
/// Texts lie here as they were written, also where they are sealed in the store: a turn need not open twenty others. They are used only
/// while the keys are there that they are sealed with.
/// </remarks>
internal sealed class HistoryTail
{
    /// <summary>What all of it may take. Past it, what was not used for longest is forgotten.</summary>
    public const long MaxBytes = 64 * 1024 * 1024;

    // What another process has removed is never given to anybody; and it is gone from the memory after this at the latest.
    private static readonly TimeSpan LongestLife = TimeSpan.FromHours(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<Guid, LinkedListNode<Entry>> _byKey = [];
    private readonly Dictionary<string, Guid> _byId = new(StringComparer.Ordinal);
    private readonly LinkedList<Entry> _byUse = [];
    private readonly long _maxBytes;
    private readonly TimeProvider _time;
    private readonly Counter<long>? _requests;
    private long _bytes;
    private long _removals;

    /// <summary>Makes one.</summary>
    /// <param name="time">The clock.</param>
    /// <param name="meters">Makes the meter, if there is one.</param>
    /// <param name="shared">The second level, if there is one.</param>
    /// <param name="maxBytes">What all of it may take.</param>
    public HistoryTail(TimeProvider time, IMeterFactory? meters = null, SharedTail? shared = null, long maxBytes = MaxBytes)
    {
        (_time, _maxBytes, Shared) = (time, maxBytes, shared);
        _requests = meters?.Create(SessionMetrics.MeterName).CreateCounter<long>(
            "sessions.cache.requests", "{request}", "Questions to the cache, by what came of them.");
    }

    /// <summary>The second level, if there is one.</summary>
    public SharedTail? Shared { get; }

    /// <summary>What it takes, roughly.</summary>
    public long Bytes
    {
        get
        {
            lock (_lock)
            {
                return _bytes;
            }
        }
    }

    /// <summary>
    /// Counts up with each removal: who puts something here that was read before one must look whether it is still to be kept.
    /// </summary>
    public long Removals => Interlocked.Read(ref _removals);

    /// <summary>What is remembered of a session.</summary>
    public Tail? Find(SessionRef session)
    {
        lock (_lock)
        {
            var key = session.Key;
            if ((session.Id is not null && !_byId.TryGetValue(session.Id, out key)) || !_byKey.TryGetValue(key, out var node))
            {
                return null;
            }

            if (node.Value.Until <= _time.GetUtcNow())
            {
                Remove(node);
                return null;
            }

            _byUse.Remove(node);
            _byUse.AddFirst(node);
            return node.Value.Tail;
        }
    }

    /// <summary>Counts what came of a question: <c>hit</c>, <c>miss</c>, <c>stale</c> or <c>bypassed</c>.</summary>
    public void Count(string outcome) => _requests?.Add(1, new KeyValuePair<string, object?>("sessions.cache.outcome", outcome));

    /// <summary>Remembers the end of a session.</summary>
    public void Put(Tail tail)
    {
        var now = _time.GetUtcNow();
        var until = tail.Session.ExpiresAt - now < LongestLife ? tail.Session.ExpiresAt : now + LongestLife;
        var entry = new Entry(tail, tail.BytesInMemory, until);
        lock (_lock)
        {
            if (_byKey.TryGetValue(tail.Session.Key, out var former))
            {
                Remove(former);
            }

            if (_byId.TryGetValue(tail.Session.Id, out var key) && _byKey.TryGetValue(key, out var earlier))
            {
                Remove(earlier);
            }

            if (entry.Bytes > _maxBytes)
            {
                return;
            }

            _byKey[tail.Session.Key] = _byUse.AddFirst(entry);
            _byId[tail.Session.Id] = tail.Session.Key;
            _bytes += entry.Bytes;
            while (_bytes > _maxBytes)
            {
                Remove(_byUse.Last!);
            }
        }
    }

    /// <summary>Forgets sessions, on both levels.</summary>
    public async ValueTask RemoveAsync(IReadOnlyCollection<Guid> keys)
    {
        Interlocked.Increment(ref _removals);
        lock (_lock)
        {
            foreach (var key in keys)
            {
                if (_byKey.TryGetValue(key, out var node))
                {
                    Remove(node);
                }
            }
        }

        if (Shared is not null)
        {
            await Shared.RemoveAsync(keys);
        }
    }

    /// <summary>Lets go of what has expired.</summary>
    public void RemoveExpired()
    {
        var now = _time.GetUtcNow();
        lock (_lock)
        {
            for (var node = _byUse.First; node is not null;)
            {
                var next = node.Next;
                if (node.Value.Until <= now)
                {
                    Remove(node);
                }

                node = next;
            }
        }
    }

    private void Remove(LinkedListNode<Entry> node)
    {
        _byUse.Remove(node);
        _bytes -= node.Value.Bytes;
        var session = node.Value.Tail.Session;
        _byKey.Remove(session.Key);
        if (_byId.TryGetValue(session.Id, out var key) && key == session.Key)
        {
            _byId.Remove(session.Id);
        }
    }

    private sealed record Entry(Tail Tail, long Bytes, DateTimeOffset Until);
}
