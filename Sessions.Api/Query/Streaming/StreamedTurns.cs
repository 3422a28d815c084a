using System.Collections.Concurrent;

namespace Sessions.Api;

/// <summary>The streamed turns that are running or can still be picked up again. A stop of the server waits for those that run.</summary>
internal sealed partial class StreamedTurns(TurnRunner turns, StreamingSettings settings, LimitSettings limits, TelemetrySettings telemetry, TimeProvider time, ILogger<StreamedTurns> logger) : IHostedService
{
    // Ended streams that are kept; with more the oldest are forgotten before their time.
    private const int MostKept = 1000;
    private const long MostKeptBytes = 64 << 20;

    private readonly ConcurrentDictionary<Guid, StreamedTurn> _byId = new();
    private readonly ConcurrentDictionary<Idempotency, StreamedTurn> _byKey = new();
    private readonly ConcurrentDictionary<Guid, Task> _running = new();
    private readonly ConcurrentQueue<StreamedTurn> _kept = new();
    private long _keptBytes;
    private int _count;

    /// <summary>How many turns are running.</summary>
    public int Running => Volatile.Read(ref _count);

    /// <summary>How many bytes the ended streams take that can be picked up again.</summary>
    public long KeptBytes => Volatile.Read(ref _keptBytes);

    /// <summary>Starts a turn; or finds the running one, where the same request came before.</summary>
    /// <remarks>Turns outlive the requests that started them: where there are too many already, the turn has failed when this returns.</remarks>
    public StreamedTurn Start(TurnCommand command)
    {
        var started = new StreamedTurn(command);
        if (command.Idempotency is { } key)
        {
            var turn = _byKey.GetOrAdd(key, started);
            if (turn != started)
            {
                started.Dispose();
                return turn;
            }
        }

        if (Interlocked.Increment(ref _count) > limits.ConcurrentRequests)
        {
            Interlocked.Decrement(ref _count);
            ForgetKey(started);
            started.Fail(Admission.Overloaded);
            return started;
        }

        _byId[started.Id] = started;

        // Not awaited: it goes on when its client has gone. StopAsync waits for it.
        _running[started.Id] = Task.Run(() => RunAsync(started));
        return started;
    }

    /// <summary>Finds a stream by its id, for whom it was started.</summary>
    public StreamedTurn? Find(Guid id, Owner owner) => _byId.TryGetValue(id, out var turn) && turn.Command.Owner == owner ? turn : null;

    /// <summary>A client has stopped reading before the end.</summary>
    public void Abandon(StreamedTurn turn)
    {
        if (turn.Leave() && !turn.Ended && settings.OnDisconnect == OnDisconnect.Cancel)
        {
            turn.Cancel();
        }
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>Waits for those that are running.</summary>
    public Task EndedAsync() => Task.WhenAll(_running.Values);

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        try
        {
            await EndedAsync().WaitAsync(cancellationToken);
        }
        catch (OperationCanceledException)
        {
            foreach (var turn in _byId.Values)
            {
                turn.Cancel();
            }
        }
    }

    private async Task RunAsync(StreamedTurn turn)
    {
        try
        {
            turn.Complete(await turns.RunAsync(turn.Command, turn.Cancelled, turn));
        }
        catch (Exception e)
        {
            // The end of the line: nobody awaits this task, and the client must be told.
            ForgetKey(turn);
            turn.Fail(Describe(e));
        }
        finally
        {
            Keep(turn);
            _running.TryRemove(turn.Id, out _);
            Interlocked.Decrement(ref _count);
        }
    }

    private Problem Describe(Exception exception)
    {
        switch (exception)
        {
            case ProblemException known:
                return known.Problem;
            case StoreUnavailableException unavailable:
                return ProblemHandling.From(unavailable);
            case OperationCanceledException:
                return new Problem(StatusCodes.Status499ClientClosedRequest, "cancelled", "The client went away; nothing was kept.");
            default:
                Log.Unexpected(logger, Failures.Describe(exception), telemetry.IncludeContent ? exception : null);
                return Problem.FromStatus(StatusCodes.Status500InternalServerError);
        }
    }

    // What was refused, or can't be picked up again by whoever comes back, need not wait.
    private void Keep(StreamedTurn turn)
    {
        if (turn.Refusal is not null || settings.ResumeSeconds == 0)
        {
            Forget(turn);
            return;
        }

        _kept.Enqueue(turn);
        Interlocked.Add(ref _keptBytes, turn.Bytes);
        while (_kept.Count > MostKept || Volatile.Read(ref _keptBytes) > MostKeptBytes)
        {
            DropOldest();
        }

        _ = ForgetLaterAsync(turn.Id);
    }

    // By its id: what was dropped before its time is not to be held by this.
    private async Task ForgetLaterAsync(Guid id)
    {
        await Task.Delay(TimeSpan.FromSeconds(settings.ResumeSeconds), time);
        if (_byId.TryGetValue(id, out var turn))
        {
            Forget(turn);
        }

        while (_kept.TryPeek(out var oldest) && !_byId.ContainsKey(oldest.Id))
        {
            DropOldest();
        }
    }

    private void DropOldest()
    {
        if (_kept.TryDequeue(out var oldest))
        {
            Interlocked.Add(ref _keptBytes, -oldest.Bytes);
            Forget(oldest);
        }
    }

    private void Forget(StreamedTurn turn)
    {
        _byId.TryRemove(turn.Id, out _);
        ForgetKey(turn);
    }

    // A turn that failed does not use up its key: the next request with it is a new try.
    private void ForgetKey(StreamedTurn turn)
    {
        if (turn.Command.Idempotency is { } key)
        {
            _byKey.TryRemove(KeyValuePair.Create(key, turn));
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 30, Level = LogLevel.Error, Message = "A streamed turn failed unexpectedly: {Failure}")]
        public static partial void Unexpected(ILogger logger, string failure, Exception? exception);
    }
}
