namespace Sessions.Client;

/// <summary>An agent's answer.</summary>
/// <param name="Response">The answer.</param>
/// <param name="AgentType">Which agent answered.</param>
/// <param name="Metadata">About the answer and its session.</param>
public sealed record QueryResult(string Response, string AgentType, QueryMetadata Metadata);

/// <summary>About an answer and its session.</summary>
public sealed record QueryMetadata
{
    /// <summary>The session: name it to go on.</summary>
    public required string ThreadId { get; init; }

    /// <summary>The user the session is bound to, if any.</summary>
    public string? UserId { get; init; }

    /// <summary>Whether this query brought the session into being.</summary>
    public bool SessionCreated { get; init; }

    /// <summary>The turn's number in the session, from 1.</summary>
    public int Turn { get; init; }

    /// <summary>What answered: the provider, and its model where it has one.</summary>
    public string? AgentUsed { get; init; }

    /// <summary>How long the agent took, in seconds.</summary>
    public double ExecutionTime { get; init; }

    /// <summary>When the turn was committed.</summary>
    public DateTimeOffset CreatedAt { get; init; }

    /// <summary><c>completed</c>, or <c>incomplete</c> where the answer stopped short.</summary>
    public string? Status { get; init; }

    /// <summary>Why it stopped short: <c>max_output_tokens</c>, <c>content_filter</c>, <c>cancelled</c>.</summary>
    public string? IncompleteReason { get; init; }

    /// <summary>Why the model stopped, as its provider says.</summary>
    public string? FinishReason { get; init; }

    /// <summary>The model, as its provider names it.</summary>
    public string? Model { get; init; }

    /// <summary>Tokens, where the model's provider counts them.</summary>
    public TokenUsage? Usage { get; init; }
}

/// <summary>What the server holds.</summary>
public sealed record SessionStatistics
{
    /// <summary>The store: <c>memory</c>, <c>sqlite</c>, <c>redis</c> or <c>postgres</c>.</summary>
    public required string StorageType { get; init; }

    /// <summary>Sessions that have not expired.</summary>
    public long ActiveSessions { get; init; }

    /// <summary>Those of them that the server's process holds in its memory.</summary>
    public long ActiveSessionsMemory { get; init; }

    /// <summary>After how many hours without a turn a session expires.</summary>
    public double TimeoutHours { get; init; }

    /// <summary>How many sessions a user may have; 0: no limit.</summary>
    public int MaxSessionsPerUser { get; init; }

    /// <summary>When expired sessions were last removed.</summary>
    public DateTimeOffset? LastCleanupAt { get; init; }
}

/// <summary>Expired sessions were removed.</summary>
/// <param name="Removed">How many.</param>
/// <param name="ExecutionTime">How long it took, in seconds.</param>
public sealed record CleanupResult(int Removed, double ExecutionTime);

/// <summary>Everything of a user was removed: the receipt.</summary>
public sealed record UserErasure
{
    /// <summary>The user.</summary>
    public required string UserId { get; init; }

    /// <summary>Where from.</summary>
    public required string StorageType { get; init; }

    /// <summary>How many sessions.</summary>
    public long SessionsRemoved { get; init; }

    /// <summary>How many turns.</summary>
    public long TurnsRemoved { get; init; }

    /// <summary>When.</summary>
    public DateTimeOffset ErasedAt { get; init; }
}
