using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Sessions in the memory of this process: the fastest store, gone when the process ends.</summary>
/// <remarks>
/// One lock guards everything, and is held for dictionary work only: texts are encoded before and decoded after. Expired sessions are freed by
/// <see cref="RemoveExpiredAsync"/> and, a few at a time, whenever a session is created; so memory stays bounded without a timer.
/// </remarks>
internal sealed partial class MemorySessionStore(SessionSettings options, TimeProvider time, SessionMetrics metrics) : ISessionStore
{
    // Two would keep pace with creation; a few more also work off a backlog.
    private const int ReclaimedPerCreation = 4;
    private const int ReclaimedPerLock = 1000;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, MemorySession> _sessions = new(StringComparer.Ordinal);
    private readonly Dictionary<string, SortedSet<MemorySession>> _users = new(StringComparer.Ordinal);
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
        return new(created.ToSession(_timeout));
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

        return new(snapshot.ToSession(_timeout));
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

    public ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken)
    {
        var scan = request.Filter is null ? request.Limit : SessionPageRequest.ScanLimit;
        List<MemorySession.Snapshot> candidates = [];
        lock (_lock)
        {
            if (_users.TryGetValue(userId, out var sessions))
            {
                var now = Now;
                while (sessions.Min is { } oldest && IsExpired(oldest, now))
                {
                    Remove(oldest);
                    metrics.Expired(1);
                }

                foreach (var session in Range(sessions, request))
                {
                    candidates.Add(session.TakeSnapshot());
                    if (candidates.Count > scan)
                    {
                        break;
                    }
                }
            }
        }

        List<Session> items = [];
        var seen = 0;
        while (seen < Math.Min(scan, candidates.Count) && items.Count < request.Limit)
        {
            var session = candidates[seen++].ToSession(_timeout);
            if (request.Filter?.Invoke(session) ?? true)
            {
                items.Add(session);
            }
        }

        return new(new Page<Session>(items, seen < candidates.Count ? candidates[seen - 1].Cursor : null));
    }

    public ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken)
    {
        MemoryTurn[] turns;
        int first, last, count;
        lock (_lock)
        {
            if (Find(sessionId, owner, Now) is not { } session)
            {
                return new((Page<Turn>?)null);
            }

            count = session.TurnCount;
            var edge = (int)Math.Clamp(request.After?.Position ?? (request.Descending ? count + 1 : 0), 0, count + 1);
            (first, last) = request.Descending
                ? (Math.Max(1, edge - request.Limit), edge - 1)
                : (edge + 1, Math.Min(count, edge + request.Limit));
            turns = last >= first ? session.Turns!.GetRange(first - 1, last - first + 1).ToArray() : [];
        }

        var items = new Turn[turns.Length];
        for (var i = 0; i < turns.Length; i++)
        {
            items[request.Descending ? turns.Length - 1 - i : i] = turns[i].ToTurn(first + i);
        }

        var more = turns.Length > 0 && (request.Descending ? first > 1 : last < count);
        return new(new Page<Turn>(items, more ? new PageCursor(items[^1].Number, "") : null));
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

        return new(new MetadataReplacement(snapshot.ToSession(_timeout), replaced));
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

            var turns = afterTurn ?? source.TurnCount;
            if (turns < 0 || turns > source.TurnCount)
            {
                return new(new Fork(ForkStatus.NoSuchTurn));
            }

            if (Find(session.Id, Owner.Anyone, now) is not null)
            {
                return new(new Fork(ForkStatus.IdTaken));
            }

            // Taken before the new session is added: adding it may evict the source.
            var copied = source.Turns?.GetRange(0, turns);
            var summary = source.Summary?.CoversTurns <= turns ? source.Summary : null;
            var fork = Add(session, now);
            fork.Turns = copied;
            fork.Summary = summary;
            snapshot = fork.TakeSnapshot();
        }

        metrics.Created(session.CreatedFrom);
        return new(new Fork(ForkStatus.Created, snapshot.ToSession(_timeout)));
    }

    public ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken)
    {
        MemorySession session;
        MemorySession.Snapshot snapshot;
        MemoryTurn[] turns;
        lock (_lock)
        {
            if (Find(request.SessionId, Owner.Anyone, Now) is not { } found)
            {
                return new(new MemoryTurnStart(request, null));
            }

            session = found;
            if (!request.Owner.MayHave(session.UserId))
            {
                return new(new TurnStart(request, TurnStartStatus.NotFound));
            }

            snapshot = session.TakeSnapshot();
            if (request.Idempotency is { } idempotency && session.Answered is not null && session.Answered.TryGetValue(idempotency.Key, out var answered))
            {
                return new(answered.Body == idempotency.Body
                    ? new TurnStart(request, TurnStartStatus.Replayed) { Session = snapshot.ToSession(_timeout), Replay = session.Turns![answered.Turn - 1].ToTurn(answered.Turn) }
                    : new TurnStart(request, TurnStartStatus.KeyReused));
            }

            var wanted = Math.Min(request.HistoryTurns, session.TurnCount);
            turns = wanted == 0 ? [] : session.Turns!.GetRange(session.TurnCount - wanted, wanted).ToArray();
        }

        var before = snapshot.ToSession(_timeout);
        var history = new Turn[turns.Length];
        for (var i = 0; i < turns.Length; i++)
        {
            var number = before.TurnCount - turns.Length + i + 1;
            history[i] = number == before.TurnCount ? before.LastTurn! : turns[i].ToTurn(number);
        }

        return new(new MemoryTurnStart(request, session) { Session = before, History = history });
    }

    public ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken)
    {
        var stored = new MemoryTurn(turn);
        var owner = start.Request.Owner;
        lock (_lock)
        {
            var now = Now;
            var session = ((MemoryTurnStart)start).Ground;
            if (session is null)
            {
                if (Find(start.Request.SessionId, Owner.Anyone, now) is not null)
                {
                    return new(CommitStatus.Stale);
                }

                session = Add(New(start.Request), now);
                session.Version--;
            }
            else if (session.IsRemoved || !owner.MayHave(session.UserId))
            {
                return new(CommitStatus.Gone);
            }
            else if (session.TurnCount != start.Session!.TurnCount)
            {
                return new(CommitStatus.Stale);
            }

            (session.Turns ??= new List<MemoryTurn>(1)).Add(stored);
            session.Summary = summary ?? session.Summary;
            if (start.Request.Idempotency is { } idempotency)
            {
                (session.Answered ??= [])[idempotency.Key] = (idempotency.Body, session.TurnCount);
            }

            Touch(session, owner.UserId, now);
        }

        if (start.Session is null)
        {
            metrics.Created(SessionOrigin.Query);
        }

        return new(CommitStatus.Committed);
    }

    public ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken)
    {
        var created = false;
        lock (_lock)
        {
            var now = Now;
            var session = ((MemoryTurnStart)start).Ground;
            if (session is null)
            {
                session = Find(start.Request.SessionId, start.Request.Owner, now);
                if (session is null)
                {
                    if (Find(start.Request.SessionId, Owner.Anyone, now) is not null || IsFull(start.Request.Owner.UserId, now))
                    {
                        return default;
                    }

                    session = Add(New(start.Request), now);
                    session.Version--;
                    created = true;
                }
            }
            else if (session.IsRemoved || !start.Request.Owner.MayHave(session.UserId))
            {
                return default;
            }

            session.ErrorCount++;
            session.LastError = error;
            Touch(session, userId: null, now);
        }

        if (created)
        {
            metrics.Created(SessionOrigin.Query);
        }

        return default;
    }

    // One process, and the turn gate in front: there is nothing to let go of.
    public ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken) => default;

    public ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, string sessionId, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            var now = Now;
            if (_reservations.TryGetValue(key.Key, out var reserved))
            {
                var session = Find(reserved.SessionId, Owner.Anyone, now);
                if (reserved.ExpiresAt > now || session?.ReservedBy == key.Key)
                {
                    return new(new KeyReservation(reserved.SessionId, reserved.Body == key.Body, IsNew: false));
                }
            }

            var expiresAt = now + _timeout;
            _reservations[key.Key] = new Reservation(sessionId, key.Body, expiresAt);
            _reservationExpiry.Enqueue((expiresAt, key.Key));
            return new(new KeyReservation(sessionId, SameBody: true, IsNew: true));
        }
    }

    public ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken)
    {
        long removed = 0, turns = 0;
        lock (_lock)
        {
            var now = Now;
            while (_users.TryGetValue(userId, out var sessions) && sessions.Min is { } session)
            {
                if (!IsExpired(session, now))
                {
                    removed++;
                    turns += session.TurnCount;
                }

                Remove(session);
            }
        }

        return new(new Erasure(removed, turns));
    }

    public ValueTask<int> RemoveExpiredAsync(CancellationToken cancellationToken)
    {
        var total = 0;
        bool more;
        do
        {
            cancellationToken.ThrowIfCancellationRequested();
            int removed;
            lock (_lock)
            {
                removed = Reclaim(Now, ReclaimedPerLock, out more);
            }

            metrics.Expired(removed);
            total += removed;
        }
        while (more);
        return new(total);
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

    private static NewSession New(TurnRequest request) =>
        new(request.SessionId, request.Owner.UserId, ReadOnlyMemory<byte>.Empty, SessionOrigin.Query, request.ReservedBy);

    private bool IsExpired(MemorySession session, long now) => session.LastActivityAt + _timeout <= now;

    private MemorySession? Find(string id, Owner owner, long now) =>
        _sessions.TryGetValue(id, out var session) && !IsExpired(session, now) && owner.MayHave(session.UserId) ? session : null;

    private MemorySession Add(NewSession added, long now)
    {
        metrics.Expired(Reclaim(now, ReclaimedPerCreation, out _));
        if (_sessions.TryGetValue(added.Id, out var expired))
        {
            Remove(expired);
            metrics.Expired(1);
        }

        var session = new MemorySession(added.Id, now, added.CreatedFrom)
        {
            Metadata = added.Metadata.ToArray(),
            ReservedBy = added.IdempotencyKey,
        };
        _sessions.Add(added.Id, session);
        Schedule(session);
        if (added.UserId is not null)
        {
            Bind(session, added.UserId, now);
        }

        return session;
    }

    private void Remove(MemorySession session)
    {
        session.IsRemoved = true;
        _sessions.Remove(session.Id);
        if (session.UserId is not null && _users.TryGetValue(session.UserId, out var sessions))
        {
            sessions.Remove(session);
            if (sessions.Count == 0)
            {
                _users.Remove(session.UserId);
            }
        }

        if (session.ReservedBy is { } key && _reservations.TryGetValue(key, out var reserved) && reserved.SessionId == session.Id)
        {
            _reservations.Remove(key);
        }

        // The expiry queue still holds the object; its contents need not wait for that.
        session.Turns = null;
        session.Answered = null;
        session.Metadata = [];
        session.Summary = null;
        if (_expiry.Count > 2 * _sessions.Count + 64)
        {
            _expiry.Clear();
            foreach (var left in _sessions.Values)
            {
                Schedule(left);
            }
        }
    }

    private void Touch(MemorySession session, string? userId, long now)
    {
        session.Version++;
        if (session.UserId is { } bound)
        {
            var sessions = _users[bound];
            sessions.Remove(session);
            session.LastActivityAt = now;
            sessions.Add(session);
        }
        else
        {
            session.LastActivityAt = now;
            if (userId is not null)
            {
                Bind(session, userId, now);
            }
        }

        // Only a clock that was set back brings the expiry forward.
        if (now + _timeout < session.ScheduledAt)
        {
            Schedule(session);
        }
    }

    private void Bind(MemorySession session, string userId, long now)
    {
        session.UserId = userId;
        if (!_users.TryGetValue(userId, out var sessions))
        {
            _users.Add(userId, sessions = new SortedSet<MemorySession>(ByActivity.Instance));
        }

        // The new one goes in after room was made, so that it is never the one to go.
        int expired = 0, evicted = 0;
        while (_maxPerUser > 0 && sessions.Count >= _maxPerUser)
        {
            var oldest = sessions.Min!;
            _ = IsExpired(oldest, now) ? expired++ : evicted++;
            Remove(oldest);
        }

        sessions.Add(session);
        _users[userId] = sessions;
        metrics.Expired(expired);
        metrics.Evicted(evicted);
    }

    private bool IsFull(string? userId, long now) =>
        _maxPerUser > 0 && userId is not null && _users.TryGetValue(userId, out var sessions)
        && sessions.Count >= _maxPerUser && sessions.Count(session => !IsExpired(session, now)) >= _maxPerUser;

    private void Schedule(MemorySession session)
    {
        session.ScheduledAt = session.LastActivityAt + _timeout;
        _expiry.Enqueue(session, session.ScheduledAt);
    }

    private int Reclaim(long now, int most, out bool more)
    {
        var removed = 0;
        for (var step = 0; step < most; step++)
        {
            if (_reservationExpiry.TryPeek(out var reservation) && reservation.ExpiresAt <= now)
            {
                _reservationExpiry.Dequeue();
                if (_reservations.TryGetValue(reservation.Key, out var reserved) && Find(reserved.SessionId, Owner.Anyone, now)?.ReservedBy != reservation.Key)
                {
                    _reservations.Remove(reservation.Key);
                }
            }

            if (!_expiry.TryPeek(out var session, out var at) || at > now)
            {
                more = false;
                return removed;
            }

            _expiry.Dequeue();
            if (session.IsRemoved || session.ScheduledAt != at)
            {
                continue;
            }

            if (IsExpired(session, now))
            {
                Remove(session);
                removed++;
            }
            else
            {
                Schedule(session);
            }
        }

        more = true;
        return removed;
    }

    // Entries of the user from the cursor on, in the order asked for.
    private static IEnumerable<MemorySession> Range(SortedSet<MemorySession> sessions, SessionPageRequest request)
    {
        if (request.After is not { } after)
        {
            return request.Ascending ? sessions : sessions.Reverse();
        }

        var place = new MemorySession(after.Id, after.Position, SessionOrigin.Api);
        if (ByActivity.Instance.Compare(request.Ascending ? sessions.Max : sessions.Min, place) is var end && (request.Ascending ? end <= 0 : end >= 0))
        {
            return [];
        }

        var rest = request.Ascending ? sessions.GetViewBetween(place, sessions.Max) : sessions.GetViewBetween(sessions.Min, place).Reverse();
        return rest.Where(session => ByActivity.Instance.Compare(session, place) != 0);
    }

    private sealed record Reservation(string SessionId, Guid Body, long ExpiresAt);

    private sealed class MemoryTurnStart(TurnRequest request, MemorySession? ground) : TurnStart(request, TurnStartStatus.Started)
    {
        /// <summary>The very session the turn stands on: a later one with the same id is another.</summary>
        public MemorySession? Ground { get; } = ground;
    }

    private sealed class ByActivity : IComparer<MemorySession>
    {
        public static readonly ByActivity Instance = new();

        public int Compare(MemorySession? x, MemorySession? y)
        {
            var byTime = x!.LastActivityAt.CompareTo(y!.LastActivityAt);
            return byTime != 0 ? byTime : string.CompareOrdinal(x.Id, y.Id);
        }
    }
}
