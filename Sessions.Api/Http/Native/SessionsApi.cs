using System.Globalization;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Net.Http.Headers;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.Auth;
using Sessions.Api.Storage;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Native;

/// <summary><c>/sessions</c>.</summary>
internal static class SessionsApi
{
    /// <summary>Maps the endpoints.</summary>
    public static WebApplication MapSessions(this WebApplication app)
    {
        // Opened now, so that a store that can't be had stops the start rather than the first request.
        app.Services.GetRequiredService<SessionLog>();
        app.Services.GetRequiredService<ActiveSessions>();

        var sessions = app.MapGroup("/sessions").WithTags("Sessions").ForConversations().Problems(StatusCodes.Status503ServiceUnavailable);
        sessions.MapPost("/", CreateAsync)
            .WithName("createSession")
            .WithSummary("Create a session")
            .WithDescription("An empty or absent body is fine. Send an Idempotency-Key header to make a retry safe.")
            .Problems(
                StatusCodes.Status400BadRequest, StatusCodes.Status413PayloadTooLarge, StatusCodes.Status415UnsupportedMediaType,
                StatusCodes.Status422UnprocessableEntity);
        sessions.MapGet("/", ListAsync)
            .WithName("listSessions")
            .WithSummary("List all sessions, newest activity first")
            .WithDescription(
                "Of all users, or of the one that user_id names, narrowed by the filters, all of which must hold. "
                + "Without authentication for callers on this machine alone.")
            .WithMetadata(new ScopesMetadata(Auth.Scope.ReadAll))
            .Problems(StatusCodes.Status403Forbidden, StatusCodes.Status422UnprocessableEntity);
        sessions.MapGet("/stats", GetStatisticsAsync)
            .WithName("getSessionStats")
            .WithSummary("Count the sessions there are")
            .WithDescription("What has expired is not counted.")
            .ForAdmins();
        sessions.MapPost("/cleanup", CleanUpAsync)
            .WithName("cleanUpSessions")
            .WithSummary("Remove what has expired, now")
            .WithDescription(
                "Open to all, unless the server was given a clean-up key: then the header "
                + $"{SessionSettings.CleanupKeyHeader} must carry it.")
            .ForAdmins(orCleanupKey: true)
            .Problems(StatusCodes.Status401Unauthorized);
        sessions.MapGet("/{session_id}", GetAsync)
            .WithName("getSession")
            .WithSummary("Get a session")
            .WithDescription("Sends an ETag, and honours If-None-Match.")
            .Produces(StatusCodes.Status304NotModified)
            .Problems(StatusCodes.Status404NotFound);
        sessions.MapPatch("/{session_id}", PatchAsync)
            .WithName("updateSession")
            .WithSummary("Change a session's metadata")
            .WithDescription("A JSON merge patch (RFC 7396): keys of metadata are set, null removes one. Honours If-Match.")
            .Problems(
                StatusCodes.Status400BadRequest, StatusCodes.Status404NotFound, StatusCodes.Status409Conflict,
                StatusCodes.Status412PreconditionFailed, StatusCodes.Status413PayloadTooLarge,
                StatusCodes.Status415UnsupportedMediaType, StatusCodes.Status422UnprocessableEntity);
        sessions.MapDelete("/{session_id}", DeleteAsync)
            .WithName("deleteSession")
            .WithSummary("Delete a session and its history")
            .WithDescription("A turn that is running on it is not kept.")
            .Problems(StatusCodes.Status404NotFound);
        sessions.MapGet("/{session_id}/history", ReadHistoryAsync)
            .WithName("getSessionHistory")
            .WithSummary("Read a session's turns, page by page")
            .WithDescription("The path to the newest turn, oldest first.")
            .Problems(StatusCodes.Status404NotFound, StatusCodes.Status422UnprocessableEntity);
        sessions.MapTurnContext();
        sessions.MapPost("/{session_id}/turns", AppendAsync)
            .WithName("appendTurn")
            .WithSummary("Append a turn that your own agent made")
            .WithDescription(
                "Serial with all others. A session that does not exist is created. With expected_turn it is refused where that is not the "
                + "next one. Send an Idempotency-Key header to make a retry safe.")
            .TakesContent()
            .Problems(
                StatusCodes.Status400BadRequest, StatusCodes.Status404NotFound, StatusCodes.Status409Conflict,
                StatusCodes.Status413PayloadTooLarge, StatusCodes.Status415UnsupportedMediaType,
                StatusCodes.Status422UnprocessableEntity);
        sessions.MapPost("/{session_id}/cancel", CancelAsync)
            .WithName("cancelTurn")
            .WithSummary("Stop the turn that runs")
            .WithDescription(
                "On whichever replica. What was answered so far is kept as an incomplete turn; if that is nothing, nothing is kept.")
            .Produces<CancelledResponse>(StatusCodes.Status202Accepted)
            .Problems(StatusCodes.Status404NotFound);
        sessions.MapPost("/{session_id}/fork", ForkAsync)
            .WithName("forkSession")
            .WithSummary("Copy a session up to one of its turns")
            .WithDescription("Nothing is run again. The copy belongs to the same user, whose limit applies.")
            .Problems(
                StatusCodes.Status400BadRequest, StatusCodes.Status404NotFound, StatusCodes.Status409Conflict,
                StatusCodes.Status413PayloadTooLarge, StatusCodes.Status415UnsupportedMediaType,
                StatusCodes.Status422UnprocessableEntity);
        return app;
    }

