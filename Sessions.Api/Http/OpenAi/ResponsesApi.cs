using System.Globalization;
using Microsoft.AspNetCore.Mvc;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Engine.Streams;
using Sessions.Api.Http.Auth;

namespace Sessions.Api.Http.OpenAi;

/// <summary><c>/v1/responses</c>.</summary>
internal static class ResponsesApi
{
    private const string Unresumable = "This stream can't be picked up any more; get the response without 'stream'.";

    /// <summary>Maps the endpoints.</summary>
    public static void MapResponses(this RouteGroupBuilder v1)
    {
        var responses = v1.MapGroup("/responses").WithTags("OpenAI: responses").Problems(StatusCodes.Status404NotFound);
        responses.MapPost("", CreateAsync)
            .WithName("createResponse")
            .WithSummary("Create a response")
            .WithDescription("In a conversation, behind an earlier response, or alone. With stream: true it comes as server-sent events.")
            .Problems(StatusCodes.Status502BadGateway, StatusCodes.Status504GatewayTimeout)
            .TakesContent();
        responses.MapGet("/{response_id}", GetAsync)
            .WithName("getResponse")
            .WithSummary("Get a response")
            .WithDescription("With stream=true its events, behind starting_after if that is given.");
        responses.MapDelete("/{response_id}", DeleteAsync)
            .WithName("deleteResponse")
            .WithSummary("Delete a response")
            .WithDescription("What came after it stays. One that is still being made is stopped.");
        responses.MapGet("/{response_id}/input_items", ListInputAsync)
            .WithName("listInputItems")
            .WithSummary("List what a response was made of")
            .WithDescription("Without what came before it.");

        // Addresses of OpenAI's that are not here; else they would look like the ids of responses.
        responses.MapPost("/input_tokens", OpenAiError () => OpenAiError.UnknownUrl).ExcludeFromDescription();
        responses.MapPost("/compact", OpenAiError () => OpenAiError.UnknownUrl).ExcludeFromDescription();
        responses.MapPost("/{response_id}/cancel", Cancel).ExcludeFromDescription();
    }

    private static async Task<IResult> CreateAsync(
        Body<JsonBody> body, Caller caller, SessionOwner owner, HttpContext http, AgentCatalog agents,
        ResponsePlan plan, StreamedTurns streams, RepeatedRequests repeated, CancellationToken cancellationToken)
    {
        var request = ResponseRequest.Read(body.Value.Value);
        var agent = agents.ForModel(request.Model);
        var actor = caller.ActingFor(owner);
        var (scope, sent) = (caller.KeyScope(actor), request.Body);
        try
        {
            var command = await plan.MakeAsync(
                request, agent, actor, RequestKeys.Read(http.Request.Headers, "responses", scope, sent), cancellationToken);
            if (command.Kind != SessionKind.Chain)
            {
                // The branches of a chain wait for nobody.
                command = command with { CalledFrom = http.Request.Headers[AgentHeaders.SessionId] };
            }

            if (request.Stream)
            {
                var stream = await repeated.StreamAsync(http, scope, sent, command, cancellationToken);
                return new TurnEventStream(stream, 0, new ResponseEvents(stream, startingAfter: -1), streams);
            }

            var result = await repeated.RunAsync(http, scope, sent, command, cancellationToken);
            RequestKeys.MarkReplayed(http, result.Replayed);
            return new JsonResult(ResponseObject.Compose(result.SessionKey, command.Kind != SessionKind.Chain,
                result.Turn.Response.IsEmpty
                    ? result.Turn with { Response = ((ResponseObject)command.Response!).Of(result.Turn) }
                    : result.Turn));
        }
        catch (DomainException e)
        {
            return request.ErrorOf(e.Error);
        }
    }

    private static async Task<IResult> GetAsync(
        [FromRoute(Name = "response_id")] string responseId, SessionOwner owner, HttpRequest request,
        SessionLog log, StreamedTurns streams, CancellationToken cancellationToken)
    {
        _ = ListPage.Read(new QueryCollection(request.Query.Where(pair => pair.Key is not ("limit" or "order" or "after")).ToDictionary()));
        var (wantsStream, startingAfter) = ReadStream(request.Query);
        if (!ResponseId.TryParse(responseId, out var id))
        {
            return OpenAiError.NotFound("Response", responseId);
        }

        var stream = await streams.FindAsync(id, owner.Value, cancellationToken);
        if (stream is not null && wantsStream)
        {
            // What has not been told yet can't have been seen.
            return startingAfter is { } seen && seen >= ResponseEvents.CountOf(stream)
                ? OpenAiError.Invalid("starting_after", "Invalid 'starting_after': no event of this stream has had that number yet.")
                : new TurnEventStream(stream, 0, new ResponseEvents(stream, startingAfter ?? -1), streams);
        }

        if (stream is { Ended: false })
        {
            return new JsonResult(ResponseObject.Compose(
                id,
                ((ResponseObject)stream.Command.Response!).InProgress(stream.Begun!.At),
                [],
                stream.Command.Kind == SessionKind.Chain ? null : id.Key));
        }

        if (await log.FindTurnAsync(id.Key, id.Nonce, owner.Value, cancellationToken) is not { Turn.Response.IsEmpty: false } found)
        {
            return OpenAiError.NotFound("Response", responseId);
        }

        if (!wantsStream)
        {
            return new JsonResult(ResponseObject.Compose(found.Session.Key, found.Session.Kind != SessionKind.Chain, found.Turn));
        }

        // What was told in pieces is told in one from then on: whoever has some of the pieces can't go on with it.
        return startingAfter is null
            ? new StoredResponseStream(found.Session, found.Turn)
            : OpenAiError.Invalid("starting_after", Unresumable);
    }

