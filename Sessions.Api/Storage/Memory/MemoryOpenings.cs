using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <summary>
/// Something that is going to be for somebody and is not there yet: a session's first turn, one that is going to claim it, a copy whose
/// turns are being read. A deletion or erasure meanwhile ends it, so that it does not come to be. Those that are under way are chained to
/// one another, under the store's lock.
/// </summary>
internal sealed class MemoryOpening(string? id, string? userId)
{
    private MemoryOpening? _previous;
    private MemoryOpening? _next;

    /// <summary>The id of the session that is going to be, where it is known.</summary>
    public string? Id { get; } = id;

    /// <summary>Whose it is going to be; <see langword="null"/>: nobody's.</summary>
    public string? UserId { get; } = userId;

    /// <summary>Whether it must not come to be.</summary>
    public bool IsEnded { get; set; }

    /// <summary>Puts it in front of others.</summary>
    public void ChainTo(ref MemoryOpening? first)
    {
        _next = first;
        if (first is not null)
        {
            first._previous = this;
        }

        first = this;
    }

    /// <summary>Takes it out, if it is still there.</summary>
    public void Unchain(ref MemoryOpening? first)
    {
        if (_previous is not null)
        {
            _previous._next = _next;
        }
        else if (first == this)
        {
            first = _next;
        }

        if (_next is not null)
        {
            _next._previous = _previous;
        }

        (_previous, _next) = (null, null);
    }

    /// <summary>Ends those that are meant.</summary>
    public static void End(MemoryOpening? first, Func<MemoryOpening, bool> isMeant)
    {
        for (var opening = first; opening is not null; opening = opening._next)
        {
            opening.IsEnded |= isMeant(opening);
        }
    }
}

/// <summary>A session that was opened in memory.</summary>
/// <param name="request">What was asked for.</param>
/// <param name="status">What came of it.</param>
internal sealed class MemoryOpened(OpenRequest request, OpenStatus status) : OpenedSession(request, status)
{
    /// <summary>The very session: a later one with the same id is another.</summary>
    public MemorySession? Target { get; init; }

    /// <summary>The state it was in.</summary>
    public Revision Revision { get; init; }

    /// <inheritdoc cref="Session.Rewrites"/>
    public int Rewrites { get; init; }

    /// <inheritdoc cref="Session.TurnCount"/>
    public int TurnCount { get; init; }

    /// <summary>Where a deletion or an erasure must be told of it.</summary>
    public MemoryOpening? Opening { get; init; }
}
