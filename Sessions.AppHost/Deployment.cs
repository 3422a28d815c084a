using System.Globalization;
using Aspire.Hosting.Docker.Resources.ServiceNodes;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Hosting;
using Sessions.ServiceDefaults;

namespace Sessions.AppHost;

/// <summary>
/// What the model holds only when it is published: for Azure Container Apps as a manifest that azd deploys, or as files for Docker Compose.
/// docs/deployment.md leads through both.
/// </summary>
internal static class Deployment
{
    private const string DataVolume = "sessions-data";
    private const string DataFolder = "/app/data";
    private const int ContainerPort = 8080;

    /// <summary>The <c>sessions:</c> section, found and read exactly as the API does it.</summary>
    public static SessionSettings ReadSettings(string[] args) =>
        Settings.Read<SessionSettings>(new HostApplicationBuilder(args).AddYamlConfiguration().Configuration, SessionSettings.Section);

    /// <summary>How many API processes are to run here; refuses more than the store can serve.</summary>
    public static int ReadReplicas(SessionSettings settings, string? replicas, bool published = false)
    {
        var several = settings.StorageType == StorageType.Redis && !published;
        if (int.TryParse(replicas ?? "1", NumberStyles.None, CultureInfo.InvariantCulture, out var count) && count >= 1 && (count == 1 || several))
        {
            return count;
        }

        var reason = (several, published) switch
        {
            (true, _) => "allowed: 1 or more.",
            (_, true) => "allowed when publishing: 1. On Container Apps, infra/api.tmpl.yaml says how many there may be; with Docker Compose the API publishes one port and runs once.",
            _ => "allowed: 1. Several replicas of the API need a store that they share (storage_type: redis), and "
                + $"{Name(settings)} belongs to one process.",
        };
        throw new SettingsException($"replicas: '{replicas}' is not allowed; {reason}");
    }

    /// <summary>Whether there is a Redis to connect to, so that none is to be started: one that is configured, and always where azd deploys.</summary>
    public static bool HasRedis(this IDistributedApplicationBuilder builder) =>
        builder.IsManifest() || !string.IsNullOrWhiteSpace(builder.Configuration.GetConnectionString("cache"));

    /// <summary>Every write is on the disk before it is answered. Aspire's own persistence alone is a snapshot a minute.</summary>
    public static IResourceBuilder<RedisResource> WithAppendOnlyFile(this IResourceBuilder<RedisResource> redis) => redis.WithArgs(context =>
    {
        string[] options = ["--appendonly", "yes", "--appendfsync", "always"];
        if (context.ExecutionContext.IsPublishMode)
        {
            // The whole command is one argument of a shell there.
            context.Args[^1] = $"{context.Args[^1]} {string.Join(' ', options)}";
            return;
        }

        foreach (var option in options)
        {
            context.Args.Add(option);
        }
    });

    /// <summary>Adds the secret that protects the clean-up route, the store, and the environment that is published to.</summary>
    public static void AddDeployment(
        this IDistributedApplicationBuilder builder, SessionSettings settings, IResourceBuilder<ProjectResource> api, IResourceBuilder<ProjectResource> janitor)
    {
        var key = builder.AddParameter("cleanup-key", new GenerateParameterDefault { MinLength = 32, Special = false }, secret: true);
        janitor.WithEnvironment("SESSIONS__CLEANUP_KEY", key);
        api.WithEnvironment("SESSIONS__CLEANUP_KEY", key)
            .WithEnvironment("SESSIONS__STORAGE_TYPE", Name(settings));

        // azd asks for the manifest. A Compose environment in it would be a resource of a kind that azd refuses.
        if (builder.IsManifest())
        {
            RequireNoNetworkShare(settings);
        }
        else
        {
            builder.AddCompose(settings, api, janitor);
        }
    }

