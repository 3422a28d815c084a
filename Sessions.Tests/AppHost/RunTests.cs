using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Aspire.Hosting;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.Testing;
using Microsoft.Extensions.DependencyInjection;
using Sessions.AppHost;

namespace Sessions.Tests.AppHost;

/// <summary>The distributed application, started as a whole.</summary>
public sealed class RunTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_model_holds_the_API_and_its_janitor()
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(Cancel);

        var api = builder.Resources.OfType<ProjectResource>().Single(resource => resource.Name == "api");
        var janitor = builder.Resources.OfType<ProjectResource>().Single(resource => resource.Name == "janitor");
        Assert.DoesNotContain(builder.Resources, resource => resource is ParameterResource or ContainerResource);
        Assert.True(api.Annotations.OfType<EndpointAnnotation>().Single().IsExternal);
        Assert.False(janitor.Annotations.OfType<EndpointAnnotation>().Single().IsExternal);
        Assert.Contains(
            janitor.Annotations.OfType<WaitAnnotation>(), wait => wait.Resource == api && wait.WaitType == WaitType.WaitUntilHealthy);

        // None highlighted: two of them leave no room for the button that stops the API.
        var commands = api.Annotations.OfType<ResourceCommandAnnotation>()
            .Where(command => command.Name is "cleanup" or "statistics").ToList();
        Assert.Equal(["Clean up expired sessions", "Statistics"], commands.Select(command => command.DisplayName).Order());
        Assert.All(commands, command => Assert.False(command.IsHighlighted));
    }

    [Fact]
    public async Task What_the_command_line_says_to_the_API_is_handed_on()
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            ["--port", "18099", "--limits:page_size=7", "--sessions:timeout_hours", "2"], Cancel);

        var api = builder.Resources.OfType<ProjectResource>().Single(resource => resource.Name == "api");
        var janitor = builder.Resources.OfType<ProjectResource>().Single(resource => resource.Name == "janitor");
        Assert.Equal(18099, api.Annotations.OfType<EndpointAnnotation>().Single().Port);
        Assert.Equal(("7", "2"),
            (await VariableAsync(builder, api, "LIMITS__PAGE_SIZE"), await VariableAsync(builder, api, "SESSIONS__TIMEOUT_HOURS")));
        Assert.Equal((null, "2"),
            (await VariableAsync(builder, janitor, "LIMITS__PAGE_SIZE"), await VariableAsync(builder, janitor, "SESSIONS__TIMEOUT_HOURS")));
    }

    [Theory]
    [InlineData("--config")]
    [InlineData("--SESSIONS_CONFIG")]
    public async Task The_file_that_is_named_is_read_and_handed_on_as_one_that_is_found_from_everywhere(string option)
    {
        using var folder = new TestFolder();
        await File.WriteAllTextAsync(folder["own.yaml"], "sessions:\n  storage_type: redis\n", Cancel);
        var relative = Path.GetRelativePath(Directory.GetCurrentDirectory(), folder["own.yaml"]);

        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            [option, relative], Cancel);

        Assert.Single(builder.Resources.OfType<RedisResource>());
        foreach (var project in builder.Resources.OfType<ProjectResource>())
        {
            Assert.Equal(folder["own.yaml"], await VariableAsync(builder, project, "SESSIONS_CONFIG"));
        }
    }

    [Fact]
    public async Task Redis_is_a_container_that_keeps_what_it_is_told_where_there_is_none_yet()
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            ["--sessions:storage_type=redis"], Cancel);

        var cache = builder.Resources.OfType<RedisResource>().Single();
        var volume = cache.Annotations.OfType<ContainerMountAnnotation>().Single();
        var arguments = new CommandLineArgsCallbackContext([], cache, Cancel) { ExecutionContext = builder.ExecutionContext };
        foreach (var annotation in cache.Annotations.OfType<CommandLineArgsCallbackAnnotation>())
        {
            await annotation.Callback(arguments);
        }

        Assert.Equal(("cache", "sessions-cache", "/data"), (cache.Name, volume.Source, volume.Target));
        Assert.Equal(ContainerLifetime.Persistent, cache.Annotations.OfType<ContainerLifetimeAnnotation>().Single().Lifetime);
        Assert.Equal(["--appendonly", "yes", "--appendfsync", "always"], arguments.Args.TakeLast(4));
        var api = builder.Resources.OfType<ProjectResource>().Single(resource => resource.Name == "api");
        Assert.Contains(api.Annotations.OfType<WaitAnnotation>(), wait => wait.Resource == cache);
        Assert.Equal(1, api.GetReplicaCount());
    }

    [Fact]
    public async Task Redis_that_is_only_a_cache_keeps_nothing()
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            ["--sessions:storage_type=sqlite", "--sessions:cache=redis"], Cancel);

        var cache = builder.Resources.OfType<RedisResource>().Single();
        Assert.Empty(cache.Annotations.OfType<ContainerMountAnnotation>());
        Assert.Empty(cache.Annotations.OfType<ContainerLifetimeAnnotation>());
    }

    [Fact]
    public async Task PostgreSQL_is_a_container_with_a_volume_and_a_database_where_there_is_none_yet()
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(Cancel);

        builder.AddPostgresServer();

        var server = builder.Resources.OfType<PostgresServerResource>().Single();
        var database = builder.Resources.OfType<PostgresDatabaseResource>().Single();
        Assert.Equal(("postgres", "sessions", server), (database.Name, database.DatabaseName, database.Parent));
        Assert.Equal("sessions-postgres", server.Annotations.OfType<ContainerMountAnnotation>().Single().Source);
        Assert.Equal(ContainerLifetime.Persistent, server.Annotations.OfType<ContainerLifetimeAnnotation>().Single().Lifetime);
    }

    [Theory]
    [InlineData("cache")]
    [InlineData("postgres")]
    public async Task A_server_that_is_there_already_is_a_connection_string(string name)
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            [$"--ConnectionStrings:{name}=there"], Cancel);

        var server = name == "cache" ? builder.AddRedisServer(durable: true) : builder.AddPostgresServer();

        Assert.Equal(name, server.Resource.Name);
        Assert.Equal("there", await server.Resource.GetConnectionStringAsync(Cancel));
        Assert.DoesNotContain(builder.Resources, resource => resource is ContainerResource or PostgresDatabaseResource);
    }

    [Fact]
    public async Task PostgreSQL_is_what_the_API_waits_for()
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            ["--sessions:storage_type=postgres"], Cancel);

        var database = builder.Resources.OfType<PostgresDatabaseResource>().Single();
        var api = builder.Resources.OfType<ProjectResource>().Single(resource => resource.Name == "api");
        Assert.Contains(api.Annotations.OfType<WaitAnnotation>(), wait => wait.Resource == database);
        Assert.Empty(builder.Resources.OfType<RedisResource>());
    }

    [Fact]
    public async Task Replicas_on_a_Redis_that_is_there_already_hold_one_conversation_without_gaps()
    {
        using var redis = await RedisProcess.StartAsync();
        await HoldOneConversationAsync("--sessions:storage_type=redis", $"--ConnectionStrings:cache={redis.Address}");
    }

    [Fact]
    public async Task Replicas_on_a_PostgreSQL_that_is_there_already_hold_one_conversation_without_gaps()
    {
        await using var postgres = await PostgresServer.StartAsync();
        await HoldOneConversationAsync("--sessions:storage_type=postgres", $"--ConnectionStrings:postgres={postgres.ConnectionString}");
    }

    private static async Task HoldOneConversationAsync(params string[] arguments)
    {
        await using var app = await StartAsync(arguments: [.. arguments, "--replicas=2"]);
        using var client = app.CreateHttpClient("api", "http");
        Assert.DoesNotContain(
            app.Services.GetRequiredService<DistributedApplicationModel>().Resources, resource => resource is ContainerResource);
        var replicas = await ReplicasAsync(app, "api", 2);

        var answers = await Task.WhenAll(Enumerable.Range(0, 20).Select(i => QueryAsync(client, $"Question {i}")));
        Assert.Equal(Enumerable.Range(1, 20), answers.Select(answer => (int)answer["metadata"]!["turn"]!).Order());

        // Either of them can go on alone.
        Assert.True((await app.ResourceCommands.ExecuteCommandAsync(replicas[0], "stop", Cancel)).Success);
        await EndedAsync(app, replicas[0]);
        Assert.Equal(21, (int)(await QueryAsync(client, "And now?"))["metadata"]!["turn"]!);
        Assert.True((await app.ResourceCommands.ExecuteCommandAsync(replicas[0], "start", Cancel)).Success);
        await ReplicasAsync(app, "api", 2);
        Assert.True((await app.ResourceCommands.ExecuteCommandAsync(replicas[1], "stop", Cancel)).Success);
        await EndedAsync(app, replicas[1]);
        Assert.Equal(22, (int)(await QueryAsync(client, "And now?"))["metadata"]!["turn"]!);
    }

    [Fact]
    public async Task Everything_becomes_healthy_and_a_conversation_goes_through_the_endpoint()
    {
        await using var app = await StartAsync();
        using var client = app.CreateHttpClient("api", "http");

        var first = await QueryAsync(client, "My name is Ada.");
        var second = await QueryAsync(client, "What is my name?");

        Assert.True((bool)first["metadata"]!["session_created"]!);
        Assert.Equal(2, (int)second["metadata"]!["turn"]!);
        Assert.Contains("Ada", (string)second["response"]!, StringComparison.Ordinal);

        // On the developer's own machine the route is open to all.
        using var cleanup = await client.PostAsync("/sessions/cleanup", null, Cancel);
        Assert.Equal(System.Net.HttpStatusCode.OK, cleanup.StatusCode);
        Assert.True((await app.ResourceCommands.ExecuteCommandAsync("api", "statistics", Cancel)).Success);
        Assert.True((await app.ResourceCommands.ExecuteCommandAsync("api", "cleanup", Cancel)).Success);
    }

    [Fact]
    public async Task The_janitor_removes_an_expired_session()
    {
        // A quarter of a second; and only the janitor is in a hurry.
        await using var app = await StartAsync(
            api => api.WithEnvironment("SESSIONS__TIMEOUT_HOURS", "0.00007"),
            janitor => janitor.WithEnvironment("SESSIONS__CLEANUP_INTERVAL_MINUTES", "0.005"));
        using var client = app.CreateHttpClient("api", "http");

        (await client.PostAsync("/sessions", null, Cancel)).Dispose();

        await SaysAsync(app, "janitor", "1 expired sessions removed");
    }

    [Fact]
    public async Task A_clean_up_is_one_trace_over_janitor_and_API()
    {
        await using var collector = await OtlpReceiver.StartAsync();
        await using var app = await StartAsync(Report, Report);

        await ServiceProcess.UntilAsync(() => Traces("janitor", "janitor").Intersect(Traces("api", "POST /sessions/cleanup")).Any());

        IEnumerable<string> Traces(string service, string name) =>
            collector.Spans.Where(span => span.Service == service && span.Name == name).Select(span => span.TraceId);

        void Report(IResourceBuilder<ProjectResource> project)
        {
            foreach (var (key, value) in collector.Environment)
            {
                project.WithEnvironment(key, value);
            }
        }
    }

    [Fact]
    public async Task Sessions_in_SQLite_outlive_the_API()
    {
        var folder = Directory.CreateTempSubdirectory("sessions");
        await using (var app = await StartAsync(api => api
            .WithEnvironment("SESSIONS__STORAGE_TYPE", "sqlite")
            .WithEnvironment("SESSIONS__DB_PATH", Path.Combine(folder.FullName, "sessions.db"))))
        {
            using var client = app.CreateHttpClient("api", "http");
            await QueryAsync(client, "My name is Ada.");

            var process = Assert.Single(await ReplicasAsync(app, "api", 1));
            Assert.True((await app.ResourceCommands.ExecuteCommandAsync(process, "stop", Cancel)).Success);
            await EndedAsync(app, process);
            Assert.True((await app.ResourceCommands.ExecuteCommandAsync(process, "start", Cancel)).Success);

            // It may still be told for a while that the one before has ended.
            await app.ResourceNotifications.WaitForResourceHealthyAsync("api", WaitBehavior.WaitOnResourceUnavailable, Cancel)
                .WaitAsync(Patience, Cancel);

            var next = await QueryAsync(client, "What is my name?");
            Assert.Equal(2, (int)next["metadata"]!["turn"]!);
            Assert.Contains("Ada", (string)next["response"]!, StringComparison.Ordinal);
        }

        folder.Delete(recursive: true);
    }

    private static async Task<DistributedApplication> StartAsync(
        Action<IResourceBuilder<ProjectResource>>? api = null,
        Action<IResourceBuilder<ProjectResource>>? janitor = null,
        string[]? arguments = null)
    {
        var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(arguments ?? [], Cancel);
        api?.Invoke(builder.CreateResourceBuilder<ProjectResource>("api"));
        janitor?.Invoke(builder.CreateResourceBuilder<ProjectResource>("janitor"));
        var app = await builder.WithPatientClients().BuildAsync(Cancel);
        await app.StartAsync(Cancel).WaitAsync(Patience, Cancel);
        await app.ResourceNotifications.WaitForResourceHealthyAsync("api", Cancel).WaitAsync(Patience, Cancel);
        await app.ResourceNotifications.WaitForResourceHealthyAsync("janitor", Cancel).WaitAsync(Patience, Cancel);
        return app;
    }

    /// <summary>The processes of a resource, once as many as expected are running.</summary>
    private static async Task<string[]> ReplicasAsync(DistributedApplication app, string resource, int count)
    {
        using var limited = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        limited.CancelAfter(Patience);
        var running = new SortedSet<string>(StringComparer.Ordinal);
        await foreach (var change in app.ResourceNotifications.WatchAsync(limited.Token).Where(change => change.Resource.Name == resource))
        {
            var runs = change.Snapshot.State?.Text == KnownResourceStates.Running;
            _ = runs ? running.Add(change.ResourceId) : running.Remove(change.ResourceId);
            if (running.Count == count)
            {
                break;
            }
        }

        return [.. running];
    }

    private static async Task EndedAsync(DistributedApplication app, string replica) => await app.ResourceNotifications
        .WaitForResourceAsync("api", resource => resource.ResourceId == replica && HasEnded(resource.Snapshot), Cancel)
        .WaitAsync(Patience, Cancel);

    private static bool HasEnded(CustomResourceSnapshot snapshot) => KnownResourceStates.TerminalStates.Contains(snapshot.State?.Text);

    private static async Task<JsonNode> QueryAsync(HttpClient client, string query)
    {
        using var answer = await client.PostAsJsonAsync("/query", new { query, thread_id = "conversation" }, Cancel);
        answer.EnsureSuccessStatusCode();
        return (await answer.Content.ReadFromJsonAsync<JsonNode>(Cancel))!;
    }

    private static async Task SaysAsync(DistributedApplication app, string resource, string text)
    {
        using var limited = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        limited.CancelAfter(Patience);
        var watched = app.Services.GetRequiredService<DistributedApplicationModel>().Resources.Single(known => known.Name == resource);
        var logs = app.Services.GetRequiredService<ResourceLoggerService>().WatchAsync(watched);
        await foreach (var lines in logs.WithCancellation(limited.Token))
        {
            if (lines.Any(line => line.Content.Contains(text, StringComparison.Ordinal)))
            {
                return;
            }
        }

        Assert.Fail($"{resource} ended without saying '{text}'.");
    }

    private static async Task<string?> VariableAsync(
        IDistributedApplicationTestingBuilder builder, ProjectResource resource, string name)
    {
        var context = new EnvironmentCallbackContext(builder.ExecutionContext, resource, cancellationToken: Cancel);
        foreach (var annotation in resource.Annotations.OfType<EnvironmentCallbackAnnotation>())
        {
            await annotation.Callback(context);
        }

        return context.EnvironmentVariables.GetValueOrDefault(name) as string;
    }
}
