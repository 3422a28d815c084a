using System.Net.NetworkInformation;

namespace Sessions.Tests.AppHost;

public sealed class WithoutAspireTests
{
    [Fact(Skip = "Aspire is not on this NuGet feed: what starts, tests and publishes the AppHost as a whole was not compiled. On a feed that has it, it runs by itself.")]
    public void The_AppHost_is_tested_as_a_whole()
    {
    }

    [Fact]
    public async Task The_AppHost_starts_API_and_janitor_and_stops_both()
    {
        Assert.SkipWhen(IPGlobalProperties.GetIPGlobalProperties().GetActiveTcpListeners().Any(listener => listener.Port == 8080), "Port 8080 is in use on this machine.");
        await using var appHost = ServiceProcess.AppHost([]);

        await appHost.SaysAsync("[janitor]       0 expired sessions removed");
        using (var client = new HttpClient())
        {
            Assert.Equal("Healthy", (string?)System.Text.Json.Nodes.JsonNode.Parse(await client.GetStringAsync("http://localhost:8080/health", TestContext.Current.CancellationToken))!["status"]);
        }

        Assert.Equal(0, await appHost.StopAsync());
        Assert.Equal(1, appHost.Count("[api]       Application is shutting down..."));
        Assert.Equal(1, appHost.Count("[janitor]       Application is shutting down..."));
        Assert.DoesNotContain(IPGlobalProperties.GetIPGlobalProperties().GetActiveTcpListeners(), listener => listener.Port == 8080);
    }

    [Fact]
    public async Task A_faulty_setting_is_told_once()
    {
        await using var appHost = ServiceProcess.AppHost([], ("SESSIONS__TIMEOUT_HOURS", "long"));

        Assert.Equal(1, await appHost.ExitAsync());
        Assert.Equal(1, appHost.Count("SESSIONS__TIMEOUT_HOURS"));
    }

    [Fact]
    public async Task More_than_one_replica_is_refused()
    {
        await using var appHost = ServiceProcess.AppHost(["--replicas", "2"]);

        Assert.Equal(1, await appHost.ExitAsync());
        Assert.Equal(1, appHost.Count("replicas: '2' is not allowed; allowed: 1."));
    }
}
