namespace Sessions.Api;

/// <content>What ends by itself: expired sessions, and session ids that were reserved.</content>
internal sealed partial class MemorySessionStore
{
    public ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            var now = Now;
            if (_reservations.TryGetValue(key.Key, out var reserved))
            {
                var session = Find(reserved.SessionId, Owner.Anyone, now);
                if (reserved.ExpiresAt > now || session?.ReservedBy == key.Key)
                {
                    return new(session is null || owner.MayHave(session.UserId)
                        ? new KeyReservation(reserved.SessionId, reserved.Body == key.Body, IsNew: false)
                        : new KeyReservation(sessionId, SameBody: false, IsNew: false));
                }
            }

            var expiresAt = now + _timeout;
            _reservations[key.Key] = new Reservation(sessionId, key.Body, expiresAt);
            _reservationExpiry.Enqueue((expiresAt, key.Key));
            return new(new KeyReservation(sessionId, SameBody: true, IsNew: true));
        }
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
}
