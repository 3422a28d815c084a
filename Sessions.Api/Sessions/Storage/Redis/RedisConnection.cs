using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Api;

/// <summary>The connection to Redis: opened at the start, and from then on kept by the driver, whatever becomes of the server.</summary>
internal static class RedisConnection
{
    /// <summary>The name of the connection string, and of the resource where Aspire provides it.</summary>
    public const string Name = "cache";

    private static readonly TimeSpan CommandTimeout = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan CacheTimeout = TimeSpan.FromMilliseconds(300);
    private static readonly TimeSpan ReconnectInterval = TimeSpan.FromMilliseconds(500);

    /// <summary>Connects, and registers the connection.</summary>
    /// <exception cref="SettingsException">There is no connection string, it is none, or nothing answers there.</exception>
    public static void AddRedisConnection(this IHostApplicationBuilder builder)
    {
        var connection = Open(builder.Configuration.GetConnectionString(Name));
        builder.Services.AddSingleton<IConnectionMultiplexer>(_ => connection);
        builder.Services.AddSingleton(connection.GetDatabase());
        builder.Services.AddSingleton<RedisCommands>();
        builder.Services.AddHostedService<RedisEvictionWarning>();
    }

    /// <summary>Connects.</summary>
    /// <inheritdoc cref="AddRedisConnection"/>
    public static ConnectionMultiplexer Open(string? connectionString)
    {
        var options = Configure(Parse(connectionString, "sessions.storage_type"));
        try
        {
            return ConnectionMultiplexer.Connect(options);
        }
        catch (RedisConnectionException e)
        {
            var reason = e.FailureType == ConnectionFailureType.AuthenticationFailure ? "refuses the password" : "does not answer";
            throw new SettingsException($"ConnectionStrings:{Name}: Redis at {string.Join(", ", options.EndPoints)} {reason}; sessions.storage_type: redis does not start without it.");
        }
    }

    /// <summary>Connects to a Redis that may be away: then the connection comes about when it is there. Whoever has another way to go on does not wait long for an answer.</summary>
    /// <exception cref="SettingsException">There is no connection string, or it is none.</exception>
    public static ConnectionMultiplexer OpenForCache(string? connectionString)
    {
        var options = Configure(Parse(connectionString, "sessions.cache"));
        options.AbortOnConnectFail = false;
        options.AsyncTimeout = (int)CacheTimeout.TotalMilliseconds;

        // The driver looks for what is overdue at this interval.
        options.HeartbeatInterval = CacheTimeout / 2;
        return ConnectionMultiplexer.Connect(options);
    }

    private static ConfigurationOptions Parse(string? connectionString, string setting)
    {
        if (string.IsNullOrWhiteSpace(connectionString))
        {
            throw new SettingsException($"{setting}: redis needs a connection string; set the environment variable ConnectionStrings__{Name}, for example to localhost:6379.");
        }

        try
        {
            return ConfigurationOptions.Parse(connectionString);
        }
        catch (ArgumentException)
        {
            // Not what it says: it quotes the string, which may hold a password.
            throw new SettingsException($"ConnectionStrings:{Name}: is no Redis connection string; allowed: host:port[,host:port…][,password=…][,ssl=true]….");
        }
    }

    // Trouble is told within seconds, and nothing piles up meanwhile: while there is no connection, commands fail at once.
    private static ConfigurationOptions Configure(ConfigurationOptions options)
    {
        options.ClientName ??= "sessions";

        // They would name keys, and with them users.
        options.IncludeDetailInExceptions = false;
        options.ConnectTimeout = (int)CommandTimeout.TotalMilliseconds;
        options.SyncTimeout = options.ConnectTimeout;
        options.AsyncTimeout = options.ConnectTimeout;
        options.AbortOnConnectFail = true;
        options.BacklogPolicy = BacklogPolicy.FailFast;
        options.ReconnectRetryPolicy = new LinearRetry((int)ReconnectInterval.TotalMilliseconds);
        options.HeartbeatInterval = ReconnectInterval;

        // Also bounds how long the driver waits for a server that takes a connection and then says nothing: a minute otherwise.
        options.SocketManager = SocketManager.ThreadPool;
        options.KeepAlive = (int)CommandTimeout.TotalSeconds;
        return options;
    }
}
