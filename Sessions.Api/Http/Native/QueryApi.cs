using System.Globalization;
using Microsoft.AspNetCore.Http.HttpResults;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Engine.Streams;
using Sessions.Api.Http.Auth;
using Sessions.Api.Http.OpenAi;

namespace Sessions.Api.Http.Native;

/// <summary><c>POST /query</c>, answered whole or as a stream.</summary>
internal static class QueryApi
{
    private const string ContentField = "input[0].content[";

    /// <summary>Maps the endpoint.</summary>
    public static WebApplication MapQueries(this WebApplication app)
    {
        // Made now, so that an agent that can't be set up stops the start rather than the first query.
        app.Services.GetRequiredService<AgentCatalog>();

        app.MapPost("/query", QueryAsync)
            .ForConversations()
            .TakesContent()
            .WithTags("Query")
            .WithName("query")
            .WithSummary("Ask an agent, in a session")
            .WithDescription(
                "Runs the agent with the session's earlier turns as context, and adds the turn to the session. Without a thread_id, or "
                + "with one that does not exist, a new session is created. "
                + "Send an Idempotency-Key header to make a retry safe. With stream: true, or Accept: text/event-stream, the answer "
                + "comes as server-sent events: session, delta, done, error.")
            .Produces<QueryResponse>(StatusCodes.Status200OK, "application/json", "text/event-stream")
            .Problems(
                StatusCodes.Status400BadRequest, StatusCodes.Status404NotFound, StatusCodes.Status409Conflict,
                StatusCodes.Status413PayloadTooLarge, StatusCodes.Status415UnsupportedMediaType,
                StatusCodes.Status422UnprocessableEntity, StatusCodes.Status502BadGateway,
                StatusCodes.Status503ServiceUnavailable, StatusCodes.Status504GatewayTimeout);
        return app;
    }

    private static async Task<Results<JsonAnswer<QueryResponse>, TurnEventStream, Problem>> QueryAsync(
        Body<QueryRequest> body, Caller caller, HttpContext http, AgentCatalog agents, LimitSettings limits, TurnRunner turns,
        StreamedTurns streams, SessionLog log, CancellationToken cancellationToken)
    {
        var command = await ReadAsync(body, caller, http.Request, agents, limits, log, cancellationToken);
        if (NativeEvents.AreWanted(body.Value, http.Request))
        {
            return await StreamAsync(command, http, streams, cancellationToken);
        }

        var result = await turns.RunAsync(command, observer: null, cancellationToken);
        RequestKeys.MarkReplayed(http, result.Replayed);
        return new JsonAnswer<QueryResponse>(QueryResponse.From(result));
    }

    private static async ValueTask<Results<JsonAnswer<QueryResponse>, TurnEventStream, Problem>> StreamAsync(
        TurnCommand command, HttpContext http, StreamedTurns streams, CancellationToken cancellationToken)
    {
        if (NativeEvents.Seen(http.Request.Headers) is { } seen)
        {
            if (await streams.FindAsync(seen.Stream, command.Owner, cancellationToken) is { } known)
            {
                // What has not been told yet can't have been seen.
                return known.Read(seen.Event, out _) is not null
                    ? new TurnEventStream(known, seen.Event + 1, new NativeEvents(known), streams)
                    : throw new DomainException(NativeEvents.UnknownEvent);
            }

            // With a key the answer can be found all the same; without one a new turn would be a second one.
            if (command.Idempotency is null)
            {
                return new Problem(StatusCodes.Status404NotFound, "stream_not_found",
                    "This stream can't be picked up any more. If its turn was finished, it is in the session's history.");
            }
        }

        var stream = await streams.StartAsync(command, cancellationToken);
        return new TurnEventStream(stream, 0, new NativeEvents(stream), streams);
    }

