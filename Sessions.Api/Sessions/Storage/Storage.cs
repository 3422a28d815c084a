using System.Diagnostics.CodeAnalysis;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Chooses the store that <c>sessions.storage_type</c> names. There is no falling back from one to another.</summary>
internal static class Storage
{
    /// <summary>Registers the store and what is made of it.</summary>
    public static WebApplicationBuilder AddSessions(this WebApplicationBuilder builder)
    {
        var options = builder.AddSettings<SessionSettings>(SessionSettings.Section);
        builder.Services.TryAddSingleton(TimeProvider.System);
        builder.Services.AddSingleton<SessionMetrics>();
        builder.Services.AddSingleton<CleanupSchedule>();
        builder.Services.AddHostedService(services => services.GetRequiredService<CleanupSchedule>());
        builder.Services.AddHealthChecks().AddCheck<StoreHealthCheck>("store");
        if (options.Cache != CacheType.None && options.StorageType != StorageType.Sqlite)
        {
            throw new SettingsException(
                $"sessions.cache: '{Settings.NameOf(options.Cache)}' is not allowed with sessions.storage_type: {Settings.NameOf(options.StorageType)}; it is for storage_type: sqlite.");
        }

        switch (options.StorageType)
        {
            case StorageType.Memory:
                builder.Services.AddStore<MemorySessionStore>(options);
                break;
            case StorageType.Sqlite:
                // Now, so that a file that can't be used is said before anything starts.
                builder.Services.AddSingleton(SqliteFile.Prepare(SqliteFile.Locate(options.DbPath, YamlConfiguration.BaseFolder(builder.Configuration))));
                builder.Services.AddSingleton<SqliteSessionStore>().AddStore<CachedSessionStore>(options);
                if (options.Cache == CacheType.Redis)
                {
                    builder.AddTurnCache();
                }
                else
                {
                    builder.Services.AddSingleton<ITurnCache, MemoryTurnCache>();
                }

                break;
            case StorageType.Redis:
                // Now, so that a Redis that can't be reached is said before anything starts.
                builder.AddRedisConnection();
                builder.Services.AddSingleton<ITurnCache, MemoryTurnCache>().AddStore<RedisSessionStore>(options);
                break;
        }

        builder.AddEncryption(options);
        return builder;
    }

    private static void AddTurnCache(this WebApplicationBuilder builder)
    {
        // Now, so that a connection string that is none is said before anything starts.
        var connection = RedisConnection.OpenForCache(builder.Configuration.GetConnectionString(RedisConnection.Name));
        builder.Services.AddSingleton(all => ActivatorUtilities.CreateInstance<TurnCache>(all, connection, "")).AddSingleton<ITurnCache>(all => all.GetRequiredService<TurnCache>());
        builder.Services.AddHealthChecks().AddCheck<TurnCacheHealthCheck>("cache");
    }

    private static void AddStore<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicConstructors)] TStore>(this IServiceCollection services, SessionSettings options) where TStore : class, ISessionStore
    {
        services.AddSingleton<TStore>();
        services.AddSingleton<ISessionStore>(all =>
        {
            ISessionStore store = all.GetRequiredService<TStore>();
            if (all.GetService<UserKeyRing>() is { } ring)
            {
                store = new EncryptedSessionStore(store, ring);
            }

            return new MeteredSessionStore(store, Settings.NameOf(options.StorageType), all.GetRequiredService<IMeterFactory>());
        });

        // Counts on the store itself: what no client asked for is not to be seen among what clients asked for.
        services.AddSingleton(all => ActivatorUtilities.CreateInstance<ActiveSessions>(all, all.GetRequiredService<TStore>()));
    }

    private sealed class TurnCacheHealthCheck(TurnCache cache) : IHealthCheck
    {
        public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) => cache.CheckHealthAsync(cancellationToken);
    }

    private sealed class StoreHealthCheck(ISessionStore store) : IHealthCheck
    {
        public async Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
            await store.CheckHealthAsync(cancellationToken);
    }
}
