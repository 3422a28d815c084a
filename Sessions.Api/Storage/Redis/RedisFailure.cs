using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>What the trouble with a Redis means to others.</summary>
internal static class RedisFailure
{
    // Passing states of a server that is there, by the first word of its answer, what to tell of them, and whether it then has certainly
    // not done what it was asked to.
    private static readonly (string Word, State State)[] States =
    [
        ("LOADING", new("Redis is still loading its data.", 5, Refuses: true)),
        ("OOM", new("Redis has no memory left.", 10)),
        ("READONLY", new("Redis takes no writes at the moment: it is a replica.", 2, Refuses: true)),
        ("MISCONF", new("Redis takes no writes at the moment: it can't save its data.", 10)),
        ("NOREPLICAS", new("Redis takes no writes at the moment: it has too few replicas.", 5)),
        ("MASTERDOWN", new("Redis has lost its master.", 2, Refuses: true)),
        ("CLUSTERDOWN", new("The Redis cluster is down.", 2, Refuses: true)),
        ("TRYAGAIN", new("The Redis cluster is moving data.", 1, Refuses: true)),
        ("MOVED", new("The Redis cluster is moving data.", 1, Refuses: true)),
        ("ASK", new("The Redis cluster is moving data.", 1, Refuses: true)),
        ("NOSCRIPT", new("Redis is starting.", 1, Refuses: true)),
        ("NOAUTH", new("Redis refuses the password.", 10)),
        ("WRONGPASS", new("Redis refuses the password.", 10)),
        ("NOPERM", new("Redis does not permit what is needed.", 10)),
        ("UNBLOCKED", new("Redis is changing roles.", 1)),
        ("BUSY", new("Redis is busy.", 1, Refuses: true)),
    ];

    // What a server says where the mistake is ours: a script that is wrong, keys that hold something else, a server without what is
    // needed.
    private static readonly string[] Mistakes =
    [
        WrongType, Damaged, "CROSSSLOT", "user_script", "unknown command", "unknown subcommand", "wrong number of arguments",
            "Wrong number of args", "syntax error", "Protocol error",
    ];

    private const string WrongType = "WRONGTYPE";

    // What our scripts say where they find something that is none of ours.
    private const string Damaged = "DAMAGED";

    /// <summary>Whether what is stored under the keys is not what is stored there: somebody else wrote it, or it is damaged.</summary>
    public static bool IsDamage(Exception e) =>
        e is RedisServerException server
        && (server.Message.Contains(WrongType, StringComparison.Ordinal) || server.Message.Contains(Damaged, StringComparison.Ordinal));

    /// <summary>Whether this is the server's or the network's trouble, rather than a mistake of ours.</summary>
    /// <remarks>
    /// To be asked of what the driver throws, and nothing else: it has many types for a connection that is lost, being given up or not
    /// there yet, and for a server that
    /// has changed its role. No command is given a token, so one that was cancelled was so by the driver. What a server says in words that
    /// are not known
    /// is taken for trouble too: proxies and managed services have their own.
    /// </remarks>
    public static bool IsTrouble(Exception e) => e is RedisServerException server
        ? Find(server) is not null || !Array.Exists(Mistakes, mistake => server.Message.Contains(mistake, StringComparison.Ordinal))
        : e is not ArgumentException;

    /// <summary>Whether the command has certainly not been carried out, so that it may be sent again.</summary>
    public static bool WasNotCarriedOut(Exception e) => e switch
    {
        ServerUnresponsiveException => true,
        RedisConnectionException connection => connection.CommandStatus is CommandStatus.WaitingToBeSent or CommandStatus.WaitingInBacklog,
        RedisServerException server => Find(server) is { Refuses: true },
        _ => false,
    };

    /// <summary>Whether what ended in this trouble may have been carried out all the same, and only the answer was lost.</summary>
    public static bool MayHaveBeenCarriedOut(StoreUnavailableException e) =>
        e.InnerException is not { } reason || !WasNotCarriedOut(reason);

    /// <summary>The trouble as the caller of a store gets it.</summary>
    public static StoreUnavailableException ToUnavailable(Exception e)
    {
        var (text, seconds) = e switch
        {
            RedisServerException server => Find(server) is { } state
                ? (state.Text, state.RetrySeconds) : ("Redis answered with an error.", 2),
            TimeoutException => ("Redis did not answer in time.", 1),
            ServerUnresponsiveException => ("Redis does not answer.", 1),
            _ => ("Redis can't be reached.", 1),
        };
        return new StoreUnavailableException(text, TimeSpan.FromSeconds(seconds), e)
        {
            WasKnown = e is ServerUnresponsiveException
                or RedisConnectionException { FailureType: ConnectionFailureType.UnableToResolvePhysicalConnection },
        };
    }

    // An error inside a script comes with the script's name before or behind it.
    private static State? Find(RedisServerException e)
    {
        foreach (var (word, state) in States)
        {
            var at = e.Message.IndexOf(word, StringComparison.Ordinal);
            if (at >= 0 && (at == 0 || !char.IsLetterOrDigit(e.Message[at - 1]))
                && (at + word.Length == e.Message.Length || !char.IsLetterOrDigit(e.Message[at + word.Length])))
            {
                return state;
            }
        }

        return null;
    }

    private sealed record State(string Text, int RetrySeconds, bool Refuses = false);
}
