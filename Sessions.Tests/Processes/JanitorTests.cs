using System.Net;
using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sessions.Tests.Processes;

/// <summary>The real janitor, with the real API or with one that behaves as badly as a test wants.</summary>
public sealed class JanitorTests
{
    // Some 60 ms.
    private static readonly (string, string) Often = ("SESSIONS__CLEANUP_INTERVAL_MINUTES", "0.001");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_has_the_API_remove_an_expired_session()
    {
        // A quarter of a second, and an API that would not clean up on its own for an hour.
        await using var api = ServiceProcess.Api(("SESSIONS__TIMEOUT_HOURS", "0.00007"));
        var address = await api.AddressAsync();
        using var client = new HttpClient { BaseAddress = address };
        (await client.PostAsync("/sessions", null, Cancel)).Dispose();
        await using var janitor = ServiceProcess.Janitor(address, Often);

        await janitor.SaysAsync("1 expired sessions removed");
        Assert.NotNull((await client.GetFromJsonAsync<JsonNode>("/sessions/stats", Cancel))!["last_cleanup_at"]);
        Assert.Equal(0, await janitor.StopAsync());
    }

    [Fact]
    public async Task An_API_that_is_away_is_told_of_once_and_so_is_its_return()
    {
        var address = new Uri($"http://127.0.0.1:{FreePort.Find()}");
        await using var janitor = ServiceProcess.Janitor(address, Often);
        using var client = new HttpClient { BaseAddress = await janitor.AddressAsync() };

        await janitor.SaysAsync("The API does not clean up");
        var health = await client.GetFromJsonAsync<JsonNode>("/health", Cancel);
        await using var api = ServiceProcess.Api(("ASPNETCORE_URLS", address.ToString()));
        await janitor.SaysAsync("The API cleans up again");

        Assert.Equal("Degraded", (string?)health!["status"]);
        Assert.Equal(1, janitor.Count("The API does not clean up"));
        Assert.Equal(1, janitor.Count("The API cleans up again"));
        Assert.Equal("Healthy", (string?)(await client.GetFromJsonAsync<JsonNode>("/health", Cancel))!["status"]);
    }

    [Fact]
    public async Task Trouble_of_one_kind_is_told_once_however_often_it_comes()
    {
        var calls = 0;
        await using var api = await StubAsync(http =>
        {
            http.Response.StatusCode = Interlocked.Increment(ref calls) <= 4 ? 503 : 401;
            return Task.CompletedTask;
        });
        await using var janitor = ServiceProcess.Janitor(new Uri(api.Urls.Single()), Often);

        await ServiceProcess.UntilAsync(() => Volatile.Read(ref calls) >= 8);
        await janitor.SaysAsync("It answers 401: ");

        Assert.Equal(1, janitor.Count("It answers 503."));
        Assert.Equal(1, janitor.Count("It answers 401: SESSIONS__CLEANUP_KEY must be the same here and there."));
    }

    [Fact]
    public async Task It_never_calls_while_a_call_is_running()
    {
        var (running, most, ended) = (0, 0, 0);
        await using var api = await StubAsync(async http =>
        {
            most = Math.Max(most, Interlocked.Increment(ref running));
            await Task.Delay(300, http.RequestAborted);
            Interlocked.Decrement(ref running);
            Interlocked.Increment(ref ended);
            await http.Response.WriteAsJsonAsync(new { removed = 0 }, http.RequestAborted);
        });
        await using var janitor = ServiceProcess.Janitor(new Uri(api.Urls.Single()), Often);

        await ServiceProcess.UntilAsync(() => Volatile.Read(ref ended) >= 4);

        Assert.Equal(1, most);
    }

    [Fact]
    public async Task It_stops_at_once_even_while_the_API_takes_its_time()
    {
        var called = new TaskCompletionSource();
        await using var api = await StubAsync(async http =>
        {
            called.TrySetResult();
            await Task.Delay(Timeout.Infinite, http.RequestAborted);
        });
        await using var janitor = ServiceProcess.Janitor(new Uri(api.Urls.Single()));
        await called.Task.WaitAsync(TimeSpan.FromSeconds(60), Cancel);

        var stopping = System.Diagnostics.Stopwatch.StartNew();
        Assert.Equal(0, await janitor.StopAsync());

        Assert.InRange(stopping.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(25));
    }

    [Fact]
    public async Task It_sends_the_key_where_there_is_one()
    {
        await using var api = ServiceProcess.Api(("SESSIONS__CLEANUP_KEY", "secret"));
        var address = await api.AddressAsync();
        using var client = new HttpClient { BaseAddress = address };
        using var refused = await client.PostAsync("/sessions/cleanup", null, Cancel);
        await using var janitor = ServiceProcess.Janitor(address, ("SESSIONS__CLEANUP_KEY", "secret"));

        await janitor.SaysAsync("0 expired sessions removed");
        Assert.Equal(HttpStatusCode.Unauthorized, refused.StatusCode);
    }

    [Fact]
    public async Task Alone_it_says_what_it_needs()
    {
        await using var janitor = ServiceProcess.Janitor(api: null);

        Assert.Equal(1, await janitor.ExitAsync());
        Assert.Contains("services__api__http__0", Assert.Single(janitor.Lines), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_setting_that_is_not_allowed_stops_it_with_one_message()
    {
        await using var janitor = ServiceProcess.Janitor(new Uri("http://127.0.0.1:1"), ("SESSIONS__CLEANUP_INTERVAL_MINUTES", "often"));

        Assert.Equal(1, await janitor.ExitAsync());
        Assert.Contains("SESSIONS__CLEANUP_INTERVAL_MINUTES", Assert.Single(janitor.Lines), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_API_stops_at_once_when_asked()
    {
        await using var api = ServiceProcess.Api();
        await api.SaysAsync("Application started");

        Assert.Equal(0, await api.StopAsync());
    }

    private static async Task<WebApplication> StubAsync(RequestDelegate cleanUp)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        app.MapPost("/sessions/cleanup", cleanUp);
        await app.StartAsync(Cancel);
        return app;
    }
}
