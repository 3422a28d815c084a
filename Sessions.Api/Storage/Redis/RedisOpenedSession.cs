using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Redis;

/// <summary>A session that was opened in Redis, also where the caller was told no more than that it is as remembered.</summary>
/// <param name="request">What was asked for.</param>
/// <param name="status">What came of it.</param>
/// <param name="id">The session's id.</param>
internal sealed class RedisOpenedSession(OpenRequest request, OpenStatus status, string id) : OpenedSession(request, status)
{
    /// <summary>The session's id.</summary>
    public string Id { get; } = id;

    /// <summary>Its key; <see langword="null"/>: there was none.</summary>
    public Guid? Key { get; init; }

    /// <summary>The state it was in.</summary>
    public Revision Revision { get; init; }

    /// <summary>How many turns it had.</summary>
    public int TurnCount { get; init; }

    /// <summary>What its texts took.</summary>
    public long Bytes { get; init; }

    /// <summary>How often turns of it were rewritten.</summary>
    public int Rewrites { get; init; }

    /// <summary>Its user.</summary>
    public string? UserId { get; init; }

    /// <summary>Its kind.</summary>
    public SessionKind Kind { get; init; }

    /// <summary>What the lease, or a place in front of it, is known by; empty where none was asked for.</summary>
    public string Token { get; init; } = "";

    /// <summary>Whether its expiry was moved when it was opened.</summary>
    public bool IsExtended { get; init; }

    /// <summary>
    /// Whether the turn gives the owner a session, by making or claiming it: then its lease, once it was lost, is not taken again.
    /// </summary>
    public bool Gives => Token.Length > 0 && Status != OpenStatus.Busy
        && (Key is null || (UserId is null && Request.Owner.UserId is not null));

    /// <summary>What the indexes are told of it as it was opened, when nothing but its expiry has changed.</summary>
    public RedisFacts Facts(long activity, long expiresAt) =>
        new(Id, Key!.Value, Kind, UserId, activity, expiresAt, StorePolicy.SizeOf(Bytes, TurnCount), Reservation: null);

    /// <summary>
    /// Whether a change was sent whose answer is lost: where it was carried out, the entry is what leads to the session, and stays until
    /// somebody has looked behind it.
    /// </summary>
    public bool MayBeWritten { get; set; }

    /// <summary>Whether its entry goes when it is let go of.</summary>
    public bool TakesEntryBack => Gives && !MayBeWritten;

    /// <summary>Whether there is nothing left to let go of.</summary>
    public bool HasEnded { get; set; }
}
