using System.Threading.Tasks.Sources;

namespace Sessions.Api.Engine.Streams;

/// <summary>What a client that reads a streamed turn waits by: for more of the turn, for its own end, or for the time at which it is to
/// hear that the server is still there. Made once for each, so that a token costs no timer and no object of its own.</summary>
/// <param name="time">The clock.</param>
internal sealed class StreamedTurnReader(TimeProvider time) : IValueTaskSource<bool>
{
    private readonly Lock _lock = new();
    private ManualResetValueTaskSourceCore<bool> _more;
    private long _waitingSince;
    private bool _isWaiting;
    private bool _isWoken;
    private volatile bool _isGone;

    /// <summary>Waits until it is woken; not at all, if it was since it waited last.</summary>
    /// <returns>Whether there may be more to read; if not, it is time to say that the server is still there.</returns>
    /// <exception cref="OperationCanceledException">The client has gone.</exception>
    public ValueTask<bool> WaitAsync()
    {
        lock (_lock)
        {
            if (_isGone)
            {
                return ValueTask.FromCanceled<bool>(new CancellationToken(canceled: true));
            }

            if (_isWoken)
            {
                _isWoken = false;
                return new ValueTask<bool>(true);
            }

            _more.Reset();
            _isWaiting = true;
            _waitingSince = time.GetTimestamp();
            return new ValueTask<bool>(this, _more.Version);
        }
    }

    /// <summary>There may be more to read.</summary>
    public void Wake()
    {
        if (StopsWaiting())
        {
            _more.SetResult(true);
        }
    }

    /// <summary>Wakes it if it has waited for as long as that.</summary>
    public void WakeAfter(TimeSpan silence)
    {
        lock (_lock)
        {
            if (!_isWaiting || time.GetElapsedTime(_waitingSince) < silence)
            {
                return;
            }

            _isWaiting = false;
        }

        _more.SetResult(false);
    }

    /// <summary>The client has gone.</summary>
    public void Leave()
    {
        _isGone = true;
        if (StopsWaiting())
        {
            _more.SetException(new OperationCanceledException());
        }
    }

    // Whoever waits goes on inside what wakes it: past the lock.
    private bool StopsWaiting()
    {
        lock (_lock)
        {
            _isWoken = !_isWaiting;
            _isWaiting = false;
            return !_isWoken;
        }
    }

    bool IValueTaskSource<bool>.GetResult(short token) => _more.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _more.GetStatus(token);

    void IValueTaskSource<bool>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _more.OnCompleted(continuation, state, token, flags);
}
