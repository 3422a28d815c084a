using System.ClientModel;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.Logging;
using OpenAI;

namespace Sessions.Tests.Configuration;

/// <summary>
/// The packages OpenAI and Microsoft.Extensions.AI.OpenAI belong together: the second is compiled against one version of the first, and
/// with another a call may find its method gone only when it is made. So each call is made here.
/// </summary>
public sealed class OpenAIPackagesTests : IAsyncDisposable
{
    private const string Usage = """
        {"input_tokens":3,"input_tokens_details":{"cached_tokens":0},
        "output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5}
        """;

    private readonly WebApplication _server = Server();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    [Fact]
    public async Task Chat_completions_are_read_whole_and_in_pieces()
    {
        await using var server = await ChatCompletionsServer.StartAsync();
        server.Reply = (request, _, http) => (bool?)request["stream"] == true
            ? ChatCompletionsServer.StreamAsync(http, ["Good ", "day"])
            : ChatCompletionsServer.AnswerAsync(http, "Good day");
        using var chat = Client(server.Endpoint).GetChatClient("test-model").AsIChatClient();

        await AnswersAsync(chat, "Good day");
    }

    [Fact]
    public async Task Responses_are_read_whole_and_in_pieces()
    {
        await _server.StartAsync(Cancel);
#pragma warning disable OPENAI001 // Experimental there, and what many agents speak.
        using var chat = Client(_server.Urls.Single() + "/v1").GetResponsesClient().AsIChatClient("test-model");
#pragma warning restore OPENAI001

        await AnswersAsync(chat, "Good day");
    }

    private static async Task AnswersAsync(IChatClient chat, string text)
    {
        ChatMessage[] messages = [new(ChatRole.User, "Hello")];
        var options = new ChatOptions { Temperature = 0, Tools = [AIFunctionFactory.Create(() => "noon", "clock")] };

        Assert.Equal(text, (await chat.GetResponseAsync(messages, options, Cancel)).Text);

        var pieces = await chat.GetStreamingResponseAsync(messages, options, Cancel).ToListAsync(Cancel);
        Assert.Equal(text, string.Concat(pieces.Select(piece => piece.Text)));
        Assert.True(pieces.Count(piece => piece.Text.Length > 0) > 1);
        Assert.NotEmpty(pieces.SelectMany(piece => piece.Contents.OfType<UsageContent>()));
    }

    private static OpenAIClient Client(string endpoint) => new(new ApiKeyCredential("none"), new() { Endpoint = new Uri(endpoint) });

    private static WebApplication Server()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        app.MapPost("/v1/responses", AnswerAsync);
        return app;
    }

    private static async Task AnswerAsync(HttpContext http)
    {
        using var request = await JsonDocument.ParseAsync(http.Request.Body, cancellationToken: Cancel);
        if (request.RootElement.TryGetProperty("stream", out var stream) && stream.GetBoolean())
        {
            http.Response.ContentType = "text/event-stream";
            foreach (var (data, number) in Events().Select((data, number) => (data, number)))
            {
                var numbered = data.Replace("NUMBER", $"{number}", StringComparison.Ordinal).ReplaceLineEndings("");
                await http.Response.WriteAsync($"data: {numbered}\n\n", Cancel);
            }

            return;
        }

        http.Response.ContentType = "application/json";
        await http.Response.WriteAsync(Response("completed", Usage), Cancel);
    }

    private static IEnumerable<string> Events()
    {
        const string Item = """
            "sequence_number":NUMBER,"output_index":0
            """;
        const string Part = $$"""
            {{Item}},"item_id":"msg_1","content_index":0
            """;
        yield return $$"""{"type":"response.created","sequence_number":NUMBER,"response":{{Response("in_progress")}} }""";
        yield return $$"""{"type":"response.output_item.added",{{Item}},"item":{{Message("in_progress")}} }""";
        yield return $$"""{"type":"response.content_part.added",{{Part}},"part":{{Text("")}} }""";
        yield return $$"""{"type":"response.output_text.delta",{{Part}},"delta":"Good "}""";
        yield return $$"""{"type":"response.output_text.delta",{{Part}},"delta":"day"}""";
        yield return $$"""{"type":"response.output_text.done",{{Part}},"text":"Good day"}""";
        yield return $$"""{"type":"response.output_item.done",{{Item}},"item":{{Message("completed", Text("Good day"))}} }""";
        yield return $$"""{"type":"response.completed","sequence_number":NUMBER,"response":{{Response("completed", Usage)}} }""";
    }

    private static string Text(string text) => $$"""{"type":"output_text","text":"{{text}}","annotations":[]}""";

    private static string Message(string status, string content = "") =>
        $$"""{"type":"message","id":"msg_1","status":"{{status}}","role":"assistant","content":[{{content}}]}""";

    private static string Response(string status, string usage = "null") => $$"""
        {"id":"resp_1","object":"response","created_at":1767225600,"status":"{{status}}","model":"test-model",
        "output":[{{(usage == "null" ? "" : Message("completed", Text("Good day")))}}],"usage":{{usage}} }
        """;
}
