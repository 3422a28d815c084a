using Npgsql;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <content>Changes of a session that was opened.</content>
internal sealed partial class PostgresSessionStore
{
    /// <inheritdoc/>
    public async ValueTask<WriteResult> WriteAsync(OpenedSession opened, SessionChange change, CancellationToken cancellationToken)
    {
        var given = (PostgresOpened)opened;
        var told = new Told();
        var result = change switch
        {
            AppendTurn append when given.IsMissing => await CreateAsync(given, append.Create!, append, null, told, cancellationToken),
            AppendTurn append => await AppendAsync(given, append, told, cancellationToken),
            RecordFailure failure when given.IsMissing => await CreateAsync(given, failure.Create!, null, failure, told,
                cancellationToken),
            RecordFailure failure => await FailAsync(given, failure, cancellationToken),
            ReplaceMetadata or ReplaceTurn when given.IsMissing => new WriteResult(WriteStatus.Gone),
            ReplaceMetadata metadata => await ReplaceAsync(given, metadata, told, cancellationToken),
            ReplaceTurn turn => await ReplaceAsync(given, turn, cancellationToken),
            _ => throw new ArgumentException($"{change.GetType().Name} is not a change.", nameof(change)),
        };
        if (result.Status != WriteStatus.Written)
        {
            // Nothing of it was done, and so the lease did not end with it.
            await ReleaseAsync(opened);
        }

        given.HasEnded = true;
        await TellAsync(told);
        return result;
    }

    private static bool IsCounted(string? userId, SessionKind kind) => userId is null || kind == SessionKind.Chain;

    private async ValueTask<WriteResult> AppendAsync(PostgresOpened opened, AppendTurn append, Told told,
        CancellationToken cancellationToken)
    {
        var owner = opened.Request.Owner;
        var claims = opened.UserId is null && owner.UserId is not null;
        if (!claims && !IsCounted(opened.UserId, opened.Kind))
        {
            // The common case: one statement.
            return await database.RunAsync(
                async (connection, cancel) =>
                    await AppendAsync(connection, opened, append, null, cancel) is { } done ? Written(opened, done)
                        : await WhyNotAsync(connection, opened, cancel), cancellationToken);
        }

        return await OnLockedAsync(
            opened, claims ? owner.UserId : null, told, async (connection, session, now, cancel) =>
            {
                var claimed = session.Session.UserId is null ? owner.UserId : null;
                var user = session.Session.UserId ?? claimed;
                var head = session.Session;
                var summary = head.Rewrites == opened.Rewrites ? append.Summary : null;
                var size = StorePolicy.SizeOf(
                    head.Bytes + append.Turn.Bytes + (summary is null ? 0 : summary.Text.Length - (head.Summary?.Text.Length ?? 0)),
                        head.TurnCount + 1);
                var before = StorePolicy.SizeOf(head.Bytes, head.TurnCount);
                var isStale = (await AnsweredAsync(connection, session.Sid, opened.Request.Idempotency, cancel))
                    || (!append.BesideOthers && head.TurnCount != opened.TurnCount)
                        || session.IsHeld(now, opened.Token ?? session.LeaseToken);
                if (isStale)
                {
                    return new WriteResult(WriteStatus.Stale);
                }

                if (await MakeRoomInBytesAsync(connection, session.Sid, user, head.Kind, head.UserId == user ? before : 0, size, told,
                    cancel) is { } limit)
                {
                    return new WriteResult(WriteStatus.Full) { Limit = limit };
                }

                if (claimed is not null)
                {
                    if (ListForLimitCommand(claimed, head.Kind, head.Id) is { } list)
                    {
                        var others = await PostgresDatabase.QueryAsync(connection, [list], ReadForLimitAsync, cancel);
                        await MakeRoomInNumberAsync(connection, others, head.Kind, told, cancel);
                    }
                }

                var done = await AppendAsync(connection, opened, append, claimed, cancel);
                if (done is null)
                {
                    return await WhyNotAsync(connection, opened, cancel);
                }

                var isSame = head.UserId == user;
                await CountBytesAsync(connection, head.UserId, head.Id, head.Kind, isSame ? size - before : -before, cancel);
                await CountBytesAsync(connection, user, head.Id, head.Kind, isSame ? 0 : size, cancel);
                return Written(opened, done.Value);
            }, cancellationToken);
    }

