namespace Sessions.Api.Domain;

/// <summary>
/// Why something was not done, in the domain's own terms. HTTP makes problem details of it on native routes, and OpenAI's error object
/// under <c>/v1</c>; docs/errors.md lists the codes.
/// </summary>
/// <param name="Code">A stable word for programs, such as <c>session_not_found</c>.</param>
/// <param name="Message">What happened this time, for people: no secrets, nothing of other users.</param>
internal sealed record Error(string Code, string Message)
{
    /// <summary>The field of the request that breaks a rule.</summary>
    public string? Field { get; init; }

    /// <summary>The rule that the field breaks: what is allowed.</summary>
    public string? Rule { get; init; }

    /// <summary>The limit that was passed, as <c>config.yaml</c> names it.</summary>
    public string? Limit { get; init; }

    /// <summary>The session concerned.</summary>
    public string? SessionId { get; init; }

    /// <summary>When it is worth trying again.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>Whether a repeat may mend it: <see langword="false"/> tells clients that repeat by themselves not to (<c>x-should-retry:
    /// false</c>).</summary>
    public bool? MayRetry { get; init; }

    /// <summary>What an agent's provider answered, if it is its doing: its status, and its own code.</summary>
    public (int? Status, string? Code)? Provider { get; init; }

    /// <summary>A field breaks a rule.</summary>
    public static Error InvalidField(string field, string rule) =>
        new("invalid_request", $"{field}: {rule}.") { Field = field, Rule = rule };

    /// <summary>A limit was passed.</summary>
    public static Error LimitExceeded(string field, string rule, string limit) =>
        new("limit_exceeded", $"{field}: {rule} ({limit}).") { Field = field, Rule = rule, Limit = limit };

    /// <summary>There is no such session, or not for this owner: the same words for both.</summary>
    public static Error SessionNotFound(string sessionId) =>
        new("session_not_found", $"There is no session '{Shorten(sessionId)}'. It may have expired, been deleted, or be another user's.");

    /// <summary>The id is taken.</summary>
    public static Error SessionExists(string sessionId) =>
        new("session_exists", $"There is a session '{Shorten(sessionId)}' already.") { SessionId = sessionId };

    /// <summary>Another turn runs, and it is not waited for, or was waited for long enough.</summary>
    public static Error SessionBusy(string sessionId) =>
        new("session_busy", "Another query is running on this session, and the queue behind it is full or did not move in time.")
        {
            RetryAfter = TimeSpan.FromSeconds(1),
            SessionId = sessionId,
        };

    /// <summary>The session went away while its turn ran.</summary>
    public static Error SessionGone(string sessionId) =>
        new(
            "session_gone",
            "The session or the response was deleted, or the session made room for a newer one, while the agent was answering; "
            + "nothing of this turn was kept.")
        {
            SessionId = sessionId,
            MayRetry = false,
        };

    /// <summary>There is no such response any more, or not for this owner.</summary>
    public static Error ResponseNotFound(ResponseId id) => new("response_not_found", $"Response with id '{id}' not found.");

    /// <summary>The turn to go on from is not there.</summary>
    public static Error NoSuchTurn(string field, int turnCount) =>
        new("no_such_turn", $"{field}: must be a turn of the session: 0 to {turnCount}.")
        {
            Field = field,
            Rule = $"must be a turn of the session: 0 to {turnCount}",
        };

    /// <summary>An idempotency key came with another request than before.</summary>
    public static Error IdempotencyKeyReused { get; } =
        new("idempotency_key_reused", "This Idempotency-Key was used for another request; use a new key for each request.")
        {
            Field = "Idempotency-Key",
            Rule = "must be new for each request",
        };

    /// <summary>The same request is under way.</summary>
    public static Error IdempotencyInProgress(string sessionId) =>
        new("idempotency_in_progress", "A request with this Idempotency-Key is still running; its answer will be there for a retry.")
        {
            RetryAfter = TimeSpan.FromSeconds(1),
            SessionId = sessionId,
        };

    /// <summary>There is no room for more.</summary>
    public static Error StorageFull(string limit) =>
        new("storage_full", $"There is no room for more ({limit}): delete sessions, or wait until some have expired.")
        {
            Limit = limit,
            RetryAfter = TimeSpan.FromSeconds(30),
        };

    /// <summary>At most 128 characters of something that a client sent.</summary>
    public static string Shorten(string text) =>
        text.Length <= 128 ? text : string.Concat(text.AsSpan(0, char.IsHighSurrogate(text[127]) ? 127 : 128), "…");
}

/// <summary>Ends what is being done with an <see cref="Error"/>.</summary>
/// <param name="error">Why.</param>
internal sealed class DomainException(Error error) : Exception(error.Message)
{
    /// <summary>Why.</summary>
    public Error Error { get; } = error;
}
