using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sessions.Bench.Overload;

/// <summary>A language model that takes its time: what each query waits for.</summary>
internal sealed class Agent : IAsyncDisposable
{
    private const string Answer =
        """{"id":"1","object":"chat.completion","created":1767225600,"model":"slow","choices":[{"index":0"""
        + ""","finish_reason":"stop","message":{"role":"assistant","content":"Here is an answer."}}]"""
        + ""","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}""";

    private readonly WebApplication _app;
    private int _busy;
    private int _mostBusy;

    private Agent(WebApplication app) => _app = app;

    public string Endpoint => _app.Urls.Single() + "/v1";

    public int Busy => Volatile.Read(ref _busy);

    public int MostBusy => Volatile.Read(ref _mostBusy);

    public static async Task<Agent> StartAsync(Func<CancellationToken, Task> think)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var agent = new Agent(app);
        app.MapPost("/v1/chat/completions", async http =>
        {
            agent._mostBusy = Math.Max(agent._mostBusy, Interlocked.Increment(ref agent._busy));
            try
            {
                await think(http.RequestAborted);
                http.Response.ContentType = "application/json";
                await http.Response.WriteAsync(Answer);
            }
            finally
            {
                Interlocked.Decrement(ref agent._busy);
            }
        });
        await app.StartAsync();
        return agent;
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();
}
