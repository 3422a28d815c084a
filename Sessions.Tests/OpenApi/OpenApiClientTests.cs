using Sessions.Tests.OpenAi;

namespace Sessions.Tests.OpenApi;

/// <summary>Clients that are generated from the document: they compile, and hold a conversation.</summary>
public sealed class OpenApiClientTests(OpenApiClientTests.Packages packages) : IClassFixture<OpenApiClientTests.Packages>
{
    private static readonly string Folder = Repository.File("Sessions.Tests", "OpenApi", "clients");
    private static readonly string Held = "A conversation was held.";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task TypeScript_by_openapi_typescript_and_openapi_fetch()
    {
        await packages.InstallAsync();
        await using var server = SessionsServer.Start([]);
        var document = await SaveAsync(server, Path.Combine(Folder, "generated", "openapi.json"));

        await RunAsync("node", Tool("openapi-typescript", "bin", "cli.js"), document, "--output", "generated/schema.d.ts");
        await RunAsync("node", Tool("typescript", "bin", "tsc"), "--project", ".");
        Assert.Contains(Held, await RunAsync("node", "generated/js/conversation.js", Address(server)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task CSharp_by_Kiota()
    {
        await using var server = SessionsServer.Start([]);
        var project = Path.Combine(Folder, "kiota");
        var document = await SaveAsync(server, Path.Combine(Folder, "generated", "for-kiota.json"));
        var (exitCode, output) = await NodeClientTests.RunAsync("dotnet", ["tool", "restore"], Repository.File());
        RequiredInCI.SkipUnless(exitCode == 0, $"Kiota can't be had: {output}");

        string[] generate = ["kiota", "generate", "--openapi", document, "--language", "CSharp", "--namespace-name", "Generated",
            "--class-name", "ApiClient"];
        (exitCode, output) = await NodeClientTests.RunAsync(
            "dotnet", [.. generate, "--output", Path.Combine(project, "generated"), "--clean-output"], Repository.File(),
                ("KIOTA_OFFLINE_ENABLED", "true"));
        Assert.True(exitCode == 0, output);
        (exitCode, output) = await NodeClientTests.RunAsync("dotnet", ["run", "--project", project, "--", Address(server)],
            Repository.File());
        Assert.True(exitCode == 0 && output.Contains(Held, StringComparison.Ordinal), output);
    }

    [Fact]
    public async Task Redocly_and_Spectral_find_nothing_by_their_recommended_rules()
    {
        await packages.InstallAsync();
        await using var server = SessionsServer.Start([]);
        var document = await SaveAsync(server, Path.Combine(Folder, "generated", "judged.json"));

        var redocly = await RunAsync("node", Tool("@redocly", "cli", "bin", "cli.js"), "lint", document, "--format=json",
            "--max-problems=1000");
        Assert.Contains("\"errors\": 0", redocly, StringComparison.Ordinal);
        Assert.Contains("\"warnings\": 0", redocly, StringComparison.Ordinal);
        Assert.Contains("\"ignored\": 0", redocly, StringComparison.Ordinal);
        await RunAsync("node", Tool("@stoplight", "spectral-cli", "dist", "index.js"), "lint", document, "--ruleset", ".spectral.yaml",
            "--fail-severity", "hint");
    }

    private static string Address(SessionsServer server) => server.Client.BaseAddress!.GetLeftPart(UriPartial.Authority);

    private static string Tool(params ReadOnlySpan<string> path) => Path.Combine([Folder, "node_modules", .. path]);

    private static async Task<string> SaveAsync(SessionsServer server, string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        await File.WriteAllTextAsync(path, (await server.GetAsync("/openapi/v1.json")).Text, Cancel);
        return path;
    }

    private static async Task<string> RunAsync(string program, params string[] arguments)
    {
        var (exitCode, output) = await NodeClientTests.RunAsync(program, arguments, Folder, ("REDOCLY_TELEMETRY", "off"),
            ("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true"));
        Assert.True(exitCode == 0, output);
        return output;
    }

    /// <summary>The judges and the generator, installed once.</summary>
    public sealed class Packages() : NodePackages(Folder);
}
