var builder = DistributedApplication.CreateBuilder(args);

// The server, on any free port, with a database that outlives it.
var api = builder.AddProject<Projects.Sessions_Api>("api")
    .WithEndpoint("http", endpoint => endpoint.Port = null)
    .WithEnvironment("SESSIONS__STORAGE_TYPE", "sqlite")
    .WithEnvironment("SESSIONS__DB_PATH", Path.Combine(builder.AppHostDirectory, "data", "sessions.db"))
    .WithHttpHealthCheck("/health");

builder.AddProject<Projects.Sessions_Sample_Agent>("agent")
    .WithExternalHttpEndpoints()
    .WithHttpHealthCheck("/health")
    .WithReference(api)
    .WaitFor(api);

builder.Build().Run();
