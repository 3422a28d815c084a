using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <summary>Sessions in the memory of this process: the fastest store, gone when the process ends.</summary>
/// <remarks>
/// One lock guards everything, and is held for dictionary work only: what is read is copied or shared under it and unpacked outside.
/// Expired sessions are freed by <see cref="SweepAsync"/> and, a few at a time, whenever a session is created; so memory stays bounded
/// without a timer.
/// </remarks>
internal sealed partial class MemorySessionStore : ISessionStore
{
    // Two would keep pace with creation; a few more also work off a backlog.
    private const int ReclaimedPerCreation = 4;
    private const int ReclaimedPerLock = 1000;

    private readonly StorePolicy _policy;
    private readonly TimeProvider _time;
    private readonly Lock _lock = new();
    private readonly HashSet<MemorySession> _sessions = new(ByMemorySessionId.Instance);

    // But for those that their id leads to.
    private readonly HashSet<MemorySession> _sessionsByKey = new(ByMemorySessionKey.Instance);
    private readonly Dictionary<string, MemoryOwner> _users = new(StringComparer.Ordinal);
    private readonly MemoryOwner _nobody = new(null);
    private readonly ActivityIndex[] _all = [.. Enum.GetValues<SessionKind>().Select(_ => new ActivityIndex())];
    private readonly AgentNames _names = new();
    private long _bytes;

    /// <summary>Makes an empty store.</summary>
    public MemorySessionStore(StorePolicy policy, TimeProvider time)
    {
        (_policy, _time) = (policy, time);
        _lifetimes = [.. Enum.GetValues<SessionKind>().Select(kind => policy.Lifetime(kind).Ticks / TimeSpan.TicksPerMicrosecond)];
    }

    /// <inheritdoc/>
    public StoreCapabilities Capabilities => new(IsDurable: false, HasLeases: false);

    private long Now => _time.GetUtcNow().ToMicroseconds();

    /// <inheritdoc/>
    public async ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Effects effects = default;
        lock (_lock)
        {
            if (Find(session, Now) is not { } found)
            {
                if (session.Id is { } id)
                {
                    EndOpenings(opening => opening.Id == id && owner.MayHave(opening.UserId));
                }

                return false;
            }

            if (!owner.MayHave(found.Owner.UserId))
            {
                return false;
            }

            Remove(found, ref effects);
        }