    private static async Task<CreatedAnswer<SessionResponse>> CreateAsync(
        Body<CreateSessionRequest> body, Caller caller, HttpContext http, SessionLog log, LimitSettings limits, TimeProvider time,
        CancellationToken cancellationToken)
    {
        var request = body.Value;
        UserIds.Check("user_id", request.UserId);
        if (request.SessionId is { } id)
        {
            await CheckFreeAsync(log, id, cancellationToken);
        }

        var metadata = OwnMetadata.Check(request.Metadata, limits);
        var owner = caller.ActingFor(request.UserId);
        var idempotency = request.SessionId is null
            ? RequestKeys.Read(http.Request.Headers, "sessions", caller.KeyScope(owner), request.Metadata)
            : RequestKeys.Read(http.Request.Headers, "sessions", caller.KeyScope(owner), request.Metadata, request.SessionId);
        var (newId, key) = SessionKey.NewWithId(time);
        var session = new NewSession(
            request.SessionId ?? newId, key, SessionKind.Session, owner.UserId, metadata, SessionOrigin.Api);
        var (created, replayed) = await log.CreateAsync(
            session, isOwnId: request.SessionId is not null, idempotency, owner, cancellationToken);
        RequestKeys.MarkReplayed(http, replayed);
        return Created(http, created);
    }

    private static async Task<Results<JsonAnswer<SessionListResponse>, Problem>> ListAsync(
        HttpRequest request, AuthSettings auth, SessionLog log, LimitSettings limits, CancellationToken cancellationToken)
    {
        if (auth.Mode == AuthMode.None && !LocalRequests.IsLocal(request))
        {
            return new Problem(StatusCodes.Status403Forbidden, "forbidden",
                "Without authentication all sessions are listed for callers on this machine alone: on a loopback address, by a loopback "
                + "name, and not through a proxy.");
        }

        var userId = Caller.NamedUser(request.Query);
        var paging = Paging.OfSessions(request.Query, limits);
        var filter = SessionFilter.Read(request.QueryString, ofAll: true);
        var page = await log.ListAsync(SessionPages.Of(userId, paging, limits), filter, cancellationToken);
        return SessionPages.Answer(userId, page);
    }

