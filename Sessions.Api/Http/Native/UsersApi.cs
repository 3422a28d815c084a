using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Http.Auth;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Native;

/// <summary><c>/users</c>: all sessions of one user.</summary>
internal static class UsersApi
{
    /// <summary>Maps the endpoints.</summary>
    public static WebApplication MapUsers(this WebApplication app)
    {
        var users = app.MapGroup("/users/{user_id}").WithTags("Users").ForConversations()
            .Problems(StatusCodes.Status422UnprocessableEntity, StatusCodes.Status503ServiceUnavailable);
        users.MapGet("/sessions", ListAsync)
            .WithSummary("List a user's sessions, newest activity first")
            .WithDescription(
                "Narrowed by the filters, all of which must hold, and by metadata.<key>=<value>. An unknown user has an empty list.")
            .WithName("listUserSessions");
        users.MapDelete("/sessions", EraseAsync)
            .WithName("eraseUser")
            .WithSummary("Remove everything of a user")
            .WithDescription("Answers with a receipt.");
        users.MapGet("/export", ExportAsync)
            .WithName("exportUser")
            .WithSummary("Export everything of a user")
            .WithDescription("NDJSON: a line for each session ({\"session\": …}), followed by a line for each of its turns ({\"session_id\": …, \"turn\": …}), and one at the end. The command import reads it.")
            .Produces<string>(StatusCodes.Status200OK, "application/x-ndjson");
        return app;
    }

    private static async Task<JsonAnswer<SessionListResponse>> ListAsync(UserIdPath userId, HttpRequest request, SessionLog log, LimitSettings limits, CancellationToken cancellationToken)
    {
        var paging = Paging.Read(request.Query, limits, descendingByDefault: true);
        return SessionPages.Answer(userId.Value, await log.ListAsync(SessionPages.Of(userId.Value, paging, limits), SessionFilter.Read(request.QueryString), cancellationToken));
    }

    private static async Task<JsonAnswer<ErasureResponse>> EraseAsync(UserIdPath userId, SessionLog log, SessionSettings options, TimeProvider time, CancellationToken cancellationToken)
    {
        var erasure = await log.EraseAsync(userId.Value, cancellationToken);
        return new JsonAnswer<ErasureResponse>(new ErasureResponse(
            userId.Value, Settings.NameOf(options.StorageType), erasure.Sessions, erasure.Turns, time.GetUtcNowMicroseconds()));
    }

    private static async Task ExportAsync(UserIdPath userId, HttpResponse response, SessionLog log, CancellationToken cancellationToken)
    {
        response.ContentType = "application/x-ndjson; charset=utf-8";
        await Archive.ExportAsync(log, userId.Value, response.BodyWriter, cancellationToken);
    }
}
