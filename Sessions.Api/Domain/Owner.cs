namespace Sessions.Api.Domain;

/// <summary>
/// On whose behalf sessions are asked for. Every operation on a session carries it, down to the store. One that was not made by any of
/// the ways
/// below may have nothing.
/// </summary>
internal readonly record struct Owner
{
    private Owner(string? userId, bool mayClaim, bool isAnyone) => (UserId, MayClaim, IsAnyone) = (userId, mayClaim, isAnyone);

    /// <summary>Nobody in particular, where asking for a user would add no safety: the session's id is enough.</summary>
    public static Owner Anyone { get; } = new(null, mayClaim: true, isAnyone: true);

    /// <summary>Nobody: only sessions that are bound to nobody.</summary>
    public static Owner Nobody { get; } = new(null, mayClaim: true, isAnyone: false);

    /// <summary>The user; <see langword="null"/>: nobody, or everybody where <see cref="IsAnyone"/>.</summary>
    public string? UserId { get; }

    /// <summary>Whether sessions that are bound to nobody may be had as well; a turn of a user's binds one to the user.</summary>
    public bool MayClaim { get; }

    /// <summary>Whether every session may be had.</summary>
    public bool IsAnyone { get; }

    /// <summary>A user, and only the sessions that are bound to it.</summary>
    public static Owner Of(string userId) => new(userId, mayClaim: false, isAnyone: false);

    /// <summary>A user who also gets sessions that nobody has claimed; <see cref="Anyone"/> where none is named.</summary>
    public static Owner Claiming(string? userId) => userId is null ? Anyone : new(userId, mayClaim: true, isAnyone: false);

    /// <summary>Whether it is the same one, whatever of nobody's it may have besides.</summary>
    public bool IsSameAs(Owner other) => IsAnyone == other.IsAnyone && string.Equals(UserId, other.UserId, StringComparison.Ordinal);

    /// <summary>Whether a session bound to <paramref name="sessionUser"/> may be had.</summary>
    public bool MayHave(string? sessionUser) =>
        IsAnyone || (sessionUser is null ? MayClaim : string.Equals(UserId, sessionUser, StringComparison.Ordinal));
}
