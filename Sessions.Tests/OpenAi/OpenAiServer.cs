using System.Net.ServerSentEvents;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

/// <summary>
/// The server as a process of its own, with a model behind it that does what it is told. Each answer and each event that comes through
/// here is checked against its schema, and each stream
/// against what all streams keep to.
/// </summary>
internal sealed class OpenAiServer : IAsyncDisposable
{
    private readonly (string Key, string Value)[] _settings;
    private ServiceProcess? _process;
    private HttpClient? _client;

    private OpenAiServer(ScriptedModel model, (string Key, string Value)[] settings) => (Model, _settings) = (model, settings);

    /// <summary>The model.</summary>
    public ScriptedModel Model { get; }

    /// <summary>The server's address.</summary>
    public Uri Address => Client.BaseAddress!;

    /// <summary>What clients of OpenAI's are given as base address.</summary>
    public Uri BaseUrl => new(Address, "v1");

    public HttpClient Client => _client ?? throw new InvalidOperationException("Not started.");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Starts one: its agents are <c>model</c>, which is also <c>gpt-5</c>, and the default, <c>advanced</c>.</summary>
    public static Task<OpenAiServer> StartAsync(params IEnumerable<(string Key, string Value)> settings) => StartAsync(_ => settings);

    /// <summary>Starts one with settings that name the model.</summary>
    public static async Task<OpenAiServer> StartAsync(Func<ScriptedModel, IEnumerable<(string Key, string Value)>> settings)
    {
        var model = await ScriptedModel.StartAsync();
        var server = new OpenAiServer(model,
        [
            .. model.Agent("model"), ("agents:model:accepts:0", "image"), ("agents:model:accepts:1", "file"),
            ("agents:model:aliases:0", "gpt-5"), ("agents:model:api_key", "none"), .. settings(model),
        ]);
        await server.StartProcessAsync();
        return server;
    }

    /// <summary>Ends the process without warning, and starts another one on what it has left.</summary>
    public async Task RestartAsync()
    {
        _process!.Signal("KILL");
        await _process.ExitAsync();
        await _process.DisposeAsync();
        await StartProcessAsync();
    }

    /// <summary>Ends the process as an orchestrator does.</summary>
    public Task StopAsync() => _process!.StopAsync();

    public async Task<Answer> SendAsync(HttpMethod method, string path, object? body = null, params (string Name, string Value)[] headers)
    {
        using var request = Request(method, path, body, headers);
        using var response = await Client.SendAsync(request, Cancel);
        var answer = await Answer.ReadAsync(response);
        if (path.StartsWith("/v1", StringComparison.Ordinal))
        {
            Assert.True(answer.ContentType == "application/json", $"{method} {path}: {answer.Status} {answer.ContentType} {answer.Text}");
            Assert.NotEmpty(answer.Headers["x-request-id"]);
            Schemas.Check(Schemas.NameOf(method, path, answer.Status), answer.Json);
        }

        return answer;
    }

    public Task<Answer> GetAsync(string path) => SendAsync(HttpMethod.Get, path);

    public Task<Answer> DeleteAsync(string path) => SendAsync(HttpMethod.Delete, path);

    public Task<Answer> PostAsync(string path, object? body = null, params (string Name, string Value)[] headers) =>
        SendAsync(HttpMethod.Post, path, body, headers);

    /// <summary>Makes something, and expects that to go well.</summary>
    public async Task<JsonNode> MakeAsync(string path, object? body = null)
    {
        var answer = await PostAsync(path, body);
        Assert.True(answer.Status == 200, answer.Text);
        return answer.Json;
    }

    /// <summary>Makes something, and gives its id.</summary>
    public async Task<string> IdOfAsync(string path, object? body = null) => (string)(await MakeAsync(path, body))["id"]!;

    /// <summary>The items of a conversation, oldest first.</summary>
    public async Task<IReadOnlyList<JsonNode>> ItemsAsync(string conversation, string query = "") =>
        [.. (await GetAsync($"/v1/conversations/{conversation}/items?order=asc&limit=100{query}")).Json["data"]!.AsArray()!];

