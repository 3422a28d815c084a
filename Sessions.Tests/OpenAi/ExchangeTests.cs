using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Sessions.Tests.OpenAi;

/// <summary>
/// The wire as files, for people to read: <c>Exchanges/CASE/request.json</c>, and what it is answered with, <c>response.json</c> or
/// <c>events.txt</c>. Where something must be there before,
/// <c>before.json</c> lists the requests that make it; <c>{{1.id}}</c> is what the answer to the first of them has there. Ids are
/// counted, and times are 0.
/// With <c>SESSIONS_RECORD=1</c> the answers are written instead of compared.
/// </summary>
public sealed partial class ExchangeTests(ExchangeTests.Server shared) : IClassFixture<ExchangeTests.Server>
{
    private static readonly string Folder = Repository.File("Sessions.Tests", "OpenAi", "Exchanges");
    private static readonly bool Records = Environment.GetEnvironmentVariable("SESSIONS_RECORD") == "1";
    private static readonly JsonSerializerOptions Indented = new()
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static TheoryData<string> Cases =>
        [.. Directory.EnumerateDirectories(Folder).Select(folder => Path.GetFileName(folder)!).Order()];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task An_exchange_goes_as_it_was_recorded(string name)
    {
        var server = await shared.StartAsync();
        var folder = Path.Combine(Folder, name);
        List<JsonNode> before = [];
        var names = new Normalized.Names();
        if (File.Exists(Path.Combine(folder, "before.json")))
        {
            foreach (var made in JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "before.json"), Cancel))!.AsArray())
            {
                var (_, text, _) = await SendAsync(server, Fill(made!.ToJsonString(), before));
                names.Text(text);
                before.Add(JsonNode.Parse(text)!);
            }
        }

        var request = Fill(await File.ReadAllTextAsync(Path.Combine(folder, "request.json"), Cancel), before);
        names.Text(request);
        var (status, answer, isStream) = await SendAsync(server, request);
        var file = Path.Combine(folder, isStream ? "events.txt" : "response.json");
        var told = names.Text(isStream ? Comments.Replace(answer, "")
            : new JsonObject
            {
                ["status"] = status,
                ["body"] = JsonNode.Parse(answer),
            }.ToJsonString(Indented).ReplaceLineEndings("\n") + "\n");
        if (Records)
        {
            await File.WriteAllTextAsync(file, told, Cancel);
        }

        Assert.Equal((await File.ReadAllTextAsync(file, Cancel)).ReplaceLineEndings("\n"), told);
    }

    private static string Fill(string text, List<JsonNode> before) => Place.Replace(text, match =>
    {
        JsonNode? node = before[int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) - 1];
        foreach (var step in match.Groups[2].Value.Split('.', StringSplitOptions.RemoveEmptyEntries))
        {
            node = int.TryParse(step, CultureInfo.InvariantCulture, out var index) ? node![index] : node![step];
        }

        return (string)node!;
    });

    private static async Task<(int Status, string Text, bool IsStream)> SendAsync(OpenAiServer server, string exchange)
    {
        var json = JsonNode.Parse(exchange)!;
        using var request = new HttpRequestMessage(new HttpMethod((string)json["method"]!), (string)json["path"]!);
        if (json["body"] is { } body)
        {
            request.Content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json");
        }

        using var response = await server.Client.SendAsync(request, Cancel);
        var text = await response.Content.ReadAsStringAsync(Cancel);
        return ((int)response.StatusCode, text, response.Content.Headers.ContentType?.MediaType == "text/event-stream");
    }

    [GeneratedRegex(@"\{\{(\d+)((?:\.\w+)+)\}\}")]
    private static partial Regex Place { get; }

    [GeneratedRegex(@"^:.*\n\n", RegexOptions.Multiline)]
    private static partial Regex Comments { get; }

    /// <summary>One server for all: what each case names is its own.</summary>
    public sealed class Server : IAsyncDisposable
    {
        private readonly SemaphoreSlim _lock = new(1);
        private OpenAiServer? _server;

        internal async Task<OpenAiServer> StartAsync()
        {
            await _lock.WaitAsync(Cancel);
            try
            {
                return _server ??= await OpenAiServer.StartAsync();
            }
            finally
            {
                _lock.Release();
            }
        }

        public async ValueTask DisposeAsync()
        {
            _lock.Dispose();
            if (_server is not null)
            {
                await _server.DisposeAsync();
            }
        }
    }
}
