using System.Net;

namespace Sessions.Api.Http;

/// <summary>Requests that certainly come from this machine.</summary>
internal static class LocalRequests
{
    private static readonly string[] Forwarded = ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via"];

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

    // No address: a Unix socket.
    private static bool IsLoopback(IPAddress? address) => address is null || IPAddress.IsLoopback(address);

    private static bool IsLoopbackName(string name) =>
        name.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(name.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));
}
