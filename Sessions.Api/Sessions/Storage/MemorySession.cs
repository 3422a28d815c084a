namespace Sessions.Api;

/// <summary>A session in memory. Everything here is read and changed under the store's lock, and never handed out.</summary>
internal sealed class MemorySession(string id, long createdAt, SessionOrigin createdFrom)
{
    public string Id { get; } = id;

    public long CreatedAt { get; } = createdAt;

    public SessionOrigin CreatedFrom { get; } = createdFrom;

    public string? UserId { get; set; }

    public byte[] Metadata { get; set; } = [];

    public long LastActivityAt { get; set; } = createdAt;

    public long Version { get; set; } = 1;

    public List<MemoryTurn>? Turns { get; set; }

    public Summary? Summary { get; set; }

    public int ErrorCount { get; set; }

    public string? LastError { get; set; }

    /// <summary>When the store looks next whether the session has expired.</summary>
    public long ScheduledAt { get; set; }

    /// <summary>The idempotency key that is tied to this session's id.</summary>
    public Guid? ReservedBy { get; set; }

    /// <summary>The requests that have been answered in this session: key → what was asked, and the turn that answered.</summary>
    public Dictionary<Guid, (Guid Body, int Turn)>? Answered { get; set; }

    /// <summary>Set when the session has left the store: a turn that still runs on it has lost its ground.</summary>
    public bool IsRemoved { get; set; }

    public int TurnCount => Turns?.Count ?? 0;

    public Snapshot TakeSnapshot() => new(this);

    /// <summary>What a <see cref="Session"/> is made from: copied under the lock, decoded outside of it.</summary>
    public readonly struct Snapshot(MemorySession session)
    {
        private readonly string _id = session.Id;
        private readonly string? _userId = session.UserId;
        private readonly long _createdAt = session.CreatedAt;
        private readonly long _lastActivityAt = session.LastActivityAt;
        private readonly long _version = session.Version;
        private readonly SessionOrigin _createdFrom = session.CreatedFrom;
        private readonly byte[] _metadata = session.Metadata;
        private readonly int _turnCount = session.TurnCount;
        private readonly MemoryTurn? _lastTurn = session.Turns is [.., var last] ? last : null;
        private readonly Summary? _summary = session.Summary;
        private readonly int _errorCount = session.ErrorCount;
        private readonly string? _lastError = session.LastError;

        public PageCursor Cursor => new(_lastActivityAt, _id);

        public Session ToSession(long timeout) => new()
        {
            Id = _id,
            UserId = _userId,
            CreatedAt = Timestamps.FromMicroseconds(_createdAt),
            LastActivityAt = Timestamps.FromMicroseconds(_lastActivityAt),
            ExpiresAt = Timestamps.FromMicroseconds(_lastActivityAt + timeout),
            Version = _version,
            CreatedFrom = _createdFrom,
            Metadata = _metadata,
            TurnCount = _turnCount,
            LastTurn = _lastTurn?.ToTurn(_turnCount),
            Summary = _summary,
            ErrorCount = _errorCount,
            LastError = _lastError,
        };
    }
}

/// <summary>A turn in memory: immutable, its texts as UTF-8 in one array. Its number is its place in the list.</summary>
internal sealed class MemoryTurn
{
    private readonly byte[] _texts;
    private readonly int _queryBytes;
    private readonly string _agentType;
    private readonly string _agentUsed;
    private readonly long _createdAt;
    private readonly long _executionTicks;
    private readonly long _inputTokens;
    private readonly long _outputTokens;
    private readonly bool _startedSession;

    public MemoryTurn(Turn turn)
    {
        _queryBytes = turn.Query.Length;
        _texts = [.. turn.Query.Span, .. turn.Response.Span];
        _agentType = turn.AgentType;
        _agentUsed = turn.AgentUsed;
        _createdAt = turn.CreatedAt.ToMicroseconds();
        _executionTicks = turn.ExecutionTime.Ticks;
        _inputTokens = turn.InputTokens ?? -1;
        _outputTokens = turn.OutputTokens ?? -1;
        _startedSession = turn.StartedSession;
    }

    public Turn ToTurn(int number) => new()
    {
        Number = number,
        Query = new(_texts.AsMemory(0, _queryBytes)),
        Response = new(_texts.AsMemory(_queryBytes)),
        AgentType = _agentType,
        AgentUsed = _agentUsed,
        CreatedAt = Timestamps.FromMicroseconds(_createdAt),
        ExecutionTime = new TimeSpan(_executionTicks),
        InputTokens = _inputTokens < 0 ? null : _inputTokens,
        OutputTokens = _outputTokens < 0 ? null : _outputTokens,
        StartedSession = _startedSession,
    };
}
