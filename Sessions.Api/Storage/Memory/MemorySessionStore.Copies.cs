using System.Runtime.CompilerServices;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <content>Sessions that are made: new, out of others, or as they were in another store.</content>
internal sealed partial class MemorySessionStore
{
    private const int ExportedAtOnce = 8;

    /// <inheritdoc/>
    public async ValueTask<CopyResult> CopyAsync(CopyRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        Effects effects = default;
        CopyResult result;
        if (request.Turns is not null)
        {
            (result, effects) = await TakeInAsync(request, cancellationToken);
        }
        else
        {
            lock (_lock)
            {
                result = Copy(request, default, ref effects);
            }
        }

        await PublishAsync(effects);
        return result;
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<ArchiveEntry> ExportAsync(string? userId, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        MemorySession[] sessions;
        lock (_lock)
        {
            sessions = userId is null ? [.. _sessions] : [.. _users.GetValueOrDefault(userId)?.All ?? []];
        }

        foreach (var session in sessions)
        {
            cancellationToken.ThrowIfCancellationRequested();
            MemorySession.Snapshot snapshot;
            Idempotency? createdBy = null;
            var answered = new Dictionary<int, Idempotency>();
            lock (_lock)
            {
                if (session.IsRemoved || session.ExpiresAt <= Now || (userId is not null && session.Owner.UserId != userId))
                {
                    continue;
                }

                snapshot = session.TakeSnapshot();
                if (session.ReservedBy is { } key && _reservations.TryGetValue(key, out var reserved) && session.HasId(reserved.SessionId))
                {
                    createdBy = new Idempotency(key, reserved.Body);
                }

                foreach (var (request, (body, turn)) in session.Answered ?? [])
                {
                    answered[turn] = new Idempotency(request, body);
                }
            }

            var head = snapshot.ToSession(_names, id: null);
            yield return new(new ArchivedSession(head, createdBy), null);
            for (var first = 1; first <= head.TurnCount; first += ExportedAtOnce)
            {
                // As they are by now: nothing more of a session that is gone, and nothing that was deleted of a turn.
                lock (_lock)
                {
                    if (session.IsRemoved || session.ExpiresAt <= Now)
                    {
                        break;
                    }

                    snapshot = session.TakeSnapshot();
                }

                foreach (var turn in snapshot.Turns.Read(first, Math.Min(head.TurnCount, first + ExportedAtOnce - 1), _names))
                {
                    yield return new(null, new ArchivedTurn(turn, answered.TryGetValue(turn.Number, out var request) ? request : null));
                }
            }
        }

        await Task.CompletedTask;
    }

    // Turns that are handed in are read outside the lock.
    private async ValueTask<(CopyResult Result, Effects Effects)> TakeInAsync(CopyRequest request, CancellationToken cancellationToken)
    {
        var opening = Begin(request);
        Effects effects = default;
        try
        {
            if (await ReadAsync(request, cancellationToken) is not { } given)
            {
                return (new CopyResult(CopyStatus.Full) { Limit = StoredBytesLimit }, effects);
            }

            lock (_lock)
            {
                var result = opening.IsEnded ? new CopyResult(CopyStatus.SourceNotFound) : Copy(request, given, ref effects);
                return (result, effects);
            }
        }
        finally
        {
            lock (_lock)
            {
                opening.Unchain(ref _openings);
            }
        }
    }

    private MemoryOpening Begin(CopyRequest request)
    {
        lock (_lock)
        {
            var userId = request.Source is { } source ? FindAny(source)?.Owner.UserId : request.Session.UserId;
            var opening = new MemoryOpening(request.Session.Id, userId);
            opening.ChainTo(ref _openings);
            return opening;
        }
    }

    // Null: there is no room for that much.
    private async ValueTask<GivenTurns?> ReadAsync(CopyRequest request, CancellationToken cancellationToken)
    {
        var (turns, bytes, runStart) = (default(MemoryTurns), 0L, 0);
        Dictionary<Guid, (Guid, int)>? answered = null;
        await foreach (var (turn, answeredTo) in request.Turns!.WithCancellation(cancellationToken))
        {
            runStart = Turn.RunStartOf(turn.Number, turn.Parent, runStart);
            if (turn.Number != turns.Count + 1 || turn.Parent < 0 || turn.Parent >= turn.Number || turn.RunStart != runStart)
            {
                throw new InvalidDataException(
                    $"Turn {turns.Count + 1} of session '{request.Session.Id}' is missing, or is not where it says it is.");
            }

            turns.Add(TurnCodec.Pack(turn, _names));
            bytes += turn.Bytes;
            if (answeredTo is { } key)
            {
                (answered ??= [])[key.Key] = (key.Body, turn.Number);
            }

            if (_policy.StoredBytes > 0 && StorePolicy.SizeOf(bytes, turns.Count) > _policy.StoredBytes)
            {
                return null;
            }
        }

        if (request.Head is { } head && turns.Count != head.TurnCount)
        {
            throw new InvalidDataException($"Session '{head.Id}' has {head.TurnCount} turns, but {turns.Count} came.");
        }

        cancellationToken.ThrowIfCancellationRequested();
        return new GivenTurns(turns, bytes, answered);
    }

    private CopyResult Copy(CopyRequest request, GivenTurns given, ref Effects effects)
    {
        var (now, created, summary) = (Now, request.Session, request.Summary);
        var (turns, bytes, answered) = given;
        if (request.Source is { } sourceName)
        {
            if (Find(sourceName, now) is not { } source || !request.Owner.MayHave(source.Owner.UserId)
                || (request.SourceKey is { } key && key != source.Key))
            {
                return new CopyResult(CopyStatus.SourceNotFound);
            }

            var count = request.AfterTurn ?? source.Turns.Count;
            if (count < 0 || count > source.Turns.Count)
            {
                return new CopyResult(CopyStatus.NoSuchTurn, source.TakeSnapshot().ToSession(_names, sourceName.Id));
            }

            created = created with { UserId = source.Owner.UserId };
            if (request.Turns is null)
            {
                // Taken before the new session is added: adding it may evict the source.
                turns = source.Turns.Take(count);
                summary = source.Summary?.CoversTurns <= count ? source.Summary : null;
                bytes = count == source.Turns.Count
                    ? source.Bytes - source.Metadata.Length - (source.Summary?.Text.Length ?? 0)
                    : turns.Read(1, count, _names).Sum(turn => turn.Bytes);
            }
        }

        if (IsTaken(created, now, ref effects))
        {
            return new CopyResult(CopyStatus.IdTaken)
            {
                IsOwn = created.ReservedBy is { } key && Find(SessionRef.ById(created.Id), now)?.ReservedBy == key,
            };
        }

        if (request.Head?.ExpiresAt.ToMicroseconds() <= now)
        {
            return new CopyResult(CopyStatus.Expired);
        }

        bytes += created.Metadata.Length + (summary?.Text.Length ?? 0);
        var owner = OwnerOf(created.UserId);
        if (MakeRoomInBytes(null, owner, created.Kind, StorePolicy.SizeOf(bytes, turns.Count), now, ref effects) is { } limit)
        {
            return new CopyResult(CopyStatus.Full) { Limit = limit };
        }

        var session = Make(request, created, owner, now);
        (session.Turns, session.Bytes, session.Summary, session.Answered) = (turns, bytes, summary, answered);
        if (request.Head is null)
        {
            MakeRoomInNumber(owner, created.Kind, now, ref effects);
            effects.Created = created.Kind == SessionKind.Chain ? null : created.CreatedFrom;
        }

        Add(session, now, ref effects);
        if (request.CreatedBy is { } reservation)
        {
            Reserve(reservation, created.Id, session.ExpiresAt);
        }

        return new CopyResult(CopyStatus.Created, session.TakeSnapshot().ToSession(_names, created.Id));
    }

    private MemorySession Make(CopyRequest request, NewSession created, MemoryOwner owner, long now)
    {
        if (request.Head is not { } head)
        {
            return new MemorySession(created, owner, now) { Revision = Revision.First(), ExpiresAt = now + _lifetimes[(int)created.Kind] };
        }

        return new MemorySession(created with { ReservedBy = request.CreatedBy?.Key }, owner, now)
        {
            CreatedAt = head.CreatedAt.ToMicroseconds(),
            LastActivityAt = head.LastActivityAt.ToMicroseconds(),
            ExpiresAt = head.ExpiresAt.ToMicroseconds(),
            Revision = head.Revision,
            Rewrites = head.Rewrites,
            Errors = (head.ErrorCount, head.LastError),
        };
    }

    /// <summary>Turns that were handed in.</summary>
    /// <param name="Turns">The turns.</param>
    /// <param name="Bytes">What they take.</param>
    /// <param name="Answered">The requests that they answered, if any.</param>
    private readonly record struct GivenTurns(MemoryTurns Turns, long Bytes, Dictionary<Guid, (Guid Body, int Turn)>? Answered);
}
