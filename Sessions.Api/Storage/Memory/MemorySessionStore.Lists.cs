using System.Buffers;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Memory;

/// <content>Pages of turns and of sessions.</content>
internal sealed partial class MemorySessionStore
{
    /// <inheritdoc/>
    public ValueTask<TurnPage?> ReadTurnsAsync(SessionRef session, Owner owner, TurnPageRequest request,
        CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        MemorySession.Snapshot snapshot;
        lock (_lock)
        {
            if (Find(session, Now) is not { } found || !owner.MayHave(found.Owner.UserId))
            {
                return new((TurnPage?)null);
            }

            snapshot = found.TakeSnapshot();
        }

        var head = snapshot.ToSession(_names, session.Id);
        var tip = request.Tip ?? head.TurnCount;
        if (!request.AllBranches && (tip < 0 || tip > head.TurnCount))
        {
            return new(new TurnPage(head, [], HasMore: false) { IsTipMissing = true });
        }

        // One more than fits: whether there is one.
        var wanted = request.Limit + 1L;
        var path = new MemoryPath(snapshot.Turns, head.LastTurn, tip, request.AllBranches, _names);
        var turns = new List<Turn>(Math.Min(request.Limit, Math.Min(head.TurnCount, ExpectedTurns)));
        var bytes = 0L;
        foreach (var turn in request.Descending
            ? path.Backward(Math.Max(request.After ?? int.MaxValue, 0), wanted) : path.Forward(request.After ?? 0, wanted))
        {
            bytes += turn.Bytes;
            if (turns.Count == request.Limit || (turns.Count > 0 && bytes > request.MaxBytes))
            {
                return new(new TurnPage(head, turns, HasMore: true));
            }

            turns.Add(turn);
        }

        return new(new TurnPage(head, turns, HasMore: false));
    }

    /// <inheritdoc/>
    public ValueTask<Page<Session>> ListAsync(SessionPageRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        MemorySession.Snapshot[] found;
        int count;
        var expired = 0;
        lock (_lock)
        {
            // One more than fits on the page.
            var wanted = Math.Min(request.Limit, _sessions.Count) + 1;
            found = ArrayPool<MemorySession.Snapshot>.Shared.Rent(wanted);
            while (!TryList(request, found.AsSpan(0, wanted), Now, out count, ref expired))
            {
                // Begun again behind those that are gone.
            }
        }

        try
        {
            if (expired > 0)
            {
                _policy.Events.Expired(expired);
            }

            return new(PageOf(request, found.AsSpan(0, count)));
        }
        finally
        {
            // Nothing of a session that is deleted is to stay there.
            ArrayPool<MemorySession.Snapshot>.Shared.Return(found, clearArray: true);
        }
    }

    private Page<Session> PageOf(SessionPageRequest request, ReadOnlySpan<MemorySession.Snapshot> found)
    {
        var items = new List<Session>(Math.Min(found.Length, request.Limit));
        var bytes = 0L;
        foreach (ref readonly var snapshot in found)
        {
            var session = snapshot.ToSession(_names, id: null);
            bytes += session.Metadata.Length + (session.LastTurn?.Bytes ?? 0) + (session.Summary?.Text.Length ?? 0)
                + (session.LastError?.Length ?? 0);
            if (items.Count == request.Limit || (items.Count > 0 && bytes > request.MaxBytes))
            {
                return new Page<Session>(items, found[items.Count - 1].Cursor);
            }

            items.Add(session);
        }

        return new Page<Session>(items, null);
    }

    // As many as there is room for. Those that have expired are gone past, and removed: where they are many, it is begun again behind
    // them.
    private bool TryList(
        SessionPageRequest request, Span<MemorySession.Snapshot> found, long now, out int count, ref int expired)
    {
        count = 0;
        List<MemorySession>? gone = null;
        foreach (var session in Ordered(request))
        {
            if (session.ExpiresAt <= now)
            {
                (gone ??= []).Add(session);
                if (gone.Count == ReclaimedPerLock)
                {
                    break;
                }
            }
            else
            {
                found[count++] = session.TakeSnapshot();
                if (count == found.Length)
                {
                    break;
                }
            }
        }

        foreach (var session in gone ?? [])
        {
            expired += Expire(session);
        }

        return gone is not { Count: ReclaimedPerLock };
    }

    private IEnumerable<MemorySession> Ordered(SessionPageRequest request)
    {
        return request.Kind is { } kind
            ? Behind(kind)
            : ActivityIndex.Merge(Behind(SessionKind.Session), Behind(SessionKind.Conversation), request.Ascending);

        IEnumerable<MemorySession> Behind(SessionKind kind)
        {
            var index = request.UserId is null ? _all[(int)kind] : _users.GetValueOrDefault(request.UserId)?[kind];
            return index?.Behind(request.After, request.Ascending) ?? [];
        }
    }
}
