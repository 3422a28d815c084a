using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <content>Opening and writing.</content>
internal sealed partial class MemorySessionStore
{
    // How many turns a history mostly has at the most.
    private const int ExpectedTurns = 32;

    private MemoryOpening? _openings;

    /// <inheritdoc/>
    public ValueTask<OpenedSession> OpenAsync(OpenRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        MemorySession session;
        MemorySession.Snapshot snapshot;
        (Guid Body, int Turn) answered = default;
        MemoryOpening? opening = null;
        lock (_lock)
        {
            var now = Now;
            if (Find(request.Session, now) is not { } found)
            {
                return new(request.Tip > 0
                    ? new MemoryOpened(request, OpenStatus.NoSuchTurn)
                    : new MemoryOpened(request, OpenStatus.Opened) { Opening = Begin(request, isClaim: false) });
            }

            session = found;
            if (!request.Owner.MayHave(session.Owner.UserId))
            {
                return new(new MemoryOpened(request, OpenStatus.NotFound));
            }

            if (request.Idempotency is not { } key || session.Answered is null || !session.Answered.TryGetValue(key.Key, out answered))
            {
                if (request.Tip is { } tip && (tip < 0 || tip > session.Turns.Count))
                {
                    return new(new MemoryOpened(request, OpenStatus.NoSuchTurn)
                    {
                        Session = session.TakeSnapshot().ToSession(_names, request.Session.Id),
                    });
                }

                if (request.Lease is { } lease)
                {
                    Extend(session, now + (lease.MinLifetime.Ticks / TimeSpan.TicksPerMicrosecond));
                    opening = session.Owner.UserId is null && request.Owner.UserId is not null ? Begin(request, isClaim: true) : null;
                }

                if (request is { Remembered: { } known, Tip: null } && known.Key == session.Key && known.Revision == session.Revision)
                {
                    return new(Opened(OpenStatus.Unchanged, null, []));
                }
            }

            snapshot = session.TakeSnapshot();
        }

        if (answered.Turn > 0)
        {
            return new(answered.Body == request.Idempotency!.Value.Body
                ? new MemoryOpened(request, OpenStatus.Replayed)
                {
                    Session = snapshot.ToSession(_names, request.Session.Id),
                    Replay = snapshot.Turns.Read(answered.Turn, _names),
                }
                : new MemoryOpened(request, OpenStatus.KeyReused));
        }

        var head = snapshot.ToSession(_names, request.Session.Id);
        var (turns, followsRemembered, isCut) = ReadHistory(request, head, snapshot.Turns);
        return new(Opened(OpenStatus.Opened, head, turns, followsRemembered, isCut));

        MemoryOpened Opened(
            OpenStatus status, Session? head, IReadOnlyList<Turn> turns, bool followsRemembered = false, bool isCut = false) =>
            new(request, status)
            {
                Session = head,
                Turns = turns,
                FollowsRemembered = followsRemembered,
                IsCut = isCut,
                Target = session,
                Revision = head?.Revision ?? request.Remembered!.Value.Revision,
                Rewrites = head?.Rewrites ?? request.Remembered!.Value.Rewrites,
                TurnCount = head?.TurnCount ?? request.Remembered!.Value.LastTurn,
                Opening = opening,
            };
    }

    /// <inheritdoc/>
    public ValueTask<WriteResult> WriteAsync(OpenedSession opened, SessionChange change, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var given = (MemoryOpened)opened;
        Effects effects = default;
        var result = change switch
        {
            AppendTurn append => Append(given, append, ref effects),
            RecordFailure failure => Fail(given, failure, ref effects),
            ReplaceMetadata metadata => Replace(given, metadata, ref effects),
            ReplaceTurn turn => Replace(given, turn, ref effects),
            _ => throw new ArgumentException($"{change.GetType().Name} is not a change.", nameof(change)),
        };
        return effects is { Created: null, Expired: 0, Evicted: 0, Removed: null } ? new(result) : PublishAsync(effects, result);
    }

