using System.Runtime.CompilerServices;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <summary>A session in memory. Everything here is read and changed under the store's lock, and never handed out.</summary>
internal sealed class MemorySession
{
    /// <summary>What the turns are.</summary>
    public MemoryTurns Turns;

    private readonly MemorySessionId _id;
    private Extras? _extras;

    /// <summary>A session to be created.</summary>
    public MemorySession(NewSession session, MemoryOwner owner, long now)
    {
        _id = new(session.Id);
        (Key, Kind, CreatedFrom, Owner) = (session.Key, session.Kind, session.CreatedFrom, owner);
        (CreatedAt, LastActivityAt) = (now, now);
        Metadata = session.Metadata.ToArray();
        ReservedBy = session.ReservedBy;
    }

    /// <summary>Just a place in an <see cref="ActivityIndex"/>.</summary>
    public MemorySession(string id, long activity)
    {
        _id = new(id);
        LastActivityAt = activity;
        Owner = null!;
    }

    public string Id => _id.ToString();

    public Guid Key { get; }

    public SessionKind Kind { get; }

    public SessionOrigin CreatedFrom { get; }

    /// <summary>Whose it is: a user's, or nobody's.</summary>
    public MemoryOwner Owner { get; set; }

    public long CreatedAt { get; init; }

    public long LastActivityAt { get; set; }

    public long ExpiresAt { get; set; }

    public Revision Revision { get; set; }

    public int Rewrites { get; set; }

    /// <inheritdoc cref="Session.Bytes"/>
    public long Bytes { get; set; }

    /// <summary>What it counts for against the limits in bytes.</summary>
    public long Size => StorePolicy.SizeOf(Bytes, Turns.Count);

    /// <summary>Set when the session has left the store: nothing that was opened on it can be written any more.</summary>
    public bool IsRemoved { get; set; }

    public byte[] Metadata
    {
        get => _extras?.Metadata ?? [];
        set => Set(value.Length > 0, (extras, given) => extras.Metadata = given, value);
    }

    public Summary? Summary
    {
        get => _extras?.Summary;
        set => Set(value is not null, (extras, given) => extras.Summary = given, value);
    }

    /// <summary>The idempotency key that is tied to this session's id.</summary>
    public Guid? ReservedBy
    {
        get => _extras?.ReservedBy;
        set => Set(value is not null, (extras, given) => extras.ReservedBy = given, value);
    }

    /// <summary>The requests that have been answered in this session: key → what was asked, and the turn that answered.</summary>
    public Dictionary<Guid, (Guid Body, int Turn)>? Answered
    {
        get => _extras?.Answered;
        set => Set(value is not null, (extras, given) => extras.Answered = given, value);
    }

    /// <summary>How many turns have failed, and why the last one did.</summary>
    public (int Count, Utf8Text? Last) Errors
    {
        get => _extras?.Errors ?? default;
        set => Set(value.Count > 0, (extras, given) => extras.Errors = given, value);
    }

    /// <summary>Whether its id is its key: it is found by that.</summary>
    public bool IsNamedByKey => _id.Is(Key);

    public bool HasId(ReadOnlySpan<char> id) => _id.Is(id);

    public int IdHash() => _id.Hash();

    /// <summary>Lets go of all that takes room.</summary>
    public void Empty()
    {
        Turns = default;
        _extras = null;
    }

    public Snapshot TakeSnapshot() => new(this);

    // Made for the first that is there.
    private void Set<T>(bool isThere, Action<Extras, T> set, T value)
    {
        if (isThere || _extras is not null)
        {
            set(_extras ??= new Extras(), value);
        }
    }