    /// <summary>A stream from its first event on, to its end.</summary>
    public async Task<IReadOnlyList<StreamEvent>> StreamAsync(object body, params (string Name, string Value)[] headers)
    {
        var json = JsonSerializer.SerializeToNode(body)!;
        json["stream"] = true;
        var events = await ReadAsync(HttpMethod.Post, "/v1/responses", json, int.MaxValue, headers);
        ResponseStream.Check(events);
        return events;
    }

    /// <summary>The first events of a stream: then the client hangs up.</summary>
    public async Task<IReadOnlyList<StreamEvent>> ReadAsync(
        HttpMethod method, string path, object? body, int count, params (string Name, string Value)[] headers)
    {
        using var request = Request(method, path, body, headers);
        using var response = await Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        Assert.True(response.IsSuccessStatusCode, await TextOfAsync(response));
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        List<StreamEvent> events = [];
        await using var stream = await response.Content.ReadAsStreamAsync(Cancel);
        await foreach (var item in SseParser.Create(stream).EnumerateAsync(Cancel))
        {
            var read = new StreamEvent(item.EventType, item.Data);
            Assert.Equal(item.EventType, (string?)read.Json["type"]);
            Schemas.Check($"event:{item.EventType}", read.Json);
            events.Add(read);
            if (events.Count == count)
            {
                break;
            }
        }

        return events;
    }

    public async ValueTask DisposeAsync()
    {
        _client?.Dispose();
        if (_process is not null)
        {
            await _process.DisposeAsync();
        }

        await Model.DisposeAsync();
    }

    private static async Task<string> TextOfAsync(HttpResponseMessage response) =>
        response.IsSuccessStatusCode ? "" : await response.Content.ReadAsStringAsync(Cancel);

    private static HttpRequestMessage Request(HttpMethod method, string path, object? body, (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(method, path);
        if (body is not null)
        {
            request.Content = new StringContent(body as string ?? JsonSerializer.Serialize(body), Encoding.UTF8, "application/json");
        }

        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        return request;
    }

    private async Task StartProcessAsync()
    {
        _process = ServiceProcess.Api(
            _settings.Select(setting => (setting.Key.Replace(":", "__", StringComparison.Ordinal), setting.Value)));
        _client?.Dispose();
        _client = new HttpClient { BaseAddress = await _process.AddressAsync(), Timeout = TimeSpan.FromMinutes(2) };
    }
}

/// <summary>An event of a stream.</summary>
/// <param name="Type">Its type.</param>
/// <param name="Data">Its data, as they came.</param>
internal sealed record StreamEvent(string Type, string Data)
{
    public JsonNode Json { get; } = JsonNode.Parse(Data)!;

    public int Number => (int)Json["sequence_number"]!;

