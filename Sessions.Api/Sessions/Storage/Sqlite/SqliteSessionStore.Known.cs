namespace Sessions.Api;

/// <content>Reading for somebody who may know the last turns already, as they were at some moment: then only what proves it is read.</content>
internal sealed partial class SqliteSessionStore
{
    /// <summary>Reads one page of a session's turns.</summary>
    /// <param name="sessionId">The session's id.</param>
    /// <param name="owner">On whose behalf.</param>
    /// <param name="request">Which page.</param>
    /// <param name="known">The session's last turns, as somebody remembers them.</param>
    /// <returns>The page, or <see langword="null"/> where there is no such session for this owner; and what was known, where it still holds.</returns>
    internal (Page<Turn>? Page, TurnWindow? Held) ReadHistory(string sessionId, Owner owner, TurnPageRequest request, TurnWindow? known)
    {
        var page = _readers.ReadConsistently(link =>
        {
            if (Find(link, sessionId, ref known, out var key) is not { } session || !owner.MayHave(session.UserId))
            {
                return null;
            }

            // There are no gaps, so which turns they are is known before they are read.
            var edge = Math.Clamp(request.After?.Position ?? (request.Descending ? long.MaxValue : 0), 0, session.TurnCount + 1L);
            var (from, to) = request.Descending ? (Math.Max(edge - request.Limit, 1), edge - 1) : (edge + 1, Math.Min(edge + request.Limit, session.TurnCount));
            List<Turn> items = [.. ReadTurns(link, key, (int)from, (int)to, LastTurns(session, known))];
            if (request.Descending)
            {
                items.Reverse();
            }

            var more = items.Count > 0 && (request.Descending ? items[^1].Number > 1 : items[^1].Number < session.TurnCount);
            return new Page<Turn>(items, more ? new PageCursor(items[^1].Number, "") : null);
        });
        return (page, known);
    }

    /// <summary>Starts a turn.</summary>
    /// <param name="request">The turn.</param>
    /// <param name="known">The session's last turns, as somebody remembers them.</param>
    /// <returns>Its beginning; and what was known, where it still holds.</returns>
    internal (TurnStart Start, TurnWindow? Held) Begin(TurnRequest request, TurnWindow? known)
    {
        // Where all is known that is asked for, one statement tells whether it still holds, and needs no transaction around it. Where it does not, what was read is not used.
        if (request.Idempotency is null && known is { Session: { } session } && known.Turns.Count >= Math.Min(session.TurnCount, request.HistoryTurns))
        {
            var alone = _readers.Read(link => Begin(link, request, ref known));
            if (known is not null)
            {
                return (alone, known);
            }
        }

        var start = _readers.ReadConsistently(link => Begin(link, request, ref known));
        return (start, known);
    }

    /// <summary>Whether a session is still there; not a later one with the same id.</summary>
    internal bool Exists(SessionStamp stamp) => _readers.Read(link =>
    {
        using var rows = link[SqliteSql.Ground].Bind(stamp.Key).Read();
        return rows.Next();
    });

    private TurnStart Begin(SqliteLink link, TurnRequest request, ref TurnWindow? known)
    {
        if (Find(link, request.SessionId, ref known, out var key) is not { } session)
        {
            return new SqliteTurnStart(request, null);
        }

        if (!request.Owner.MayHave(session.UserId))
        {
            return new TurnStart(request, TurnStartStatus.NotFound);
        }

        if (request.Idempotency is { } idempotency)
        {
            using var rows = link[SqliteSql.FindAnswered].Bind(key).Bind(idempotency.Key).Read();
            if (rows.Next())
            {
                return rows.GuidOrNull(SqliteRows.AfterTurn) == idempotency.Body
                    ? new TurnStart(request, TurnStartStatus.Replayed) { Session = session, Replay = rows.ToTurn() }
                    : new TurnStart(request, TurnStartStatus.KeyReused);
            }
        }

        var last = LastTurns(session, known);
        var history = ReadTurns(link, key, Math.Max(session.TurnCount - request.HistoryTurns, 0) + 1, session.TurnCount, last);
        return new SqliteTurnStart(request, key) { Session = session, History = history, LastTurns = last.Count > history.Count ? last : history };
    }

    // What is known becomes null where it does not hold any more.
    private Session? Find(SqliteLink link, string id, ref TurnWindow? known, out long key)
    {
        if (known?.Session is { } remembered)
        {
            if (Holds(link, known.Stamp))
            {
                key = known.Stamp.Key;
                return remembered;
            }

            known = null;
        }
        else if (known is not null)
        {
            using var rows = link[SqliteSql.FindSessionAlone].Bind(id).Bind(Now).Read();
            if (rows.Next())
            {
                key = rows.SessionKey();
                var session = rows.ToSession();
                if (known.IsOf(SessionStamp.Of(key, session), session.TurnCount))
                {
                    return session with { LastTurn = known.Turns[^1] };
                }
            }

            known = null;
        }

        return Find(link, id, out key);
    }

    private bool Holds(SqliteLink link, SessionStamp stamp)
    {
        using var rows = link[SqliteSql.Stamp].Bind(stamp.Key).Bind(Now).Read();
        return rows.Next() && stamp == new SessionStamp(stamp.Key, rows.Long(0), rows.Long(1), rows.Long(2));
    }

    private static IReadOnlyList<Turn> LastTurns(Session session, TurnWindow? known) => known?.Turns ?? (session.LastTurn is { } last ? [last] : []);

    // In order. The last turns of the session are given, and not read again.
    private static IReadOnlyList<Turn> ReadTurns(SqliteLink link, long key, int from, int to, IReadOnlyList<Turn> last)
    {
        var given = last.Count > 0 ? last[0].Number : int.MaxValue;
        if (from == given && to == last[^1].Number)
        {
            return last;
        }

        List<Turn> turns = [];
        if (from <= to && from < given)
        {
            turns = SqliteTurns.Read(link, key, from, Math.Min(to, given - 1), static (in row) => row.ToTurn());
        }

        for (var number = Math.Max(from, given); number <= to; number++)
        {
            turns.Add(last[number - given]);
        }

        return turns;
    }
}
