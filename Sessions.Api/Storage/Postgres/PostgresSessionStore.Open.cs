using Npgsql;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <content>Opening, and pages of turns.</content>
internal sealed partial class PostgresSessionStore
{
    /// <inheritdoc/>
    public async ValueTask<OpenedSession> OpenAsync(OpenRequest request, CancellationToken cancellationToken)
    {
        var hasBegun = false;
        try
        {
            return await database.RunAsync(
                async (connection, cancel) =>
                {
                    hasBegun = true;
                    for (var tries = 1; ; tries++)
                    {
                        if (await TryOpenAsync(connection, request, cancel) is { } opened)
                        {
                            return opened;
                        }

                        ThrowIfEndless(tries);
                    }
                }, cancellationToken);
        }
        catch (Exception e) when (request.Lease is not null && (e is OperationCanceledException or StoredDataException))
        {
            // Nobody is told of what it has taken by then, and so nobody would let go of it.
            await LetGoAsync(request.Session, sid: null, request.Lease, withPlace: true);
            throw;
        }
        catch (StoreUnavailableException) when (request.Lease is not null && hasBegun)
        {
            LetGoLater(request.Session, sid: null, request.Lease, withPlace: true);
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask<TurnPage?> ReadTurnsAsync(SessionRef session, Owner owner, TurnPageRequest request,
        CancellationToken cancellationToken)
    {
        var window = new Window(
            request.AllBranches ? null : request.Tip, request.Limit, request.MaxBytes,
                Math.Max(request.After ?? (request.Descending ? int.MaxValue : 0), 0), request.Descending, request.AllBranches, null);
        return await database.RunAsync(
            async (connection, cancel) =>
            {
                for (var tries = 1; ; tries++)
                {
                    var (found, read, _) = await ReadAsync(connection, session, window, null, [], cancel);
                    if (found is not { IsThere: true } || !found.IsLive(Now) || !owner.MayHave(found.Session.UserId))
                    {
                        return null;
                    }

                    var head = found.Session;
                    if (window.Tip is { } tip && (tip < 0 || tip > head.TurnCount))
                    {
                        return new TurnPage(head, [], HasMore: false) { IsTipMissing = true };
                    }

                    if (read.Revision == head.Revision)
                    {
                        return new TurnPage(head, read.Turns, read.Turns.Count < read.Available);
                    }

                    ThrowIfEndless(tries);
                }
            }, cancellationToken);
    }

    // Nothing where something changed between two of the statements: then it is done again.
    private async Task<PostgresOpened?> TryOpenAsync(NpgsqlConnection connection, OpenRequest request, CancellationToken cancellationToken)
    {
        var now = Now;
        var owner = request.Owner;
        var known = request.Tip is null ? request.Remembered : null;
        var window = Window.OfHistory(request, known);
        var lease = request.Lease;
        List<NpgsqlBatchCommand> first = [];
        var id = request.Session.Id;
        if (lease is not null && id is null)
        {
            // The lease is by id; a key never changes its session.
            id = (await FindOwnerAsync(connection, request.Session, cancellationToken))?.Id;
        }

        var until = lease is null ? 0 : now + Microseconds(lease.Duration);
        if (lease is not null && id is not null)
        {
            first.Add(PostgresDatabase.Command(
                lease.IsExclusive ? PostgresSql.Acquire : PostgresSql.Use,
                id, lease.Token, until, now, owner.IsAnyone, owner.UserId, owner.MayClaim, request.Tip ?? 0,
                    request.Idempotency?.Key, now + Microseconds(lease.MinLifetime), NewTag()));
            if (lease is { IsExclusive: true, Waits: true })
            {
                first.Add(PostgresDatabase.Command(
                    PostgresSql.KeepPlace, id, lease.Token, now + Microseconds(lease.WaiterTimeout), now, owner.IsAnyone, owner.UserId,
                        owner.MayClaim, request.Tip ?? 0, request.Idempotency?.Key));
            }
        }

        var (found, read, answered) = await ReadAsync(connection, request.Session, window, request.Idempotency, first, cancellationToken);
        if (found is null || (found.IsThere && !found.IsLive(now)))
        {
            return await OpenMissingAsync(connection, request, found, until, now, cancellationToken);
        }

        if (!found.IsThere)
        {
            if (lease is null)
            {
                return Missing(request, null);
            }

            if (request.Tip > 0)
            {
                return new PostgresOpened(request, OpenStatus.NoSuchTurn);
            }

            var isMine = lease.IsExclusive ? found.LeaseToken == lease.Token && found.LeaseUntil == until : !found.IsHeld(now, null);
            return isMine && found.IsLive(now) ? Missing(request, found.Sid)
                : !found.IsLive(now) ? await OpenMissingAsync(connection, request, null, until, now, cancellationToken)
                : Busy(request, found.Sid);
        }

        var head = found.Session;
        if (!owner.MayHave(head.UserId))
        {
            return new PostgresOpened(request, OpenStatus.NotFound);
        }

        if (answered is { } answer)
        {
            return answer.Body != request.Idempotency!.Value.Body
                ? new PostgresOpened(request, OpenStatus.KeyReused)
                : new PostgresOpened(request, OpenStatus.Replayed)
                {
                    Session = await CompleteAsync(connection, head, cancellationToken),
                    Replay = answer.Turn,
                };
        }

        if (request.Tip is { } tip && (tip < 0 || tip > head.TurnCount))
        {
            return new PostgresOpened(request, OpenStatus.NoSuchTurn) { Session = head };
        }

        if (lease is { IsExclusive: true } && (found.LeaseToken != lease.Token || found.LeaseUntil != until))
        {
            return found.IsHeld(now, lease.Token) || first.Count > 1 ? Busy(request, found.Sid)
                : await IsFreeAsync(connection, found.Sid, lease.Token, now, cancellationToken) ? null
                    : Busy(request, found.Sid);
        }

        var isKnown = known is { } remembered && remembered.Key == head.Key && remembered.Revision == head.Revision;
        if (isKnown && known?.LastTurn != head.TurnCount)
        {
            throw PostgresRows.NoTurn(head);
        }

        if (!isKnown && read.Revision != head.Revision)
        {
            // Not so where the lease is held: then nobody else writes turns, but metadata may change.
            return null;
        }

        var follows = read.After is { } after && read.Turns.Count == head.TurnCount - after;
        return new PostgresOpened(request, isKnown ? OpenStatus.Unchanged : OpenStatus.Opened)
        {
            Sid = found.Sid,
            Id = head.Id,
            UserId = head.UserId,
            Kind = head.Kind,
            Revision = head.Revision,
            Rewrites = head.Rewrites,
            TurnCount = head.TurnCount,
            Session = isKnown ? null : head,
            Turns = isKnown ? [] : read.Turns,
            FollowsRemembered = !isKnown && follows,
            IsCut = !isKnown && read.Turns.Count < Math.Min(read.Available, request.HistoryTurns),
        };
    }

    // Each time something has changed meanwhile, which others do; where it never ends, they do not.
    private static void ThrowIfEndless(int tries)
    {
        if (tries >= MaxTries)
        {
            throw new StoreUnavailableException("What is stored changed whenever it was read.", TimeSpan.FromSeconds(1));
        }
    }

    // Whether it is neither held nor kept for another: then it came free just after it was asked for.
    private static async Task<bool> IsFreeAsync(NpgsqlConnection connection, long sid, Guid token, long now,
        CancellationToken cancellationToken) => await PostgresDatabase.QueryAsync(
        connection, [PostgresDatabase.Command(PostgresSql.IsFree, sid, token, now)], (reader, cancel) => reader.ReadAsync(cancel),
            cancellationToken);

    private static PostgresOpened Busy(OpenRequest request, long sid) => new(request, OpenStatus.Busy) { Sid = sid };

    private static PostgresOpened Missing(OpenRequest request, long? sid) =>
        new(request, OpenStatus.Opened) { IsMissing = true, Sid = sid, Id = request.Session.Id };

    // A row stands for it, so that others are kept away, and a deletion or an erasure is noticed.
    private async Task<PostgresOpened?> OpenMissingAsync(
        NpgsqlConnection connection, OpenRequest request, PostgresSession? expired, long until, long now,
            CancellationToken cancellationToken)
    {
        if (request.Tip > 0)
        {
            return new PostgresOpened(request, OpenStatus.NoSuchTurn);
        }

        if (request.Lease is not { } lease || request.Session.Id is not { } id)
        {
            return Missing(request, null);
        }

        if (expired is not null)
        {
            var told = new Told();
            await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
            await LockOwnersAsync(connection, [OwnerKey.Of(expired.Session.UserId, id)], cancellationToken);
            await RemoveAsync(connection, [expired.Sid], now, told, cancellationToken);
            await transaction.CommitAsync(cancellationToken);
            await TellAsync(told);
        }

        var expires = Math.Max(now + Microseconds(lease.MinLifetime), until) + PlaceholderGrace;
        await PostgresDatabase.ExecuteAsync(
            connection, cancellationToken,
            PostgresDatabase.Command(PostgresSql.DeleteOldPlaceholder, id, now),
            PostgresDatabase.Command(
                PostgresSql.InsertPlaceholder, id, SessionKey.New(), Shard(id), request.Owner.UserId, now, expires, lease.IsExclusive
                    ? lease.Token : null, lease.IsExclusive ? until : 0L));
        return null;
    }

    // The last turn was not read with it.
    private static async Task<Session> CompleteAsync(NpgsqlConnection connection, Session head, CancellationToken cancellationToken) =>
        head.LastTurn is not null || head.TurnCount == 0 ? head : await PostgresDatabase.QueryAsync(
            connection, [ReadSessionCommand(SessionRef.ByKey(head.Key), null)],
            async (reader, cancel) => await reader.ReadAsync(cancel) ? PostgresRows.ReadSession(reader, PostgresRows.SessionWidth).Session
                : head, cancellationToken);

    private static NpgsqlBatchCommand ReadSessionCommand(SessionRef session, RememberedTail? known) => PostgresDatabase.Command(
        PostgresSql.ReadSession(session.Id is null), Name(session), known?.Key ?? Guid.Empty, known?.Revision.Version ?? -1L,
            known?.Revision.Tag ?? 0L);

    // What was asked for first, and then head, turns and the answered turn: in one go.
    private static async Task<(PostgresSession? Found, ReadTurns Turns, (Guid Body, Turn Turn)? Answered)> ReadAsync(
        NpgsqlConnection connection, SessionRef session, Window window, Idempotency? idempotency, List<NpgsqlBatchCommand> first,
            CancellationToken cancellationToken)
    {
        var byKey = session.Id is null;
        var known = window.Remembered;
        List<NpgsqlBatchCommand> commands =
        [
            .. first,
            ReadSessionCommand(session, known),
            PostgresDatabase.Command(
                PostgresSql.ReadTurns(byKey, window.Descending, window.AllBranches), Name(session), window.Tip, window.Limit,
                    (long)window.MaxBytes,
                known?.Key ?? Guid.Empty, known?.Revision.Version ?? -1L, known?.Revision.Tag ?? 0L, known?.LastTurn ?? -1,
                    (long)(known?.LastNonce.Value ?? 0), known?.Rewrites ?? -1, window.Edge),
        ];
        if (idempotency is { } key)
        {
            commands.Add(PostgresDatabase.Command(PostgresSql.ReadAnswered(byKey), Name(session), key.Key));
        }

        return await PostgresDatabase.QueryAsync<(PostgresSession?, ReadTurns, (Guid, Turn)?)>(
            connection, commands, async (reader, cancel) =>
            {
                var found = await reader.ReadAsync(cancel) ? PostgresRows.ReadSession(reader, PostgresRows.SessionWidth) : null;
                var id = found?.Session.Id ?? "";
                if (found?.Session is { TurnCount: > 0, LastTurn: null } head
                    && !(known is { } same && same.Key == head.Key && same.Revision == head.Revision))
                {
                    throw PostgresRows.NoTurn(head);
                }

                await reader.NextResultAsync(cancel);
                var read = new ReadTurns(default, 0, null, null, []);
                while (await reader.ReadAsync(cancel))
                {
                    read = read with
                    {
                        Revision = new Revision(reader.GetInt64(0), reader.GetInt64(1)),
                        Available = (int)reader.GetInt64(2),
                        After = reader.IsDBNull(3) ? null : reader.GetInt32(3),
                        Expected = reader.IsDBNull(4) ? null : reader.GetInt64(4),
                    };
                    if (!reader.IsDBNull(5))
                    {
                        read.Turns.Add(PostgresRows.ReadTurn(reader, 5, id));
                    }
                }

                if (found is { IsThere: true } && found.Session.Revision == read.Revision
                    && !window.IsWhole(found.Session.TurnCount, read))
                {
                    throw PostgresRows.Gap(id);
                }

                // Read newest first so that the newest are those that fit; wanted oldest first.
                if (window.IsHistory)
                {
                    read.Turns.Reverse();
                }

                (Guid, Turn)? answered = null;
                if (idempotency is not null && await reader.NextResultAsync(cancel) && await reader.ReadAsync(cancel))
                {
                    var body = reader.IsDBNull(0) ? throw PostgresRows.Gap(id) : reader.GetGuid(0);
                    answered = (body, PostgresRows.ReadTurn(reader, 1, id));
                }

                return (found, read, answered);
            }, cancellationToken);
    }

    private sealed record Window(int? Tip, int Limit, int MaxBytes, int Edge, bool Descending, bool AllBranches, RememberedTail? Remembered)
    {
        public bool IsHistory { get; private init; }

        // Whether none is missing of the turns that are to come, as they came.
        public bool IsWhole(int turnCount, ReadTurns read)
        {
            var tip = Tip ?? turnCount;
            if (tip > turnCount)
            {
                return true;
            }

            // Runs tell how many there must be; where there is no run, the last turn of the path is not there.
            if ((read.Expected is null && tip > 0) || read.Available != Math.Min(Limit + 1L, read.Expected ?? 0))
            {
                return false;
            }

            var turns = read.Turns;
            for (var i = 1; i < turns.Count && !AllBranches; i++)
            {
                var (later, earlier) = Descending ? (turns[i - 1], turns[i]) : (turns[i], turns[i - 1]);
                if (later.Parent != earlier.Number)
                {
                    return false;
                }
            }

            // A path begins with a turn that goes on from none, or from one before the page.
            return turns.Count == 0 || AllBranches
                || (Descending ? turns.Count < read.Available || turns[^1].Parent == (read.After ?? 0)
                    : turns[0].Parent <= Edge);
        }

        public static Window OfHistory(OpenRequest request, RememberedTail? known) =>
            new(request.Tip, request.HistoryTurns, request.HistoryBytes, int.MaxValue, Descending: true, AllBranches: false, known)
            {
                IsHistory = true,
            };
    }

    // Expected: how many turns there must be of those that were asked for, as the others say.
    private sealed record ReadTurns(Revision Revision, int Available, int? After, long? Expected, List<Turn> Turns);
}
