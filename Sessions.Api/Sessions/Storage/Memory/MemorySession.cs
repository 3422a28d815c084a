namespace Sessions.Api;

/// <summary>A session in memory. Everything here is read and changed under the store's lock, and never handed out.</summary>
internal sealed class MemorySession(string id, long createdAt, SessionOrigin createdFrom)
{
    /// <summary>What the turns are.</summary>
    public MemoryTurns Turns;

    private readonly MemorySessionId _id = new(id);
    private Rest? _rest;

    public string Id => _id.ToString();

    public long CreatedAt { get; } = createdAt;

    public SessionOrigin CreatedFrom { get; } = createdFrom;

    public MemoryUser? User { get; set; }

    public string? UserId => User?.Id;

    public long LastActivityAt { get; set; } = createdAt;

    public long Version { get; set; } = 1;

    /// <summary>When the store looks next whether the session has expired.</summary>
    public long ScheduledAt { get; set; }

    /// <summary>Set when the session has left the store: a turn that still runs on it has lost its ground.</summary>
    public bool IsRemoved { get; set; }

    public byte[] Metadata
    {
        get => _rest?.Metadata ?? [];
        set => Set(value.Length > 0, (rest, given) => rest.Metadata = given, value);
    }

    public Summary? Summary
    {
        get => _rest?.Summary;
        set => Set(value is not null, (rest, given) => rest.Summary = given, value);
    }

    /// <summary>The idempotency key that is tied to this session's id.</summary>
    public Guid? ReservedBy
    {
        get => _rest?.ReservedBy;
        set => Set(value is not null, (rest, given) => rest.ReservedBy = given, value);
    }

    /// <summary>The requests that have been answered in this session: key → what was asked, and the turn that answered.</summary>
    public Dictionary<Guid, (Guid Body, int Turn)>? Answered
    {
        get => _rest?.Answered;
        set => Set(value is not null, (rest, given) => rest.Answered = given, value);
    }

    /// <summary>How many turns have failed, and why the last one did.</summary>
    public (int Count, string? Last) Errors
    {
        get => _rest?.Errors ?? default;
        set => Set(value.Count > 0, (rest, given) => rest.Errors = given, value);
    }

    public bool HasId(ReadOnlySpan<char> id) => _id.Is(id);

    public int IdHash() => _id.Hash();

    /// <summary>Lets go of all that takes room.</summary>
    public void Empty()
    {
        Turns = default;
        _rest = null;
    }

    public Snapshot TakeSnapshot() => new(this);

    // Made for the first that is there.
    private void Set<T>(bool isThere, Action<Rest, T> set, T value)
    {
        if (isThere || _rest is not null)
        {
            set(_rest ??= new Rest(), value);
        }
    }

    /// <summary>What a <see cref="Session"/> is made from: copied under the lock, unpacked outside of it.</summary>
    public readonly struct Snapshot(MemorySession session)
    {
        private readonly MemorySessionId _id = session._id;
        private readonly string? _userId = session.UserId;
        private readonly long _createdAt = session.CreatedAt;
        private readonly long _lastActivityAt = session.LastActivityAt;
        private readonly long _version = session.Version;
        private readonly SessionOrigin _createdFrom = session.CreatedFrom;
        private readonly int _turnCount = session.Turns.Count;
        private readonly ReadOnlyMemory<byte> _lastTurn = session.Turns.Last;
        private readonly byte[] _metadata = session.Metadata;
        private readonly Summary? _summary = session.Summary;
        private readonly (int Count, string? Last) _errors = session.Errors;

        public PageCursor Cursor => new(_lastActivityAt, _id.ToString());

        /// <summary>The session.</summary>
        /// <param name="timeout">How long it lives on, in microseconds.</param>
        /// <param name="agents">The names that its turns were packed with.</param>
        /// <param name="id">Its id, where it is at hand.</param>
        public Session ToSession(long timeout, AgentNames agents, string? id = null) => new()
        {
            Id = id ?? _id.ToString(),
            UserId = _userId,
            CreatedAt = Timestamps.FromMicroseconds(_createdAt),
            LastActivityAt = Timestamps.FromMicroseconds(_lastActivityAt),
            ExpiresAt = Timestamps.FromMicroseconds(_lastActivityAt + timeout),
            Version = _version,
            CreatedFrom = _createdFrom,
            Metadata = _metadata,
            TurnCount = _turnCount,
            LastTurn = _turnCount > 0 ? MemoryTurnFormat.Unpack(_lastTurn, _turnCount, agents, out _) : null,
            Summary = _summary,
            ErrorCount = _errors.Count,
            LastError = _errors.Last,
        };
    }

    /// <summary>What most sessions have nothing of.</summary>
    private sealed class Rest
    {
        public byte[] Metadata { get; set; } = [];

        public Summary? Summary { get; set; }

        public Guid? ReservedBy { get; set; }

        public Dictionary<Guid, (Guid Body, int Turn)>? Answered { get; set; }

        public (int Count, string? Last) Errors { get; set; }
    }
}
