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
    internal static async Task<(int ExitCode, string Output)> RunAsync(string program, IEnumerable<string> arguments, string folder, params IEnumerable<(string Key, string Value)> environment)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
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

    /// <summary>The clients, installed once. What is missing on a machine of one's own skips the tests; in CI it fails them.</summary>
    public sealed class Packages : IDisposable
    {
        private readonly SemaphoreSlim _lock = new(1);
        private string? _missing;
        private bool _isLooked;

        internal async Task InstallAsync()
        {
            await _lock.WaitAsync(Cancel);
            try
            {
                if (!_isLooked)
                {
                    _missing = await LookAsync();
                    _isLooked = true;
                }
            }
            finally
            {
                _lock.Release();
            }

            if (_missing is not null && Environment.GetEnvironmentVariable("CI") == "true")
            {
                throw new InvalidOperationException($"CI needs OpenAI's clients: {_missing}");
            }

            Assert.SkipWhen(_missing is not null, _missing ?? "");
        }

        public void Dispose() => _lock.Dispose();

        private static async Task<string?> LookAsync()
        {
            if (!IsThere("node") || !IsThere("npm"))
            {
                return "There is no Node.js with npm on this machine.";
            }

            // npm writes this file at the end: what it says is there.
            var installed = Path.Combine(Folder, "node_modules", ".package-lock.json");
            if (File.Exists(installed) && File.GetLastWriteTimeUtc(installed) >= File.GetLastWriteTimeUtc(Path.Combine(Folder, "package-lock.json")))
            {
                return null;
            }

            var (exitCode, output) = await RunAsync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], Folder);
            return exitCode == 0 ? null : $"npm can't install OpenAI's clients: {output}";
        }

        private static bool IsThere(string program) =>
            (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, program)) || File.Exists(Path.Combine(folder, $"{program}.cmd")));
    }
}
