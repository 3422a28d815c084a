using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>The steps that changes are made of, on the writer's connection and inside its transaction.</summary>
internal sealed class SqliteTables(SqliteLink link, SessionSettings options, TimeProvider time)
{
    /// <summary>How many turns one transaction removes or copies at the most, so that others never wait long.</summary>
    public const int TurnsPerStep = 500;

    private readonly long _timeout = options.Timeout.Ticks / TimeSpan.TicksPerMicrosecond;
    private readonly int _maxPerUser = options.MaxSessionsPerUser;

    public SqliteLink Link => link;

    /// <summary>When a session expires whose last activity was then.</summary>
    public DateTimeOffset ExpiresAt(long activity) => Timestamps.FromMicroseconds(activity + _timeout);

    public long Now => time.GetUtcNow().ToMicroseconds();

    /// <summary>Whether a session was unlinked that is too long to be removed in one step.</summary>
    public bool HasUnlinked { get; set; } = true;

    public bool IsLive(string id, long now)
    {
        using var rows = link[SqliteSql.IsTaken].Bind(id).Read();
        return rows.Next() && rows.Long(1) > now;
    }

    public Session? Find(string id, Owner owner, long now, out long key)
    {
        using var rows = link[SqliteSql.FindSession].Bind(id).Bind(now).Read();
        var session = rows.Next() ? rows.ToSession() : null;
        key = session is null ? 0 : rows.SessionKey();
        return session is not null && owner.MayHave(session.UserId) ? session : null;
    }

    public Session Get(long key)
    {
        using var rows = link[SqliteSql.SessionByKey].Bind(key).Read();
        return rows.Next() ? rows.ToSession() : throw new InvalidOperationException($"There is no session with the key {key}.");
    }

    /// <summary>Adds a session; makes room for it first. Its version is 1, or 0 where a turn follows that counts.</summary>
    public long Add(NewSession added, long now, int version, ref SqliteTally tally)
    {
        MakeRoom(added, now, ref tally);
        BindSession(link[SqliteSql.InsertSession], New(added, now, version, turns: 0), added.IdempotencyKey).Run();
        return link.LastKey;
    }

    /// <summary>A session as it is at first.</summary>
    public Session New(NewSession added, long now, int version, int turns) => new()
    {
        Id = added.Id,
        UserId = added.UserId,
        CreatedAt = Timestamps.FromMicroseconds(now),
        CreatedFrom = added.CreatedFrom,
        LastActivityAt = Timestamps.FromMicroseconds(now),
        ExpiresAt = Timestamps.FromMicroseconds(now + _timeout),
        Version = version,
        Metadata = added.Metadata,
        TurnCount = turns,
    };

    /// <summary>Removes the expired session that still has the id, and those of the user's sessions that one more pushes out.</summary>
    public void MakeRoom(NewSession added, long now, ref SqliteTally tally)
    {
        if (RemoveExpired(added.Id))
        {
            tally.Expired++;
        }

        if (added.UserId is not null)
        {
            MakeRoom(added.UserId, now, ref tally);
        }
    }

    /// <summary>Removes the session with that id, which has expired.</summary>
    public bool RemoveExpired(string id)
    {
        if (Key(id) is not { } expired)
        {
            return false;
        }

        Remove(expired);
        return true;
    }

    /// <summary>Makes a session that clients don't see yet, to be filled with turns; given up when it has not been finished by then.</summary>
    public long StartBuilding(long until)
    {
        link[SqliteSql.StartBuilding].Bind(until).Run();
        return link.LastKey;
    }

    /// <summary>Whether a session that is being built is still there; it gets more time.</summary>
    public bool KeepsBuilding(long key, long until) => link[SqliteSql.KeepBuilding].Bind(until).Bind(key).Run() > 0;

    /// <summary>Gives up a session that is being built: what it holds is removed step by step.</summary>
    public void GiveUpBuilding(long key) => HasUnlinked |= KeepsBuilding(key, until: 0);

    /// <summary>Copies turns to a session that is being built.</summary>
    public int CopyTurns(long source, long built, int after, int to)
    {
        if (after >= to)
        {
            return 0;
        }

        var copied = 0;
        var last = LastTurn(built);
        foreach (var turn in SqliteTurns.Read(link, source, after + 1, to, static (in row) => row.ToTurn()))
        {
            last = Append(built, turn, turn.Number, last, request: null);
            copied++;
        }

        SetLastTurn(built, last);
        return copied;
    }

    /// <summary>The key of a session's last turn, if it has any.</summary>
    public long? LastTurn(long session)
    {
        using var rows = link[SqliteSql.LastTurn].Bind(session).Read();
        return rows.Next() ? rows.LongOrNull(0) : null;
    }

    public void SetLastTurn(long session, long? turn) => link[SqliteSql.SetLastTurn].Bind(turn).Bind(session).Run();

    /// <summary>Shows a session that has been built.</summary>
    public void Show(long built, Session session, Guid? reservedBy) =>
        BindSession(link[SqliteSql.ShowSession], session, reservedBy).Bind(built).Run();

