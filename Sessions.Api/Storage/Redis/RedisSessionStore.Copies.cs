using System.Diagnostics;
using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <content>Sessions that are created, copied and imported.</content>
internal sealed partial class RedisSessionStore
{
    private const int TurnsPerStep = 200;

    // How long a lease lasts by which a session is made in several steps, and what stands ready for it after the last one.
    private static readonly TimeSpan CopyLease = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan CopyLife = TimeSpan.FromMinutes(10);

    public async ValueTask<CopyResult> CopyAsync(CopyRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        RedisHead? source = null;
        if (request.Source is { } named)
        {
            source = await IdOfAsync(named) is { } sourceId ? await ReadAsync(sourceId, request.Owner, KeyOf(named)) : null;
            if (source is null || (request.SourceKey is { } expected && source.Session.Key != expected))
            {
                return new CopyResult(CopyStatus.SourceNotFound);
            }

            if (request.AfterTurn is { } after && (after < 0 || after > source.Session.TurnCount))
            {
                return new CopyResult(CopyStatus.NoSuchTurn, source.Session);
            }
        }

        if (request.Head is { } head && head.ExpiresAt.ToMicroseconds() <= Now)
        {
            return new CopyResult(CopyStatus.Expired);
        }

        var session = source is null ? request.Session : request.Session with { UserId = source.Session.UserId };
        if (source is null
            && await FindLimitAsync(session, request.Head?.Bytes ?? session.Metadata.Length, request.Head?.TurnCount ?? 0) is { } limit)
        {
            return new CopyResult(CopyStatus.Full) { Limit = limit };
        }

        var copy = new Copy(session, OwnerOf(session.UserId), RedisKeys.Text(Guid.NewGuid()), keys, request.Turns is not null
            || source is { Session.TurnCount: > 0 });
        var isKeyed = false;
        try
        {
            var held = copy.HasTurns ? HoldAsync(session.Id, copy.Owner, session.UserId, copy.Token) : EnteredAsync(copy);
            isKeyed = await TryKeyAsync(session);
            if (await held is not HoldStatus.Held || !isKeyed)
            {
                // Or somebody's first turn runs, which will have made it.
                return await IdTakenAsync(session);
            }

            if (request.Turns is { } turns)
            {
                await CollectAsync(copy, turns, request.Head?.TurnCount ?? request.AfterTurn
                    ?? source?.Session.TurnCount, cancellationToken);
            }
            else if (source is not null && !await CollectAsync(copy, source.Session, request.AfterTurn
                ?? source.Session.TurnCount, cancellationToken))
            {
                return new CopyResult(CopyStatus.SourceNotFound);
            }

            // After the turns: those that were read are its turns if it is still the same.
            if (source is not null && !await IsStillAsync(source.Session, request.Owner))
            {
                return new CopyResult(CopyStatus.SourceNotFound);
            }

            // After that: it may be the source that makes room, as its turns have been read.
            if (request.Head is null && (copy.HasTurns || source is not null)
                && await FindLimitAsync(session, session.Metadata.Length + copy.Bytes, copy.Count) is { } passed)
            {
                return new CopyResult(CopyStatus.Full) { Limit = passed };
            }

            if (request.Head is { } imported && imported.ExpiresAt.ToMicroseconds() <= Now)
            {
                return new CopyResult(CopyStatus.Expired);
            }

            OnStep("ready");
            return await MakeAsync(request, copy, source);
        }
        finally
        {
            if (!copy.IsMade)
            {
                Abandon(copy, isKeyed);
            }
        }
    }

    private async Task<CopyResult> IdTakenAsync(NewSession session) => new(CopyStatus.IdTaken)
    {
        IsOwn = session.ReservedBy is { } key
            && (await PastDamageAsync(() => LookAsync(session.Id, key: null))).Facts?.Reservation == key.ToString("N"),
    };

