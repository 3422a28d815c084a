using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Sessions.Tests.Api;

/// <summary>How much of what clients send is held at a time: in all, for one caller, and of one body.</summary>
public sealed class BodyTests
{
    private const string Head = "POST /sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

    private static readonly (string, string)[] Small =
        [("limits:request_body_bytes", "800000"), ("limits:content_bytes", "800000"), ("limits:request_bodies_bytes", "1048576"),
            ("limits:request_bodies_bytes_per_caller", "1048576")];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n2710\r\n")]
    [InlineData("Content-Length: 800000\r\n\r\n")]
    public async Task Bodies_that_are_announced_and_do_not_come_block_nobodys(string announced)
    {
        await using var server = SessionsServer.Start(Small);
        var drips = new List<TcpClient>();
        for (var i = 0; i < 60; i++)
        {
            drips.Add(await SendAsync(server, announced, 10_000));
        }

        await ServiceProcess.UntilAsync(() => server.Get<BodyBudget>().Bytes == 60 * 10_000);
        Assert.Equal(201, (await server.PostAsync("/sessions", Large(400_000))).Status);

        drips.ForEach(drip => drip.Dispose());
        await ServiceProcess.UntilAsync(() => server.Get<BodyBudget>().Bytes == 0);
    }

    [Theory]
    [InlineData("length")]
    [InlineData("chunked")]
    [InlineData("http2")]
    public async Task Bytes_of_bodies_are_counted_as_they_come(string kind)
    {
        await using var server = SessionsServer.Start(Small, kind == "http2" ? AlsoHttp2 : null);
        using var client = new HttpClient { BaseAddress = server.Client.BaseAddress };
        using var held = kind == "http2" ? null : await SendAsync(server,
            kind == "length" ? "Content-Length: 800000\r\n\r\n" : "Transfer-Encoding: chunked\r\n\r\naae60\r\n", 700_000);
        using var gone = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var streamed = held is null ? PostAsync(client, kind, new EndlessBody(700_000), gone.Token) : Task.CompletedTask;
        await ServiceProcess.UntilAsync(() => server.Get<BodyBudget>().Bytes == 700_000);

        using var refused = await PostAsync(client, kind, Json(Large(400_000)), Cancel);
        (await Answer.ReadAsync(refused)).IsProblem(503, "overloaded");
        Assert.Equal("1", refused.Headers.GetValues("Retry-After").Single());
        using var small = await PostAsync(client, kind, Json("{}"), Cancel);
        Assert.Equal(HttpStatusCode.Created, small.StatusCode);

        held?.Dispose();
        await gone.CancelAsync();
        await ServiceProcess.UntilAsync(() => server.Get<BodyBudget>().Bytes == 0);
        using var taken = await PostAsync(client, kind, Json(Large(400_000)), Cancel);
        Assert.Equal(HttpStatusCode.Created, taken.StatusCode);
        await Task.WhenAny(streamed);
        await ServiceProcess.UntilAsync(() => server.Get<BodyBudget>().Bytes == 0);
    }

