using System.CommandLine;
using System.Net.Http.Headers;
using System.Net.ServerSentEvents;
using System.Text.Json;
using Sessions.Api.Http.OpenAi;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>Talks to an agent of a running server, from a terminal: for people without a browser.</summary>
internal static class ChatCommand
{
    private const string KeyVariable = "CHAT_API_KEY";
    private const int ShownTurns = 10;

    public static Command Create()
    {
        Option<string?> user = new("--user") { Description = "Who you are; the session is then yours", HelpName = "USER" };
        Option<string?> agent = new("--agent") { Description = "Which agent answers, if not the default one", HelpName = "NAME" };
        Option<string?> thread = new("--thread") { Description = "The session to go on with, if there is one", HelpName = "ID" };
        Option<string> url = new("--url")
        {
            Description = "Where the server is",
            HelpName = "URL",
            DefaultValueFactory = _ => "http://localhost:8080",
        };
        Command command = new("chat", $"Talks to an agent of a running server; {KeyVariable} may hold an API key")
        {
            user, agent, thread, url,
        };
        return command.Runs(async (input, cancellationToken) =>
        {
            if (!Uri.TryCreate(input.Get(url), UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https"))
            {
                throw new SettingsException($"--url: '{input.Get(url)}' is not allowed; allowed: an http or https address.");
            }

            // Behind a proxy the server may have a path of its own: what is asked for goes on from it.
            var home = new UriBuilder(address) { Path = $"{address.AbsolutePath.TrimEnd('/')}/", Query = "", Fragment = "" }.Uri;
            using var http = new HttpClient { BaseAddress = home, Timeout = Timeout.InfiniteTimeSpan };
            if (Environment.GetEnvironmentVariable(KeyVariable) is { Length: > 0 } key)
            {
                http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
            }

            var chat = new Chat(http, input.Get(user), input.Get(agent), input.Get(thread));
            await chat.RunAsync(cancellationToken);
            return "";
        });
    }

    /// <summary>One conversation.</summary>
    /// <param name="http">Reaches the server.</param>
    /// <param name="user">Who asks.</param>
    /// <param name="agent">Who answers.</param>
    /// <param name="thread">The session; a new one where it is absent.</param>
    private sealed class Chat(HttpClient http, string? user, string? agent, string? thread)
    {
        private string? _thread = thread;

        public async Task RunAsync(CancellationToken cancellationToken)
        {
            // What is said goes to the standard output, all else to the other one.
            await Console.Error.WriteLineAsync("A line is a question. /new begins another session; /exit, or the end of the input, ends.");
            if (_thread is not null)
            {
                await ShowHistoryAsync(_thread, cancellationToken);
            }

            while (await ReadAsync(cancellationToken) is { } line)
            {
                switch (line.Trim())
                {
                    case "":
                        break;
                    case "/exit" or "/quit":
                        return;
                    case "/new":
                        _thread = null;
                        break;
                    default:
                        await AskAsync(line, cancellationToken);
                        break;
                }
            }
        }

        private async Task<string?> ReadAsync(CancellationToken cancellationToken)
        {
            if (!Console.IsInputRedirected)
            {
                await Console.Error.WriteAsync($"{user ?? "you"}> ");
            }

            // The console knows no cancellation; Ctrl-C ends the program.
            return await Task.Run(Console.In.ReadLine, cancellationToken).WaitAsync(cancellationToken);
        }

        private async Task ShowHistoryAsync(string session, CancellationToken cancellationToken)
        {
            var owner = user is null ? "" : $"&user_id={Uri.EscapeDataString(user)}";
            var path = $"sessions/{Uri.EscapeDataString(session)}/history?order=desc&limit={ShownTurns}{owner}";
            using var request = new HttpRequestMessage(HttpMethod.Get, path);
            using var response = await SendAsync(request, cancellationToken);
            if (response.StatusCode == System.Net.HttpStatusCode.NotFound)
            {
                await Console.Error.WriteLineAsync($"There is no session '{session}' yet; it begins now.");
                return;
            }

            var body = await response.Content.ReadAsByteArrayAsync(cancellationToken);
            if (!response.IsSuccessStatusCode)
            {
                throw new SettingsException(DetailOf(body, response));
            }

            using var history = JsonDocument.Parse(body);
            foreach (var turn in history.RootElement.GetProperty("turns").EnumerateArray().Reverse())
            {
                await Console.Out.WriteLineAsync($"{user ?? "you"}> {TextOf(turn, "query")}\n{TextOf(turn, "response")}\n");
            }
        }

        private async Task AskAsync(string query, CancellationToken cancellationToken)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, "query")
            {
                Content = new ReadOnlyMemoryContent(Json.Write((query, _thread, user, agent), static (json, x) =>
                {
                    json.WriteStartObject();
                    json.WriteString("query", x.query);
                    json.WriteBoolean("stream", true);
                    ReadOnlySpan<(string, string?)> fields = [("thread_id", x._thread), ("user_id", x.user), ("agent_type", x.agent)];
                    foreach (var (name, value) in fields)
                    {
                        if (value is not null)
                        {
                            json.WriteString(name, value);
                        }
                    }

                    json.WriteEndObject();
                })),
            };
            request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
            using var response = await SendAsync(request, cancellationToken);
            if (!response.IsSuccessStatusCode)
            {
                await Console.Error.WriteLineAsync(DetailOf(await response.Content.ReadAsByteArrayAsync(cancellationToken), response));
                return;
            }

            try
            {
                await using var stream = await response.Content.ReadAsStreamAsync(cancellationToken);
                await foreach (var happened in SseParser.Create(stream).EnumerateAsync(cancellationToken))
                {
                    await TellAsync(happened.EventType, happened.Data);
                }
            }
            catch (Exception e) when (e is IOException or HttpRequestException)
            {
                await Console.Error.WriteLineAsync("\nThe connection broke off; what was answered by then is in the history.");
            }
        }

        private async Task TellAsync(string type, string data)
        {
            using var told = JsonDocument.Parse(data);
            switch (type)
            {
                case "session":
                    if (_thread is null)
                    {
                        _thread = TextOf(told.RootElement, "thread_id");
                        await Console.Error.WriteLineAsync($"Session {_thread}");
                    }

                    break;
                case "delta":
                    await Console.Out.WriteAsync(TextOf(told.RootElement, "text"));
                    await Console.Out.FlushAsync();
                    break;
                case "item" when TextOf(told.RootElement, "type") == "mcp_call":
                    var (item, failure) = (told.RootElement, TextOf(told.RootElement, "error"));
                    await Console.Error.WriteLineAsync(
                        $"[{TextOf(item, "server_label")}/{TextOf(item, "name")} {TextOf(item, "arguments")}"
                        + (failure.Length > 0 ? $": {failure}]" : "]"));
                    break;
                case "done":
                    await Console.Out.WriteLineAsync("\n");
                    if (TextOf(told.RootElement.GetProperty("metadata"), "incomplete_reason") is { Length: > 0 } reason)
                    {
                        await Console.Error.WriteLineAsync($"The answer is incomplete: {reason}.");
                    }

                    break;
                case "error":
                    await Console.Error.WriteLineAsync(TextOf(told.RootElement, "detail"));
                    break;
            }
        }

        private async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            try
            {
                return await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
            }
            catch (HttpRequestException e)
            {
                throw new SettingsException(
                    $"{http.BaseAddress} can't be reached ({e.HttpRequestError}); is the server running there? --url says where it is.");
            }
        }

        private static string DetailOf(byte[] body, HttpResponseMessage response)
        {
            try
            {
                using var problem = JsonDocument.Parse(body);
                return TextOf(problem.RootElement, "detail") is { Length: > 0 } detail ? detail : Plain(response);
            }
            catch (JsonException)
            {
                return Plain(response);
            }
        }

        private static string Plain(HttpResponseMessage response) =>
            $"The server answered {(int)response.StatusCode}; is it a Sessions server?";

        private static string TextOf(JsonElement element, string name) =>
            element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var value)
            && value.ValueKind == JsonValueKind.String
                ? value.GetString()! : "";
    }
}
