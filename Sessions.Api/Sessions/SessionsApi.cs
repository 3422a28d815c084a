using System.Globalization;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Net.Http.Headers;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary><c>/sessions</c>.</summary>
internal static class SessionsApi
{
    // How often a patch is tried again because a turn was committed in between.
    private const int PatchAttempts = 16;

    /// <summary>Maps the endpoints.</summary>
    public static WebApplication MapSessions(this WebApplication app)
    {
        // Opened now, so that a store that can't be had stops the start rather than the first request.
        app.Services.GetRequiredService<ISessionStore>();
        app.Services.GetRequiredService<ActiveSessions>();

        var sessions = app.MapGroup("/sessions").WithTags("Sessions").ForConversations().Problems(StatusCodes.Status503ServiceUnavailable);
        sessions.MapPost("/", CreateAsync)
            .WithSummary("Create a session")
            .WithDescription("An empty or absent body is fine. Send an Idempotency-Key header to make a retry safe.")
            .Problems(StatusCodes.Status400BadRequest, StatusCodes.Status413PayloadTooLarge, StatusCodes.Status415UnsupportedMediaType, StatusCodes.Status422UnprocessableEntity);
        sessions.MapGet("/stats", GetStatisticsAsync)
            .WithSummary("Count the sessions there are")
            .ForAdmins();
        sessions.MapPost("/cleanup", CleanUpAsync)
            .WithSummary("Remove what has expired, now")
            .WithDescription($"Open to all, unless the server was given a clean-up key: then the header {SessionSettings.CleanupKeyHeader} must carry it.")
            .ForAdmins(orCleanupKey: true)
            .Problems(StatusCodes.Status401Unauthorized);
        sessions.MapGet("/{session_id}", GetAsync)
            .WithSummary("Get a session")
            .WithDescription("Sends an ETag, and honours If-None-Match.")
            .Produces(StatusCodes.Status304NotModified)
            .Problems(StatusCodes.Status404NotFound);
        sessions.MapPatch("/{session_id}", PatchAsync)
            .WithSummary("Change a session's metadata")
            .WithDescription("A JSON merge patch (RFC 7396): keys of metadata are set, null removes one. Honours If-Match.")
            .Problems(StatusCodes.Status400BadRequest, StatusCodes.Status404NotFound, StatusCodes.Status409Conflict, StatusCodes.Status412PreconditionFailed, StatusCodes.Status413PayloadTooLarge, StatusCodes.Status415UnsupportedMediaType, StatusCodes.Status422UnprocessableEntity);
        sessions.MapDelete("/{session_id}", DeleteAsync)
            .WithSummary("Delete a session and its history")
            .Problems(StatusCodes.Status404NotFound);
        sessions.MapGet("/{session_id}/history", ReadHistoryAsync)
            .WithSummary("Read a session's turns, page by page")
            .WithPaging()
            .Problems(StatusCodes.Status404NotFound, StatusCodes.Status422UnprocessableEntity);
        sessions.MapPost("/{session_id}/fork", ForkAsync)
            .WithSummary("Copy a session up to one of its turns")
            .WithDescription("Nothing is run again. The copy belongs to the same user, whose limit applies.")
            .Problems(StatusCodes.Status400BadRequest, StatusCodes.Status404NotFound, StatusCodes.Status409Conflict, StatusCodes.Status413PayloadTooLarge, StatusCodes.Status415UnsupportedMediaType, StatusCodes.Status422UnprocessableEntity);
        return app;
    }

