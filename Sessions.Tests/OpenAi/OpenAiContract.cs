using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

/// <summary>What OpenAI's clients are promised under /v1, on the wire. Each store's tests derive from this class.</summary>
public abstract partial class OpenAiContract(string storeName) : IAsyncLifetime
{
    private readonly List<IAsyncDisposable> _owned = [];
    private OpenAiStore _store = null!;

    private protected static readonly object[] Functions =
    [
        new
        {
            type = "function",
            name = "add",
            description = "Adds one",
            parameters = new { type = "object", properties = new { round = new { type = "integer" } } },
            strict = true,
        },
    ];

    /// <summary>Requests whose responses differ in all that responses can differ in.</summary>
    private static readonly string[] Bodies =
    [
        """{"model":"model","input":"hello"}""",
        """{"input":"hello","user":"ada","safety_identifier":"s","prompt_cache_key":"p","metadata":{"a":"b"},"service_tier":"auto"}""",
        """{"model":"gpt-5","input":"say grüße, 世界 🌍 \"quoted\" \\ and \u0001","instructions":"Be <brief>.","temperature":1.0"""
        + ""","top_p":0.25,"max_output_tokens":100}""",
        """{"model":"model","input":"long"}""",
        """{"model":"model","input":"refuse","reasoning":{"effort":"low"}}""",
        """{"model":"model","input":"json","text":{"format":{"type":"json_schema","name":"place","schema":{"type":"object"}"""
        + ""","strict":true},"verbosity":"low"}}""",
        """{"model":"model","input":"both add","tools":[{"type":"function","name":"add","parameters":{"type":"object","$schema":"x"}}]"""
        + ""","tool_choice":"auto","parallel_tool_calls":false,"max_tool_calls":3}""",
        """{"model":"model","input":[{"role":"developer","content":"Be kind."},{"role":"user","content":"""
        + """[{"type":"input_text","text":"hi"}]}],"truncation":"auto"}""",
    ];

    /// <summary>
    /// Every way to name something by its id, and how what is not there is refused: CONV a conversation, RESP a response, ITEM an item in
    /// a conversation, OUT one of a response, OWN a conversation that is there.
    /// </summary>
    internal static readonly (string Method, string Path, string? Body, int Status)[] Lookups =
    [
        ("GET", "/v1/conversations/CONV", null, 404),
        ("POST", "/v1/conversations/CONV", """{"metadata":{}}""", 404),
        ("DELETE", "/v1/conversations/CONV", null, 404),
        ("GET", "/v1/conversations/CONV/items", null, 404),
        ("POST", "/v1/conversations/CONV/items", """{"items":[{"role":"user","content":"x"}]}""", 404),
        ("GET", "/v1/conversations/CONV/items/ITEM", null, 404),
        ("DELETE", "/v1/conversations/CONV/items/ITEM", null, 404),
        ("GET", "/v1/conversations/OWN/items/ITEM", null, 404),
        ("DELETE", "/v1/conversations/OWN/items/ITEM", null, 404),
        ("GET", "/v1/conversations/OWN/items?after=ITEM", null, 400),
        ("GET", "/v1/responses/RESP", null, 404),
        ("GET", "/v1/responses/RESP?stream=true", null, 404),
        ("DELETE", "/v1/responses/RESP", null, 404),
        ("GET", "/v1/responses/RESP/input_items", null, 404),
        ("POST", "/v1/responses", """{"model":"model","input":"x","conversation":"CONV"}""", 404),
        ("POST", "/v1/responses", """{"model":"model","input":"x","conversation":{"id":"CONV"},"stream":true}""", 404),
        ("POST", "/v1/responses", """{"model":"model","input":"x","previous_response_id":"RESP"}""", 400),
        ("POST", "/v1/responses", """{"model":"model","input":"x","previous_response_id":"RESP","stream":true,"store":false}""", 400),
        ("POST", "/v1/responses", """{"model":"model","input":[{"type":"item_reference","id":"ITEM"}]}""", 404),
        ("POST", "/v1/responses", """{"model":"model","input":[{"id":"OUT"}],"store":false}""", 404),
        ("POST", "/v1/conversations/OWN/items", """{"items":[{"type":"item_reference","id":"ITEM"}]}""", 400),
        ("POST", "/v1/responses",
            """{"model":"model","input":[{"type":"item_reference","id":"ITEM"}],"conversation":"OWN","stream":true}""", 404),
    ];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => _store = await OpenAiStore.CreateAsync(storeName);

