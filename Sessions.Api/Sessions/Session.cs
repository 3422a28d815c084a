namespace Sessions.Api;

/// <summary>A session as it stood at one moment. A snapshot: changing the session makes a new one.</summary>
internal sealed record Session
{
    /// <summary>The id that clients name as <c>session_id</c> or <c>thread_id</c>.</summary>
    public required string Id { get; init; }

    /// <summary>The user the session is bound to; <see langword="null"/> while nobody has claimed it.</summary>
    public string? UserId { get; init; }

    /// <summary>When the session was created (UTC, whole microseconds, as are all times here).</summary>
    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>When the last turn, successful or failed, ended; at first, when the session was created.</summary>
    public required DateTimeOffset LastActivityAt { get; init; }

    /// <summary>From this moment on the session is gone, whether or not it has been cleaned up.</summary>
    public required DateTimeOffset ExpiresAt { get; init; }

    /// <summary>1 for a new session, one more with every change.</summary>
    public required long Version { get; init; }

    /// <summary>How the session came to be.</summary>
    public required SessionOrigin CreatedFrom { get; init; }

    /// <summary>The client's own metadata: one JSON object in UTF-8, or empty where there is none.</summary>
    public ReadOnlyMemory<byte> Metadata { get; init; }

    /// <summary>How many turns the history holds; also the number of the last one.</summary>
    public required int TurnCount { get; init; }

    /// <summary>The newest turn of the history.</summary>
    public Turn? LastTurn { get; init; }

    /// <summary>What the earliest turns amount to, for an agent that is not given all of them; the turns themselves stay in the history.</summary>
    public Summary? Summary { get; init; }

    /// <summary>How many turns have failed. A failed turn is not in the history.</summary>
    public int ErrorCount { get; init; }

    /// <summary>Why the last failed turn failed, in words fit for a client.</summary>
    public string? LastError { get; init; }
}

/// <summary>How a session came to be.</summary>
internal enum SessionOrigin
{
    /// <summary>By <c>POST /sessions</c>.</summary>
    Api,

    /// <summary>By a query that named no session, or one that did not exist.</summary>
    Query,

    /// <summary>As a copy of another session.</summary>
    Fork,
}

/// <summary>One query and its response.</summary>
internal sealed record Turn
{
    /// <summary>The turn's place in the history: 1, 2, 3, … without gaps.</summary>
    public required int Number { get; init; }

    /// <summary>What the client asked.</summary>
    public required Utf8Text Query { get; init; }

    /// <summary>What the agent answered.</summary>
    public required Utf8Text Response { get; init; }

    /// <summary>The <c>agent_type</c> that was asked for.</summary>
    public required string AgentType { get; init; }

    /// <summary>What answered: the provider, and its model where it has one.</summary>
    public required string AgentUsed { get; init; }

    /// <summary>When the turn was committed.</summary>
    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>How long the agent took, in whole microseconds.</summary>
    public required TimeSpan ExecutionTime { get; init; }

    /// <summary>Tokens read by the model, as its provider counted them; <see langword="null"/> where it does not.</summary>
    public long? InputTokens { get; init; }

    /// <summary>Tokens written by the model, as its provider counted them; <see langword="null"/> where it does not.</summary>
    public long? OutputTokens { get; init; }

    /// <summary>Whether this turn brought the session into being.</summary>
    public bool StartedSession { get; init; }
}

/// <summary>What the turns up to one of them amount to.</summary>
/// <param name="Text">In words, as an agent wrote it.</param>
/// <param name="CoversTurns">The number of the last turn it covers.</param>
internal sealed record Summary(Utf8Text Text, int CoversTurns);

/// <summary>A client's <c>Idempotency-Key</c> and what it stands for, both as 128-bit hashes.</summary>
/// <param name="Key">Of the key and its scope.</param>
/// <param name="Body">Of the request it came with: the same key with another request is a mistake.</param>
internal readonly record struct Idempotency(Guid Key, Guid Body);
