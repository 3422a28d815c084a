using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <content>What ends by itself: expired sessions, and session ids that were reserved.</content>
internal sealed partial class MemorySessionStore
{
    // About what a reservation takes, its place in the queue included.
    private const int BytesOfReservation = 256;

    private readonly Dictionary<Guid, Reservation> _reservations = [];
    private readonly Queue<(long ExpiresAt, Guid Key)> _reservationExpiry = new();
    private readonly long[] _lifetimes;

    // When to look at which session. A turn moves a session's expiry but not its place here: when its time comes and it has been
    // active since, it goes back in with its real expiry. So a turn costs nothing here, and each session a step per lifetime.
    // Each has one place, until it is removed and its place comes up.
    private readonly PriorityQueue<MemorySession, long> _expiry = new();

    /// <inheritdoc/>
    public ValueTask<KeyReservation> ReserveAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        string? limit;
        var expired = 0;
        lock (_lock)
        {
            var now = Now;
            if (_reservations.TryGetValue(key.Key, out var reserved))
            {
                // By its session where there is one, else by itself.
                var session = FindAny(SessionRef.ById(reserved.SessionId));
                var isAlive = session?.ExpiresAt > now;
                if (session?.ReservedBy == key.Key ? isAlive : reserved.ExpiresAt > now)
                {
                    return new(KeyReservation.Found(
                        reserved.SessionId, reserved.Body == key.Body, sessionId, !isAlive || owner.MayHave(session!.Owner.UserId)));
                }
            }

            limit = FindLimitOfReservation(owner);
            if (limit is not null)
            {
                // What has expired does not count, but takes up room.
                expired = Reclaim(now, ReclaimedPerLock, out _);
                limit = FindLimitOfReservation(owner);
            }

            if (limit is null)
            {
                Reserve(key, sessionId, now + _lifetimes[(int)SessionKind.Session]);
            }
        }

        if (expired > 0)
        {
            _policy.Events.Expired(expired);
        }

        return limit is null ? new(new KeyReservation(sessionId, SameBody: true, IsNew: true))
            : throw new DomainException(Error.StorageFull(limit));
    }

    /// <inheritdoc/>
    public ValueTask<int> SweepAsync(CancellationToken cancellationToken)
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

            if (removed > 0)
            {
                _policy.Events.Expired(removed);
            }

            total += removed;
        }
        while (more);
        return new(total);
    }

    private string? FindLimitOfReservation(Owner owner) =>
        _policy.StoredBytes > 0 && _bytes + BytesOfReservation > _policy.StoredBytes ? StoredBytesLimit
        : owner.UserId is null && !_policy.HasUnownedRoom(_nobody.Bytes - _nobody.ChainBytes) ? UnownedBytesLimit
        : null;

    private void Reserve(Idempotency key, string sessionId, long expiresAt)
    {
        _bytes += _reservations.ContainsKey(key.Key) ? 0 : BytesOfReservation;
        _reservations[key.Key] = new Reservation(sessionId, key.Body, expiresAt);
        _reservationExpiry.Enqueue((expiresAt, key.Key));
    }

    private void RemoveReservation(Guid key)
    {
        _reservations.Remove(key);
        _bytes -= BytesOfReservation;
    }

    private void Schedule(MemorySession session) => _expiry.Enqueue(session, session.ExpiresAt);

    // How many sessions were removed, without chains.
    private int Reclaim(long now, int max, out bool more)
    {
        var removed = 0;
        for (var step = 0; step < max; step++)
        {
            var hasReservation = _reservationExpiry.TryPeek(out var reservation) && reservation.ExpiresAt <= now;
            if (hasReservation)
            {
                _reservationExpiry.Dequeue();

                // Renewed by now: then its own time comes later. Or its session lives on: then it goes with that.
                if (_reservations.TryGetValue(reservation.Key, out var reserved) && reserved.ExpiresAt <= now
                    && Find(SessionRef.ById(reserved.SessionId), now)?.ReservedBy != reservation.Key)
                {
                    RemoveReservation(reservation.Key);
                }
            }

            if (_expiry.TryPeek(out var session, out var at) && at <= now)
            {
                _expiry.Dequeue();
                if (!session.IsRemoved && session.ExpiresAt <= now)
                {
                    removed += Expire(session);
                }
                else if (!session.IsRemoved)
                {
                    Schedule(session);
                }
            }
            else if (!hasReservation)
            {
                more = false;
                return removed;
            }
        }

        more = true;
        return removed;
    }

    private int Expire(MemorySession session)
    {
        Remove(session);
        return session.Kind == SessionKind.Chain ? 0 : 1;
    }

    private sealed record Reservation(string SessionId, Guid Body, long ExpiresAt);
}
