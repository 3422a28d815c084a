using System.Net;

namespace Sessions.Client;

/// <summary>The server refused a request or could not do what it asks, or it could not be reached.</summary>
public sealed class SessionsException : Exception
{
    /// <summary>Creates one.</summary>
    /// <param name="code">What happened, as a stable code of the server's.</param>
    /// <param name="message">What happened, for people.</param>
    /// <param name="innerException">What it comes from, if anything.</param>
    public SessionsException(string code, string message, Exception? innerException = null) : base(message, innerException) => Code = code;

    /// <summary>
    /// What happened, as a stable code: <c>session_not_found</c>, <c>turn_conflict</c>, <c>session_busy</c>, <c>storage_unavailable</c>
    /// and so on. <see cref="Unreachable"/> where no server answered.
    /// </summary>
    public string Code { get; }

    /// <summary>The status of the answer; <see langword="null"/> where there was none, or where it is an event of a stream.</summary>
    public HttpStatusCode? Status { get; init; }

    /// <summary>The field of the request that was wrong, if one was.</summary>
    public string? Field { get; init; }

    /// <summary>The request, as it is named in the server's logs and traces.</summary>
    public string? RequestId { get; init; }

    /// <summary>After how long it is worth trying again, if the server says so.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>The <see cref="Code"/> where no server answered.</summary>
    public const string Unreachable = "unreachable";

    /// <summary>The <see cref="Code"/> where what answered is no Sessions server, or one that this client does not understand.</summary>
    public const string InvalidResponse = "invalid_response";

    /// <summary>The <see cref="Code"/> where another run has appended to the conversation in the meantime.</summary>
    public const string TurnConflict = "turn_conflict";

    /// <summary>The <see cref="Code"/> where there is no such session, or it belongs to somebody else.</summary>
    public const string SessionNotFound = "session_not_found";
}
