using System.Net;
using System.Net.Sockets;

namespace Sessions.Tests;

/// <summary>Ports that nobody listens on, for programs that must be told one.</summary>
internal static class FreePort
{
    private const int Highest = 55_000;

    /// <summary>Finds one. Low enough for a node of a Redis cluster, which listens 10,000 above as well.</summary>
    public static int Find()
    {
        while (true)
        {
            using var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            if (((IPEndPoint)listener.LocalEndpoint).Port is < Highest and var port)
            {
                return port;
            }
        }
    }
}