    /// <summary>Writes so many bytes where nobody sees them.</summary>
    /// <returns>The key of the row, to be removed again; if that fails, it is cleared away like an expired session.</returns>
    public long Probe(int bytes)
    {
        link[SqliteSql.Probe].Bind(bytes).Run();
        return link.LastKey;
    }

    /// <summary>Gives some free pages back to the disk.</summary>
    /// <returns>Whether there are more.</returns>
    public bool GiveBackSpace()
    {
        link[SqliteSql.GiveBackSpace].Run();
        using var rows = link[SqliteSql.CountFree].Read();
        return rows.Next() && rows.Long(0) > 0;
    }

    /// <summary>Binds a session that was nobody's.</summary>
    public void BindUser(long key, string userId, long now, ref SqliteTally tally)
    {
        MakeRoom(userId, now, ref tally);
        link[SqliteSql.BindUser].Bind(userId).Bind(key).Run();
    }

    /// <summary>Whether one session more would push another one out.</summary>
    public bool IsFull(string? userId, long now)
    {
        if (_maxPerUser == 0 || userId is null)
        {
            return false;
        }

        using var rows = link[SqliteSql.BeyondLimit].Bind(userId).Bind(now).Bind(_maxPerUser - 1).Read();
        return rows.Next();
    }

    /// <summary>Adds a turn behind the one before it; the session is told by whoever adds it.</summary>
    /// <returns>Its key.</returns>
    public long Append(long session, Turn turn, int number, long? previous, Idempotency? request)
    {
        link[SqliteSql.InsertTurn].Bind(session).Bind(number).Bind(previous ?? 0).Bind(turn.CreatedAt.ToMicroseconds()).Bind((long)turn.ExecutionTime.TotalMicroseconds)
            .Bind(turn.InputTokens).Bind(turn.OutputTokens).Bind(turn.StartedSession ? 1 : 0).Bind(turn.AgentType).Bind(turn.AgentUsed)
            .Bind(turn.Query).Bind(turn.Response).Bind(request?.Key).Bind(request?.Body).Run();
        return link.LastKey;
    }

    public void Summarize(long session, Summary summary) => link[SqliteSql.Summarize].Bind(summary.Text).Bind(summary.CoversTurns).Bind(session).Run();

    public void Advance(long session, long lastTurn, long now) => link[SqliteSql.Advance].Bind(now).Bind(_timeout).Bind(lastTurn).Bind(session).Run();

    public void Fail(long session, string error, long now) => link[SqliteSql.Fail].Bind(now).Bind(_timeout).Bind(error).Bind(session).Run();

    public KeyReservation Reserve(Idempotency key, Owner owner, string sessionId, long now)
    {
        using (var rows = link[SqliteSql.FindReservation].Bind(key.Key).Read())
        {
            if (rows.Next())
            {
                var reserved = rows.Text(1);
                if (rows.Long(2) > now || IsReservedBy(reserved, key.Key, now))
                {
                    return IsLive(reserved, now) && Find(reserved, owner, now, out _) is null
                        ? new(sessionId, SameBody: false, IsNew: false)
                        : new(reserved, rows.GuidOrNull(0) == key.Body, IsNew: false);
                }
            }
        }

        Tie(key, sessionId, now + _timeout);
        return new(sessionId, SameBody: true, IsNew: true);
    }

    /// <summary>Ties a key to a session's id, whatever it was tied to before.</summary>
    public void Tie(Idempotency key, string sessionId, long until) => link[SqliteSql.Reserve].Bind(key.Key).Bind(key.Body).Bind(sessionId).Bind(until).Run();

    /// <summary>
    /// Takes a session away from clients, with its idempotency record. Its turns go at once where they are few; else
    /// <see cref="RemoveUnlinked"/> removes them step by step.
    /// </summary>
    /// <returns>The id it had; <see langword="null"/> where there is none to be removed.</returns>
    public string? Remove(long key)
    {
        string? id;
        int turns;
        using (var rows = link[SqliteSql.Removable].Bind(key).Read())
        {
            if (!rows.Next())
            {
                return null;
            }

            turns = rows.Int(0);
            id = rows.TextOrNull(2);
            if (!rows.IsNull(1) && id is not null)
            {
                link[SqliteSql.DeleteReservation].Bind(rows.GuidOrNull(1)).Bind(id).Run();
            }
        }

        if (turns > TurnsPerStep)
        {
            link[SqliteSql.UnlinkSession].Bind(key).Run();
            HasUnlinked = true;
            return id;
        }

        if (turns > 0)
        {
            RemoveLastTurns(key, turns);
        }

        link[SqliteSql.DeleteSession].Bind(key).Run();
        return id;
    }

    /// <summary>Takes all sessions of a user away from clients; <see cref="RemoveUnlinked"/> removes what they hold.</summary>
    /// <returns>What it was, and the ids.</returns>
    public (Erasure Erasure, IReadOnlyCollection<string> Ids) UnlinkUser(string userId, long now)
    {
        Erasure erasure;
        List<string> ids = [];
        using (var sums = link[SqliteSql.SumUser].Bind(userId).Bind(now).Read())
        {
            sums.Next();
            erasure = new Erasure(sums.Long(0), sums.Long(1));
        }

        using (var rows = link[SqliteSql.IdsOfUser].Bind(userId).Read())
        {
            while (rows.Next())
            {
                ids.Add(rows.Text(0));
            }
        }

        link[SqliteSql.DeleteReservationsOfUser].Bind(userId).Run();
        HasUnlinked |= link[SqliteSql.UnlinkUser].Bind(userId).Run() > 0;
        return (erasure, ids);
    }

