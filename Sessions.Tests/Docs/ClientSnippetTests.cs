using System.Net.Http.Json;
using System.Net.ServerSentEvents;
using System.Text.Json;
using System.Text.RegularExpressions;
using Sessions.Tests.OpenAi;

namespace Sessions.Tests.Docs;

/// <summary>docs/clients.md and README.md: what can be run is run as it stands; the C# stands here, and is the same.</summary>
public sealed partial class ClientSnippetTests
{
    private const string Address = "http://localhost:8080";

    private static readonly string Clients = Read("docs", "clients.md");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("python", "python3", ".py")]
    [InlineData("js", "node", ".mjs")]
    public async Task A_script_runs(string language, string program, string ending)
    {
        RequiredInCI.SkipUnless(IsThere(program), $"There is no {program} on this machine.");
        await using var server = SessionsServer.Start([]);
        using var folder = new TestFolder();
        var script = folder[$"snippet{ending}"];
        await File.WriteAllTextAsync(script, Snippets(Clients, language).Single()
            .Replace(Address, AddressOf(server), StringComparison.Ordinal), Cancel);

        var (exitCode, output) = await NodeClientTests.RunAsync(program, [script], folder.Path);

        Assert.True(exitCode == 0 && output.Contains("I can say what you told me before: \"I am Ada.\"", StringComparison.Ordinal), output);
    }

    [Theory]
    [InlineData("docs", "clients.md")]
    [InlineData("docs", "api.md")]
    [InlineData("docs", "streaming.md")]
    [InlineData("README.md")]
    public async Task The_curl_commands_are_answered(params string[] page)
    {
        RequiredInCI.SkipUnless(IsThere("curl") && IsThere("bash"), "There is no curl or bash on this machine.");
        await using var server = SessionsServer.Start([]);
        await server.QueryAsync("I am a Python programmer", "demo", "ada");
        foreach (var commands in Snippets(Read(page), "sh").Where(commands => commands.StartsWith("curl", StringComparison.Ordinal)))
        {
            var script = "set -e\n" + commands.Replace(Address, AddressOf(server), StringComparison.Ordinal)
                .Replace("curl -s", "curl --fail-with-body -s", StringComparison.Ordinal);
            var (exitCode, output) = await NodeClientTests.RunAsync("bash", ["-c", script], Path.GetTempPath());
            Assert.True(exitCode == 0 && output.Length > 0, $"{commands}\n{output}");
        }
    }

    [Fact]
    public void The_CSharp_is_what_is_run_here()
    {
        var source = Indentation.Replace(Read("Sessions.Tests", "Docs", "ClientSnippetTests.cs"), "");
        var snippet = Indentation
            .Replace(Snippets(Clients, "csharp").Single().Replace($"new Uri(\"{Address}\")", "address", StringComparison.Ordinal), "");
        Assert.Contains(snippet.Trim(), source, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_CSharp_runs()
    {
        await using var server = SessionsServer.Start([]);
        await AskAsync(new Uri(AddressOf(server)));
        var history = (await server.GetAsync("/sessions/csharp-demo/history")).Json["turns"]!.AsArray();
        Assert.Equal(["I am Ada.", "Who am I?"], history.Select(turn => (string?)turn!["query"]));
    }

    private static async Task AskAsync(Uri address)
    {
        using var http = new HttpClient { BaseAddress = address };

        var first = await http.PostAsJsonAsync("/query", new { query = "I am Ada.", thread_id = "csharp-demo", user_id = "ada" });
        first.EnsureSuccessStatusCode();
        var answer = await first.Content.ReadFromJsonAsync<JsonElement>();
        Console.WriteLine(answer.GetProperty("response").GetString());

        using var request = new HttpRequestMessage(HttpMethod.Post, "/query")
        {
            Content = JsonContent.Create(new { query = "Who am I?", thread_id = "csharp-demo", user_id = "ada", stream = true }),
        };
        using var stream = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        stream.EnsureSuccessStatusCode();
        await foreach (var item in SseParser.Create(await stream.Content.ReadAsStreamAsync()).EnumerateAsync())
        {
            if (item.EventType == "delta")
            {
                Console.Write(JsonElement.Parse(item.Data).GetProperty("text").GetString());
            }
        }
    }

    private static string AddressOf(SessionsServer server) => server.Client.BaseAddress!.GetLeftPart(UriPartial.Authority);

    private static string Read(params string[] path) => File.ReadAllText(Repository.File(path)).ReplaceLineEndings("\n");

    private static bool IsThere(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Any(folder =>
            File.Exists(Path.Combine(folder, program)));

    private static List<string> Snippets(string page, string language) =>
        [.. Fences.Matches(page).Where(fence => fence.Groups[1].Value == language).Select(fence => fence.Groups[2].Value)];

    [GeneratedRegex(@"^```(\w*)\n(.*?)^```$", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Fences { get; }

    [GeneratedRegex("^ +", RegexOptions.Multiline)]
    private static partial Regex Indentation { get; }
}
