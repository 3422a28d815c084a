using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Aspire.Hosting;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.Testing;
using Microsoft.Extensions.DependencyInjection;

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
        Assert.DoesNotContain(builder.Resources, resource => resource is ParameterResource);
        Assert.True(api.Annotations.OfType<EndpointAnnotation>().Single().IsExternal);
        Assert.False(janitor.Annotations.OfType<EndpointAnnotation>().Single().IsExternal);
        Assert.Contains(janitor.Annotations.OfType<WaitAnnotation>(), wait => wait.Resource == api && wait.WaitType == WaitType.WaitUntilHealthy);
        Assert.Equal(["Clean up expired sessions", "Statistics"], api.Annotations.OfType<ResourceCommandAnnotation>()
            .Where(command => command.Name is "cleanup" or "statistics").Select(command => command.DisplayName).Order());
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
            api => api.WithEnvironment("SESSIONS__TIMEOUT_HOURS", "0.00007"), janitor => janitor.WithEnvironment("SESSIONS__CLEANUP_INTERVAL_MINUTES", "0.005"));
        using var client = app.CreateHttpClient("api", "http");

        (await client.PostAsync("/sessions", null, Cancel)).Dispose();

        await SaysAsync(app, "janitor", "1 expired sessions removed");
    }

    [Fact]
    public async Task Sessions_in_SQLite_outlive_the_API()
    {
        var folder = Directory.CreateTempSubdirectory("sessions");
        await using (var app = await StartAsync(api => api
            .WithEnvironment("SESSIONS__STORAGE_TYPE", "sqlite").WithEnvironment("SESSIONS__DB_PATH", Path.Combine(folder.FullName, "sessions.db"))))
        {
            using var client = app.CreateHttpClient("api", "http");
            await QueryAsync(client, "My name is Ada.");

            var restarted = await app.ResourceCommands.ExecuteCommandAsync("api", "restart", Cancel);
            Assert.True(restarted.Success, restarted.Message);
            await app.ResourceNotifications.WaitForResourceHealthyAsync("api", Cancel).WaitAsync(Patience, Cancel);

            var next = await QueryAsync(client, "What is my name?");
            Assert.Equal(2, (int)next["metadata"]!["turn"]!);
            Assert.Contains("Ada", (string)next["response"]!, StringComparison.Ordinal);
        }

        folder.Delete(recursive: true);
    }

    private static async Task<DistributedApplication> StartAsync(
        Action<IResourceBuilder<ProjectResource>>? api = null, Action<IResourceBuilder<ProjectResource>>? janitor = null)
    {
        var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(Cancel);
        api?.Invoke(builder.CreateResourceBuilder<ProjectResource>("api"));
        janitor?.Invoke(builder.CreateResourceBuilder<ProjectResource>("janitor"));
        var app = await builder.BuildAsync(Cancel);
        await app.StartAsync(Cancel).WaitAsync(Patience, Cancel);
        await app.ResourceNotifications.WaitForResourceHealthyAsync("api", Cancel).WaitAsync(Patience, Cancel);
        await app.ResourceNotifications.WaitForResourceHealthyAsync("janitor", Cancel).WaitAsync(Patience, Cancel);
        return app;
    }

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
        await foreach (var lines in app.Services.GetRequiredService<ResourceLoggerService>().WatchAsync(watched).WithCancellation(limited.Token))
        {
            if (lines.Any(line => line.Content.Contains(text, StringComparison.Ordinal)))
            {
                return;
            }
        }

        Assert.Fail($"{resource} ended without saying '{text}'.");
    }
}