    private static async Task<CreatedAnswer<SessionResponse>> CreateAsync(
        Body<CreateSessionRequest> body, Caller caller, HttpContext http, ISessionStore store, LimitSettings limits, TimeProvider time, SessionSettings options, CancellationToken cancellationToken)
    {
        var request = body.Value;
        if (request.UserId is not null)
        {
            Identifiers.CheckUserId("user_id", request.UserId);
        }

        var metadata = OwnMetadata.Check(request.Metadata, limits);
        var owner = caller.ActingFor(request.UserId);
        var session = new NewSession(Identifiers.NewSessionId(time), owner.UserId, metadata, SessionOrigin.Api);
        Session created;
        if (IdempotencyKeys.Read(http.Request.Headers, "sessions", caller.KeyScope(owner), request.Metadata?.GetRawText()) is { } idempotency)
        {
            var reservation = await store.ReserveSessionIdAsync(idempotency, owner, session.Id, cancellationToken);
            session = reservation.SameBody
                ? session with { Id = reservation.SessionId, IdempotencyKey = idempotency.Key }
                : throw new ProblemException(IdempotencyKeys.Reused);
            if (await store.CreateAsync(session, cancellationToken) is { } first)
            {
                created = first;
            }
            else if (await store.GetAsync(session.Id, owner, cancellationToken) is { } replayed)
            {
                // The original answer: the session as it was created, whatever has become of it since.
                http.Response.Headers[IdempotencyKeys.ReplayedHeader] = "true";
                created = new Session
                {
                    Id = replayed.Id,
                    UserId = owner.UserId,
                    CreatedAt = replayed.CreatedAt,
                    LastActivityAt = replayed.CreatedAt,
                    ExpiresAt = replayed.CreatedAt + options.Timeout,
                    Version = 1,
                    CreatedFrom = replayed.CreatedFrom,
                    Metadata = metadata,
                    TurnCount = 0,
                };
            }
            else
            {
                throw new ProblemException(Problem.SessionNotFound(session.Id));
            }
        }
        else
        {
            created = await store.CreateAsync(session, cancellationToken) ?? throw new InvalidOperationException("A new UUIDv7 was taken.");
        }

        return Created(http, created);
    }

