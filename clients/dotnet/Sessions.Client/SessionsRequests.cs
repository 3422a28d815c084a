using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Sessions.Client;

/// <summary>Asks for a new session.</summary>
public sealed record CreateSessionOptions
{
    /// <summary>An id of your choice; the server chooses one where it is absent.</summary>
    public string? SessionId { get; init; }

    /// <summary>The user it belongs to.</summary>
    public string? UserId { get; init; }

    /// <summary>Your own keys.</summary>
    public JsonObject? Metadata { get; init; }

    /// <summary>Makes a repeat safe. One is made for each call where it is absent.</summary>
    [JsonIgnore]
    public string? IdempotencyKey { get; init; }
}

/// <summary>Asks for a copy of a session.</summary>
public sealed record ForkSessionOptions
{
    /// <summary>The last turn to copy; all of them where it is absent.</summary>
    public int? AfterTurn { get; init; }

    /// <summary>The id of the copy; the server chooses one where it is absent.</summary>
    public string? SessionId { get; init; }

    /// <summary>The copy's own keys; those of the original where it is absent.</summary>
    public JsonObject? Metadata { get; init; }
}

/// <summary>Which sessions a list has: those of which all hold.</summary>
public sealed record SessionFilter
{
    /// <summary>Created after this.</summary>
    public DateTimeOffset? CreatedAfter { get; init; }

    /// <summary>Created before this.</summary>
    public DateTimeOffset? CreatedBefore { get; init; }

    /// <summary>Last used after this.</summary>
    public DateTimeOffset? ActiveAfter { get; init; }

    /// <summary>Last used before this.</summary>
    public DateTimeOffset? ActiveBefore { get; init; }

    /// <summary>Came to be by <c>api</c>, <c>query</c> or <c>fork</c>.</summary>
    public string? CreatedFrom { get; init; }

    /// <summary>Has these keys of metadata with these values.</summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; init; }

    /// <summary>
    /// The oldest activity first. Then none is missed while sessions are used, and some may be met twice; in the default order, newest
    /// first, none is met twice, and one that is used meanwhile may be missed.
    /// </summary>
    public bool OldestFirst { get; init; }
}

/// <summary>A query to an agent of the server's.</summary>
public sealed record QueryOptions
{
    /// <summary>What is asked.</summary>
    public required string Query { get; init; }

    /// <summary>The session to continue; a new one where it is absent or names none.</summary>
    public string? ThreadId { get; init; }

    /// <summary>Who asks.</summary>
    public string? UserId { get; init; }

    /// <summary>Which agent answers; the default one where it is absent.</summary>
    public string? AgentType { get; init; }

    /// <summary>The turn to go on from, to edit or regenerate what came behind it; the newest where it is absent.</summary>
    public int? AfterTurn { get; init; }

    /// <summary>For the model: <c>temperature</c> and so on.</summary>
    public JsonObject? Parameters { get; init; }

    /// <summary>Makes a repeat safe. One is made for each call where it is absent.</summary>
    [JsonIgnore]
    public string? IdempotencyKey { get; init; }
}
