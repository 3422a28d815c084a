namespace Sessions.Api.Domain;

/// <summary>What kind of session it is.</summary>
internal enum SessionKind : byte
{
    /// <summary>Made by the native API: listed, and counted for <c>max_sessions_per_user</c>.</summary>
    Session,

    /// <summary>Made by <c>POST /v1/conversations</c>: listed, and counted for <c>max_conversations_per_user</c>.</summary>
    Conversation,

    /// <summary>A hidden chain of responses: neither listed nor counted, but erased and exported with its user. Its branches grow without
    /// waiting for each other.</summary>
    Chain,
}

/// <summary>Kinds as exports name them: the order of the enum is free.</summary>
internal static class SessionKinds
{
    /// <summary>The name of a kind.</summary>
    public static string Name(this SessionKind kind) => kind switch
    {
        SessionKind.Session => "session",
        SessionKind.Conversation => "conversation",
        _ => "chain",
    };

    /// <summary>The kind of that name.</summary>
    /// <exception cref="InvalidDataException">There is none.</exception>
    public static SessionKind Parse(string name) => name switch
    {
        "session" => SessionKind.Session,
        "conversation" => SessionKind.Conversation,
        "chain" => SessionKind.Chain,
        _ => throw new InvalidDataException($"'{name}' is not a kind of session."),
    };
}

/// <summary>How a session came to be.</summary>
internal enum SessionOrigin : byte
{
    /// <summary>By <c>POST /sessions</c>, or under <c>/v1</c>.</summary>
    Api,

    /// <summary>By a query that named no session, or one that did not exist.</summary>
    Query,

    /// <summary>As a copy of another session.</summary>
    Fork,
}

/// <summary>Origins as the API, stores and exports name them: the order of the enum is free.</summary>
internal static class SessionOrigins
{
    /// <summary>The name of an origin.</summary>
    public static string Name(this SessionOrigin origin) => origin switch
    {
        SessionOrigin.Api => "api",
        SessionOrigin.Query => "query",
        _ => "fork",
    };

    /// <summary>The origin of that name.</summary>
    /// <exception cref="InvalidDataException">There is none.</exception>
    public static SessionOrigin Parse(string name) => name switch
    {
        "api" => SessionOrigin.Api,
        "query" => SessionOrigin.Query,
        "fork" => SessionOrigin.Fork,
        _ => throw new InvalidDataException($"'{name}' is not an origin of a session."),
    };
}

/// <summary>
/// One state of a session: equal means the same bytes, also after a failover that lost some writes. A write counts the version up and
/// draws a new tag.
/// </summary>
/// <param name="Version">1 for a new session, one more with every change.</param>
/// <param name="Tag">Random.</param>
internal readonly record struct Revision(long Version, long Tag)
{
    /// <summary>The first one of a session.</summary>
    public static Revision First() => new(1, Random.Shared.NextInt64());

    /// <summary>The one after this.</summary>
    public Revision Next() => new(Version + 1, Random.Shared.NextInt64());
}

/// <summary>The head of a session as it stood at one moment. A snapshot: changing the session makes a new one.</summary>
internal sealed record Session
{
    /// <summary>The id that clients name as <c>session_id</c> or <c>thread_id</c>.</summary>
    public required string Id { get; init; }

    /// <summary>What tells it from an earlier or later one with the same id: see <see cref="SessionKey"/>.</summary>
    public required Guid Key { get; init; }

    /// <summary>Where its store keeps it, for that store to find it by again; 0: it has not said so.</summary>
    public long Place { get; init; }

    /// <summary>What kind of session it is.</summary>
    public SessionKind Kind { get; init; }

    /// <summary>The user the session is bound to; <see langword="null"/> while nobody has claimed it.</summary>
    public string? UserId { get; init; }

    /// <summary>When the session was created (UTC, whole microseconds, as are all times here).</summary>
    public required DateTimeOffset CreatedAt { get; init; }

    /// <summary>When the last turn, successful or failed, ended; at first, when the session was created.</summary>
    public required DateTimeOffset LastActivityAt { get; init; }

    /// <summary>From this moment on the session is gone, whether or not it has been cleaned up.</summary>
    public required DateTimeOffset ExpiresAt { get; init; }

    /// <summary>Which state this is.</summary>
    public required Revision Revision { get; init; }

    /// <summary>How often a turn of it was rewritten: turns read under the same number are still as they were.</summary>
    public int Rewrites { get; init; }

    /// <summary>How the session came to be.</summary>
    public required SessionOrigin CreatedFrom { get; init; }

    /// <summary>The client's own metadata: one JSON object in UTF-8, or empty where there is none.</summary>
    public ReadOnlyMemory<byte> Metadata { get; init; }

    /// <summary>How many turns the log holds; also the number of the last one, which is the tip: the history is the path from there to
    /// the root.</summary>
    public required int TurnCount { get; init; }

    /// <summary>The newest turn.</summary>
    public Turn? LastTurn { get; init; }

    /// <summary>What the earliest turns amount to, for an agent that is not given all of them; the turns themselves stay in the
    /// history.</summary>
    public Summary? Summary { get; init; }

    /// <summary>How many turns have failed. A failed turn is not in the history.</summary>
    public int ErrorCount { get; init; }

    /// <summary>Why the last failed turn failed, in words fit for a client. Bytes, as it may be sealed.</summary>
    public Utf8Text? LastError { get; init; }

    /// <summary>What metadata, summary and all turns (<see cref="Turn.Bytes"/>) take together, in bytes as stored.</summary>
    public long Bytes { get; init; }
}

/// <summary>Names a session: by its id, or by its key.</summary>
internal readonly record struct SessionRef
{
    private SessionRef(string? id, Guid key) => (Id, Key) = (id, key);

    /// <summary>Its id, where it is named by that.</summary>
    public string? Id { get; }

    /// <summary>Its key, where it is named by that.</summary>
    public Guid Key { get; }

    /// <summary>By its id.</summary>
    public static SessionRef ById(string id) => new(id, default);

    /// <summary>By its key.</summary>
    public static SessionRef ByKey(Guid key) => new(null, key);

    public override string ToString() => Id ?? ConversationId.Of(Key);
}
