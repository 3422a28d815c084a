using System.Globalization;
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
        users.MapGet("/usage", CountAsync)
            .WithName("getUserUsage")
            .WithSummary("Count a user's turns and tokens by agent and day")
            .WithDescription(
                "Of the turns that are kept, on all branches and of responses made under /v1 too, for the last days, in UTC. "
                + "If there is too much to count, is_complete is false, and the newest part is counted.");
        users.MapDelete("/sessions", EraseAsync)
            .WithName("eraseUser")
            .WithSummary("Remove everything of a user")
            .WithDescription("Answers with a receipt.");
        users.MapGet("/export", ExportAsync)
            .WithName("exportUser")
            .WithSummary("Export everything of a user")
            .WithDescription(
                "NDJSON: a line for each session ({\"session\": …}), followed by a line for each of its turns "
                + "({\"session_id\": …, \"turn\": …}), and one at the end. The command import reads it.")
            .Produces<string>(StatusCodes.Status200OK, "application/x-ndjson");
        return app;
    }

    private static async Task<JsonAnswer<SessionListResponse>> ListAsync(
        UserIdPath userId, HttpRequest request, SessionLog log, LimitSettings limits, CancellationToken cancellationToken)
    {
        var paging = Paging.OfSessions(request.Query, limits);
        var filter = SessionFilter.Read(request.QueryString);
        return SessionPages.Answer(
            userId.Value, await log.ListAsync(SessionPages.Of(userId.Value, paging, limits), filter, cancellationToken));
    }

    private static async Task<JsonAnswer<UsageAnswer>> CountAsync(
        UserIdPath userId, HttpRequest request, SessionLog log, TimeProvider time, CancellationToken cancellationToken)
    {
        var days = 30;
        if (request.Query.TryGetValue("days", out var text)
            && (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out days) || days is < 1 or > 366))
        {
            throw new DomainException(Error.InvalidField("days", "must be a whole number from 1 to 366"));
        }

        var today = DateOnly.FromDateTime(time.GetUtcNow().UtcDateTime);
        var usage = await new UserUsage(log).CountAsync(userId.Value, today.AddDays(1 - days), cancellationToken);
        return new(UsageAnswer.Of(userId.Value, today, usage));
    }

    private static async Task<JsonAnswer<ErasureResponse>> EraseAsync(
        UserIdPath userId, SessionLog log, SessionSettings options, TimeProvider time, CancellationToken cancellationToken)
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