    /// <summary>The response that the event holds, as it came.</summary>
    public string Response => Data[(Data.IndexOf("\"response\":", StringComparison.Ordinal) + "\"response\":".Length)..^1];
}

/// <summary>What all whole streams keep to, whatever they tell.</summary>
internal static class ResponseStream
{
    public static void Check(IReadOnlyList<StreamEvent> events)
    {
        Assert.Equal(Enumerable.Range(0, events.Count), events.Select(happened => happened.Number));
        Assert.Equal(["response.created", "response.in_progress"], events.Take(2).Select(happened => happened.Type));
        Assert.Equal(events[0].Response, events[1].Response);
        var id = (string?)events[0].Json["response"]!["id"];
        Assert.All(events.Where(happened => happened.Json["response"] is not null),
            happened => Assert.Equal(id, (string?)happened.Json["response"]!["id"]));

        List<JsonNode> done = [];
        JsonNode? open = null;
        Dictionary<int, StringBuilder> texts = [];
        StringBuilder arguments = new();
        for (var i = 2; i < events.Count; i++)
        {
            var (type, data) = (events[i].Type, events[i].Json);
            if (data["output_index"] is { } index)
            {
                Assert.Equal(done.Count, (int)index);
            }

            if (data["item_id"] is { } item)
            {
                Assert.Equal((string?)open?["id"], (string?)item);
            }

            var part = (int?)data["content_index"] ?? 0;
            switch (type)
            {
                case "response.output_item.added":
                    Assert.Null(open);
                    open = data["item"]!;
                    texts.Clear();
                    arguments.Clear();
                    break;
                case "response.content_part.added":
                    Assert.Equal(texts.Count, part);
                    texts[part] = new StringBuilder();
                    break;
                case "response.output_text.delta" or "response.refusal.delta":
                    texts[part].Append((string?)data["delta"]);
                    break;
                case "response.output_text.done":
                    Assert.Equal((string?)data["text"], texts[part].ToString());
                    break;
                case "response.refusal.done":
                    Assert.Equal((string?)data["refusal"], texts[part].ToString());
                    break;
                case "response.content_part.done":
                    Assert.Equal((string?)(data["part"]!["text"] ?? data["part"]!["refusal"]), texts[part].ToString());
                    break;
                case "response.mcp_call.in_progress" or "response.mcp_call.completed" or "response.mcp_call.failed":
                    Assert.Equal("mcp_call", (string?)open!["type"]);
                    break;
                case "response.function_call_arguments.delta" or "response.mcp_call_arguments.delta":
                    arguments.Append((string?)data["delta"]);
                    break;
                case "response.function_call_arguments.done" or "response.mcp_call_arguments.done":
                    Assert.Equal((string?)data["arguments"], arguments.ToString());
                    break;
                case "response.output_item.done":
                    Assert.Equal((string?)open!["id"], (string?)data["item"]!["id"]);
                    done.Add(data["item"]!);
                    open = null;
                    break;
                case "error":
                    Assert.Equal(events.Count - 2, i);
                    Assert.Equal("response.failed", events[i + 1].Type);
                    break;
                case "response.failed":
                    Assert.Equal("error", events[i - 1].Type);
                    break;
                case "response.completed" or "response.incomplete":
                    Assert.Equal(events.Count - 1, i);
                    Assert.Null(open);
                    Assert.True(JsonNode.DeepEquals(new JsonArray([.. done.Select(made => made.DeepClone())]),
                        data["response"]!["output"]), data.ToJsonString());
                    break;
                default:
                    Assert.Fail($"{type} in {string.Join(", ", events.Select(happened => happened.Type))}");
                    break;
            }
        }

        Assert.Contains(events[^1].Type, (string[])["response.completed", "response.incomplete", "response.failed"]);
    }
}

/// <summary>Where a server keeps what it keeps: chosen by the name of the store, gone after the test.</summary>
internal sealed class OpenAiStore : IAsyncDisposable
{
    private readonly TestFolder _folder = new();
    private RedisProcess? _redis;
    private PostgresServer? _postgres;

    private OpenAiStore(string name) => Name = name;

    public string Name { get; }

    /// <summary>Whether what was answered is there after a restart.</summary>
    public bool IsDurable => Name != "memory";

    public IEnumerable<(string Key, string Value)> Settings => Name switch
    {
        "sqlite" => [("sessions:storage_type", "sqlite"), ("sessions:db_path", _folder["sessions.db"])],
        "redis" => [("sessions:storage_type", "redis"), ("ConnectionStrings:redis", _redis!.Address)],
        "postgres" => [("sessions:storage_type", "postgres"), ("ConnectionStrings:postgres", _postgres!.ConnectionString)],
        _ => [("sessions:storage_type", "memory")],
    };

    public string this[string file] => _folder[file];

    public static async Task<OpenAiStore> CreateAsync(string name)
    {
        var store = new OpenAiStore(name);
        try
        {
            store._redis = name == "redis" ? await RedisProcess.StartAsync() : null;
            store._postgres = name == "postgres" ? await PostgresServer.StartAsync() : null;
            return store;
        }
        catch
        {
            await store.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        _redis?.Dispose();
        if (_postgres is not null)
        {
            await _postgres.DisposeAsync();
        }

        _folder.Dispose();
    }
}
