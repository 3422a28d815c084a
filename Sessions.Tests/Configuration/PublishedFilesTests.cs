using System.Diagnostics;

namespace Sessions.Tests.Configuration;

/// <summary>What publishing over an installation does to what is the installation's own.</summary>
public sealed class PublishedFilesTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("Sessions.Api")]
    [InlineData("Sessions.Janitor")]
    public async Task An_upgrade_keeps_the_configuration_and_the_data(string project)
    {
        await PublishAsync(project);
        Assert.Equal(await File.ReadAllTextAsync(Repository.File("config.yaml"), Cancel),
            await File.ReadAllTextAsync(_folder["config.yaml"], Cancel));
        Assert.False(File.Exists(_folder["config.new.yaml"]));

        // As the first version published it: then it was among the files that the next one writes, or takes away.
        string[] own = ["config.yaml", "appsettings.json", "appsettings.Production.json", "data/sessions.db"];
        foreach (var file in own)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(_folder[file])!);
            await File.WriteAllTextAsync(_folder[file], $"own {file}", Cancel);
        }

        for (var i = 0; i < 2; i++)
        {
            Assert.Contains("config.yaml is kept as it is", await PublishAsync(project), StringComparison.Ordinal);
            Assert.All(own, file => Assert.Equal($"own {file}", File.ReadAllText(_folder[file])));
            Assert.Equal(await File.ReadAllTextAsync(Repository.File("config.yaml"), Cancel),
                await File.ReadAllTextAsync(_folder["config.new.yaml"], Cancel));
        }
    }

    private async Task<string> PublishAsync(string project)
    {
        var configuration = AppContext.BaseDirectory.Contains($"{Path.DirectorySeparatorChar}Release{Path.DirectorySeparatorChar}",
            StringComparison.Ordinal) ? "Release" : "Debug";
        string[] arguments = ["publish", Repository.File(project, project + ".csproj"), "-c", configuration, "-o",
            _folder.Path, "--no-build", "-nodeReuse:false"];
        using var process = Process.Start(new ProcessStartInfo("dotnet", arguments) { RedirectStandardOutput = true })!;
        var output = await process.StandardOutput.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        Assert.True(process.ExitCode == 0, output);
        return output;
    }
}
