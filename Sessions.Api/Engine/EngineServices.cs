using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Engine.Streams;
using Sessions.Api.Storage;
using Sessions.Api.Storage.Memory;
using Sessions.Api.Storage.Postgres;
using Sessions.Api.Storage.Redis;
using Sessions.Api.Storage.Sqlite;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Api.Engine;

/// <summary>Registers the engine on the store that <c>sessions.storage_type</c> names. There is no falling back from one to
/// another.</summary>
internal static class EngineServices
{
    /// <summary>Registers sessions: the store, what is above it, and what looks after them.</summary>
    /// <exception cref="SettingsException">The settings don't go together, or the store can't be had.</exception>
    public static TBuilder AddSessions<TBuilder>(this TBuilder builder) where TBuilder : IHostApplicationBuilder
    {
        var settings = builder.AddSettings<SessionSettings>(SessionSettings.Section);
        var responses = builder.AddSettings<ResponseSettings>(ResponseSettings.Section);
        var services = builder.Services;
        services.TryAddSingleton(TimeProvider.System);
        services.AddSingleton<SessionMetrics>();
        services.AddSingleton<RunningTurns>();
        services.AddSingleton<LogEvents>();
        services.AddSingleton(all => PolicyOf(settings, responses, all));
        builder.AddStore(settings);
        builder.AddSealing(settings, responses);
        services.AddSingleton(all => LogOf(settings, all));
        services.AddSingleton<ActiveSessions>();
        services.AddSingleton<CleanupSchedule>();
        services.AddHostedService(all => all.GetRequiredService<CleanupSchedule>());
        services.AddHealthChecks().AddCheck<LogHealthCheck>("store");
        return builder;
    }

    /// <summary>Registers turns: agents, the queue in front of sessions, streams.</summary>
    public static TBuilder AddTurns<TBuilder>(this TBuilder builder) where TBuilder : IHostApplicationBuilder
    {
        builder.AddAgents(builder.AddSettings<AgentsSettings>(AgentsSettings.Section));
        builder.AddSettings<StreamingSettings>(StreamingSettings.Section);
        var services = builder.Services;
        services.AddSingleton<TurnGate>();
        services.AddSingleton<TurnMetrics>();
        services.AddSingleton<FinalFailures>();
        services.AddSingleton<TurnRunner>();
        services.AddSingleton<TurnContexts>();
        services.AddSingleton<ServerActivity>();
        services.AddSingleton<StreamedTurns>();
        services.AddHostedService(all => all.GetRequiredService<StreamedTurns>());
        return builder;
    }

    private static void AddStore(this IHostApplicationBuilder builder, SessionSettings settings)
    {
        var services = builder.Services;
        switch (settings.StorageType)
        {
            case StorageType.Memory:
                services.AddSingleton<ISessionStore, MemorySessionStore>();
                break;
            case StorageType.Sqlite:
                // Now, so that a file that can't be used is said before anything starts.
                var path = SqliteFile.Locate(settings.DbPath, YamlConfiguration.BaseFolder(builder.Configuration));
                services.AddSingleton(SqliteFile.Prepare(path));
                services.AddSingleton<ISessionStore, SqliteSessionStore>();
                if (settings.Cache == CacheType.Redis)
                {
                    builder.AddSharedTail(settings);
                }

                break;
            case StorageType.Redis:
                // Now, so that a Redis that can't be reached is said before anything starts.
                builder.AddRedisConnection(new RedisKeys());
                services.AddSingleton<ISessionStore, RedisSessionStore>();
                break;
            case StorageType.Postgres:
                // Now, so that a PostgreSQL that can't be used is said before anything starts.
                builder.AddPostgresConnection();
                services.AddSingleton<ISessionStore, PostgresSessionStore>();
                break;
        }
    }

    private static void AddSharedTail(this IHostApplicationBuilder builder, SessionSettings settings)
    {
        // Now, so that a connection string that is none is said before anything starts.
        var connection = RedisConnection.OpenForCache(RedisConnectionString.Read(builder.Configuration, "sessions.cache"));
        builder.Services.AddSingleton(all => new SharedTail(
            connection, RedisKeys.DefaultPrefix, settings.Timeout, all.GetRequiredService<ILogger<SharedTail>>()));
        builder.Services.AddHealthChecks().AddCheck<SharedTailHealthCheck>("cache");
    }

