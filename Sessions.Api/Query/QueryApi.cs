using System.Text;
using Microsoft.AspNetCore.Http.HttpResults;

namespace Sessions.Api;

/// <summary><c>POST /query</c>.</summary>
internal static class QueryApi
{
    /// <summary>Registers what queries need.</summary>
    public static WebApplicationBuilder AddQueries(this WebApplicationBuilder builder)
    {
        builder.Services.AddSingleton<AgentCatalog>();
        builder.Services.AddSingleton<TurnGate>();
        builder.Services.AddSingleton<TurnRunner>();
        builder.Services.AddSingleton<QueryMetrics>();
        return builder;
    }

    /// <summary>Maps the endpoint.</summary>
    public static WebApplication MapQueries(this WebApplication app)
    {
        // Made now, so that an agent that can't be set up stops the start rather than the first query.
        app.Services.GetRequiredService<AgentCatalog>();

        app.MapPost("/query", QueryAsync)
            .WithTags("Query")
            .WithSummary("Ask an agent, in a session")
            .WithDescription("Runs the agent with the session's earlier turns as context, and adds the turn to the session. Without a thread_id, or with one that does not exist, a new session is created. Send an Idempotency-Key header to make a retry safe.")
            .Problems(StatusCodes.Status400BadRequest, StatusCodes.Status404NotFound, StatusCodes.Status409Conflict, StatusCodes.Status413PayloadTooLarge,
                StatusCodes.Status415UnsupportedMediaType, StatusCodes.Status422UnprocessableEntity, StatusCodes.Status502BadGateway, StatusCodes.Status503ServiceUnavailable, StatusCodes.Status504GatewayTimeout);
        return app;
    }

    private static async Task<Ok<QueryResponse>> QueryAsync(
        Body<QueryRequest> body, HttpContext http, AgentCatalog agents, LimitSettings limits, TurnRunner turns, CancellationToken cancellationToken)
    {
        var result = await turns.RunAsync(Read(body.Value, http.Request.Headers, agents, limits), cancellationToken);
        if (result.Replayed)
        {
            http.Response.Headers[IdempotencyKeys.ReplayedHeader] = "true";
        }

        return TypedResults.Ok(Answer(result));
    }

    private static TurnCommand Read(QueryRequest request, IHeaderDictionary headers, AgentCatalog agents, LimitSettings limits)
    {
        if (string.IsNullOrWhiteSpace(request.Query))
        {
            throw new ProblemException(Problem.InvalidField("query", "is required, and must not be blank"));
        }

        if (Encoding.UTF8.GetByteCount(request.Query) > limits.QueryBytes)
        {
            throw new ProblemException(Problem.LimitExceeded("query", $"must be at most {limits.QueryBytes} bytes of UTF-8", "limits.query_bytes"));
        }

        if (request.ThreadId is not null)
        {
            Identifiers.CheckSessionId("thread_id", request.ThreadId);
        }

        if (request.UserId is not null)
        {
            Identifiers.CheckUserId("user_id", request.UserId);
        }

        OnBusy? onBusy = request.OnBusy switch
        {
            null => null,
            "enqueue" => OnBusy.Enqueue,
            "reject" => OnBusy.Reject,
            _ => throw new ProblemException(Problem.InvalidField("on_busy", "must be enqueue or reject")),
        };
        var parameters = GenerationParameters.Read(request.Parameters);
        var agent = agents.Get(request.AgentType);
        var idempotency = IdempotencyKeys.Read(
            headers, "query", request.UserId, request.ThreadId, request.UserId, agent.Type, request.Query, request.Parameters?.GetRawText());
        return new(request.ThreadId, request.UserId, request.Query, agent, parameters, idempotency, onBusy);
    }

    private static QueryResponse Answer(TurnResult result) => new(result.Turn.Response, result.Turn.AgentType, new QueryResponseMetadata
    {
        ThreadId = result.SessionId,
        UserId = result.UserId,
        SessionCreated = result.Turn.StartedSession,
        Turn = result.Turn.Number,
        AgentUsed = result.Turn.AgentUsed,
        ExecutionTime = result.Turn.ExecutionTime.TotalSeconds,
        CreatedAt = result.Turn.CreatedAt.UtcDateTime,
        Usage = UsageResponse.From(result.Turn),
    });
}
