using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sessions.Client;

/// <summary>A session: a conversation, without its turns.</summary>
public sealed record Session
{
    /// <summary>Its id.</summary>
    public required string SessionId { get; init; }

    /// <summary>The user it is bound to, if any.</summary>
    public string? UserId { get; init; }

    /// <summary>When it was created.</summary>
    public DateTimeOffset CreatedAt { get; init; }

    /// <summary>When its last turn ended.</summary>
    public DateTimeOffset LastActivityAt { get; init; }

    /// <summary>When it expires, if nothing more happens.</summary>
    public DateTimeOffset ExpiresAt { get; init; }

    /// <summary>One more with every change.</summary>
    public long Version { get; init; }

    /// <summary>What is known about it, and your own keys.</summary>
    public required SessionMetadata Metadata { get; init; }

    /// <summary>The last turn.</summary>
    public required SessionContext Context { get; init; }

    /// <summary>
    /// Names this version, for <see cref="SessionsClient.UpdateMetadataAsync"/>. <see langword="null"/> in lists, which have none.
    /// </summary>
    [JsonIgnore]
    public string? ETag { get; init; }
}

/// <summary>What is known about a session, and your own keys.</summary>
public sealed record SessionMetadata
{
    /// <summary>How many turns there have been.</summary>
    public int QueryCount { get; init; }

    /// <summary>The last query, shortened.</summary>
    public string? LastQuery { get; init; }

    /// <summary>The <c>agent_type</c> of the last turn.</summary>
    public string? LastAgentType { get; init; }

    /// <summary>How the session came to be: <c>api</c>, <c>query</c> or <c>fork</c>.</summary>
    public string? CreatedFrom { get; init; }

    // Set rather than init: what is init goes through a constructor, which extension data can't.
    /// <summary>Your own keys.</summary>
    [JsonExtensionData]
    public IDictionary<string, JsonElement>? Own { get; set; }
}

/// <summary>The last turn of a session.</summary>
public sealed record SessionContext
{
    /// <summary>The last query, whole.</summary>
    public string? LastQuery { get; init; }

    /// <summary>The last response, truncated.</summary>
    public string? LastResponse { get; init; }

    /// <summary>How long the agent took for it, in seconds.</summary>
    public double? LastExecutionTime { get; init; }

    /// <summary>What answered.</summary>
    public string? LastAgentUsed { get; init; }

    /// <summary>How many turns have failed.</summary>
    public int ErrorCount { get; init; }

    /// <summary>Why the last failed turn failed.</summary>
    public string? LastError { get; init; }
}

internal sealed record SessionPage
{
    public required IReadOnlyList<Session> Sessions { get; init; }

    public bool HasMore { get; init; }

    public string? Next { get; init; }
}
