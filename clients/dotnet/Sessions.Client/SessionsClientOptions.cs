namespace Sessions.Client;

/// <summary>How <c>AddSessionsClient</c> reaches the server.</summary>
public sealed class SessionsClientOptions
{
    /// <summary>
    /// The server's address. Where it is absent, the name that was given to <c>AddSessionsClient</c> is looked up by service discovery:
    /// <c>http://api</c>, which in an Aspire application is the resource of that name.
    /// </summary>
    public Uri? Endpoint { get; set; }

    /// <summary>A key or token of the server's, sent as <c>Authorization: Bearer</c>.</summary>
    public string? ApiKey { get; set; }

    /// <summary>
    /// How long one try may take until it is answered, agents included. Five minutes by default, 11 hours at the most. A stream is bounded
    /// by this until it begins; for what comes then, use a <see cref="CancellationToken"/>.
    /// </summary>
    public TimeSpan AttemptTimeout { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>
    /// How often a request is tried again where that can help, at the most: five times by default. The server's <c>Retry-After</c> is
    /// obeyed for half a minute, all attempts of a request together; an answer that asks for a longer wait than is left of that is
    /// yours at once, as a <see cref="SessionsException"/> with <see cref="SessionsException.RetryAfter"/>. What could do something twice
    /// is never repeated: all turns carry a key by which the server knows them again.
    /// </summary>
    public int MaxRetryAttempts { get; set; } = 5;

    /// <summary>Leaves out the health check.</summary>
    public bool DisableHealthChecks { get; set; }

    /// <summary>Leaves out the traces.</summary>
    public bool DisableTracing { get; set; }
}
