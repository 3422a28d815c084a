using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <content>Opening, changing, and the leases that keep processes apart.</content>
internal sealed partial class RedisSessionStore
{
    // What the scripts answer.
    private const int Written = 0;
    private const int Stale = 1;
    private const int Gone = 2;
    private const int Renumber = 3;
    private const int NotMade = 4;
    private const int OnceMore = 6;
    private const int UnchangedLength = 5;

    public async ValueTask<OpenedSession> OpenAsync(OpenRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (await IdOfAsync(request.Session) is not { } id)
        {
            return new OpenedSession(request, OpenStatus.NotFound);
        }

        var token = request.Lease is { } lease ? RedisKeys.Text(lease.Token) : "";
        var isHeld = false;
        var isEntered = false;
        try
        {
            while (true)
            {
                // Side by side where the session may well be a new one: the lease is of no use without the entry, and the other way round.
                var entered = isEntered = token.Length > 0 && request.Remembered is null && request.Session.Id is not null;
                var entering = entered ? EnterAsync(id, request.Owner.UserId, token) : Task.CompletedTask;
                var tag = NewTag();
                isHeld = token.Length > 0;
                RedisResult result;
                try
                {
                    result = await SendOpenAsync(request, id, token, tag);
                }
                finally
                {
                    await entering;
                }

                var status = (int)result[0];
                if (status == OnceMore)
                {
                    continue;
                }

                isHeld = isHeld && status == 0;
                var opened = await DecodeOpenedAsync(request, request.Remembered, id, token, tag, result);
                if (opened is null)
                {
                    // What is remembered never came to be as far as this Redis knows: it has lost it, and others have gone on. The lease
                    // is held already.
                    result = await SendOpenAsync(request with { Remembered = null }, id, token, tag);
                    opened = await DecodeOpenedAsync(request, known: null, id, token, tag, result)
                        ?? throw new InvalidOperationException("Nothing was to be remembered.");
                }

                if (opened is RedisOpenedSession { Gives: true } gives)
                {
                    if (!entered)
                    {
                        await EnterAsync(id, request.Owner.UserId, token, ofAll: gives.Key is null);
                    }
                }
                else if (entered)
                {
                    Leave(id, request.Owner.UserId, token);
                }

                if (opened is RedisOpenedSession { IsExtended: true } extended)
                {
                    var session = extended.Session!;
                    await TouchAsync(extended.Facts(session.LastActivityAt.ToMicroseconds(), session.ExpiresAt.ToMicroseconds()),
                        onlyMove: true, exactly: true);
                }

                isHeld = false;
                return opened;
            }
        }
        catch (StoreUnavailableException e) when (!RedisFailure.MayHaveBeenCarriedOut(e))
        {
            // Nothing to let go of, and no need to bother a server in trouble.
            isHeld = isHeld && isEntered;
            throw;
        }
        finally
        {
            // Where the answer was lost, no lease is left behind.
            if (isHeld)
            {
                Release(id, request.Owner, token, isEntered);
            }
        }
    }

    public async ValueTask<WriteResult> WriteAsync(OpenedSession opened, SessionChange change, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (opened is not RedisOpenedSession { Status: OpenStatus.Opened or OpenStatus.Unchanged } session)
        {
            throw new ArgumentException("It is not open.", nameof(opened));
        }

        try
        {
            var result = change switch
            {
                AppendTurn append => await AppendAsync(session, append),
                RecordFailure failure => await FailAsync(session, failure),
                ReplaceMetadata { Metadata: var metadata } => await EditAsync(
                    session, "m", metadata, 0, metadata.Length - (session.Session?.Metadata.Length ?? 0), dropSummary: false),
                ReplaceTurn replacement => await ReplaceTurnAsync(session, replacement),
                _ => throw new ArgumentOutOfRangeException(nameof(change)),
            };
            session.HasEnded = true;
            return result;
        }
        catch (StoreUnavailableException e) when (RedisFailure.MayHaveBeenCarriedOut(e))
        {
            session.MayBeWritten = true;
            throw;
        }
    }