    private static void AddSealing(this IHostApplicationBuilder builder, SessionSettings settings, ResponseSettings responses)
    {
        var services = builder.Services;
        var encryption = builder.AddSettings<EncryptionSettings>(EncryptionSettings.Section);
        if (settings.StorageType == StorageType.Memory)
        {
            return;
        }

        services.AddSingleton<IUserKeys>(all => settings.StorageType switch
        {
            StorageType.Redis => new RedisUserKeys(
                all.GetRequiredService<RedisCommands>(), all.GetRequiredService<IDatabase>(), RedisKeys.DefaultPrefix,
                all.GetRequiredService<TimeProvider>()),
            StorageType.Postgres => new PostgresUserKeys(all.GetRequiredService<PostgresDatabase>()),
            _ => new SqliteUserKeys(all.GetRequiredService<SqliteFile>().Path),
        });

        if (encryption.Enabled)
        {
            services.AddSingleton(MasterKeys.Read(
                encryption.KeyFile, encryption.MasterKey, YamlConfiguration.BaseFolder(builder.Configuration)));
            services.AddSingleton(all => new UserKeyRing(
                all.GetRequiredService<IUserKeys>(), all.GetRequiredService<MasterKeys>(), Longest(settings.Timeout, responses.Timeout),
                all.GetRequiredService<TimeProvider>()));
            services.AddSingleton(all => new Sealer(all.GetRequiredService<UserKeyRing>(), all.GetRequiredService<StorePolicy>().Damage));
        }

        services.AddHostedService<SealingCheck>();
    }

    private static TimeSpan Longest(TimeSpan one, TimeSpan other) => one > other ? one : other;

    private static StorePolicy PolicyOf(SessionSettings settings, ResponseSettings responses, IServiceProvider all)
    {
        var limits = all.GetRequiredService<LimitSettings>();
        var metrics = all.GetRequiredService<SessionMetrics>();
        var events = all.GetRequiredService<LogEvents>();
        var logger = all.GetRequiredService<ILogger<SessionLog>>();
        return new StorePolicy
        {
            Lifetime = kind => kind == SessionKind.Chain ? responses.Timeout : settings.Timeout,
            MaxPerUser = kind => kind switch
            {
                SessionKind.Session => settings.MaxSessionsPerUser,
                SessionKind.Conversation => settings.MaxConversationsPerUser,
                _ => 0,
            },
            ChainBytesPerOwner = limits.ResponsesBytesPerUser,
            UnownedBytes = limits.UnownedBytes,
            StoredBytes = settings.StorageType == StorageType.Memory ? limits.StoredBytes : 0,
            IsRunning = all.GetRequiredService<RunningTurns>().IsRunning,
            // What is sealed is no JSON yet.
            Inspect = all.GetService<MasterKeys>() is null ? StoredJson.Check : _ => { },
            Damage = new DamageReport { OnFirst = (what, reason) => EngineLog.Damaged(logger, what, reason) },
            Events = new StoreEvents
            {
                Created = metrics.Created,
                Expired = metrics.Expired,
                Evicted = metrics.Evicted,
                Removed = events.RemovedAsync,
            },
        };
    }

    private static SessionLog LogOf(SessionSettings settings, IServiceProvider all)
    {
        var meters = all.GetRequiredService<IMeterFactory>();
        return new SessionLog(all.GetRequiredService<ISessionStore>(), new SessionLogOptions
        {
            Policy = all.GetRequiredService<StorePolicy>(),
            Events = all.GetRequiredService<LogEvents>(),
            Tail = settings.StorageType == StorageType.Memory
                ? null : new HistoryTail(all.GetRequiredService<TimeProvider>(), meters, all.GetService<SharedTail>()),
            Sealer = all.GetService<Sealer>(),
            Meter = new StoreMeter(Settings.NameOf(settings.StorageType), meters),
        });
    }

    private sealed class SharedTailHealthCheck(SharedTail tail) : IHealthCheck
    {
        public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
            tail.CheckAsync(cancellationToken);
    }

    private sealed class LogHealthCheck(SessionLog log) : IHealthCheck
    {
        public async Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
            await log.CheckAsync(cancellationToken);
    }

    // Before anything is served: whether keys, settings and what is stored go together.
    private sealed class SealingCheck(IServiceProvider services) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken) => services.CheckSealingAsync(cancellationToken);

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    /// <summary>Looks whether keys, settings and what is stored go together.</summary>
    /// <exception cref="SettingsException">They do not.</exception>
    public static async Task CheckSealingAsync(this IServiceProvider services, CancellationToken cancellationToken)
    {
        if (services.GetService<UserKeyRing>() is { } ring)
        {
            await SealingStart.CheckAsync(services.GetRequiredService<ISessionStore>(), ring, cancellationToken);
        }
        else if (services.GetService<SqliteFile>() is { } file)
        {
            // The file of the keys alone tells: it is not to be made for the question.
            if (SqliteUserKeys.Exists(file.Path))
            {
                throw SealingStart.EncryptionIsOff();
            }
        }
        else if (services.GetService<IUserKeys>() is { } keys)
        {
            await SealingStart.CheckWithoutAsync(keys, cancellationToken);
        }
    }
}

/// <summary>What the engine says of the store.</summary>
internal static partial class EngineLog
{
    [LoggerMessage(EventId = 12, Level = LogLevel.Error, Message = "{What} can't be read in the store; it stays as it is")]
    public static partial void Damaged(ILogger logger, string what, Exception? exception);
}
