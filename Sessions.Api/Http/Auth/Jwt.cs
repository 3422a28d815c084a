using System.Security.Claims;
using System.Text;
using Microsoft.AspNetCore.Authentication.JwtBearer;
using Microsoft.IdentityModel.Tokens;
using Sessions.Api.Domain;

namespace Sessions.Api.Http.Auth;

/// <summary>Authenticates by the signed tokens of an identity provider.</summary>
internal static class Jwt
{
    // What a token may be signed by. Which key it is decides, never what the token says of itself: an RSA key is no secret to sign by
    // with HMAC.
    private static readonly string[] Asymmetric =
    [
        SecurityAlgorithms.RsaSha256, SecurityAlgorithms.RsaSha384, SecurityAlgorithms.RsaSha512,
        SecurityAlgorithms.RsaSsaPssSha256, SecurityAlgorithms.RsaSsaPssSha384, SecurityAlgorithms.RsaSsaPssSha512,
        SecurityAlgorithms.EcdsaSha256, SecurityAlgorithms.EcdsaSha384, SecurityAlgorithms.EcdsaSha512,
    ];

    private static readonly string[] Symmetric =
        [SecurityAlgorithms.HmacSha256, SecurityAlgorithms.HmacSha384, SecurityAlgorithms.HmacSha512];

    // How far clocks may be apart.
    private static readonly TimeSpan ClockSkew = TimeSpan.FromSeconds(30);

    // How long the identity provider may take to tell its keys.
    private static readonly TimeSpan AuthorityTimeout = TimeSpan.FromSeconds(5);

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
                    context.Principal = new ClaimsPrincipal(
                        new CallerIdentity(ReadCaller(context.Principal!, settings), context.Scheme.Name));
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
        var subject = token.FindFirst("sub")?.Value
            ?? throw new CredentialsException("The token has no 'sub': it does not say who you are.");
        var roles = token.FindAll(settings.RoleClaim)
            .SelectMany(claim => claim.Value.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .ToHashSet(StringComparer.Ordinal);
        var isAdmin = settings.AdminRole is { } admin && roles.Contains(admin);
        var readsAll = settings.ReadAllRole is { } reader && roles.Contains(reader);
        if (settings.ServiceRole is { } service && roles.Contains(service))
        {
            return Caller.Service(subject, isAdmin, readsAll);
        }

        return Identifiers.IsUserId(subject)
            ? Caller.User(subject, isAdmin, readsAll)
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
internal sealed class AuthorityUnavailableException(Exception innerException)
    : Exception("The identity provider can't be reached.", innerException);
