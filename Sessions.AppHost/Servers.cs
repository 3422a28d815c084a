using Microsoft.Extensions.Configuration;
using Sessions.ServiceDefaults;

namespace Sessions.AppHost;

/// <summary>
/// The servers that replicas of the API share: one that runs already, by its connection string, or else one in a container. To keep
/// sessions it has a volume and goes on running when the AppHost ends.
/// </summary>
internal static class Servers
{
    /// <summary>The Redis; one that is a cache only (not <paramref name="durable"/>) keeps nothing and ends with the AppHost.</summary>
    public static IResourceBuilder<IResourceWithConnectionString> AddRedisServer(this IDistributedApplicationBuilder builder, bool durable)
    {
        // The name it has for the API alone; the other one is older, and in what has been deployed.
        if (!builder.ExecutionContext.IsPublishMode && builder.IsRunning("redis"))
        {
            return builder.AddConnectionString("redis");
        }

        const string Name = "cache";
        if (builder.IsRunning(Name))
        {
            return builder.AddConnectionString(Name);
        }

        var redis = builder.AddRedis(Name).WithoutTls();
        return durable ? redis.WithDataVolume("sessions-cache").WithAppendOnlyFile().WithLifetime(ContainerLifetime.Persistent) : redis;
    }

    /// <summary>The PostgreSQL: a database for sessions, on a server that is its own resource.</summary>
    public static IResourceBuilder<IResourceWithConnectionString> AddPostgresServer(this IDistributedApplicationBuilder builder)
    {
        const string Name = "postgres";
        return builder.IsRunning(Name)
            ? builder.AddConnectionString(Name)
            : builder.AddPostgres("postgres-server").WithDataVolume("sessions-postgres").WithLifetime(ContainerLifetime.Persistent)
                .AddDatabase(Name, "sessions");
    }

    /// <summary>Has the API wait for <paramref name="server"/> and use it as <paramref name="settings"/> say.</summary>
    public static IResourceBuilder<ProjectResource> WithServer(
        this IResourceBuilder<ProjectResource> api, IResourceBuilder<IResourceWithConnectionString> server, SessionSettings settings)
    {
        if (settings.Cache != CacheType.None)
        {
            api.WithEnvironment("SESSIONS__CACHE", Settings.NameOf(settings.Cache));
        }

        return api.WithEnvironment("SESSIONS__STORAGE_TYPE", Settings.NameOf(settings.StorageType))
            .WithReferenceEnvironment(ReferenceEnvironmentInjectionFlags.ConnectionString)
            .WithReference(server)
            .WaitFor(server);
    }

    /// <summary>Without a certificate: nothing here speaks TLS, and a machine that trusts none is not to be blamed for it.</summary>
    public static IResourceBuilder<T> WithoutTls<T>(this IResourceBuilder<T> resource)
        where T : IResourceWithEnvironment, IResourceWithArgs =>
#pragma warning disable ASPIRECERTIFICATES001 // Experimental; else a warning tells of certificates that nobody uses.
        resource.WithoutHttpsCertificate();
#pragma warning restore ASPIRECERTIFICATES001

    // Where azd deploys there is always one: its connection string is asked for.
    private static bool IsRunning(this IDistributedApplicationBuilder builder, string server) =>
        builder.ExecutionContext.IsPublishMode || !string.IsNullOrWhiteSpace(builder.Configuration.GetConnectionString(server));

    /// <summary>Every write is on the disk before it is answered. Aspire's own persistence alone is a snapshot a minute.</summary>
    private static IResourceBuilder<RedisResource> WithAppendOnlyFile(this IResourceBuilder<RedisResource> redis) =>
        redis.WithArgs("--appendonly", "yes", "--appendfsync", "always");
}