    public async ValueTask<LeaseState> RenewAsync(OpenedSession opened, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (opened is not RedisOpenedSession { HasEnded: false, Token.Length: > 0, Request.Lease: { } lease } session)
        {
            return LeaseState.Lost;
        }

        var owner = session.Request.Owner;
        if (session.Gives)
        {
            // Before the lease, which must not outlive its entry. Where an erasure has taken that, it has taken the lease too.
            await TryEnterAsync(session.Id, owner.UserId, session.Token, ofAll: session.Key is null);
        }

        var state = (int)await RunAsync(RedisScripts.Renew, session.Id, owner, session.Token,
            (long)lease.Duration.TotalMilliseconds, RedisCodec.Encode(session.Key), lease.IsExclusive, !session.Gives);
        if (session.HasEnded)
        {
            // The turn has ended while this was under way, and may have let go before this took it again.
            Release(session.Id, owner, session.Token, session.TakesEntryBack);
        }

        return state switch
        {
            1 => LeaseState.Held,
            2 => LeaseState.Cancelled,
            _ => LeaseState.Lost,
        };
    }

    public ValueTask ReleaseAsync(OpenedSession opened)
    {
        if (opened is RedisOpenedSession { HasEnded: false, Token.Length: > 0 } session)
        {
            session.HasEnded = true;
            return new(ReleaseAsync(session.Id, session.Request.Owner, session.Token, session.TakesEntryBack));
        }

        return default;
    }

    private async Task<RedisResult> SendOpenAsync(OpenRequest request, string id, string token, RedisValue tag)
    {
        var known = request.Remembered;
        return await RunAsync(RedisScripts.Open, id, request.Owner, token,
            request.HistoryTurns, StepBytes(request.HistoryBytes, request.HistoryTurns),
            RedisCodec.Encode(request.Idempotency?.Key), RedisCodec.Encode(request.Idempotency?.Body),
            (long)(request.Lease?.Duration.TotalMilliseconds ?? 0), request.Lease is { } lease ? Microseconds(lease.MinLifetime) : 0,
            request.Lease is { Waits: true } waits ? (long)waits.WaiterTimeout.TotalMilliseconds : 0, request.Lease?.IsExclusive ?? false,
            request.Tip is { } tip ? RedisCodec.Text(tip) : "",
            RedisCodec.Encode(known?.Key), known?.Revision.Version ?? 0, known?.Revision.Tag ?? 0, known?.LastTurn ?? 0, known?.Rewrites
                ?? 0,
            RedisCodec.Encode(KeyOf(request.Session)), tag);
    }

    // Null: what is remembered and what came do not belong together.
    private async Task<OpenedSession?> DecodeOpenedAsync(
        OpenRequest request, RememberedTail? known, string id, string token, RedisValue tag, RedisResult result)
    {
        var status = (int)result[0] switch
        {
            0 => OpenStatus.Opened,
            1 => OpenStatus.NotFound,
            2 => OpenStatus.Replayed,
            3 => OpenStatus.KeyReused,
            4 => OpenStatus.Busy,
            _ => OpenStatus.NoSuchTurn,
        };
        if (status is OpenStatus.Replayed or OpenStatus.NoSuchTurn)
        {
            return Decode(id, () =>
            {
                var head = result.Length > 1 ? RedisCodec.DecodeHead(id, result[1]).Session : null;
                return new OpenedSession(request, status)
                {
                    Session = head is { TurnCount: > 0 and var count }
                        ? head with { LastTurn = RedisCodec.DecodeTurn(result[2], count) } : head,
                    Replay = status == OpenStatus.Replayed ? RedisCodec.DecodeTurn(result[3], (int)result[4]) : null,
                };
            });
        }

        if (status == OpenStatus.Busy && request.Lease is { Waits: true })
        {
            return new RedisOpenedSession(request, status, id) { Token = token };
        }

        if (status != OpenStatus.Opened)
        {
            return new OpenedSession(request, status);
        }

        if (result.Length == 1)
        {
            return new RedisOpenedSession(request, status, id) { Token = token };
        }

        if (result.Length == UnchangedLength && known is { } still)
        {
            return new RedisOpenedSession(request, OpenStatus.Unchanged, id)
            {
                Key = still.Key,
                Revision = still.Revision,
                TurnCount = (int)result[1],
                Rewrites = still.Rewrites,
                UserId = RedisCodec.EmptyToNull(result[2]),
                Kind = (SessionKind)(int)result[3],
                Bytes = (long)result[4],
                Token = token,
            };
        }

        return await DecodeChangedAsync(request, known, id, token, tag, result);
    }

