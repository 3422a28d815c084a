using System.Diagnostics;
using StackExchange.Redis;

namespace Sessions.Api;

/// <content>Turns, and the leases that keep them apart across processes.</content>
internal sealed partial class RedisSessionStore
{
    /// <summary>How long a lease lasts that is not renewed: how long a session is held by a process that has died.</summary>
    internal static readonly TimeSpan Lease = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan RenewalInterval = Lease / 3;

    // How much begin answers, where a turn starts on a session.
    private const int AsRemembered = 2;
    private const int Changed = 3;

    // How often whoever waits looks whether the session is free, and how long its place in front of it lasts without looking.
    private static readonly TimeSpan FirstLook = TimeSpan.FromMilliseconds(2);
    private static readonly TimeSpan LastLook = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan Place = TimeSpan.FromMilliseconds(500);

    public async ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken)
    {
        var token = NewToken();
        var arrived = Stopwatch.GetTimestamp();
        var look = FirstLook;
        var leaves = true;
        try
        {
            while (true)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var left = request.Wait - Stopwatch.GetElapsedTime(arrived);
                var start = await TryBeginAsync(request, token, mayWait: left > TimeSpan.Zero);
                if (start.Status != TurnStartStatus.Busy || left <= TimeSpan.Zero)
                {
                    leaves = start.Status != TurnStartStatus.Started;
                    return start;
                }

                // Real time: it is the server's clock that a lease runs out by.
                var jittered = look * (0.5 + Random.Shared.NextDouble());
                await Task.Delay(jittered < left ? jittered : left, cancellationToken);
                look = look * 2 < LastLook ? look * 2 : LastLook;
            }
        }
        catch (StoreUnavailableException e) when (e.InnerException is { } reason && RedisFailure.WasNotCarriedOut(reason))
        {
            // Nothing to let go of, and no need to bother a server in trouble.
            leaves = false;
            throw;
        }
        finally
        {
            // Neither a place nor, where the answer was lost, a lease is left behind.
            if (leaves)
            {
                Release(request.SessionId, token);
            }
        }
    }

    public async ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken)
    {
        var started = (RedisTurnStart)start;
        var request = start.Request;
        started.Dispose();
        var now = Now;

        // What an agent has worked for is not given up for a moment's trouble.
        var commit = redis.ScriptPatientlyAsync(RedisScripts.Commit, RedisKeys.OfSession(request.SessionId), Arguments(request.Owner, now,
            started.Token, started.Ground ?? "", start.Session?.TurnCount ?? 0, RedisCodec.Encode(turn), NewToken(), request.ReservedBy?.ToString("N") ?? "",
            RedisCodec.Encode(request.Idempotency?.Key), RedisCodec.Encode(request.Idempotency?.Body), summary?.Text.Bytes ?? ReadOnlyMemory<byte>.Empty, summary?.CoversTurns.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? ""));

        // Behind it in the same pipeline: if there is to be no turn after all, the indexes are ahead by a little.
        var move = started.IsListed ? MoveAsync(request.SessionId, start.Session!.UserId, now) : Task.FromResult(false);
        var removals = Interlocked.Read(ref _removals);
        var result = await commit;
        started.HasEnded = true;
        var isMoved = await move;
        if ((CommitStatus)(int)result[0] is not CommitStatus.Committed and var refused)
        {
            if (isMoved && refused == CommitStatus.Gone)
            {
                await UnlistAsync(request.SessionId, start.Session!.UserId, now);
            }

            return refused;
        }

        await RememberAsync(started, turn, summary, result, removals);
        if (isMoved && (int)result[3] == 0 && (int)result[7] == 0)
        {
            KeepReservation((string?)result[2]);
            return CommitStatus.Committed;
        }

        await ChangedAsync(request.SessionId, result, isNew: started.Ground is null);
        return CommitStatus.Committed;
    }

    // For the next turn, so that Redis need not send the session and its last turns again.
    private async ValueTask RememberAsync(RedisTurnStart start, Turn turn, Summary? summary, RedisResult result, long removals)
    {
        // Something else has changed the session meanwhile: what, is not known here.
        var version = (long)result[6];
        if (start.Session is not { } before || version != before.Version + 1)
        {
            return;
        }

        var activity = (long)result[5];
        var session = before with
        {
            UserId = RedisCodec.EmptyToNull(result[1]),
            LastActivityAt = Timestamps.FromMicroseconds(activity),
            ExpiresAt = Timestamps.FromMicroseconds(activity + _timeout),
            Version = version,
            TurnCount = turn.Number,
            LastTurn = turn,
            Summary = summary ?? before.Summary,
        };
        await remembered.PutAsync(
            session.Id, new TurnWindow(SessionStamp.Of(0, session), TurnWindow.After(start.LastTurns, start.Request.HistoryTurns, turn)) { Session = session, Incarnation = start.Ground });
        if (Interlocked.Read(ref _removals) != removals)
        {
            // It may be this one that was removed, before it was remembered.
            await remembered.RemoveAsync([session.Id]);
        }
    }

    public async ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken)
    {
        var started = (RedisTurnStart)start;
        var request = start.Request;
        started.Dispose();
        var mayCreate = started.Ground is null && !await IsFullAsync(request.Owner.UserId);
        var now = Now;
        var result = await RunAsync(RedisScripts.Fail, request.SessionId, request.Owner, now,
            started.Token, started.Ground ?? "", error, mayCreate, NewToken(), request.ReservedBy?.ToString("N") ?? "");
        started.HasEnded = true;
        if ((int)result[0] is not 0 and var status)
        {
            await ChangedAsync(request.SessionId, result, isNew: status == 2);
        }
    }

    public ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken)
    {
        if (start is RedisTurnStart { HasEnded: false } started)
        {
            started.Dispose();
            started.HasEnded = true;
            Release(start.Request.SessionId, started.Token);
        }

        return default;
    }

    private async Task<TurnStart> TryBeginAsync(TurnRequest request, string token, bool mayWait)
    {
        var known = await remembered.FindAsync(request.SessionId);
        var wanted = known is { Session.TurnCount: var count } && known.Turns.Count < Math.Min(count, request.HistoryTurns) ? null : known;
        var result = await SendBeginAsync(request, token, mayWait, wanted);
        var last = LastTurns(result, wanted, request);
        if (last is null)
        {
            // What is remembered never came to be as far as this Redis knows: it has lost it, and others have gone on. The lease is held already.
            result = await SendBeginAsync(request, token, mayWait, known: null);
            last = LastTurns(result, known: null, request)!;
        }

        var status = (TurnStartStatus)(int)result[0];
        if (status is not (TurnStartStatus.Started or TurnStartStatus.Replayed))
        {
            return new TurnStart(request, status);
        }

        if (status == TurnStartStatus.Replayed)
        {
            var row = RedisCodec.DecodeSession(request.SessionId, result[1], result[2], _timeout);
            await HealAsync(row);
            return new TurnStart(request, status) { Session = row.Session, Replay = RedisCodec.DecodeTurn(result[3], (int)result[4]) };
        }

        var (session, ground, isPending) = result.Length switch
        {
            AsRemembered => (wanted!.Session, wanted.Incarnation, (int)result[1] == 1),
            Changed => Decode(RedisCodec.DecodeSession(request.SessionId, result[1], last.Count > 0 ? last[^1] : null, _timeout)),
            _ => (null, null, true),
        };
        remembered.Used(known, result.Length == AsRemembered ? known : null);
        var start = new RedisTurnStart(request, ground, token)
        {
            Session = session,
            IsListed = !isPending && (session!.UserId is not null || request.Owner.UserId is null),
            History = last.Count > request.HistoryTurns ? [.. last.Skip(last.Count - request.HistoryTurns)] : last,
            LastTurns = last,
        };
        start.RenewEvery(RenewalInterval, turn => _ = RenewAsync(turn));
        return start;

        static (Session?, string?, bool) Decode(RedisRow row) => (row.Session, row.Incarnation, row.IsPending);
    }

    private Task<RedisResult> SendBeginAsync(TurnRequest request, string token, bool mayWait, TurnWindow? known) =>
        RunAsync(RedisScripts.Begin, request.SessionId, request.Owner, Now,
            request.HistoryTurns, RedisCodec.Encode(request.Idempotency?.Key), RedisCodec.Encode(request.Idempotency?.Body),
            token, (long)Lease.TotalMilliseconds, mayWait ? (long)Place.TotalMilliseconds : 0,
            known?.Incarnation ?? "", known?.Stamp.Version ?? 0, known?.Stamp.LastActivityAt ?? 0, known?.Turns[^1].Number ?? 0);

    // The session's last turns, out of what begin answered and what was known before; null: they do not belong together.
    private static IReadOnlyList<Turn>? LastTurns(RedisResult begun, TurnWindow? known, TurnRequest request)
    {
        if ((int)begun[0] != (int)TurnStartStatus.Started || begun.Length < AsRemembered)
        {
            return [];
        }

        if (begun.Length == AsRemembered)
        {
            return known!.Turns;
        }

        var count = RedisCodec.TurnCount(begun[1]);
        var sent = RedisCodec.DecodeTurns(begun[2], count - begun[2].Length + 1);
        if (sent.Length >= Math.Min(count, request.HistoryTurns))
        {
            return sent;
        }

        // Turns are only ever added: if the last one known is still there, so are those before it.
        var (last, first) = (known!.Turns[^1], sent[0]);
        return first.Number == last.Number && first.CreatedAt == last.CreatedAt && first.Query == last.Query && first.Response == last.Response
            ? [.. known.Turns.SkipLast(1).Where(turn => turn.Number > count - request.HistoryTurns), .. sent]
            : null;
    }

    private async Task RenewAsync(RedisTurnStart turn)
    {
        try
        {
            var renewed = await RunAsync(RedisScripts.Renew, turn.Request.SessionId, turn.Request.Owner, Now, turn.Token, (long)Lease.TotalMilliseconds, turn.Ground ?? "");
            if (turn.IsEnding)
            {
                // The turn has ended while this was under way, and may have let go before this took it again.
                Release(turn.Request.SessionId, turn.Token);
            }
            else if ((int)renewed == 0)
            {
                // What is left of it is let go of when the turn ends.
                Log.LeaseLost(logger, turn.Request.SessionId);
                turn.Dispose();
            }
        }
        catch (Exception e)
        {
            // The next one may get through, and if none does, the commit finds out.
            Log.NotRenewed(logger, turn.Request.SessionId, e.Message);
        }
    }

    private void Release(string sessionId, string token) => _ = ReleaseAsync(sessionId, token);

    private async Task ReleaseAsync(string sessionId, string token)
    {
        try
        {
            await redis.ScriptPatientlyAsync(RedisScripts.Release, RedisKeys.OfSession(sessionId), Arguments(Owner.Anyone, Now, token));
        }
        catch (Exception e)
        {
            Log.NotReleased(logger, sessionId, e.Message);
        }
    }

    // What commit and fail answer: status, user, reservation, whether pending, what an expired session left behind, activity.
    private async Task ChangedAsync(string id, RedisResult result, bool isNew)
    {
        if (isNew)
        {
            metrics.Created(SessionOrigin.Query);
            await ForgetAsync(id, RedisRemains.Decode(result[4]), expired: true);
        }

        await ListedAsync(id, RedisCodec.EmptyToNull(result[1]), (long)result[5],
            RedisCodec.EmptyToNull(result[2]), (int)result[3] == 1);
    }

    private async Task<bool> IsFullAsync(string? userId)
    {
        if (_maxPerUser == 0 || userId is null)
        {
            return false;
        }

        var (_, entries) = await PageAsync(RedisKeys.OfUser(userId), descending: true, after: null, _maxPerUser);
        return entries.Count >= _maxPerUser && (await LiveAsync(userId, entries)).Count >= _maxPerUser;
    }
}
