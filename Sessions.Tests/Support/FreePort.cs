using System.Net;
using System.Net.Sockets;

namespace Sessions.Tests;

/// <summary>Ports that nobody listens on, for programs that must be told one.</summary>
/// <remarks>
/// Below those that the system gives to connections on their way out, so that a program finds its port free when it is started again.
/// A node of a Redis cluster listens 10,000 above as well.
/// </remarks>
internal static class FreePort
{
    private const int Lowest = 11_000;
    private const int Count = 10_000;

    private static int _last = Random.Shared.Next(Count);

    /// <summary>Finds one that was given to nobody else lately.</summary>
    public static int Find()
    {
        while (true)
        {
            var port = Lowest + (int)((uint)Interlocked.Increment(ref _last) % Count);
            using var listener = new TcpListener(IPAddress.Loopback, port);
            try
            {
                listener.Start();
                return port;
            }
            catch (SocketException)
            {
                // Somebody has it.
            }
        }
    }
}