    [Fact]
    public async Task One_caller_has_a_share_and_no_more()
    {
        var (first, second) = (ApiKeys.NewKey(), ApiKeys.NewKey());
        await using var server = SessionsServer.Start(
            [.. Small, ("limits:request_bodies_bytes", "4000000"), ("auth:mode", "api_key"),
                .. AuthTests.Setting("first", first, "service"), .. AuthTests.Setting("second", second, "service")]);
        using var held = await SendAsync(server, $"X-API-Key: {first}\r\nTransfer-Encoding: chunked\r\n\r\naae60\r\n", 700_000);
        await ServiceProcess.UntilAsync(() => server.Get<BodyBudget>().Bytes == 700_000);

        var refused = (await server.PostAsync("/sessions", Large(400_000), AuthTests.Key(first))).IsProblem(429, "rate_limited");
        Assert.Equal("limits.request_bodies_bytes_per_caller", (string?)refused.Json["limit"]);
        Assert.Equal("1", refused.Headers["Retry-After"]);
        Assert.Equal(201, (await server.PostAsync("/sessions", Large(400_000), AuthTests.Key(second))).Status);

        // An answer is there before its request is counted no more.
        await ServiceProcess.UntilAsync(() => server.Get<BodyBudget>().Bytes == 700_000);
        Assert.Equal(201, (await server.PostAsync("/sessions", Large(300_000), AuthTests.Key(first))).Status);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Where_content_is_sent_a_body_may_be_larger(bool chunked)
    {
        await using var server = SessionsServer.Start([("limits:content_bytes", "3000000")],
            services => services.AddSingleton<IStartupFilter>(new ContentRoute()));

        foreach (var (path, bytes, limit) in ((string, int, string?)[])
            [("/content", 3_000_000, null), ("/content", 3_000_001, "limits.content_bytes"), ("/sessions", 1_048_576, null),
                ("/sessions", 1_048_577, "limits.request_body_bytes")])
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = Json("{}".PadRight(bytes)) };
            request.Headers.TransferEncodingChunked = chunked;
            using var response = await server.Client.SendAsync(request, Cancel);
            var answer = await Answer.ReadAsync(response);
            if (limit is null)
            {
                Assert.InRange(answer.Status, 200, 201);
            }
            else
            {
                Assert.Equal(limit, (string?)answer.IsProblem(413, "limit_exceeded").Json["limit"]);
            }
        }
    }

    [Fact]
    public async Task A_larger_body_has_more_time()
    {
        await using var server = SessionsServer.Start(
            [("limits:request_body_bytes", "100000"), ("limits:receive_seconds", "30")],
            services => services.AddSingleton<IStartupFilter>(new ContentRoute()));
        using var client = await SendAsync(server, "Connection: close\r\nContent-Length: 450000\r\n\r\n", 0, "/content");
        for (var sent = 0; sent < 450_000; sent += 50_000)
        {
            // More than 30 s in all, though no more for any 100,000 bytes.
            server.Time.Advance(TimeSpan.FromSeconds(12));
            await client.GetStream().WriteAsync(
                Encoding.ASCII.GetBytes(sent == 0 ? "{}".PadRight(50_000) : new string(' ', 50_000)), Cancel);
            var arrived = sent + 50_000;
            await ServiceProcess.UntilAsync(() => server.Get<BodyBudget>().Bytes == arrived || arrived == 450_000);
        }

        using var reader = new StreamReader(client.GetStream());
        Assert.StartsWith("HTTP/1.1 200 ", await reader.ReadToEndAsync(Cancel), StringComparison.Ordinal);
    }

    private static string Large(int bytes) => "{}".PadRight(bytes);

    private static StringContent Json(string json) => new(json, Encoding.UTF8, "application/json");

    private static void AlsoHttp2(IServiceCollection services) =>
        services.Configure<KestrelServerOptions>(
            kestrel => kestrel.ConfigureEndpointDefaults(endpoint => endpoint.Protocols = HttpProtocols.Http2));

    private static Task<HttpResponseMessage> PostAsync(
        HttpClient client, string kind, HttpContent body, CancellationToken cancellationToken)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, "/sessions")
        {
            Content = body,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        if (kind == "http2")
        {
            request.Version = HttpVersion.Version20;
        }
        else
        {
            request.Headers.TransferEncodingChunked = kind == "chunked";
        }

        return client.SendAsync(request, cancellationToken);
    }

    // The beginning of a body: white space, which JSON allows.
    private static async Task<TcpClient> SendAsync(SessionsServer server, string headers, int bytes, string path = "/sessions")
    {
        var client = new TcpClient { NoDelay = true };
        await client.ConnectAsync(server.Client.BaseAddress!.Host, server.Client.BaseAddress.Port, Cancel);
        var head = Head.Replace("/sessions", path, StringComparison.Ordinal);
        await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(head + headers + new string(' ', bytes)), Cancel);
        return client;
    }

    /// <summary>A body whose length nobody knows, that does not end.</summary>
    private sealed class EndlessBody : HttpContent
    {
        private readonly int _bytes;

        public EndlessBody(int bytes)
        {
            _bytes = bytes;
            Headers.ContentType = new("application/json");
        }

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
            SerializeToStreamAsync(stream, context, default);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
        {
            await stream.WriteAsync(Encoding.ASCII.GetBytes(new string(' ', _bytes)), cancellationToken);
            await stream.FlushAsync(cancellationToken);
            await Task.Delay(Timeout.InfiniteTimeSpan, cancellationToken);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    /// <summary>A route of the tests' own to which content is sent.</summary>
    private sealed class ContentRoute : IStartupFilter
    {
        public Action<IApplicationBuilder> Configure(Action<IApplicationBuilder> next) => app =>
        {
            var run = RequestDelegateFactory.Create((Body<CreateSessionRequest> body) => body.Value.UserId ?? "");
            var endpoint = new Endpoint(run.RequestDelegate, new EndpointMetadataCollection(ContentBody.Instance), "content");
            app.Use((context, following) =>
            {
                if (context.Request.Path == "/content")
                {
                    context.SetEndpoint(endpoint);
                }

                return following(context);
            });
            next(app);
        };
    }
}