    private static async Task<IResult> DeleteAsync(
        [FromRoute(Name = "response_id")] string responseId, SessionOwner owner, SessionLog log, StreamedTurns streams,
        CancellationToken cancellationToken)
    {
        if (!ResponseId.TryParse(responseId, out var id))
        {
            return OpenAiError.NotFound("Response", responseId);
        }

        // One that is being made is stopped first: where it was committed all the same, it is stored by then.
        var stopped = await streams.StopAsync(id, owner.Value, cancellationToken);
        return await log.DeleteResponseAsync(id, owner.Value, cancellationToken) || stopped
            ? Conversations.Deleted(responseId, "response")
            : OpenAiError.NotFound("Response", responseId);
    }

    private static async Task<IResult> ListInputAsync(
        [FromRoute(Name = "response_id")] string responseId, SessionOwner owner, HttpRequest request,
        SessionLog log, StreamedTurns streams, LimitSettings limits, CancellationToken cancellationToken)
    {
        var page = ListPage.Read(request.Query);
        if (!ResponseId.TryParse(responseId, out var id)
            || await InputOfAsync(id, owner.Value, log, streams, cancellationToken) is not { } input)
        {
            return OpenAiError.NotFound("Response", responseId);
        }

        var (items, hasMore) = ConversationItems.OfInput(id, input, page, limits.PageBytes);
        return ConversationItems.List(items, hasMore);
    }

    private static async ValueTask<Items?> InputOfAsync(
        ResponseId id, Owner owner, SessionLog log, StreamedTurns streams, CancellationToken cancellationToken) =>
        await streams.FindAsync(id, owner, cancellationToken) is { Ended: false } running ? running.Command.Input
        : await log.FindTurnAsync(id.Key, id.Nonce, owner, cancellationToken) is { Turn.Response.IsEmpty: false } found ? found.Turn.Input
        : null;

    private static OpenAiError Cancel([FromRoute(Name = "response_id")] string responseId) =>
        OpenAiError.Invalid(
            "response_id",
            $"Cannot cancel response '{Error.Shorten(responseId)}': "
            + "only responses in the background can be cancelled, and this server makes none.",
            code: null);

    private static (bool WantsStream, int? StartingAfter) ReadStream(IQueryCollection query)
    {
        var wantsStream = query["stream"].ToString() switch
        {
            "" or "false" or "0" => false,
            "true" or "1" => true,
            _ => throw new OpenAiException("stream", "Invalid type for 'stream': expected true or false.", "invalid_type"),
        };
        if (query["starting_after"].ToString() is not { Length: > 0 } text)
        {
            return (wantsStream, null);
        }

        return !int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var start)
            ? throw new OpenAiException(
                "starting_after",
                "Invalid 'starting_after': must be the sequence_number of an event.", "invalid_type")
            : wantsStream ? (true, start)
            : throw new OpenAiException("starting_after", "Invalid 'starting_after': it is for a stream, which 'stream=true' asks for.");
    }
}

/// <summary>A stored response as a stream: all of it at once.</summary>
/// <param name="session">Its session.</param>
/// <param name="turn">Its turn.</param>
internal sealed class StoredResponseStream(Session session, Turn turn) : IResult
{
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        var response = httpContext.Response;
        response.ContentType = "text/event-stream";
        var begun = new TurnBegun(session.Id, session.Key, turn.Nonce, turn.Number, turn.StartedSession, turn.CreatedAt);
        var events = new ResponseEvents(
            session.Kind != SessionKind.Chain, _ => ResponseObject.Begun(turn.Response), request: null, startingAfter: -1);
        var result = new TurnResult(session.Id, session.Key, session.UserId, turn, Replayed: true);
        TurnEvent[] told = [begun, .. ReplayedItems.Of(turn.Output), new TurnCompleted(result)];
        for (var i = 0; i < told.Length; i++)
        {
            events.Write(response.BodyWriter, i, told[i]);
        }

        await response.BodyWriter.FlushAsync(httpContext.RequestAborted);
    }
}