    private async Task<(PostgresSession Session, Turn Turn)?> AppendAsync(
        NpgsqlConnection connection, PostgresOpened opened, AppendTurn append, string? claimedBy, CancellationToken cancellationToken)
    {
        var turn = append.Turn;
        var (owner, now, answers) = (opened.Request.Owner, Now, opened.Request.Idempotency);
        try
        {
            return await PostgresDatabase.QueryAsync<(PostgresSession, Turn)?>(
                connection,
                [
                    PostgresDatabase.Command(
                        PostgresSql.Append, opened.Sid!.Value, opened.Token, now, append.BesideOthers ? null : opened.TurnCount,
                            owner.IsAnyone, owner.UserId, owner.MayClaim, NewTag(),
                        Microseconds(policy.Lifetime(opened.Kind)), opened.Rewrites, append.Summary?.Text, append.Summary?.CoversTurns,
                            checked((int)turn.Bytes), turn.Parent, append.ParentRun,
                        (long)turn.Nonce.Value, answers?.Key, answers?.Body, TurnCodec.PackDetails(turn), turn.Input.Bytes,
                            turn.Output.Bytes, turn.Response, claimedBy),
                    .. ReleaseUse(opened),
                ],
                async (reader, cancel) =>
                {
                    if (!await reader.ReadAsync(cancel))
                    {
                        return null;
                    }

                    var session = PostgresRows.ReadSession(reader);
                    var number = session.Session.TurnCount;
                    var runStart = Turn.RunStartOf(number, turn.Parent, append.ParentRun);
                    return (session, turn with { Number = number, RunStart = runStart });
                }, cancellationToken);
        }
        catch (PostgresException e) when (
            e is { SqlState: PostgresErrorCodes.UniqueViolation, ConstraintName: "turns_pkey" }
            or { SqlState: PostgresErrorCodes.NumericValueOutOfRange })
        {
            // The session counts fewer turns than it has: its row is locked, so nobody else has added that one.
            throw PostgresRows.NoPlace(opened.Id!, e);
        }
    }

    // With the turn, as its lease ends where it has one that keeps others away.
    private static IEnumerable<NpgsqlBatchCommand> ReleaseUse(PostgresOpened opened) =>
        opened is { Sid: { } sid, Request.Lease: { IsExclusive: false } lease }
            ? [PostgresDatabase.Command(PostgresSql.ReleaseUse, sid, lease.Token)] : [];

    private async ValueTask<WriteResult> FailAsync(PostgresOpened opened, RecordFailure failure, CancellationToken cancellationToken)
    {
        var owner = opened.Request.Owner;
        return await database.RunAsync(
            async (connection, cancel) =>
            {
                var session = await PostgresDatabase.QueryAsync(
                    connection,
                    [
                        PostgresDatabase.Command(
                            PostgresSql.Fail, opened.Sid!.Value, opened.Token, Now, owner.IsAnyone, owner.UserId, owner.MayClaim,
                                NewTag(), Microseconds(policy.Lifetime(opened.Kind)), failure.Error),
                        .. ReleaseUse(opened),
                    ],
                    async (reader, stop) => await reader.ReadAsync(stop) ? PostgresRows.ReadSession(reader) : null, cancel);
                return session is not null ? Written(opened, (session, null)) : await WhyNotAsync(connection, opened, cancel);
            }, cancellationToken);
    }

    private ValueTask<WriteResult> ReplaceAsync(PostgresOpened opened, ReplaceMetadata change, Told told,
        CancellationToken cancellationToken) => OnLockedAsync(
        opened, null, told, async (connection, session, _, cancel) =>
        {
            var head = session.Session;
            if (head.Revision != opened.Revision)
            {
                return new WriteResult(WriteStatus.Stale);
            }

            var bytes = head.Bytes + change.Metadata.Length - head.Metadata.Length;
            var (before, size) = (StorePolicy.SizeOf(head.Bytes, head.TurnCount), StorePolicy.SizeOf(bytes, head.TurnCount));
            if (await MakeRoomInBytesAsync(connection, session.Sid, head.UserId, head.Kind, before, size, told, cancel) is { } limit)
            {
                return new WriteResult(WriteStatus.Full) { Limit = limit };
            }

            await CountBytesAsync(connection, head.UserId, head.Id, head.Kind, size - before, cancel);
            return Written(opened, (
                await ReadOneAsync(connection, PostgresDatabase.Command(PostgresSql.ReplaceMetadata, session.Sid, NewTag(),
                change.Metadata, bytes), cancel), null));
        }, cancellationToken);

