using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sessions.Tests;

/// <summary>A small server that keeps what it is sent, and answers as a test tells it, whatever the wire format.</summary>
internal sealed class WireServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly List<(string Path, JsonNode Body, Dictionary<string, string> Headers)> _requests = [];

    private WireServer(WebApplication app) => _app = app;

    /// <summary>How to answer.</summary>
    public Func<JsonNode, HttpContext, Task> Reply { get; set; } = (_, _) => Task.CompletedTask;

    public string Url => _app.Urls.Single();

    /// <summary>What was sent last.</summary>
    public (string Path, JsonNode Body, Dictionary<string, string> Headers) Last
    {
        get
        {
            lock (_requests)
            {
                return _requests[^1];
            }
        }
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static async Task<WireServer> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var server = new WireServer(app);
        app.Run(server.HandleAsync);
        await app.StartAsync(Cancel);
        return server;
    }

    /// <summary>The settings of an agent <c>model</c> of that provider on it.</summary>
    public IEnumerable<(string Key, string Value)> Agent(string provider, string path = "") =>
    [
        ("agents:model:provider", provider), ("agents:model:model", "test-model"), ("agents:model:endpoint", Url + path),
        ("agents:model:max_retries", "0"),
        ("agents:model:timeout_seconds", "60"), ("agents:model:api_key", "k3y"),
    ];

    /// <summary>Answers with server-sent events, each <c>data</c> with its <c>type</c> as the event's name.</summary>
    public static async Task EventsAsync(HttpContext http, params IEnumerable<string> data)
    {
        http.Response.ContentType = "text/event-stream";
        foreach (var json in data)
        {
            await http.Response.WriteAsync($"event: {(string?)JsonNode.Parse(json)!["type"]}\ndata: {json}\n\n", Cancel);
        }
    }

    public static Task JsonAsync(HttpContext http, string json, string contentType = "application/json")
    {
        http.Response.ContentType = contentType;
        return http.Response.WriteAsync(json, Cancel);
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task HandleAsync(HttpContext http)
    {
        var body = (await JsonNode.ParseAsync(http.Request.Body, cancellationToken: Cancel))!;
        lock (_requests)
        {
            _requests.Add((http.Request.Path.Value!, body, http.Request.Headers.ToDictionary(header => header.Key,
                header => header.Value.ToString(), StringComparer.OrdinalIgnoreCase)));
        }

        await Reply(body, http);
    }
}
