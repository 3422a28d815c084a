using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Sqlite;

/// <content>Opening sessions, and reading their turns.</content>
internal sealed partial class SqliteSessionStore
{
    public ValueTask<OpenedSession> OpenAsync(OpenRequest request, CancellationToken cancellationToken)
    {
        // Where the caller knows the session as it is, one statement says so, and needs no transaction around it. Where it does not,
        // what was read is not used.
        if (request is { Remembered: { } known, Idempotency: null }
            && _readers.Read(db => OpenUnchanged(db, request, known)) is { } unchanged && HasLongEnough(unchanged))
        {
            return new(unchanged);
        }

        return OpenAnewAsync(request);
    }

    // Nothing is held: whether a turn can be committed is told by whether its session is there.
    public ValueTask<LeaseState> RenewAsync(OpenedSession opened, CancellationToken cancellationToken)
    {
        var row = ((SqliteOpenedSession)opened).Row;
        return new(row == 0 || _readers.Read(db => IsVisible(db, row)) ? LeaseState.Held : LeaseState.Lost);
    }

    public ValueTask ReleaseAsync(OpenedSession opened) => default;

    public ValueTask<bool> CancelAsync(SessionRef session, Owner owner, CancellationToken cancellationToken) => new(false);

    public ValueTask<TurnPage?> ReadTurnsAsync(
        SessionRef session, Owner owner, TurnPageRequest request, CancellationToken cancellationToken) =>
        ReadAsync(isConsistent: true, (SqliteDatabase db, ref List<long>? keyless) => ReadTurns(db, session, owner, request, ref keyless));

    private static TurnPage? ReadTurns(
        SqliteDatabase db, SessionRef reference, Owner owner, TurnPageRequest request, long now, ref List<long>? keyless)
    {
        if (Find(db, reference, now, out var row, out var lastTurn, ref keyless) is not { } session || !owner.MayHave(session.UserId))
        {
            return null;
        }

        var turns = new SqliteTurnReader(db, row, session.Id, session.LastTurn, lastTurn);
        if (request.AllBranches)
        {
            var all = turns.ReadAll(session.TurnCount, request);
            var hasMore = all.Count > 0 && (request.Descending ? all[^1].Number > 1 : all[^1].Number < session.TurnCount);
            return new TurnPage(session, all, hasMore);
        }

        var tip = request.Tip ?? session.TurnCount;
        if (tip < 0 || tip > session.TurnCount || (tip == 0 && request.Tip is not null))
        {
            return new TurnPage(session, [], HasMore: false) { IsTipMissing = true };
        }

        var path = turns.ReadPath(tip, request);
        return new TurnPage(session, path, path.Count > 0 && (request.Descending ? path[^1].Parent > 0 : path[^1].Number < tip));
    }

    private TurnPage? ReadTurns(SqliteDatabase db, SessionRef session, Owner owner, TurnPageRequest request, ref List<long>? keyless) =>
        ReadTurns(db, session, owner, request, Now, ref keyless);

    private async ValueTask<OpenedSession> OpenAnewAsync(OpenRequest request)
    {
        var opened = await ReadAsync(isConsistent: true, (SqliteDatabase db, ref List<long>? keyless) => Open(db, request, ref keyless));
        if (HasLongEnough(opened))
        {
            return opened;
        }

        // A turn is to begin, and its session would end before it. Done once: then it is read as it is.
        await Writer.RunAsync(work =>
        {
            var now = work.Now;
            work.Extend(opened.Row, now + (request.Lease!.MinLifetime.Ticks / TimeSpan.TicksPerMicrosecond), now);
            return 0;
        }, CancellationToken.None);
        return await ReadAsync(isConsistent: true, (SqliteDatabase db, ref List<long>? keyless) => Open(db, request, ref keyless));
    }

    private bool HasLongEnough(SqliteOpenedSession opened) =>
        opened is not { Status: OpenStatus.Opened or OpenStatus.Unchanged, Row: not 0 } || opened.Request.Lease is not { } lease
        || opened.ExpiresAt - Now >= lease.MinLifetime.Ticks / TimeSpan.TicksPerMicrosecond;

    // By the row, which spares the index by the key; unless it has moved.
    private SqliteOpenedSession? OpenUnchanged(SqliteDatabase db, OpenRequest request, RememberedTail known) =>
        (known.Place > 0 ? OpenUnchanged(db[SqliteSql.StampByRow].Bind(known.Place), request, known) : null)
            ?? OpenUnchanged(db[SqliteSql.Stamp], request, known);

