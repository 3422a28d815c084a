using System.Text;
using System.Text.Json;

namespace Sessions.Tests.Api;

/// <summary>Content that is sent: what is no text, what is too much, and how long it is held.</summary>
public sealed class ContentTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("""{"input":[{"type":"input_text","text":"\ud800"}]}""", "input")]
    [InlineData("""{"input":[{"type":"input_text","text":"x","\udc00":1}]}""", "input")]
    [InlineData("""{"query":"\ud800"}""", "query")]
    public async Task Half_a_surrogate_pair_is_no_text(string body, string field)
    {
        await using var server = SessionsServer.Start([]);
        var refused = (await server.PostAsync("/query", body)).IsProblem(422, "invalid_request");
        Assert.NotNull(refused.Json["errors"]![field]);
        refused = (await server.PostAsync("/sessions/a/turns", """{"input":[{"role":"user","content":"\ud800"}]}"""))
            .IsProblem(422, "invalid_request");
        Assert.NotNull(refused.Json["errors"]!["input[0]"]);
    }

    [Theory]
    [InlineData("")]
    [InlineData("\"query\":\"What is this?\",")]
    public async Task A_part_that_the_agent_does_not_take_is_named_as_it_was_sent(string query)
    {
        await using var server = SessionsServer.Start([]);
        foreach (var stream in (string[])["", ",\"stream\":true"])
        {
            var refused = (await server.PostAsync("/query", $$"""
                {{{query}}"input":[{"type":"input_text","text":"x"},
                  {"type":"input_image","image_url":"data:image/png;base64,AA=="}]{{stream}}}
                """)).IsProblem(422, "content_not_supported");

            Assert.Equal("input[1]", refused.Json["errors"]!.AsObject().Single().Key);
            Assert.Equal("input[1]: this agent does not take images.", (string?)refused.Json["detail"]);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_query_without_content_is_bounded_as_everywhere_however_it_is_sent(bool isChunked)
    {
        await using var server = SessionsServer.Start([("limits:request_body_bytes", "2000")]);
        using var request = new HttpRequestMessage(HttpMethod.Post, "/query")
        {
            Content = new StringContent($$"""{"query":"x","parameters":{"a":"{{new string('x', 3000)}}"} }""",
                Encoding.UTF8, "application/json"),
        };
        request.Headers.TransferEncodingChunked = isChunked;
        using var response = await server.Client.SendAsync(request, Cancel);
        var refused = (await Answer.ReadAsync(response)).IsProblem(413, "limit_exceeded");
        Assert.Equal("limits.request_body_bytes", (string?)refused.Json["limit"]);
    }

    [Fact]
    public async Task What_was_asked_counts_for_what_streams_hold_and_only_that_is_held()
    {
        await using var server = SessionsServer.Start([]);
        var text = new string('x', 200_000);
        foreach (var body in (object[])
        [
            new { input = text, stream = true, instructions = "Be brief." },
            new { input = new[] { new { role = "user", content = text } }, stream = true },
        ])
        {
            var before = server.Get<StreamedTurns>().KeptBytes;
            Assert.Equal(200, (await server.PostAsync("/v1/responses", body)).Status);
            await ServiceProcess.UntilAsync(() => server.Get<StreamedTurns>().Running == 0);
            Assert.InRange(server.Get<StreamedTurns>().KeptBytes - before, 200_000, 1_500_000);
        }

        // Of the request itself a Response needs little.
        var echoed = Sessions.Api.Http.OpenAi.ResponseRequest.Read(
            JsonElement.Parse($$"""{"input":"{{text}}","user":"ada","temperature":1}""")).Echoed();
        Assert.InRange(echoed.Bytes, 1, 1000);
        Assert.Null(echoed.Text);
        Assert.Equal("""{"temperature":1,"user":"ada"}""", echoed.Body.GetRawText());
    }

    [Fact]
    public async Task A_failure_is_told_the_same_plainly_and_as_a_stream()
    {
        foreach (var failure in (Exception[])
            [new StoreUnavailableException("On fire.", TimeSpan.FromSeconds(7)), new StoredDataException("session 'a'", "It is damaged.")])
        {
            await using var server = SessionsServer.Start([], FaultySessionStore.Around);
            server.Get<FaultySessionStore>().Fail("begin_turn", tookEffect: false, failure);
            foreach (var (path, body) in ((string, string)[])[("/query", """{"query":"x"}"""), ("/v1/responses", """{"input":"x"}""")])
            {
                var plain = await server.PostAsync(path, body);
                var streamed = await server.PostAsync(path, $"{body[..^1]},\"stream\":true}}");
                Assert.Equal(503, plain.Status);
                Assert.Equal((plain.Status, plain.Headers["Retry-After"]), (streamed.Status, streamed.Headers["Retry-After"]));
                Assert.Equal(Without(plain.Text), Without(streamed.Text));
            }
        }

        static string Without(string text)
        {
            var json = System.Text.Json.Nodes.JsonNode.Parse(text)!.AsObject();
            json.Remove("trace_id");
            return json.ToJsonString();
        }
    }
}