    public async ValueTask DisposeAsync()
    {
        foreach (var owned in _owned)
        {
            await owned.DisposeAsync();
        }

        await _store.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task A_response_is_the_same_byte_for_byte_however_it_comes()
    {
        var server = await StartAsync();
        Dictionary<string, string> all = [];
        foreach (var body in Bodies)
        {
            var made = await server.PostAsync("/v1/responses", body);
            Assert.True(made.Status == 200, made.Text);
            var address = $"/v1/responses/{made.Json["id"]}";
            all[address] = made.Text;
            Assert.Equal(made.Text, (await server.GetAsync(address)).Text);
            var told = await server.ReadAsync(HttpMethod.Get, $"{address}?stream=true", null, int.MaxValue);
            ResponseStream.Check(told);
            Assert.Equal(made.Text, told[^1].Response);
            AssertAlike(told[0].Json["response"]!,
                (await server.ReadAsync(HttpMethod.Post, "/v1/responses", WithStream(body), 1))[0].Json["response"]!);

            var events = await server.StreamAsync(JsonNode.Parse(body)!);
            address = $"/v1/responses/{events[^1].Json["response"]!["id"]}";
            all[address] = events[^1].Response;
            Assert.Equal(events[^1].Response, (await server.GetAsync(address)).Text);
            AssertAlike(made.Json, events[^1].Json["response"]!);
        }

        if (_store.IsDurable)
        {
            await server.RestartAsync();
            foreach (var (address, text) in all)
            {
                Assert.Equal(text, (await server.GetAsync(address)).Text);
            }
        }
    }

    [Fact]
    public async Task Metadata_has_openais_own_bounds_here_and_does_not_keep_native_clients_from_changing_theirs()
    {
        var server = await StartAsync();
        var metadata = Enumerable.Range(0, 16).ToDictionary(i => $"key{i}", _ => new string('漢', 512));
        var conversation = await server.IdOfAsync("/v1/conversations?user_id=ada", new { metadata });
        async Task<JsonNode> StoredAsync() => (await server.GetAsync($"/v1/conversations/{conversation}")).Json["metadata"]!;
        Assert.Equal(JsonSerializer.SerializeToNode(metadata)!.ToJsonString(), (await StoredAsync()).ToJsonString());
        Assert.Equal(200, (await server.PostAsync($"/v1/conversations/{conversation}", new { metadata })).Status);
        Assert.Equal(200, (await server.PostAsync("/v1/responses", new { model = "model", input = "x", conversation, metadata })).Status);
        Assert.Single((await server.GetAsync("/v1/conversations?user_id=ada")).Json["data"]!.AsArray());

        // A native client changes one of its own, and takes one away.
        var native = $"/sessions/{conversation}";
        var patched = await server.SendAsync(
            HttpMethod.Patch, native, new { metadata = new { own = new { a = 1 }, key1 = (string?)null } });
        Assert.Equal((200, 1), (patched.Status, (int?)patched.Json["metadata"]!["own"]!["a"]));
        Assert.Equal(15, (await StoredAsync()).AsObject().Count);

        // What it keeps itself is bounded as ever, and so is what it puts in the place of the other's.
        foreach (var name in (string[])["own", "key2"])
        {
            var tooMuch = new Dictionary<string, string> { [name] = new('x', 16 << 10) };
            var refused = await server.SendAsync(HttpMethod.Patch, native, new { metadata = tooMuch });
            Assert.Equal((422, "limit_exceeded"), (refused.Status, (string?)refused.Json["code"]));
        }

        // It moves to another store as it is.
        using var export = await server.Client.GetAsync(new Uri("/users/ada/export", UriKind.Relative), Cancel);
        var file = _store["metadata.ndjson"];
        await File.WriteAllTextAsync(file, await export.Content.ReadAsStringAsync(Cancel), Cancel);
        await using var other = await OpenAiStore.CreateAsync("sqlite");
        await ImportAsync(file, other);
        await using var second = await OpenAiServer.StartAsync(other.Settings);
        Assert.Equal((await StoredAsync()).ToJsonString(),
            (await second.GetAsync($"/v1/conversations/{conversation}")).Json["metadata"]!.ToJsonString());
    }

    [Fact]
    public async Task A_response_is_the_same_byte_for_byte_in_another_store()
    {
        var server = await StartAsync();
        List<Answer> made = [];
        var conversation = await server.IdOfAsync("/v1/conversations?user_id=ada",
            new { metadata = new { topic = "demo", last_query = "mine" } });
        foreach (var body in Bodies)
        {
            made.Add(await server.PostAsync("/v1/responses?user_id=ada", body));
        }

        made.Add(await server.PostAsync("/v1/responses?user_id=ada", new { conversation, input = "in a conversation" }));
        made.Add(
            await server.PostAsync("/v1/responses?user_id=ada", new { input = "on", previous_response_id = (string?)made[^1].Json["id"] }));
        var answers = new Dictionary<string, string>();
        foreach (var address in made
            .SelectMany(one => (string[])[$"/v1/responses/{one.Json["id"]}", $"/v1/responses/{one.Json["id"]}/input_items"])
            .Append($"/v1/conversations/{conversation}").Append($"/v1/conversations/{conversation}/items"))
        {
            answers[address] = (await server.GetAsync($"{address}?user_id=ada")).Text;
        }

        using var export = await server.Client.GetAsync(new Uri("/users/ada/export", UriKind.Relative), Cancel);
        var file = _store["export.ndjson"];
        await File.WriteAllTextAsync(file, await export.Content.ReadAsStringAsync(Cancel), Cancel);
        await using var other = await OpenAiStore.CreateAsync("sqlite");
        await ImportAsync(file, other);
        await using var second = await OpenAiServer.StartAsync(other.Settings);
        foreach (var (address, text) in answers)
        {
            Assert.Equal(text, (await second.GetAsync($"{address}?user_id=ada")).Text);
        }

        var next = await second.MakeAsync("/v1/responses?user_id=ada",
            new { model = "model", input = "go on", previous_response_id = (string?)made[^1].Json["id"] });
        Assert.Equal("I heard 3: in a conversation / on / go on", TextOf(next));
    }

    [Fact]
    public async Task Ids_that_are_foreign_deleted_erased_or_unknown_are_refused_in_the_same_words()
    {
        var server = await StartAsync();
        var (foreign, deleted, erased) = (await MakeAllAsync(server, "ada"), await MakeAllAsync(server, "bob"),
            await MakeAllAsync(server, "cleo"));
        await server.DeleteAsync($"/v1/conversations/{deleted.Conversation}?user_id=bob");
        await server.DeleteAsync($"/v1/responses/{deleted.Response}?user_id=bob");
        Assert.Equal(200, (await server.SendAsync(HttpMethod.Delete, "/users/cleo/sessions")).Status);
        Made unknown = new("conv_00000000000000000000000000000000", "resp_000000000000000000000000000000000000000100000000",
            "msg_000000000000000000000000000000000000000100000000i0", "msg_0000000000000000000000000000000000000001000000a0i0");
        Made nonsense = new("conv_x", "resp_x", "msg_x", "msg_y");
        var own = await server.IdOfAsync("/v1/conversations?user_id=bob");
        foreach (var (method, path, body, status) in Lookups)
        {
            List<string> words = [];
            foreach (var ids in (Made[])[unknown, nonsense, foreign, deleted, erased])
            {
                var query = path.Contains('?', StringComparison.Ordinal) ? "&user_id=bob" : "?user_id=bob";
                var answer = await server.SendAsync(new HttpMethod(method), In(ids, path) + query, body is null ? null : In(ids, body));
                Assert.True(answer.Status == status, $"{method} {ids.In(path)} {ids.In(body ?? "")}: {answer.Status} {answer.Text}");
                words.Add(ids.Out(answer.Text));
            }

            Assert.True(words.Distinct().Count() == 1, $"{method} {path} {body}\n{string.Join('\n', words)}");
        }

        string In(Made ids, string text) => ids.In(text).Replace("OWN", own, StringComparison.Ordinal);

        // None of it has touched what it named.
        Assert.Equal(2, (await server.ItemsAsync(foreign.Conversation, "&user_id=ada")).Count);
        Assert.Equal(200, (await server.GetAsync($"/v1/responses/{foreign.Response}?user_id=ada")).Status);
    }

    [Fact]
    public async Task Ids_of_turns_that_can_not_be_are_unknown_and_tell_of_no_damage()
    {
        var server = await StartAsync();
        var mine = await MakeAllAsync(server, "bob");
        foreach (var nonce in (string[])["8000000000000000", "8000000100000000", "ffffffffffffffff", "7fffffffffffffff", "7ffffffe00000000",
            "0000000000000000"])
        {
            // Of sessions that are there, and one's own.
            Made ids = new("conv_00000000000000000000000000000000", $"{mine.Response[..^16]}{nonce}", $"{mine.Item[..36]}{nonce}i0",
                $"{mine.Output[..36]}{nonce}o0");
            foreach (var (method, path, body, status) in Lookups)
            {
                var query = path.Contains('?', StringComparison.Ordinal) ? "&user_id=bob" : "?user_id=bob";
                var answer = await server.SendAsync(new HttpMethod(method), In(ids, path) + query, body is null ? null : In(ids, body));
                Assert.True(answer.Status == status, $"{method} {ids.In(path)} {ids.In(body ?? "")}: {answer.Status} {answer.Text}");
            }
        }

        await ServiceProcess.UntilAsync(async () => (string?)(await server.GetAsync("/health")).Json["status"] == "Healthy");
        Assert.Equal(200, (await server.GetAsync($"/v1/responses/{mine.Response}?user_id=bob")).Status);

        string In(Made ids, string text) => ids.In(text).Replace("OWN", mine.Conversation, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Ids_that_have_expired_are_unknown()
    {
        var server = await StartAsync(("sessions:timeout_hours", "0.0005"), ("responses:timeout_hours", "0.0005"));

        // Made anew where it has expired before it was read: the first requests take a server's compiler long.
        var (conversation, item) = ("", "");
        await ServiceProcess.UntilAsync(async () =>
        {
            conversation = await server.IdOfAsync("/v1/conversations?user_id=ada",
                new { items = new[] { new { role = "user", content = "my own" } } });
            var items = await server.GetAsync($"/v1/conversations/{conversation}/items?user_id=ada");
            item = items.Status == 200 ? (string)items.Json["data"]![0]!["id"]! : "";
            return item != "";
        });
        var response = await server.IdOfAsync("/v1/responses?user_id=ada", new { model = "model", input = "my own too" });
        await ServiceProcess.UntilAsync(async () =>
            (await server.GetAsync($"/v1/conversations/{conversation}?user_id=ada")).Status == 404
                && (await server.GetAsync($"/v1/responses/{response}?user_id=ada")).Status == 404);
        var answer = await server.PostAsync("/v1/responses?user_id=ada", new { input = "x", previous_response_id = response });
        Assert.Equal((400, "previous_response_not_found"), (answer.Status, (string?)answer.Json["error"]!["code"]));
        answer = await server.PostAsync("/v1/responses?user_id=ada", new { input = "x", conversation });
        Assert.Equal((404, $"Conversation with id '{conversation}' not found."),
            (answer.Status, (string?)answer.Json["error"]!["message"]));
        answer = await server.PostAsync("/v1/responses?user_id=ada",
            new { input = new[] { new { type = "item_reference", id = item } } });
        Assert.Equal((404, "input[0].id"), (answer.Status, (string?)answer.Json["error"]!["param"]));
    }

    [Fact]
    public async Task Sixteen_clients_grow_a_tree_of_responses_at_once()
    {
        var server = await StartAsync();
        var root = await server.MakeAsync("/v1/responses", new { model = "model", input = "root" });
        ConcurrentBag<(string Id, string Path)> nodes = [((string)root["id"]!, "root")];
        await Task.WhenAll(Enumerable.Range(0, 16).Select(async client =>
        {
            var random = new Random(client);
            for (var i = 0; i < 5; i++)
            {
                var there = nodes.ToArray();
                var (id, path) = there[random.Next(there.Length)];
                var name = $"c{client}n{i}";
                var body = new { model = "model", input = name, previous_response_id = id };
                JsonNode made;
                if (random.Next(2) == 0)
                {
                    made = await server.MakeAsync("/v1/responses", body);
                }
                else
                {
                    made = (await server.StreamAsync(body))[^1].Json["response"]!;
                }

                var grown = $"{path} / {name}";
                Assert.Equal($"I heard {grown.Split(" / ").Length}: {grown}", TextOf(made));
                nodes.Add(((string)made["id"]!, grown));
            }
        }));
        Assert.Equal(1 + (16 * 5), nodes.Select(node => node.Id).Distinct().Count());
        foreach (var (id, path) in nodes)
        {
            Assert.Equal($"I heard {path.Split(" / ").Length}: {path}", TextOf((await server.GetAsync($"/v1/responses/{id}")).Json));
        }
    }

    [Fact]
    public async Task A_stream_that_was_cut_anywhere_is_picked_up_behind_the_last_event()
    {
        var server = await StartAsync();
        var whole = await server.StreamAsync(new { model = "model", input = "say one two three four" });
        var address = $"/v1/responses/{whole[0].Json["response"]!["id"]}";
        for (var cut = 0; cut < whole.Count - 1; cut++)
        {
            var left = await server.ReadAsync(HttpMethod.Get, $"{address}?stream=true&starting_after={cut}", null, int.MaxValue);
            Assert.Equal(whole.Skip(cut + 1).Select(happened => happened.Data), left.Select(happened => happened.Data));
        }

        // While it runs, and the client has gone.
        var conversation = await server.IdOfAsync("/v1/conversations");
        var had = await server.ReadAsync(HttpMethod.Post, "/v1/responses",
            new { model = "model", input = "hold", conversation, stream = true }, 5);
        address = $"/v1/responses/{had[0].Json["response"]!["id"]}";
        Assert.Equal("in_progress", (string?)(await server.GetAsync(address)).Json["status"]);
        Assert.Empty(await server.ItemsAsync(conversation));
        var reading = server.ReadAsync(HttpMethod.Get, $"{address}?stream=true&starting_after={had[^1].Number}", null, int.MaxValue);
        server.Model.LetGo();
        IReadOnlyList<StreamEvent> all = [.. had, .. await reading];
        ResponseStream.Check(all);
        Assert.Equal(all[^1].Response, (await server.GetAsync(address)).Text);
        Assert.Equal(2, (await server.ItemsAsync(conversation)).Count);
    }

    private static JsonNode WithStream(string body)
    {
        var json = JsonNode.Parse(body)!;
        json["stream"] = true;
        return json;
    }

    private protected async Task<OpenAiServer> StartAsync(params (string Key, string Value)[] settings)
    {
        var server = await OpenAiServer.StartAsync([.. _store.Settings, .. settings]);
        _owned.Add(server);
        return server;
    }

    private protected static string TextOf(JsonNode response) =>
        string.Concat(response["output"]!.AsArray().SelectMany(item => item!["content"]?.AsArray() ?? [])
            .Select(part => (string?)part!["text"]));

    // Two answers to the same request: the same but for ids and times.
    private static void AssertAlike(JsonNode one, JsonNode other) =>
        Assert.Equal(Normalized.Text(one.ToJsonString()), Normalized.Text(other.ToJsonString()));

    private static async Task<Made> MakeAllAsync(OpenAiServer server, string user)
    {
        var conversation = await server.IdOfAsync($"/v1/conversations?user_id={user}",
            new { items = new[] { new { role = "user", content = "my own" }, new { role = "assistant", content = "yours" } } });
        var items = await server.ItemsAsync(conversation, $"&user_id={user}");
        var response = await server.MakeAsync($"/v1/responses?user_id={user}", new { model = "model", input = "my own too" });
        return new Made(conversation, (string)response["id"]!, (string)items[0]["id"]!, (string)response["output"]![0]!["id"]!);
    }

    private static async Task ImportAsync(string file, OpenAiStore store)
    {
        var api = Environment.GetEnvironmentVariable("SESSIONS_TEST_API") ?? "dotnet";
        IEnumerable<string> arguments = api == "dotnet" ? [ServiceProcess.ApiAssembly, "import", file] : ["import", file];
        var start = new ProcessStartInfo(api, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var (key, value) in store.Settings)
        {
            start.Environment[key.Replace(":", "__", StringComparison.Ordinal)] = value;
        }

        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(Cancel), process.StandardError.ReadToEndAsync(Cancel));
        await process.WaitForExitAsync(Cancel);
        Assert.True(process.ExitCode == 0, $"{await output}\n{await error}");
    }

    // The ids of what one user has, or what is there in their place.
    private sealed record Made(string Conversation, string Response, string Item, string Output)
    {
        private (string Name, string Id)[] All => [("CONV", Conversation), ("RESP", Response), ("ITEM", Item), ("OUT", Output)];

        public string In(string text) => All.Aggregate(new StringBuilder(text), (built, one) => built.Replace(one.Name, one.Id)).ToString();

        public string Out(string text) =>
            All.Aggregate(new StringBuilder(text), (built, one) => built.Replace(one.Id, one.Name)).ToString();
    }
}

/// <summary>What is promised where the store is not memory.</summary>
public abstract class DurableOpenAiContract(string storeName) : OpenAiContract(storeName)
{
    [Fact]
    public async Task What_was_answered_is_there_after_a_crash()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations", new { metadata = new { topic = "demo" } });
        string? chain = null;
        for (var round = 1; round <= 3; round++)
        {
            var made = await server.MakeAsync("/v1/responses", new { model = "model", input = $"c{round}", conversation });
            Assert.StartsWith($"I heard {round}:", TextOf(made), StringComparison.Ordinal);
            var told = await server.StreamAsync(new { model = "model", input = $"r{round}", previous_response_id = chain });
            made = told[^1].Json["response"]!;
            Assert.StartsWith($"I heard {round}:", TextOf(made), StringComparison.Ordinal);
            chain = (string)made["id"]!;
            await server.RestartAsync();
        }

        Assert.Equal(6, (await server.ItemsAsync(conversation)).Count);
        Assert.Equal("demo", (string?)(await server.GetAsync($"/v1/conversations/{conversation}")).Json["metadata"]!["topic"]);
    }

    [Fact]
    public async Task Calls_of_tools_go_on_after_a_crash_in_each_round()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        object input = "call add 3";
        for (var round = 1; ; round++)
        {
            var made = round % 2 == 0
                ? await server.MakeAsync("/v1/responses", new { model = "model", tools = Functions, input, conversation })
                : (await server.StreamAsync(new { model = "model", tools = Functions, input, conversation }))[^1].Json["response"]!;
            if (round == 4)
            {
                Assert.Equal("after 3 calls: 1, 2, 3", TextOf(made));
                break;
            }

            await server.RestartAsync();
            input = new[] { new { type = "function_call_output", call_id = (string?)made["output"]![0]!["call_id"], output = $"{round}" } };
        }
    }
}

public sealed class MemoryOpenAiTests() : OpenAiContract("memory");

public sealed class SqliteOpenAiTests() : DurableOpenAiContract("sqlite");

public sealed class RedisOpenAiTests() : DurableOpenAiContract("redis");

public sealed class PostgresOpenAiTests() : DurableOpenAiContract("postgres");
