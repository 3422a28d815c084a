using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Testing;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Agents;

/// <summary>Agents as the server has them, by configuration, without the server.</summary>
internal sealed class AgentHost : IAsyncDisposable
{
    private readonly IHost _host;

    private AgentHost(IHost host) => _host = host;

    public AgentCatalog Catalog => _host.Services.GetRequiredService<AgentCatalog>();

    public IReadOnlyList<FakeLogRecord> Logs => _host.Services.GetFakeLogCollector().GetSnapshot();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Makes them; of two settings with one key the last counts.</summary>
    public static AgentHost Start(IEnumerable<(string Key, string Value)> settings, TimeProvider? time = null)
    {
        var builder = Host.CreateApplicationBuilder(new HostApplicationBuilderSettings { DisableDefaults = true });
        builder.Configuration.AddInMemoryCollection(settings.GroupBy(setting => setting.Key)
            .Select(group => KeyValuePair.Create(group.Key, (string?)group.Last().Value)));
        builder.AddServiceDefaults();
        builder.Logging.AddFakeLogging();
        builder.Services.AddSingleton(time ?? TimeProvider.System);
        builder.AddSettings<LimitSettings>(LimitSettings.Section);
        builder.AddSettings<TelemetrySettings>(TelemetrySettings.Section);
        builder.AddAgents(builder.AddSettings<AgentsSettings>(AgentsSettings.Section));
        return new AgentHost(builder.Build());
    }

    /// <summary>Asks the agent <c>model</c>.</summary>
    public Task<AgentAnswer> AskAsync(
        Items input, Recorder? observer = null, AnswerOptions? options = null, IReadOnlyList<Turn>? history = null, Summary? summary = null,
        string agent = "model") =>
        Catalog.Get(agent).AnswerAsync(Request(input, options, history, summary), observer, CancellationToken.None, Cancel).AsTask();

    /// <summary>Asks the agent <c>model</c>, which fails.</summary>
    public async Task<Error> FailAsync(bool streamed = false, string agent = "model") =>
        (await Assert.ThrowsAsync<AgentException>(
            () => AskAsync(Items.OfText("hello"), streamed ? new Recorder() : null, agent: agent))).Error;

    public static AgentRequest Request(
        Items input, AnswerOptions? options = null, IReadOnlyList<Turn>? history = null, Summary? summary = null) =>
        new()
        {
            SessionId = "s1",
            UserId = "ada",
            Turn = (history?.Count ?? 0) + 1,
            Summary = summary,
            History = history ?? [],
            Input = input,
            Options = options ?? AnswerOptions.None,
        };

    public static Turn Turn(int number, Items input, Items output, int? parent = null, int? tokens = null) => new()
    {
        Number = number,
        Parent = parent ?? number - 1,
        RunStart = 1,
        Nonce = TurnNonce.OfNumber(number),
        Input = input,
        Output = output,
        AgentType = "model",
        AgentUsed = "openai/test-model",
        CreatedAt = DateTimeOffset.UnixEpoch,
        HistoryTokens = tokens,
    };

    public static Items Json(string array) => Items.OfJson(System.Text.Encoding.UTF8.GetBytes(array));

    public async ValueTask DisposeAsync()
    {
        if (_host is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }
    }
}

/// <summary>What an agent told, in order.</summary>
internal sealed class Recorder : ITurnObserver
{
    private readonly List<string> _told = [];

    public Action<TurnEvent>? Happened { get; set; }

    /// <summary>One line for each event.</summary>
    public IReadOnlyList<string> Told
    {
        get
        {
            lock (_told)
            {
                return [.. _told];
            }
        }
    }

    public void Flush()
    {
    }

    public void On(TurnEvent happened)
    {
        lock (_told)
        {
            _told.Add(happened switch
            {
                ItemAdded added => $"added {added.Index} {added.Type} {Text(added.Item)}",
                TextDelta { IsRefusal: true } refusal => $"refusal {refusal.Index}.{refusal.ContentIndex} {refusal.Text}",
                TextDelta delta => $"text {delta.Index}.{delta.ContentIndex} {delta.Text}",
                ArgumentsDelta delta => $"arguments {delta.Index} {delta.Delta}",
                ItemDone done => $"done {done.Index} {done.Type} {Text(done.Item)}",
                _ => happened.ToString(),
            });
        }

        Happened?.Invoke(happened);
    }

    private static string Text(ReadOnlyMemory<byte> json) => System.Text.Encoding.UTF8.GetString(json.Span);
}

/// <summary>What servers send that speak, more or less, the wire format of chat completions.</summary>
internal static class Wire
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Sends these as the data of events, as they are.</summary>
    public static async Task StreamAsync(HttpContext http, params IEnumerable<string> data)
    {
        http.Response.ContentType = "text/event-stream";
        foreach (var piece in data)
        {
            await http.Response.WriteAsync($"data: {piece}\n\n", Cancel);
            await http.Response.Body.FlushAsync(Cancel);
        }
    }

    public static Task JsonAsync(HttpContext http, string json)
    {
        http.Response.ContentType = "application/json";
        return http.Response.WriteAsync(json, Cancel);
    }

    /// <summary>A piece of text.</summary>
    public static string Piece(string content, string id = "c1") =>
        Delta($$"""{"role":"assistant","content":{{JsonSerializer.Serialize(content)}}}""", id: id);

    /// <summary>A piece.</summary>
    public static string Delta(string delta, string finishReason = "null", string id = "c1", string more = "") =>
        $$"""{"id":"{{id}}","object":"chat.completion.chunk","created":1767225600,"model":"test-model-2026","choices":[{"index":0"""
        + $$""","delta":{{delta}},"finish_reason":{{finishReason}}}]{{more}}}""";

    /// <summary>The last piece.</summary>
    public static string End(string finishReason = "\"stop\"", string more = "") => Delta("{}", finishReason, more: more);

    public static string Whole(string message, string finishReason = "\"stop\"", string more = "") =>
        $$"""{"id":"c1","object":"chat.completion","created":1767225600,"model":"test-model-2026","choices":[{"index":0,"message":"""
        + $$"""{{message}},"finish_reason":{{finishReason}}}]{{more}}}""";

    public static string Whole(JsonNode message, string finishReason = "\"stop\"") => Whole(message.ToJsonString(), finishReason);
}