    /// <summary>What a <see cref="Session"/> is made from: copied under the lock, unpacked outside of it.</summary>
    public readonly struct Snapshot(MemorySession session)
    {
        private readonly MemorySessionId _id = session._id;
        private readonly Guid _key = session.Key;
        private readonly SessionKind _kind = session.Kind;
        private readonly string? _userId = session.Owner.UserId;
        private readonly long _createdAt = session.CreatedAt;
        private readonly long _lastActivityAt = session.LastActivityAt;
        private readonly long _expiresAt = session.ExpiresAt;
        private readonly Revision _revision = session.Revision;
        private readonly int _rewrites = session.Rewrites;
        private readonly SessionOrigin _createdFrom = session.CreatedFrom;
        private readonly byte[] _metadata = session.Metadata;
        private readonly Summary? _summary = session.Summary;
        private readonly (int Count, Utf8Text? Last) _errors = session.Errors;
        private readonly long _bytes = session.Bytes;

        /// <summary>Its turns.</summary>
        public MemoryTurns Turns { get; } = session.Turns;

        public PageCursor Cursor => new(_lastActivityAt, _id.ToString());

        /// <summary>The session.</summary>
        /// <param name="names">The names that its turns were packed with.</param>
        /// <param name="id">Its id, where it was asked for by that.</param>
        /// <param name="lastTurn">Its last turn, where it is at hand.</param>
        public Session ToSession(AgentNames names, string? id, Turn? lastTurn = null) => new()
        {
            Id = id ?? _id.ToString(),
            Key = _key,
            Kind = _kind,
            UserId = _userId,
            CreatedAt = Timestamps.FromMicroseconds(_createdAt),
            LastActivityAt = Timestamps.FromMicroseconds(_lastActivityAt),
            ExpiresAt = Timestamps.FromMicroseconds(_expiresAt),
            Revision = _revision,
            Rewrites = _rewrites,
            CreatedFrom = _createdFrom,
            Metadata = _metadata,
            TurnCount = Turns.Count,
            LastTurn = lastTurn ?? (Turns.Count > 0 ? Turns.Last(names) : null),
            Summary = _summary,
            ErrorCount = _errors.Count,
            LastError = _errors.Last,
            Bytes = _bytes,
        };
    }

    /// <summary>What most sessions have nothing of.</summary>
    private sealed class Extras
    {
        public byte[] Metadata { get; set; } = [];

        public Summary? Summary { get; set; }

        public Guid? ReservedBy { get; set; }

        public Dictionary<Guid, (Guid Body, int Turn)>? Answered { get; set; }

        public (int Count, Utf8Text? Last) Errors { get; set; }
    }
}

/// <summary>A user, or nobody, and what is theirs. As with sessions, the store's lock is held for everything here.</summary>
/// <param name="userId">The user; <see langword="null"/>: nobody.</param>
internal sealed class MemoryOwner(string? userId)
{
    private ByKind _sessions;

    public string? UserId { get; } = userId;

    /// <summary>What it has in all, as it counts for limits.</summary>
    public long Bytes { get; private set; }

    /// <summary>What its chains have.</summary>
    public long ChainBytes { get; private set; }

    public bool IsEmpty
    {
        get
        {
            foreach (var index in _sessions)
            {
                if (index is { Count: > 0 })
                {
                    return false;
                }
            }

            return true;
        }
    }

    /// <summary>
    /// Those of a kind, if there are any. Of nobody's only chains are kept in order: no list of the others is ever asked for.
    /// </summary>
    public ActivityIndex? this[SessionKind kind] => _sessions[(int)kind];

    public IEnumerable<MemorySession> All =>
        Enum.GetValues<SessionKind>().SelectMany(kind => this[kind]?.All ?? []);

    public void Add(MemorySession session)
    {
        Count(session, session.Size);
        if (UserId is not null || session.Kind == SessionKind.Chain)
        {
            (_sessions[(int)session.Kind] ??= new ActivityIndex()).Add(session);
        }
    }

    public void Remove(MemorySession session)
    {
        Count(session, -session.Size);
        _sessions[(int)session.Kind]?.Remove(session);
    }

    private void Count(MemorySession session, long size)
    {
        Bytes += size;
        ChainBytes += session.Kind == SessionKind.Chain ? size : 0;
    }

    // In the object itself: there may be as many users as sessions.
    [InlineArray(3)]
    private struct ByKind
    {
        private ActivityIndex? _first;
    }
}
