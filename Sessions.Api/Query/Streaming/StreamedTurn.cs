using System.Text.Json;

namespace Sessions.Api;

/// <summary>
/// A turn whose answer is told as it comes. It runs on its own: clients come, read from where they want, and go. What was told is kept until
/// the turn is forgotten, bounded by <see cref="LimitSettings.ResponseBytes"/>.
/// </summary>
internal sealed class StreamedTurn(TurnCommand command) : IDisposable
{
    // An event's own objects, and its place in the list.
    private const int EventOverhead = 96;

    private readonly Lock _lock = new();
    private readonly List<StreamEvent> _events = [];
    private readonly CancellationTokenSource _cancellation = new();
    private TaskCompletionSource _changed = NewSignal();
    private int _readers;
    private long _bytes;

    /// <summary>Names the stream in event ids. Random: who knows it has read from the stream before.</summary>
    public Guid Id { get; } = Guid.NewGuid();

    /// <summary>What is asked.</summary>
    public TurnCommand Command { get; } = command;

    /// <summary>Cancels the turn.</summary>
    public CancellationToken Cancelled => _cancellation.Token;

    /// <summary>Whether the answer was there before.</summary>
    public bool Replayed { get; private set; }

    /// <summary>Why the turn did not even begin, if so: then there is no stream, but a plain answer.</summary>
    public Problem? Refusal { get; private set; }

    /// <summary>Whether nothing more will be told.</summary>
    public bool Ended { get; private set; }

    /// <summary>What has been told so far takes about as many bytes.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>The turn has begun.</summary>
    public void Begin(string sessionId, int turn, bool sessionCreated) =>
        Tell(new("session", JsonSerializer.SerializeToUtf8Bytes(new StreamStarted(sessionId, turn, sessionCreated), ApiJson.Wire.StreamStarted)));

    /// <summary>The agent has said more.</summary>
    public void Add(string text) =>
        Tell(new("delta", JsonSerializer.SerializeToUtf8Bytes(new StreamDelta(text), ApiJson.Wire.StreamDelta)));

    /// <summary>The turn is committed, or was before.</summary>
    public void Complete(TurnResult result)
    {
        if (result.Replayed)
        {
            Replayed = true;
            Begin(result.SessionId, result.Turn.Number, result.Turn.StartedSession);
            Add(result.Turn.Response.ToString());
        }

        Tell(new("done", JsonSerializer.SerializeToUtf8Bytes(QueryResponse.From(result), ApiJson.Wire.QueryResponse)), last: true);
    }

    /// <summary>The turn did not come about.</summary>
    public void Fail(Problem problem)
    {
        lock (_lock)
        {
            if (_events.Count == 0)
            {
                Refusal = problem;
            }
        }

        Tell(new("error", JsonSerializer.SerializeToUtf8Bytes(problem, ApiJson.Wire.Problem)), last: true);
    }

    /// <summary>What has been told from an event on.</summary>
    /// <returns>The events, whether these are all there will ever be, and what to wait for otherwise.</returns>
    public (IReadOnlyList<StreamEvent> Events, bool Ended, Task More) Read(int from)
    {
        lock (_lock)
        {
            return (from < _events.Count ? _events.GetRange(from, _events.Count - from) : [], Ended, _changed.Task);
        }
    }

    /// <summary>A client reads.</summary>
    public void Enter() => Interlocked.Increment(ref _readers);

    /// <summary>A client reads no longer.</summary>
    /// <returns>Whether nobody does.</returns>
    public bool Leave() => Interlocked.Decrement(ref _readers) == 0;

    /// <summary>Cancels the turn.</summary>
    public void Cancel() => _cancellation.Cancel();

    public void Dispose() => _cancellation.Dispose();

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private void Tell(StreamEvent told, bool last = false)
    {
        TaskCompletionSource changed;
        lock (_lock)
        {
            _events.Add(told);
            _bytes += told.Data.Length + EventOverhead;
            Ended = last;
            (changed, _changed) = (_changed, NewSignal());
        }

        changed.SetResult();
    }
}

/// <summary>One event of a stream.</summary>
/// <param name="Name">Its kind.</param>
/// <param name="Data">One line of JSON in UTF-8.</param>
internal sealed record StreamEvent(string Name, byte[] Data);

/// <summary>A turn has begun.</summary>
internal sealed record StreamStarted(string ThreadId, int Turn, bool SessionCreated);

/// <summary>The agent has said more.</summary>
internal sealed record StreamDelta(string Text);
