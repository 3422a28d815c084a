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
}
