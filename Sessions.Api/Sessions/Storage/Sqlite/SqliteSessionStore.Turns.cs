namespace Sessions.Api;

/// <content>Turns, and sessions that start with turns of others.</content>
internal sealed partial class SqliteSessionStore
{
    private const long BuildingMicroseconds = 3600L * 1_000_000;

    public ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken) => new(Begin(request, null).Start);

    public async ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken) =>
        (await CommitAsync(start, turn, summary, cancellationToken)).Status;

    /// <inheritdoc cref="CommitTurnAsync"/>
    /// <returns>What came of it, what the session is known by from then on, and the session itself where nothing else has changed it meanwhile.</returns>
    internal async ValueTask<(CommitStatus Status, SessionStamp Stamp, Session? Session)> CommitAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken)
    {
        var (status, stamp, session, tally) = await Writer.RunAsync(tables => Commit(tables, (SqliteTurnStart)start, turn, summary), cancellationToken);
        await CountAsync(status == CommitStatus.Committed && start.Session is null ? SessionOrigin.Query : null, tally);
        return (status, stamp, session);
    }

    public async ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken)
    {
        var (created, tally) = await Writer.RunAsync(tables => Fail(tables, (SqliteTurnStart)start, error), cancellationToken);
        await CountAsync(created ? SessionOrigin.Query : null, tally);
    }

    // Nothing is held: the turn gate is in front, and among several processes the check of the turn's number decides.
    public ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken) => default;

    public async ValueTask<Fork> ForkAsync(string sourceId, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken)
    {
        var built = await CopyAheadAsync(sourceId, owner, afterTurn, cancellationToken);
        var (fork, tally) = await Writer.RunAsync(tables => Fork(tables, sourceId, owner, afterTurn, session, built), cancellationToken);
        await CountAsync(fork.Status == ForkStatus.Created ? session.CreatedFrom : null, tally);
        return fork;
    }

    private static (CommitStatus Status, SessionStamp Stamp, Session? Session, SqliteTally Tally) Commit(SqliteTables tables, SqliteTurnStart start, Turn turn, Summary? summary)
    {
        var request = start.Request;
        var now = tables.Now;
        var tally = default(SqliteTally);
        long key;
        long created;
        long version;
        var activity = now;
        long? previous = null;
        if (start.Ground is { } ground)
        {
            using var rows = tables.Link[SqliteSql.Ground].Bind(ground).Read();
            if (!rows.Next() || rows.TextOrNull(0) is var user && !request.Owner.MayHave(user))
            {
                return (CommitStatus.Gone, default, null, tally);
            }

            if (rows.Int(1) != start.Session!.TurnCount)
            {
                return (CommitStatus.Stale, default, null, tally);
            }

            (key, created, version, activity, previous) = (ground, rows.Long(2), rows.Long(3), Math.Max(now, rows.Long(4)), rows.LongOrNull(5));
            if (user is null && request.Owner.UserId is { } claiming)
            {
                tables.BindUser(key, claiming, now, ref tally);
            }
        }
        else
        {
            if (tables.IsLive(request.SessionId, now))
            {
                return (CommitStatus.Stale, default, null, tally);
            }

            (key, created, version) = (tables.Add(New(request), now, version: 0, ref tally), now, 0);
        }

        tables.Advance(key, tables.Append(key, turn, turn.Number, previous, request.Idempotency), now);
        if (summary is not null)
        {
            tables.Summarize(key, summary);
        }

        // Known without reading it again, where nothing else has changed it since the turn began.
        var session = start.Session?.Version != version ? null : start.Session with
        {
            UserId = start.Session.UserId ?? request.Owner.UserId,
            LastActivityAt = Timestamps.FromMicroseconds(activity),
            ExpiresAt = tables.ExpiresAt(activity),
            Version = version + 1,
            TurnCount = turn.Number,
            LastTurn = turn,
            Summary = summary ?? start.Session.Summary,
        };
        return (CommitStatus.Committed, new SessionStamp(key, created, version + 1, activity), session, tally);
    }

    private static (bool Created, SqliteTally Tally) Fail(SqliteTables tables, SqliteTurnStart start, string error)
    {
        var request = start.Request;
        var now = tables.Now;
        var tally = default(SqliteTally);
        var created = false;
        long key;
        if (start.Ground is { } ground)
        {
            using var rows = tables.Link[SqliteSql.Ground].Bind(ground).Read();
            if (!rows.Next() || !request.Owner.MayHave(rows.TextOrNull(0)))
            {
                return (false, tally);
            }

            key = ground;
        }
        else if (tables.Find(request.SessionId, request.Owner, now, out key) is null)
        {
            if (tables.IsLive(request.SessionId, now) || tables.IsFull(request.Owner.UserId, now))
            {
                return (false, tally);
            }

            key = tables.Add(New(request), now, version: 0, ref tally);
            created = true;
        }

        tables.Fail(key, error, now);
        return (created, tally);
    }

    // Copying a long history would hold up everybody's turns: most of it is copied ahead, step by step, to a session that nobody sees yet. Turns never
    // change, so what was copied stays right; what is missing is copied when the fork is made.
    private async Task<(long Key, long Source, int Turns)?> CopyAheadAsync(string sourceId, Owner owner, int? afterTurn, CancellationToken cancellationToken)
    {
        var (found, source) = _readers.Read(link => (Find(link, sourceId, out var key), key));
        var turns = Math.Min(afterTurn ?? int.MaxValue, found?.TurnCount ?? 0);
        if (turns <= SqliteTables.TurnsPerStep || !owner.MayHave(found!.UserId))
        {
            return null;
        }

        var built = await Writer.RunAsync(tables => tables.StartBuilding(tables.Now + BuildingMicroseconds), cancellationToken);
        var copied = 0;
        while (turns - copied > SqliteTables.TurnsPerStep)
        {
            var (from, to) = (copied, copied + SqliteTables.TurnsPerStep);
            await Writer.RunAsync(tables => tables.CopyTurns(source, built, from, to), cancellationToken);
            copied = to;
        }

        return (built, source, copied);
    }

    private static (Fork Fork, SqliteTally Tally) Fork(
        SqliteTables tables, string sourceId, Owner owner, int? afterTurn, NewSession session, (long Key, long Source, int Turns)? built)
    {
        var now = tables.Now;
        var tally = default(SqliteTally);
        var status = ForkStatus.Created;
        if (tables.Find(sourceId, owner, now, out var source) is not { } found)
        {
            status = ForkStatus.SourceNotFound;
        }
        else if (afterTurn is { } number && (number < 0 || number > found.TurnCount))
        {
            status = ForkStatus.NoSuchTurn;
        }
        else if (tables.IsLive(session.Id, now))
        {
            status = ForkStatus.IdTaken;
        }

        // The copy ahead is of use only while it is of this very session.
        var ahead = built is { } made && status == ForkStatus.Created && made.Source == source && tables.KeepsBuilding(made.Key, now + BuildingMicroseconds) ? built : null;
        if (built is not null && ahead is null)
        {
            tables.GiveUpBuilding(built.Value.Key);
        }

        if (status != ForkStatus.Created)
        {
            return (new Fork(status), tally);
        }

        // The turns before the session: adding it may push out the source.
        var original = tables.Get(source);
        session = session with { UserId = original.UserId };
        var turns = afterTurn ?? original.TurnCount;
        var key = ahead?.Key ?? tables.StartBuilding(now + BuildingMicroseconds);
        tables.CopyTurns(source, key, ahead?.Turns ?? 0, turns);
        tables.MakeRoom(session, now, ref tally);
        var summary = original.Summary?.CoversTurns <= turns ? original.Summary : null;
        tables.Show(key, tables.New(session, now, version: 1, turns) with { Summary = summary }, session.IdempotencyKey);
        return (new Fork(ForkStatus.Created, tables.Get(key)), tally);
    }

    private static NewSession New(TurnRequest request) =>
        new(request.SessionId, request.Owner.UserId, ReadOnlyMemory<byte>.Empty, SessionOrigin.Query, request.ReservedBy);
}
