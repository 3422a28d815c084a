using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Mvc.Testing;
using Microsoft.AspNetCore.TestHost;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests;

/// <summary>The real server, in this process, on a port of its own: what goes over HTTP here goes over a socket.</summary>
internal sealed class SessionsServer : WebApplicationFactory<TurnRunner>
{
    private readonly Dictionary<string, string> _settings = [];
    private readonly string _config = Path.GetTempFileName();
    private readonly Action<IServiceCollection>? _configure;
    private HttpClient? _client;

    private SessionsServer(Action<IServiceCollection>? configure) => _configure = configure;

    public FakeTimeProvider Time { get; } = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));

    public HttpClient Client => _client ?? throw new InvalidOperationException("Not started.");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Starts a server with these settings (keys as on the command line: <c>sessions:timeout_hours</c>).</summary>
    public static SessionsServer Start(IEnumerable<(string Key, string Value)> settings, Action<IServiceCollection>? configure = null)
    {
        var server = new SessionsServer(configure);
        foreach (var (key, value) in settings)
        {
            server._settings[key] = value;
        }

        server.UseKestrel();
        server.StartServer();
        server._client = server.CreateClient();
        return server;
    }

    protected override void ConfigureWebHost(IWebHostBuilder builder)
    {
        builder.UseSetting("urls", "http://127.0.0.1:0");

        // An empty file of its own: the one in the repository is for people to change.
        builder.UseSetting("SESSIONS_CONFIG", _config);
        foreach (var (key, value) in _settings)
        {
            builder.UseSetting(key, value);
        }

        builder.ConfigureLogging(logging => logging.SetMinimumLevel(LogLevel.Error));
        builder.ConfigureTestServices(services =>
        {
            services.AddSingleton<TimeProvider>(Time);
            _configure?.Invoke(services);
        });
    }

    public async Task<Answer> SendAsync(HttpMethod method, string path, string? json = null, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path);
        if (json is not null)
        {
            request.Content = new StringContent(json, Encoding.UTF8, "application/json");
        }

        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        using var response = await Client.SendAsync(request, Cancel);
        return await Answer.ReadAsync(response);
    }

    public Task<Answer> GetAsync(string path, params (string Name, string Value)[] headers) =>
        SendAsync(HttpMethod.Get, path, null, headers);

    public Task<Answer> DeleteAsync(string path) => SendAsync(HttpMethod.Delete, path);

    public Task<Answer> PostAsync(string path, object? body = null, params (string Name, string Value)[] headers) =>
        SendAsync(HttpMethod.Post, path, body is null ? null : body as string ?? JsonSerializer.Serialize(body), headers);

    /// <summary>Asks, and expects an answer.</summary>
    public async Task<JsonNode> QueryAsync(string query, string? thread = null, string? user = null, string? agent = null)
    {
        var answer = await TryQueryAsync(query, thread, user, agent);
        Assert.True(answer.Status == 200, answer.Text);
        return answer.Json;
    }

    public Task<Answer> TryQueryAsync(string query, string? thread = null, string? user = null, string? agent = null) =>
        PostAsync("/query", new { query, thread_id = thread, user_id = user, agent_type = agent });

    /// <summary>The queries of a session's last turns, oldest first.</summary>
    public async Task<List<string>> HistoryAsync(string session) =>
        [.. (await GetAsync($"/sessions/{session}/history")).Json["turns"]!.AsArray().Select(turn => (string)turn!["query"]!)];

    /// <summary>The server's own service.</summary>
    public T Get<T>() where T : notnull => Services.GetRequiredService<T>();

    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        File.Delete(_config);
    }
}

/// <summary>What the server answered.</summary>
internal sealed record Answer(int Status, string Text, string? ContentType, IReadOnlyDictionary<string, string> Headers)
{
    public JsonNode Json => JsonNode.Parse(Text) ?? throw new InvalidOperationException("null");

    public string? Code => (string?)Json["code"];

    public static async Task<Answer> ReadAsync(HttpResponseMessage response) => new(
        (int)response.StatusCode,
        await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken),
        response.Content.Headers.ContentType?.MediaType,
        response.Headers.ToDictionary(header => header.Key, header => string.Join(",", header.Value), StringComparer.OrdinalIgnoreCase));

    /// <summary>Checks that this is a problem of the form that all have.</summary>
    public Answer IsProblem(int status, string code)
    {
        Assert.True(Status == status, $"{Status} rather than {status}: {Text}");
        Assert.Equal("application/problem+json", ContentType);
        Assert.Equal(code, Code);
        Assert.Equal(status, (int)Json["status"]!);
        Assert.Equal($"urn:sessions:problem:{code}", (string?)Json["type"]);
        Assert.NotEmpty((string)Json["title"]!);
        Assert.NotEmpty((string)Json["detail"]!);
        Assert.NotEmpty((string)Json["trace_id"]!);
        return this;
    }
}