    private static async Task<Results<JsonAnswer<SessionResponse>, StatusCodeHttpResult, Problem>> GetAsync(
        [Microsoft.AspNetCore.Mvc.FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, HttpContext http, ISessionStore store, CancellationToken cancellationToken)
    {
        if (!Identifiers.IsSessionId(sessionId) || await store.GetAsync(sessionId, owner.Value, cancellationToken) is not { } session)
        {
            return Problem.SessionNotFound(sessionId);
        }

        var etag = Tag(http, session);
        return http.Request.Headers.IfNoneMatch.Count > 0 && IsAnyOf(http.Request.GetTypedHeaders().IfNoneMatch, etag, useStrongComparison: false)
            ? TypedResults.StatusCode(StatusCodes.Status304NotModified)
            : new JsonAnswer<SessionResponse>(SessionResponse.From(session));
    }

    private static async Task<Results<JsonAnswer<SessionResponse>, Problem>> PatchAsync(
        [Microsoft.AspNetCore.Mvc.FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, Body<PatchSessionRequest> body, HttpContext http, ISessionStore store, LimitSettings limits, CancellationToken cancellationToken)
    {
        if (body.Value.Others is { Count: > 0 } others)
        {
            return Problem.InvalidField(Problem.Shorten(others.Keys.First()), "can't be changed; a patch may hold: metadata");
        }

        if (body.Value.Metadata is not { } patch)
        {
            return Problem.InvalidField("metadata", "is required: the keys to set, or null for those to remove");
        }

        if (!Identifiers.IsSessionId(sessionId))
        {
            return Problem.SessionNotFound(sessionId);
        }

        var conditions = http.Request.GetTypedHeaders().IfMatch;
        for (var attempt = 0; attempt < PatchAttempts; attempt++)
        {
            if (await store.GetAsync(sessionId, owner.Value, cancellationToken) is not { } session)
            {
                return Problem.SessionNotFound(sessionId);
            }

            if (http.Request.Headers.ContainsKey(HeaderNames.IfMatch)
                && !IsAnyOf(conditions, ETag(session), useStrongComparison: true))
            {
                return new Problem(StatusCodes.Status412PreconditionFailed, "version_mismatch", $"The session has version {session.Version} by now, which If-Match does not name.") { ThreadId = sessionId };
            }

            var merged = OwnMetadata.Merge(session.Metadata, patch, limits);
            var (result, replaced) = await store.ReplaceMetadataAsync(sessionId, owner.Value, session.Version, merged, cancellationToken);
            if (replaced)
            {
                Tag(http, result!);
                return new JsonAnswer<SessionResponse>(SessionResponse.From(result!));
            }
        }

        throw TurnGate.Busy(sessionId);
    }

    private static async Task<Results<JsonAnswer<DeletedResponse>, Problem>> DeleteAsync(
        [Microsoft.AspNetCore.Mvc.FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, ISessionStore store, CancellationToken cancellationToken) =>
        Identifiers.IsSessionId(sessionId) && await store.DeleteAsync(sessionId, owner.Value, cancellationToken)
            ? new JsonAnswer<DeletedResponse>(new DeletedResponse(sessionId, Deleted: true))
            : Problem.SessionNotFound(sessionId);

    private static async Task<Results<JsonAnswer<HistoryResponse>, Problem>> ReadHistoryAsync(
        [Microsoft.AspNetCore.Mvc.FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, HttpRequest request, ISessionStore store, LimitSettings limits, CancellationToken cancellationToken)
    {
        var paging = Paging.Read(request.Query, limits, descendingByDefault: false);
        return Identifiers.IsSessionId(sessionId)
            && await store.ReadHistoryAsync(sessionId, owner.Value, new TurnPageRequest(paging.Limit, paging.After, paging.Descending), cancellationToken) is { } page
            ? new JsonAnswer<HistoryResponse>(new HistoryResponse(sessionId, [.. page.Items.Select(TurnResponse.From)], page.Next is not null, Paging.Encode(page.Next)),
                page.Items.Sum(turn => (long)turn.Query.Length + turn.Response.Length))
            : Problem.SessionNotFound(sessionId);
    }

    private static async Task<Results<CreatedAnswer<SessionResponse>, Problem>> ForkAsync(
        [Microsoft.AspNetCore.Mvc.FromRoute(Name = "session_id")] string sessionId, SessionOwner owner, Body<ForkRequest> body, HttpContext http, ISessionStore store, LimitSettings limits, TimeProvider time, CancellationToken cancellationToken)
    {
        var request = body.Value;
        if (request.SessionId is not null)
        {
            Identifiers.CheckSessionId("session_id", request.SessionId);
        }

        if (!Identifiers.IsSessionId(sessionId) || await store.GetAsync(sessionId, owner.Value, cancellationToken) is not { } source)
        {
            return Problem.SessionNotFound(sessionId);
        }

        var copy = new NewSession(
            request.SessionId ?? Identifiers.NewSessionId(time), source.UserId,
            request.Metadata is null ? source.Metadata : OwnMetadata.Check(request.Metadata, limits), SessionOrigin.Fork);
        var fork = await store.ForkAsync(sessionId, owner.Value, request.AfterTurn, copy, cancellationToken);
        return fork.Status switch
        {
            ForkStatus.Created => Created(http, fork.Session!),
            ForkStatus.NoSuchTurn => Problem.InvalidField("after_turn", $"must be a turn of the session: 0 to {source.TurnCount}"),
            ForkStatus.IdTaken => new Problem(StatusCodes.Status409Conflict, "session_exists", $"There is a session '{copy.Id}' already.") { ThreadId = copy.Id },
            _ => Problem.SessionNotFound(sessionId),
        };
    }

    private static async Task<JsonAnswer<StatisticsResponse>> GetStatisticsAsync(ISessionStore store, SessionSettings options, CleanupSchedule cleanup, CancellationToken cancellationToken)
    {
        var statistics = await store.GetStatisticsAsync(cancellationToken);
        return new JsonAnswer<StatisticsResponse>(new StatisticsResponse
        {
            StorageType = Settings.NameOf(options.StorageType),
            ActiveSessions = statistics.ActiveSessions,
            ActiveSessionsMemory = statistics.ActiveSessionsInMemory,
            TimeoutHours = options.TimeoutHours,
            MaxSessionsPerUser = options.MaxSessionsPerUser,
            LastCleanupAt = cleanup.LastCleanupAt?.UtcDateTime,
        });
    }

    private static async Task<Results<JsonAnswer<CleanupResponse>, Problem>> CleanUpAsync(
        HttpRequest request, SessionSettings options, AuthSettings auth, CleanupSchedule cleanup, CancellationToken cancellationToken) =>
        auth.Mode != AuthMode.None || CleanupKey.Allows(request, options) ? new JsonAnswer<CleanupResponse>(await cleanup.RunAsync(cancellationToken)) : CleanupKey.Required;

    private static CreatedAnswer<SessionResponse> Created(HttpContext http, Session session)
    {
        Tag(http, session);
        return new CreatedAnswer<SessionResponse>($"/sessions/{session.Id}", SessionResponse.From(session));
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
    private static string ETag(Session session) => string.Create(CultureInfo.InvariantCulture, $"\"{session.CreatedAt.ToMicroseconds():x}-{session.Version}\"");
}
