using System.Security.Claims;
using System.Text;
using Microsoft.AspNetCore.Authentication.JwtBearer;
using Microsoft.IdentityModel.Tokens;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Authenticates by the signed tokens of an identity provider.</summary>
internal static class Jwt
{
    private const int SigningKeyBytes = 32;

    // What a token may be signed by. Which key it is decides, never what the token says of itself: an RSA key is no secret to sign by with HMAC.
    private static readonly string[] Asymmetric =
    [
        SecurityAlgorithms.RsaSha256, SecurityAlgorithms.RsaSha384, SecurityAlgorithms.RsaSha512,
        SecurityAlgorithms.RsaSsaPssSha256, SecurityAlgorithms.RsaSsaPssSha384, SecurityAlgorithms.RsaSsaPssSha512,
        SecurityAlgorithms.EcdsaSha256, SecurityAlgorithms.EcdsaSha384, SecurityAlgorithms.EcdsaSha512,
    ];

    private static readonly string[] Symmetric = [SecurityAlgorithms.HmacSha256, SecurityAlgorithms.HmacSha384, SecurityAlgorithms.HmacSha512];

    // How far clocks may be apart.
    private static readonly TimeSpan ClockSkew = TimeSpan.FromSeconds(30);

    // How long the identity provider may take to tell its keys.
    private static readonly TimeSpan AuthorityTimeout = TimeSpan.FromSeconds(5);

    /// <summary>Refuses settings that say too little or too much.</summary>
    /// <exception cref="SettingsException">They do.</exception>
    public static void Check(JwtSettings settings)
    {
        if (settings.Authority is null == settings.SigningKey is null)
        {
            throw new SettingsException(settings.Authority is null
                ? "auth.jwt.authority: is missing; auth.mode: jwt needs it, or, for development, a signing key in the environment variable AUTH__JWT__SIGNING_KEY."
                : "auth.jwt: has an authority and a signing key (AUTH__JWT__SIGNING_KEY); which tokens are good is said by one of them.");
        }

        if (settings.Authority is { } authority && authority.Scheme != Uri.UriSchemeHttps && !authority.IsLoopback)
        {
            throw new SettingsException("auth.jwt.authority: must be an https address: who can change its answers can sign tokens.");
        }

        if (settings.Authority is not null && string.IsNullOrEmpty(settings.Audience))
        {
            throw new SettingsException("auth.jwt.audience: is missing; without it tokens that were made for other APIs would be good here.");
        }

        if (settings.SigningKey is { } key && Encoding.UTF8.GetByteCount(key) < SigningKeyBytes)
        {
            throw new SettingsException($"auth.jwt.signing_key: is too short; allowed: {SigningKeyBytes} bytes or more, such as 'openssl rand -hex 32' makes.");
        }
    }

    /// <summary>Tells the framework's own handler what makes a token good.</summary>
    public static void Configure(JwtBearerOptions options, JwtSettings settings)
    {
        options.MapInboundClaims = false;
        options.SaveToken = false;
        options.BackchannelTimeout = AuthorityTimeout;
        options.TokenValidationParameters = new TokenValidationParameters
        {
            ValidAudience = settings.Audience,
            ValidateAudience = !string.IsNullOrEmpty(settings.Audience),
            ValidateIssuerSigningKey = true,
            ClockSkew = ClockSkew,
        };
        if (settings.Authority is { } authority)
        {
            // Issuer and keys are those that its metadata name.
            options.Authority = authority.ToString();
            options.RequireHttpsMetadata = !authority.IsLoopback;
            options.TokenValidationParameters.ValidAlgorithms = Asymmetric;
        }
        else
        {
            options.TokenValidationParameters.ValidateIssuer = false;
            options.TokenValidationParameters.IssuerSigningKey = new SymmetricSecurityKey(Encoding.UTF8.GetBytes(settings.SigningKey!));
            options.TokenValidationParameters.ValidAlgorithms = Symmetric;
        }

        options.Events = new JwtBearerEvents
        {
            OnTokenValidated = context =>
            {
                try
                {
                    context.Principal = new ClaimsPrincipal(new CallerIdentity(ReadCaller(context.Principal!, settings), context.Scheme.Name));
                }
                catch (CredentialsException e)
                {
                    context.Fail(e);
                }

                return Task.CompletedTask;
            },
            OnAuthenticationFailed = DescribeAsync,
        };
    }

    private static Caller ReadCaller(ClaimsPrincipal token, JwtSettings settings)
    {
        var subject = token.FindFirst("sub")?.Value ?? throw new CredentialsException("The token has no 'sub': it does not say who you are.");
        var roles = token.FindAll(settings.RoleClaim).SelectMany(claim => claim.Value.Split(' ', StringSplitOptions.RemoveEmptyEntries)).ToHashSet(StringComparer.Ordinal);
        var isAdmin = settings.AdminRole is { } admin && roles.Contains(admin);
        if (settings.ServiceRole is { } service && roles.Contains(service))
        {
            return Caller.Service(subject, isAdmin);
        }

        return Identifiers.IsUserId(subject)
            ? Caller.User(subject, isAdmin)
            : throw new CredentialsException($"The token's 'sub' can't be a user_id, which {Identifiers.UserIdRule}.");
    }

    private static async Task DescribeAsync(AuthenticationFailedContext context)
    {
        // Without the provider's keys no token is good: that is nothing that the caller could mend.
        if (context.Options.ConfigurationManager is { } metadata)
        {
            try
            {
                await metadata.GetConfigurationAsync(context.HttpContext.RequestAborted);
            }
            catch (Exception e) when (e is InvalidOperationException or IOException or HttpRequestException)
            {
                context.Fail(new AuthorityUnavailableException(e));
                return;
            }
        }

        context.Fail(new CredentialsException(context.Exception switch
        {
            SecurityTokenExpiredException => "The token has expired.",
            SecurityTokenNotYetValidException => "The token is not valid yet.",
            SecurityTokenNoExpirationException => "The token has no 'exp': it would never expire.",
            SecurityTokenInvalidAudienceException => "The token is meant for another audience.",
            SecurityTokenInvalidIssuerException => "The token is of another issuer.",
            SecurityTokenInvalidSignatureException or SecurityTokenInvalidAlgorithmException => "The token is not signed as it must be.",
            _ => "The token can't be read.",
        }));
    }
}

/// <summary>The identity provider does not tell its keys.</summary>
/// <param name="innerException">Why.</param>
internal sealed class AuthorityUnavailableException(Exception innerException) : Exception("The identity provider can't be reached.", innerException);
