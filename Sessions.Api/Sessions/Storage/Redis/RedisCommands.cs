using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Net;
using Polly;
using Polly.CircuitBreaker;
using Polly.Retry;
using StackExchange.Redis;

namespace Sessions.Api;

/// <summary>
/// The way of every command to Redis. Trouble becomes <see cref="StoreUnavailableException"/>; and a server that hangs is left alone: after a command that was
/// not answered in time the next ones fail at once, except for one now and then that finds out whether it answers again. Without that, each of those who queue
/// for a session would wait for a time-out of its own.
/// </summary>
internal sealed partial class RedisCommands
{
    // How long a server is left alone before the next one tries.
    private static readonly TimeSpan BreakDuration = TimeSpan.FromMilliseconds(500);

    // For how long, at the least, what must not get lost is tried again.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan PatientDelay = TimeSpan.FromMilliseconds(100);

    private static readonly ResiliencePipeline Patient = new ResiliencePipelineBuilder().AddRetry(new RetryStrategyOptions
    {
        ShouldHandle = arguments => ValueTask.FromResult(MayTryAgain(arguments.Outcome.Exception)),
        MaxRetryAttempts = (int)(Patience / PatientDelay),
        Delay = PatientDelay,
    }).Build();

    private readonly IDatabase _database;
    private readonly ILogger<RedisCommands> _logger;
    private readonly Counter<long> _refused;

    // One for each server: of a cluster, the others go on.
    private readonly ConcurrentDictionary<EndPoint, Circuit> _circuits = new();

    public RedisCommands(IDatabase database, IMeterFactory meters, ILogger<RedisCommands> logger)
    {
        _database = database;
        _logger = logger;
        var meter = meters.Create(SessionMetrics.MeterName);
        _refused = meter.CreateCounter<long>("sessions.redis.refused", "{command}", "Commands that were not sent because the server does not answer.");
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
        meter.CreateObservableGauge("sessions.redis.unresponsive", () => Unresponsive, "{server}", "Redis servers that do not answer, and are left alone.");
    }

    /// <summary>How many servers do not answer at the moment.</summary>
    public int Unresponsive => _circuits.Values.Count(circuit => circuit.State.CircuitState is not CircuitState.Closed);

    /// <summary>Runs a script.</summary>
    /// <exception cref="StoreUnavailableException">There is trouble with the server of these keys.</exception>
    public Task<RedisResult> ScriptAsync(RedisScript script, RedisKey[] keys, RedisValue[] values) =>
        RunAsync(keys[0], (script, keys, values), static (database, circuit, x) => EvaluateAsync(database, circuit, x.script, x.keys, x.values));

    /// <summary>Runs a script that must not get lost for a short while of trouble: as long as it certainly was not carried out, it is tried again, within seconds.</summary>
    /// <inheritdoc cref="ScriptAsync"/>
    public async Task<RedisResult> ScriptPatientlyAsync(RedisScript script, RedisKey[] keys, RedisValue[] values)
    {
        try
        {
            return await ScriptAsync(script, keys, values);
        }
        catch (StoreUnavailableException e) when (MayTryAgain(e))
        {
            await Task.Delay(PatientDelay);
            return await Patient.ExecuteAsync(static async (x, _) => await x.This.ScriptAsync(x.script, x.keys, x.values), (This: this, script, keys, values));
        }
    }

    /// <summary>Moves an entry of an index that is there, and not backwards.</summary>
    /// <returns>Whether it has moved.</returns>
    /// <inheritdoc cref="ScriptAsync"/>
    public Task<bool> MoveAsync(RedisKey index, RedisValue entry, long score) => RunAsync(
        index, (index, entry, score), static (database, _, x) => database.SortedSetUpdateAsync(x.index, x.entry, x.score, SortedSetWhen.Exists | SortedSetWhen.GreaterThan));

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