    private ValueTask<WriteResult> ReplaceAsync(PostgresOpened opened, ReplaceTurn change, CancellationToken cancellationToken) =>
        OnLockedAsync(
        opened, null, new Told(), async (connection, session, _, cancel) =>
        {
            var head = session.Session;
            if (head.Revision != opened.Revision)
            {
                return new WriteResult(WriteStatus.Stale);
            }

            var turn = change.Turn;
            var changed = await PostgresDatabase.QueryAsync(
                connection,
                [PostgresDatabase.Command(
                    PostgresSql.ReplaceTurn, session.Sid, turn.Number, TurnCodec.PackDetails(turn), turn.Input.Bytes, turn.Output.Bytes,
                        turn.Response, checked((int)turn.Bytes), NewTag(), change.DropSummary)],
                ReadSessionAsync, cancel) ?? throw PostgresRows.NoTurn(head.Id, turn.Number);
            await CountBytesAsync(connection, head.UserId, head.Id, head.Kind, changed.Session.Bytes - head.Bytes, cancel);
            return Written(opened, (changed, null));
        }, cancellationToken);

    // A first turn, or a first failure: the session comes to be, where nothing else has come meanwhile and nobody has deleted what stood
    // for it.
    private async ValueTask<WriteResult> CreateAsync(PostgresOpened opened, NewSession create, AppendTurn? append, RecordFailure? failure,
        Told told, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(create);
        try
        {
            return await InTransactionAsync(
                told, async (connection, cancel) =>
                {
                    var taken = await LockOwnersAsync(connection, [OwnerKey.Of(create.UserId, create.Id)],
                        () => [LockTakenCommand(create)], ReadTakenAsync, cancel);
                    var now = Now;
                    if (taken.Exists(row => row.IsThere && row.IsLive(now)))
                    {
                        return new WriteResult(WriteStatus.Stale);
                    }

                    var placeholder = taken.Find(row => !row.IsThere);
                    if (opened.Sid is { } sid && placeholder?.Sid != sid)
                    {
                        return new WriteResult(WriteStatus.Gone);
                    }

                    if (placeholder?.IsHeld(now, opened.Token) == true)
                    {
                        return new WriteResult(WriteStatus.Stale);
                    }

                    if (failure is not null && await IsFullInNumberAsync(connection, create.UserId, create.Kind, now, cancel))
                    {
                        return new WriteResult(WriteStatus.Full);
                    }

                    var turn = append is null ? null : append.Turn with { Number = 1, RunStart = 1 };
                    var bytes = create.Metadata.Length + (turn?.Bytes ?? 0) + (append?.Summary?.Text.Length ?? 0);
                    var size = StorePolicy.SizeOf(bytes, turn is null ? 0 : 1);
                    if (await MakeRoomInBytesAsync(connection, -1, create.UserId, create.Kind, 0, size, told, cancel) is { } limit)
                    {
                        return new WriteResult(WriteStatus.Full) { Limit = limit };
                    }

                    await RemoveAsync(connection, [.. taken.Select(row => row.Sid)], null, told, cancel);
                    var head = NewHead(create, now) with
                    {
                        // As old as its first turn, which began before this.
                        CreatedAt = Timestamps.FromMicroseconds(Math.Min(now, turn?.CreatedAt.ToMicroseconds() ?? now)),
                        TurnCount = turn is null ? 0 : 1,
                        Bytes = bytes,
                        Summary = append?.Summary,
                        ErrorCount = failure is null ? 0 : 1,
                        LastError = failure?.Error,
                    };
                    var first = turn is null ? null
                        : InsertTurnCommand(PostgresSql.InsertFirstTurn, head.Key, new ArchivedTurn(turn, opened.Request.Idempotency));
                    var session = await InsertAsync(connection, head, create.ReservedBy, first, null, isLimited: true, told, cancel);
                    told.Created = create.Kind == SessionKind.Chain ? null : create.CreatedFrom;
                    return new WriteResult(WriteStatus.Written) { Session = session.Session with { LastTurn = turn }, Turn = turn };
                }, cancellationToken);
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.UniqueViolation)
        {
            return new WriteResult(WriteStatus.Stale);
        }
    }

