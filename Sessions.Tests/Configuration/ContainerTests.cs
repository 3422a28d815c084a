using System.Globalization;
using System.Text.RegularExpressions;

namespace Sessions.Tests.Configuration;

/// <summary>What the files say that containers are made and run from.</summary>
public sealed partial class ContainerTests
{
    [Theory]
    [InlineData("Sessions.Api")]
    [InlineData("Sessions.Janitor")]
    public async Task An_image_runs_as_a_user_without_rights(string project)
    {
        var text = await File.ReadAllTextAsync(Repository.File(project, project + ".csproj"), TestContext.Current.CancellationToken);

        Assert.Contains("<ContainerUser>1654</ContainerUser>", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Sessions.AppHost/infra/api.tmpl.yaml")]
    [InlineData("Sessions.AppHost/infra/janitor.tmpl.yaml")]
    public async Task Whoever_stops_it_waits_longer_than_a_stop_may_take(string file)
    {
        var text = await File.ReadAllTextAsync(Repository.File(file.Split('/')), TestContext.Current.CancellationToken);

        var seconds = double.Parse(GracePeriod.Match(text).Groups[1].Value, CultureInfo.InvariantCulture);
        Assert.InRange(seconds, new LimitSettings().ShutdownSeconds + GracefulStop.Margin.TotalSeconds + 5, double.MaxValue);
    }

    [GeneratedRegex("""terminationGracePeriodSeconds: (\d+)""")]
    private static partial Regex GracePeriod { get; }
}
