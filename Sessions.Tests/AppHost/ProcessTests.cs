using System.Net;
using System.Net.Sockets;
using Aspire.Hosting;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.Testing;
using Sessions.AppHost;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.AppHost;

/// <summary>The AppHost as a process: how it ends, and what it says when it can't start.</summary>
public sealed class ProcessTests
{
    // Free ports for everything, and no certificate, as the launch profile has it.
    private static readonly (string, string)[] Anywhere =
        [("DcpPublisher__RandomizePorts", "true"), ("ASPIRE_ALLOW_UNSECURED_TRANSPORT", "true")];

    [Theory]
    [InlineData("INT")]
    [InlineData("TERM")]
    public async Task Ctrl_C_and_SIGTERM_leave_nothing_running(string signal)
    {
        await using var appHost = ServiceProcess.AppHost([], Anywhere);
        await appHost.SaysAsync("Login to the dashboard at http://");
        string[] programs = ["Sessions.Api/bin", "Sessions.Janitor/bin", "Aspire.Dashboard", "run-controllers"];
        await ServiceProcess.UntilAsync(() => appHost.Family() is var family
            && programs.All(program => family.Any(command => command.Contains(program, StringComparison.Ordinal))));

        Assert.Equal(0, await appHost.StopAsync(signal));

        // The orchestrator is a process of its own, and ends after all that it has ended.
        await ServiceProcess.UntilAsync(() => appHost.Family().Count == 0);
    }

    [Fact]
    public async Task A_port_that_is_in_use_is_told_in_one_sentence()
    {
        // Here or elsewhere: somebody listens on the API's port.
        using var listener = new TcpListener(IPAddress.Loopback, 8080);
        try
        {
            listener.Start();
        }
        catch (SocketException)
        {
        }

        await using var appHost = ServiceProcess.AppHost([]);

        Assert.Equal(1, await appHost.ExitAsync());
        Assert.Equal(
            "Port 8080, where the api is to listen, is in use: end what listens there, and start again.", Assert.Single(appHost.Lines));
    }

    [Fact]
    public async Task So_is_one_of_the_dashboard()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            TestContext.Current.CancellationToken);
        builder.Configuration["ASPNETCORE_URLS"] = $"http://localhost:{port}";
        builder.Configuration["DcpPublisher:RandomizePorts"] = "false";
        builder.CreateResourceBuilder<ProjectResource>("api").WithEndpoint("http", endpoint => endpoint.Port = null);

        var refused = Assert.Throws<SettingsException>(builder.RequireFreePorts);

        Assert.StartsWith($"Port {port}, where the dashboard is to listen, is in use", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("SESSIONS__TIMEOUT_HOURS", "long", "environment variable SESSIONS__TIMEOUT_HOURS: sessions.timeout_hours: 'long' is not")]
    [InlineData("replicas", "2", "replicas: '2' is not allowed; allowed: 1. Several replicas of the API need a store that they share")]
    public async Task A_faulty_setting_is_told_once(string variable, string value, string message)
    {
        await using var appHost = ServiceProcess.AppHost([], (variable, value));

        Assert.Equal(1, await appHost.ExitAsync());
        Assert.StartsWith(message, Assert.Single(appHost.Lines), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nothing_is_published_but_the_manifest()
    {
        await using var appHost = ServiceProcess.AppHost(["--operation", "publish", "--step", "publish"]);

        Assert.Equal(1, await appHost.ExitAsync());
        Assert.StartsWith("There is nothing to publish but the manifest", Assert.Single(appHost.Lines), StringComparison.Ordinal);
    }
}
