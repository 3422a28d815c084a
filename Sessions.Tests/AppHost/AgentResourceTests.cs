using System.Net.Http.Json;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using Aspire.Hosting;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.Testing;
using Microsoft.Agents.AI;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.Hosting;

namespace Sessions.Tests.AppHost;

/// <summary>
/// An agent written with Microsoft Agent Framework, as a resource of the AppHost beside the API. This assembly is its program.
/// </summary>
public sealed class AgentResourceTests
{
    private const string AddressVariable = "SESSIONS_TESTS_AGENT_PORT";

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_answers_through_the_API_by_its_name_with_its_session_known()
    {
        var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(Cancel);
        string[] arguments = ["exec", typeof(Program).Assembly.Location, "-noLogo", "-explicit", "only", "-method",
            $"{typeof(Program).FullName}.{nameof(Program.Main)}"];
        var agent = builder.AddExecutable("my-agent", "dotnet", AppContext.BaseDirectory, arguments).WithHttpEndpoint(env: AddressVariable)
            .WithHttpHealthCheck("/health");
        builder.CreateResourceBuilder<ProjectResource>("api")
            .WithReference(agent.GetEndpoint("http"))
            .WaitFor(agent)
            .WithEnvironment("AGENTS__MINE__PROVIDER", "openai")
            .WithEnvironment("AGENTS__MINE__MODEL", "mine")
            .WithEnvironment("AGENTS__MINE__ENDPOINT", "http://my-agent/v1")
            .WithEnvironment("AGENTS__MINE__SEND_SESSION", "true");
        await using var app = await builder.WithPatientClients().BuildAsync(Cancel);
        await app.StartAsync(Cancel).WaitAsync(Patience, Cancel);
        await app.ResourceNotifications.WaitForResourceHealthyAsync("api", Cancel).WaitAsync(Patience, Cancel);
        using var client = app.CreateHttpClient("api", "http");

        await AskAsync("one");
        var second = await AskAsync("two");

        Assert.Equal("turn 2 of demo for ada: one / two", (string?)second["response"]);
        Assert.Equal("openai/mine", (string?)second["metadata"]!["agent_used"]);

        async Task<JsonNode> AskAsync(string query)
        {
            using var answer = await client.PostAsJsonAsync("/query",
                new { query, thread_id = "demo", user_id = "ada", agent_type = "mine" }, Cancel);
            var body = await answer.Content.ReadAsStringAsync(Cancel);
            Assert.True(answer.IsSuccessStatusCode, body);
            return JsonNode.Parse(body)!;
        }
    }

    /// <summary>Not a test, but what runs in the process.</summary>
    public sealed class Program
    {
        [Fact(Explicit = true)]
        public async Task Main()
        {
            var app = WebApplication.CreateSlimBuilder().Build();
            AIAgent agent = new ChatClientAgent(new Parrot(), instructions: "Repeat what the user says.", name: "mine");
            app.MapGet("/health", () => "ok");
            app.MapPost("/v1/chat/completions", async (HttpContext http) =>
            {
                var request = (await JsonNode.ParseAsync(http.Request.Body, cancellationToken: http.RequestAborted))!;
                var messages = request["messages"]!.AsArray()
                    .Select(message => new ChatMessage(new ChatRole((string)message!["role"]!), (string?)message["content"]));
                var said = await agent.RunAsync(messages, cancellationToken: http.RequestAborted);
                var session = $"turn {http.Request.Headers["X-Sessions-Turn"]} of {http.Request.Headers["X-Sessions-Session-Id"]} "
                    + $"for {http.Request.Headers["X-Sessions-User-Id"]}";
                await ChatCompletionsServer.AnswerAsync(http, $"{session}: {said.Text}");
            });
            app.Urls.Add($"http://127.0.0.1:{Environment.GetEnvironmentVariable(AddressVariable)}");
            await app.StartAsync(Cancel);
            await app.WaitForShutdownAsync(Cancel);
        }
    }

    // A model that needs no network: says all that users have said.
    private sealed class Parrot : IChatClient
    {
        public Task<ChatResponse> GetResponseAsync(
            IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
            Task.FromResult(new ChatResponse(new ChatMessage(
                ChatRole.Assistant,
                string.Join(" / ", messages.Where(message => message.Role == ChatRole.User).Select(message => message.Text)))));

        public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
            IEnumerable<ChatMessage> messages, ChatOptions? options = null,
            [EnumeratorCancellation] CancellationToken cancellationToken = default)
        {
            foreach (var update in (await GetResponseAsync(messages, options, cancellationToken)).ToChatResponseUpdates())
            {
                yield return update;
            }
        }

        public object? GetService(Type serviceType, object? serviceKey = null) => null;

        public void Dispose()
        {
        }
    }
}
