using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Sessions.Tests.Api;

/// <summary>Clients that send so slowly that they only hold a place.</summary>
public sealed class SlowClientTests
{
    private const string Head = "POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + "Content-Length: 100000\r\n\r\n";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Headers_that_do_not_come_to_an_end_are_not_waited_for()
    {
        await using var server = SessionsServer.Start([("limits:receive_seconds", "1")]);
        using var client = await PlainClient.ConnectAsync(server.Client.BaseAddress!);
        await SendAsync(client, "POST /query HTTP/1.1\r\nHost: localhost\r\n");

        // One header after the other, each long before any time is up.
        var answer = ReadToEndAsync(client);
        while (!answer.IsCompleted)
        {
            await TrySendAsync(client, "X-A: b\r\n");
            await Task.WhenAny(answer, Task.Delay(100, Cancel));
        }

        Assert.StartsWith("HTTP/1.1 408 ", await answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_body_that_stands_still_is_not_waited_for()
    {
        await using var server = SessionsServer.Start([]);
        using var client = await PlainClient.ConnectAsync(server.Client.BaseAddress!);
        await SendAsync(client, Head + "{");

        // Kestrel's own rule, after five seconds.
        var answer = await ReadToEndAsync(client);

        Assert.StartsWith("HTTP/1.1 408 ", answer, StringComparison.Ordinal);
        Assert.Contains("\"code\":\"request_timeout\"", answer, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_body_that_trickles_has_its_time_and_no_more()
    {
        await using var server = SessionsServer.Start([("limits:receive_seconds", "30")]);
        using var client = await PlainClient.ConnectAsync(server.Client.BaseAddress!);
        await SendAsync(client, Head + new string(' ', 1000));
        await ServiceProcess.UntilAsync(() => server.Get<Admission>().Requests == 1);

        // Fast enough for Kestrel.
        var answer = ReadToEndAsync(client);
        while (!answer.IsCompleted)
        {
            await TrySendAsync(client, new string(' ', 200));
            server.Time.Advance(TimeSpan.FromSeconds(1));
            await Task.WhenAny(answer, Task.Delay(50, Cancel));
        }

        Assert.StartsWith("HTTP/1.1 408 ", await answer, StringComparison.Ordinal);
        Assert.Contains("\"code\":\"request_timeout\"", await answer, StringComparison.Ordinal);
        Assert.Contains("Connection: close", await answer, StringComparison.Ordinal);
        Assert.Equal(0, server.Get<Admission>().Requests);
    }

    [Fact]
    public async Task A_body_in_several_pieces_is_one_body()
    {
        // On a machine that is busy the pieces may be slower than Kestrel allows.
        await using var server = SessionsServer.Start([], services =>
            services.PostConfigure<KestrelServerOptions>(kestrel => kestrel.Limits.MinRequestBodyDataRate = null));
        using var client = await PlainClient.ConnectAsync(server.Client.BaseAddress!);
        await SendAsync(client, "POST /query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
            + "Content-Length: 17\r\n\r\n{\"que");
        await ServiceProcess.UntilAsync(() => server.Get<Admission>().Requests == 1);
        await SendAsync(client, "ry\":\"hello");
        await SendAsync(client, "\"}");

        Assert.StartsWith("HTTP/1.1 200 ", await ReadToEndAsync(client), StringComparison.Ordinal);
    }

    private static async Task SendAsync(TcpClient client, string text) =>
        await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(text), Cancel);

    private static async Task TrySendAsync(TcpClient client, string text)
    {
        try
        {
            await SendAsync(client, text);
        }
        catch (IOException)
        {
            // Closed meanwhile: what was answered is what the test asks for.
        }
    }

    private static async Task<string> ReadToEndAsync(TcpClient client)
    {
        using var answer = new MemoryStream();
        try
        {
            await client.GetStream().CopyToAsync(answer, Cancel);
        }
        catch (IOException)
        {
            // Closed while there was still something on its way from here.
        }

        return Encoding.ASCII.GetString(answer.ToArray());
    }
}
