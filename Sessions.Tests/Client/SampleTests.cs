using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Aspire.Hosting;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.Testing;
using Sessions.Tests.AppHost;

namespace Sessions.Tests.Client;

/// <summary>The sample: an agent in an Aspire application, whose conversations the server keeps.</summary>
public sealed class SampleTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Its_conversations_survive_its_restart_and_the_servers()
    {
        using var folder = new TestFolder();
        var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_Sample_AppHost>(Cancel);
        builder.CreateResourceBuilder<ProjectResource>("api").WithEnvironment("SESSIONS__DB_PATH", folder["sessions.db"]);
        await using var app = await builder.WithPatientClients().BuildAsync(Cancel);
        await app.StartAsync(Cancel).WaitAsync(Patience, Cancel);
        await HealthyAsync("agent");
        Assert.Equal("You said: I am Ada.", await ChatAsync("I am Ada."));
        await RestartAsync("agent");
        Assert.Equal("You said: I am Ada. / Who am I?", await ChatAsync("Who am I?"));
        await RestartAsync("api");
        Assert.Equal("You said: I am Ada. / Who am I? / Still?", await ChatAsync("Still?"));

        async Task RestartAsync(string resource)
        {
            await CommandAsync(resource, "stop");
            await app.ResourceNotifications.WaitForResourceAsync(resource, KnownResourceStates.TerminalStates, Cancel)
                .WaitAsync(Patience, Cancel);
            await CommandAsync(resource, "start");
            await HealthyAsync(resource);
        }

        async Task CommandAsync(string resource, string command) =>
            Assert.True((await app.ResourceCommands.ExecuteCommandAsync(resource, command, Cancel)).Success);

        // Also where one is told for a while after the start that the process before has ended.
        Task HealthyAsync(string resource) => app.ResourceNotifications
            .WaitForResourceHealthyAsync(resource, WaitBehavior.WaitOnResourceUnavailable, Cancel).WaitAsync(Patience, Cancel);

        async Task<string> ChatAsync(string text)
        {
            using var client = app.CreateHttpClient("agent", "http");
            using var answer = await client.PostAsJsonAsync("/chat/demo", new { text }, Cancel);
            answer.EnsureSuccessStatusCode();
            return (string)(await answer.Content.ReadFromJsonAsync<JsonNode>(Cancel))!["text"]!;
        }
    }
}
