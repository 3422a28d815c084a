using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Sessions in the memory of this process: the fastest store, gone when the process ends.</summary>
/// <remarks>
/// One lock guards everything, and is held for dictionary work only: texts are copied before. Expired sessions are freed by
/// <see cref="RemoveExpiredAsync"/> and, a few at a time, whenever a session is created; so memory stays bounded without a timer.
/// </remarks>
internal sealed partial class MemorySessionStore(SessionSettings options, TimeProvider time, SessionMetrics metrics) : ISessionStore
{
    // Two would keep pace with creation; a few more also work off a backlog.
    private const int ReclaimedPerCreation = 4;
    private const int ReclaimedPerLock = 1000;

    private readonly Lock _lock = new();
    private readonly HashSet<MemorySession> _sessions = new(ByMemorySessionId.Instance);
    private readonly Dictionary<string, MemoryUser> _users = new(StringComparer.Ordinal);
    private readonly AgentNames _agents = new();
    private readonly Dictionary<Guid, Reservation> _reservations = [];
    private readonly Queue<(long ExpiresAt, Guid Key)> _reservationExpiry = new();

    // When to look at which session. A turn moves a session's expiry but not its place here: when its time comes and it has been
    // active since, it goes back in with its real expiry. So a turn costs nothing here, and each session a step per timeout.
    private readonly PriorityQueue<MemorySession, long> _expiry = new();

    private readonly long _timeout = options.Timeout.Ticks / TimeSpan.TicksPerMicrosecond;
    private readonly int _maxPerUser = options.MaxSessionsPerUser;

    private long Now => time.GetUtcNow().ToMicroseconds();

    public ValueTask<Session?> CreateAsync(NewSession session, CancellationToken cancellationToken)
    {
        MemorySession.Snapshot created;
        lock (_lock)
        {
            var now = Now;
            if (Find(session.Id, Owner.Anyone, now) is not null)
            {
                return new((Session?)null);
            }

            created = Add(session, now).TakeSnapshot();
        }

        metrics.Created(session.CreatedFrom);
        return new(created.ToSession(_timeout, _agents, session.Id));
    }

    public ValueTask<Session?> GetAsync(string sessionId, Owner owner, CancellationToken cancellationToken)
    {
        MemorySession.Snapshot snapshot;
        lock (_lock)
        {
            if (Find(sessionId, owner, Now) is not { } session)
            {
                return new((Session?)null);
            }

            snapshot = session.TakeSnapshot();
        }

        return new(snapshot.ToSession(_timeout, _agents, sessionId));
    }

