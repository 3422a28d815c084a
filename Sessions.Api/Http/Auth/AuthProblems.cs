using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Authorization.Policy;

namespace Sessions.Api.Http.Auth;

/// <summary>Answers a request that is not let in: 401 where nobody knows whose it is, 403 where that one may not.</summary>
internal sealed partial class AuthProblems(AuthSettings settings, ILogger<AuthProblems> logger) : IAuthorizationMiddlewareResultHandler
{
    public Task HandleAsync(
        RequestDelegate next, HttpContext context, AuthorizationPolicy policy, PolicyAuthorizationResult authorizeResult) =>
        authorizeResult.Succeeded ? next(context)
        : authorizeResult.Challenged ? ChallengeAsync(context)
        : ForbidAsync(context);

    private async Task ChallengeAsync(HttpContext context)
    {
        // Asked again, which costs nothing: only a success is left in the request's features.
        var failure = (await context.AuthenticateAsync()).Failure;
        if (failure is AuthorityUnavailableException unavailable)
        {
            Log.AuthorityUnavailable(logger, unavailable.InnerException!);
            await new Problem(StatusCodes.Status503ServiceUnavailable, "authentication_unavailable", unavailable.Message)
            {
                RetryAfter = TimeSpan.FromSeconds(5),
            }.ExecuteAsync(context);
            return;
        }

        // RFC 6750: an error is told only where credentials came.
        var reason = failure is CredentialsException known ? known.Message : failure is null ? null : "The credentials can't be read.";
        context.Response.Headers.WWWAuthenticate = reason is null
            ? "Bearer realm=\"sessions\""
            : $"Bearer realm=\"sessions\", error=\"invalid_token\", error_description=\"{reason}\"";
        var how = settings.Mode == AuthMode.ApiKey
            ? $"Send an API key, as 'Authorization: Bearer <key>' or '{ApiKeyHandler.HeaderName}: <key>'."
            : "Send a token, as 'Authorization: Bearer <token>'.";
        await new Problem(StatusCodes.Status401Unauthorized, "unauthorized", reason is null ? how : $"{reason} {how}")
            .ExecuteAsync(context);
    }

    private static Task ForbidAsync(HttpContext context)
    {
        context.Response.Headers.WWWAuthenticate = "Bearer realm=\"sessions\", error=\"insufficient_scope\"";
        var needed = context.GetEndpoint()?.Metadata.GetMetadata<ScopesMetadata>()?.AnyOf ?? [];
        return new Problem(StatusCodes.Status403Forbidden, "forbidden",
            needed.Length == 0 ? "Nobody may do this."
                : $"This needs the scope {string.Join(" or ", needed.Select(scope => ServiceDefaults.Settings.NameOf(scope)))}.")
                .ExecuteAsync(context);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 94, Level = LogLevel.Error,
            Message = "The identity provider (auth.jwt.authority) does not tell its keys: nobody can be authenticated")]
        public static partial void AuthorityUnavailable(ILogger logger, Exception exception);
    }
}