    // The session as it is, with the turns that were asked for or come behind those that are remembered.
    private async Task<RedisOpenedSession?> DecodeChangedAsync(
        OpenRequest request, RememberedTail? remembered, string id, string token, RedisValue tag, RedisResult result)
    {
        var session = Decode(id, () => RedisCodec.DecodeHead(id, result[1]).Session);
        List<Turn> turns = Decode(id, () => DecodeTurns(result[3], result[4]));
        if (session.TurnCount > 0)
        {
            // Either it is the first of those that came, or it came beside them.
            var last = result[2].IsNull && turns.Count > 0 ? turns[0]
                : Decode(id, () => RedisCodec.DecodeTurn(result[2], session.TurnCount));
            session = session with { LastTurn = last };
        }

        var known = remembered is { LastTurn: > 0 } tail && tail.Key == session.Key
            && tail.Rewrites == session.Rewrites ? remembered : null;
        var next = (int)result[5];
        List<Turn> path = [];
        long bytes = 0;
        var isCut = false;
        while (true)
        {
            foreach (var turn in turns)
            {
                if (turn.Number == known?.LastTurn)
                {
                    if (turn.Nonce != known?.LastNonce)
                    {
                        return null;
                    }

                    return Opened(followsRemembered: true);
                }

                if (path.Count > 0 && path[^1].Parent != turn.Number)
                {
                    throw Damaged(DamageReport.NameOf(id), new InvalidDataException("A turn does not go on from the one before it."));
                }

                bytes += turn.Bytes;
                isCut = path.Count > 0 && bytes > request.HistoryBytes;
                if (isCut)
                {
                    return Opened(followsRemembered: false);
                }

                path.Add(turn);
            }

            if (next == 0 || path.Count >= request.HistoryTurns)
            {
                return Opened(followsRemembered: false);
            }

            // The rest of a large history, step by step: turns that were read stay as they are unless one is rewritten.
            var left = request.HistoryTurns - path.Count;
            var page = await RunAsync(RedisScripts.Turns, id, Owner.Anyone, "", left, StepBytes(request.HistoryBytes - bytes, left),
                path[^1].Number, true,
                request.Tip ?? session.TurnCount, RedisCodec.Encode(session.Key), false);
            if (page.IsNull || Decode(id, () => RedisCodec.DecodeHead(id, page[0])).Session.Rewrites != session.Rewrites)
            {
                throw new StoreUnavailableException("The session changed while it was read.", TimeSpan.FromSeconds(1));
            }

            turns = Decode(id, () => DecodeTurns(page[2], page[3]));
            next = turns.Count > 0 ? (int)page[4] : 0;
        }

        RedisOpenedSession Opened(bool followsRemembered)
        {
            path.Reverse();
            return new RedisOpenedSession(request, OpenStatus.Opened, id)
            {
                Key = session.Key,
                Revision = session.Revision,
                TurnCount = session.TurnCount,
                Rewrites = session.Rewrites,
                UserId = session.UserId,
                Kind = session.Kind,
                Bytes = session.Bytes,
                Token = token,
                IsExtended = session.Revision.Tag == (long)tag,
                Session = session,
                Turns = path,
                FollowsRemembered = followsRemembered,
                IsCut = isCut && !followsRemembered,
            };
        }
    }

