using Sessions.AppHost;
using Sessions.ServiceDefaults;

try
{
    var (port, config, variables) = CommandLineSettings.HandOn(args);
    string[] named = config is null ? args : [.. args, $"--{YamlConfiguration.PathKey}={config}"];
    var settings = Deployment.ReadSettings(named);
    var builder = DistributedApplication.CreateBuilder(named);

    var api = builder.AddProject<Projects.Sessions_Api>("api")
        .WithIconName("ChatMultiple")
        .WithExternalHttpEndpoints()
        .WithoutTls()
        .WithHttpHealthCheck("/health")
        .WithUrlForEndpoint("http", url => url.DisplayText = "API")
        .WithUrlForEndpoint("http", _ => new() { Url = "/console/", DisplayText = "Console" })
        .WithUrlForEndpoint("http", _ => new() { Url = "/scalar", DisplayText = "API reference" })
        .WithHttpCommand("/sessions/stats", "Statistics", commandName: "statistics", commandOptions: new()
        {
            Description = "Counts the sessions there are.",
            Method = HttpMethod.Get,
            ResultMode = HttpCommandResultMode.Json,
            IconName = "DataUsage",
        })
        .WithHttpCommand("/sessions/cleanup", "Clean up expired sessions", commandName: "cleanup", commandOptions: new()
        {
            Description = "Removes what has expired, now.",
            ResultMode = HttpCommandResultMode.Json,
            IconName = "Broom",
        });

    var janitor = builder.AddProject<Projects.Sessions_Janitor>("janitor")
        .WithIconName("Broom")
        .WithHttpEndpoint()
        .WithoutTls()
        .WithHttpHealthCheck("/health")
        .WithUrlForEndpoint("http", url => (url.Url, url.DisplayText) = ("/health", "Health"))
        .WithReference(api)
        .WaitFor(api);

    // The file that is named, whether by an option or a variable: both start in other folders than this. An image has its own.
    if (!builder.ExecutionContext.IsPublishMode && builder.Configuration[YamlConfiguration.PathKey] is { Length: > 0 } path)
    {
        api.WithEnvironment(YamlConfiguration.PathKey, Path.GetFullPath(path));
        janitor.WithEnvironment(YamlConfiguration.PathKey, Path.GetFullPath(path));
    }

    // What the command line says to the API: --port 8081, --limits:page_size=50.
    api.WithEndpoint("http", endpoint => endpoint.Port = port ?? endpoint.Port);
    foreach (var (name, value) in variables)
    {
        api.WithEnvironment(name, value);
        if (name.StartsWith("SESSIONS__", StringComparison.Ordinal))
        {
            janitor.WithEnvironment(name, value);
        }
    }

    var replicas = Deployment.ReadReplicas(settings, builder.Configuration["replicas"], builder.ExecutionContext.IsPublishMode);
    if (settings.StorageType == StorageType.Redis || settings.Cache == CacheType.Redis)
    {
        api.WithServer(builder.AddRedisServer(durable: settings.StorageType == StorageType.Redis), settings).WithReplicas(replicas);
    }
    else if (settings.StorageType == StorageType.Postgres)
    {
        api.WithServer(builder.AddPostgresServer(), settings).WithReplicas(replicas);
    }

    if (builder.ExecutionContext.IsPublishMode)
    {
        builder.AddDeployment(settings, api, janitor);
    }
    else
    {
        builder.RequireFreePorts();
    }

    await builder.Build().RunAsync();
    return 0;
}
catch (SettingsException e)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}
