using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>
/// Lets one turn at a time run on a session, in this process; the others wait in the order they came, bounded in number and time. Across
/// processes it is the lease on the session that keeps turns apart
/// (<see cref="SessionLog.BeginAsync"/>).
/// </summary>
/// <remarks>
/// A user who only has sessions of its own stands in a queue of its own: whoever names another's session learns nothing from how busy it
/// is, and keeps nobody waiting.
/// </remarks>
internal sealed class TurnGate(LimitSettings limits, TimeProvider time)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(string SessionId, string? UserId), Queue> _queues = [];

    /// <summary>How many queries wait for the turn before them.</summary>
    public int Waiting
    {
        get
        {
            lock (_lock)
            {
                return _queues.Values.Sum(queue => queue.Waiting.Count);
            }
        }
    }

    /// <summary>Waits for the session's turn to come.</summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="owner">On whose behalf.</param>
    /// <param name="key">The request's idempotency key: while one with the same key waits or runs, another is not let in.</param>
    /// <param name="onBusy">Whether to wait at all.</param>
    /// <param name="cancellationToken">Leaves the queue.</param>
    /// <returns>The ticket, to be disposed of when the turn has ended.</returns>
    /// <exception cref="DomainException">The queue is full, the wait was too long, or the same request is under way.</exception>
    public async ValueTask<Ticket> EnterAsync(
        string sessionId, Owner owner, Idempotency? key, OnBusy onBusy, CancellationToken cancellationToken)
    {
        var name = (sessionId, owner.MayClaim ? null : owner.UserId);
        LinkedListNode<Waiter> mine;
        lock (_lock)
        {
            if (!_queues.TryGetValue(name, out var queue))
            {
                _queues.Add(name, new Queue { RunningKey = key });
                return new Ticket(this, name);
            }

            if (key is { } own && queue.Keys.FirstOrDefault(other => other?.Key == own.Key) is { } same)
            {
                throw new DomainException(
                    same.Body == own.Body ? Error.IdempotencyInProgress(sessionId) : Error.IdempotencyKeyReused);
            }

            if (onBusy == OnBusy.Reject || queue.Waiting.Count >= limits.TurnQueue)
            {
                throw new DomainException(Error.SessionBusy(sessionId));
            }

            mine = queue.Waiting.AddLast(new Waiter(key));
        }

        return await WaitAsync(name, mine, cancellationToken);
    }

    private async ValueTask<Ticket> WaitAsync(
        (string SessionId, string? UserId) name, LinkedListNode<Waiter> mine, CancellationToken cancellationToken)
    {
        try
        {
            await mine.Value.Turn.Task.WaitAsync(TimeSpan.FromSeconds(limits.TurnWaitSeconds), time, cancellationToken);
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException)
        {
            lock (_lock)
            {
                // Not in the queue any more: the turn came in the same moment, and is passed on.
                if (mine.List is { } waiting)
                {
                    waiting.Remove(mine);
                }
                else
                {
                    PassOn(name);
                }
            }

            throw e is TimeoutException ? new DomainException(Error.SessionBusy(name.SessionId)) : e;
        }

        return new Ticket(this, name);
    }

    private void Leave((string SessionId, string? UserId) name)
    {
        lock (_lock)
        {
            PassOn(name);
        }
    }

    private void PassOn((string SessionId, string? UserId) name)
    {
        var queue = _queues[name];
        if (queue.Waiting.First is { } next)
        {
            queue.Waiting.RemoveFirst();
            queue.RunningKey = next.Value.Key;
            next.Value.Turn.SetResult();
        }
        else
        {
            _queues.Remove(name);
        }
    }

    /// <summary>The right to run a turn on a session.</summary>
    public readonly struct Ticket(TurnGate? gate, (string SessionId, string? UserId) name) : IDisposable
    {
        public void Dispose() => gate?.Leave(name);
    }

    private sealed class Queue
    {
        public LinkedList<Waiter> Waiting { get; } = new();

        public Idempotency? RunningKey { get; set; }

        /// <summary>The keys of what runs and waits.</summary>
        public IEnumerable<Idempotency?> Keys => Waiting.Select(waiter => waiter.Key).Prepend(RunningKey);
    }

    private sealed class Waiter(Idempotency? key)
    {
        public Idempotency? Key { get; } = key;

        public TaskCompletionSource Turn { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
