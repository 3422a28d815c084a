using System.Security.Cryptography;
using Scalar.AspNetCore;

namespace Sessions.Api.Http;

/// <summary>What every answer tells browsers and caches: this is data, to be shown and kept by nobody but who asked.</summary>
internal static class SecurityHeaders
{
    private const string DataPolicy = "default-src 'none'; frame-ancestors 'none'";

    /// <summary>May be kept by who asked, but has to be asked for again each time: answers with an <c>ETag</c>.</summary>
    public const string Revalidated = "private, no-cache";

    /// <summary>Sets the headers.</summary>
    public static void UseSecurityHeaders(this WebApplication app) => app.Use((context, next) =>
    {
        Set(context.Response.Headers);
        return next(context);
    });

    /// <summary>Sets the headers, also where the framework has cleared them after an exception.</summary>
    public static void Set(IHeaderDictionary headers)
    {
        headers.XContentTypeOptions = "nosniff";
        headers.ContentSecurityPolicy = DataPolicy;
        headers["Referrer-Policy"] = "no-referrer";
        headers.CacheControl = "no-store";
    }

    /// <summary>The page to try the API out with, the only one with scripts: those that come with it, which may talk to nobody but this
    /// server.</summary>
    public static void MapReferencePage(this WebApplication app) => app.MapScalarApiReference((page, context) =>
    {
        page.Nonce = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
        // Without what leads to its vendor's own services.
        page.DisableDefaultFonts().DisableTelemetry().DisableAgent().DisableMcp().HideClientButton().HideDeveloperTools();
        context.Response.Headers.ContentSecurityPolicy =
            $"default-src 'none'; script-src 'self' 'nonce-{page.Nonce}'; style-src 'self' 'unsafe-inline'; "
            + "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
            + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    }).AllowAnonymous();
}
