using System.Diagnostics;

namespace Sessions.Tests.OpenAi;

/// <summary>OpenAI's JavaScript client, and those built on it, against the server: the scripts in <c>clients/</c>.</summary>
public sealed class NodeClientTests(NodeClientTests.Packages packages) : IClassFixture<NodeClientTests.Packages>
{
    private static readonly string Folder = Repository.File("Sessions.Tests", "OpenAi", "clients");

    public static MatrixTheoryData<string, string> Scripts => new(
        ["openai-conversations.mjs", "openai-responses.mjs", "openai-tools.mjs", "agents.mjs", "ai-sdk.mjs"],
        ["memory", "sqlite", "redis", "postgres"]);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [MemberData(nameof(Scripts))]
    public async Task Clients_work_as_they_are(string script, string storeName)
    {
        await packages.InstallAsync();
        await using var store = await OpenAiStore.CreateAsync(storeName);
        await using var server = await OpenAiServer.StartAsync(store.Settings);
        var (exitCode, output) = await RunAsync("node", [script], Folder, ("OPENAI_BASE_URL", $"{server.BaseUrl}"));
        Assert.True(exitCode == 0, output);
        TestContext.Current.TestOutputHelper?.WriteLine(output);
    }

    /// <summary>Runs a program to its end.</summary>
    internal static async Task<(int ExitCode, string Output)> RunAsync(
        string program, IEnumerable<string> arguments, string folder, params IEnumerable<(string Key, string Value)> environment)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (key, value) in environment)
        {
            start.Environment[key] = value;
        }

        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(Cancel), process.StandardError.ReadToEndAsync(Cancel));
        try
        {
            await process.WaitForExitAsync(Cancel).WaitAsync(TimeSpan.FromMinutes(5), Cancel);
            return (process.ExitCode, await output + await error);
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }

    /// <summary>The clients, installed once.</summary>
    public sealed class Packages() : NodePackages(Folder);
}
