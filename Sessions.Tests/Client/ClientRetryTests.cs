using System.Net;
using System.Net.Http.Headers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Sessions.Client;

namespace Sessions.Tests.Client;

/// <summary>What the client sends again, and how long it waits for that: with a scripted server and a clock that the test turns.</summary>
public sealed class ClientRetryTests : IAsyncDisposable
{
    private readonly FakeTimeProvider _time = new(DateTimeOffset.UtcNow);
    private readonly Script _script = new() { Answer = (_, _) => Task.FromResult(Statistics()) };
    private readonly ServiceProvider _application;

    public ClientRetryTests()
    {
        var services = new ServiceCollection();
        services.AddLogging();
        services.AddSingleton<TimeProvider>(_time);
        services.AddSessionsClient("api", options => options.Endpoint = new Uri("http://sessions.invalid"))
            .ConfigurePrimaryHttpMessageHandler(() => new ScriptedHandler(_script));
        _application = services.BuildServiceProvider();
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private SessionsClient Client => _application.GetRequiredService<SessionsClient>();

    public ValueTask DisposeAsync() => _application.DisposeAsync();

    [Theory]
    [InlineData(503, "storage_damaged", 60)]
    [InlineData(502, "agent_rate_limited", 3600)]
    [InlineData(429, "rate_limited", 31)]
    public async Task An_answer_that_wants_a_long_wait_is_handed_on_as_it_is(int status, string code, int seconds)
    {
        _script.Answer = (_, _) => Task.FromResult(Problem(status, code, new RetryConditionHeaderValue(TimeSpan.FromSeconds(seconds))));

        var thrown = await FailsAsync();

        Assert.Equal((code, (HttpStatusCode)status, TimeSpan.FromSeconds(seconds)), (thrown.Code, thrown.Status, thrown.RetryAfter));
        Assert.Equal(1, _script.Requests);
    }

    [Fact]
    public async Task So_is_one_that_says_it_as_a_date()
    {
        _script.Answer = (_, _) => Task.FromResult(
            Problem(503, "storage_unavailable", new RetryConditionHeaderValue(DateTimeOffset.UtcNow.AddHours(1))));

        Assert.Equal("storage_unavailable", (await FailsAsync()).Code);
        Assert.Equal(1, _script.Requests);
    }

    [Fact]
    public async Task A_short_wait_is_obeyed()
    {
        List<DateTimeOffset> sent = [];
        _script.Answer = (_, _) =>
        {
            sent.Add(_time.GetUtcNow());
            return Task.FromResult(sent.Count == 1
                ? Problem(503, "storage_unavailable", new RetryConditionHeaderValue(TimeSpan.FromSeconds(20))) : Statistics());
        };

        Assert.Equal("memory", (await InTimeAsync(Client.GetStatisticsAsync(Cancel))).StorageType);
        Assert.Equal(2, sent.Count);
        Assert.InRange((sent[1] - sent[0]).TotalSeconds, 20, 21);
    }

    [Fact]
    public async Task Waits_of_all_attempts_are_half_a_minute_together()
    {
        _script.Answer = (_, _) => Task.FromResult(
            Problem(502, "agent_rate_limited", new RetryConditionHeaderValue(TimeSpan.FromSeconds(10))));

        Assert.Equal("agent_rate_limited", (await FailsAsync()).Code);
        Assert.Equal(4, _script.Requests);
    }

    [Fact]
    public async Task What_fails_without_a_word_is_sent_six_times()
    {
        _script.Answer = (_, _) => throw new HttpRequestException(HttpRequestError.ConnectionError);

        Assert.Equal(SessionsException.Unreachable, (await FailsAsync()).Code);
        Assert.Equal(6, _script.Requests);
    }

    [Fact]
    public async Task However_many_calls_there_are_at_once_each_is_sent()
    {
        var answer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _script.Answer = async (_, cancellationToken) =>
        {
            await answer.Task.WaitAsync(cancellationToken);
            return Statistics();
        };

        var calls = Enumerable.Range(0, 1500).Select(_ => Client.GetStatisticsAsync(Cancel)).ToList();
        await ServiceProcess.UntilAsync(() => _script.Requests == calls.Count || calls.Exists(call => call.IsCompleted));
        answer.SetResult();

        Assert.All(await Task.WhenAll(calls), statistics => Assert.Equal("memory", statistics.StorageType));
    }

    [Fact]
    public async Task Calls_that_fail_do_not_stop_those_of_other_sessions()
    {
        _script.Answer = (request, _) => Task.FromResult(request.RequestUri!.AbsolutePath.Contains("damaged", StringComparison.Ordinal)
            ? Problem(503, "storage_damaged", new RetryConditionHeaderValue(TimeSpan.FromSeconds(60))) : Statistics());

        for (var i = 0; i < 200; i++)
        {
            var thrown = await Assert.ThrowsAsync<SessionsException>(() => InTimeAsync(Client.GetSessionAsync("damaged",
                cancellationToken: Cancel)));
            Assert.Equal("storage_damaged", thrown.Code);
        }

        Assert.Equal(200, _script.Requests);
        Assert.Equal("memory", (await Client.GetStatisticsAsync(Cancel)).StorageType);
    }

    private Task<SessionsException> FailsAsync() => Assert.ThrowsAsync<SessionsException>(
        () => InTimeAsync(Client.QueryAsync(new QueryOptions { Query = "Hello" }, Cancel)));

    // Whatever is waited for is over at once.
    private async Task<T> InTimeAsync<T>(Task<T> call)
    {
        await ServiceProcess.UntilAsync(() =>
        {
            if (!call.IsCompleted)
            {
                _time.Advance(TimeSpan.FromSeconds(0.5));
            }

            return call.IsCompleted;
        });
        return await call;
    }

    private static HttpResponseMessage Statistics() => Json(200, """
        {"storage_type":"memory","active_sessions":0,"active_sessions_memory":0,"cleanup_interval_minutes":60,"timeout_hours":24,
         "max_sessions_per_user":10,"last_cleanup_at":null}
        """);

    private static HttpResponseMessage Problem(int status, string code, RetryConditionHeaderValue retryAfter)
    {
        var answer = Json(status, $$"""{"title":"No","code":"{{code}}"}""");
        answer.Headers.RetryAfter = retryAfter;
        return answer;
    }

    private static HttpResponseMessage Json(int status, string text) =>
        new((HttpStatusCode)status) { Content = new StringContent(text, new MediaTypeHeaderValue("application/json")) };

    private sealed class Script
    {
        private int _requests;

        public int Requests => Volatile.Read(ref _requests);

        public required Func<HttpRequestMessage, CancellationToken, Task<HttpResponseMessage>> Answer { get; set; }

        public Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref _requests);
            return Answer(request, cancellationToken);
        }
    }

    private sealed class ScriptedHandler(Script script) : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            script.SendAsync(request, cancellationToken);
    }
}
