using Sessions.AppHost;
using Sessions.ServiceDefaults;

try
{
    var builder = DistributedApplication.CreateBuilder(args);

    var api = builder.AddProject<Projects.Sessions_Api>("api")
        .WithExternalHttpEndpoints()
        .WithHttpHealthCheck("/health")
        .WithUrlForEndpoint("http", url => url.DisplayText = "API")
        .WithUrlForEndpoint("http", _ => new() { Url = "/scalar", DisplayText = "API reference" })
        .WithHttpCommand("/sessions/stats", "Statistics", commandName: "statistics", commandOptions: new()
        {
            Description = "Counts the sessions there are.",
            Method = HttpMethod.Get,
            ResultMode = HttpCommandResultMode.Json,
            IconName = "DataUsage",
            IsHighlighted = true,
        })
        .WithHttpCommand("/sessions/cleanup", "Clean up expired sessions", commandName: "cleanup", commandOptions: new()
        {
            Description = "Removes what has expired, now.",
            ResultMode = HttpCommandResultMode.Json,
            IconName = "Broom",
            IsHighlighted = true,
        });

    var janitor = builder.AddProject<Projects.Sessions_Janitor>("janitor")
        .WithHttpEndpoint()
        .WithHttpHealthCheck("/health")
        .WithUrlForEndpoint("http", url => (url.Url, url.DisplayText) = ("/health", "Health"))
        .WithReference(api)
        .WaitFor(api);

    var settings = Deployment.ReadSettings(args);
    var replicas = Deployment.ReadReplicas(settings, builder.Configuration["replicas"], builder.ExecutionContext.IsPublishMode);
    if (settings.StorageType == StorageType.Redis || settings.Cache == CacheType.Redis)
    {
        // A Redis that is there already, or one in a container: to keep sessions, on a volume, and outliving the AppHost; as a cache, without any of that.
        IResourceBuilder<IResourceWithConnectionString> cache = builder.HasRedis() ? builder.AddConnectionString("cache")
            : settings.StorageType == StorageType.Redis ? builder.AddRedis("cache").WithDataVolume("sessions-cache").WithAppendOnlyFile().WithLifetime(ContainerLifetime.Persistent)
            : builder.AddRedis("cache");

        api.WithEnvironment("SESSIONS__STORAGE_TYPE", Settings.NameOf(settings.StorageType))
            .WithReferenceEnvironment(ReferenceEnvironmentInjectionFlags.ConnectionString)
            .WithReference(cache)
            .WaitFor(cache)
            .WithReplicas(replicas);
    }

    if (settings.Cache == CacheType.Redis)
    {
        api.WithEnvironment("SESSIONS__CACHE", "redis");
    }

    if (builder.ExecutionContext.IsPublishMode)
    {
        builder.AddDeployment(settings, api, janitor);
    }

    await builder.Build().RunAsync();
    return 0;
}
catch (SettingsException e)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}
