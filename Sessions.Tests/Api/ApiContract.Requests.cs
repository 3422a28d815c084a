using System.IO.Compression;
using System.Text;
using System.Text.Json.Nodes;

namespace Sessions.Tests.Api;

/// <summary>What requests say, and what becomes of it: names, addresses, encodings, users.</summary>
public abstract partial class ApiContract
{
    [Fact]
    public async Task A_session_can_be_called_session_id_in_a_query_too()
    {
        var server = Start();

        var first = await server.PostAsync("/query", """{"query":"one","session_id":"a"}""");
        var second = await server.PostAsync("/query", """{"query":"two","session_id":"a","thread_id":"a"}""");

        Assert.Equal("a", Thread(first.Json));
        Assert.Equal(2, (int)second.Json["metadata"]!["turn"]!);
        foreach (var body in (string[])
            ["""{"query":"three","session_id":"a","thread_id":"b"}""", """{"query":"three","session_id":"a/b"}"""])
        {
            var refused = (await server.PostAsync("/query", body)).IsProblem(422, "invalid_request");
            Assert.Equal("session_id", refused.Json["errors"]!.AsObject().Single().Key);
        }

        (await server.GetAsync("/sessions/b")).IsProblem(404, "session_not_found");

        // The same request by either name is one request.
        (string, string) key = ("Idempotency-Key", "key-1");
        var original = await server.PostAsync("/query", """{"query":"three","session_id":"a"}""", key);
        var again = await server.PostAsync("/query", """{"query":"three","thread_id":"a"}""", key);
        Assert.Equal(original.Text, again.Text);
        Assert.Equal("true", again.Headers["Idempotency-Replayed"]);
    }

    [Theory]
    [InlineData("""{"query":"hi","after_turn":1,"thread_id":"a"}""", """{"query":"hi\n1\n","thread_id":"a"}""")]
    [InlineData("""{"query":"hi","after_turn":1,"thread_id":"a"}""", """{"query":"hi","thread_id":"a"}""")]
    [InlineData(
        """{"query":"hi","input":[{"type":"input_text","text":"x"}],"thread_id":"a"}""",
        """{"query":"hi\n\n[{\"type\":\"input_text\",\"text\":\"x\"}]","thread_id":"a"}""")]
    [InlineData(
        """{"query":"hi","after_turn":1,"input":[{"type":"input_text","text":"x"}],"thread_id":"a"}""",
        """{"query":"hi\n1","input":[{"type":"input_text","text":"x"}],"thread_id":"a"}""")]
    public async Task Queries_that_differ_are_different_requests_however_they_are_put_together(string one, string other)
    {
        var server = Start();
        await server.QueryAsync("first", "a");
        foreach (var (first, second) in (IEnumerable<(string, string)>)[(one, other), (other, one)])
        {
            (string, string) key = ("Idempotency-Key", Guid.NewGuid().ToString());
            var original = await server.PostAsync("/query", first, key);
            Assert.True(original.Status == 200, original.Text);

            (await server.PostAsync("/query", second, key)).IsProblem(422, "idempotency_key_reused");
            Assert.Equal(original.Text, (await server.PostAsync("/query", first, key)).Text);
        }
    }

    [Theory]
    [InlineData("POST", "/query", """{"query":"a","userId":"ada"}""", "userId", "user_id")]
    [InlineData("POST", "/query", """{"query":"a","thread-id":"x"}""", "thread-id", "thread_id")]
    [InlineData("POST", "/query", """{"query":"a","sessionId":"x"}""", "sessionId", "session_id")]
    [InlineData("POST", "/query", """{"Query":"a"}""", "Query", "query")]
    [InlineData("POST", "/query", """{"query":"a","Agent Type":null}""", "Agent Type", "agent_type")]
    [InlineData("POST", "/query", """{"query":"a","onBusy":"reject"}""", "onBusy", "on_busy")]
    [InlineData("POST", "/query", """{"query":"a","STREAM":true}""", "STREAM", "stream")]
    [InlineData("POST", "/sessions", """{"userid":"ada"}""", "userid", "user_id")]
    [InlineData("POST", "/sessions", """{"user_id":"ada","metaData":{}}""", "metaData", "metadata")]
    [InlineData("POST", "/sessions/old/fork", """{"afterTurn":1}""", "afterTurn", "after_turn")]
    [InlineData("POST", "/sessions/old/fork", """{"session.id":"new"}""", "session.id", "session_id")]
    [InlineData("PATCH", "/sessions/old", """{"Metadata":{"a":1}}""", "Metadata", "metadata")]
    public async Task A_field_that_is_almost_a_known_one_is_refused_by_name(
        string method, string path, string body, string field, string known)
    {
        var server = Start();
        await server.QueryAsync("hello", "old", "ada");
        var before = (await server.GetAsync("/sessions/old")).Text;

        var refused = (await server.SendAsync(new HttpMethod(method), path, body)).IsProblem(422, "invalid_request");

        var (name, rules) = refused.Json["errors"]!.AsObject().Single();
        Assert.Equal(field, name);
        Assert.Contains(known, (string)rules![0]!, StringComparison.Ordinal);
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
        Assert.Equal(before, (await server.GetAsync("/sessions/old")).Text);
    }