    /// <summary>Refuses to put a SQLite file where Container Apps would have to keep it.</summary>
    public static void RequireNoNetworkShare(SessionSettings settings)
    {
        if (settings.StorageType == StorageType.Sqlite)
        {
            throw new SettingsException(
                "sessions.storage_type: sqlite can't be deployed to Azure Container Apps. The only disk that outlives a container there is a network share "
                + "(Azure Files), where SQLite's locks and its write-ahead log don't work: sessions would be lost or the file damaged. "
                + "Deploy with Docker Compose to a machine with a local disk, or with storage_type: redis, or memory for trying out.");
        }
    }

    private static void AddCompose(
        this IDistributedApplicationBuilder builder, SessionSettings settings, IResourceBuilder<ProjectResource> api, IResourceBuilder<ProjectResource> janitor)
    {
        // No dashboard: its image is a nightly one, and it would be open to all. A collector can be named in the .env file instead.
        var compose = builder.AddDockerComposeEnvironment("compose").WithDashboard(enabled: false);
        foreach (var project in new[] { api, janitor })
        {
            project.WithEndpoint("http", endpoint => endpoint.TargetPort = ContainerPort).PublishAsDockerComposeService((_, service) =>
            {
                service.Image = $"${{{service.Name.ToUpperInvariant()}_IMAGE:-sessions-{service.Name}:latest}}";
                service.Restart = "unless-stopped";
                service.StopGracePeriod = "40s";

                // Nothing is written but the data, which is on a volume; the runtime's own sockets are in /tmp.
                service.ReadOnly = true;
                service.Tmpfs = ["/tmp"];
                service.CapDrop = ["ALL"];
                service.SecurityOpt = ["no-new-privileges:true"];
                service.Environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "${OTEL_EXPORTER_OTLP_ENDPOINT:-}";

                // An empty key would leave the route open to all.
                service.Environment["SESSIONS__CLEANUP_KEY"] = "${CLEANUP_KEY:?set it in .env to a long random text}";
            });
        }

        // Nothing here speaks TLS: that is for the proxy in front.
        janitor.PublishAsDockerComposeService((_, service) => service.Environment.Remove("API_HTTPS"));
        api.PublishAsDockerComposeService((_, service) => service.Ports = [$"${{API_PUBLISHED_PORT:-8080}}:{ContainerPort}"]);
        compose.ConfigureEnvFile(variables => variables.Remove("API_PORT"));
        if (settings.StorageType == StorageType.Sqlite)
        {
            // Whatever db_path is on this machine: the image has this folder, owned by the user it runs as.
            api.WithEnvironment("SESSIONS__DB_PATH", $"{DataFolder}/sessions.db")
                .PublishAsDockerComposeService((_, service) => service.AddVolume(new Volume { Name = DataVolume, Type = "volume", Source = DataVolume, Target = DataFolder }));
            compose.ConfigureComposeFile(file => file.AddVolume(new Volume { Name = DataVolume, Driver = "local" }));
        }

        if (settings.StorageType == StorageType.Redis || settings.Cache == CacheType.Redis)
        {
            builder.RequireRedisSecret(api);
        }
    }

    // What is empty in .env would be found out only by an API that does not start, or by a Redis that is open to all.
    private static void RequireRedisSecret(this IDistributedApplicationBuilder builder, IResourceBuilder<ProjectResource> api)
    {
        if (builder.HasRedis())
        {
            api.PublishAsDockerComposeService((_, service) => service.Environment["ConnectionStrings__cache"] = "${CACHE:?set it in .env to the connection string of the Redis}");
            return;
        }

        const string Password = "${CACHE_PASSWORD:?set it in .env to a long random text}";
        api.PublishAsDockerComposeService((_, service) => service.Environment["ConnectionStrings__cache"] = $"cache:6379,password={Password}");
        builder.CreateResourceBuilder<RedisResource>("cache").PublishAsDockerComposeService((_, service) =>
        {
            service.Restart = "unless-stopped";
            service.Environment["REDIS_PASSWORD"] = Password;
        });
    }

    private static bool IsManifest(this IDistributedApplicationBuilder builder) =>
        string.Equals(builder.Configuration["Publishing:Publisher"], "manifest", StringComparison.OrdinalIgnoreCase);

    private static string Name(SessionSettings settings) => Settings.NameOf(settings.StorageType);
}