    // Owners first, then the session; again where it has another owner by then.
    private async ValueTask<WriteResult> OnLockedAsync(
        PostgresOpened opened, string? claimedBy, Told told, Func<NpgsqlConnection, PostgresSession, long, CancellationToken,
            Task<WriteResult>> change, CancellationToken cancellationToken)
    {
        var userId = opened.UserId;
        while (true)
        {
            var expected = userId;
            var result = await InTransactionAsync<WriteResult?>(
                told, async (connection, cancel) =>
                {
                    HashSet<OwnerKey> owners = [];
                    if (IsCounted(expected, opened.Kind))
                    {
                        owners.Add(OwnerKey.Of(expected, opened.Id!));
                    }

                    if (claimedBy is not null)
                    {
                        owners.Add(OwnerKey.Of(claimedBy, opened.Id!));
                    }

                    var session = await LockOwnersAsync(
                        connection, owners, () => [PostgresDatabase.Command(PostgresSql.LockSession, opened.Sid!.Value)],
                        ReadSessionAsync, cancel);
                    var now = Now;
                    if (session is null || !session.IsLive(now) || !opened.Request.Owner.MayHave(session.Session.UserId))
                    {
                        return new WriteResult(WriteStatus.Gone);
                    }

                    if (session.Session.UserId != expected)
                    {
                        userId = session.Session.UserId;
                        return null;
                    }

                    return await change(connection, session, now, cancel);
                }, cancellationToken);
            if (result is { } done)
            {
                return done;
            }
        }
    }

    // What was told of a try that came to nothing is forgotten.
    private async ValueTask<T> InTransactionAsync<T>(Told told, Func<NpgsqlConnection, CancellationToken, Task<T>> operation,
        CancellationToken cancellationToken)
    {
        for (var tries = 1; ; tries++)
        {
            try
            {
                return await database.InTransactionAsync(
                    (connection, cancel) =>
                    {
                        told.Clear();
                        return operation(connection, cancel);
                    }, cancellationToken);
            }
            catch (BeginAgainException)
            {
                ThrowIfEndless(tries);
            }
        }
    }

    private static WriteResult Written(PostgresOpened opened, (PostgresSession Session, Turn? Turn) done)
    {
        var session = done.Session.Session;
        return new WriteResult(WriteStatus.Written)
        {
            Session = session.Revision.Version == opened.Revision.Version + 1 ? session with { LastTurn = done.Turn } : null,
            Turn = done.Turn,
        };
    }

    private async Task<WriteResult> WhyNotAsync(NpgsqlConnection connection, PostgresOpened opened, CancellationToken cancellationToken) =>
        await ReadStateAsync(connection, opened.Sid!.Value, cancellationToken) is { } state && state.ExpiresAt > Now
            && opened.Request.Owner.MayHave(state.UserId)
            ? new WriteResult(WriteStatus.Stale) : new WriteResult(WriteStatus.Gone);

    private static async Task<bool> AnsweredAsync(NpgsqlConnection connection, long sid, Idempotency? key,
        CancellationToken cancellationToken) =>
        key is { } given && await PostgresDatabase.QueryAsync(
            connection, [PostgresDatabase.Command(PostgresSql.HasAnswered, sid, given.Key)], (reader, cancel) => reader.ReadAsync(cancel),
                cancellationToken);

    private static NpgsqlBatchCommand LockTakenCommand(NewSession session) =>
        PostgresDatabase.Command(PostgresSql.LockTaken, session.Id, session.Key);