    [Theory]
    [InlineData("""{"query":"a","user_id":"ada","userId":"eve"}""")]
    [InlineData("""{"userId":"eve","query":"a","user_id":"ada"}""")]
    [InlineData(
        """{"query":"a","user_id":"ada","users_id":"eve","id":1,"x_user_id":1,"_":1,"":1,"ｕser_id":1,"colour":"red","colour":"red"}""")]
    [InlineData("""{"query":"a","user_id":"ada","k":{"k":1,"k":"\ud800"}}""")]
    public async Task Fields_that_nobody_knows_are_ignored(string body)
    {
        var server = Start();

        var answer = await server.PostAsync("/query", body);

        Assert.True(answer.Status == 200, answer.Text);
        Assert.Equal("ada", (string?)answer.Json["metadata"]!["user_id"]);
    }

    [Theory]
    [InlineData("model", "\"gpt-5\"")]
    [InlineData("messages", "[]")]
    [InlineData("stream", "true")]
    [InlineData("tools", "[]")]
    [InlineData("tool_choice", "\"none\"")]
    [InlineData("n", "2")]
    [InlineData("store", "false")]
    [InlineData("service_tier", "\"priority\"")]
    [InlineData("Model", "\"gpt-5\"")]
    [InlineData("MESSAGES", "[]")]
    [InlineData("Stream", "false")]
    [InlineData("N", "2")]
    [InlineData("toolChoice", "\"none\"")]
    [InlineData("Service_Tier", "\"priority\"")]
    public async Task A_parameter_that_is_the_servers_own_is_refused(string name, string value)
    {
        var server = Start();

        var refused = (await server.PostAsync("/query", $"{{\"query\":\"hello\",\"parameters\":{{\"{name}\":{value}}}}}"))
            .IsProblem(422, "invalid_request");

        Assert.Equal($"parameters.{name}", refused.Json["errors"]!.AsObject().Single().Key);
        Assert.Equal(0, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
    }

    [Theory]
    [InlineData("GET", "/sessions/adas", null)]
    [InlineData("GET", "/sessions/adas/history", null)]
    [InlineData("PATCH", "/sessions/adas", """{"metadata":{"a":1}}""")]
    [InlineData("POST", "/sessions/adas/fork", "{}")]
    [InlineData("DELETE", "/sessions/adas", null)]
    public async Task A_session_is_asked_for_in_the_name_of_its_user_or_not_found(string method, string path, string? body)
    {
        var server = Start(("sessions:max_sessions_per_user", "0"));
        await server.QueryAsync("hello", "adas", "ada");
        await server.QueryAsync("hello", "nobodys");
        var before = (await server.GetAsync("/sessions/adas")).Text;
        var verb = new HttpMethod(method);

        (await server.SendAsync(verb, path + "?user_id=bob", body)).IsProblem(404, "session_not_found");
        (await server.SendAsync(verb, path + "?USER_ID=ADA", body)).IsProblem(404, "session_not_found");
        (await server.SendAsync(verb, path.Replace("adas", "nobodys", StringComparison.Ordinal) + "?user_id=bob", body))
            .IsProblem(404, "session_not_found");
        foreach (var query in (string[])["?user_id=", "?user_id=ada&user_id=bob", "?user_id=%00", "?userId=ada", "?user-id=bob"])
        {
            (await server.SendAsync(verb, path + query, body)).IsProblem(422, "invalid_request");
        }

        Assert.Equal(before, (await server.GetAsync("/sessions/adas")).Text);
        Assert.Equal(200, (await server.GetAsync("/sessions/nobodys")).Status);
        Assert.InRange((await server.SendAsync(verb, path + "?user_id=ada", body)).Status, 200, 201);
    }

    [Fact]
    public async Task A_turn_is_appended_to_a_session_of_the_user_whom_the_query_string_names()
    {
        var server = Start(("sessions:max_sessions_per_user", "0"));
        await server.QueryAsync("hello", "adas", "ada");
        await server.QueryAsync("hello", "nobodys");
        var before = (await server.GetAsync("/sessions/adas")).Text;
        Task<Answer> AppendAsync(string path, string? user) =>
            server.PostAsync($"/sessions/{path}", new { query = "x", response = "y", user_id = user });

        foreach (var user in (string?[])[null, "ada", "mallory"])
        {
            (await AppendAsync("adas/turns?user_id=mallory", user)).IsProblem(404, "session_not_found");
            (await AppendAsync("nobodys/turns?user_id=ada", user)).IsProblem(404, "session_not_found");
        }

        foreach (var session in (string[])["adas", "new"])
        {
            var refused = (await AppendAsync($"{session}/turns?user_id=ada", "mallory")).IsProblem(422, "invalid_request");
            Assert.Equal("must be the user of the query string", (string?)refused.Json["errors"]!["user_id"]![0]);
        }

        (await server.GetAsync("/sessions/new")).IsProblem(404, "session_not_found");
        Assert.Equal(before, (await server.GetAsync("/sessions/adas")).Text);
        Assert.Null((string?)(await server.GetAsync("/sessions/nobodys")).Json["user_id"]);
        Assert.Equal(201, (await AppendAsync("adas/turns?user_id=ada", "ada")).Status);
        Assert.Equal(201, (await AppendAsync("new/turns?user_id=ada", "ada")).Status);
        Assert.Equal("ada", (string?)(await server.GetAsync("/sessions/new")).Json["user_id"]);

        // Without it the body says who asks, and binds what is nobody's.
        Assert.Equal(201, (await AppendAsync("nobodys/turns", "ada")).Status);
        Assert.Equal("ada", (string?)(await server.GetAsync("/sessions/nobodys")).Json["user_id"]);
    }

    [Theory]
    [InlineData("/users/a%252Fb/sessions", "a%2Fb")]
    [InlineData("http://localhost/users/a%252Fb/sessions", "a%2Fb")]
    [InlineData("http://localhost/users/a%2Fb/sessions?limit=5", "a/b")]
    [InlineData("http://localhost/users/a%2fb/sessions", "a/b")]
    [InlineData("http://localhost/x/../users/a%252Fb/./sessions", "a%2Fb")]
    [InlineData("/./users/a%252Fb/sessions", "a%2Fb")]
    [InlineData("/x/%2e%2e/users/a%252Fb/sessions", "a%2Fb")]
    [InlineData("/users/a%252Fb/x/../sessions", "a%2Fb")]
    [InlineData("/%75sers/a%252Fb/sessions", "a%2Fb")]
    [InlineData("/users/100%/sessions", "100%")]
    [InlineData("/users/a+b%2B%25/sessions", "a+b+%")]
    public async Task An_address_names_one_user_however_it_is_written(string target, string user)
    {
        var server = Start();
        await server.QueryAsync("hello", "theirs", user);
        foreach (var other in (string[])["a", "a/b", "a%2Fb", "b"])
        {
            await server.QueryAsync("hello", user: other);
        }

        var answer = await RawAsync(server, $"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");

        Assert.StartsWith("HTTP/1.1 200 ", answer, StringComparison.Ordinal);
        var list = JsonNode.Parse(answer[(answer.IndexOf("\r\n\r\n", StringComparison.Ordinal) + 4)..])!;
        Assert.Equal(user, (string?)list["user_id"]);
        Assert.Contains(list["sessions"]!.AsArray(), session => (string?)session!["session_id"] == "theirs");
    }

    [Theory]
    [InlineData("http://localhost/users/ada%2Fsessions")]
    [InlineData("http://localhost/users/ada%2Fexport")]
    [InlineData("/users/ada%2Fsessions")]
    public async Task A_slash_in_a_name_separates_nothing(string target)
    {
        var server = Start();
        await server.QueryAsync("hello", user: "ada");

        var answer = await RawAsync(server, $"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");

        Assert.StartsWith("HTTP/1.1 404 ", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("br")]
    [InlineData("identity, gzip")]
    public async Task A_body_that_is_compressed_is_refused_as_that(string encoding)
    {
        var server = Start();
        using var compressed = new MemoryStream();
        await using (var stream = new GZipStream(compressed, CompressionLevel.Fastest, leaveOpen: true))
        {
            stream.Write("""{"query":"hello"}"""u8);
        }

        using var body = new ByteArrayContent(compressed.ToArray());
        body.Headers.ContentType = new("application/json");
        body.Headers.TryAddWithoutValidation("Content-Encoding", encoding);
        using var response = await server.Client.PostAsync(new Uri("/query", UriKind.Relative), body,
            TestContext.Current.CancellationToken);

        var refused = (await Answer.ReadAsync(response)).IsProblem(415, "unsupported_media_type");
        Assert.Contains("Content-Encoding", (string)refused.Json["detail"]!, StringComparison.Ordinal);
        Assert.Equal("identity", refused.Headers["Accept-Encoding"]);
    }

    [Theory]
    [InlineData("utf-16", "{\"query\":\"hello\"}", 415, true)]
    [InlineData("ISO-8859-1", "{\"query\":\"hello\"}", 200, false)]
    [InlineData("utf-8", "{", 400, false)]
    public async Task A_body_in_another_charset_is_refused_as_that(string charset, string json, int status, bool isUtf16)
    {
        var server = Start();
        using var body = new ByteArrayContent(isUtf16 ? Encoding.Unicode.GetBytes(json) : Encoding.UTF8.GetBytes(json));
        body.Headers.TryAddWithoutValidation("Content-Type", $"application/json; charset={charset}");

        using var response = await server.Client.PostAsync(new Uri("/query", UriKind.Relative), body,
            TestContext.Current.CancellationToken);

        Assert.Equal(status, (int)response.StatusCode);
    }

    [Fact]
    public async Task An_event_that_has_not_been_told_yet_was_not_seen()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        var next = new SemaphoreSlim(1);
        model.Reply = (_, _, http) => ChatCompletionsServer.StreamAsync(http, ["Once ", "upon"], _ => next.WaitAsync(http.RequestAborted));
        var server = Start([.. model.Agent("model")]);
        await using var reader = await EventReader.OpenAsync(server, Streamed);
        await reader.NextAsync();
        var told = (await reader.NextAsync())!.Value.Id.Split(':');
        var (stream, following) = (told[0], $"{int.Parse(told[1], System.Globalization.CultureInfo.InvariantCulture) + 1}");

        foreach (var number in (string[])[following, "1000", "2147483646", "2147483647", "2147483648", "-1", ""])
        {
            var refused = (await server.PostAsync("/query", Streamed, ("Last-Event-ID", $"{stream}:{number}")))
                .IsProblem(422, "invalid_request");
            Assert.Equal("Last-Event-ID", refused.Json["errors"]!.AsObject().Single().Key);
        }

        next.Release();
        var last = (await reader.RestAsync())[^1];
        Assert.Equal("done", last.Name);
        (await server.PostAsync("/query", Streamed, ("Last-Event-ID", $"{stream}:2147483647"))).IsProblem(422, "invalid_request");

        // Whoever has seen the end is told nothing more.
        Assert.Equal("", (await server.PostAsync("/query", Streamed, ("Last-Event-ID", last.Id))).Text);
        Assert.Single(model.Requests);
    }

    [Fact]
    public async Task Times_have_six_digits_always_and_no_turn_is_older_than_its_session()
    {
        var server = Start();
        await server.QueryAsync("whole seconds", "whole", "ada");

        // Each look at the clock is a little later than the one before, by other than whole microseconds.
        server.Time.AutoAdvanceAmount = TimeSpan.FromTicks(10_000_003);
        var query = await server.QueryAsync("hello", "first", "ada");
        await server.PostAsync("/sessions", """{"user_id":"ada"}""", ("Idempotency-Key", "key-1"));
        var created = await server.PostAsync("/sessions", """{"user_id":"ada"}""", ("Idempotency-Key", "key-1"));
        await server.QueryAsync("hello", (string)created.Json["session_id"]!, "ada");
        await server.PostAsync("/sessions/first/fork", """{"session_id":"copy"}""");
        await server.PostAsync("/sessions/cleanup");

        string[] all =
        [
            query.ToJsonString(), created.Text, (await server.GetAsync("/users/ada/sessions")).Text,
            (await server.GetAsync("/users/ada/export")).Text,
            (await server.GetAsync("/sessions/stats")).Text, (await server.DeleteAsync("/users/bob/sessions")).Text,
        ];
        foreach (var text in all)
        {
            var times = System.Text.RegularExpressions.Regex.Matches(text, "\"\\w+_at\":\"([^\"]*)\"");
            Assert.NotEmpty(times);
            Assert.All(times, time => Assert.Matches(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", time.Groups[1].Value));
        }

        foreach (var id in (string[])["whole", "first", (string)created.Json["session_id"]!])
        {
            var session = (await server.GetAsync($"/sessions/{id}")).Json;
            var turn = (await server.GetAsync($"/sessions/{id}/history")).Json["turns"]![0]!;
            Assert.True(string.CompareOrdinal((string?)session["created_at"], (string?)turn["created_at"]) <= 0, $"{session} {turn}");
        }
    }
}
