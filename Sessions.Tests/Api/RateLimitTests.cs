using System.Net;
using System.Security.Claims;
using Microsoft.AspNetCore.Http;

namespace Sessions.Tests.Api;

public sealed class RateLimitTests
{
    [Fact]
    public async Task More_than_allowed_is_refused_until_later_and_health_is_not_counted()
    {
        await using var server = SessionsServer.Start(
            [("rate_limit:requests_per_minute", "1"), ("rate_limit:burst", "3"), ("rate_limit:loopback", "true")]);

        for (var i = 0; i < 3; i++)
        {
            Assert.Equal(200, (await server.TryQueryAsync("hello")).Status);
            Assert.Equal(200, (await server.GetAsync("/health")).Status);
        }

        var refused = (await server.TryQueryAsync("hello")).IsProblem(429, "rate_limited");
        Assert.InRange(int.Parse(refused.Headers["Retry-After"], System.Globalization.CultureInfo.InvariantCulture), 1, 60);
        Assert.Equal("rate_limit.requests_per_minute", (string?)refused.Json["limit"]);
        (await server.GetAsync("/sessions/a")).IsProblem(429, "rate_limited");
        Assert.Equal(200, (await server.GetAsync("/health")).Status);
        Assert.Equal(200, (await server.GetAsync("/alive")).Status);
    }

    [Fact]
    public async Task It_comes_back_with_time()
    {
        await using var server = SessionsServer.Start(
            [("rate_limit:requests_per_minute", "600"), ("rate_limit:burst", "1"), ("rate_limit:loopback", "true")]);

        // One every 100 ms of the machine's own time.
        await ServiceProcess.UntilAsync(async () => (await server.GetAsync("/")).Status == 429);
        await ServiceProcess.UntilAsync(async () => (await server.GetAsync("/")).Status == 200);
    }

    [Fact]
    public async Task Callers_on_this_machine_are_not_limited_unless_it_is_asked_for()
    {
        await using var server = SessionsServer.Start([("rate_limit:requests_per_minute", "1"), ("rate_limit:burst", "1")]);

        for (var i = 0; i < 20; i++)
        {
            Assert.Equal(200, (await server.GetAsync("/")).Status);
        }
    }

    [Fact]
    public async Task Without_a_rate_nobody_is_limited()
    {
        await using var server = SessionsServer.Start(
            [("rate_limit:requests_per_minute", "0"), ("rate_limit:burst", "1"), ("rate_limit:loopback", "true")]);

        for (var i = 0; i < 20; i++)
        {
            Assert.Equal(200, (await server.GetAsync("/")).Status);
        }
    }

    [Fact]
    public void Callers_are_told_apart_by_name_or_else_by_address_or_network()
    {
        Assert.Equal(Caller("192.0.2.1"), Caller("192.0.2.1"));
        Assert.Equal(Caller("192.0.2.1"), Caller("::ffff:192.0.2.1"));
        Assert.NotEqual(Caller("192.0.2.1"), Caller("192.0.2.2"));
        Assert.Equal(Caller("2001:db8:0:1::1"), Caller("2001:db8:0:1:ffff::9"));
        Assert.NotEqual(Caller("2001:db8:0:1::1"), Caller("2001:db8:0:2::1"));
        Assert.Equal(Caller("192.0.2.1", "ada"), Caller("192.0.2.2", "ada"));
        Assert.NotEqual(Caller("192.0.2.1", "ada"), Caller("192.0.2.1", "eve"));
        Assert.NotEqual(Caller("192.0.2.1", "ada"), Caller("192.0.2.1"));
    }

    [Fact]
    public void However_many_addresses_there_are_they_take_a_bounded_number_of_places()
    {
        var places = Enumerable.Range(0, 1_000_000).Select(i => Caller(new IPAddress(i).ToString())).ToHashSet();

        Assert.InRange(places.Count, 60_000, 1 << 16);
    }

    private static RateLimits.Caller Caller(string address, string? name = null)
    {
        var context = new DefaultHttpContext();
        context.Connection.RemoteIpAddress = IPAddress.Parse(address);
        if (name is not null)
        {
            context.User = new ClaimsPrincipal(new ClaimsIdentity([new Claim(ClaimTypes.Name, name)], "test"));
        }

        return RateLimits.Caller.Of(context);
    }
}
