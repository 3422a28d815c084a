using System.Collections.Concurrent;
using Sessions.Tests.OpenAi;

namespace Sessions.Tests;

/// <summary>A folder's npm packages, installed once. What is missing on a machine of one's own skips the tests; in CI it fails
/// them.</summary>
/// <param name="folder">Where <c>package.json</c> and its lock file are.</param>
public abstract class NodePackages(string folder)
{
    // Of all classes of tests that use a folder the first installs there: npm begins by removing what lies in it.
    private static readonly ConcurrentDictionary<string, Lazy<Task<string?>>> Missing = new();

    internal async Task InstallAsync()
    {
        var missing = await Missing.GetOrAdd(folder, _ => new Lazy<Task<string?>>(LookAsync)).Value;
        RequiredInCI.SkipUnless(missing is null, missing ?? "");
    }

    private static bool IsThere(string program) => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Any(folder => File.Exists(Path.Combine(folder, program)) || File.Exists(Path.Combine(folder, $"{program}.cmd")));

    private async Task<string?> LookAsync()
    {
        if (!IsThere("node") || !IsThere("npm"))
        {
            return "There is no Node.js with npm on this machine.";
        }

        // npm writes this file at the end: what it says is there.
        var installed = Path.Combine(folder, "node_modules", ".package-lock.json");
        if (File.Exists(installed)
            && File.GetLastWriteTimeUtc(installed) >= File.GetLastWriteTimeUtc(Path.Combine(folder, "package-lock.json")))
        {
            return null;
        }

        var (exitCode, output) = await NodeClientTests.RunAsync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder);
        return exitCode == 0 ? null : $"npm can't install the packages in {folder}: {output}";
    }
}
