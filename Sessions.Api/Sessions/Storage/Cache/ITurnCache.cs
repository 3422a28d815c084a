namespace Sessions.Api;

/// <summary>Holds the last turns of sessions for <see cref="CachedSessionStore"/>. May forget anything at any time; what it gives is checked before it is used.</summary>
internal interface ITurnCache
{
    /// <summary>Whether other processes use it as well, and may remove from it.</summary>
    bool IsShared { get; }

    /// <summary>Finds the last turns of a session, as they were at some moment; <see langword="null"/> where they are not to be had.</summary>
    ValueTask<TurnWindow?> FindAsync(string sessionId);

    /// <summary>Told what came of what was found.</summary>
    /// <param name="found">What was found, if anything.</param>
    /// <param name="held">The same, if it was right.</param>
    void Used(TurnWindow? found, TurnWindow? held);

    /// <summary>Keeps the last turns of a session: as many of those given as are not too large.</summary>
    ValueTask PutAsync(string sessionId, TurnWindow window);

    /// <summary>Removes what is kept of sessions.</summary>
    ValueTask RemoveAsync(IReadOnlyCollection<string> sessionIds);

    /// <summary>Lets go of what has expired.</summary>
    void RemoveExpired();
}
