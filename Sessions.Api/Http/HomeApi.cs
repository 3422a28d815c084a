using Microsoft.AspNetCore.Http.HttpResults;

namespace Sessions.Api.Http;

/// <summary><c>GET /</c>: what this is and where to go.</summary>
internal static class HomeApi
{
    /// <summary>The tag, in the OpenAPI document, of what tells about the server.</summary>
    public const string Tag = "About";

    /// <summary>The version of the product.</summary>
    public static string Version { get; } = typeof(HomeApi).Assembly.GetName().Version!.ToString(3);

    private static readonly ServiceDescription Description = new(
        "Sessions",
        Version,
        "The durable conversation layer for LLM agents: POST /query with a thread_id, and the agent answers knowing what was said before.",
        new Dictionary<string, string>
        {
            ["query"] = "POST /query",
            ["agents"] = "GET /agents",
            ["sessions"] = "POST /sessions",
            ["statistics"] = "GET /sessions/stats",
            ["reference"] = "GET /scalar",
            ["openapi"] = "GET /openapi/v1.json",
            ["health"] = "GET /health",
        });

    /// <summary>Maps the endpoint.</summary>
    public static WebApplication MapHome(this WebApplication app)
    {
        app.MapGet("/", Ok<ServiceDescription> () => TypedResults.Ok(Description))
            .AllowAnonymous()
            .WithTags(Tag)
            .WithName("getServiceInfo")
            .WithSummary("What this is and where to go")
            .WithDescription("Also lists where to find everything else.");
        return app;
    }
}

/// <summary>What this is and where to go.</summary>
internal sealed record ServiceDescription(string Name, string Version, string Description, Dictionary<string, string> Endpoints);
