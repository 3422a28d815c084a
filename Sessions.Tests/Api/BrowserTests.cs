using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Api;

/// <summary>What browsers, and caches on the way, are told.</summary>
public sealed partial class BrowserTests
{
    private const string DataPolicy = "default-src 'none'; frame-ancestors 'none'";

    [Fact]
    public async Task Every_answer_is_data_to_be_kept_by_nobody_and_says_not_what_answered()
    {
        await using var server = SessionsServer.Start([]);
        var session = (await server.PostAsync("/sessions", new { user_id = "ada" })).Headers["Location"];
        Answer[] answers =
        [
            await server.TryQueryAsync("hello"), await server.GetAsync(session + "/history"), await server.GetAsync("/users/ada/sessions"),
            await server.GetAsync("/users/ada/export"),
            await server.GetAsync("/nowhere"), await server.SendAsync(HttpMethod.Put, "/query"), await server.TryQueryAsync(""),
            await server.PostAsync("/query", "{"), await server.GetAsync("/health"),
            await server.PostAsync("/query", """{"query":"hello","stream":true}"""),
        ];

        Assert.All(answers, answer =>
        {
            Assert.Equal("nosniff", answer.Headers["X-Content-Type-Options"]);
            Assert.Equal(DataPolicy, answer.Headers["Content-Security-Policy"]);
            Assert.Equal("no-referrer", answer.Headers["Referrer-Policy"]);
            Assert.Contains("no-store", answer.Headers["Cache-Control"], StringComparison.Ordinal);
            Assert.DoesNotContain("Server", answer.Headers.Keys);
            Assert.DoesNotContain("X-Powered-By", answer.Headers.Keys);
        });
    }

    [Fact]
    public async Task A_session_may_be_kept_by_who_asked_and_is_asked_for_again()
    {
        await using var server = SessionsServer.Start([]);
        var session = (await server.PostAsync("/sessions")).Headers["Location"];

        var first = await server.GetAsync(session);
        var again = await server.GetAsync(session, ("If-None-Match", first.Headers["ETag"]));

        Assert.Equal(304, again.Status);
        Assert.All((Answer[])[first, again],
            answer => Assert.Equal(["no-cache", "private"], answer.Headers["Cache-Control"].Split(", ").Order()));
        Assert.Equal(first.Headers["ETag"], again.Headers["ETag"]);
    }

    [Fact]
    public async Task A_list_of_origins_without_any_is_none()
    {
        await using var server = SessionsServer.Start([("cors:origins", " , ")]);

        Assert.Equal(200, (await server.GetAsync("/health")).Status);
    }

    [Fact]
    public async Task The_page_to_try_it_out_may_run_its_own_scripts_and_nothing_else()
    {
        await using var server = SessionsServer.Start([]);

        var page = await server.GetAsync("/scalar");
        var other = await server.GetAsync("/scalar");

        var policy = page.Headers["Content-Security-Policy"];
        var nonce = Nonce.Match(policy).Groups[1].Value;
        var scripts = Script.Matches(page.Text).Select(script => script.Value).ToList();
        Assert.InRange(scripts.Count, 2, 10);
        Assert.All(scripts, script => Assert.Contains($"nonce=\"{nonce}\"", script, StringComparison.Ordinal));
        Assert.NotEqual(policy, other.Headers["Content-Security-Policy"]);
        Assert.Contains("connect-src 'self'", policy, StringComparison.Ordinal);
        Assert.DoesNotContain("script-src 'self' 'unsafe", policy, StringComparison.Ordinal);
        Assert.DoesNotContain("https:", policy, StringComparison.Ordinal);
        Assert.Equal(200, (await server.GetAsync("/scalar/scalar.js")).Status);
    }

    [Fact]
    public async Task No_other_page_may_call_it_unless_its_origin_is_configured()
    {
        await using var closed = SessionsServer.Start([]);
        await using var open = SessionsServer.Start(
            [("cors:origins", "https://app.example.com, http://localhost:3000"), ("limits:query_bytes", "100")]);
        (string, string)[] preflight = [("Origin", "https://app.example.com"), ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type,idempotency-key")];

        Assert.DoesNotContain("Access-Control-Allow-Origin", (await closed.GetAsync("/", preflight[0])).Headers.Keys);
        Assert.DoesNotContain("Access-Control-Allow-Origin",
            (await closed.SendAsync(HttpMethod.Options, "/query", null, preflight)).Headers.Keys);

        var asked = await open.SendAsync(HttpMethod.Options, "/query", null, preflight);
        Assert.Equal(204, asked.Status);
        Assert.Equal("https://app.example.com", asked.Headers["Access-Control-Allow-Origin"]);
        Assert.Contains("idempotency-key", asked.Headers["Access-Control-Allow-Headers"], StringComparison.Ordinal);
        Assert.DoesNotContain("Access-Control-Allow-Credentials", asked.Headers.Keys);
        var answer = await open.PostAsync("/sessions", null, preflight[0]);
        Assert.Equal("https://app.example.com", answer.Headers["Access-Control-Allow-Origin"]);
        Assert.Contains("ETag", answer.Headers["Access-Control-Expose-Headers"], StringComparison.Ordinal);

        // What went wrong is to be read as well.
        var refused = await open.PostAsync("/query", new { query = new string('x', 101) }, ("Origin", "http://localhost:3000"));
        refused.IsProblem(422, "limit_exceeded");
        Assert.Equal("http://localhost:3000", refused.Headers["Access-Control-Allow-Origin"]);
        Assert.DoesNotContain("Access-Control-Allow-Origin", (await open.GetAsync("/", ("Origin", "https://evil.example"))).Headers.Keys);
    }

    [Theory]
    [InlineData("*")]
    [InlineData("app.example.com")]
    [InlineData("https://app.example.com/")]
    [InlineData("https://app.example.com/page")]
    [InlineData("ftp://app.example.com")]
    public void What_is_no_origin_is_refused_at_the_start(string origin)
    {
        var builder = WebApplication.CreateEmptyBuilder(new());
        builder.Configuration["cors:origins"] = origin;

        var error = Assert.Throws<SettingsException>(builder.AddCorsFor);

        Assert.Contains($"cors.origins: '{origin}' is not allowed", error.Message, StringComparison.Ordinal);
    }

    [GeneratedRegex("'nonce-([^']+)'")]
    private static partial Regex Nonce { get; }

    [GeneratedRegex("<script[^>]*>")]
    private static partial Regex Script { get; }
}
