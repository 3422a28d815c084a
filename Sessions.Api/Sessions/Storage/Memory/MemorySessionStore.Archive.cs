using System.Runtime.CompilerServices;

namespace Sessions.Api;

/// <content>Moving to and from other stores.</content>
internal sealed partial class MemorySessionStore
{
    private const int ExportedAtOnce = 100;

    public async IAsyncEnumerable<ArchiveEntry> ExportAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        string[] ids;
        lock (_lock)
        {
            ids = [.. _sessions.Select(session => session.Id)];
        }

        foreach (var id in ids)
        {
            cancellationToken.ThrowIfCancellationRequested();
            MemorySession.Snapshot snapshot;
            MemoryTurns turns;
            Idempotency? createdBy = null;
            var answered = new Dictionary<int, Idempotency>();
            lock (_lock)
            {
                if (Find(id, Owner.Anyone, Now) is not { } session)
                {
                    continue;
                }

                snapshot = session.TakeSnapshot();
                turns = session.Turns.Take(session.Turns.Count);
                if (session.ReservedBy is { } key && _reservations.TryGetValue(key, out var reserved) && reserved.SessionId == id)
                {
                    createdBy = new Idempotency(key, reserved.Body);
                }

                foreach (var (request, (body, turn)) in session.Answered ?? [])
                {
                    answered[turn] = new Idempotency(request, body);
                }
            }

            yield return new(new ArchivedSession(snapshot.ToSession(_timeout, _agents, id), createdBy), null);
            for (var first = 1; first <= turns.Count; first += ExportedAtOnce)
            {
                foreach (var turn in turns.Select(first, Math.Min(turns.Count, first + ExportedAtOnce - 1)).ToArray(_agents))
                {
                    yield return new(null, new ArchivedTurn(turn, answered.TryGetValue(turn.Number, out var request) ? request : null));
                }
            }
        }

        await Task.CompletedTask;
    }

    public async ValueTask<ImportStatus> ImportAsync(ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken)
    {
        var imported = session.Session;
        var stored = default(MemoryTurns);
        Dictionary<Guid, (Guid Body, int Turn)> answered = [];
        await foreach (var (turn, answeredTo) in turns.WithCancellation(cancellationToken))
        {
            if (turn.Number != stored.Count + 1)
            {
                throw new InvalidDataException($"Turn {stored.Count + 1} of session '{imported.Id}' is missing.");
            }

            var packed = new byte[MemoryTurnFormat.MostBytes(turn)];
            stored.Add(packed.AsSpan(0, MemoryTurnFormat.Pack(turn, _agents, packed)));
            if (answeredTo is { } request)
            {
                answered[request.Key] = (request.Body, turn.Number);
            }
        }

        if (stored.Count != imported.TurnCount)
        {
            throw new InvalidDataException($"Session '{imported.Id}' has {imported.TurnCount} turns, but {stored.Count} came.");
        }

        lock (_lock)
        {
            var now = Now;
            if (Find(imported.Id, Owner.Anyone, now) is not null)
            {
                return ImportStatus.IdTaken;
            }

            if (imported.LastActivityAt.ToMicroseconds() + _timeout <= now)
            {
                return ImportStatus.Expired;
            }

            RemoveExpired(imported.Id);

            Import(imported, session.CreatedBy, stored, answered);
            return ImportStatus.Imported;
        }
    }

    private void Import(Session imported, Idempotency? createdBy, MemoryTurns turns, Dictionary<Guid, (Guid Body, int Turn)> answered)
    {
        var session = new MemorySession(imported.Id, imported.CreatedAt.ToMicroseconds(), imported.CreatedFrom)
        {
            Metadata = imported.Metadata.ToArray(),
            LastActivityAt = imported.LastActivityAt.ToMicroseconds(),
            Version = imported.Version,
            Turns = turns,
            Errors = (imported.ErrorCount, imported.LastError),
            Summary = imported.Summary,
            ReservedBy = createdBy?.Key,
            Answered = answered.Count > 0 ? answered : null,
        };
        _sessions.Add(session);
        Schedule(session);
        if (imported.UserId is { } userId)
        {
            session.User = User(userId);
            session.User.Add(session);
        }

        if (createdBy is { } key)
        {
            _reservations[key.Key] = new Reservation(session.Id, key.Body, session.ScheduledAt);
            _reservationExpiry.Enqueue((session.ScheduledAt, key.Key));
        }
    }
}
