namespace Sessions.Tests.Api;

public sealed class DocumentationTests
{
    [Fact]
    public async Task There_is_a_page_to_try_it_out()
    {
        await using var server = SessionsServer.Start([]);

        var page = await server.GetAsync("/scalar");

        Assert.Equal(200, page.Status);
        Assert.Equal("text/html", page.ContentType);
    }

    [Fact]
    public async Task The_root_says_what_this_is_and_where_to_go()
    {
        await using var server = SessionsServer.Start([]);

        var home = (await server.GetAsync("/")).Json;

        Assert.Equal("Sessions", (string?)home["name"]);
        Assert.Equal("POST /query", (string?)home["endpoints"]!["query"]);
    }

    [Fact]
    public async Task Health_tells_ready_from_alive()
    {
        await using var server = SessionsServer.Start([]);

        var health = (await server.GetAsync("/health")).Json;
        var alive = (await server.GetAsync("/alive")).Json;

        Assert.Equal("Healthy", (string?)health["status"]);
        Assert.Equal("Healthy", (string?)health["checks"]!["store"]!["status"]);
        Assert.Equal(["self"], alive["checks"]!.AsObject().Select(check => check.Key));
    }

    [Theory]
    [InlineData("GET", "/nowhere", 404, "route_not_found")]
    [InlineData("PUT", "/query", 405, "method_not_allowed")]
    public async Task Where_there_is_nothing_the_answer_is_a_problem_too(string method, string path, int status, string code)
    {
        await using var server = SessionsServer.Start([]);

        (await server.SendAsync(new HttpMethod(method), path)).IsProblem(status, code);
    }
}
