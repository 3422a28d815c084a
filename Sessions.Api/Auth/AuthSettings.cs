using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>The <c>auth:</c> section of <c>config.yaml</c>.</summary>
internal sealed class AuthSettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "auth";

    /// <summary>How callers say who they are.</summary>
    public AuthMode Mode { get; set; } = AuthMode.None;

    /// <summary>The keys of <see cref="AuthMode.ApiKey"/>, by name.</summary>
    public ApiKeysSettings Keys { get; set; } = [];

    /// <summary>The tokens of <see cref="AuthMode.Jwt"/>.</summary>
    public JwtSettings Jwt { get; set; } = new();
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
}

/// <summary>Keys by name.</summary>
internal sealed class ApiKeysSettings : Dictionary<string, ApiKeySettings>;

/// <summary>A key.</summary>
internal sealed class ApiKeySettings
{
    /// <summary>SHA-256 of the key, in hexadecimal or Base64.</summary>
    public string? Hash { get; set; }

    /// <summary>What it is good for.</summary>
    public Scope[] Scopes { get; set; } = [];

    /// <summary>Whose sessions it gets, with <see cref="Scope.User"/>.</summary>
    public string? UserId { get; set; }
}

/// <summary>What makes a token good, and what it says.</summary>
internal sealed class JwtSettings
{
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
}
