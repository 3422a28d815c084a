using System.Text.Encodings.Web;
using Microsoft.AspNetCore.Authentication;
using Microsoft.Extensions.Options;

namespace Sessions.Api.Http.Auth;

/// <summary>Authenticates by an API key, in <c>Authorization: Bearer</c> or in <c>X-API-Key</c>.</summary>
internal sealed class ApiKeyHandler(
    ApiKeys keys, IOptionsMonitor<AuthenticationSchemeOptions> options, ILoggerFactory loggers, UrlEncoder encoder)
    : AuthenticationHandler<AuthenticationSchemeOptions>(options, loggers, encoder)
{
    /// <summary>The scheme's name.</summary>
    public const string SchemeName = "ApiKey";

    /// <summary>The header that takes a key as it is.</summary>
    public const string HeaderName = "X-API-Key";

    private const string Bearer = "Bearer ";

    protected override Task<AuthenticateResult> HandleAuthenticateAsync() => Task.FromResult(Authenticate());

    private AuthenticateResult Authenticate()
    {
        var authorization = Request.Headers.Authorization;
        var header = Request.Headers[HeaderName];
        if (authorization.Count + header.Count == 0)
        {
            return AuthenticateResult.NoResult();
        }

        if (authorization.Count + header.Count > 1)
        {
            return AuthenticateResult.Fail(new CredentialsException("There are several credentials; send one."));
        }

        var key = header.ToString();
        if (authorization is [{ } sent])
        {
            if (!sent.StartsWith(Bearer, StringComparison.OrdinalIgnoreCase))
            {
                return AuthenticateResult.Fail(new CredentialsException("Authorization must be of the form 'Bearer <key>'."));
            }

            key = sent[Bearer.Length..].Trim();
        }

        return keys.Find(key) is { } principal
            ? AuthenticateResult.Success(new AuthenticationTicket(principal, SchemeName))
            : AuthenticateResult.Fail(new CredentialsException("This API key is not known."));
    }
}

/// <summary>Credentials were refused.</summary>
/// <param name="message">Why, in words fit for whoever sent them.</param>
internal sealed class CredentialsException(string message) : Exception(message);
