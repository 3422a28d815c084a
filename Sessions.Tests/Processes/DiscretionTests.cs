using System.Net;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Sessions.Tests.Processes;

/// <summary>What leaves the process by logs and telemetry, with everything switched on that can be: no conversation and no
/// secret.</summary>
public sealed class DiscretionTests
{
    private const string Query = "canary-query-5f1e";
    private const string Response = "canary-response-77aa";
    private const string Metadata = "canary-metadata-c3d9";
    private const string Words = "canary-words-of-the-provider-1b44";
    private const string ModelKey = "sk-canary-model-key-9e02";
    private const string CleanupKey = "canary-cleanup-key-48dd";

    private static readonly (string Key, string Value)[] Everything = [("Logging__LogLevel__Default", "Trace"),
        ("Logging__LogLevel__Microsoft.AspNetCore", "Trace"), ("Logging__LogLevel__System", "Trace")];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Neither_logs_nor_telemetry_hold_what_was_said_or_any_secret()
    {
        await using var collector = await OtlpReceiver.StartAsync();

        var lines = await ConverseAsync(collector);

        Assert.Contains(lines, line => line.Contains("trce: ", StringComparison.Ordinal));
        Assert.Contains(lines, line => line.Contains("failed in session", StringComparison.Ordinal));
        Assert.True(collector.Received("POST /query"));
        Assert.All([Query, Response, Metadata, Words, ModelKey, CleanupKey], canary =>
        {
            Assert.DoesNotContain(lines, line => line.Contains(canary, StringComparison.Ordinal));
            Assert.False(collector.Received(canary), canary);
        });
    }

    [Fact]
    public async Task Who_asks_for_the_content_gets_it_and_still_no_secret()
    {
        await using var collector = await OtlpReceiver.StartAsync();

        var lines = await ConverseAsync(collector, ("TELEMETRY__INCLUDE_CONTENT", "true"));

        Assert.True(collector.Received(Query));
        Assert.True(collector.Received(Response));
        Assert.Contains(lines, line => line.Contains(Words, StringComparison.Ordinal));
        Assert.All([ModelKey, CleanupKey], canary =>
        {
            Assert.DoesNotContain(lines, line => line.Contains(canary, StringComparison.Ordinal));
            Assert.False(collector.Received(canary), canary);
        });
    }

    [Theory]
    [InlineData("127.0.0.1:1,password=canary-password")]
    [InlineData("canary-password=,,=")]
    public async Task A_start_that_fails_says_no_password(string connection)
    {
        await using var api = ServiceProcess.Api(
            [.. Everything, ("SESSIONS__STORAGE_TYPE", "redis"), ("ConnectionStrings__cache", connection)]);

        Assert.Equal(1, await api.ExitAsync());
        Assert.Contains(api.Lines, line => line.StartsWith("ConnectionStrings:cache: ", StringComparison.Ordinal));
        Assert.DoesNotContain(api.Lines, line => line.Contains("canary", StringComparison.Ordinal));
    }

    // All that can quote something: answers, failures of the agent in either form, mistakes, and what stands in an address.
    private static async Task<IReadOnlyList<string>> ConverseAsync(OtlpReceiver collector, params (string Key, string Value)[] settings)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        model.Reply = async (request, _, http) =>
        {
            if (!request.ToJsonString().Contains("fail", StringComparison.Ordinal))
            {
                await ChatCompletionsServer.AnswerAsync(http, Response);
                return;
            }

            http.Response.StatusCode = StatusCodes.Status400BadRequest;
            await http.Response.WriteAsJsonAsync(
                new { error = new { message = $"{Words}: your text '{Query}'", type = "invalid_request_error" } }, Cancel);
        };
        await using var api = ServiceProcess.Api(
        [
            .. collector.Environment, .. Everything, .. settings,
            .. model.Agent("model"),
            ("OPENAI_API_KEY", ModelKey), ("SESSIONS__CLEANUP_KEY", CleanupKey),
        ]);
        using var http = new HttpClient { BaseAddress = await api.AddressAsync() };

        async Task<HttpStatusCode> PostAsync(string path, string body)
        {
            using var content = new StringContent(body, Encoding.UTF8, "application/json");
            using var answer = await http.PostAsync(new Uri(path, UriKind.Relative), content, Cancel);
            await answer.Content.ReadAsStringAsync(Cancel);
            return answer.StatusCode;
        }

        Assert.Equal(HttpStatusCode.OK, await PostAsync("/query", $$"""{"query":"{{Query}}","thread_id":"a","agent_type":"model"}"""));
        Assert.Equal(HttpStatusCode.OK, await PostAsync("/query", $$"""{"query":"{{Query}}","thread_id":"a","stream":true}"""));
        Assert.Equal(HttpStatusCode.BadGateway,
            await PostAsync("/query", $$"""{"query":"{{Query}} fail","thread_id":"b","agent_type":"model"}"""));
        Assert.Equal(HttpStatusCode.OK,
            await PostAsync("/query", $$"""{"query":"{{Query}} fail","thread_id":"b","agent_type":"model","stream":true}"""));
        Assert.Equal(HttpStatusCode.UnprocessableEntity, await PostAsync("/query", $$"""{"query":"x","agent_type":"{{Query}}"}"""));
        Assert.Equal(HttpStatusCode.UnprocessableEntity, await PostAsync("/query", $$"""{"query":{"{{Query}}":1} }"""));
        Assert.Equal(HttpStatusCode.BadRequest, await PostAsync("/query", $$"""{"query":"{{Query}} """));
        Assert.Equal(HttpStatusCode.Created, await PostAsync("/sessions", $$"""{"user_id":"ada","metadata":{"topic":"{{Metadata}}"} }"""));
        using (await http.GetAsync(new Uri($"/users/ada/sessions?metadata.topic={Metadata}", UriKind.Relative), Cancel))
        using (await http.GetAsync(new Uri($"/users/ada/sessions?order={Metadata}", UriKind.Relative), Cancel))
        {
        }

        using (var request = new HttpRequestMessage(HttpMethod.Post, "/sessions/cleanup"))
        {
            request.Headers.Add("X-Cleanup-Key", CleanupKey);
            (await http.SendAsync(request, Cancel)).EnsureSuccessStatusCode();
        }

        // By then everything has been written and sent.
        Assert.Equal(0, await api.StopAsync());
        return api.Lines;
    }
}
