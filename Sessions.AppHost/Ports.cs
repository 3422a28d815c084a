using System.Net;
using System.Net.NetworkInformation;
using Microsoft.Extensions.Configuration;
using Sessions.ServiceDefaults;

namespace Sessions.AppHost;

/// <summary>What is to be known about ports before anything starts.</summary>
internal static class Ports
{
    /// <summary>
    /// Refuses to start where a port that is asked for is in use. The orchestrator would not say so: the API would be unhealthy and
    /// the janitor wait for ever, or the dashboard's link lead to whatever listens there.
    /// </summary>
    /// <exception cref="SettingsException">A port is in use.</exception>
    public static void RequireFreePorts(this IDistributedApplicationBuilder builder)
    {
        // Tests, and `aspire start --isolated`, have free ports chosen.
        if (builder.Configuration.GetValue<bool>("DcpPublisher:RandomizePorts"))
        {
            return;
        }

        var used = IPGlobalProperties.GetIPGlobalProperties().GetActiveTcpListeners().Where(IsReachedByLocalhost)
            .Select(listener => listener.Port).ToHashSet();
        foreach (var (name, port) in builder.RequiredPorts().Where(required => used.Contains(required.Port)))
        {
            throw new SettingsException($"Port {port}, where the {name} is to listen, is in use: end what listens there, and start again.");
        }
    }

    private static IEnumerable<(string Name, int Port)> RequiredPorts(this IDistributedApplicationBuilder builder) =>
        builder.Resources
            .SelectMany(
                resource => resource.Annotations.OfType<EndpointAnnotation>(),
                (resource, endpoint) => (resource.Name, Port: endpoint.Port ?? 0))
            .Concat((builder.Configuration["ASPNETCORE_URLS"] ?? "").Split(';')
                .Where(url => Uri.IsWellFormedUriString(url, UriKind.Absolute))
                .Select(url => (Name: "dashboard", new Uri(url).Port)));

    private static bool IsReachedByLocalhost(IPEndPoint listener) =>
        IPAddress.IsLoopback(listener.Address) || listener.Address.Equals(IPAddress.Any) || listener.Address.Equals(IPAddress.IPv6Any);
}
