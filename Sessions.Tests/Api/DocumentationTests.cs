namespace Sessions.Tests.Api;

public sealed class DocumentationTests
{
    [Fact]
    public async Task OpenAPI_describes_every_endpoint_with_its_answers()
    {
        await using var server = SessionsServer.Start([]);

        var document = (await server.GetAsync("/openapi/v1.json")).Json;

        var operations = document["paths"]!.AsObject().SelectMany(path => path.Value!.AsObject().Select(operation => (Name: $"{operation.Key.ToUpperInvariant()} {path.Key}", Operation: operation.Value!))).ToList();
        Assert.Equal(
            [
                "DELETE /sessions/{session_id}", "DELETE /users/{user_id}/sessions",
                "DELETE /v1/conversations/{conversation_id}", "DELETE /v1/conversations/{conversation_id}/items/{item_id}",
                "DELETE /v1/responses/{response_id}", "GET /", "GET /activity", "GET /agents", "GET /caller", "GET /sessions", "GET /sessions/stats",
                "GET /sessions/{session_id}", "GET /sessions/{session_id}/history", "GET /sessions/{session_id}/turns/{turn}/context", "GET /users/{user_id}/export",
                "GET /users/{user_id}/sessions", "GET /users/{user_id}/usage", "GET /v1/conversations", "GET /v1/conversations/{conversation_id}",
                "GET /v1/conversations/{conversation_id}/items", "GET /v1/conversations/{conversation_id}/items/{item_id}",
                "GET /v1/models", "GET /v1/models/{model}", "GET /v1/responses/{response_id}",
                "GET /v1/responses/{response_id}/input_items", "PATCH /sessions/{session_id}", "POST /query",
                "POST /sessions", "POST /sessions/cleanup", "POST /sessions/{session_id}/cancel",
                "POST /sessions/{session_id}/fork", "POST /sessions/{session_id}/turns", "POST /v1/chat/completions",
                "POST /v1/conversations", "POST /v1/conversations/{conversation_id}",
                "POST /v1/conversations/{conversation_id}/items", "POST /v1/responses",
                "POST /v1/responses/{response_id}/cancel",
            ],
            operations.Select(operation => operation.Name).Order(StringComparer.Ordinal));
        Assert.All(operations, operation => Assert.NotNull(operation.Operation["summary"]));
        Assert.All(operations.Where(operation => operation.Name.Contains('{', StringComparison.Ordinal)), operation =>
            Assert.Contains(operation.Operation["parameters"]!.AsArray(), parameter => (string?)parameter!["in"] == "path"));
        Assert.All(operations, operation => Assert.Equal(
            operation.Name.Contains("/sessions/{", StringComparison.Ordinal),
            operation.Operation["parameters"]?.AsArray().Any(parameter => (string?)parameter!["name"] == "user_id" && (string?)parameter["in"] == "query") ?? false));
        Assert.Equal("date-time", (string?)document["components"]!["schemas"]!["SessionResponse"]!["properties"]!["created_at"]!["format"]);
        var session = document["components"]!["schemas"]!["SessionResponse"]!["properties"]!.AsObject().Select(property => property.Key);
        Assert.Equal(["context", "created_at", "expires_at", "last_activity_at", "metadata", "session_id", "user_id", "version"], session.Order());
        var query = document["paths"]!["/query"]!["post"]!;
        Assert.NotNull(query["requestBody"]!["content"]!["application/json"]);
        var schemas = document["components"]!["schemas"]!;
        Assert.All((string[])["query", "input", "thread_id", "user_id"], name => Assert.NotNull(schemas["QueryRequest"]!["properties"]![name]));
        Assert.Equal("integer", (string?)schemas["SessionResponse"]!["properties"]!["version"]!["type"]);
        Assert.All(schemas["SessionResponse"]!["properties"]!.AsObject(), property => Assert.NotNull(property.Value!["description"] ?? property.Value["$ref"]));
        Assert.Contains("502", query["responses"]!.AsObject().Select(response => response.Key));
    }

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
