using Sessions.Api.Http.Auth;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Native;

/// <summary><c>GET /caller</c>: who asks, and what that one may do.</summary>
internal static class CallerApi
{
    /// <summary>Maps the endpoint.</summary>
    public static WebApplication MapCaller(this WebApplication app)
    {
        app.MapGet("/caller", Get)
            .WithTags("Operating")
            .WithName("getCaller")
            .WithSummary("Who you are, and what you may do")
            .WithDescription("The scopes of the key or token that was sent; without authentication, those that anybody has.")
            .WithMetadata(new ScopesMetadata(Enum.GetValues<Scope>()));
        return app;
    }

    private static JsonAnswer<CallerResponse> Get(Caller caller, HttpRequest request, AuthSettings auth)
    {
        var isOpen = auth.Mode == AuthMode.None;
        var scopes = Enum.GetValues<Scope>().Where(scope => !isOpen ? caller.Has(scope)
            : scope is Scope.Service or Scope.Admin || (scope == Scope.ReadAll && LocalRequests.IsLocal(request)));
        return new(new CallerResponse(Settings.NameOf(auth.Mode), caller.UserId, [.. scopes.Select(scope => Settings.NameOf(scope))]));
    }
}

/// <summary>Who asks, and what that one may do.</summary>
/// <param name="AuthMode">How callers say who they are: none, api_key, jwt.</param>
/// <param name="UserId">The user it is; null for one that is none.</param>
/// <param name="Scopes">What it may do: user, service, admin, read_all.</param>
internal sealed record CallerResponse(string AuthMode, string? UserId, IReadOnlyList<string> Scopes);
