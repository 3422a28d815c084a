using Sessions.Api.Domain;

namespace Sessions.Api.Http;

/// <summary>Ids of sessions that clients choose.</summary>
internal static class SessionIds
{
    /// <summary>Refuses what can't be one.</summary>
    /// <exception cref="DomainException">It can't.</exception>
    public static void Check(string field, string id)
    {
        if (!Identifiers.IsSessionId(id))
        {
            throw new DomainException(Error.InvalidField(field, Identifiers.SessionIdRule));
        }
    }
}

/// <summary>Ids of users.</summary>
internal static class UserIds
{
    /// <summary>Refuses what can't be one; none was given where it is <see langword="null"/>.</summary>
    /// <exception cref="DomainException">It can't.</exception>
    public static void Check(string field, string? id)
    {
        if (id is not null && !Identifiers.IsUserId(id))
        {
            throw new DomainException(Error.InvalidField(field, Identifiers.UserIdRule));
        }
    }
}
