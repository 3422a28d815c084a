using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Http.Metadata;
using Sessions.Api.Http.WebConsole;

namespace Sessions.Api.Http;

/// <summary><c>GET /</c>: what this is and where to go. A browser is led to the console, where there is one.</summary>
internal static class HomeApi
{
    /// <summary>The tag, in the OpenAPI document, of what tells about the server.</summary>
    public const string Tag = "About";

    private static readonly Dictionary<string, string> Endpoints = new()
    {
        ["query"] = "POST /query",
        ["agents"] = "GET /agents",
        ["sessions"] = "POST /sessions",
        ["statistics"] = "GET /sessions/stats",
        ["reference"] = "GET /scalar",
        ["openapi"] = "GET /openapi/v1.json",
        ["health"] = "GET /health",
    };

    /// <summary>The version of the product.</summary>
    public static string Version { get; } = typeof(HomeApi).Assembly.GetName().Version!.ToString(3);

    /// <summary>Maps the endpoint.</summary>
    public static WebApplication MapHome(this WebApplication app)
    {
        var hasConsole = app.Services.GetRequiredService<ConsoleSettings>().IsOnIn(app.Environment);
        var endpoints = hasConsole ? new(Endpoints) { ["console"] = "GET /console" } : Endpoints;

        // Once everything is mapped, which is when the first one asks.
        var description = new Lazy<ServiceDescription>(() => new ServiceDescription(
            "Sessions",
            Version,
            "The durable conversation layer for LLM agents: POST /query with a thread_id, and the agent answers knowing what was said "
                + "before.",
            endpoints,
            [.. app.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>().SelectMany(Operations)
                .OrderBy(operation => operation.Path, StringComparer.Ordinal)]));
        app.MapGet("/", Results<JsonAnswer<ServiceDescription>, RedirectHttpResult> (HttpContext http) =>
            {
                http.Response.Headers.Vary = "Accept";
                return hasConsole && ConsoleApi.WantsPage(http.Request)
                    ? TypedResults.Redirect("console/")
                    : new JsonAnswer<ServiceDescription>(description.Value);
            })
            .AllowAnonymous()
            .WithTags(Tag)
            .WithName("getServiceInfo")
            .WithSummary("What this is and where to go")
            .WithDescription("Also lists all operations. A browser is led to the console, if that is on.");
        return app;
    }

    // Health checks name no method: they are asked with any.
    private static IEnumerable<OperationDescription> Operations(RouteEndpoint endpoint) =>
        endpoint.Metadata.GetMetadata<IEndpointSummaryMetadata>() is { Summary: var summary }
            ? (endpoint.Metadata.GetMetadata<HttpMethodMetadata>()?.HttpMethods ?? [HttpMethods.Get]).Select(method =>
                new OperationDescription(method, PathOf(endpoint), summary))
            : [];

    // As the documentation has it: without the mark of a parameter that takes the rest of the path.
    private static string PathOf(RouteEndpoint endpoint) =>
        $"/{endpoint.RoutePattern.RawText?.Trim('/').Replace("{**", "{", StringComparison.Ordinal)}";
}

/// <summary>What this is and where to go.</summary>
internal sealed record ServiceDescription(
    string Name, string Version, string Description, Dictionary<string, string> Endpoints, IReadOnlyList<OperationDescription> Operations);

/// <summary>Something that can be asked for.</summary>
internal sealed record OperationDescription(string Method, string Path, string Summary);
