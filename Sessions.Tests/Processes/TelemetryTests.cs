using System.Net.Http.Json;

namespace Sessions.Tests.Processes;

/// <summary>What really leaves the processes for a collector.</summary>
public sealed class TelemetryTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_query_arrives_as_one_trace_from_request_to_store_with_session_and_agent()
    {
        await using var collector = await OtlpReceiver.StartAsync();
        await using var api = ServiceProcess.Api([.. collector.Environment, ("OTEL_SERVICE_NAME", "api")]);
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };

        using var answer = await client.PostAsJsonAsync("/query", new { query = "Hello", thread_id = "traced", user_id = "ada" }, Cancel);
        answer.EnsureSuccessStatusCode();

        await ServiceProcess.UntilAsync(() => collector.Spans.Any(span => span.Name == "POST /query"));
        var request = collector.Spans.Single(span => span.Name == "POST /query");
        var turn = collector.Spans.Single(span => span.Name == "turn");
        var agent = collector.Spans.Single(span => span.Name.StartsWith("chat", StringComparison.Ordinal));
        var commit = collector.Spans.Single(span => span.Name == "store commit_turn");
        Assert.Equal(request.Id, turn.ParentId);
        Assert.Equal(turn.Id, agent.ParentId);
        Assert.Equal(turn.Id, commit.ParentId);
        Assert.Equal("traced", turn.Attributes["gen_ai.conversation.id"]);
        Assert.Equal("advanced", turn.Attributes["sessions.agent_type"]);
        Assert.Equal("traced", agent.Attributes["gen_ai.conversation.id"]);
        Assert.Equal("memory", commit.Attributes["sessions.store"]);
        Assert.DoesNotContain("gen_ai.input.messages", agent.Attributes.Keys);
    }

    [Theory]
    [InlineData("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", true)]
    [InlineData("TELEMETRY__INCLUDE_CONTENT", true)]
    [InlineData("", false)]
    public async Task Spans_tell_what_a_streamed_answer_says_where_that_is_asked_for(string variable, bool isAskedFor)
    {
        await using var collector = await OtlpReceiver.StartAsync();
        await using var model = await ScriptedModel.StartAsync();
        await using var api = ServiceProcess.Api(
        [
            .. collector.Environment, .. isAskedFor ? [(variable, "true")] : Array.Empty<(string, string)>(),
            .. model.Agent("advanced"),
        ]);
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };

        using var answer = await client.PostAsJsonAsync("/query", new { query = "say streamed", stream = true }, Cancel);
        Assert.Contains("event: done", await answer.Content.ReadAsStringAsync(Cancel), StringComparison.Ordinal);

        await ServiceProcess.UntilAsync(() => collector.Spans.Any(span => span.Name.StartsWith("chat", StringComparison.Ordinal)));
        var agent = collector.Spans.Single(span => span.Name.StartsWith("chat", StringComparison.Ordinal));
        var told = agent.Attributes.GetValueOrDefault("gen_ai.output.messages") ?? "";
        Assert.Equal(isAskedFor, told.Contains("streamed", StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_metrics_move_with_what_happens()
    {
        await using var collector = await OtlpReceiver.StartAsync();
        await using var api = ServiceProcess.Api([.. collector.Environment, ("OTEL_SERVICE_NAME", "api")]);
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };

        for (var i = 0; i < 3; i++)
        {
            using var answer = await client.PostAsJsonAsync("/query", new { query = "Hello", thread_id = "counted" }, Cancel);
            answer.EnsureSuccessStatusCode();
        }

        (await client.PostAsync("/sessions", null, Cancel)).Dispose();
        (await client.PostAsync("/sessions/cleanup", null, Cancel)).Dispose();

        // They are read and arrive one after another.
        await ArrivesAsync("sessions.cleanup.runs", 1);
        await ArrivesAsync("sessions.created", 2);
        await ArrivesAsync("sessions.turn.duration", 3);
        await ArrivesAsync("sessions.turn.queue_wait", 3);
        await ArrivesAsync("sessions.store.operation.duration", 3 + 3 + 1 + 1);
        await ServiceProcess.UntilAsync(() => collector.Metric("api", "sessions.active") is not null);

        Task ArrivesAsync(string name, double value) => ServiceProcess.UntilAsync(() => collector.Metric("api", name) == value);
    }

    [Fact]
    public async Task A_collector_that_is_away_does_not_hold_up_a_process_that_is_to_stop()
    {
        // Nobody listens there; and to try again and again is what Aspire asks of the exporter.
        await using var api = ServiceProcess.Api(("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("OTEL_DOTNET_EXPERIMENTAL_OTLP_RETRY", "in_memory"));
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };
        using var answer = await client.PostAsJsonAsync("/query", new { query = "Hello" }, Cancel);
        answer.EnsureSuccessStatusCode();

        var stopping = System.Diagnostics.Stopwatch.StartNew();
        Assert.Equal(0, await api.StopAsync());

        Assert.InRange(stopping.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(25));
    }

    [Fact]
    public async Task A_clean_up_is_one_trace_from_the_janitor_to_the_store()
    {
        await using var collector = await OtlpReceiver.StartAsync();
        await using var api = ServiceProcess.Api([.. collector.Environment]);
        await using var janitor = ServiceProcess.Janitor(await api.AddressAsync(), [.. collector.Environment]);

        await ServiceProcess.UntilAsync(() => collector.Spans.Any(span => span.Name == "janitor")
            && collector.Spans.Any(span => span.Name == "POST /sessions/cleanup"));
        var root = collector.Spans.First(span => span.Name == "janitor");
        var trace = collector.Spans.Where(span => span.TraceId == root.TraceId).ToDictionary(span => span.Id);
        var leaf = trace.Values.Single(span => span.Name == "store remove_expired");
        var path = new List<string>();
        for (OtlpSpan? span = leaf; span is not null; span = trace.GetValueOrDefault(span.ParentId))
        {
            path.Add($"{span.Service}: {span.Name}");
        }

        Assert.Equal(
            ["Sessions.Api: store remove_expired", "Sessions.Api: cleanup", "Sessions.Api: POST /sessions/cleanup",
                "Sessions.Janitor: POST", "Sessions.Janitor: janitor"], path);
        await ServiceProcess.UntilAsync(() => collector.Metric("Sessions.Janitor", "sessions.janitor.runs") == 1);
    }
}
