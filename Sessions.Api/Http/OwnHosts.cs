using System.Net;
using Microsoft.AspNetCore.HostFiltering;

namespace Sessions.Api;

/// <summary>
/// Which names a server answers to that only this machine can reach: those of this machine. Otherwise any web page could have its own name point here
/// (DNS rebinding) and read, from the browser of whoever works on this machine, what is meant for nobody else. <c>AllowedHosts</c> says otherwise.
/// </summary>
internal static class OwnHosts
{
    private static readonly string[] Names = ["localhost", "*.localhost", "127.0.0.1", "[::1]", "host.docker.internal"];

    /// <summary>Restricts the names, where nobody has said which there are.</summary>
    public static void AnswerToOwnHosts(this WebApplicationBuilder builder)
    {
        if (string.IsNullOrEmpty(builder.Configuration["AllowedHosts"]) && Addresses(builder) is { Count: > 0 } addresses && addresses.All(IsLocal))
        {
            builder.Services.Configure<HostFilteringOptions>(hosts => hosts.AllowedHosts = Names);
        }
    }

    private static List<string> Addresses(WebApplicationBuilder builder)
    {
        var endpoints = builder.Configuration.GetSection("Kestrel:Endpoints").GetChildren().Select(endpoint => endpoint["Url"] ?? "").ToList();
        return endpoints.Count > 0 ? endpoints : [.. (builder.WebHost.GetSetting(WebHostDefaults.ServerUrlsKey) ?? "").Split(';', StringSplitOptions.RemoveEmptyEntries)];
    }

    private static bool IsLocal(string address)
    {
        var host = Uri.TryCreate(address, UriKind.Absolute, out var uri) ? uri.Host.Trim('[', ']') : "";
        return host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(host, out var ip) && IPAddress.IsLoopback(ip));
    }
}
