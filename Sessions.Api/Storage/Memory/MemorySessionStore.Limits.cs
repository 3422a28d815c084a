using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <content>Limits, in number and in bytes.</content>
internal sealed partial class MemorySessionStore
{
    private const string StoredBytesLimit = "limits.stored_bytes";
    private const string ChainBytesLimit = "limits.responses_bytes_per_user";
    private const string UnownedBytesLimit = "limits.unowned_bytes";

    // The one that comes is not among them, so that it is never the one to go.
    private void MakeRoomInNumber(MemoryOwner owner, SessionKind kind, long now, ref Effects effects)
    {
        var max = _policy.MaxPerUser(kind);
        if (max <= 0 || owner.UserId is null || owner[kind] is not { } sessions || sessions.Count < max)
        {
            return;
        }

        // First those that do not count. They need not be the least recently active: a turn that begins moves an expiry, and no activity.
        foreach (var expired in sessions.All.Where(session => session.ExpiresAt <= now).ToList())
        {
            effects.Expired += Expire(expired);
        }

        while (sessions.Count >= max)
        {
            Evict(FirstToGo(sessions.All) ?? sessions.All.First(), ref effects);
        }
    }

    private bool IsFullInNumber(MemoryOwner owner, SessionKind kind, long now) =>
        _policy.MaxPerUser(kind) is var max && max > 0 && owner.UserId is not null && owner[kind] is { } sessions
        && sessions.Count >= max && sessions.All.Count(session => session.ExpiresAt > now) >= max;

    /// <summary>
    /// Makes room for a session that is going to be larger, or new, or another's; tells the limit that stands against it.
    /// </summary>
    /// <param name="session">The session; <see langword="null"/>: it is new.</param>
    /// <param name="owner">Whose it is going to be.</param>
    /// <param name="kind">Its kind.</param>
    /// <param name="size">What it is going to count for.</param>
    /// <param name="now">The time.</param>
    /// <param name="effects">Of those that had to go.</param>
    private string? MakeRoomInBytes(MemorySession? session, MemoryOwner owner, SessionKind kind, long size, long now, ref Effects effects)
    {
        var before = session?.Size ?? 0;
        var beforeOfOwner = session?.Owner == owner ? before : 0;
        if (size <= beforeOfOwner || Missing() is null)
        {
            return null;
        }

        // What has expired does not count, but takes up room.
        effects.Expired += Reclaim(now, ReclaimedPerLock, out _);
        if (Missing() is not { } missing)
        {
            return null;
        }

        var chains = owner[SessionKind.Chain];
        var available = owner.ChainBytes - (session is { Kind: SessionKind.Chain } && session.Owner == owner ? before : 0);
        if (missing.Bytes > available)
        {
            return missing.Limit;
        }

        while (Missing() is not null)
        {
            var others = chains!.All.Where(chain => chain != session);
            Evict(FirstToGo(others) ?? others.First(), ref effects);
        }

        return null;

        // By the limit that is passed by most.
        (string Limit, long Bytes)? Missing()
        {
            (string Limit, long Bytes)? worst = null;
            Check(StoredBytesLimit, _policy.StoredBytes, _bytes + size - before, ref worst);
            if (kind == SessionKind.Chain)
            {
                Check(ChainBytesLimit, _policy.ChainBytesPerOwner, owner.ChainBytes + size - beforeOfOwner, ref worst);
            }

            if (owner.UserId is null)
            {
                Check(UnownedBytesLimit, _policy.UnownedBytes, owner.Bytes + size - beforeOfOwner, ref worst);
            }

            return worst;
        }

        static void Check(string limit, long allowed, long wanted, ref (string Limit, long Bytes)? worst)
        {
            if (allowed > 0 && wanted > allowed && (worst is null || wanted - allowed > worst.Value.Bytes))
            {
                worst = (limit, wanted - allowed);
            }
        }
    }

    // The oldest on which no turn runs.
    private MemorySession? FirstToGo(IEnumerable<MemorySession> sessions) =>
        sessions.FirstOrDefault(session => !_policy.IsRunning(session.Id));

    private void Evict(MemorySession session, ref Effects effects)
    {
        effects.Evicted += session.Kind == SessionKind.Chain ? 0 : 1;
        Remove(session, ref effects);
    }
}
