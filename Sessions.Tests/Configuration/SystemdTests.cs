using System.Globalization;
using Sessions.Tests.OpenAi;

namespace Sessions.Tests.Configuration;

/// <summary><c>deploy/systemd</c>, judged by systemd itself where it is installed, and held to what there is.</summary>
public sealed class SystemdTests
{
    private static readonly string Folder = Repository.File("deploy", "systemd");

    public static TheoryData<string> Units => [.. Directory.GetFiles(Folder, "*.service").Select(file => Path.GetFileName(file)!)];

    [Theory]
    [MemberData(nameof(Units))]
    public async Task Systemd_accepts_it_and_finds_it_safe(string unit)
    {
        Assert.SkipUnless(File.Exists("/usr/bin/systemd-analyze"), "There is no systemd on this machine.");

        // What it runs is not installed here, so something that is stands in for it.
        using var folder = new TestFolder();
        var text = await File.ReadAllTextAsync(Path.Combine(Folder, unit), TestContext.Current.CancellationToken);
        Assert.Matches(@"ExecStart=/usr/bin/dotnet /opt/sessions/(api/Sessions\.Api|janitor/Sessions\.Janitor)\.dll\n", text);
        await File.WriteAllTextAsync(folder[unit], text.Replace("/usr/bin/dotnet", "/bin/true", StringComparison.Ordinal),
            TestContext.Current.CancellationToken);

        var (exitCode, output) = await NodeClientTests.RunAsync("systemd-analyze", ["verify", "--man=no", folder[unit]], folder.Path);
        Assert.True(exitCode == 0 && output.Trim().Length == 0, output);
        (exitCode, output) = await NodeClientTests.RunAsync("systemd-analyze",
            ["security", "--offline=true", "--threshold=25", "--no-pager", folder[unit]], folder.Path);
        Assert.True(exitCode == 0, output);
    }

    [Fact]
    public void A_stop_waits_longer_than_it_may_take()
    {
        var line = File.ReadLines(Path.Combine(Folder, "sessions.service"))
            .Single(line => line.StartsWith("TimeoutStopSec=", StringComparison.Ordinal));
        var seconds = double.Parse(line.Split('=')[1], CultureInfo.InvariantCulture);
        Assert.InRange(seconds, new LimitSettings().ShutdownSeconds + GracefulStop.Margin.TotalSeconds + 5, double.MaxValue);
    }
}
