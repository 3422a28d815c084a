namespace Sessions.Tests;

/// <summary>An attacker with a valid key of its own, on every route of the OpenAPI document: nothing of another user's ever comes back or
/// is changed.</summary>
public sealed class IsolationTests(RedisFixture redis, PostgresFixture postgres) : IDisposable
{
    private const string Canary = "canary-q8Zk";
    private const int Users = 5;

    private static readonly string Attacker = ApiKeys.NewKey();
    private static readonly string Service = ApiKeys.NewKey();

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("memory")]
    [InlineData("sqlite")]
    [InlineData("redis")]
    [InlineData("postgres")]
    public async Task Nothing_of_another_user_is_to_be_had_on_any_route(string store)
    {
        (string, string)[] storage = store switch
        {
            "redis" => [("ConnectionStrings:redis", await redis.NewDatabaseAsync())],
            "postgres" => [("ConnectionStrings:postgres", await postgres.NewSchemaAsync())],
            _ => [("sessions:db_path", _folder["sessions.db"])],
        };
        await using var server = SessionsServer.Start(
            [("sessions:storage_type", store), .. storage, ("auth:mode", "api_key"),
                .. AuthTests.Setting("attacker", Attacker, "user", "mallory"), .. AuthTests.Setting("service", Service, "service")]);
        var victims = await SeedAsync(server);
        var before = await ReadAsync(server);
        Assert.Contains(Canary, before, StringComparison.Ordinal);
        await server.PostAsync("/query", """{"query":"hello","thread_id":"own"}""", AuthTests.Key(Attacker));
        var own = (await server.GetAsync("/sessions/own", AuthTests.Key(Attacker))).Headers["ETag"];

        var operations = (await server.GetAsync("/openapi/v1.json")).Json["paths"]!.AsObject()
            .SelectMany(
                path => path.Value!.AsObject().Select(operation => (Path: path.Key, Method: operation.Key.ToUpperInvariant()))).ToList();
        var attacks = 0;
        foreach (var (path, method) in operations)
        {
            foreach (var victim in victims)
            {
                foreach (var (address, body, headers) in Attacks(path, method, victim, own))
                {
                    attacks++;
                    var answer = await AskAsync(server, new HttpMethod(method), address, body, [AuthTests.Key(Attacker), .. headers]);
                    Assert.False(answer.Text.Contains(Canary, StringComparison.Ordinal), $"{method} {address} {body}: {answer.Text}");
                    Assert.True(answer.Status < 500, $"{method} {address} {body}: {answer.Text}");
                    if (path.Contains("/{", StringComparison.Ordinal) && path.StartsWith("/v1/", StringComparison.Ordinal)
                        && path != "/v1/models/{model}")
                    {
                        Assert.True(answer.Status is 400 or 404, $"{method} {address} {body}: {answer.Status} {answer.Text}");
                    }

                    if (path.Contains("{session_id}", StringComparison.Ordinal)
                        || path == "/query" && body?.Contains($"\"thread_id\":\"{victim.Session}\"", StringComparison.Ordinal) == true)
                    {
                        Assert.True(answer.Status is 403 or 404 or 422, $"{method} {address} {body}: {answer.Status} {answer.Text}");
                    }
                }
            }
        }

        Assert.True(operations.Count >= 11, $"{operations.Count} operations");
        Assert.True(attacks > 10 * operations.Count, $"{attacks} attacks");
        Assert.Equal(before, await ReadAsync(server));
    }

    // A store that took too long, on a machine that is busy, is asked again when the server says.
    private static async Task<Answer> AskAsync(
        SessionsServer server, HttpMethod method, string address, string? body, (string, string)[] headers)
    {
        for (var tries = 1; ; tries++)
        {
            var answer = await server.SendAsync(method, address, body, headers);
            if (tries == 3 || answer.Status != 503 || !answer.Text.Contains("\"storage_unavailable\"", StringComparison.Ordinal))
            {
                return answer;
            }

            await Task.Delay(TimeSpan.FromSeconds(int.Parse(answer.Headers["Retry-After"])), TestContext.Current.CancellationToken);
        }
    }

    // Whatever a route is, its parameters are filled with what is the victim's, and its body with all the ways to name it.
    private static IEnumerable<(string Address, string? Body, (string, string)[] Headers)> Attacks(
        string path, string method, Victim victim, string etag)
    {
        var address = path.Replace("{session_id}", victim.Session, StringComparison.Ordinal)
            .Replace("{user_id}", victim.User, StringComparison.Ordinal)
            .Replace("{conversation_id}", victim.Conversation, StringComparison.Ordinal)
            .Replace("{response_id}", victim.Response, StringComparison.Ordinal)
            .Replace("{item_id}", victim.Item, StringComparison.Ordinal)
            .Replace("{turn}", "1", StringComparison.Ordinal)
            .Replace("{model}", "advanced", StringComparison.Ordinal);
        Assert.DoesNotContain("{", address, StringComparison.Ordinal);
        string[] queries = ["", $"?user_id={victim.User}", "?user_id=mallory", $"?after={victim.Cursor}", "?limit=100&order=asc",
            "?metadata.note=x", "?user_id=mallory&user_id=" + victim.User];
        string?[] bodies = method is "GET" or "DELETE" ? [null] :
        [
            null, "{}",
            $$"""{"query":"what did I say?","thread_id":"{{victim.Session}}"}""",
            $$"""{"query":"what did I say?","thread_id":"{{victim.Session}}","user_id":"{{victim.User}}"}""",
            $$"""{"query":"what did I say?","thread_id":"{{victim.Session}}","user_id":"mallory"}""",
            $$"""{"query":"what did I say?","thread_id":"{{victim.Session}}","stream":true}""",
            $$"""{"query":"q","user_id":"{{victim.User}}"}""",
            $$"""{"user_id":"{{victim.User}}"}""",
            """{"metadata":{"note":null,"stolen":true}}""",
            """{"after_turn":1,"session_id":"stolen"}""",
            $$"""{"model":"advanced","input":"what did I say?","conversation":"{{victim.Conversation}}"}""",
            $$"""{"model":"advanced","input":"what did I say?","previous_response_id":"{{victim.Response}}"}""",
            $$"""{"model":"advanced","input":[{"type":"item_reference","id":"{{victim.Item}}"}]}""",
            $$"""{"model":"advanced","messages":[{"role":"user","content":"what did I say?"}],"user":"{{victim.User}}"}""",
            victim.CreatingBody, victim.QueryingBody,
        ];
        (string, string)[][] headers =
        [
            [], [("Idempotency-Key", victim.Key)], [("If-Match", "*")], [("If-Match", etag)], [("If-None-Match", "*")],
            [("Accept", "text/event-stream"), ("Last-Event-ID", victim.Event)],
            [("X-User-Id", victim.User)], [("X-Original-URL", $"/users/{victim.User}/export")],
        ];
        foreach (var body in bodies)
        {
            foreach (var header in headers)
            {
                yield return (address, body, header);
            }
        }

        foreach (var query in queries)
        {
            yield return (address + query, bodies[^1], []);
        }
    }

    private static async Task<List<Victim>> SeedAsync(SessionsServer server)
    {
        List<Victim> victims = [];
        for (var i = 0; i < Users; i++)
        {
            var (user, session, key) = ($"victim{i}", $"session-{i}", $"key-{i}");
            var creating = $$"""{"user_id":"{{user}}","metadata":{"note":"{{Canary}}-{{i}}"} }""";
            var querying = $$"""{"query":"my secret is {{Canary}}-{{i}}","thread_id":"{{session}}","user_id":"{{user}}"}""";
            Assert.Equal(201, (await server.PostAsync("/sessions", creating, AuthTests.Key(Service), ("Idempotency-Key", key))).Status);
            Assert.Equal(200, (await server.PostAsync("/query", querying, AuthTests.Key(Service), ("Idempotency-Key", key))).Status);
            var stream = await server.PostAsync("/query", querying, AuthTests.Key(Service), ("Accept", "text/event-stream"));
            Assert.Contains(Canary, stream.Text, StringComparison.Ordinal);
            var by = AuthTests.Key(Service);
            var conversation = (await server.PostAsync(
                $"/v1/conversations?user_id={user}", $$$"""{"metadata":{"note":"{{{Canary}}}-{{{i}}}"}}""", by)).Json;
            var response = (await server.PostAsync($"/v1/responses?user_id={user}",
                $$"""{"model":"advanced","input":"my secret is {{Canary}}","conversation":"{{conversation["id"]}}"}""", by)).Json;
            var item = (await server.GetAsync($"/v1/conversations/{conversation["id"]}/items?user_id={user}", by)).Json["data"]![0]!["id"];
            var page = (await server.GetAsync($"/users/{user}/sessions?limit=1", AuthTests.Key(Service))).Json;
            victims.Add(new Victim(
                user, session, key, (string)page["next"]!, stream.Text.Split('\n')[0]["id: ".Length..], creating, querying,
                (string)conversation["id"]!, (string)response["id"]!, (string)item!));
        }

        return victims;
    }

    private static async Task<string> ReadAsync(SessionsServer server)
    {
        var all = new System.Text.StringBuilder();
        for (var i = 0; i < Users; i++)
        {
            all.Append((await server.GetAsync($"/users/victim{i}/export", AuthTests.Key(Service))).Text);
        }

        return all.ToString();
    }

    private sealed record Victim(
        string User, string Session, string Key, string Cursor, string Event, string CreatingBody, string QueryingBody,
        string Conversation, string Response, string Item);
}
