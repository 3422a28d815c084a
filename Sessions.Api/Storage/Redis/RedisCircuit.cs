using System.Diagnostics;

namespace Sessions.Api.Storage.Redis;

/// <summary>
/// Leaves a server that hangs alone: after a command that was not answered in time the next ones fail at once, except for one now and then
/// that finds out whether it answers again.
/// A single time-out will do: a server works off one command after the other, so all the others wait too. A lost connection needs no
/// breaker: without one, commands fail at once.
/// </summary>
internal sealed class RedisCircuit
{
    // How long a server is left alone before the next one tries.
    private static readonly TimeSpan BreakDuration = TimeSpan.FromMilliseconds(500);

    // A server that has just answered somebody else does not hang: it, or the line, is only busy, as with large answers.
    private static readonly TimeSpan Lately = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private long _answeredAt;
    private long _openedAt;
    private bool _isProbed;

    /// <summary>Whether the server is left alone.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>Before a command is sent.</summary>
    /// <exception cref="ServerUnresponsiveException">It is not to be sent.</exception>
    public void Enter()
    {
        if (!IsOpen)
        {
            return;
        }

        lock (_lock)
        {
            if (IsOpen && (_isProbed || Stopwatch.GetElapsedTime(_openedAt) < BreakDuration))
            {
                throw new ServerUnresponsiveException();
            }

            _isProbed = true;
        }
    }

    /// <summary>The server has answered, whatever it said.</summary>
    /// <returns>Whether it was left alone until now.</returns>
    public bool Answered()
    {
        Volatile.Write(ref _answeredAt, Stopwatch.GetTimestamp());
        return Close();
    }

    /// <summary>Its connection is lost: without one commands fail by themselves.</summary>
    /// <returns>Whether it was left alone until now.</returns>
    public bool Close()
    {
        if (!IsOpen)
        {
            return false;
        }

        lock (_lock)
        {
            var wasOpen = IsOpen;
            IsOpen = _isProbed = false;
            return wasOpen;
        }
    }

    /// <summary>The server has not answered in time.</summary>
    /// <returns>Whether it is left alone from now on, and was not before.</returns>
    public bool TimedOut()
    {
        lock (_lock)
        {
            var wasOpen = IsOpen;
            if (!wasOpen && Volatile.Read(ref _answeredAt) is not 0 and var answeredAt && Stopwatch.GetElapsedTime(answeredAt) < Lately)
            {
                return false;
            }

            (IsOpen, _isProbed, _openedAt) = (true, false, Stopwatch.GetTimestamp());
            return !wasOpen;
        }
    }
}

/// <summary>A command was not sent, as its server does not answer.</summary>
internal sealed class ServerUnresponsiveException() : Exception("The server does not answer.");
