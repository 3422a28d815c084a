using System.Runtime.InteropServices;
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
    private readonly List<Told> _events = [];
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
            Begun = new TurnBegun(result.SessionId, result.SessionKey, result.Turn.Nonce, result.Turn.Number, result.Turn.StartedSession,
                result.Turn.CreatedAt);
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

    /// <summary>An event, by its place in the stream, from 0; <see langword="null"/>: it has not been told.</summary>
    /// <param name="number">Its place.</param>
    /// <param name="ended">Where it has not: whether it never will be.</param>
    public TurnEvent? Read(int number, out bool ended)
    {
        lock (_lock)
        {
            ended = Ended;
            return number >= 0 && number < _events.Count ? _events[number].Event : null;
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
            _events.Add(Told.Of(happened));
            _bytes += happened.Bytes;
            Ended = last;
            _hasNews = true;
        }
    }

    /// <summary>
    /// An event that is kept. There is one for each token: were they objects, the garbage collector would follow every one of them time
    /// and again, and all streams wait for it. So a piece of text is kept as its place in the bytes that it lies in.
    /// </summary>
    /// <param name="What">The event; or those bytes.</param>
    /// <param name="Start">Where the piece begins in them.</param>
    /// <param name="Length">How long it is.</param>
    /// <param name="Index">Its item.</param>
    /// <param name="ContentIndex">The part of its content.</param>
    /// <param name="IsRefusal">Whether that is a refusal.</param>
    private readonly record struct Told(object What, int Start, int Length, int Index, int ContentIndex, bool IsRefusal)
    {
        public TurnEvent Event => What as TurnEvent
            ?? new TextDelta(Index, ContentIndex, new Utf8Text(((byte[])What).AsMemory(Start, Length))) { IsRefusal = IsRefusal };

        public static Told Of(TurnEvent happened) =>
            happened is TextDelta delta && MemoryMarshal.TryGetArray(delta.Text.Bytes, out var bytes) && bytes.Array is { } array
                ? new Told(array, bytes.Offset, bytes.Count, delta.Index, delta.ContentIndex, delta.IsRefusal)
                : new Told(happened, 0, 0, 0, 0, false);
    }
}
