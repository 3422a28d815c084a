using System.Text;
using System.Text.Json;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary><c>/users</c>: all sessions of one user.</summary>
internal static class UsersApi
{
    private const int ExportPage = 100;

    private static readonly byte[] NewLine = "\n"u8.ToArray();

    /// <summary>Maps the endpoints.</summary>
    public static WebApplication MapUsers(this WebApplication app)
    {
        var users = app.MapGroup("/users/{user_id}").WithTags("Users").ForConversations()
            .WithPathParameter(UserIdPath.Name, "1 to 256 printable characters, percent-encoded.")
            .Problems(StatusCodes.Status422UnprocessableEntity, StatusCodes.Status503ServiceUnavailable);
        users.MapGet("/sessions", ListAsync)
            .WithSummary("List a user's sessions, newest activity first")
            .WithDescription("Narrowed by created_from, created_before, active_after, active_before (times) and metadata.<key>=<value>. An unknown user has an empty list.")
            .WithPaging();
        users.MapDelete("/sessions", EraseAsync)
            .WithSummary("Remove everything of a user")
            .WithDescription("Answers with a receipt.");
        users.MapGet("/export", ExportAsync)
            .WithSummary("Export everything of a user")
            .WithDescription("NDJSON: a line for each session ({\"session\": …}), followed by a line for each of its turns ({\"session_id\": …, \"turn\": …}).")
            .Produces<string>(StatusCodes.Status200OK, "application/x-ndjson");
        return app;
    }

    private static async Task<JsonAnswer<SessionListResponse>> ListAsync(UserIdPath userId, HttpRequest request, ISessionStore store, LimitSettings limits, CancellationToken cancellationToken)
    {
        var paging = Paging.Read(request.Query, limits, descendingByDefault: true);
        var page = await store.ListAsync(userId.Value, new SessionPageRequest
        {
            Limit = paging.Limit,
            After = paging.After,
            Ascending = !paging.Descending,
            Filter = SessionFilter.Read(request.Query),
        }, cancellationToken);
        return new JsonAnswer<SessionListResponse>(new SessionListResponse(
            userId.Value, [.. page.Items.Select(SessionResponse.From)], page.Next is not null, Paging.Encode(page.Next)),
            page.Items.Sum(session => (long)session.Metadata.Length + (session.LastTurn?.Query.Length ?? 0)));
    }

    private static async Task<JsonAnswer<ErasureResponse>> EraseAsync(UserIdPath userId, ISessionStore store, SessionSettings options, TimeProvider time, CancellationToken cancellationToken)
    {
        var erasure = await store.EraseUserAsync(userId.Value, cancellationToken);
        return new JsonAnswer<ErasureResponse>(new ErasureResponse(
            userId.Value, Settings.NameOf(options.StorageType), erasure.Sessions, erasure.Turns, time.GetUtcNowMicroseconds().UtcDateTime));
    }

    // Written page by page as the client takes it: memory stays flat however much there is. Oldest first: a session that is
    // used meanwhile moves to the end and is met there, so that none is missed.
    private static async Task ExportAsync(UserIdPath userId, HttpResponse response, ISessionStore store, CancellationToken cancellationToken)
    {
        response.ContentType = "application/x-ndjson; charset=utf-8";
        var written = new HashSet<string>(StringComparer.Ordinal);
        PageCursor? after = null;
        do
        {
            var page = await store.ListAsync(userId.Value, new SessionPageRequest { Limit = ExportPage, After = after, Ascending = true }, cancellationToken);
            foreach (var session in page.Items.Where(session => written.Add(session.Id)))
            {
                await WriteAsync(response, "{\"session\":", JsonSerializer.SerializeToUtf8Bytes(SessionResponse.From(session), ApiJson.Wire.SessionResponse), cancellationToken);
                if (session.Summary is { } summary)
                {
                    await WriteAsync(response, $"{{\"session_id\":\"{session.Id}\",\"summary\":", JsonSerializer.SerializeToUtf8Bytes(new SummaryResponse(summary.Text, summary.CoversTurns), ApiJson.Wire.SummaryResponse), cancellationToken);
                }

                await WriteHistoryAsync(response, store, userId.Value, session.Id, cancellationToken);
            }

            after = page.Next;
        }
        while (after is not null);
    }

    private static async Task WriteHistoryAsync(HttpResponse response, ISessionStore store, string userId, string sessionId, CancellationToken cancellationToken)
    {
        PageCursor? after = null;
        do
        {
            // Gone meanwhile: then there is nothing more to tell.
            if (await store.ReadHistoryAsync(sessionId, Owner.Of(userId), new TurnPageRequest(ExportPage, after, Descending: false), cancellationToken) is not { } page)
            {
                return;
            }

            foreach (var turn in page.Items)
            {
                await WriteAsync(response, $"{{\"session_id\":\"{sessionId}\",\"turn\":", JsonSerializer.SerializeToUtf8Bytes(TurnResponse.From(turn), ApiJson.Wire.TurnResponse), cancellationToken);
            }

            after = page.Next;
        }
        while (after is not null);
    }

    private static async Task WriteAsync(HttpResponse response, string head, byte[] json, CancellationToken cancellationToken)
    {
        var writer = response.BodyWriter;
        Encoding.UTF8.GetBytes(head, writer);
        System.Buffers.BuffersExtensions.Write(writer, json);
        System.Buffers.BuffersExtensions.Write(writer, "}"u8);
        System.Buffers.BuffersExtensions.Write(writer, NewLine);
        await writer.FlushAsync(cancellationToken);
    }
}