    private async Task<CopyResult> MakeAsync(CopyRequest request, Copy copy, RedisHead? source)
    {
        var session = copy.Session;
        List<RedisValue> fields = [];
        if (request.Head is { } head)
        {
            fields.AddRange(["c", head.CreatedAt.ToMicroseconds(), "a", head.LastActivityAt.ToMicroseconds(), "x",
                head.ExpiresAt.ToMicroseconds()]);
            fields.AddRange(["v", head.Revision.Version, "g", head.Revision.Tag, "e", head.ErrorCount, "w", head.Rewrites]);
            if (head.LastError is { } error)
            {
                fields.AddRange(["le", error.Bytes]);
            }
        }

        var summary = request.Turns is not null || source is null ? request.Summary ?? request.Head?.Summary
            : source.Session.Summary is { } covering && covering.CoversTurns <= copy.Count ? covering : null;
        if (summary is not null)
        {
            fields.AddRange(["st", summary.Text.Bytes, "sc", summary.CoversTurns]);
        }

        fields.AddRange(["b", session.Metadata.Length + (summary?.Text.Length ?? 0) + copy.Bytes]);
        RedisResult result;
        try
        {
            result = await redis.ScriptAsync(RedisScripts.Create, [.. keys.OfSession(session.Id), .. copy.Keys],
                Arguments(copy.Owner, copy.Token, [copy.HasTurns, .. OfNew(session), NewTag(), .. fields]));
        }
        catch (RedisServerException e) when (RedisFailure.IsDamage(e))
        {
            throw Damaged(DamageReport.NameOf(session.Id), e);
        }
        catch (StoreUnavailableException e) when (RedisFailure.MayHaveBeenCarriedOut(e))
        {
            copy.MayBeMade = true;
            throw;
        }

        copy.IsMade = (int)result[0] == Written;
        if ((int)result[0] is not Written and var status)
        {
            return status == Stale ? await IdTakenAsync(session)
                : copy.HasTurns ? new CopyResult(CopyStatus.SourceNotFound)
                : await CopyAsync(request, CancellationToken.None);
        }

        var made = Decode(session.Id, () => RedisCodec.DecodeHead(session.Id, result[1]));
        if (made.Session.TurnCount > 0)
        {
            var last = Decode(session.Id, () => RedisCodec.DecodeTurn(result[3], made.Session.TurnCount));
            made = made with { Session = made.Session with { LastTurn = last } };
        }

        if (RedisRemains.Decode(result[2]) is { } expired)
        {
            await ForgetAsync(session.Id, expired, isExpired: true);
        }

        if (request.CreatedBy is { } key)
        {
            // The session stands, whatever becomes of this.
            var expires = made.Facts.ExpiresAt;
            await PastTroubleAsync(session.Id, () => redis.ScriptAsync(RedisScripts.Reserve, [keys.Reservation(key.Key)],
                [Now, expires, IndexLife(expires), key.Body.ToByteArray(), session.Id, "", true]));
        }

        if (request.Head is null)
        {
            Created(made.Session);
        }

        await TouchAsync(made.Facts, copy.Token, mayEvict: request.Head is null);
        return new CopyResult(CopyStatus.Created, made.Session);
    }

    // Copies turns of a session, step by step.
    private async Task<bool> CollectAsync(Copy copy, Session source, int count, CancellationToken cancellationToken)
    {
        var request = new TurnPageRequest { Limit = TurnsPerStep, MaxBytes = MaxStepBytes };
        for (var last = 0; last < count;)
        {
            var result = await ReadStepAsync(source.Id, Owner.Anyone, source.Key, request, last, "*", Math.Min(TurnsPerStep,
                count - last), MaxStepBytes, withLast: false, cancellationToken);
            if (result.IsNull || Decode(source.Id, () => RedisCodec.DecodeHead(source.Id, result[0])).Session.Rewrites != source.Rewrites)
            {
                return false;
            }

            var turns = Decode(source.Id, () => DecodeTurns(result[2], result[3]));
            for (var i = 0; i < turns.Count; i++)
            {
                copy.Add(turns[i], (byte[])result[3][i]!, answeredTo: null);
            }

            last = turns[^1].Number;
            await SendAsync(copy);
        }

        return true;
    }

    // Takes turns that are handed in, step by step.
    private async Task CollectAsync(Copy copy, IAsyncEnumerable<ArchivedTurn> turns, int? promised, CancellationToken cancellationToken)
    {
        await foreach (var (turn, answeredTo) in turns.WithCancellation(cancellationToken))
        {
            if (turn.Number != copy.Count + 1)
            {
                throw new InvalidDataException($"Turn {copy.Count + 1} of session '{copy.Session.Id}' is missing.");
            }

            copy.Add(turn, TurnCodec.Pack(turn), answeredTo);
            if (copy.IsStepFull)
            {
                await SendAsync(copy);
            }
        }

        await SendAsync(copy);
        if (promised is { } count && count != copy.Count)
        {
            throw new InvalidDataException($"Session '{copy.Session.Id}' has {count} turns, but {copy.Count} came.");
        }
    }

    private async Task SendAsync(Copy copy)
    {
        var (values, branches, answered) = copy.TakeStep();
        if (values.Length == 0)
        {
            return;
        }

        List<Task> steps =
        [
            redis.RunAsync(copy.Keys[0], async (database, key) =>
            {
                _ = database.ListRightPushAsync(key, values);
                return await database.KeyExpireAsync(key, CopyLife);
            }),
        ];
        if (branches.Length > 0)
        {
            steps.Add(redis.RunAsync(copy.Keys[1], async (database, key) =>
            {
                _ = database.SortedSetAddAsync(key, branches);
                return await database.KeyExpireAsync(key, CopyLife);
            }));
        }

        if (answered.Length > 0)
        {
            steps.Add(redis.RunAsync(copy.Keys[2], async (database, key) =>
            {
                _ = database.HashSetAsync(key, answered);
                return await database.KeyExpireAsync(key, CopyLife);
            }));
        }

        await Task.WhenAll(steps);
        if (copy.IsRenewalDue())
        {
            // Before the lease, which must not outlive its entry. Whether it was revoked is found out in the end.
            await TryEnterAsync(copy.Session.Id, copy.Session.UserId, copy.Token);
            await RunAsync(RedisScripts.Lease, copy.Session.Id, copy.Owner, copy.Token, (long)CopyLease.TotalMilliseconds);
        }
    }

