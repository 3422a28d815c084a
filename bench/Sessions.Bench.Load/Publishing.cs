using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Sessions.Bench.Load;

/// <summary>Our server in each of the ways in which it is published.</summary>
internal static class Publishing
{
    /// <summary>Compiled beforehand, as containers have it.</summary>
    public const string ReadyToRun = "ReadyToRun";

    /// <summary>The ways, with what <c>dotnet publish</c> is told.</summary>
    public static readonly (string Way, string[] Arguments)[] Ways =
    [
        (ReadyToRun, ["--self-contained", "false"]),
        ("ReadyToRun with the framework", ["--self-contained", "true", "-p:PublishReadyToRunComposite=true"]),
        ("native", ["-p:PublishAot=true"]),
    ];

    /// <summary>Publishes it.</summary>
    /// <returns>The program; <see langword="null"/> where the feed has not what it takes.</returns>
    public static async Task<string?> RunAsync(string folder, string way, string[] arguments, CancellationToken cancellationToken)
    {
        var repository = new DirectoryInfo(AppContext.BaseDirectory);
        while (repository is not null && !File.Exists(Path.Combine(repository.FullName, "Sessions.sln")))
        {
            repository = repository.Parent;
        }

        await Console.Error.WriteLineAsync($"publishing: {way}");
        var artifacts = Path.Combine(folder, "published", way.Replace(' ', '-'));
        var start = new ProcessStartInfo("dotnet",
        [
            "publish", Path.Combine(repository?.FullName ?? ".", "Sessions.Api"),
            "-c", "Release", "-r", RuntimeInformation.RuntimeIdentifier, .. arguments,
            "--artifacts-path", artifacts, "-v", "q", "-nodeReuse:false",
        ])
        { RedirectStandardOutput = true };
        using var publish = Process.Start(start)!;
        try
        {
            var output = await publish.StandardOutput.ReadToEndAsync(cancellationToken);
            await publish.WaitForExitAsync(cancellationToken);
            if (publish.ExitCode == 0)
            {
                var program = OperatingSystem.IsWindows() ? "Sessions.Api.exe" : "Sessions.Api";
                return Directory.EnumerateFiles(Path.Combine(artifacts, "publish"), program, SearchOption.AllDirectories).Single();
            }

            await Console.Error.WriteLineAsync($"{way} is left out:\n{output}");
            return null;
        }
        finally
        {
            if (!publish.HasExited)
            {
                publish.Kill(entireProcessTree: true);
            }
        }
    }
}