    public ValueTask<bool> DeleteAsync(string sessionId, Owner owner, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            if (Find(sessionId, owner, Now) is not { } session)
            {
                return new(false);
            }

            Remove(session);
            return new(true);
        }
    }

    public ValueTask<MetadataReplacement> ReplaceMetadataAsync(
        string sessionId, Owner owner, long expectedVersion, ReadOnlyMemory<byte> metadata, CancellationToken cancellationToken)
    {
        MemorySession.Snapshot snapshot;
        bool replaced;
        lock (_lock)
        {
            if (Find(sessionId, owner, Now) is not { } session)
            {
                return new(default(MetadataReplacement));
            }

            replaced = session.Version == expectedVersion;
            if (replaced)
            {
                session.Metadata = metadata.ToArray();
                session.Version++;
            }

            snapshot = session.TakeSnapshot();
        }

        return new(new MetadataReplacement(snapshot.ToSession(_timeout, _agents, sessionId), replaced));
    }

    public ValueTask<Fork> ForkAsync(string sourceId, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken)
    {
        MemorySession.Snapshot snapshot;
        lock (_lock)
        {
            var now = Now;
            if (Find(sourceId, owner, now) is not { } source)
            {
                return new(new Fork(ForkStatus.SourceNotFound));
            }

            var turns = afterTurn ?? source.Turns.Count;
            if (turns < 0 || turns > source.Turns.Count)
            {
                return new(new Fork(ForkStatus.NoSuchTurn));
            }

            if (Find(session.Id, Owner.Anyone, now) is not null)
            {
                return new(new Fork(ForkStatus.IdTaken));
            }

            // Taken before the new session is added: adding it may evict the source.
            var copied = source.Turns.Take(turns);
            var summary = source.Summary?.CoversTurns <= turns ? source.Summary : null;
            var fork = Add(session with { UserId = source.UserId }, now);
            fork.Turns = copied;
            fork.Summary = summary;
            snapshot = fork.TakeSnapshot();
        }

        metrics.Created(session.CreatedFrom);
        return new(new Fork(ForkStatus.Created, snapshot.ToSession(_timeout, _agents, session.Id)));
    }

    public ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken)
    {
        long removed = 0, turns = 0;
        lock (_lock)
        {
            var now = Now;
            while (_users.TryGetValue(userId, out var user) && user.Oldest is { } session)
            {
                if (!IsExpired(session, now))
                {
                    removed++;
                    turns += session.Turns.Count;
                }

                Remove(session);
            }
        }

        return new(new Erasure(removed, turns));
    }

    public async ValueTask<StoreStatistics> GetStatisticsAsync(CancellationToken cancellationToken)
    {
        // Once the expired ones are out, what is left is the count.
        await RemoveExpiredAsync(cancellationToken);
        lock (_lock)
        {
            return new(_sessions.Count, _sessions.Count);
        }
    }

    public ValueTask<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken) =>
        new(HealthCheckResult.Healthy("Sessions are kept in memory and end with this process."));

    private bool IsExpired(MemorySession session, long now) => session.LastActivityAt + _timeout <= now;

    private MemorySession? Find(string id, Owner owner, long now) =>
        _sessions.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(id, out var session) && !IsExpired(session, now) && owner.MayHave(session.UserId) ? session : null;

    private MemorySession Add(NewSession added, long now)
    {
        metrics.Expired(Reclaim(now, ReclaimedPerCreation, out _));
        RemoveExpired(added.Id);

        var session = new MemorySession(added.Id, now, added.CreatedFrom)
        {
            Metadata = added.Metadata.ToArray(),
            ReservedBy = added.IdempotencyKey,
        };
        _sessions.Add(session);
        Schedule(session);
        if (added.UserId is not null)
        {
            Bind(session, added.UserId, now);
        }

        return session;
    }

    private void RemoveExpired(string id)
    {
        if (_sessions.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(id, out var expired))
        {
            Remove(expired);
            metrics.Expired(1);
        }
    }

    private void Remove(MemorySession session)
    {
        session.IsRemoved = true;
        _sessions.Remove(session);
        if (session.User is { } user)
        {
            user.Remove(session);
            if (user.Count == 0)
            {
                _users.Remove(user.Id);
            }
        }

        if (session.ReservedBy is { } key && _reservations.TryGetValue(key, out var reserved) && session.HasId(reserved.SessionId))
        {
            _reservations.Remove(key);
        }

        // The expiry queue still holds the object; its contents need not wait for that.
        session.Empty();
        if (_expiry.Count > 2 * _sessions.Count + 64)
        {
            _expiry.Clear();
            foreach (var left in _sessions)
            {
                Schedule(left);
            }
        }
    }

    private void Touch(MemorySession session, string? userId, long now)
    {
        session.Version++;
        var activity = Math.Max(now, session.LastActivityAt);
        if (session.User is { } user)
        {
            user.Remove(session);
            session.LastActivityAt = activity;
            user.Add(session);
        }
        else
        {
            session.LastActivityAt = activity;
            if (userId is not null)
            {
                Bind(session, userId, now);
            }
        }
    }

    private void Bind(MemorySession session, string userId, long now)
    {
        var user = User(userId);

        // The new one goes in after room was made, so that it is never the one to go.
        int expired = 0, evicted = 0;
        while (_maxPerUser > 0 && user.Count >= _maxPerUser)
        {
            var oldest = user.Oldest!;
            _ = IsExpired(oldest, now) ? expired++ : evicted++;
            Remove(oldest);
        }

        session.User = user;
        user.Add(session);
        _users[userId] = user;
        metrics.Expired(expired);
        metrics.Evicted(evicted);
    }

    private MemoryUser User(string id)
    {
        if (!_users.TryGetValue(id, out var user))
        {
            _users.Add(id, user = new MemoryUser(id));
        }

        return user;
    }

    private sealed record Reservation(string SessionId, Guid Body, long ExpiresAt);
}
