using Sessions.AppHost;
using Sessions.ServiceDefaults;

try
{
    var settings = Deployment.ReadSettings(args);
    var builder = DistributedApplication.CreateBuilder(args);
    var (port, variables) = CommandLineSettings.HandOn(args);

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
