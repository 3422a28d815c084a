using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>Says it at the start where Redis, once it is full, is set to throw away sessions that have not expired.</summary>
internal sealed partial class RedisEvictionWarning(IConnectionMultiplexer redis, ILogger<RedisEvictionWarning> logger) : BackgroundService
{
    private const string Safe = "noeviction";

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        foreach (var server in redis.GetServers())
        {
            var name = EndPointCollection.ToString(server.EndPoint);
            try
            {
                // Not CONFIG, which managed services do not permit. By its name: the driver keeps its own method for those who may do
                // everything.
                var memory = (string?)await server.ExecuteAsync("INFO", "memory").WaitAsync(stoppingToken) ?? "";
                if (Find(memory, "maxmemory_policy") is not (null or Safe) and var policy
                    && Find(memory, "maxmemory") is not (null or "0"))
                {
                    Log.Evicts(logger, name, policy);
                }
                else
                {
                    Log.Keeps(logger, name);
                }
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                // Away, or not permitted: others tell of the former, and the latter does no harm. Whatever it is, the server starts.
                Log.NotKnown(logger, name, e.Message);
            }
        }
    }

    private static string? Find(string info, string field)
    {
        foreach (var line in info.AsSpan().EnumerateLines())
        {
            if (line.Length > field.Length && line[field.Length] == ':' && line.StartsWith(field, StringComparison.Ordinal))
            {
                return line[(field.Length + 1)..].ToString();
            }
        }

        return null;
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 49, Level = LogLevel.Warning,

            Message = "Redis at {Server} will throw sessions away when it is full, before they expire (maxmemory-policy: {Policy}). "
                + "Set maxmemory-policy noeviction. See docs/redis.md")]
        public static partial void Evicts(ILogger logger, string server, string policy);

        [LoggerMessage(EventId = 51, Level = LogLevel.Debug, Message = "Redis at {Server} keeps sessions until they expire")]
        public static partial void Keeps(ILogger logger, string server);

        [LoggerMessage(EventId = 50, Level = LogLevel.Debug,
            Message = "What Redis at {Server} does when it is full is not known: {Reason}")]
        public static partial void NotKnown(ILogger logger, string server, string reason);
    }
}
