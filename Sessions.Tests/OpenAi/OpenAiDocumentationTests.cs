using System.ClientModel;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using OpenAI.Responses;

#pragma warning disable OPENAI001 // OpenAI's client of responses is still marked as experimental.

namespace Sessions.Tests.OpenAi;

/// <summary>docs/openai.md: its JavaScript is run as it stands; its C# stands here, and is the same.</summary>
public sealed partial class OpenAiDocumentationTests(NodeClientTests.Packages packages) : IClassFixture<NodeClientTests.Packages>
{
    private const string Address = "http://localhost:8080/v1";

    private static readonly string Document = File.ReadAllText(Repository.File("docs", "openai.md")).ReplaceLineEndings("\n");
    private static readonly string Clients = Repository.File("Sessions.Tests", "OpenAi", "clients");

    public static TheoryData<int> Scripts => [.. Enumerable.Range(0, Snippets("js").Count)];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [MemberData(nameof(Scripts))]
    public async Task The_JavaScript_runs(int number)
    {
        await packages.InstallAsync();
        await using var server = await StartAsync();
        var script = Path.Combine(Clients, $".snippet-{Guid.NewGuid():N}.mjs");
        await File.WriteAllTextAsync(script,
            Snippets("js")[number].Replace(Address, $"{server.BaseUrl}", StringComparison.Ordinal), Cancel);
        try
        {
            var (exitCode, output) = await NodeClientTests.RunAsync("node", [script], Clients);
            Assert.True(exitCode == 0 && output.Contains("I heard 2: ", StringComparison.Ordinal), output);
        }
        finally
        {
            File.Delete(script);
        }
    }

    [Fact]
    public void The_CSharp_is_what_is_run_here()
    {
        var source = Indentation.Replace(
            File.ReadAllText(Repository.File("Sessions.Tests", "OpenAi", "OpenAiDocumentationTests.cs")).ReplaceLineEndings("\n"), "");
        Assert.NotEmpty(Snippets("csharp"));
        foreach (var snippet in Snippets("csharp"))
        {
            var here = Indentation.Replace(snippet.Replace($"new Uri(\"{Address}\")", "address", StringComparison.Ordinal), "");
            Assert.Contains(here.Trim(), source, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task The_CSharp_runs()
    {
        await using var server = await StartAsync();
        await AskAsync(server.BaseUrl);
        await RunAgentAsync(server.BaseUrl);
        Assert.Equal(4, server.Model.Requests.Count);
    }

    [Fact]
    public async Task The_settings_are_taken()
    {
        // LibreChat's are its own.
        var own = Snippets("yaml").Where(snippet => !snippet.StartsWith("endpoints:", StringComparison.Ordinal)).ToList();
        Assert.Equal(2, own.Count);
        using var folder = new TestFolder();
        await File.WriteAllTextAsync(folder["config.yaml"], string.Concat(own), Cancel);
        await using var api = ServiceProcess.Api(("SESSIONS_CONFIG", folder["config.yaml"]), ("OPENAI_API_KEY", "none"));
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };
        Assert.Equal("gpt-4o",
            (string?)JsonNode.Parse(await client.GetStringAsync(new Uri("/v1/models/gpt-4o", UriKind.Relative), Cancel))!["id"]);
    }

    private static async Task AskAsync(Uri address)
    {
        var options = new ResponsesClientOptions { Endpoint = address };
        var client = new ResponsesClient(new ApiKeyCredential("none"), options);
        ResponseResult first = await client.CreateResponseAsync("advanced", "I am Ada.");
        Console.WriteLine(first.GetOutputText());

        await foreach (var update in client.CreateResponseStreamingAsync("advanced", "Who am I?", first.Id))
        {
            Console.Write((update as StreamingResponseOutputTextDeltaUpdate)?.Delta);
        }
    }

    private static async Task RunAgentAsync(Uri address)
    {
        var options = new ResponsesClientOptions { Endpoint = address };
        var responses = new ResponsesClient(new ApiKeyCredential("none"), options);
        var agent = new ChatClientAgent(responses.AsIChatClient("advanced"), instructions: "Be brief.");
        var session = await agent.CreateSessionAsync();
        Console.WriteLine((await agent.RunAsync("I am Ada.", session)).Text);
        Console.WriteLine((await agent.RunAsync("Who am I?", session)).Text);
    }

    private static Task<OpenAiServer> StartAsync() =>
        OpenAiServer.StartAsync(model => model.Agent("advanced").Append(("agents:advanced:api_key", "none")));

    private static List<string> Snippets(string language) =>
        [.. Fences.Matches(Document).Where(fence => fence.Groups[1].Value == language).Select(fence => fence.Groups[2].Value)];

    [GeneratedRegex(@"^```(\w*)\n(.*?)^```$", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Fences { get; }

    [GeneratedRegex("^ +", RegexOptions.Multiline)]
    private static partial Regex Indentation { get; }
}