    private async Task<bool> IsStillAsync(Session source, Owner owner) =>
        await ReadAsync(source.Id, owner, source.Key) is { } now && now.Session.Rewrites == source.Rewrites
            && now.Session.UserId == source.UserId;

    // Enters a session that is to be made, and takes a lease on it.
    private async Task<HoldStatus> HoldAsync(string id, Owner owner, string? userId, string token)
    {
        await EnterAsync(id, userId, token);
        return (HoldStatus)(int)await RunAsync(RedisScripts.Lease, id, owner, token, (long)CopyLease.TotalMilliseconds);
    }

    // A session that is made in one step needs no lease: an erasure tells that the entry is gone.
    private async Task<HoldStatus> EnteredAsync(Copy copy)
    {
        await EnterAsync(copy.Session.Id, copy.Session.UserId, copy.Token);
        return HoldStatus.Held;
    }

    // Writes down where the key leads to. False: it is another session's.
    private async Task<bool> TryKeyAsync(NewSession session)
    {
        var name = keys.IdOf(session.Key);
        var life = TimeSpan.FromMilliseconds(IndexLife(Now + Microseconds(policy.Lifetime(session.Kind))));
        while (!await redis.RunAsync(name, (database, key) => database.StringSetAsync(key, session.Id, life, When.NotExists)))
        {
            var id = await IdOfAsync(SessionRef.ByKey(session.Key));
            if (id is not null && await ReadAsync(id, Owner.Anyone, session.Key) is not null)
            {
                return false;
            }

            // It leads nowhere, as after an expiry; or to what is being made at the same moment, and only one of both will be.
            if (id is not null)
            {
                await UnkeyAsync(session.Key, id);
            }
        }

        OnStep("keyed");
        return true;
    }

    private void Abandon(Copy copy, bool isKeyed)
    {
        redis.Send(database => database.KeyDelete(copy.Keys, CommandFlags.FireAndForget));

        // Where it may have been made all the same, what leads to it stays, until somebody has looked behind it.
        Release(copy.Session.Id, copy.Owner, copy.Token, isEntered: !copy.MayBeMade);
        if (isKeyed && !copy.MayBeMade)
        {
            _ = UnkeyAsync(copy.Session.Key, copy.Session.Id);
        }
    }

    private enum HoldStatus
    {
        Held,
        Exists,
        Busy,
        Revoked,
    }

    // A session that is being made in steps.
    private sealed class Copy(NewSession session, Owner owner, string token, RedisKeys keys, bool hasTurns)
    {
        private readonly List<RedisValue> _values = [];
        private readonly List<SortedSetEntry> _branches = [];
        private readonly List<HashEntry> _answered = [];
        private long _stepBytes;
        private long _heldAt = Stopwatch.GetTimestamp();

        public NewSession Session { get; } = session;

        public Owner Owner { get; } = owner;

        public string Token { get; } = token;

        public RedisKey[] Keys { get; } = keys.Copies(session.Id, token);

        public bool HasTurns { get; } = hasTurns;

        /// <summary>Whether it is there.</summary>
        public bool IsMade { get; set; }

        /// <summary>Whether it was sent, and the answer is lost.</summary>
        public bool MayBeMade { get; set; }

        public int Count { get; private set; }

        public long Bytes { get; private set; }

        public bool IsStepFull => _values.Count == TurnsPerStep || _stepBytes >= MaxStepBytes;

        public void Add(Turn turn, byte[] packed, Idempotency? answeredTo)
        {
            Count = turn.Number;
            Bytes += turn.Bytes;
            _stepBytes += packed.Length;
            _values.Add(packed);
            if (RedisCodec.BranchOf(turn.Number, turn.Parent) is { Length: > 0 } branch)
            {
                _branches.Add(new(branch, turn.Number));
            }

            if (answeredTo is { } request)
            {
                _answered.Add(new(request.Key.ToByteArray(), RedisCodec.EncodeAnswer(request.Body, turn.Number)));
            }
        }

        public (RedisValue[] Values, SortedSetEntry[] Branches, HashEntry[] Answered) TakeStep()
        {
            (RedisValue[], SortedSetEntry[], HashEntry[]) step = ([.. _values], [.. _branches], [.. _answered]);
            _values.Clear();
            _branches.Clear();
            _answered.Clear();
            _stepBytes = 0;
            return step;
        }

        public bool IsRenewalDue()
        {
            if (Stopwatch.GetElapsedTime(_heldAt) < CopyLease / 6)
            {
                return false;
            }

            _heldAt = Stopwatch.GetTimestamp();
            return true;
        }
    }
}
