using StackExchange.Redis;

namespace Sessions.Api;

/// <summary>What the trouble with a Redis means to others.</summary>
internal static class RedisFailure
{
    // Passing states of a server that is there, by the first word of its answer, and what to tell of them.
    private static readonly (string Word, string Text, int RetrySeconds)[] States =
    [
        ("LOADING", "Redis is still loading its data.", 5),
        ("OOM", "Redis has no memory left.", 10),
        ("READONLY", "Redis takes no writes at the moment: it is a replica.", 2),
        ("MISCONF", "Redis takes no writes at the moment: it can't save its data.", 10),
        ("NOREPLICAS", "Redis takes no writes at the moment: it has too few replicas.", 5),
        ("MASTERDOWN", "Redis has lost its master.", 2),
        ("CLUSTERDOWN", "The Redis cluster is down.", 2),
        ("TRYAGAIN", "The Redis cluster is moving data.", 1),
        ("MOVED", "The Redis cluster is moving data.", 1),
        ("ASK", "The Redis cluster is moving data.", 1),
        ("NOAUTH", "Redis refuses the password.", 10),
        ("WRONGPASS", "Redis refuses the password.", 10),
        ("NOPERM", "Redis does not permit what is needed.", 10),
        ("UNBLOCKED", "Redis is changing roles.", 1),
        ("BUSY", "Redis is busy.", 1),
    ];

    /// <summary>Whether this is the server's or the network's trouble, rather than a mistake of ours.</summary>
    /// <remarks>
    /// Whatever the driver throws that is no answer of the server: it has several types for a connection that is lost, being given up or not there yet. No
    /// command is given a token, so one that was cancelled was so by the driver.
    /// </remarks>
    public static bool IsTrouble(Exception e) => e is RedisServerException server ? State(server) is not null
        : e is RedisException or TimeoutException or ObjectDisposedException or OperationCanceledException;

    /// <summary>The trouble as the caller of a store gets it.</summary>
    public static StoreUnavailableException ToUnavailable(Exception e)
    {
        var (text, seconds) = e switch
        {
            RedisServerException server when State(server) is { } state => state,
            TimeoutException => ("Redis did not answer in time.", 1),
            _ => ("Redis can't be reached.", 1),
        };
        return new StoreUnavailableException(text, TimeSpan.FromSeconds(seconds), e);
    }

    // An error inside a script comes with the script's name before or behind it.
    private static (string Text, int Seconds)? State(RedisServerException e)
    {
        foreach (var (word, text, seconds) in States)
        {
            var at = e.Message.IndexOf(word, StringComparison.Ordinal);
            if (at >= 0 && (at == 0 || !char.IsLetterOrDigit(e.Message[at - 1])) && (at + word.Length == e.Message.Length || !char.IsLetterOrDigit(e.Message[at + word.Length])))
            {
                return (text, seconds);
            }
        }

        return null;
    }
}
