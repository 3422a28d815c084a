using Microsoft.AspNetCore.Authorization;
using Sessions.Api.Http.Native;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Auth;

/// <summary>Which scopes open a route, where there is authentication. A route without it is closed to everybody, so that none is
/// forgotten.</summary>
/// <param name="AnyOf">One of these is enough.</param>
internal sealed record ScopesMetadata(params Scope[] AnyOf)
{
    /// <summary>Whether the clean-up key opens it too, as the janitor sends it.</summary>
    public bool OrCleanupKey { get; init; }
}

/// <summary>What every request needs: the scope that its route asks for.</summary>
internal sealed class ScopeRequirement : IAuthorizationRequirement;

/// <summary>Decides by the route's <see cref="ScopesMetadata"/>.</summary>
internal sealed class ScopeHandler(SessionSettings settings) : AuthorizationHandler<ScopeRequirement>
{
    protected override Task HandleRequirementAsync(AuthorizationHandlerContext context, ScopeRequirement requirement)
    {
        var http = (HttpContext)context.Resource!;
        if (IsAllowed(http, Caller.Authenticated(context.User)))
        {
            context.Succeed(requirement);
        }

        return Task.CompletedTask;
    }

    private bool IsAllowed(HttpContext http, Caller? caller)
    {
        // Where there is no route, the framework answers 404, 405 or 415 next, to those who may know.
        if (http.GetEndpoint() is not RouteEndpoint route)
        {
            return caller is not null;
        }

        return route.Metadata.GetMetadata<ScopesMetadata>() is { } needed
            && (caller is not null && needed.AnyOf.Any(caller.Has) || needed.OrCleanupKey && CleanupKey.IsSent(http.Request, settings));
    }
}

/// <summary>Short ways to say which scopes a route needs.</summary>
internal static class ScopeExtensions
{
    /// <summary>For users and for services that act for them.</summary>
    public static TBuilder ForConversations<TBuilder>(this TBuilder builder) where TBuilder : IEndpointConventionBuilder =>
        builder.WithMetadata(new ScopesMetadata(Scope.User, Scope.Service));

    /// <summary>For those who run the server.</summary>
    public static TBuilder ForAdmins<TBuilder>(this TBuilder builder, bool orCleanupKey = false)
        where TBuilder : IEndpointConventionBuilder =>
        builder.WithMetadata(new ScopesMetadata(Scope.Admin) { OrCleanupKey = orCleanupKey });
}
