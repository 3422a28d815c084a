using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Storage;

namespace Sessions.Api.Http.Native;

/// <summary>Pages of sessions, of a user's or of all.</summary>
internal static class SessionPages
{
    /// <summary>Which page is wanted.</summary>
    public static SessionPageRequest Of(string? userId, Paging paging, LimitSettings limits) => new()
    {
        UserId = userId,
        Limit = paging.Limit,
        MaxBytes = limits.PageBytes,
        After = paging.After,
        Ascending = !paging.Descending,
    };

    /// <summary>A page as it is answered.</summary>
    public static JsonAnswer<SessionListResponse> Answer(string? userId, Page<Session> page) => new(
        new SessionListResponse(
            userId, [.. page.Items.Select(session => new SessionResponse(session))], page.Next is not null, Paging.Encode(page.Next)),
        page.Items.Sum(session => (long)session.Metadata.Length + (session.LastTurn?.Input.Length ?? 0)));
}
