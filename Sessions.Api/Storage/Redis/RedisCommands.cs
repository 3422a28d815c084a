using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Net;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>
/// The way of every command to Redis, of the sessions and of whatever else is kept there. Trouble becomes <see
/// cref="StoreUnavailableException"/>; a server that hangs is left alone
/// (<see cref="RedisCircuit"/>): without that, each of those who queue for a session would wait for a time-out of its own.
/// </summary>
internal sealed partial class RedisCommands
{
    private const string MeterName = "Sessions";

    // For how long, at the least, what must not get lost is tried again.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan PatientDelay = TimeSpan.FromMilliseconds(100);

    private readonly IDatabase _database;
    private readonly ILogger<RedisCommands> _logger;
    private readonly Counter<long> _refused;

    // One for each server: of a cluster, the others go on.
    private readonly ConcurrentDictionary<EndPoint, Server> _servers = new();

    public RedisCommands(IDatabase database, IMeterFactory meters, ILogger<RedisCommands> logger)
    {
        _database = database;
        _logger = logger;
        IsCluster = database.Multiplexer.GetServers().Any(server => server.ServerType == ServerType.Cluster);
        var meter = meters.Create(MeterName);
        _refused = meter.CreateCounter<long>("sessions.redis.refused", "{command}",
            "Commands that were not sent because the server does not answer.");
        database.Multiplexer.ConnectionFailed += (_, failed) =>
        {
            // The other connection, for subscriptions, is not used.
            if (failed.ConnectionType == ConnectionType.Interactive)
            {
                Log.Lost(logger, failed.FailureType, failed.Exception);
            }
        };
        database.Multiplexer.ConnectionRestored += (_, restored) =>
        {
            if (restored.ConnectionType == ConnectionType.Interactive)
            {
                Log.Restored(logger);
            }
        };
        meter.CreateObservableGauge("sessions.redis.unresponsive", () =>
            Unresponsive, "{server}", "Redis servers that do not answer, and are left alone.");
    }

    /// <summary>
    /// Whether there are several servers, each with a part of the keys: then commands on different keys are carried out in any order.
    /// </summary>
    public bool IsCluster { get; }

