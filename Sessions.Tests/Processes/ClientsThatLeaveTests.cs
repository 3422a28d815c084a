using System.Net.Sockets;
using System.Text;

namespace Sessions.Tests.Processes;

/// <summary>Clients that hang up, which is their right: nothing is wrong here, and the log says nothing.</summary>
public sealed class ClientsThatLeaveTests
{
    private const string Head = "POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Clients_that_leave_are_not_worth_a_line()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var asked = new SemaphoreSlim(0);
        var left = new SemaphoreSlim(0);
        model.Reply = async (_, _, http) =>
        {
            asked.Release();
            using var gone = http.RequestAborted.Register(() => left.Release());
            await Task.Delay(Timeout.InfiniteTimeSpan, http.RequestAborted);
        };
        await using var api = ServiceProcess.Api(model.Agent("model"));
        var address = await api.AddressAsync();
        await api.SaysAsync("Content root path");
        var before = api.Lines.Count;

        foreach (var reset in (bool[])[true, false])
        {
            foreach (var part in (string[])["Content-Length: 100\r\n\r\n{\"que", "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"que",
                "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"que\r\n", "Content-Le"])
            {
                await LeaveAsync(address, Head + part, reset, halfClosed: false);
                await LeaveAsync(address, Head + part, reset, halfClosed: true);
            }

            const string Body = """{"query":"hello","agent_type":"model"}""";
            using var client = await PlainClient.ConnectAsync(address);
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"{Head}Content-Length: {Body.Length}\r\n\r\n{Body}"), Cancel);
            await asked.WaitAsync(Cancel);
            Close(client, reset);
            await left.WaitAsync(Cancel);
        }

        // Whatever there was to be said has been said when the process has ended.
        await api.StopAsync();
        var lines = api.Lines.Skip(before).Where(line => !line.Contains("Microsoft.Hosting.Lifetime", StringComparison.Ordinal)
            && !line.Contains("shutting down", StringComparison.Ordinal)

            // The server may learn a moment after the model that the last client has left.
            && !line.Contains("GracefulStop", StringComparison.Ordinal) && !line.Contains("Stopping: ", StringComparison.Ordinal))
            .ToList();
        Assert.True(lines.Count == 0, string.Join('\n', lines));
    }

    private static async Task LeaveAsync(Uri address, string request, bool reset, bool halfClosed)
    {
        using var client = await PlainClient.ConnectAsync(address);
        var stream = client.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes(request), Cancel);
        if (halfClosed)
        {
            try
            {
                client.Client.Shutdown(SocketShutdown.Send);

                // The server's turn: it answers, or hangs up.
                await stream.CopyToAsync(Stream.Null, Cancel);
            }
            catch (Exception e) when (e is IOException or SocketException)
            {
                // It has hung up.
            }
        }
        else
        {
            // The body has begun to be read when somebody else has been answered.
            using var other = new HttpClient { BaseAddress = address };
            await other.GetStringAsync(new Uri("/alive", UriKind.Relative), Cancel);
        }

        Close(client, reset);
    }

    private static void Close(TcpClient client, bool reset)
    {
        client.LingerState = new LingerOption(reset, 0);
        client.Dispose();
    }
}