    private static async Task<List<PostgresSession>> ReadTakenAsync(NpgsqlDataReader reader, CancellationToken cancellationToken)
    {
        List<PostgresSession> rows = [];
        while (await reader.ReadAsync(cancellationToken))
        {
            rows.Add(PostgresRows.ReadSession(reader));
        }

        return rows;
    }

    private static async Task<PostgresSession> ReadOneAsync(NpgsqlConnection connection, NpgsqlBatchCommand command,
        CancellationToken cancellationToken) => await PostgresDatabase.QueryAsync(
        connection, [command], ReadSessionAsync, cancellationToken) ?? throw new InvalidDataException("A row that was locked is gone.");

    private static async Task<PostgresSession?> ReadSessionAsync(NpgsqlDataReader reader, CancellationToken cancellationToken) =>
        await reader.ReadAsync(cancellationToken) ? PostgresRows.ReadSession(reader) : null;

    private Session NewHead(NewSession session, long now) => new()
    {
        Id = session.Id,
        Key = session.Key,
        Kind = session.Kind,
        UserId = session.UserId,
        CreatedAt = Timestamps.FromMicroseconds(now),
        LastActivityAt = Timestamps.FromMicroseconds(now),
        ExpiresAt = Timestamps.FromMicroseconds(now + Microseconds(policy.Lifetime(session.Kind))),
        Revision = Revision.First(),
        CreatedFrom = session.CreatedFrom,
        Metadata = session.Metadata,
        TurnCount = 0,
    };

    // Counted with it, and in the same go; then its user's others make room.
    private async Task<PostgresSession> InsertAsync(
        NpgsqlConnection connection, Session head, Guid? reservedBy, NpgsqlBatchCommand? turns, long? staged, bool isLimited, Told told,
        CancellationToken cancellationToken)
    {
        var command = PostgresDatabase.Command(
            staged is null ? PostgresSql.InsertSession : PostgresSql.FinishStaged,
            [
                head.Id, head.Key, (short)head.Kind, Shard(head.Id), head.UserId, head.CreatedFrom.Name(),
                head.CreatedAt.ToMicroseconds(), head.LastActivityAt.ToMicroseconds(), head.ExpiresAt.ToMicroseconds(),
                head.Revision.Version, head.Revision.Tag, head.Rewrites, head.TurnCount, head.ErrorCount, head.Bytes,
                head.Metadata.IsEmpty ? null : head.Metadata, head.Summary?.Text, head.Summary?.CoversTurns, head.LastError, reservedBy,
                .. staged is { } sid ? new object?[] { sid } : [],
            ]);
        var countBytes = CountBytesCommand(head.UserId, head.Id, head.Kind, StorePolicy.SizeOf(head.Bytes, head.TurnCount));
        var countSession = head.Kind == SessionKind.Chain ? null
            : PostgresDatabase.Command(PostgresSql.CountSession, Shard(head.Id));
        var list = isLimited ? ListForLimitCommand(head.UserId, head.Kind, head.Id) : null;
        var (session, others) = await PostgresDatabase.QueryAsync<(PostgresSession, List<LimitRow>?)>(
            connection, new[] { command, turns, countBytes, countSession, list }.OfType<NpgsqlBatchCommand>(), async (reader, cancel) =>
            {
                var made = await ReadSessionAsync(reader, cancel) ?? throw new InvalidDataException("A row that was locked is gone.");
                return (made, await reader.NextResultAsync(cancel) ? await ReadForLimitAsync(reader, cancel) : null);
            }, cancellationToken);
        if (others is not null)
        {
            await MakeRoomInNumberAsync(connection, others, head.Kind, told, cancellationToken);
        }

        return session;
    }

    // After the session's number, or after its key.
    private static NpgsqlBatchCommand InsertTurnCommand(string sql, object session, ArchivedTurn archived)
    {
        var turn = archived.Turn;
        return PostgresDatabase.Command(
            sql, session, turn.Number, turn.Parent, turn.RunStart, (long)turn.Nonce.Value, checked((int)turn.Bytes),
            archived.AnsweredTo?.Key, archived.AnsweredTo?.Body, TurnCodec.PackDetails(turn), turn.Input.Bytes, turn.Output.Bytes,
            turn.Response);
    }
}