    private static async ValueTask<TurnCommand> ReadAsync(
        Body<QueryRequest> body, Caller caller, HttpRequest http, AgentCatalog agents, LimitSettings limits, SessionLog log,
        CancellationToken cancellationToken)
    {
        var request = body.Value;
        CheckQuery(request, body.Length, limits);
        var sessionId = request.ThreadId ?? request.SessionId;
        if (sessionId is not null)
        {
            SessionIds.Check(request.ThreadId is null ? "session_id" : "thread_id", sessionId);
        }

        if (request.SessionId is not null && request.SessionId != sessionId)
        {
            throw new DomainException(
                Error.InvalidField("session_id", "is another name of thread_id, and must be the same if both are given"));
        }

        UserIds.Check("user_id", request.UserId);
        if (request.AfterTurn < 0)
        {
            throw new DomainException(
                Error.NoSuchTurn("after_turn", 0) with { Message = "after_turn: must be a turn of the session, or 0." });
        }

        if (request.AfterTurn > 0 && sessionId is null)
        {
            // A new session has none; and no id is tied to the request's key for that.
            throw new DomainException(Error.NoSuchTurn("after_turn", 0));
        }

        var owner = caller.ActingFor(request.UserId);
        OnBusy? onBusy = request.OnBusy switch
        {
            null => null,
            "enqueue" => OnBusy.Enqueue,
            "reject" => OnBusy.Reject,
            _ => throw new DomainException(Error.InvalidField("on_busy", "must be enqueue or reject")),
        };
        var options = GenerationParameters.Read(request.Parameters);
        var agent = agents.Get(request.AgentType);
        var input = request.Input is { } parts
            ? Items.OfJson(InputItems.OfParts(request.Query, parts))
            : Items.OfText(request.Query!.Value);
        Check(agent, input, options, request);
        var idempotency = http.Headers.ContainsKey(RequestKeys.Header)
            ? ReadKey(request, http.Headers, caller.KeyScope(owner), sessionId, owner.UserId, agent.Type)
            : null;
        return new TurnCommand
        {
            Session = sessionId is null ? null : await log.RefOfAsync(sessionId, cancellationToken),
            Owner = owner,
            Input = input,
            Agent = agent,
            Options = options,
            AfterTurn = request.AfterTurn,
            Idempotency = idempotency,
            OnBusy = onBusy,
            CalledFrom = http.Headers[AgentHeaders.SessionId],
        };
    }

    private static void Check(Agent agent, Items input, AnswerOptions options, QueryRequest request)
    {
        try
        {
            agent.Check(input, options);
        }
        catch (DomainException e) when (e.Error.Field is { } field && field.StartsWith(ContentField, StringComparison.Ordinal))
        {
            // The parts became one message, behind the text of the query: the client has sent neither.
            var end = field.IndexOf(']', ContentField.Length);
            var place = int.Parse(field.AsSpan(ContentField.Length, end - ContentField.Length), CultureInfo.InvariantCulture);
            var name = $"input[{(request.Query is null ? place : place - 1)}]{field[(end + 1)..]}";
            throw new DomainException(
                e.Error with { Field = name, Message = e.Error.Message.Replace(field, name, StringComparison.Ordinal) });
        }
    }

    private static void CheckQuery(QueryRequest request, long bodyLength, LimitSettings limits)
    {
        if (request.Input is null)
        {
            if (request.Query is not { IsBlank: false })
            {
                throw new DomainException(Error.InvalidField("query", "is required, and must not be blank"));
            }

            // The route takes content; what sends none is bounded as everywhere else.
            if (bodyLength > limits.RequestBodyBytes)
            {
                throw new ProblemException(Problem.TooLarge(limits.RequestBodyBytes, "limits.request_body_bytes"));
            }
        }

        if (request.Query?.Length > limits.QueryBytes)
        {
            throw new DomainException(
                Error.LimitExceeded("query", $"must be at most {limits.QueryBytes} bytes of UTF-8", "limits.query_bytes"));
        }
    }

    // What came before there were parts and branches keeps the key it had; what has one of them is made of more parts.
    private static Idempotency? ReadKey(
        QueryRequest request, IHeaderDictionary headers, string? scope, string? sessionId, string? userId, string agent) =>
        request.Input is null && request.AfterTurn is null
            ? RequestKeys.Read(headers, "query", scope, sessionId, userId, agent, request.Query!.Value.ToString(), request.Parameters)
            : RequestKeys.Read(
                headers, "query", scope, sessionId, userId, agent, request.Query?.ToString(), request.Parameters,
                request.AfterTurn?.ToString(CultureInfo.InvariantCulture), request.Input);
}
