using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sessions.Tests;

/// <summary>A small server that speaks the wire format of OpenAI's chat completions, and answers as a test tells it.</summary>
internal sealed class ChatCompletionsServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly List<JsonNode> _requests = [];

    private ChatCompletionsServer(WebApplication app) => _app = app;

    /// <summary>How to answer: the request's body and how many came before it.</summary>
    public Func<JsonNode, int, HttpContext, Task> Reply { get; set; } = (request, _, http) =>
        AnswerAsync(http, $"echo {LastMessage(request)}");

    public string Endpoint => _app.Urls.Single() + "/v1";

    public IReadOnlyList<JsonNode> Requests
    {
        get
        {
            lock (_requests)
            {
                return [.. _requests];
            }
        }
    }

    public static async Task<ChatCompletionsServer> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var server = new ChatCompletionsServer(app);
        app.MapPost("/v1/chat/completions", server.HandleAsync);
        await app.StartAsync(TestContext.Current.CancellationToken);
        return server;
    }

    /// <summary>The settings that make <paramref name="agent"/> an agent on this server.</summary>
    public IEnumerable<(string Key, string Value)> Agent(string agent, double timeoutSeconds = 30, int maxRetries = 0) =>
    [
        ($"agents:{agent}:provider", "openai"),
        ($"agents:{agent}:model", "test-model"),
        ($"agents:{agent}:endpoint", Endpoint),
        ($"agents:{agent}:timeout_seconds", timeoutSeconds.ToString(System.Globalization.CultureInfo.InvariantCulture)),
        ($"agents:{agent}:max_retries", $"{maxRetries}"),
    ];

    public static Task AnswerAsync(HttpContext http, string? content) => http.Response.WriteAsJsonAsync(new JsonObject
    {
        ["id"] = "chatcmpl-1",
        ["object"] = "chat.completion",
        ["created"] = 1767225600,
        ["model"] = "test-model",
        ["choices"] = new JsonArray(new JsonObject
        {
            ["index"] = 0,
            ["finish_reason"] = "stop",
            ["message"] = new JsonObject { ["role"] = "assistant", ["content"] = content },
        }),
        ["usage"] = new JsonObject { ["prompt_tokens"] = 11, ["completion_tokens"] = 7, ["total_tokens"] = 18 },
    }, TestContext.Current.CancellationToken);

    /// <summary>Answers piece by piece, as a model does that streams.</summary>
    public static async Task StreamAsync(HttpContext http, IEnumerable<string> pieces, Func<int, Task>? before = null)
    {
        http.Response.ContentType = "text/event-stream";
        var number = 0;
        foreach (var piece in pieces)
        {
            await (before?.Invoke(number++) ?? Task.CompletedTask);
            await WriteChunkAsync(http, new JsonArray(
                new JsonObject { ["index"] = 0, ["delta"] = new JsonObject { ["role"] = "assistant", ["content"] = piece } }), null);
        }

        await WriteChunkAsync(http,
            new JsonArray(new JsonObject { ["index"] = 0, ["delta"] = new JsonObject(), ["finish_reason"] = "stop" }), null);
        await WriteChunkAsync(http, [], new JsonObject { ["prompt_tokens"] = 11, ["completion_tokens"] = 7, ["total_tokens"] = 18 });
        await http.Response.WriteAsync("data: [DONE]\n\n", TestContext.Current.CancellationToken);
    }

    public static IReadOnlyList<(string Role, string Text)> Messages(JsonNode request) =>
        [.. request["messages"]!.AsArray().Select(message => ((string)message!["role"]!, Text(message["content"]!)))];

    /// <summary>What the user has said in a request, the query last.</summary>
    public static IEnumerable<string> Asked(JsonNode request) =>
        Messages(request).Where(message => message.Role == "user").Select(message => message.Text);

    /// <summary>An answer that tells exactly what it was given.</summary>
    public static string Digest(IEnumerable<string> texts) =>
        Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', texts))));

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private static string LastMessage(JsonNode request) => Messages(request)[^1].Text;

    private static string Text(JsonNode content) =>
        content is JsonArray parts ? string.Concat(parts.Select(part => (string)part!["text"]!)) : (string)content!;

    private static async Task WriteChunkAsync(HttpContext http, JsonArray choices, JsonObject? usage)
    {
        var chunk = new JsonObject
        {
            ["id"] = "chatcmpl-1",
            ["object"] = "chat.completion.chunk",
            ["created"] = 1767225600,
            ["model"] = "test-model",
            ["choices"] = choices,
            ["usage"] = usage,
        };
        await http.Response.WriteAsync($"data: {chunk.ToJsonString()}\n\n", TestContext.Current.CancellationToken);
        await http.Response.Body.FlushAsync(TestContext.Current.CancellationToken);
    }

    private async Task HandleAsync(HttpContext http)
    {
        var request = (await JsonNode.ParseAsync(http.Request.Body, cancellationToken: TestContext.Current.CancellationToken))!;
        int before;
        lock (_requests)
        {
            before = _requests.Count;
            _requests.Add(request);
        }

        await Reply(request, before, http);
    }
}
