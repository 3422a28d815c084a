namespace Sessions.Api.Engine.Sealing;

/// <summary>The keys of what a text was sealed with were destroyed: it is gone for good, and its session with it.</summary>
internal sealed class KeyDestroyedException(string sessionId) : Exception($"The keys of session {sessionId} were destroyed.");