    /// <summary>There are no leases: one process, and what queues turns stands in front.</summary>
    public ValueTask<LeaseState> RenewAsync(OpenedSession opened, CancellationToken cancellationToken)
    {
        var given = (MemoryOpened)opened;
        lock (_lock)
        {
            return new(given.Opening is { IsEnded: true } || given.Target is { IsRemoved: true } || given.Target?.ExpiresAt <= Now
                ? LeaseState.Lost : LeaseState.Held);
        }
    }

    /// <inheritdoc/>
    public ValueTask ReleaseAsync(OpenedSession opened)
    {
        if (((MemoryOpened)opened).Opening is { } opening)
        {
            lock (_lock)
            {
                opening.Unchain(ref _openings);
            }
        }

        return default;
    }

    /// <inheritdoc/>
    public ValueTask<bool> CancelAsync(SessionRef session, Owner owner, CancellationToken cancellationToken) => new(false);

    private WriteResult Append(MemoryOpened opened, AppendTurn append, ref Effects effects)
    {
        // Outside the lock: in it the bytes are only copied. Where others came in between, the number is another, and the turn is packed
        // anew.
        var turn = append.At(opened.TurnCount + 1);
        var packed = TurnCodec.Pack(turn, _names);
        MemorySession.Snapshot snapshot;
        bool isNext;
        lock (_lock)
        {
            var now = Now;
            if (Check(opened, append.Create, now, ref effects) is { } refused)
            {
                return refused;
            }

            var session = opened.Target;
            var owner = session is null ? OwnerOf(append.Create!.UserId) : ClaimedBy(opened.Request.Owner, session);
            var answers = opened.Request.Idempotency;
            if (session is not null)
            {
                var count = session.Turns.Count;
                if ((!append.BesideOthers && count != opened.TurnCount)
                    || (answers is { } key && session.Answered?.ContainsKey(key.Key) == true))
                {
                    return new(WriteStatus.Stale);
                }

                if (count != opened.TurnCount)
                {
                    turn = append.At(count + 1);
                    packed = TurnCodec.Pack(turn, _names);
                }
            }

            isNext = session is null || session.Revision == opened.Revision;
            var summary = session is null || session.Rewrites == opened.Rewrites ? append.Summary : null;
            var bytes = (session?.Bytes ?? append.Create!.Metadata.Length) + turn.Bytes
                + (summary is null ? 0 : summary.Text.Length - (session?.Summary?.Text.Length ?? 0));
            if (MakeRoomInBytes(session, owner, session?.Kind ?? append.Create!.Kind, StorePolicy.SizeOf(bytes, turn.Number), now,
                ref effects) is { } limit)
            {
                return new(WriteStatus.Full) { Limit = limit };
            }

            var isNew = session is null;
            if (isNew || session!.Owner != owner)
            {
                MakeRoomInNumber(owner, session?.Kind ?? append.Create!.Kind, now, ref effects);
            }

            if (session is null)
            {
                // As old as its first turn, which began before this.
                session = new MemorySession(append.Create!, owner, now)
                {
                    CreatedAt = Math.Min(now, append.Turn.CreatedAt.ToMicroseconds()),
                };
                effects.Created = session.Kind == SessionKind.Chain ? null : session.CreatedFrom;
            }
            else
            {
                Detach(session);
            }

            session.Turns.Add(packed);
            session.Summary = summary ?? session.Summary;
            session.Bytes = bytes;
            if (answers is { } answered)
            {
                (session.Answered ??= [])[answered.Key] = (answered.Body, turn.Number);
            }

            Finish(session, owner, isNew, now, ref effects);
            snapshot = session.TakeSnapshot();
        }

        return new(WriteStatus.Written)
        {
            Session = isNext ? snapshot.ToSession(_names, opened.Request.Session.Id, turn) : null,
            Turn = turn,
        };
    }

