using System.Net.Sockets;

namespace Sessions.Tests;

/// <summary>A client of nothing but TCP, which may send slowly, or not to the end.</summary>
internal static class PlainClient
{
    public static async Task<TcpClient> ConnectAsync(Uri address)
    {
        var client = new TcpClient { NoDelay = true };
        await client.ConnectAsync(address.Host, address.Port, TestContext.Current.CancellationToken);
        return client;
    }
}