    private async Task<WriteResult> AppendAsync(RedisOpenedSession opened, AppendTurn append)
    {
        var (id, owner) = (opened.Id, opened.Request.Owner);
        var create = opened.Key is null ? append.Create
            ?? throw new ArgumentException("A session is to be created, but which?", nameof(append)) : null;
        var kind = create?.Kind ?? opened.Kind;
        var userId = create is not null ? create.UserId : opened.UserId ?? owner.UserId;
        var added = append.Turn.Bytes + (create?.Metadata.Length ?? 0)
            + (append.Summary is { } replacing ? replacing.Text.Length - (opened.Session?.Summary?.Text.Length ?? 0) : 0);
        if (await FindLimitAsync(opened, create, added, turns: 1) is { } limit)
        {
            await EndAsync(opened);
            return new WriteResult(WriteStatus.Full) { Limit = limit };
        }

        var token = opened.Token;
        if (create is not null && token.Length == 0)
        {
            token = RedisKeys.Text(Guid.NewGuid());
            if (await HoldAsync(id, owner, userId, token) != HoldStatus.Held)
            {
                return new WriteResult(WriteStatus.Stale);
            }
        }

        if (create is not null && create.UserId != owner.UserId)
        {
            await EnterAsync(id, create.UserId, token, ofAll: false);
        }

        var keyed = create is null ? null : await PrepareKeyAsync(create.Key, id, kind);
        var number = opened.TurnCount + 1;
        while (true)
        {
            var run = Turn.RunStartOf(number, append.Turn.Parent, append.ParentRun);
            var turn = append.Turn with { Number = number, RunStart = run };
            var summary = append.Summary;
            RedisValue[] values =
            [
                RedisCodec.Encode(opened.Key), opened.TurnCount, opened.Rewrites, opened.Revision.Version, opened.Revision.Tag,
                    TurnCodec.Pack(turn), number,
                RedisCodec.BranchOf(number, turn.Parent), turn.Bytes, NewTag(),
                RedisCodec.Encode(opened.Request.Idempotency?.Key), RedisCodec.Encode(opened.Request.Idempotency?.Body),
                summary is null ? "" : RedisCodec.Text(summary.CoversTurns), summary?.Text.Bytes
                    ?? ReadOnlyMemory<byte>.Empty, append.BesideOthers, .. OfNew(create),
                turn.CreatedAt.ToMicroseconds(),
            ];

            // What an agent has worked for is not given up for a moment's trouble. Behind it in the same pipeline go the indexes, where
            // they know the session: if there is to be no turn after all, they are ahead by a little.
            var commit = RunPatientlyAsync(RedisScripts.Commit, id, owner, token, values);
            // Where others grow beside it, what it takes then is not known beforehand.
            var moved = append.BesideOthers && CountsBytes(opened.UserId, opened.Kind) ? null : MoveOf(opened, added);
            var move = moved is null ? Task.FromResult(false) : TouchAsync(moved, onlyMove: true);
            RedisResult result;
            try
            {
                result = await commit;
            }
            finally
            {
                await move;
            }

            var status = (int)result[0];
            if (status == Renumber)
            {
                // Others were committed beside it; there may be less room by now.
                number = (int)result[1];
                if (await FindLimitAsync(opened, create: null, added, turns: 1, ((long)result[2], number - 1)) is { } passed)
                {
                    await EndAsync(opened);
                    return new WriteResult(WriteStatus.Full) { Limit = passed };
                }

                continue;
            }

            opened.HasEnded = true;
            if (status != Written)
            {
                Undo(create, keyed, id, userId, token);
                await TakeBackMoveAsync(moved);
                return new WriteResult(status == Gone ? WriteStatus.Gone : WriteStatus.Stale);
            }

            var head = Decode(id, () => RedisCodec.DecodeHead(id, result[1]));
            await ChangedAsync(opened, create, head, result, token, keyed, isListed: await move
                && (moved!.Size == head.Facts.Size || !CountsBytes(moved.UserId, kind)));
            return new WriteResult(WriteStatus.Written)
            {
                Session = (int)result[2] == 1 ? head.Session with { LastTurn = turn } : null,
                Turn = turn,
            };
        }
    }