        await PublishAsync(effects);
        return true;
    }

    /// <inheritdoc/>
    public async ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        long sessions = 0, turns = 0;
        Effects effects = default;
        MemorySession[] all;
        lock (_lock)
        {
            EndOpenings(opening => opening.UserId == userId);
            all = _users.TryGetValue(userId, out var user) ? [.. user.All] : [];
        }

        // In steps, so that nobody waits for long; what comes to be after the first one is new.
        foreach (var some in all.Chunk(ReclaimedPerLock))
        {
            lock (_lock)
            {
                var now = Now;
                foreach (var session in some.Where(session => !session.IsRemoved))
                {
                    if (session.ExpiresAt > now)
                    {
                        sessions++;
                        turns += session.Turns.Count;
                    }

                    Remove(session, ref effects);
                }
            }
        }

        await PublishAsync(effects);
        return new Erasure(sessions, turns);
    }

    /// <inheritdoc/>
    public async ValueTask<StoreStatistics> CountAsync(CancellationToken cancellationToken)
    {
        // Once the expired ones are out, what is left is the count.
        await SweepAsync(cancellationToken);
        lock (_lock)
        {
            var active = _all[(int)SessionKind.Session].Count + _all[(int)SessionKind.Conversation].Count;
            return new StoreStatistics(active, active) { Bytes = _bytes };
        }
    }

    /// <inheritdoc/>
    public ValueTask<HealthCheckResult> CheckAsync(CancellationToken cancellationToken) =>
        new(HealthCheckResult.Healthy("Sessions are kept in memory and end with this process."));

    // Whether it has expired or not.
    private MemorySession? FindAny(SessionRef session) => session.Id is { } id ? FindAny(id) : FindAny(session.Key);

    private MemorySession? FindAny(ReadOnlySpan<char> id)
    {
        _sessions.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(id, out var found);
        return found;
    }

    private MemorySession? FindAny(Guid key)
    {
        if (_sessionsByKey.GetAlternateLookup<Guid>().TryGetValue(key, out var found))
        {
            return found;
        }

        Span<char> id = stackalloc char[MemorySessionId.UuidLength];
        key.TryFormat(id, out _);
        return FindAny(id) is { IsNamedByKey: true } named ? named : null;
    }

    private MemorySession? Find(SessionRef session, long now) => FindAny(session) is { } found && found.ExpiresAt > now ? found : null;

    // Whether another session has that id or key. One that has expired makes room.
    private bool IsTaken(NewSession session, long now, ref Effects effects) =>
        IsTaken(FindAny(session.Id), now, ref effects) || IsTaken(FindAny(session.Key), now, ref effects);

    private bool IsTaken(MemorySession? found, long now, ref Effects effects)
    {
        if (found?.ExpiresAt <= now)
        {
            effects.Expired += Expire(found);
            return false;
        }

        return found is not null;
    }

    private MemoryOwner OwnerOf(string? userId) => userId is null ? _nobody : _users.TryGetValue(userId, out var user) ? user
        : new MemoryOwner(userId);

    // Of one that has just been made: there is room for it, and neither its id nor its key is taken.
    private void Add(MemorySession session, long now, ref Effects effects)
    {
        effects.Expired += Reclaim(now, ReclaimedPerCreation, out _);
        _sessions.Add(session);
        if (!session.IsNamedByKey)
        {
            _sessionsByKey.Add(session);
        }

        Attach(session, session.Owner);
        Schedule(session);
    }

    private void Remove(MemorySession session, ref Effects effects)
    {
        (effects.Removed ??= []).Add(session.Key);
        Remove(session);
    }

    private void Remove(MemorySession session)
    {
        session.IsRemoved = true;
        _sessions.Remove(session);
        _sessionsByKey.Remove(session);
        Detach(session);
        Forget(session.Owner);
        var now = Now;
        if (session.ReservedBy is { } key && _reservations.TryGetValue(key, out var reserved) && session.HasId(reserved.SessionId)
            && (session.ExpiresAt > now || reserved.ExpiresAt <= now))
        {
            // One that was renewed since the session expired is for the next of that id.
            RemoveReservation(key);
        }

        // The expiry queue still holds the object; its contents need not wait for that.
        session.Empty();
        if (_expiry.Count > (2 * _sessions.Count) + 64)
        {
            _expiry.Clear();
            foreach (var left in _sessions)
            {
                Schedule(left);
            }
        }
    }

    // Takes it out of what is ordered and counted by what is going to change: activity, bytes, turns, owner.
    private void Detach(MemorySession session)
    {
        _all[(int)session.Kind].Remove(session);
        session.Owner.Remove(session);
        _bytes -= session.Size;
    }

    // And puts it back.
    private void Attach(MemorySession session, MemoryOwner owner)
    {
        var before = session.Owner;
        session.Owner = owner;
        owner.Add(session);
        _all[(int)session.Kind].Add(session);
        _bytes += session.Size;
        if (owner.UserId is { } userId)
        {
            _users.TryAdd(userId, owner);
        }

        if (before != owner)
        {
            Forget(before);
        }
    }

    private void Forget(MemoryOwner owner)
    {
        if (owner is { UserId: { } userId, IsEmpty: true })
        {
            _users.Remove(userId);
        }
    }

    private void Touch(MemorySession session, long now)
    {
        session.LastActivityAt = Math.Max(now, session.LastActivityAt);
        session.ExpiresAt = session.LastActivityAt + _lifetimes[(int)session.Kind];
    }

    private ValueTask PublishAsync(in Effects effects)
    {
        if (effects.Created is { } origin)
        {
            _policy.Events.Created(origin);
        }

        if (effects.Expired > 0)
        {
            _policy.Events.Expired(effects.Expired);
        }

        if (effects.Evicted > 0)
        {
            _policy.Events.Evicted(effects.Evicted);
        }

        return effects.Removed is { } keys ? _policy.Events.Removed(keys) : default;
    }

    /// <summary>What is to be published when the lock is free again.</summary>
    private struct Effects
    {
        public SessionOrigin? Created;
        public int Expired;
        public int Evicted;
        public List<Guid>? Removed;
    }
}
