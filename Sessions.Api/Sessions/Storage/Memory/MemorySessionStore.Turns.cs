using System.Buffers;

namespace Sessions.Api;

/// <content>Turns.</content>
internal sealed partial class MemorySessionStore
{
    public ValueTask<TurnStart> BeginTurnAsync(TurnRequest request, CancellationToken cancellationToken)
    {
        MemorySession session;
        MemorySession.Snapshot snapshot;
        MemoryTurns.Range turns;
        lock (_lock)
        {
            if (Find(request.SessionId, Owner.Anyone, Now) is not { } found)
            {
                return new(new MemoryTurnStart(request, null));
            }

            session = found;
            if (!request.Owner.MayHave(session.UserId))
            {
                return new(new TurnStart(request, TurnStartStatus.NotFound));
            }

            snapshot = session.TakeSnapshot();
            if (request.Idempotency is { } idempotency && session.Answered is not null && session.Answered.TryGetValue(idempotency.Key, out var answered))
            {
                return new(answered.Body == idempotency.Body
                    ? new TurnStart(request, TurnStartStatus.Replayed) { Session = snapshot.ToSession(_timeout, _agents, request.SessionId), Replay = session.Turns.Select(answered.Turn, answered.Turn).ToArray(_agents)[0] }
                    : new TurnStart(request, TurnStartStatus.KeyReused));
            }

            var count = session.Turns.Count;
            turns = session.Turns.Select(Math.Max(1, count - request.HistoryTurns + 1), count);
        }

        return new(new MemoryTurnStart(request, session) { Session = snapshot.ToSession(_timeout, _agents, request.SessionId), History = new MemoryHistory(turns, _agents) });
    }

    public ValueTask<CommitStatus> CommitTurnAsync(TurnStart start, Turn turn, Summary? summary, CancellationToken cancellationToken)
    {
        // Outside the lock: in it, the bytes are only copied.
        var room = ArrayPool<byte>.Shared.Rent(MemoryTurnFormat.MostBytes(turn));
        var status = Commit((MemoryTurnStart)start, room.AsSpan(0, MemoryTurnFormat.Pack(turn, _agents, room)), summary);
        ArrayPool<byte>.Shared.Return(room);
        if (status == CommitStatus.Committed && start.Session is null)
        {
            metrics.Created(SessionOrigin.Query);
        }

        return new(status);
    }

    private CommitStatus Commit(MemoryTurnStart start, ReadOnlySpan<byte> packed, Summary? summary)
    {
        var owner = start.Request.Owner;
        lock (_lock)
        {
            var now = Now;
            var session = start.Ground;
            if (session is null)
            {
                if (Find(start.Request.SessionId, Owner.Anyone, now) is not null)
                {
                    return CommitStatus.Stale;
                }

                session = Add(New(start.Request), now);
                session.Version--;
            }
            else if (session.IsRemoved || !owner.MayHave(session.UserId))
            {
                return CommitStatus.Gone;
            }
            else if (session.Turns.Count != start.Session!.TurnCount)
            {
                return CommitStatus.Stale;
            }

            session.Turns.Add(packed);
            session.Summary = summary ?? session.Summary;
            if (start.Request.Idempotency is { } idempotency)
            {
                (session.Answered ??= [])[idempotency.Key] = (idempotency.Body, session.Turns.Count);
            }

            Touch(session, owner.UserId, now);
        }

        return CommitStatus.Committed;
    }

    public ValueTask FailTurnAsync(TurnStart start, string error, CancellationToken cancellationToken)
    {
        var created = false;
        lock (_lock)
        {
            var now = Now;
            var session = ((MemoryTurnStart)start).Ground;
            if (session is null)
            {
                session = Find(start.Request.SessionId, start.Request.Owner, now);
                if (session is null)
                {
                    if (Find(start.Request.SessionId, Owner.Anyone, now) is not null || IsFull(start.Request.Owner.UserId, now))
                    {
                        return default;
                    }

                    session = Add(New(start.Request), now);
                    session.Version--;
                    created = true;
                }
            }
            else if (session.IsRemoved || !start.Request.Owner.MayHave(session.UserId))
            {
                return default;
            }

            session.Errors = (session.Errors.Count + 1, error);
            Touch(session, userId: null, now);
        }

        if (created)
        {
            metrics.Created(SessionOrigin.Query);
        }

        return default;
    }

    // One process, and the turn gate in front: there is nothing to let go of.
    public ValueTask AbandonTurnAsync(TurnStart start, CancellationToken cancellationToken) => default;

    private static NewSession New(TurnRequest request) =>
        new(request.SessionId, request.Owner.UserId, ReadOnlyMemory<byte>.Empty, SessionOrigin.Query, request.ReservedBy);

    private bool IsFull(string? userId, long now) =>
        _maxPerUser > 0 && userId is not null && _users.TryGetValue(userId, out var user)
        && user.Count >= _maxPerUser && user.All.Count(session => !IsExpired(session, now)) >= _maxPerUser;

    private sealed class MemoryTurnStart(TurnRequest request, MemorySession? ground) : TurnStart(request, TurnStartStatus.Started)
    {
        /// <summary>The very session the turn stands on: a later one with the same id is another.</summary>
        public MemorySession? Ground { get; } = ground;
    }
}
