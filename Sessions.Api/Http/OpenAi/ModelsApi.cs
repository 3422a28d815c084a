using System.Text.Json;
using Microsoft.AspNetCore.Mvc;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents;

namespace Sessions.Api.Http.OpenAi;

/// <summary><c>/v1/models</c>: the agents.</summary>
internal static class ModelsApi
{
    /// <summary>Maps the endpoints.</summary>
    public static void MapModels(this RouteGroupBuilder v1)
    {
        var models = v1.MapGroup("/models").WithTags("OpenAI: models");
        models.MapGet("", List)
            .WithName("listModels")
            .WithSummary("List the agents as models")
            .WithDescription("By their names, without aliases.");

        // Names of other services have slashes, which some clients encode and others do not.
        models.MapGet("/{**model}", Get)
            .WithName("getModel")
            .WithSummary("Get an agent as a model")
            .WithDescription("By its name or an alias.")
            .Problems(StatusCodes.Status404NotFound);
    }

    private static JsonResult List(AgentCatalog agents) => new(Json.Write(agents, static (json, agents) =>
    {
        json.WriteStartObject();
        json.WriteString("object"u8, "list"u8);
        json.WriteStartArray("data"u8);
        foreach (var agent in agents.All)
        {
            Write(json, agent.Type, agents.StartedAt);
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }));

    private static IResult Get([FromRoute(Name = "model")] string routed, HttpContext http, AgentCatalog agents)
    {
        var model = RequestTarget.Segment(http, 2, routed);
        return agents.Find(model) is not null
            ? new JsonResult(Json.Write((model, agents.StartedAt), static (json, x) => Write(json, x.model, x.StartedAt)))
            : new OpenAiError(
                StatusCodes.Status404NotFound,
                OpenAiError.InvalidRequest,
                $"The model '{Error.Shorten(model)}' does not exist.",
                "model",
                "model_not_found");
    }

    private static void Write(Utf8JsonWriter json, string id, DateTimeOffset created)
    {
        json.WriteStartObject();
        json.WriteString("id"u8, id);
        json.WriteString("object"u8, "model"u8);
        json.WriteNumber("created"u8, created.ToUnixTimeSeconds());
        json.WriteString("owned_by"u8, "sessions"u8);
        json.WriteEndObject();
    }
}
