var builder = DistributedApplication.CreateBuilder(args);

var api = builder.AddProject<Projects.Sessions_Api>("api")
    .WithExternalHttpEndpoints()
    .WithHttpHealthCheck("/health")
    .WithUrlForEndpoint("http", _ => new() { Url = "/scalar", DisplayText = "API reference" });

builder.AddProject<Projects.Sessions_Janitor>("janitor")
    .WithReference(api)
    .WaitFor(api);

builder.Build().Run();