    private SqliteOpenedSession? OpenUnchanged(SqliteStatement stamp, OpenRequest request, RememberedTail known)
    {
        using var rows = stamp.Bind(known.Key).Bind(Now).Read();
        if (!rows.Next() || new Revision(rows.Long(1), rows.Long(2)) != known.Revision || !request.Owner.MayHave(rows.TextOrNull(3))
            || (request.Tip is { } tip && tip != rows.Int(5)) || known.LastTurn != rows.Int(5))
        {
            return null;
        }

        return new SqliteOpenedSession(request, OpenStatus.Unchanged)
        {
            Row = rows.Long(0),
            Revision = known.Revision,
            TurnCount = rows.Int(5),
            Rewrites = known.Rewrites,
            ExpiresAt = rows.Long(4),
        };
    }

    private SqliteOpenedSession Open(SqliteDatabase db, OpenRequest request, ref List<long>? keyless)
    {
        if (request is { Remembered: { } known, Idempotency: { } key }
            && OpenUnchanged(db, request, known) is { } unchanged && !HasAnswered(db, unchanged.Row, key.Key))
        {
            return unchanged;
        }

        if (Find(db, request.Session, Now, out var row, out var lastTurn, ref keyless) is not { } session)
        {
            return request.Tip is null or 0
                ? new SqliteOpenedSession(request, OpenStatus.Opened) { Removals = SqliteUnitOfWork.CountRemovals(db) }
                : new SqliteOpenedSession(request, OpenStatus.NoSuchTurn);
        }

        if (!request.Owner.MayHave(session.UserId))
        {
            return new SqliteOpenedSession(request, OpenStatus.NotFound);
        }

        if (request.Idempotency is { } idempotency)
        {
            using var rows = db[SqliteSql.FindAnswered].Bind(row).Bind(idempotency.Key).Read();
            if (rows.Next())
            {
                return rows.ToGuid(SqliteRows.AfterTurn, DamageReport.NameOf(session.Id)) == idempotency.Body
                    ? new SqliteOpenedSession(request, OpenStatus.Replayed) { Session = session, Replay = rows.ToTurn(session.Id) }
                    : new SqliteOpenedSession(request, OpenStatus.KeyReused);
            }
        }

        var tip = request.Tip ?? session.TurnCount;
        if (tip < 0 || tip > session.TurnCount)
        {
            return new SqliteOpenedSession(request, OpenStatus.NoSuchTurn) { Session = session };
        }

        var reader = new SqliteTurnReader(db, row, session.Id, session.LastTurn, lastTurn);
        var (turns, follows, isCut) = ReadHistory(reader, request, session, tip);
        return new SqliteOpenedSession(request, OpenStatus.Opened)
        {
            Session = session,
            Row = row,
            Revision = session.Revision,
            Rewrites = session.Rewrites,
            TurnCount = session.TurnCount,
            ExpiresAt = session.ExpiresAt.ToMicroseconds(),
            Turns = turns,
            FollowsRemembered = follows,
            IsCut = isCut,
        };
    }

    private static (IReadOnlyList<Turn> Turns, bool FollowsRemembered, bool IsCut) ReadHistory(
        SqliteTurnReader reader, OpenRequest request, Session session, int tip)
    {
        if (request.HistoryTurns <= 0 || tip == 0)
        {
            return ([], false, false);
        }

        // What is remembered goes on if its last turn stands in the same run, still the same: then only those behind it are given.
        if (request.Remembered is { LastTurn: > 0 } known && known.Key == session.Key && known.Rewrites == session.Rewrites
            && known.LastTurn <= tip
            && tip - known.LastTurn < request.HistoryTurns && reader.Read(tip).RunStart <= known.LastTurn)
        {
            var behind = reader.ReadTail(tip, tip - known.LastTurn + 1, request.HistoryBytes, out var tooMuch);
            if (!tooMuch && behind[0].Number == known.LastTurn && behind[0].Nonce == known.LastNonce)
            {
                return (behind[1..], true, false);
            }
        }

        return (reader.ReadTail(tip, request.HistoryTurns, request.HistoryBytes, out var isCut), false, isCut);
    }

    private bool IsVisible(SqliteDatabase db, long row)
    {
        using var rows = db[SqliteSql.IsVisible].Bind(row).Bind(Now).Read();
        return rows.Next();
    }

    private static bool HasAnswered(SqliteDatabase db, long row, Guid key)
    {
        using var rows = db[SqliteSql.FindAnswered].Bind(row).Bind(key).Read();
        return rows.Next();
    }

    private static Session? Find(
        SqliteDatabase db, SessionRef session, long now, out long row, out long lastTurn, ref List<long>? keyless)
    {
        using var rows = session.Id is { } id
            ? db[SqliteSql.FindById].Bind(id).Bind(now).Read()
            : db[SqliteSql.FindByKey].Bind(session.Key).Bind(now).Read();
        if (!rows.Next())
        {
            (row, lastTurn) = (0, 0);
            return null;
        }

        (row, lastTurn) = (rows.Row(), rows.LastTurnRow());
        if (rows.IsKeyless())
        {
            (keyless ??= []).Add(row);
        }

        return rows.ToSession();
    }
}
