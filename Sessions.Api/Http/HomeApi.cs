using Microsoft.AspNetCore.Http.HttpResults;

namespace Sessions.Api.Http;

/// <summary><c>GET /</c>: what this is and where to go.</summary>
internal static class HomeApi
{
    private static readonly ServiceDescription Description = new(
        "Sessions",
        typeof(HomeApi).Assembly.GetName().Version!.ToString(3),
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
        app.MapGet("/", Ok<ServiceDescription> () => TypedResults.Ok(Description)).AllowAnonymous().WithTags("About").WithSummary("What this is and where to go");
        return app;
    }
}

/// <summary>What this is and where to go.</summary>
internal sealed record ServiceDescription(string Name, string Version, string Description, Dictionary<string, string> Endpoints);