    private async Task<WriteResult> FailAsync(RedisOpenedSession opened, RecordFailure failure)
    {
        var (id, owner) = (opened.Id, opened.Request.Owner);
        var create = opened.Key is null ? failure.Create : null;
        var mayCreate = create is not null && !await IsFullAsync(create.UserId, create.Kind)
            && await FindLimitAsync(opened, create, create.Metadata.Length, turns: 0) is null;
        var token = opened.Token;
        if (mayCreate && token.Length == 0)
        {
            token = RedisKeys.Text(Guid.NewGuid());
            mayCreate = await HoldAsync(id, owner, create!.UserId, token) == HoldStatus.Held;
        }

        if (mayCreate && create!.UserId != owner.UserId)
        {
            await EnterAsync(id, create.UserId, token, ofAll: false);
        }

        var keyed = mayCreate ? await PrepareKeyAsync(create!.Key, id, create.Kind) : null;
        var result = await RunAsync(RedisScripts.Fail, id, owner, token,
            [RedisCodec.Encode(opened.Key), opened.Revision.Version, opened.Revision.Tag, failure.Error.Bytes, NewTag(), mayCreate,
                .. OfNew(create)]);
        opened.HasEnded = true;
        var status = (int)result[0];
        if (status != Written)
        {
            Undo(opened.Key is null ? create : null, keyed, id, create?.UserId ?? owner.UserId, token);
            return new WriteResult(status switch { Gone => WriteStatus.Gone, NotMade => WriteStatus.Full, _ => WriteStatus.Stale });
        }

        var head = Decode(id, () => RedisCodec.DecodeHead(id, result[1]));
        await ChangedAsync(opened, create, head, result, token, keyed, isListed: false);
        var session = head.Session with { LastTurn = opened.Session?.LastTurn };
        return new WriteResult(WriteStatus.Written) { Session = (int)result[2] == 1 ? session : null };
    }

    private async Task<WriteResult> ReplaceTurnAsync(RedisOpenedSession opened, ReplaceTurn replacement)
    {
        var turn = replacement.Turn;
        var before = await ReadableAsync(DamageReport.NameOf(opened.Id), redis.RunAsync(keys.Turns(opened.Id), (database, key) =>
            database.ListGetByIndexAsync(key, turn.Number - 1)));
        if (before.IsNull || opened.Key is null)
        {
            await EndAsync(opened);
            return new WriteResult(WriteStatus.Gone);
        }

        // Where it is another one by now, the revision is another one too.
        var bytes = Decode(opened.Id, () => RedisCodec.DecodeTurn((byte[]?)before, turn.Number)).Bytes;
        return await EditAsync(opened, "t", TurnCodec.Pack(turn), turn.Number, turn.Bytes - bytes, replacement.DropSummary);
    }

