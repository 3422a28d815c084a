namespace Sessions.Api.Http;

/// <summary>What agents are told by headers, where they ask for it; they may send it back with what they ask.</summary>
internal static class AgentHeaders
{
    /// <summary>The session.</summary>
    public const string SessionId = "X-Sessions-Session-Id";
}
