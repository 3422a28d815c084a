using Microsoft.AspNetCore.Http.HttpResults;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary><c>POST /query</c>, answered whole or as a stream.</summary>
internal static class QueryApi
{
    /// <summary>Registers what queries need.</summary>
    public static WebApplicationBuilder AddQueries(this WebApplicationBuilder builder)
    {
        builder.Services.AddSingleton<AgentCatalog>();
        builder.Services.AddSingleton<TurnGate>();
        builder.Services.AddSingleton<TurnRunner>();
        builder.Services.AddSingleton<QueryMetrics>();
        builder.AddSettings<StreamingSettings>(StreamingSettings.Section);
        builder.Services.AddSingleton<StreamedTurns>();
        builder.Services.AddHostedService(services => services.GetRequiredService<StreamedTurns>());
        return builder;
    }

    /// <summary>Maps the endpoint.</summary>
    public static WebApplication MapQueries(this WebApplication app)
    {
        // Made now, so that an agent that can't be set up stops the start rather than the first query.
        app.Services.GetRequiredService<AgentCatalog>();

        app.MapPost("/query", QueryAsync)
            .ForConversations()
            .WithTags("Query")
            .WithSummary("Ask an agent, in a session")
            .WithDescription("Runs the agent with the session's earlier turns as context, and adds the turn to the session. Without a thread_id, or with one that does not exist, a new session is created. Send an Idempotency-Key header to make a retry safe. With stream: true, or Accept: text/event-stream, the answer comes as server-sent events: session, delta, done, error.")
            .Produces<QueryResponse>(StatusCodes.Status200OK, "application/json", "text/event-stream")
            .Problems(StatusCodes.Status400BadRequest, StatusCodes.Status404NotFound, StatusCodes.Status409Conflict, StatusCodes.Status413PayloadTooLarge,
                StatusCodes.Status415UnsupportedMediaType, StatusCodes.Status422UnprocessableEntity, StatusCodes.Status502BadGateway, StatusCodes.Status503ServiceUnavailable, StatusCodes.Status504GatewayTimeout);
        return app;
    }

    private static async Task<Results<JsonAnswer<QueryResponse>, EventStream, Problem>> QueryAsync(
        Body<QueryRequest> body, Caller caller, HttpContext http, AgentCatalog agents, LimitSettings limits, TurnRunner turns, StreamedTurns streams, CancellationToken cancellationToken)
    {
        var command = Read(body.Value, caller, http.Request.Headers, agents, limits);
        if (EventStream.IsWanted(body.Value, http.Request))
        {
            return Stream(command, http, streams);
        }

        var result = await turns.RunAsync(command, cancellationToken);
        if (result.Replayed)
        {
            http.Response.Headers[IdempotencyKeys.ReplayedHeader] = "true";
        }

        return new JsonAnswer<QueryResponse>(QueryResponse.From(result));
    }

    private static Results<JsonAnswer<QueryResponse>, EventStream, Problem> Stream(TurnCommand command, HttpContext http, StreamedTurns streams)
    {
        if (EventStream.Seen(http.Request.Headers) is { } seen)
        {
            if (streams.Find(seen.Stream, command.Owner) is { } known)
            {
                return new EventStream(known, seen.Event + 1, streams);
            }

            // With a key the answer can be found all the same; without one a new turn would be a second one.
            if (command.Idempotency is null)
            {
                return new Problem(StatusCodes.Status404NotFound, "stream_not_found",
                    "This stream can't be picked up any more. If its turn was finished, it is in the session's history.");
            }
        }

        return new EventStream(streams.Start(command), 0, streams);
    }

    private static TurnCommand Read(QueryRequest request, Caller caller, IHeaderDictionary headers, AgentCatalog agents, LimitSettings limits)
    {
        if (request.Query is not { IsBlank: false } query)
        {
            throw new ProblemException(Problem.InvalidField("query", "is required, and must not be blank"));
        }

        if (query.Length > limits.QueryBytes)
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

        var owner = caller.ActingFor(request.UserId);
        OnBusy? onBusy = request.OnBusy switch
        {
            null => null,
            "enqueue" => OnBusy.Enqueue,
            "reject" => OnBusy.Reject,
            _ => throw new ProblemException(Problem.InvalidField("on_busy", "must be enqueue or reject")),
        };
        var parameters = GenerationParameters.Read(request.Parameters);
        var agent = agents.Get(request.AgentType);
        var idempotency = headers.ContainsKey(IdempotencyKeys.Header)
            ? IdempotencyKeys.Read(headers, "query", caller.KeyScope(owner), request.ThreadId, owner.UserId, agent.Type, query.ToString(), request.Parameters?.GetRawText())
            : null;
        return new(request.ThreadId, owner, query, agent, parameters, idempotency, onBusy);
    }
}
