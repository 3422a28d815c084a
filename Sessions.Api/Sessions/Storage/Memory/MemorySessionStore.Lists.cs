namespace Sessions.Api;

/// <content>Pages of sessions and of turns.</content>
internal sealed partial class MemorySessionStore
{
    public ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken)
    {
        var scan = request.Filter is null ? request.Limit : SessionPageRequest.ScanLimit;
        List<MemorySession.Snapshot> candidates = [];
        lock (_lock)
        {
            if (_users.TryGetValue(userId, out var user))
            {
                var now = Now;
                while (user.Oldest is { } oldest && IsExpired(oldest, now))
                {
                    Remove(oldest);
                    metrics.Expired(1);
                }

                foreach (var session in user.Behind(request.After, request.Ascending))
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
            var session = candidates[seen++].ToSession(_timeout, _agents);
            if (request.Filter?.Invoke(session) ?? true)
            {
                items.Add(session);
            }
        }

        return new(new Page<Session>(items, seen < candidates.Count ? candidates[seen - 1].Cursor : null));
    }

    public ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken)
    {
        MemoryTurns.Range turns;
        int first, last, count;
        lock (_lock)
        {
            if (Find(sessionId, owner, Now) is not { } session)
            {
                return new((Page<Turn>?)null);
            }

            count = session.Turns.Count;
            var edge = (int)Math.Clamp(request.After?.Position ?? (request.Descending ? count + 1 : 0), 0, count + 1);
            (first, last) = request.Descending
                ? (Math.Max(1, edge - request.Limit), edge - 1)
                : (edge + 1, Math.Min(count, edge + request.Limit));
            turns = session.Turns.Select(first, last);
        }

        var items = turns.ToArray(_agents);
        if (request.Descending)
        {
            Array.Reverse(items);
        }

        var more = items.Length > 0 && (request.Descending ? first > 1 : last < count);
        return new(new Page<Turn>(items, more ? new PageCursor(items[^1].Number, "") : null));
    }
}