    private WriteResult Fail(MemoryOpened opened, RecordFailure failure, ref Effects effects)
    {
        MemorySession.Snapshot snapshot;
        bool isNext;
        lock (_lock)
        {
            var now = Now;
            if (Check(opened, failure.Create, now, ref effects) is { } refused)
            {
                return refused;
            }

            var session = opened.Target;
            var isNew = session is null;
            isNext = session is null || session.Revision == opened.Revision;
            if (session is null)
            {
                var owner = OwnerOf(failure.Create!.UserId);
                if (IsFullInNumber(owner, failure.Create.Kind, now))
                {
                    return new(WriteStatus.Full);
                }

                if (MakeRoomInBytes(null, owner, failure.Create.Kind, StorePolicy.SizeOf(failure.Create.Metadata.Length, 0), now,
                    ref effects) is { } limit)
                {
                    return new(WriteStatus.Full) { Limit = limit };
                }

                // Of those that have expired.
                MakeRoomInNumber(owner, failure.Create.Kind, now, ref effects);
                session = new MemorySession(failure.Create, owner, now) { Bytes = failure.Create.Metadata.Length };
                effects.Created = session.Kind == SessionKind.Chain ? null : session.CreatedFrom;
            }
            else
            {
                Detach(session);
            }

            session.Errors = (session.Errors.Count + 1, new Utf8Text(failure.Error.Bytes.ToArray()));
            Finish(session, session.Owner, isNew, now, ref effects);
            snapshot = session.TakeSnapshot();
        }

        return new(WriteStatus.Written) { Session = isNext ? snapshot.ToSession(_names, opened.Request.Session.Id) : null };
    }

    private WriteResult Replace(MemoryOpened opened, ReplaceMetadata change, ref Effects effects)
    {
        MemorySession.Snapshot snapshot;
        lock (_lock)
        {
            var now = Now;
            if (CheckUnchanged(opened, now, ref effects) is { } refused)
            {
                return refused;
            }

            var session = opened.Target!;
            var bytes = session.Bytes + change.Metadata.Length - session.Metadata.Length;
            if (MakeRoomInBytes(session, session.Owner, session.Kind, StorePolicy.SizeOf(bytes, session.Turns.Count), now,
                ref effects) is { } limit)
            {
                return new(WriteStatus.Full) { Limit = limit };
            }

            Detach(session);
            session.Metadata = change.Metadata.ToArray();
            session.Bytes = bytes;
            session.Revision = session.Revision.Next();
            Attach(session, session.Owner);
            snapshot = session.TakeSnapshot();
        }

        return new(WriteStatus.Written) { Session = snapshot.ToSession(_names, opened.Request.Session.Id) };
    }

    private WriteResult Replace(MemoryOpened opened, ReplaceTurn change, ref Effects effects)
    {
        var packed = TurnCodec.Pack(change.Turn, _names);
        MemorySession.Snapshot snapshot;
        lock (_lock)
        {
            if (CheckUnchanged(opened, Now, ref effects) is { } refused)
            {
                return refused;
            }

            var session = opened.Target!;
            var before = session.Turns.Read(change.Turn.Number, _names);
            Detach(session);
            session.Turns.Replace(change.Turn.Number, packed);
            session.Bytes += change.Turn.Bytes - before.Bytes;
            if (change.DropSummary && session.Summary is { } summary)
            {
                session.Bytes -= summary.Text.Length;
                session.Summary = null;
            }

            session.Rewrites++;
            session.Revision = session.Revision.Next();
            Attach(session, session.Owner);
            snapshot = session.TakeSnapshot();
        }

        return new(WriteStatus.Written) { Session = snapshot.ToSession(_names, opened.Request.Session.Id) };
    }

    // Whether the session is still the one that was opened, or still missing.
    private WriteResult? Check(MemoryOpened opened, NewSession? create, long now, ref Effects effects)
    {
        if (opened.Opening is { } opening)
        {
            opening.Unchain(ref _openings);
            if (opening.IsEnded)
            {
                return new(WriteStatus.Gone);
            }
        }

        if (opened.Target is not { } session)
        {
            ArgumentNullException.ThrowIfNull(create);
            return IsTaken(create, now, ref effects) ? new(WriteStatus.Stale) : null;
        }

        return session.IsRemoved || session.ExpiresAt <= now || !opened.Request.Owner.MayHave(session.Owner.UserId)
            ? new(WriteStatus.Gone) : null;
    }

