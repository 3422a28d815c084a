namespace Sessions.Api;

/// <summary>
/// Lets one turn at a time run on a session, in this process; the others wait in the order they came, bounded in number and time. Across
/// processes it is the store that keeps turns apart (<see cref="ISessionStore.BeginTurnAsync"/>).
/// </summary>
/// <remarks>
/// A user who only has sessions of its own stands in a line of its own: whoever names another's session learns nothing from how busy it is, and
/// keeps nobody waiting.
/// </remarks>
internal sealed class TurnGate(LimitSettings limits, TimeProvider time)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<(string SessionId, string? UserId), Line> _lines = [];

    /// <summary>Waits for the session's turn to come.</summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="owner">On whose behalf.</param>
    /// <param name="key">The request's idempotency key: while one with the same key waits or runs, another is not let in.</param>
    /// <param name="onBusy">Whether to wait at all.</param>
    /// <param name="cancellationToken">Leaves the queue.</param>
    /// <returns>The place, to be disposed of when the turn has ended.</returns>
    /// <exception cref="ProblemException">The queue is full, the wait was too long, or the same request is under way.</exception>
    public async ValueTask<Place> EnterAsync(string sessionId, Owner owner, Guid? key, OnBusy onBusy, CancellationToken cancellationToken)
    {
        var name = (sessionId, owner.MayClaim ? null : owner.UserId);
        LinkedListNode<Waiter> mine;
        lock (_lock)
        {
            if (!_lines.TryGetValue(name, out var line))
            {
                _lines.Add(name, new Line { RunningKey = key });
                return new Place(this, name);
            }

            if (key is not null && (line.RunningKey == key || line.Waiting.Any(waiter => waiter.Key == key)))
            {
                throw new ProblemException(new Problem(StatusCodes.Status409Conflict, "idempotency_in_progress",
                    "A request with this Idempotency-Key is still running; its answer will be there for a retry.")
                { RetryAfter = TimeSpan.FromSeconds(1), ThreadId = sessionId });
            }

            if (onBusy == OnBusy.Reject || line.Waiting.Count >= limits.TurnQueue)
            {
                throw Busy(sessionId);
            }

            mine = line.Waiting.AddLast(new Waiter(key));
        }

        return await WaitAsync(name, mine, cancellationToken);
    }

    private async ValueTask<Place> WaitAsync((string SessionId, string? UserId) name, LinkedListNode<Waiter> mine, CancellationToken cancellationToken)
    {
        try
        {
            await mine.Value.Turn.Task.WaitAsync(TimeSpan.FromSeconds(limits.TurnWaitSeconds), time, cancellationToken);
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException)
        {
            lock (_lock)
            {
                // No list: the turn came in the same moment, and is passed on.
                if (mine.List is { } waiting)
                {
                    waiting.Remove(mine);
                }
                else
                {
                    PassOn(name);
                }
            }

            throw e is TimeoutException ? Busy(name.SessionId) : e;
        }

        return new Place(this, name);
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
        var line = _lines[name];
        if (line.Waiting.First is { } next)
        {
            line.Waiting.RemoveFirst();
            line.RunningKey = next.Value.Key;
            next.Value.Turn.SetResult();
        }
        else
        {
            _lines.Remove(name);
        }
    }

    /// <summary>The answer where a session stays busy.</summary>
    public static ProblemException Busy(string sessionId) =>
        new(new Problem(StatusCodes.Status409Conflict, "session_busy", "Another query is running on this session, and the queue behind it is full or did not move in time.")
        {
            RetryAfter = TimeSpan.FromSeconds(1),
            ThreadId = sessionId,
        });

    /// <summary>The right to run a turn on a session.</summary>
    public readonly struct Place(TurnGate gate, (string SessionId, string? UserId) name) : IDisposable
    {
        public void Dispose() => gate.Leave(name);
    }

    private sealed class Line
    {
        public LinkedList<Waiter> Waiting { get; } = new();

        public Guid? RunningKey { get; set; }
    }

    private sealed class Waiter(Guid? key)
    {
        public Guid? Key { get; } = key;

        public TaskCompletionSource Turn { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