    /// <summary>After how long a command is taken for lost. The driver ends each much earlier, unless it has lost it itself with a
    /// connection that broke: nobody would ever be told.</summary>
    public TimeSpan LostAfter { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>How many servers do not answer at the moment.</summary>
    public int Unresponsive => _servers.Values.Count(server => server.Circuit.IsOpen);

    /// <summary>Runs a script.</summary>
    /// <exception cref="StoreUnavailableException">There is trouble with the server of these keys.</exception>
    /// <exception cref="RedisServerException">The mistake is ours, or something else is stored there: see <see
    /// cref="RedisFailure.IsDamage"/>.</exception>
    public Task<RedisResult> ScriptAsync(RedisScript script, RedisKey[] keys, RedisValue[] values) =>
        RunAsync(keys[0], (script, keys, values), static (database, server, x) =>
            EvaluateAsync(database, server, x.script, x.keys, x.values));

    /// <summary>
    /// Runs a script that must not get lost for a short while of trouble: as long as it certainly was not carried out, it is tried again,
    /// within seconds.
    /// </summary>
    /// <inheritdoc cref="ScriptAsync"/>
    public async Task<RedisResult> ScriptPatientlyAsync(RedisScript script, RedisKey[] keys, RedisValue[] values)
    {
        var started = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                return await ScriptAsync(script, keys, values);
            }
            catch (StoreUnavailableException e) when (
                !RedisFailure.MayHaveBeenCarriedOut(e) && Stopwatch.GetElapsedTime(started) < Patience)
            {
                await Task.Delay(PatientDelay);
            }
        }
    }

    /// <summary>Runs a command.</summary>
    /// <inheritdoc cref="ScriptAsync"/>
    public Task<T> RunAsync<T>(RedisKey key, Func<IDatabase, RedisKey, Task<T>> command) =>
        RunAsync(key, (key, command), static (database, _, x) => x.command(database, x.key));

    /// <summary>Sends what nobody waits for. What gets lost expires by itself.</summary>
    public void Send(Action<IDatabase> command)
    {
        try
        {
            command(_database);
        }
        catch (Exception e)
        {
            // Whatever it is, what the caller is doing or about to be told matters more.
            Log.NotSent(_logger, e.Message);
        }
    }

    private async Task<T> RunAsync<T, TState>(RedisKey key, TState state, Func<IDatabase, Server?, TState, Task<T>> command)
    {
        var server = ServerOf(key);
        try
        {
            server?.Circuit.Enter();
            var answer = await command(_database, server, state).WaitAsync(LostAfter);
            Answered(server);
            return answer;
        }
        catch (Exception e)
        {
            Failed(server, e);

            if (RedisFailure.IsTrouble(e))
            {
                throw RedisFailure.ToUnavailable(e);
            }

            throw;
        }
    }

    private void Failed(Server? server, Exception reason)
    {
        switch (reason)
        {
            case ServerUnresponsiveException:
                _refused.Add(1);
                break;
            case RedisServerException:
                Answered(server);
                break;
            case TimeoutException:
                if (server is not null && server.Circuit.TimedOut())
                {
                    Log.Opened(_logger, server.Name);
                }

                break;
            default:
                server?.Circuit.Close();
                break;
        }
    }

    private void Answered(Server? server)
    {
        if (server is not null && server.Circuit.Answered())
        {
            Log.Closed(_logger, server.Name);
        }
    }

    // By its hash, once the driver has loaded it: it would look for the whole text among those it has loaded, each time.
    private static async Task<RedisResult> EvaluateAsync(
        IDatabase database, Server? server, RedisScript script, RedisKey[] keys, RedisValue[] values)
    {
        if (server is null || (!server.Loaded.ContainsKey(script) && server.Loaded.TryAdd(script, true)))
        {
            return await database.ScriptEvaluateAsync(script.Text, keys, values);
        }

        try
        {
            return await database.ScriptEvaluateAsync(script.Hash, keys, values);
        }
        catch (RedisServerException e) when (e.Message.StartsWith("NOSCRIPT", StringComparison.Ordinal))
        {
            return await database.ScriptEvaluateAsync(script.Text, keys, values);
        }
    }

    // Null: there is no connection. The command will say so, and why.
    private Server? ServerOf(RedisKey key)
    {
        EndPoint endPoint;
        try
        {
            endPoint = _database.Multiplexer.GetServer(key).EndPoint;
        }
        catch (InvalidOperationException)
        {
            return null;
        }

        return _servers.TryGetValue(endPoint, out var server)
            ? server : _servers.GetOrAdd(endPoint, static endPoint => new Server($"{endPoint}"));
    }

    private sealed record Server(string Name)
    {
        public RedisCircuit Circuit { get; } = new();

        /// <summary>Scripts that were sent there with their texts, in front of what comes after.</summary>
        public ConcurrentDictionary<RedisScript, bool> Loaded { get; } = new();
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 43, Level = LogLevel.Warning,
            Message = "Redis at {Server} does not answer; until it does, its commands fail at once")]
        public static partial void Opened(ILogger logger, string server);

        [LoggerMessage(EventId = 44, Level = LogLevel.Information, Message = "Redis at {Server} answers again")]
        public static partial void Closed(ILogger logger, string server);

        [LoggerMessage(EventId = 47, Level = LogLevel.Warning,
            Message = "A connection to Redis is lost ({Reason}); until it is back, commands fail at once")]
        public static partial void Lost(ILogger logger, ConnectionFailureType reason, Exception? exception);

        [LoggerMessage(EventId = 48, Level = LogLevel.Information, Message = "A connection to Redis is back")]
        public static partial void Restored(ILogger logger);

        [LoggerMessage(EventId = 45, Level = LogLevel.Debug,
            Message = "What would have been forgotten early in Redis will expire: {Reason}")]
        public static partial void NotSent(ILogger logger, string reason);
    }
}
