using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Aspire.Hosting;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.Testing;
using Sessions.Tests.OpenAi;

namespace Sessions.Tests.AppHost;

/// <summary>OpenAI's clients against the distributed application: two replicas of the API on one Redis.</summary>
public sealed class OpenAiReplicasTests(NodeClientTests.Packages packages) : IClassFixture<NodeClientTests.Packages>
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_one_replica_answers_the_other_knows_at_once()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var model = await ScriptedModel.StartAsync();
        await using var app = await StartAsync(redis, model);
        using var client = new HttpClient(new SocketsHttpHandler { PooledConnectionLifetime = TimeSpan.Zero })
        {
            BaseAddress = app.GetEndpoint("api", "http"),
        };

        // Each request on a connection of its own, and so by either replica.
        var conversation = (string)(await SendAsync(HttpMethod.Post, "/v1/conversations", new { }))["id"]!;
        string? chain = null;
        for (var round = 1; round <= 10; round++)
        {
            var made = await SendAsync(HttpMethod.Post, "/v1/responses", new { model = "model", input = $"c{round}", conversation });
            Assert.StartsWith($"I heard {round}: c1", TextOf(made), StringComparison.Ordinal);
            var next = await SendAsync(HttpMethod.Post, "/v1/responses",
                new { model = "model", input = $"r{round}", previous_response_id = chain });
            Assert.StartsWith($"I heard {round}: r1", TextOf(next), StringComparison.Ordinal);
            chain = (string)next["id"]!;
            foreach (var one in (JsonNode[])[made, next, made, next])
            {
                Assert.Equal(one.ToJsonString(), (await SendAsync(HttpMethod.Get, $"/v1/responses/{one["id"]}")).ToJsonString());
            }
        }

        // At once, and none lost, doubled, or between the two halves of another.
        await Task.WhenAll(Enumerable.Range(0, 16).Select(i =>
            SendAsync(HttpMethod.Post, "/v1/responses", new { model = "model", input = $"p{i}", conversation })));
        var items = (await SendAsync(HttpMethod.Get, $"/v1/conversations/{conversation}/items?order=asc&limit=100"))["data"]!.AsArray();
        Assert.Equal(52, items.Count);
        for (var i = 0; i < 52; i += 2)
        {
            var (asked, answered) = ((string)items[i]!["content"]![0]!["text"]!, (string)items[i + 1]!["content"]![0]!["text"]!);
            Assert.StartsWith(string.Create(CultureInfo.InvariantCulture, $"I heard {(i / 2) + 1}:"), answered, StringComparison.Ordinal);
            Assert.EndsWith($" {asked}", answered, StringComparison.Ordinal);
        }

        // Gone is gone on both.
        await SendAsync(HttpMethod.Delete, $"/v1/conversations/{conversation}");
        for (var i = 0; i < 6; i++)
        {
            using var answer = await client.GetAsync(new Uri($"/v1/conversations/{conversation}", UriKind.Relative), Cancel);
            Assert.Equal(404, (int)answer.StatusCode);
        }

        async Task<JsonNode> SendAsync(HttpMethod method, string path, object? body = null)
        {
            using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : JsonContent.Create(body) };
            using var answer = await client.SendAsync(request, Cancel);
            Assert.True(answer.IsSuccessStatusCode, await answer.Content.ReadAsStringAsync(Cancel));
            return (await answer.Content.ReadFromJsonAsync<JsonNode>(Cancel))!;
        }
    }

    // Repeats without a key, and streams that are picked up, are for the replica that had them: openai-responses.mjs asks for these.
    [Theory]
    [InlineData("openai-conversations.mjs")]
    [InlineData("openai-tools.mjs")]
    [InlineData("agents.mjs")]
    [InlineData("ai-sdk.mjs")]
    public async Task Clients_work_as_they_are(string script)
    {
        await packages.InstallAsync();
        using var redis = await RedisProcess.StartAsync();
        await using var model = await ScriptedModel.StartAsync();
        await using var app = await StartAsync(redis, model);
        var address = new Uri(app.GetEndpoint("api", "http"), "v1");
        var (exitCode, output) = await NodeClientTests.RunAsync(
            "node", [script], Repository.File("Sessions.Tests", "OpenAi", "clients"), ("OPENAI_BASE_URL", $"{address}"));
        Assert.True(exitCode == 0, output);
    }

    private static string TextOf(JsonNode response) => (string)response["output"]![0]!["content"]![0]!["text"]!;

    private static async Task<DistributedApplication> StartAsync(RedisProcess redis, ScriptedModel model)
    {
        var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            ["--sessions:storage_type=redis", $"--ConnectionStrings:cache={redis.Address}", "--replicas=2"], Cancel);
        var api = builder.CreateResourceBuilder<ProjectResource>("api");
        IEnumerable<(string Key, string Value)> settings =
        [
            .. model.Agent("model"), ("agents:model:accepts:0", "image"), ("agents:model:accepts:1", "file"),
            ("agents:model:api_key", "none"),
            ("limits:turn_queue", "100"),
        ];
        foreach (var (key, value) in settings)
        {
            api.WithEnvironment(key.Replace(":", "__", StringComparison.Ordinal), value);
        }

        var app = await builder.BuildAsync(Cancel);
        await app.StartAsync(Cancel).WaitAsync(Patience, Cancel);
        await app.ResourceNotifications.WaitForResourceHealthyAsync("api", Cancel).WaitAsync(Patience, Cancel);
        return app;
    }
}
