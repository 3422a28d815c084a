using System.ComponentModel.DataAnnotations;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http;

/// <summary>The <c>cors:</c> section of <c>config.yaml</c>: whose web pages may call this server from a browser. Without it, none but its
/// own.</summary>
internal sealed class CorsSettings : IValidatableObject
{
    /// <summary>The section's name.</summary>
    public const string Section = "cors";

    /// <summary>Origins, separated by commas: <c>https://app.example.com, http://localhost:3000</c>.</summary>
    public string Origins { get; set; } = "";

    /// <summary>The same, one by one.</summary>
    public string[] All => Origins.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    // An origin is what a browser sends: nothing but scheme, host and port. "*" would open the conversations of whoever is on this
    // machine to every page.
    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext) => All
        .Where(origin => !Uri.TryCreate(origin, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https")
            || uri.GetLeftPart(UriPartial.Authority) != origin)
        .Select(origin => new ValidationResult(
            $"'{origin}' is not allowed; allowed: origins such as https://app.example.com, separated by commas", [nameof(Origins)]));
}

/// <summary>CORS, where origins are configured.</summary>
internal static class Cors
{
    /// <summary>Registers it.</summary>
    /// <exception cref="SettingsException">An origin is none.</exception>
    public static void AddCorsFor(this WebApplicationBuilder builder)
    {
        var origins = builder.AddSettings<CorsSettings>(CorsSettings.Section).All;
        if (origins.Length > 0)
        {
            builder.Services.AddCors(options => options.AddDefaultPolicy(policy => policy
                .WithOrigins(origins)
                .WithMethods("GET", "POST", "PATCH", "DELETE")
                .AllowAnyHeader()
                .WithExposedHeaders("ETag", "Location", "Retry-After", "x-request-id", RetryHeaders.ShouldRetry, RequestKeys.ReplayedHeader)
                .SetPreflightMaxAge(TimeSpan.FromMinutes(10))));
        }
    }

    /// <summary>Answers what browsers ask before they send, and tells them who may read the answers.</summary>
    public static void UseConfiguredCors(this WebApplication app)
    {
        if (app.Services.GetRequiredService<CorsSettings>().All.Length > 0)
        {
            app.UseCors();
        }
    }
}
