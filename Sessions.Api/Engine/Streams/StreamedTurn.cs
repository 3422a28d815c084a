using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Streams;

/// <summary>
/// A turn whose events are told as they come. It runs on its own: clients come, read from where they want, and go. What was told is kept
/// until the turn is forgotten, bounded by
/// <see cref="LimitSettings.ResponseBytes"/>.
/// </summary>
internal sealed class StreamedTurn(TurnCommand command) : ITurnObserver, IDisposable
{
    private readonly Lock _lock = new();
    private readonly List<TurnEvent> _events = [];
    private readonly CancellationTokenSource _cancellation = new();
    private readonly List<StreamedTurnReader> _readers = [];
    private bool _hasNews;
    private bool _wasRead;

    // What was asked is held as long as what was told.
    private long _bytes = command.Bytes;

    /// <summary>Names the stream in event ids. Random: who knows it has read from the stream before.</summary>
    public Guid Id { get; } = Guid.NewGuid();

    /// <summary>What is asked.</summary>
    public TurnCommand Command { get; } = command;

    /// <summary>Cancels the turn.</summary>
    public CancellationToken Cancelled => _cancellation.Token;

    /// <summary>How the turn began, once it has.</summary>
    public TurnBegun? Begun { get; private set; }

    /// <summary>Its result, once it is committed.</summary>
    public TurnResult? Result { get; private set; }

    /// <summary>Why the turn did not even begin, if so: then there is no stream, but a plain answer.</summary>
    public Error? Refusal { get; private set; }

    /// <summary>Whether nothing more will be told.</summary>
    public bool Ended { get; private set; }

    /// <summary>Whether its session is gone: then it comes to nothing.</summary>
    public bool IsGone { get; private set; }

    /// <summary>What was asked, and what has been told so far, take about as many bytes.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Something has happened in the turn.</summary>
    public void On(TurnEvent happened) => Add(happened, last: false);

    /// <summary>The turn is committed, or was before.</summary>
    public void Complete(TurnResult result)
    {
        Result = result;
        if (result.Replayed)
        {
            Begun = new TurnBegun(result.SessionId, result.SessionKey, result.Turn.Nonce, result.Turn.Number, result.Turn.StartedSession, result.Turn.CreatedAt);
            On(Begun);
            foreach (var told in ReplayedItems.Of(result.Turn.Output))
            {
                On(told);
            }
        }

        Add(new TurnCompleted(result), last: true);
    }

    /// <summary>The turn did not come about.</summary>
    public void Fail(TurnFailed failure)
    {
        lock (_lock)
        {
            if (_events.Count == 0)
            {
                Refusal = failure.Error;
            }
        }

        Add(failure, last: true);
    }

    /// <summary>What has been told from an event on.</summary>
    /// <returns>The events, and whether these are all there will ever be.</returns>
    public (IReadOnlyList<TurnEvent> Events, bool Ended) Read(int from)
    {
        lock (_lock)
        {
            return (from >= 0 && from < _events.Count ? _events.GetRange(from, _events.Count - from) : [], Ended);
        }
    }

    /// <summary>A client reads.</summary>
    /// <returns>Whether it is the first one.</returns>
    public bool Enter(StreamedTurnReader reader)
    {
        lock (_lock)
        {
            _readers.Add(reader);
            var isFirst = !_wasRead;
            _wasRead = true;
            return isFirst;
        }
    }

    /// <summary>A client reads no longer.</summary>
    /// <returns>Whether nobody does.</returns>
    public bool Leave(StreamedTurnReader reader)
    {
        lock (_lock)
        {
            return _readers.Remove(reader) && _readers.Count == 0;
        }
    }

    /// <summary>Lets those who have waited for as long as that say that the server is still there.</summary>
    public void WakeAfter(TimeSpan silence)
    {
        StreamedTurnReader[] readers;
        lock (_lock)
        {
            readers = [.. _readers];
        }

        foreach (var reader in readers)
        {
            reader.WakeAfter(silence);
        }
    }

    /// <summary>Lets those who read see what has happened. They go on inside this call, until they have to wait: a token then goes out on
    /// the thread that read it, and not when the thread pool comes to it.</summary>
    public void Flush()
    {
        StreamedTurnReader? only;
        StreamedTurnReader[] readers;
        lock (_lock)
        {
            if (!_hasNews)
            {
                return;
            }

            _hasNews = false;
            only = _readers.Count == 1 ? _readers[0] : null;
            readers = only is null ? [.. _readers] : [];
        }

        only?.Wake();
        foreach (var reader in readers)
        {
            reader.Wake();
        }
    }

    /// <summary>Cancels the turn.</summary>
    public void Cancel() => _cancellation.Cancel();

    /// <summary>Cancels the turn, as its session is gone.</summary>
    public void Lose()
    {
        IsGone = true;
        Cancel();
    }

    public void Dispose() => _cancellation.Dispose();

    private void Add(TurnEvent happened, bool last)
    {
        lock (_lock)
        {
            // An agent that does not heed its token may come late: what has ended stays ended.
            if (Ended)
            {
                return;
            }

            Begun ??= happened as TurnBegun;
            _events.Add(happened);
            _bytes += happened.Bytes;
            Ended = last;
            _hasNews = true;
        }
    }
}