    private async Task<WriteResult> EditAsync(
        RedisOpenedSession opened, string what, ReadOnlyMemory<byte> value, int number, long growth, bool dropSummary)
    {
        if (opened.Key is null)
        {
            await EndAsync(opened);
            return new WriteResult(WriteStatus.Gone);
        }

        if (growth > 0 && await FindLimitAsync(opened, create: null, growth, turns: 0) is { } limit)
        {
            await EndAsync(opened);
            return new WriteResult(WriteStatus.Full) { Limit = limit };
        }

        var result = await RunAsync(RedisScripts.Edit, opened.Id, opened.Request.Owner, opened.Token,
            RedisCodec.Encode(opened.Key), opened.Revision.Version, opened.Revision.Tag, NewTag(), what, value, number, growth,
                dropSummary);
        opened.HasEnded = true;
        if (opened.Gives)
        {
            Leave(opened.Id, opened.Request.Owner.UserId, opened.Token);
        }

        if ((int)result[0] is not Written and var status)
        {
            return new WriteResult(status == Stale ? WriteStatus.Stale : WriteStatus.Gone);
        }

        var head = Decode(opened.Id, () => RedisCodec.DecodeHead(opened.Id, result[1]));
        if (CountsBytes(head.Session.UserId, head.Session.Kind))
        {
            await TouchAsync(head.Facts, onlyMove: true);
        }

        var last = opened.Session?.LastTurn;
        return new WriteResult(WriteStatus.Written) { Session = head.Session with { LastTurn = last?.Number == number ? null : last } };
    }

    // After a change that is activity. It stands, whatever becomes of this.
    private async Task ChangedAsync(
        RedisOpenedSession opened, NewSession? create, RedisHead head, RedisResult result, string token, Task? keyed, bool isListed)
    {
        var isKept = (int)result[3] == 1;
        if (create is not null)
        {
            Created(head.Session);
            if (RedisRemains.Decode(result[4]) is { } expired)
            {
                await ForgetAsync(head.Session.Id, expired, isExpired: true);
            }
        }

        await KeyedAsync(head, keyed, isKept);
        if (!isListed || isKept)
        {
            var isGiven = opened.Gives || create is not null;

            // One that was to go, and was used before it went, comes back: another goes then.
            await TouchAsync(head.Facts, entry: isGiven ? token : "", mayEvict: true, exactly: opened.IsExtended);
            if (isGiven && create is null && opened.UserId is null && head.Session.UserId is not null)
            {
                await DropAsync(null, head.Session.Kind, [head.Facts.Entry]);
            }
        }
        else if (opened.Gives)
        {
            Leave(opened.Id, opened.Request.Owner.UserId, token);
        }
    }

    // Takes back what was done for a session that did not come to be.
    private void Undo(NewSession? create, Task? keyed, string id, string? userId, string token)
    {
        if (token.Length > 0)
        {
            Leave(id, userId, token);
        }

        if (create is not null && keyed is not null)
        {
            _ = UnkeyAsync(create.Key, id);
        }
    }

    private async Task EndAsync(RedisOpenedSession opened)
    {
        opened.HasEnded = true;
        if (opened.Token.Length > 0)
        {
            await ReleaseAsync(opened.Id, opened.Request.Owner, opened.Token, opened.Gives);
        }
    }

    private void Release(string id, Owner owner, string token, bool isEntered) => _ = ReleaseAsync(id, owner, token, isEntered);

    private async Task ReleaseAsync(string id, Owner owner, string token, bool isEntered)
    {
        try
        {
            await redis.ScriptPatientlyAsync(RedisScripts.Release, keys.OfSession(id), Arguments(owner, token));
            if (isEntered)
            {
                Leave(id, owner.UserId, token);
            }
        }
        catch (Exception e)
        {
            Log.NotReleased(logger, id, e.Message);
        }
        finally
        {
            OnStep("released");
        }
    }

    private static List<Turn> DecodeTurns(RedisResult numbers, RedisResult values)
    {
        List<Turn> turns = new(numbers.Length);
        for (var i = 0; i < numbers.Length; i++)
        {
            turns.Add(RedisCodec.DecodeTurn(values[i], (int)numbers[i]));
        }

        return turns;
    }

    private static RedisValue[] OfNew(NewSession? session) => session is null
        ? ["", "", "", "", "", ""]
        : [session.UserId ?? "", session.Key.ToByteArray(), (int)session.Kind, session.CreatedFrom.Name(),
            session.ReservedBy?.ToString("N") ?? "", session.Metadata];
}