    /// <summary>Removes some of what unlinked sessions hold.</summary>
    /// <returns>Whether there may be more.</returns>
    public bool RemoveUnlinked()
    {
        var now = Now;
        for (var left = TurnsPerStep; left > 0; left--)
        {
            if (KeyOf(SqliteSql.Unlinked, now) is not { } key)
            {
                return HasUnlinked = false;
            }

            var removed = RemoveLastTurns(key, left);
            if (removed == 0)
            {
                link[SqliteSql.DeleteSession].Bind(key).Run();
            }

            left -= removed;
        }

        return HasUnlinked = true;
    }

    /// <summary>Removes some of the sessions and reservations that have expired.</summary>
    /// <returns>How many sessions, and whether there may be more of anything.</returns>
    public (int Removed, bool More) RemoveExpired(int most)
    {
        var now = Now;
        List<long> keys = [];
        var more = false;
        using (var rows = link[SqliteSql.Expired].Bind(now).Bind(most).Read())
        {
            for (var turns = 0; rows.Next();)
            {
                keys.Add(rows.Long(0));
                turns += rows.Int(1);
                if (keys.Count == most || turns > TurnsPerStep)
                {
                    more = true;
                    break;
                }
            }
        }

        foreach (var key in keys)
        {
            Remove(key);
        }

        return (keys.Count, RemoveExpiredReservations(now, most) || more);
    }

    private int RemoveLastTurns(long session, int most)
    {
        var removed = 0;
        var last = LastTurn(session);
        for (; removed < most && last is { } turn; removed++)
        {
            using (var rows = link[SqliteSql.PreviousTurn].Bind(turn).Read())
            {
                last = rows.Next() && rows.Long(0) is not 0 and var previous ? previous : null;
            }

            link[SqliteSql.DeleteTurn].Bind(turn).Run();
        }

        SetLastTurn(session, last);
        return removed;
    }

    private bool RemoveExpiredReservations(long now, int most)
    {
        List<(Guid Key, string SessionId, long? KeptUntil)> expired = [];
        using (var rows = link[SqliteSql.ExpiredReservations].Bind(now).Bind(most).Read())
        {
            while (rows.Next())
            {
                expired.Add((rows.GuidOrNull(0)!.Value, rows.Text(1), rows.LongOrNull(2)));
            }
        }

        foreach (var (key, sessionId, keptUntil) in expired)
        {
            // One whose session lives goes with the session: it is looked at again when that one would expire.
            if (keptUntil > now)
            {
                link[SqliteSql.KeepReservation].Bind(keptUntil).Bind(key).Run();
            }
            else
            {
                link[SqliteSql.DeleteReservation].Bind(key).Bind(sessionId).Run();
            }
        }

        return expired.Count == most;
    }

    private void MakeRoom(string userId, long now, ref SqliteTally tally)
    {
        if (_maxPerUser == 0)
        {
            return;
        }

        List<long>? beyond = null;
        using (var rows = link[SqliteSql.BeyondLimit].Bind(userId).Bind(now).Bind(_maxPerUser - 1).Read())
        {
            while (rows.Next())
            {
                (beyond ??= []).Add(rows.Long(0));
            }
        }

        foreach (var key in beyond ?? [])
        {
            (tally.Evicted ??= []).Add(Remove(key)!);
        }
    }

    private static SqliteStatement BindSession(SqliteStatement statement, Session session, Guid? reservedBy) => statement
        .Bind(session.Id).Bind(session.UserId).Bind(session.CreatedAt.ToMicroseconds()).Bind(SessionMetadata.Name(session.CreatedFrom))
        .Bind(session.LastActivityAt.ToMicroseconds()).Bind(session.ExpiresAt.ToMicroseconds()).Bind(session.Version).Bind(session.Metadata.Span)
        .Bind(session.TurnCount).Bind(session.ErrorCount).Bind(session.LastError)
        .Bind(session.Summary?.Text).Bind(session.Summary?.CoversTurns).Bind(reservedBy);

    private long? Key(string id)
    {
        using var rows = link[SqliteSql.IsTaken].Bind(id).Read();
        return rows.Next() ? rows.Long(0) : null;
    }

    private long? KeyOf(string sql, long parameter)
    {
        using var rows = link[sql].Bind(parameter).Read();
        return rows.Next() ? rows.Long(0) : null;
    }

    private bool IsReservedBy(string sessionId, Guid key, long now)
    {
        using var rows = link[SqliteSql.IsReservedBy].Bind(sessionId).Bind(now).Bind(key).Read();
        return rows.Next();
    }
}

/// <summary>Sessions that a change removed on the way, for the metrics.</summary>
internal struct SqliteTally
{
    public int Expired;
    public List<string>? Evicted;
}
