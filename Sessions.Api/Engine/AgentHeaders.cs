namespace Sessions.Api.Engine;

/// <summary>What agents are told by headers, where they ask for it; they may send the session back with what they ask.</summary>
internal static class AgentHeaders
{
    /// <summary>The session.</summary>
    public const string SessionId = "X-Sessions-Session-Id";

    /// <summary>The session's user, percent-encoded.</summary>
    public const string UserId = "X-Sessions-User-Id";

    /// <summary>The number of the turn.</summary>
    public const string Turn = "X-Sessions-Turn";
}
