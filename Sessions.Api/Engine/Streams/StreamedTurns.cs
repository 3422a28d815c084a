using System.Collections.Concurrent;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Streams;

/// <summary>The streamed turns that are running or can still be picked up again. A stop of the server waits for those that run.</summary>
internal sealed partial class StreamedTurns(
    TurnRunner turns, SessionLog log, LogEvents events, StreamingSettings settings, LimitSettings limits, TelemetrySettings telemetry,
    TimeProvider time, ILogger<StreamedTurns> logger) : IHostedService
{
    // Ended streams that are kept; with more the oldest are forgotten before their time.
    private const int MaxKept = 1000;
    private const long MaxKeptBytes = 64 << 20;

    // What is due earlier is waited for as long.
    private static readonly TimeSpan Soon = TimeSpan.FromMilliseconds(1);

    private readonly ConcurrentDictionary<Guid, StreamedTurn> _byId = new();

    // The same key and body may be meant for several sessions, where the body does not name them.
    private readonly ConcurrentDictionary<(Idempotency Key, SessionRef? Session), StreamedTurn> _byKey = new();
    private readonly ConcurrentDictionary<Guid, Task> _running = new();
    private readonly Lock _keptLock = new();

    // In the order in which they ended, and when that was.
    private readonly Queue<(StreamedTurn Turn, long Ended)> _kept = new();
    private ITimer? _heartbeat;
    private ITimer? _forgetting;
    private long _keptBytes;
    private long _runningBytes;
    private int _count;

    /// <summary>The refusal where too many turns run already.</summary>
    public static Error Overloaded { get; } = new("overloaded", "The server is answering as many requests as it can take.")
    {
        RetryAfter = TimeSpan.FromSeconds(1),
    };

    /// <summary>How many turns are running.</summary>
    public int Running => Volatile.Read(ref _count);

    /// <summary>How many bytes the ended streams take that can be picked up again.</summary>
    public long KeptBytes => Volatile.Read(ref _keptBytes);

    /// <summary>Starts a turn; or finds the one that the same request started before, where it runs or can still be picked up.</summary>
    /// <remarks>Turns outlive the requests that started them: where there are too many already, the turn has failed when this
    /// returns.</remarks>
    public async ValueTask<StreamedTurn> StartAsync(TurnCommand command, CancellationToken cancellationToken)
    {
        var started = new StreamedTurn(command);
        if (command.Idempotency is { } key)
        {
            // Told as it was, so that the numbers of its events stay what they are. One that is not there any more is answered out of the
            // log, or run.
            while (_byKey.GetOrAdd((key, command.Session), started) is var turn && turn != started)
            {
                if (!turn.Ended || (turn.Result is not null && await CheckAsync(turn, command.Owner, cancellationToken) is not null))
                {
                    started.Dispose();
                    return turn;
                }

                ForgetKey(turn);
            }
        }

        // What was asked is held until the turn ends, also when its client has gone and its body counts no more.
        var bytes = command.Bytes;
        if (Interlocked.Increment(ref _count) > limits.ConcurrentRequests
            | Interlocked.Add(ref _runningBytes, bytes) > limits.RequestBodiesBytes)
        {
            Release(bytes);
            ForgetKey(started);
            started.Fail(new TurnFailed(Overloaded));
            started.Flush();
            return started;
        }

        _byId[started.Id] = started;

        // Listed before it runs, so that its end finds it. Not awaited: it goes on when its client has gone. StopAsync waits for it.
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _running[started.Id] = ended.Task;
        _ = RunAsync(started, bytes, ended);
        return started;
    }

    /// <summary>Finds a stream by its id, for whom it was started; one whose turn is gone, or has been changed since, is not
    /// found.</summary>
    public ValueTask<StreamedTurn?> FindAsync(Guid id, Owner owner, CancellationToken cancellationToken) =>
        _byId.TryGetValue(id, out var turn) && turn.Command.Owner.IsSameAs(owner)
            ? CheckAsync(turn, owner, cancellationToken)
            : new((StreamedTurn?)null);

    /// <summary>Finds the stream of a response that is found by its id, as it was first told: once more out of the log its events have
    /// other numbers.</summary>
    public ValueTask<StreamedTurn?> FindAsync(ResponseId response, Owner owner, CancellationToken cancellationToken)
    {
        foreach (var turn in _byId.Values)
        {
            if (turn is { Command: { Response: not null, KeepsResponse: true }, Begun: { } begun, Result: not { Replayed: true } }
                && begun.SessionKey == response.Key && begun.Nonce == response.Nonce && turn.Command.Owner.IsSameAs(owner))
            {
                return CheckAsync(turn, owner, cancellationToken);
            }
        }

        return new((StreamedTurn?)null);
    }

    /// <summary>Stops the turn of a response that is being made, and waits until it has ended: it comes to nothing, or was committed in
    /// the same moment.</summary>
    /// <returns>Whether there was one.</returns>
    public async ValueTask<bool> StopAsync(ResponseId response, Owner owner, CancellationToken cancellationToken)
    {
        if (await FindAsync(response, owner, cancellationToken) is not { Ended: false } turn)
        {
            return false;
        }

        turn.Lose();
        log.Drop(response);
        if (_running.TryGetValue(turn.Id, out var ended))
        {
            await ended.WaitAsync(cancellationToken);
        }

        Forget(turn);
        return true;
    }

    /// <summary>Forgets what was told of sessions that are gone: nobody is to read it again, and their turns come to nothing.</summary>
    public void Forget(IReadOnlyCollection<Guid> sessionKeys)
    {
        foreach (var turn in _byId.Values)
        {
            if (turn.Begun is { } begun && sessionKeys.Contains(begun.SessionKey))
            {
                turn.Lose();
                Forget(turn);
            }
        }
    }

    /// <summary>Forgets what was told of a turn: something of it was deleted.</summary>
    public void Forget(Guid sessionKey, TurnNonce nonce)
    {
        foreach (var turn in _byId.Values)
        {
            if (turn.Begun is { } begun && begun.SessionKey == sessionKey && begun.Nonce == nonce)
            {
                Forget(turn);
            }
        }
    }

    /// <summary>A client has stopped reading before the end.</summary>
    public void Abandon(StreamedTurn turn, StreamedTurnReader reader)
    {
        if (turn.Leave(reader) && !turn.Ended && settings.OnDisconnect == OnDisconnect.Cancel)
        {
            turn.Cancel();
        }
    }

    public Task StartAsync(CancellationToken cancellationToken)
    {
        events.OnRemoved(keys =>
        {
            Forget(keys);
            return default;
        });
        events.OnRewritten((key, nonce) =>
        {
            Forget(key, nonce);
            return default;
        });

        // One for all; it looks so often that none is late by much, and none late.
        var heartbeat = TimeSpan.FromSeconds(settings.HeartbeatSeconds);
        var tick = heartbeat / 8;
        _heartbeat = time.CreateTimer(_ => Beat(heartbeat - tick), state: null, tick, tick);
        _forgetting = time.CreateTimer(_ => ForgetOldest(), state: null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        return Task.CompletedTask;
    }

    /// <summary>Waits for those that are running.</summary>
    public Task EndedAsync() => Task.WhenAll(_running.Values);

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        try
        {
            await EndedAsync().WaitAsync(cancellationToken);
            _heartbeat?.Dispose();
            _forgetting?.Dispose();
        }
        catch (OperationCanceledException)
        {
            foreach (var turn in _byId.Values)
            {
                turn.Cancel();
            }
        }
    }

    // What has ended is told again only while it stands in the log as it was told: it may have been deleted or erased on another replica.
    private async ValueTask<StreamedTurn?> CheckAsync(StreamedTurn turn, Owner owner, CancellationToken cancellationToken)
    {
        if (!turn.Ended || turn.Result is not { } result || !turn.Command.Store)
        {
            return turn;
        }

        if (await log.FindTurnAsync(result.SessionKey, result.Turn.Nonce, owner, cancellationToken) is { } found
            && found.Turn.Output == result.Turn.Output && found.Turn.Input == result.Turn.Input
            && found.Turn.Response.IsEmpty == (result.Turn.Response.IsEmpty || !turn.Command.KeepsResponse))
        {
            return turn;
        }

        Forget(turn);
        return null;
    }

    private void Beat(TimeSpan silence)
    {
        foreach (var turn in _byId.Values)
        {
            if (!turn.Ended)
            {
                turn.WakeAfter(silence);
            }
        }
    }

    private void Release(long bytes)
    {
        Interlocked.Decrement(ref _count);
        Interlocked.Add(ref _runningBytes, -bytes);
    }

    private async Task RunAsync(StreamedTurn turn, long bytes, TaskCompletionSource ended)
    {
        try
        {
            turn.Complete(await turns.RunAsync(turn.Command, turn, turn.Cancelled));
        }
        catch (Exception e)
        {
            // The end of the line: nobody awaits this task, and the client must be told.
            ForgetKey(turn);
            var error = Describe(turn, e);
            var response = turn.Begun is { } begun && turn.Command.Response is { } maker
                ? maker.Make(new RunOutcome(null, error, begun.At, time.GetUtcNowMicroseconds()))
                : default;
            turn.Fail(new TurnFailed(error) { Response = response });
            if (error.Code == "session_gone")
            {
                turn.Lose();
            }
        }

        Keep(turn);
        _running.TryRemove(turn.Id, out _);
        Release(bytes);
        ended.SetResult();

        // Last: what comes after the answer goes on inside this.
        turn.Flush();
    }

    private Error Describe(StreamedTurn turn, Exception exception)
    {
        if (Failures.ErrorOf(exception, logger) is { } known)
        {
            return known;
        }

        if (exception is OperationCanceledException)
        {
            // On every store, and on whichever replica the session was deleted, its turns are told the same.
            return turn is { IsGone: true, Begun: { } begun } ? Error.SessionGone(begun.SessionId)
                : new Error("cancelled", "The client went away; nothing was kept.");
        }

        Log.Unexpected(logger, Failures.Describe(exception), telemetry.IncludeContent ? exception : null);
        return new Error("internal_error", "Something went wrong on our side.");
    }

    // What was refused, or can't be picked up again by whoever comes back, need not wait; and what was not to be stored is not.
    private void Keep(StreamedTurn turn)
    {
        if (turn.IsGone || turn.Refusal is not null || settings.ResumeSeconds == 0 || !turn.Command.Store)
        {
            Forget(turn);
            return;
        }

        lock (_keptLock)
        {
            _kept.Enqueue((turn, time.GetTimestamp()));
            _keptBytes += turn.Bytes;
            while (_kept.Count > MaxKept || _keptBytes > MaxKeptBytes)
            {
                DropOldest();
            }

            // Else the timer is set already.
            if (_kept.Count == 1)
            {
                WaitForOldest();
            }
        }
    }

    // One timer for all: a task for each would be held for as long, also of those that were dropped before their time.
    private void ForgetOldest()
    {
        lock (_keptLock)
        {
            while (_kept.TryPeek(out var oldest) && (LeftOf(oldest.Ended) <= TimeSpan.Zero || !_byId.ContainsKey(oldest.Turn.Id)))
            {
                DropOldest();
            }

            WaitForOldest();
        }
    }

    private void WaitForOldest()
    {
        if (_kept.TryPeek(out var oldest))
        {
            var left = LeftOf(oldest.Ended);
            _forgetting?.Change(left > Soon ? left : Soon, Timeout.InfiniteTimeSpan);
        }
    }

    private TimeSpan LeftOf(long ended) => TimeSpan.FromSeconds(settings.ResumeSeconds) - time.GetElapsedTime(ended);

    private void DropOldest()
    {
        var (oldest, _) = _kept.Dequeue();
        _keptBytes -= oldest.Bytes;
        Forget(oldest);
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
            _byKey.TryRemove(KeyValuePair.Create((key, turn.Command.Session), turn));
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 31, Level = LogLevel.Error, Message = "A streamed turn failed unexpectedly: {Failure}")]
        public static partial void Unexpected(ILogger logger, string failure, Exception? exception);
    }
}
