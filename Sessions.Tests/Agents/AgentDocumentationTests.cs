using System.Diagnostics;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Configuration;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Agents;

/// <summary>What docs/agents.md has to be pasted works as it stands there.</summary>
public sealed partial class AgentDocumentationTests
{
    private static readonly string Document = File.ReadAllText(Repository.File("docs", "agents.md")).ReplaceLineEndings("\n");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static TheoryData<string> Configurations => [.. Blocks("yaml")];

    [Theory]
    [MemberData(nameof(Configurations))]
    public void Each_configuration_is_one(string yaml)
    {
        var file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, yaml);
            var configuration = new ConfigurationBuilder()
                .AddInMemoryCollection(new Dictionary<string, string?>
                {
                    ["OPENAI_API_KEY"] = "k",
                    ["ANTHROPIC_API_KEY"] = "k",
                    ["DOCS_TOKEN"] = "t",
                    ["HOME"] = "/root",
                })
                .Add(new YamlConfigurationSource(file))
                .Build();

            Assert.NotEmpty(Settings.Read<AgentsSettings>(configuration, AgentsSettings.Section));
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Fact]
    public async Task A_turn_of_an_agent_in_the_client_is_appended()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "The recipe is for a Unix shell.");
        await using var server = SessionsServer.Start([]);
        var recipe = Assert.Single(Blocks("sh"))
            .Replace("http://localhost:8080", server.Client.BaseAddress!.ToString().TrimEnd('/'), StringComparison.Ordinal);

        using var shell = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", recipe]) { RedirectStandardOutput = true })!;
        var answer = await shell.StandardOutput.ReadToEndAsync(Cancel);
        await shell.WaitForExitAsync(Cancel);

        Assert.Contains("\"status\":\"appended\"", answer, StringComparison.Ordinal);
        var turn = (await server.GetAsync("/sessions/mine/history?user_id=ada")).Json["turns"]![0]!;
        Assert.Equal(("2+2?", "4", "calculator"), ((string?)turn["query"], (string?)turn["response"], (string?)turn["agent_type"]));
    }

    private static IEnumerable<string> Blocks(string language) =>
        Block.Matches(Document).Where(match => match.Groups[1].Value == language).Select(match => match.Groups[2].Value);

    [GeneratedRegex(@"^```(\w+)\n(.*?)^```", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Block { get; }
}
