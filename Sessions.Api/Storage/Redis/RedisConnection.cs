using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>The connection to Redis: opened at the start, and from then on kept by the driver, whatever becomes of the server.</summary>
internal static class RedisConnection
{
    private static readonly TimeSpan CommandTimeout = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan CacheTimeout = TimeSpan.FromMilliseconds(300);
    private static readonly TimeSpan ReconnectInterval = TimeSpan.FromMilliseconds(500);

    /// <summary>Connects, finds out whether this version may use what is there, and registers the connection.</summary>
    /// <exception cref="SettingsException">There is no connection string, it is none, nothing answers there, or what is there has another
    /// layout.</exception>
    public static void AddRedisConnection(this IHostApplicationBuilder builder, RedisKeys keys)
    {
        var connection = Open(RedisConnectionString.Read(builder.Configuration, "sessions.storage_type"),
            RedisConnectionString.NameIn(builder.Configuration));
        RedisLayout.Prepare(connection.GetDatabase(), keys);
        builder.Services.AddSingleton(keys);
        builder.Services.AddSingleton<IConnectionMultiplexer>(_ => connection);
        builder.Services.AddSingleton(connection.GetDatabase());
        builder.Services.AddSingleton<RedisCommands>();
        builder.Services.AddHostedService<RedisEvictionWarning>();
    }

    internal static ConnectionMultiplexer Open(ConfigurationOptions options, string name)
    {
        Configure(options);
        try
        {
            return ConnectionMultiplexer.Connect(options);
        }
        catch (Exception e) when (e is RedisException or System.Net.Sockets.SocketException or ArgumentException)
        {
            var reason = e is RedisConnectionException { FailureType: ConnectionFailureType.AuthenticationFailure }
                ? "refuses the password" : "does not answer";
            throw new SettingsException(
                $"ConnectionStrings:{name}: Redis at {string.Join(", ", options.EndPoints.Select(EndPointCollection.ToString))} {reason}; "
                + "sessions.storage_type: redis does not start without it.");
        }
    }

    /// <summary>Connects to a Redis that may be away: then the connection comes about when it is there. Whoever has another way to go on
    /// does not wait long for an answer.</summary>
    public static ConnectionMultiplexer OpenForCache(ConfigurationOptions options)
    {
        Configure(options);
        options.AbortOnConnectFail = false;
        options.AsyncTimeout = (int)CacheTimeout.TotalMilliseconds;

        // The driver looks for what is overdue at this interval.
        options.HeartbeatInterval = CacheTimeout / 2;
        return ConnectionMultiplexer.Connect(options);
    }

    // Trouble is told within seconds, and nothing piles up meanwhile: while there is no connection, commands fail at once.
    private static void Configure(ConfigurationOptions options)
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
    }
}