    private static async Task<Results<JsonAnswer<SessionResponse>, StatusCodeHttpResult, Problem>> GetAsync(
        [FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, HttpContext http, SessionLog log,
        CancellationToken cancellationToken)
    {
        if (await log.FindAsync(sessionId, owner.Value, cancellationToken) is not { } session)
        {
            return NotFound(sessionId);
        }

        var etag = Tag(http, session);
        return http.Request.Headers.IfNoneMatch.Count > 0
            && IsAnyOf(http.Request.GetTypedHeaders().IfNoneMatch, etag, useStrongComparison: false)
            ? TypedResults.StatusCode(StatusCodes.Status304NotModified)
            : new JsonAnswer<SessionResponse>(new SessionResponse(session));
    }

    private static async Task<Results<JsonAnswer<SessionResponse>, Problem>> PatchAsync(
        [FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, Body<PatchSessionRequest> body, HttpContext http,
        SessionLog log, LimitSettings limits, CancellationToken cancellationToken)
    {
        if (body.Value.Others is { Count: > 0 } others)
        {
            return Problem.From(Error.InvalidField(Error.Shorten(others.Keys.First()), "can't be changed; a patch may hold: metadata"));
        }

        if (body.Value.Metadata is not { } patch)
        {
            return Problem.From(Error.InvalidField("metadata", "is required: the keys to set, or null for those to remove"));
        }

        if (await log.FindAsync(sessionId, owner.Value, cancellationToken) is not { } found)
        {
            return NotFound(sessionId);
        }

        var conditions = http.Request.Headers.ContainsKey(HeaderNames.IfMatch) ? http.Request.GetTypedHeaders().IfMatch : null;
        var changed = await log.ChangeMetadataAsync(
            SessionRef.ByKey(found.Key),
            owner.Value,
            session => conditions is null || IsAnyOf(conditions, ETag(session), useStrongComparison: true)
                ? OwnMetadata.Merge(session, patch, limits)
                : throw new ProblemException(VersionMismatch(session)),
            cancellationToken);
        if (changed is null)
        {
            return NotFound(sessionId);
        }

        Tag(http, changed);
        return new JsonAnswer<SessionResponse>(new SessionResponse(changed));
    }

    private static async Task<Results<JsonAnswer<DeletedResponse>, Problem>> DeleteAsync(
        [FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, SessionLog log, CancellationToken cancellationToken)
    {
        if (!Identifiers.IsSessionId(sessionId))
        {
            return NotFound(sessionId);
        }

        var session = await log.RefOfAsync(sessionId, cancellationToken);
        return await log.DeleteAsync(session, owner.Value, cancellationToken)
            ? new JsonAnswer<DeletedResponse>(new DeletedResponse(session.Id ?? sessionId, Deleted: true))
            : NotFound(sessionId);
    }

    private static async Task<Results<JsonAnswer<HistoryResponse>, Problem>> ReadHistoryAsync(
        [FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, HttpRequest request, SessionLog log,
        LimitSettings limits, CancellationToken cancellationToken)
    {
        var paging = Paging.OfTurns(request.Query, limits);
        var withItems = ReadInclude(request.Query);
        var allBranches = ReadBranches(request.Query);
        int? tip = !request.Query.TryGetValue("tip", out var text) ? null
            : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number > 0 ? number
            : throw new DomainException(Error.InvalidField("tip", "must be the number of a turn"));
        var wanted = new TurnPageRequest
        {
            Limit = paging.Limit,
            MaxBytes = limits.PageBytes,
            After = paging.After is { } after ? (int)Math.Clamp(after.Position, 0, int.MaxValue) : null,
            Descending = paging.Descending,
            Tip = tip,
            AllBranches = allBranches,
        };
        if (!Identifiers.IsSessionId(sessionId)
            || await log.ReadTurnsAsync(await log.RefOfAsync(sessionId, cancellationToken), owner.Value, wanted, cancellationToken)
                is not { Session.Kind: not SessionKind.Chain } page)
        {
            return NotFound(sessionId);
        }

        if (page.IsTipMissing)
        {
            throw new DomainException(Error.NoSuchTurn("tip", page.Session.TurnCount));
        }

        return new JsonAnswer<HistoryResponse>(
            new HistoryResponse(
                page.Session.Id,
                TurnsOf(page, withItems),
                page.HasMore,
                page.Next is { } next ? Paging.Encode(new PageCursor(next, "")) : null),
            page.Turns.Sum(turn => turn.Bytes));
    }

    // Of the right size at once: they are structs.
    private static TurnResponse[] TurnsOf(TurnPage page, bool withItems)
    {
        var turns = new TurnResponse[page.Turns.Count];
        for (var i = 0; i < turns.Length; i++)
        {
            turns[i] = new(page.Turns[i], withItems ? page.Session.Key : null);
        }

        return turns;
    }

    private static bool ReadBranches(IQueryCollection query) => query.TryGetValue("branches", out var branches)
        && (branches is ["all"] && !query.ContainsKey("tip")
            ? true
            : throw new DomainException(Error.InvalidField("branches", "must be all, and not together with tip")));

    private static bool ReadInclude(IQueryCollection query) => query.TryGetValue("include", out var include)
        && (include is ["items"] ? true : throw new DomainException(Error.InvalidField("include", "must be items")));

    private static async Task<Results<CreatedAnswer<TurnResponse>, Problem>> AppendAsync(
        [FromRoute(Name = "session_id")] string sessionId, Caller caller, SessionOwner owner, Body<AppendTurnRequest> body,
        HttpContext http, TurnRunner turns, SessionLog log, LimitSettings limits, CancellationToken cancellationToken)
    {
        SessionIds.Check("session_id", sessionId);
        var request = body.Value;
        UserIds.Check("user_id", request.UserId);
        var actor = request.UserId is null ? owner.Value : caller.ActingFor(request.UserId);
        if (request.UserId is not null && Caller.NamedUser(http.Request.Query) is { } asking)
        {
            // Whose session it must be; the body can't say otherwise.
            actor = request.UserId == asking ? owner.Value : throw await OtherUserAsync(sessionId, owner.Value, log, cancellationToken);
        }

        if (request.AgentType is { Length: 0 or > 128 })
        {
            return Problem.From(Error.InvalidField("agent_type", "must have 1 to 128 characters"));
        }

        var input = AppendedItems.Read("query", request.Query, "input", request.Input, limits);
        var output = AppendedItems.Read("response", request.Response, "output", request.Output, limits);
        if (input.IsNone && output.IsNone)
        {
            return Problem.From(Error.InvalidField("query", "is required, or response, input or output"));
        }

        var result = await turns.AppendAsync(new AppendCommand
        {
            Session = await log.RefOfAsync(sessionId, cancellationToken),
            Owner = actor,
            Input = input,
            Output = output,
            AgentType = request.AgentType ?? "client",
            ExpectedTurn = request.ExpectedTurn,
            CalledFrom = http.Request.Headers[AgentHeaders.SessionId],
            Idempotency = RequestKeys.Read(
                http.Request.Headers, "turns", caller.KeyScope(actor), sessionId, request.Query?.ToString(),
                request.Response?.ToString(), request.Input, request.Output,
                request.AgentType, request.ExpectedTurn?.ToString(CultureInfo.InvariantCulture)),
        }, cancellationToken);
        RequestKeys.MarkReplayed(http, result.Replayed);
        return new CreatedAnswer<TurnResponse>($"/sessions/{result.SessionId}/history", new TurnResponse(result.Turn, result.SessionKey));
    }

    // What is another's is refused as it is without the body.
    private static async ValueTask<DomainException> OtherUserAsync(
        string sessionId, Owner owner, SessionLog log, CancellationToken cancellationToken)
    {
        var session = await log.RefOfAsync(sessionId, cancellationToken);
        var isForeign = await log.GetAsync(session, owner, cancellationToken) is null
            && await log.GetAsync(session, Owner.Anyone, cancellationToken) is not null;
        return new(isForeign ? Error.SessionNotFound(sessionId) : Error.InvalidField("user_id", "must be the user of the query string"));
    }

    private static async Task<IResult> CancelAsync(
        [FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, TurnRunner turns, SessionLog log,
        CancellationToken cancellationToken)
    {
        if (!Identifiers.IsSessionId(sessionId))
        {
            return NotFound(sessionId);
        }

        var session = await log.RefOfAsync(sessionId, cancellationToken);
        await turns.StopAsync(session, owner.Value, cancellationToken);
        return TypedResults.Json(
            new CancelledResponse(session.Id ?? sessionId, Cancelled: true),
            ApiJson.Wire.CancelledResponse,
            statusCode: StatusCodes.Status202Accepted);
    }

    private static async Task<Results<CreatedAnswer<SessionResponse>, Problem>> ForkAsync(
        [FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, Body<ForkRequest> body, HttpContext http,
        SessionLog log, LimitSettings limits, TimeProvider time, CancellationToken cancellationToken)
    {
        var request = body.Value;
        if (request.SessionId is { } id)
        {
            await CheckFreeAsync(log, id, cancellationToken);
        }

        if (await log.FindAsync(sessionId, owner.Value, cancellationToken) is not { } source)
        {
            return NotFound(sessionId);
        }

        var (newId, key) = SessionKey.NewWithId(time);
        var copy = new NewSession(
            request.SessionId ?? newId, key, SessionKind.Session, source.UserId,
            request.Metadata is null ? source.Metadata : OwnMetadata.Check(request.Metadata, limits), SessionOrigin.Fork);
        return Created(http, await log.ForkAsync(SessionRef.ByKey(source.Key), owner.Value, request.AfterTurn, copy, cancellationToken));
    }

    private static async Task<JsonAnswer<StatisticsResponse>> GetStatisticsAsync(
        SessionLog log, SessionSettings options, CleanupSchedule cleanup, CancellationToken cancellationToken)
    {
        var statistics = await log.CountAsync(cancellationToken);
        return new JsonAnswer<StatisticsResponse>(new StatisticsResponse
        {
            StorageType = Settings.NameOf(options.StorageType),
            ActiveSessions = statistics.ActiveSessions,
            ActiveSessionsMemory = statistics.ActiveSessionsInMemory,
            TimeoutHours = options.TimeoutHours,
            MaxSessionsPerUser = options.MaxSessionsPerUser,
            LastCleanupAt = cleanup.LastCleanupAt,
        });
    }

    private static async Task<Results<JsonAnswer<CleanupResponse>, Problem>> CleanUpAsync(
        HttpRequest request, SessionSettings options, AuthSettings auth, CleanupSchedule cleanup, CancellationToken cancellationToken)
    {
        if (auth.Mode == AuthMode.None && !CleanupKey.Allows(request, options))
        {
            return CleanupKey.Required;
        }

        var done = await cleanup.RunAsync(cancellationToken);
        return new JsonAnswer<CleanupResponse>(new CleanupResponse(done.Removed, done.Took));
    }

    // What is a conversation's id under /v1 names that conversation, and no other session.
    private static async ValueTask CheckFreeAsync(SessionLog log, string id, CancellationToken cancellationToken)
    {
        SessionIds.Check("session_id", id);
        if ((await log.RefOfAsync(id, cancellationToken)).Id != id)
        {
            throw new DomainException(Error.SessionExists(id));
        }
    }

    private static Problem VersionMismatch(Session session) => new(
        StatusCodes.Status412PreconditionFailed, "version_mismatch",
        $"The session has version {session.Revision.Version} by now, which If-Match does not name.")
    {
        ThreadId = session.Id,
    };

    private static Problem NotFound(string sessionId) => Problem.From(Error.SessionNotFound(sessionId));

    private static CreatedAnswer<SessionResponse> Created(HttpContext http, Session session)
    {
        Tag(http, session);
        return new CreatedAnswer<SessionResponse>($"/sessions/{session.Id}", new SessionResponse(session));
    }

    private static string Tag(HttpContext http, Session session)
    {
        var etag = ETag(session);
        http.Response.Headers.ETag = etag;
        http.Response.Headers.CacheControl = SecurityHeaders.Revalidated;
        return etag;
    }

    private static bool IsAnyOf(IList<EntityTagHeaderValue> tags, string etag, bool useStrongComparison)
    {
        var own = new EntityTagHeaderValue(etag);
        return tags.Any(tag => tag.Equals(EntityTagHeaderValue.Any) || tag.Compare(own, useStrongComparison));
    }

    // The creation time tells apart sessions that had the same id one after the other.
    private static string ETag(Session session) => string.Create(
        CultureInfo.InvariantCulture, $"\"{session.CreatedAt.ToMicroseconds():x}-{session.Revision.Version}\"");
}