    private async Task<T> RunAsync<T, TState>(RedisKey key, TState state, Func<IDatabase, Circuit?, TState, Task<T>> command)
    {
        try
        {
            var circuit = CircuitOf(key);
            if (circuit is { State.CircuitState: not CircuitState.Closed })
            {
                return await circuit.Pipeline.ExecuteAsync(static (x, _) => new ValueTask<T>(x.command(x._database, x.circuit, x.state)), (command, _database, circuit, state));
            }

            try
            {
                return await command(_database, circuit, state);
            }
            catch (TimeoutException e) when (circuit is not null)
            {
                circuit.Failed(e);
                throw;
            }
        }
        catch (Exception e) when (RedisFailure.IsTrouble(e))
        {
            if (e is BrokenCircuitException)
            {
                _refused.Add(1);
            }

            throw RedisFailure.ToUnavailable(e);
        }
    }

    // By its hash, once the driver has loaded it: it would look for the whole text among those it has loaded, each time.
    private static async Task<RedisResult> EvaluateAsync(IDatabase database, Circuit? circuit, RedisScript script, RedisKey[] keys, RedisValue[] values)
    {
        if (circuit is null || (!circuit.Loaded.ContainsKey(script) && circuit.Loaded.TryAdd(script, true)))
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

    private static bool MayTryAgain(Exception? e) => e is StoreUnavailableException { InnerException: { } reason } && RedisFailure.WasNotCarriedOut(reason);

    // Null: there is no connection. The command will say so, and why.
    private Circuit? CircuitOf(RedisKey key)
    {
        EndPoint server;
        try
        {
            server = _database.Multiplexer.GetServer(key).EndPoint;
        }
        catch (InvalidOperationException)
        {
            return null;
        }

        return _circuits.TryGetValue(server, out var circuit) ? circuit : _circuits.GetOrAdd(server, NewCircuit);
    }

    private Circuit NewCircuit(EndPoint server)
    {
        var name = $"{server}";
        CircuitBreakerStateProvider state = new();
        CircuitBreakerStrategyOptions options = new()
        {
            StateProvider = state,

            // A single time-out will do: a server works off one command after the other, so all the others wait too. A lost connection needs no breaker: without one, commands fail at once.
            ShouldHandle = static arguments => ValueTask.FromResult(arguments.Outcome.Exception is TimeoutException),
            FailureRatio = 0,
            MinimumThroughput = Circuit.MinimumThroughput,
            BreakDuration = BreakDuration,
            OnOpened = _ =>
            {
                Log.Opened(_logger, name);
                return default;
            },
            OnClosed = _ =>
            {
                Log.Closed(_logger, name);
                return default;
            },
        };
        return new Circuit(new ResiliencePipelineBuilder().AddCircuitBreaker(options).Build(), state);
    }

    // Commands go past a pipeline that lets everything through: it costs several times what they do. It is only told of those that fail.
    private sealed record Circuit(ResiliencePipeline Pipeline, CircuitBreakerStateProvider State)
    {
        /// <summary>Scripts that were sent there with their texts, in front of what comes after.</summary>
        public ConcurrentDictionary<RedisScript, bool> Loaded { get; } = new();

        // The least that Polly allows.
        public const int MinimumThroughput = 2;

        public void Failed(TimeoutException reason)
        {
            for (var i = 0; i < MinimumThroughput && State.CircuitState == CircuitState.Closed; i++)
            {
                try
                {
                    Pipeline.Execute(() => throw new TimeoutException(reason.Message, reason));
                }
                catch (Exception thrown) when (thrown is TimeoutException or BrokenCircuitException)
                {
                    // The caller throws it.
                }
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 43, Level = LogLevel.Warning, Message = "Redis at {Server} does not answer; until it does, its commands fail at once")]
        public static partial void Opened(ILogger logger, string server);

        [LoggerMessage(EventId = 44, Level = LogLevel.Information, Message = "Redis at {Server} answers again")]
        public static partial void Closed(ILogger logger, string server);

        [LoggerMessage(EventId = 47, Level = LogLevel.Warning, Message = "A connection to Redis is lost ({Reason}); until it is back, commands fail at once")]
        public static partial void Lost(ILogger logger, ConnectionFailureType reason, Exception? exception);

        [LoggerMessage(EventId = 48, Level = LogLevel.Information, Message = "A connection to Redis is back")]
        public static partial void Restored(ILogger logger);

        [LoggerMessage(EventId = 45, Level = LogLevel.Debug, Message = "What would have been forgotten early in Redis will expire: {Reason}")]
        public static partial void NotSent(ILogger logger, string reason);
    }
}
