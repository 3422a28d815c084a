using System.Reflection;
using System.Security.Claims;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.Auth;

/// <summary>Who sends a request, and for whom it may act.</summary>
internal sealed class Caller : IBindableFromHttpContext<Caller>
{
    /// <summary>Whoever it is: without authentication a user id is only a claim.</summary>
    private static readonly Caller Unknown = new("");

    private Caller(string name) => Name = name;

    /// <summary>Tells callers apart: for limits and for idempotency keys, not for people.</summary>
    public string Name { get; }

    /// <summary>The user it is; <see langword="null"/> for one that is none.</summary>
    public string? UserId { get; private init; }

    /// <summary>Whether it acts for whatever user it names.</summary>
    public bool IsService { get; private init; }

    /// <summary>Whether it may count and clean up.</summary>
    public bool IsAdmin { get; private init; }

    /// <summary>Whether it may list the sessions of all users.</summary>
    public bool ReadsAll { get; private init; }

    /// <summary>A user.</summary>
    public static Caller User(string userId, bool isAdmin, bool readsAll) =>
        new($"user:{userId}") { UserId = userId, IsAdmin = isAdmin, ReadsAll = readsAll };

    /// <summary>A service.</summary>
    /// <param name="name">Its name, as whoever gave it its credentials has it.</param>
    /// <param name="isAdmin">Whether it may count and clean up as well.</param>
    /// <param name="readsAll">Whether it may list the sessions of all users.</param>
    public static Caller Service(string name, bool isAdmin, bool readsAll) =>
        new($"service:{name}") { IsService = true, IsAdmin = isAdmin, ReadsAll = readsAll };

    /// <summary>One that has no sessions: it may count and clean up, or list what all users have.</summary>
    public static Caller Operator(string name, bool isAdmin, bool readsAll) =>
        new($"operator:{name}") { IsAdmin = isAdmin, ReadsAll = readsAll };

    /// <summary>Whose request this is.</summary>
    /// <exception cref="InvalidOperationException">The route was not protected.</exception>
    public static Caller Of(HttpContext context) =>
        context.RequestServices.GetRequiredService<AuthSettings>().Mode == AuthMode.None ? Unknown
        : Authenticated(context.User) ?? throw new InvalidOperationException("A request came in that nobody has authenticated.");

    /// <summary>The caller that was authenticated, if one was.</summary>
    public static Caller? Authenticated(ClaimsPrincipal principal) => (principal.Identity as CallerIdentity)?.Caller;

    public static ValueTask<Caller?> BindAsync(HttpContext context, ParameterInfo parameter) => new(Of(context));

    public bool Has(Scope scope) => scope switch
    {
        Scope.User => UserId is not null,
        Scope.Service => IsService,
        Scope.ReadAll => ReadsAll,
        _ => IsAdmin,
    };

    /// <summary>On whose behalf a request is that names a user, or none.</summary>
    /// <exception cref="ProblemException">This caller may not act for that user.</exception>
    public Owner ActingFor(string? userId)
    {
        if (this == Unknown)
        {
            return Owner.Claiming(userId);
        }

        if (IsService)
        {
            return userId is null ? Owner.Nobody : Owner.Of(userId);
        }

        // A user never gets what is nobody's: whoever left it there may not have meant it for this one.
        return UserId is { } own && (userId is null || userId == own)
            ? Owner.Of(own)
            : throw new ProblemException(new Problem(StatusCodes.Status403Forbidden, "user_mismatch",
                "user_id: is not the user that you are authenticated as; leave it out, or act as a service."));
    }

    /// <summary>On whose behalf a turn is made by a request that names its user in the query: as a query, it binds a session that is
    /// nobody's.</summary>
    public Owner ActingFor(SessionOwner owner) => ActingFor(owner.Value.UserId);

    /// <summary>Within what an idempotency key of this caller is one key: those of others, and for other users, don't meet it.</summary>
    public string? KeyScope(Owner owner) => this == Unknown ? owner.UserId : $"{Name}\n{owner.UserId}";

    /// <summary>Refuses the address of another user, in the same words whether or not there is one.</summary>
    /// <exception cref="ProblemException">It is another.</exception>
    public void CheckAddress(string userId)
    {
        if (this != Unknown && !IsService && userId != UserId)
        {
            throw NoSuchUser(userId);
        }
    }

    /// <summary>On whose behalf a request for a session is, whose user it names in the query (<see cref="SessionOwner.Parameter"/>) if at
    /// all.</summary>
    /// <exception cref="ProblemException">The name is not allowed, or this caller may not act for that user.</exception>
    public Owner ActingFor(HttpRequest request)
    {
        var userId = request.QueryString.HasValue ? NamedUser(request.Query) : null;

        if (this == Unknown)
        {
            // A claim, and no more; but whoever names a user is given that user's sessions only.
            return userId is null ? Owner.Anyone : Owner.Of(userId);
        }

        // A session that would have to be another user's is not this one's to have.
        return IsService || userId is null || UserId is null || userId == UserId ? ActingFor(userId)
            : request.RouteValues["session_id"] is string sessionId ? throw new DomainException(Error.SessionNotFound(sessionId))
            : throw NoSuchUser(userId);
    }

    private static ProblemException NoSuchUser(string userId) => new(new Problem(StatusCodes.Status404NotFound, "user_not_found",
        $"There is no user '{Error.Shorten(userId)}', or it is not the one that you are authenticated as."));

    /// <summary>The user that a request names in the query (<see cref="SessionOwner.Parameter"/>), if it names one.</summary>
    /// <exception cref="DomainException">The name is not allowed, or there are several.</exception>
    public static string? NamedUser(IQueryCollection query)
    {
        if (query.TryGetValue(SessionOwner.Parameter, out var values))
        {
            var userId = values is [{ } one] ? one : "";
            UserIds.Check(SessionOwner.Parameter, userId);
            return userId;
        }

        return query.Keys.FirstOrDefault(key => FieldNames.AreAlike(key, SessionOwner.Parameter)) is { } misspelt
            ? throw new DomainException(FieldNames.Misspelt(misspelt, SessionOwner.Parameter))
            : null;
    }
}

/// <summary>On whose behalf <c>/sessions/{session_id}</c> is asked for.</summary>
/// <param name="Value">The owner.</param>
internal sealed record SessionOwner(Owner Value) : IBindableFromHttpContext<SessionOwner>
{
    /// <summary>The query parameter that names the user whose session it must be.</summary>
    public const string Parameter = "user_id";

    private static readonly SessionOwner Anyone = new(Owner.Anyone);

    public static ValueTask<SessionOwner?> BindAsync(HttpContext context, ParameterInfo parameter)
    {
        var owner = Caller.Of(context).ActingFor(context.Request);
        return new(owner.IsAnyone ? Anyone : new SessionOwner(owner));
    }
}

/// <summary>A caller as the framework carries it.</summary>
internal sealed class CallerIdentity(Caller caller, string scheme) : ClaimsIdentity([new Claim(DefaultNameClaimType, caller.Name)], scheme)
{
    public Caller Caller { get; } = caller;
}
