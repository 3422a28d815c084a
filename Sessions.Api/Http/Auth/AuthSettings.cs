using System.Buffers;
using System.ComponentModel.DataAnnotations;
using System.Security.Cryptography;
using System.Text;
using Sessions.Api.Domain;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Auth;

/// <summary>The <c>auth:</c> section of <c>config.yaml</c>.</summary>
internal sealed class AuthSettings : IValidatableObject
{
    /// <summary>The section's name.</summary>
    public const string Section = "auth";

    /// <summary>How callers say who they are.</summary>
    public AuthMode Mode { get; set; } = AuthMode.None;

    /// <summary>The keys of <see cref="AuthMode.ApiKey"/>, by name.</summary>
    public ApiKeysSettings Keys { get; set; } = [];

    /// <summary>The tokens of <see cref="AuthMode.Jwt"/>.</summary>
    public JwtSettings Jwt { get; set; } = new();

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (Mode == AuthMode.ApiKey && Keys.Count == 0)
        {
            yield return new("is missing; auth.mode: api_key needs at least one. The command 'key' makes one",
                [nameof(Keys), nameof(Mode)]);
        }

        foreach (var twice in Keys.Where(key => key.Value.ReadHash() is not null)
            .GroupBy(key => Convert.ToHexString(key.Value.ReadHash()!)).SelectMany(same => same.Skip(1)))
        {
            yield return new("is that of another key as well", [$"{nameof(Keys)}:{twice.Key}:{nameof(ApiKeySettings.Hash)}"]);
        }

        foreach (var (rule, member) in Mode == AuthMode.Jwt ? Jwt.Faults() : [])
        {
            yield return new(rule, [$"{nameof(Jwt)}:{member}".TrimEnd(':'), nameof(Mode)]);
        }
    }
}

/// <summary>How callers say who they are.</summary>
internal enum AuthMode
{
    /// <summary>Not at all: for a machine of one's own.</summary>
    None,

    /// <summary>By a key that this server knows the hash of.</summary>
    ApiKey,

    /// <summary>By a signed token of an identity provider.</summary>
    Jwt,
}

/// <summary>What a caller may do. docs/authentication.md has the table.</summary>
internal enum Scope
{
    /// <summary>Have the sessions of one user.</summary>
    User,

    /// <summary>Act for whatever user it names.</summary>
    Service,

    /// <summary>Count and clean up; no conversations.</summary>
    Admin,

    /// <summary>Read the sessions of all users, as a console does.</summary>
    ReadAll,
}

/// <summary>Keys by name.</summary>
internal sealed class ApiKeysSettings : Dictionary<string, ApiKeySettings>;

/// <summary>A key.</summary>
internal sealed class ApiKeySettings : IValidatableObject
{
    /// <summary>SHA-256 of the key, in hexadecimal or Base64.</summary>
    public string? Hash { get; set; }

    /// <summary>What it is good for.</summary>
    public Scope[] Scopes { get; set; } = [];

    /// <summary>Whose sessions it gets, with <see cref="Scope.User"/>.</summary>
    public string? UserId { get; set; }

    /// <summary>The hash itself; <see langword="null"/> where <see cref="Hash"/> is not one.</summary>
    public byte[]? ReadHash()
    {
        var hash = new byte[SHA256.HashSizeInBytes];
        return Hash is not null
            && (Hash.Length == 2 * hash.Length && Convert.FromHexString(Hash, hash, out _, out _) == OperationStatus.Done
            || Convert.TryFromBase64String(Hash, hash, out var written) && written == hash.Length) ? hash : null;
    }

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (ReadHash() is null)
        {
            yield return new(string.IsNullOrEmpty(Hash)
                ? "is missing; the command 'key' prints it with the key"
                : "is not a SHA-256 (64 hexadecimal digits, or 44 characters of Base64); the command 'key' prints it with the key",
                [nameof(Hash)]);
        }

        var isUser = Scopes.Contains(Scope.User);
        if (Scopes.Length == 0)
        {
            yield return new("is missing; allowed: user or service, and admin, read_all", [nameof(Scopes)]);
        }
        else if (isUser && Scopes.Contains(Scope.Service))
        {
            yield return new("user and service exclude one another: a key acts for its own user, or for those it names",
                [nameof(Scopes)]);
        }
        else if (isUser != UserId is not null)
        {
            yield return new(
                isUser ? "is missing; the scope user needs it" : "is only for the scope user", [nameof(UserId), nameof(Scopes)]);
        }
        else if (UserId is not null && !Identifiers.IsUserId(UserId))
        {
            yield return new(Identifiers.UserIdRule, [nameof(UserId)]);
        }
    }
}

/// <summary>What makes a token good, and what it says.</summary>
internal sealed class JwtSettings
{
    private const int SigningKeyBytes = 32;

    /// <summary>The identity provider: where its OpenID Connect metadata begins.</summary>
    public Uri? Authority { get; set; }

    /// <summary>Whom a token must be meant for: this API, as the identity provider names it.</summary>
    public string? Audience { get; set; }

    /// <summary>Instead of an authority: the key (HMAC) by which tokens are signed; 32 bytes or more.</summary>
    [Secret]
    public string? SigningKey { get; set; }

    /// <summary>The claim whose values are roles.</summary>
    public string RoleClaim { get; set; } = "roles";

    /// <summary>The role that gives <see cref="Scope.Admin"/>; none where it is absent.</summary>
    public string? AdminRole { get; set; }

    /// <summary>The role that gives <see cref="Scope.Service"/>; none where it is absent.</summary>
    public string? ServiceRole { get; set; }

    /// <summary>Whose role this is may list the sessions of all users; nobody may where it is not set.</summary>
    public string? ReadAllRole { get; set; }

    /// <summary>What says too little or too much, and which setting it concerns.</summary>
    public IEnumerable<(string Rule, string Member)> Faults()
    {
        if (Authority is null && SigningKey is null)
        {
            yield return (
                "is missing; auth.mode: jwt needs it, or, for development, a signing key in the environment variable "
                + "AUTH__JWT__SIGNING_KEY", nameof(Authority));
        }

        if (Authority is not null && SigningKey is not null)
        {
            yield return ("has an authority and a signing key (AUTH__JWT__SIGNING_KEY); which tokens are good is said by one of them", "");
        }

        if (Authority is { IsLoopback: false } && Authority.Scheme != Uri.UriSchemeHttps)
        {
            yield return ("must be an https address: who can change its answers can sign tokens", nameof(Authority));
        }

        if (Authority is not null && string.IsNullOrEmpty(Audience))
        {
            yield return ("is missing; without it tokens that were made for other APIs would be good here", nameof(Audience));
        }

        if (SigningKey is not null && Encoding.UTF8.GetByteCount(SigningKey) < SigningKeyBytes)
        {
            yield return ($"is too short; allowed: {SigningKeyBytes} bytes or more, such as 'openssl rand -hex 32' makes",
                nameof(SigningKey));
        }
    }
}