    private WriteResult? CheckUnchanged(MemoryOpened opened, long now, ref Effects effects) =>
        opened.Target is not { } session ? new(WriteStatus.Gone)
        : Check(opened, null, now, ref effects) ?? (session.Revision == opened.Revision ? null : new(WriteStatus.Stale));

    private void Finish(MemorySession session, MemoryOwner owner, bool isNew, long now, ref Effects effects)
    {
        Touch(session, now);
        if (isNew)
        {
            session.Revision = Revision.First();
            Add(session, now, ref effects);
        }
        else
        {
            session.Revision = session.Revision.Next();
            Attach(session, owner);
        }
    }

    private MemoryOwner ClaimedBy(Owner owner, MemorySession session) => session.Owner.UserId is null && owner.UserId is not null
        ? OwnerOf(owner.UserId) : session.Owner;

    private MemoryOpening? Begin(OpenRequest request, bool isClaim)
    {
        if (request.Lease is null)
        {
            return null;
        }

        var opening = new MemoryOpening(isClaim ? null : request.Session.Id, request.Owner.UserId);
        opening.ChainTo(ref _openings);
        return opening;
    }

    private void EndOpenings(Func<MemoryOpening, bool> isMeant) => MemoryOpening.End(_openings, isMeant);

    private static void Extend(MemorySession session, long expiresAt)
    {
        if (session.ExpiresAt < expiresAt)
        {
            session.ExpiresAt = expiresAt;
            session.Revision = session.Revision.Next();
        }
    }

    // What is remembered ends the history where the path comes to it.
    private (Turn[] Turns, bool FollowsRemembered, bool IsCut) ReadHistory(
        OpenRequest request, Session head, MemoryTurns turns)
    {
        var known = request is { Remembered: { } given, Tip: null } && given.Key == head.Key && given.Rewrites == head.Rewrites
            && given.LastTurn <= turns.Count
            && (given.LastTurn == 0 || turns.Read(given.LastTurn, _names).Nonce == given.LastNonce) ? given.LastTurn : (int?)null;
        if (request.HistoryTurns <= 0 && known != turns.Count)
        {
            return ([], known == 0 && turns.Count == 0, false);
        }

        // The one more than is asked for may be the last one that is remembered.
        var path = new MemoryPath(turns, head.LastTurn, request.Tip ?? turns.Count, allBranches: false, _names);
        var wanted = known is null ? request.HistoryTurns : request.HistoryTurns + 1L;
        Stack<Turn[]>? later = null;
        Turn[] earliest = [];
        var (count, bytes) = (0, 0L);
        foreach (var block in path.BlocksBackward(int.MaxValue, wanted))
        {
            if (earliest.Length > 0)
            {
                (later ??= []).Push(earliest);
            }

            earliest = block;
            for (var i = block.Length - 1; i >= 0; i--)
            {
                if (block[i].Number == known)
                {
                    return (Joined(block[(i + 1)..], later), true, false);
                }

                bytes += block[i].Bytes;
                if (count == request.HistoryTurns || (count > 0 && bytes > request.HistoryBytes))
                {
                    return (Joined(block[(i + 1)..], later), false, count < request.HistoryTurns);
                }

                count++;
            }
        }

        return (Joined(earliest, later), known == 0 && count == turns.Count, false);
    }

    // Mostly there is one block, and nothing to be copied.
    private static Turn[] Joined(Turn[] earliest, Stack<Turn[]>? later) =>
        later is null ? earliest : [.. earliest, .. later.SelectMany(block => block)];

    private async ValueTask<WriteResult> PublishAsync(Effects effects, WriteResult result)
    {
        await PublishAsync(effects);
        return result;
    }
}
