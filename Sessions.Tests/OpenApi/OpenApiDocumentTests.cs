using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Json.Schema;
using Microsoft.AspNetCore.Routing;

namespace Sessions.Tests.OpenApi;

/// <summary>What the document says is so: its addresses, and its examples, which are sent as a reader's first click would.</summary>
public sealed class OpenApiDocumentTests
{
    private static readonly string[] Methods = ["get", "post", "put", "patch", "delete"];

    // Ids that a server gives can't be known beforehand; and a turn that does not run can't be stopped.
    private static readonly Dictionary<string, int> Otherwise = new()
    {
        ["cancelTurn"] = 404,
        ["getConversationItem"] = 404,
        ["deleteConversationItem"] = 404,
        ["getResponse"] = 404,
        ["deleteResponse"] = 404,
        ["listInputItems"] = 404,
    };

    [Fact]
    public async Task Every_route_is_in_it_and_nothing_else()
    {
        await using var server = SessionsServer.Start([]);
        var document = await ReadAsync(server);
        var documented = Operations(document).Select(operation => $"{operation.Method.ToUpperInvariant()} {operation.Path}").ToList();

        var endpoints = server.Get<IEnumerable<EndpointDataSource>>().SelectMany(source => source.Endpoints)
            .OfType<RouteEndpoint>()
            .Where(endpoint => endpoint.Metadata.GetMetadata<IExcludeFromDescriptionMetadata>()?.ExcludeFromDescription is not true)
            .SelectMany(endpoint =>
                (endpoint.Metadata.GetMetadata<IHttpMethodMetadata>()?.HttpMethods ?? ["GET"])
                .Select(method => $"{method} /{endpoint.RoutePattern.RawText!.Trim('/').Replace("{**", "{", StringComparison.Ordinal)}"))
            .Distinct().ToList();
        Assert.Contains("POST /query", documented);
        Assert.Equal(endpoints.Order(StringComparer.Ordinal), documented.Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Every_operation_has_a_name_words_parameters_and_examples()
    {
        await using var server = SessionsServer.Start([]);
        var document = await ReadAsync(server);

        var operations = Operations(document).ToList();
        Assert.Equal(operations.Count, operations.Select(operation => operation.Id).Distinct().Count());
        foreach (var (id, _, path, operation) in operations)
        {
            Assert.True(operation["summary"] is not null && operation["description"] is not null, $"{id}: has no words.");
            Assert.Matches("^[a-z][A-Za-z]+$", id);
            var named = Parameters(document, operation).Where(parameter => (string?)parameter["in"] == "path")
                .Select(parameter => $"{{{parameter["name"]}}}");
            Assert.Equal(path.Split('/').Where(segment => segment.StartsWith('{')), named);
            Assert.All(Parameters(document, operation).Where(parameter => (bool?)parameter["required"] == true), parameter =>
                Assert.NotNull(parameter["example"]));
            Assert.All(operation["requestBody"]?["content"]?.AsObject() ?? [], content =>
                Assert.True(content.Value!["example"] is not null, id));
            var (status, answer) = operation["responses"]!.AsObject().First();
            Assert.True(status[0] == '2' && answer!["content"]!.AsObject().All(content => content.Value!["example"] is not null),
                $"{id}: has no example of an answer.");
            foreach (var (error, response) in operation["responses"]!.AsObject().Where(response => response.Key[0] is '4' or '5'))
            {
                Assert.True(Resolve(document, response!)["content"]!.AsObject().All(content => content.Value!["example"] is not null),
                    $"{id}: {error}");
            }

            if (id is not ("getServiceInfo" or "getHealth" or "getLiveness"))
            {
                Assert.All((string[])["401", "403", "429", "503"], error => Assert.NotNull(operation["responses"]![error]));
            }

            Assert.Equal(operation["requestBody"] is not null, operation["responses"]!["408"] is not null);
        }
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("sqlite")]
    public async Task Its_examples_are_answered_as_it_says(string storage)
    {
        using var folder = new TestFolder();
        await using var server = SessionsServer.Start([("sessions:storage_type", storage),
            ("sessions:db_path", Path.Combine(folder.Path, "sessions.db"))]);
        var document = await ReadAsync(server);

        // In the order of the page, but what deletes comes last. The first one creates the session that the others name.
        var operations = Operations(document).OrderBy(operation => operation.Method == "delete").ThenBy(operation =>
            operation.Id != "query").ToList();
        foreach (var (id, method, path, operation) in operations)
        {
            var address = path;
            List<string> query = [];
            foreach (var parameter in Parameters(document, operation).Where(parameter => (bool?)parameter["required"] == true))
            {
                var (name, value) = ((string)parameter["name"]!, Uri.EscapeDataString(parameter["example"]!.ToString()));
                address = address.Replace($"{{{name}}}", value, StringComparison.Ordinal);
                if ((string?)parameter["in"] == "query")
                {
                    query.Add($"{name}={value}");
                }
            }

            address += query.Count > 0 ? $"?{string.Join('&', query)}" : "";
            var answer = await server.SendAsync(new HttpMethod(method.ToUpperInvariant()), address,
                operation["requestBody"]?["content"]!["application/json"]!["example"]!.ToJsonString());

            var (status, response) = operation["responses"]!.AsObject().First();
            if (id == "deleteConversation" || id == "eraseUser" || id == "deleteSession")
            {
                // They name the same session, which only the first can delete; and an erasure of nothing is one too.
                Assert.True(answer.Status is 200 or 404, $"{id}: {answer.Text}");
            }
            else
            {
                Assert.True(answer.Status == Otherwise.GetValueOrDefault(id,
                    int.Parse(status, CultureInfo.InvariantCulture)), $"{id}: {answer.Status} {answer.Text}");
            }

            if (!operation["responses"]!.AsObject().TryGetPropertyValue($"{answer.Status}", out var told))
            {
                Assert.Fail($"{id}: {answer.Status} is not in the document.");
            }

            told = Resolve(document, told!);
            Assert.Contains(answer.ContentType, told["content"]!.AsObject().Select(content => content.Key));
            if (answer.ContentType is "application/json" or "application/problem+json")
            {
                Check(document, told["content"]![answer.ContentType]!["schema"]!, answer.Json, id);
            }

            foreach (var (name, _) in told["headers"]?.AsObject() ?? [])
            {
                Assert.True(answer.Headers.ContainsKey(name) || name is "Idempotency-Replayed" or "Retry-After" or "WWW-Authenticate",
                    $"{id}: no {name}");
            }
        }
    }

    [Fact]
    public async Task What_is_required_is_never_left_out_and_what_is_not_is_never_null()
    {
        await using var server = SessionsServer.Start([]);
        var schemas = (await ReadAsync(server))["components"]!["schemas"]!;

        Assert.Equal(
            ["context", "created_at", "expires_at", "last_activity_at", "metadata", "session_id", "user_id", "version"],
            schemas["SessionResponse"]!["required"]!.AsArray().Select(name => (string)name!).Order());
        Assert.Equal("date-time", (string?)schemas["SessionResponse"]!["properties"]!["created_at"]!["format"]);
        Assert.Equal("string", (string?)schemas["QueryResponseMetadata"]!["properties"]!["model"]!["type"]);
        Assert.Equal(["completed", "incomplete"], schemas["QueryResponseMetadata"]!["properties"]!["status"]!["enum"]!.AsArray()
            .Select(value => (string)value!));
        Assert.Contains("sqlite", schemas["StorageType"]!["enum"]!.AsArray().Select(value => (string)value!));
        Assert.All(schemas["SessionResponse"]!["properties"]!.AsObject(), property =>
            Assert.NotNull(property.Value!["description"] ?? property.Value["$ref"]));
    }

    [Fact]
    public async Task It_says_what_credentials_and_scopes_are_needed()
    {
        await using var server = SessionsServer.Start(
            [("auth:mode", "api_key"), ("auth:keys:ops:hash", new string('a', 64)), ("auth:keys:ops:scopes", "admin")]);
        var document = await ReadAsync(server);

        Assert.Equal("http", (string?)document["components"]!["securitySchemes"]!["bearer"]!["type"]);
        var operations = Operations(document).ToDictionary(operation => operation.Id, operation => operation.Operation);
        Assert.Contains("`admin`", (string?)operations["getSessionStats"]["description"], StringComparison.Ordinal);
        Assert.NotNull(operations["query"]["security"]);
        Assert.Null(operations["getServiceInfo"]["security"]);
    }

    private static async Task<JsonNode> ReadAsync(SessionsServer server)
    {
        var answer = await server.GetAsync("/openapi/v1.json");
        Assert.Equal(200, answer.Status);
        Assert.Equal("3.1", ((string)answer.Json["openapi"]!)[..3]);
        Assert.Equal((string?)(await server.GetAsync("/")).Json["version"], (string?)answer.Json["info"]!["version"]);
        return answer.Json;
    }

    private static IEnumerable<(string Id, string Method, string Path, JsonNode Operation)> Operations(JsonNode document) =>
        from path in document["paths"]!.AsObject()
        from operation in path.Value!.AsObject()
        where Methods.Contains(operation.Key)
        select ((string)operation.Value!["operationId"]!, operation.Key, path.Key, operation.Value);

    private static IEnumerable<JsonNode> Parameters(JsonNode document, JsonNode operation) =>
        operation["parameters"]?.AsArray().Select(parameter => Resolve(document, parameter!)) ?? [];

    private static JsonNode Resolve(JsonNode document, JsonNode node) => (string?)node["$ref"] is { } reference
        ? reference[2..].Split('/')
            .Aggregate(document, (at, name) => at[name] ?? throw new InvalidOperationException($"{reference} leads nowhere."))
        : node;

    private static void Check(JsonNode document, JsonNode schema, JsonNode answer, string id)
    {
        var whole = new JsonObject
        {
            ["allOf"] = new JsonArray(schema.DeepClone()),
            ["$defs"] = document["components"]!["schemas"]!.DeepClone(),
        };
        var text = whole.ToJsonString().Replace("#/components/schemas/", "#/$defs/", StringComparison.Ordinal);
        var result = JsonSchema.FromText(text).Evaluate(JsonSerializer.SerializeToElement(answer),
            new EvaluationOptions { OutputFormat = OutputFormat.List });
        var faults = (result.Details ?? [])
            .SelectMany(detail => (detail.Errors ?? new Dictionary<string, string>())
            .Select(error => $"{detail.InstanceLocation}: {error.Value}"));
        Assert.True(result.IsValid, $"{id}: {string.Join("; ", faults)}\n{answer.ToJsonString()}");
    }
}
