namespace Sessions.Client;

/// <summary>What an agent's session keeps: which conversation is its own.</summary>
/// <param name="SessionId">The id of the server's session.</param>
/// <param name="UserId">Its user, where it was named for this session.</param>
internal sealed record ConversationReference(string SessionId, string? UserId = null);
