using System.Diagnostics;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Agents;

/// <summary>Providers that fail in each of the ways there are: what is told, what is logged, and how much is read of it.</summary>
public sealed class AgentFailureTests
{
    private const string ProvidersWords = "sk-secret: the user wrote \\\"I am ill\\\"";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(401, "invalid_api_key", "agent_unauthorized",
        "The agent's provider answered with status 401 (invalid_api_key): it does not accept the key that this server has for it.")]
    [InlineData(403, "forbidden", "agent_unauthorized",
        "The agent's provider answered with status 403 (forbidden): it does not accept the key that this server has for it.")]
    [InlineData(404, "model_not_found", "agent_not_found",
        "The agent's provider answered with status 404 (model_not_found): it has no such address or model.")]
    [InlineData(429, "insufficient_quota", "agent_rate_limited",
        "The agent's provider answered with status 429 (insufficient_quota): it is asked too often, or its quota is used up.")]
    [InlineData(400, "unsupported_value", "agent_failed", "The agent's provider answered with status 400 (unsupported_value).")]
    [InlineData(500, "server_error", "agent_failed", "The agent's provider answered with status 500 (server_error).")]
    [InlineData(307, "moved", "agent_failed", "The agent's provider answered with status 307 (moved).")]
    public async Task A_refusal_is_told_with_its_status_and_code_and_never_with_its_words(
        int status, string providerCode, string code, string message)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) =>
        {
            http.Response.StatusCode = status;
            http.Response.Headers.Location = model.Endpoint + "/elsewhere";
            return Wire.JsonAsync(http,
                $$$"""{"error":{"message":"{{{ProvidersWords}}}","type":"some_type","code":"{{{providerCode}}}","param":null}}""");
        };
        foreach (var streamed in (bool[])[false, true])
        {
            var error = await host.FailAsync(streamed);

            Assert.Equal((code, message), (error.Code, error.Message));
            Assert.Equal((status, providerCode), error.Provider);
            Assert.False(error.MayRetry);
        }

        Assert.Equal(2, model.Requests.Count);
        var log = host.Logs.Last(record => record.Category?.EndsWith("Agent", StringComparison.Ordinal) == true);
        Assert.Equal($"Agent model: {model.Endpoint} answered with status {status} (code {providerCode}, type some_type)", log.Message);
        Assert.All(host.Logs, record => Assert.Null(record.Exception));
        Assert.DoesNotContain(host.Logs, record => record.Message.Contains("ill", StringComparison.Ordinal)
            && record.Message.Contains("secret", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("""{"error":{"message":"I am ill","code":"I am ill"}}""", null)]
    [InlineData("""{"error":{"message":"x","code":1234}}""", "1234")]
    [InlineData("""{"object":"error","message":"x","type":"BadRequestError","code":400}""", "400")]
    [InlineData("""{"error":"I am ill"}""", null)]
    [InlineData("<html>nginx</html>", null)]
    [InlineData("", null)]
    public async Task Only_a_word_for_programs_is_taken_from_a_refusal(string body, string? providerCode)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) =>
        {
            http.Response.StatusCode = 400;
            return http.Response.WriteAsync(body, Cancel);
        };

        var error = await host.FailAsync();

        Assert.Equal((400, providerCode), error.Provider);
        Assert.Equal(providerCode is null
            ? "The agent's provider answered with status 400."
            : $"The agent's provider answered with status 400 ({providerCode}).", error.Message);
    }

    [Fact]
    public async Task A_long_wait_asked_for_fails_at_once_and_is_passed_on()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model", maxRetries: 3));
        model.Reply = (_, _, http) =>
        {
            http.Response.StatusCode = 429;
            http.Response.Headers.RetryAfter = "3600";
            return Task.CompletedTask;
        };
        var started = Stopwatch.GetTimestamp();

        var error = await host.FailAsync();

        // Not after the time-out of 30 s.
        Assert.True(Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(15));
        Assert.Equal(("agent_rate_limited", TimeSpan.FromHours(1), true), (error.Code, error.RetryAfter, error.MayRetry));
        Assert.Single(model.Requests);
    }

    [Theory]
    [InlineData(429, false)]
    [InlineData(503, true)]
    public async Task A_provider_that_is_busy_for_a_moment_is_asked_again_by_one_policy(int status, bool streamed)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model", maxRetries: 2));
        model.Reply = (_, before, http) =>
        {
            if (before == 2)
            {
                return streamed
                    ? Wire.StreamAsync(http, Wire.Piece("now"), Wire.End())
                    : Wire.JsonAsync(http, Wire.Whole("""{"content":"now"}"""));
            }

            http.Response.StatusCode = status;
            http.Response.Headers.RetryAfter = "0";
            return Task.CompletedTask;
        };

        Assert.Equal("now", (await host.AskAsync(Items.OfText("hello"), streamed ? new Recorder() : null)).Output.ToString());
        Assert.Equal(3, model.Requests.Count);

        // Twice more, not twice by each of two policies.
        model.Reply = (_, _, http) =>
        {
            http.Response.StatusCode = status;
            http.Response.Headers.RetryAfter = "0";
            return Task.CompletedTask;
        };
        await host.FailAsync(streamed);
        Assert.Equal(6, model.Requests.Count);
    }

    [Fact]
    public async Task An_address_that_cannot_be_reached_is_named_in_the_log_and_not_to_clients()
    {
        var port = FreePort.Find();
        await using var host = AgentHost.Start([("agents:model:provider", "openai"), ("agents:model:model", "m"),
            ("agents:model:endpoint", $"http://127.0.0.1:{port}/v1"), ("agents:model:max_retries", "0")]);

        var error = await host.FailAsync();

        Assert.Equal(("agent_failed", "The agent's provider can't be reached."), (error.Code, error.Message));
        Assert.Equal($"Agent model: http://127.0.0.1:{port}/v1 can't be reached (ConnectionRefused)",
            Assert.Single(host.Logs, record => record.Level >= LogLevel.Warning).Message);
        Assert.All(host.Logs, record => Assert.Null(record.Exception));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_answer_that_is_broken_off_is_told_as_that(bool streamed)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) =>
        {
            // Less than it says: then the connection is closed.
            http.Response.ContentLength = 1000;
            return streamed ? Wire.StreamAsync(http, Wire.Piece("half an ans")) : Wire.JsonAsync(http, """{"id":"1","choi""");
        };

        var error = await host.FailAsync(streamed);

        Assert.Equal(("agent_failed", "The agent's provider broke its answer off."), (error.Code, error.Message));
        Assert.Contains(host.Logs,
            record => record.Message.StartsWith($"Agent model: {model.Endpoint} broke its answer off (", StringComparison.Ordinal));
    }

    public static TheoryData<string[], string> BadStreams => new()
    {
        // An error object inside a stream, before or after text, by its own name, in a choice, or as a reason to finish.
        {
            [Wire.Piece("The sky"), """{"error":{"message":"overloaded","code":"server_overloaded"}}"""],
            "The agent's provider answered with an error (server_overloaded)."
        },
        { ["""{"error":"overloaded"}"""], "The agent's provider answered with an error." },
        {
            [Wire.Piece("The sky"), """{"choices":[{"index":0,"delta":{},"error":{"code":502},"finish_reason":null}]}"""],
            "The agent's provider answered with an error (502)."
        },
        { [Wire.Piece("The sky"), Wire.End("\"error\"")], "The agent's provider answered with an error." },

        // A stream without an end.
        { [Wire.Piece("The sky")], "The agent's provider broke its answer off." },
        { [], "The agent's answer can't be read." },

        // What is none.
        { ["<html>"], "The agent's answer can't be read." },
        { ["[1]"], "The agent's answer can't be read." },
        { [Wire.Delta("""{"content":"\ud83d"}"""), Wire.End()], "The agent's answer can't be read." },
        { [Wire.Delta("""{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"""), Wire.End()], "The agent's answer can't be read." },

        // Nothing said.
        { [Wire.End(), "[DONE]"], "The agent returned no text." },
        { ["[DONE]"], "The agent returned no text." },
        { [Wire.Piece(" \n"), Wire.End(), "[DONE]"], "The agent returned no text." },
        { [Wire.Delta("""{"reasoning_content":"Hm."}"""), Wire.End(), "[DONE]"], "The agent returned no text." },
    };

    [Theory]
    [MemberData(nameof(BadStreams))]
    public async Task A_stream_that_is_no_answer_fails(string[] pieces, string message)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.StreamAsync(http, pieces);

        var error = await host.FailAsync(streamed: true);

        Assert.Equal(("agent_failed", message, false), (error.Code, error.Message, error.MayRetry));
    }

    [Theory]
    [InlineData("""{"error":{"message":"x","code":"overloaded"}}""", "The agent's provider answered with an error (overloaded).")]
    [InlineData("""{"choices":[]}""", "The agent's answer can't be read.")]
    [InlineData("{}", "The agent's answer can't be read.")]
    [InlineData("null", "The agent's answer can't be read.")]
    [InlineData("", "The agent's answer can't be read.")]
    [InlineData("""{"choices":[{"message":{"content":null},"finish_reason":"stop"}]}""", "The agent returned no text.")]
    public async Task An_answer_at_once_that_is_none_fails(string body, string message)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.JsonAsync(http, body);

        Assert.Equal(message, (await host.FailAsync()).Message);
        if (message.Contains("error", StringComparison.Ordinal))
        {
            Assert.Equal(message, (await host.FailAsync(streamed: true)).Message);
        }
    }

    [Fact]
    public async Task An_endpoint_that_answers_a_stream_at_once_is_understood()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model"));
        model.Reply = (_, _, http) => Wire.JsonAsync(http, Wire.Whole("""{"role":"assistant","content":"all of it"}"""));

        Assert.Equal("all of it", (await host.AskAsync(Items.OfText("hello"), new Recorder())).Output.ToString());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_answer_longer_than_allowed_fails(bool streamed)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("limits:response_bytes", "1000")]);
        foreach (var (text, fits) in ((string, bool)[])
            [(new string('x', 1000), true), (new string('x', 1001), false), (new string('é', 501), false)])
        {
            model.Reply = (_, _, http) => streamed
                ? Wire.StreamAsync(http, text.Chunk(100).Select(piece => Wire.Piece(new string(piece))).Append(Wire.End()))
                : ChatCompletionsServer.AnswerAsync(http, text);
            if (fits)
            {
                Assert.Equal(text, (await host.AskAsync(Items.OfText("hello"), streamed ? new Recorder() : null)).Output.ToString());
            }
            else
            {
                Assert.Equal("The agent's answer is longer than the 1000 bytes that limits.response_bytes allows.",
                    (await host.FailAsync(streamed)).Message);
            }
        }
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    public async Task An_endless_answer_is_read_no_further_than_allowed(bool streamed, bool empty)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("agents:model:provider_bytes", "100000"),
            ("agents:model:provider_pieces", empty ? "100" : "1000000"), ("limits:response_bytes", "1000")]);
        var ended = new TaskCompletionSource();
        model.Reply = async (_, _, http) =>
        {
            try
            {
                // Without an end: only the reader's going away ends it.
                http.Response.ContentType = streamed ? "text/event-stream" : "application/json";
                await http.Response.WriteAsync(streamed ? "" : "{\"x\":\"", Cancel);
                while (!http.RequestAborted.IsCancellationRequested)
                {
                    await http.Response.WriteAsync(
                        streamed ? empty ? $"data: {Wire.Piece("")}\n\n" : ": still here\n\n" : "0123456789", http.RequestAborted);
                }
            }
            finally
            {
                ended.TrySetResult();
            }
        };

        var error = await host.FailAsync(streamed);
        await ended.Task.WaitAsync(Cancel);

        Assert.Equal(
            streamed ? "The agent's provider sent more than agents.<name>.provider_bytes or provider_pieces allows."
                : "The agent's answer is longer than the 1000 bytes that limits.response_bytes allows.",
            error.Message);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_agent_that_hangs_is_cut_off(bool streamed)
    {
        var time = new FakeTimeProvider();
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start(model.Agent("model", timeoutSeconds: 20), time);
        var entered = new TaskCompletionSource();
        model.Reply = async (_, _, http) =>
        {
            entered.TrySetResult();
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        };

        var failing = host.FailAsync(streamed);
        await entered.Task.WaitAsync(Cancel);
        time.Advance(TimeSpan.FromSeconds(20));

        Assert.Equal(("agent_timeout", "The agent did not answer within 20 s."), ((await failing).Code, (await failing).Message));
    }

    [Fact]
    public async Task With_content_in_telemetry_the_cause_goes_with_the_failure()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var host = AgentHost.Start([.. model.Agent("model"), ("telemetry:include_content", "true")]);
        model.Reply = (_, _, http) =>
        {
            http.Response.StatusCode = 400;
            return Wire.JsonAsync(http, """{"error":{"message":"the provider's own words","code":"c"}}""");
        };

        var failure = await Assert.ThrowsAsync<AgentException>(() => host.AskAsync(Items.OfText("hello")));

        Assert.Contains("the provider's own words", failure.InnerException!.Message, StringComparison.Ordinal);
        Assert.Equal((400, "c"), failure.Error.Provider);
    }
}
