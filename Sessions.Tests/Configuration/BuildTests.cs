using System.Diagnostics;
using System.Text.Json.Nodes;

namespace Sessions.Tests.Configuration;

/// <summary>What keeps a package with a known hole out of the build.</summary>
public sealed class BuildTests
{
    private static readonly string[] Vulnerabilities = ["NU1901", "NU1902", "NU1903", "NU1904"];

    [Theory]
    [InlineData("Sessions.Api")]
    [InlineData("Sessions.Janitor")]
    [InlineData("Sessions.ServiceDefaults")]
    [InlineData("Sessions.AppHost")]
    public async Task A_package_with_a_known_hole_breaks_the_build(string project)
    {
        string[] arguments = ["msbuild", Repository.File(project, project + ".csproj"), "-nodeReuse:false",
            "-getProperty:NuGetAudit,NuGetAuditMode,NuGetAuditLevel,TreatWarningsAsErrors,NoWarn,WarningsNotAsErrors"];
        using var process = Process.Start(new ProcessStartInfo("dotnet", arguments) { RedirectStandardOutput = true })!;
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        var properties = JsonNode.Parse(output)!["Properties"]!;

        Assert.Equal("true", (string?)properties["NuGetAudit"]);
        Assert.Equal("all", (string?)properties["NuGetAuditMode"]);
        Assert.True((string?)properties["NuGetAuditLevel"] is "" or "low");
        Assert.Equal("true", (string?)properties["TreatWarningsAsErrors"]);
        var spared = $"{properties["NoWarn"]};{properties["WarningsNotAsErrors"]}".Split(';', ',');
        Assert.Empty(Vulnerabilities.Intersect(spared));
    }
}
