using System.Net.Sockets;
using System.Text;

namespace Sessions.Tests.Api;

public abstract partial class ApiContract
{
    [Theory]
    [InlineData(null, 422, "invalid_request")]
    [InlineData("", 422, "invalid_request")]
    [InlineData("{}", 422, "invalid_request")]
    [InlineData("null", 422, "invalid_request")]
    [InlineData("[]", 422, "invalid_request")]
    [InlineData("\"text\"", 422, "invalid_request")]
    [InlineData("12", 422, "invalid_request")]
    [InlineData("{", 400, "invalid_json")]
    [InlineData("{\"query\":\"a\"}}", 400, "invalid_json")]
    [InlineData("{\"query\":\"a\",}", 400, "invalid_json")]
    [InlineData("{'query':'a'}", 400, "invalid_json")]
    [InlineData("{\"query\":\"a\u0001\"}", 400, "invalid_json")]
    [InlineData("{\"query\":\"a\",\"query\":\"b\"}", 422, "invalid_request")]
    [InlineData("""{"query":null}""", 422, "invalid_request")]
    [InlineData("""{"query":""}""", 422, "invalid_request")]
    [InlineData("""{"query":" \t\n"}""", 422, "invalid_request")]
    [InlineData("""{"query":5}""", 422, "invalid_request")]
    [InlineData("""{"query":["a"]}""", 422, "invalid_request")]
    [InlineData("""{"query":{"a":1}}""", 422, "invalid_request")]
    [InlineData("""{"query":"\ud800"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":5}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":""}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":"a/b"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":"a%2Fb"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":".."}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":"stats"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":"CLEANUP"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":"a b"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":"é"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","thread_id":"' OR 1=1 --"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","user_id":""}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","user_id":"a\u0000b"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","user_id":"a\nb"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","user_id":"\udfff"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","user_id":{"$ne":null}}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","agent_type":7}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","agent_type":""}""", 422, "unknown_agent_type")]
    [InlineData("""{"query":"a","parameters":[]}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","parameters":"x"}""", 422, "invalid_request")]
    [InlineData("""{"query":"a","on_busy":"maybe"}""", 422, "invalid_request")]
    public async Task A_query_that_is_not_allowed_is_refused_and_creates_nothing(string? body, int status, string code)
    {
        var server = Start();

        (await server.PostAsync("/query", body)).IsProblem(status, code);

        Assert.Equal(0, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
    }

    [Fact]
    public async Task Optional_fields_may_be_null_and_unknown_ones_are_ignored()
    {
        var server = Start();

        var answer = await server.PostAsync("/query", """
            {"query":"hello","agent_type":null,"thread_id":null,"user_id":null,"parameters":null,"on_busy":null,
             "colour":"red","nested":{"a":[1]}}
            """);

        Assert.Equal(200, answer.Status);
    }

    [Theory]
    [InlineData("""{"user_id":5}""", "user_id")]
    [InlineData("""{"user_id":""}""", "user_id")]
    [InlineData("""{"metadata":[]}""", "metadata")]
    [InlineData("""{"metadata":"text"}""", "metadata")]
    [InlineData("""{"metadata":{"query_count":1}}""", "metadata.query_count")]
    [InlineData("""{"metadata":{"created_from":"me"}}""", "metadata.created_from")]
    [InlineData("""{"metadata":{"a":"\ud800"}}""", "metadata")]
    [InlineData("""{"metadata":{"\ud800":1}}""", "metadata")]
    public async Task A_session_that_is_not_allowed_is_refused_by_field(string body, string field)
    {
        var server = Start();

        var refused = (await server.PostAsync("/sessions", body)).IsProblem(422, "invalid_request");

        Assert.Equal(field, refused.Json["errors"]!.AsObject().Single().Key);
    }

    [Fact]
    public async Task Sizes_are_limited_and_the_limit_is_named()
    {
        var server = Start();

        async Task<Answer> RefusedAsync(string path, object body, int status, string limit)
        {
            var refused = (await server.PostAsync(path, body)).IsProblem(status, "limit_exceeded");
            Assert.Equal(limit, (string?)refused.Json["limit"]);
            return refused;
        }

        await RefusedAsync("/query", new { query = new string('x', 2 << 20) }, 413, "limits.request_body_bytes");
        await RefusedAsync("/query", new { query = new string('x', (64 << 10) + 1) }, 422, "limits.query_bytes");
        await RefusedAsync("/query", new { query = new string('é', (32 << 10) + 1) }, 422, "limits.query_bytes");
        await RefusedAsync("/sessions", new { metadata = Enumerable.Range(0, 65).ToDictionary(i => $"k{i}", i => i) }, 422,
            "limits.metadata_keys");
        await RefusedAsync("/sessions", new { metadata = new { a = new string('x', 16 << 10) } }, 422, "limits.metadata_bytes");
        Assert.Equal(200, (await server.PostAsync("/query",
            new { query = new string('x', 64 << 10), user_id = new string('u', 256), thread_id = new string('t', 128) })).Status);
        Assert.Equal(201,
            (await server.PostAsync("/sessions", new { metadata = Enumerable.Range(0, 64).ToDictionary(i => $"k{i}", i => i) })).Status);
        (await server.PostAsync("/query", new { query = "a", user_id = new string('u', 257) })).IsProblem(422, "invalid_request");
        (await server.PostAsync("/query", new { query = "a", thread_id = new string('t', 129) })).IsProblem(422, "invalid_request");
        var id = (string)(await server.PostAsync("/sessions",
            new { metadata = Enumerable.Range(0, 60).ToDictionary(i => $"k{i}", i => i) })).Json["session_id"]!;
        (await server.SendAsync(HttpMethod.Patch, $"/sessions/{id}",
            System.Text.Json.JsonSerializer.Serialize(new { metadata = Enumerable.Range(100, 5).ToDictionary(i => $"k{i}", i => i) })))
            .IsProblem(422, "limit_exceeded");
    }

    [Fact]
    public async Task JSON_that_nests_too_deeply_is_refused()
    {
        var server = Start();
        var deep = string.Concat(Enumerable.Repeat("[", 10_000)) + string.Concat(Enumerable.Repeat("]", 10_000));

        (await server.PostAsync("/query", $"{{\"query\":\"a\",\"parameters\":{{\"x\":{deep}}}}}")).IsProblem(400, "invalid_json");
        (await server.PostAsync("/sessions", $"{{\"metadata\":{{\"x\":{deep}}}}}")).IsProblem(400, "invalid_json");
    }

    [Fact]
    public async Task Metadata_as_deep_as_is_allowed_can_be_read_wherever_it_is_shown()
    {
        // The body and the metadata are two levels.
        static string Nested(int depth) =>
            $"{{\"user_id\":\"ada\",\"metadata\":{{\"x\":{new string('[', depth - 2)}{new string(']', depth - 2)}}}}}";
        var server = Start();

        (await server.PostAsync("/sessions", Nested(57))).IsProblem(400, "invalid_json");
        var created = await server.PostAsync("/sessions", Nested(56));

        Assert.Equal(201, created.Status);
        foreach (var path in (string[])[$"/sessions/{created.Json["session_id"]}", "/users/ada/sessions", "/users/ada/export"])
        {
            var answer = await server.GetAsync(path);
            Assert.Equal(200, answer.Status);
            Assert.NotNull((answer with { Text = answer.Text.Split('\n')[0] }).Json);
        }
    }

    [Theory]
    [InlineData("limit=0")]
    [InlineData("limit=101")]
    [InlineData("limit=-1")]
    [InlineData("limit=ten")]
    [InlineData("limit=")]
    [InlineData("limit=99999999999999999999")]
    [InlineData("after=nonsense!")]
    [InlineData("after=")]
    [InlineData("after=AAAA")]
    [InlineData("order=up")]
    public async Task A_page_that_is_not_allowed_is_refused(string query)
    {
        var server = Start();
        await server.QueryAsync("hello", "a", "ada");

        var list = await server.GetAsync($"/users/ada/sessions?{query}");
        var history = await server.GetAsync($"/sessions/a/history?{query}");

        Assert.Equal(422, list.Status);
        Assert.Equal(422, history.Status);
        Assert.Equal(query.Split('=')[0], list.Json["errors"]!.AsObject().Single().Key);
    }

    [Theory]
    [InlineData("GET", "/sessions/a%2Fb")]
    [InlineData("GET", "/sessions/..%2F..%2Fetc%2Fpasswd")]
    [InlineData("GET", "/sessions/%00")]
    [InlineData("GET", "/sessions/%FF%FE")]
    [InlineData("GET", "/sessions/'%20OR%201=1%20--")]
    [InlineData("GET", "/sessions/%22%27%3B")]
    [InlineData("GET", "/sessions/%E2%80%AE")]
    [InlineData("GET", "/sessions/CLEANUP")]
    [InlineData("GET", "/sessions/a/history/b")]
    [InlineData("DELETE", "/sessions/%2E%2E")]
    [InlineData("GET", "/users/%00/sessions")]
    [InlineData("GET", "/users/%0A/sessions")]
    [InlineData("GET", "/users/../query")]
    [InlineData("GET", "/users//sessions")]
    [InlineData("GET", "/../../etc/passwd")]
    [InlineData("PUT", "/query")]
    [InlineData("GET", "/query")]
    [InlineData("PATCH", "/sessions")]
    [InlineData("TRACE", "/sessions/a")]
    [InlineData("GET", "/%")]
    public async Task An_odd_address_is_a_clients_mistake(string method, string target)
    {
        var server = Start();

        // A socket: clients of .NET tidy addresses up before they send them.
        var answer = await RawAsync(server, $"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");

        Assert.Matches("^HTTP/1.1 4[0-9][0-9] ", answer);
        Assert.DoesNotContain("Exception", answer, StringComparison.Ordinal);
        Assert.DoesNotContain("Server:", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("text/plain")]
    [InlineData("application/x-www-form-urlencoded")]
    [InlineData("application/xml")]
    [InlineData("")]
    public async Task What_is_not_JSON_is_refused(string contentType)
    {
        var server = Start();
        using var body = new StringContent("""{"query":"hello"}""");
        body.Headers.Remove("Content-Type");
        body.Headers.TryAddWithoutValidation("Content-Type", contentType);

        using var response = await server.Client.PostAsync(new Uri("/query", UriKind.Relative), body,
            TestContext.Current.CancellationToken);

        (await Answer.ReadAsync(response)).IsProblem(415, "unsupported_media_type");
    }

    [Fact]
    public async Task Bytes_that_are_no_UTF8_are_refused()
    {
        var server = Start();
        using var body = new ByteArrayContent([.. "{\"query\":\""u8, 0xC3, 0x28, 0xFF, .. "\"}"u8]);
        body.Headers.ContentType = new("application/json");

        using var response = await server.Client.PostAsync(new Uri("/query", UriKind.Relative), body,
            TestContext.Current.CancellationToken);

        Assert.InRange((int)response.StatusCode, 400, 422);
    }

    [Fact]
    public async Task Any_text_comes_back_as_it_was_sent()
    {
        var server = Start();
        foreach (var text in (string[])
        [
            "control \u0001\u001f\u007f and \0", "emoji 👩‍👩‍👧‍👦 🏴󠁧󠁢󠁳󠁣󠁴󠁿", "rtl שלום \u202Eevil",
            "<script>alert(1)</script>", "'; DROP TABLE sessions; --", "{{7*7}} ${x} %s \\ \" /", "\uFEFF bom \uFFFF",
        ])
        {
            var answer = await server.QueryAsync(text, "a");
            Assert.Equal(text, (string?)(await server.GetAsync("/sessions/a")).Json["context"]!["last_query"]);
        }
    }

    [Fact]
    public async Task A_body_in_pieces_and_one_that_breaks_off_are_dealt_with()
    {
        var server = Start();
        var broken = await RawAsync(server, "POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + "Content-Length: 100\r\nConnection: close\r\n\r\n{\"query\":", closeEarly: true);
        var chunked = await RawAsync(server, "POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json; charset=utf-8\r\n"
            + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n9\r\n{\"query\":\r\n8\r\n\"hello\"}\r\n0\r\n\r\n");
        var senseless = await RawAsync(server, "POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nFFFFFFFFFFFFFFFF\r\nabc");

        Assert.DoesNotContain("HTTP/1.1 5", broken, StringComparison.Ordinal);
        Assert.StartsWith("HTTP/1.1 200 ", chunked, StringComparison.Ordinal);
        Assert.StartsWith("HTTP/1.1 400 ", senseless, StringComparison.Ordinal);
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
    }

    private static async Task<string> RawAsync(SessionsServer server, string request, bool closeEarly = false)
    {
        using var socket = new TcpClient();
        await socket.ConnectAsync("127.0.0.1", server.Client.BaseAddress!.Port, TestContext.Current.CancellationToken);
        var stream = socket.GetStream();
        await stream.WriteAsync(Encoding.UTF8.GetBytes(request), TestContext.Current.CancellationToken);
        if (closeEarly)
        {
            socket.Client.Shutdown(SocketShutdown.Send);
        }

        using var reader = new StreamReader(stream, Encoding.UTF8);
        try
        {
            return await reader.ReadToEndAsync(TestContext.Current.CancellationToken);
        }
        catch (IOException) when (closeEarly)
        {
            // Whoever hangs up has no right to an answer.
            return "";
        }
    }
}
