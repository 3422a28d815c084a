using System.Net;

namespace Sessions.Api.Http;

/// <summary>What certainly comes from this machine, or stays on it.</summary>
internal static class LocalRequests
{
    private static readonly string[] Forwarded =
    [
        "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via",
    ];

    /// <summary>
    /// Whether a request came to a loopback address from one, by a loopback name (a page of another site that was made to resolve to this
    /// machine names itself), and was not passed on by a proxy.
    /// </summary>
    public static bool IsLocal(HttpRequest request)
    {
        var connection = request.HttpContext.Connection;
        return IsLoopback(connection.RemoteIpAddress) && IsLoopback(connection.LocalIpAddress) && IsLoopbackName(request.Host.Host)
            && !Array.Exists(Forwarded, header => request.Headers.ContainsKey(header));
    }

    /// <summary>Whether an address is this machine's own. No address: a Unix socket.</summary>
    public static bool IsLoopback(IPAddress? address) => address is null || IPAddress.IsLoopback(address);

    /// <summary>Whether a host is named as only this machine can be.</summary>
    public static bool IsLoopbackName(string name) => name.Equals("localhost", StringComparison.OrdinalIgnoreCase)
        || (IPAddress.TryParse(name.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));
}
