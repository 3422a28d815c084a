using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authentication.JwtBearer;
using Microsoft.AspNetCore.Authorization;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Http.Auth;

/// <summary>Who is let in. docs/authentication.md tells how to set it up.</summary>
internal static class Auth
{
    /// <summary>Registers what <c>auth.mode</c> asks for: without authentication nothing, so that it costs nothing.</summary>
    public static WebApplicationBuilder AddAuth(this WebApplicationBuilder builder)
    {
        var settings = builder.AddSettings<AuthSettings>(AuthSettings.Section);
        switch (settings.Mode)
        {
            case AuthMode.None:
                builder.Services.AddHostedService<OpenServerWarning>();
                return builder;
            case AuthMode.ApiKey:
                builder.Services.AddSingleton(new ApiKeys(settings.Keys));
                builder.Services.AddAuthentication(ApiKeyHandler.SchemeName)
                    .AddScheme<AuthenticationSchemeOptions, ApiKeyHandler>(ApiKeyHandler.SchemeName, null);
                break;
            case AuthMode.Jwt:
                builder.Services.AddAuthentication(JwtBearerDefaults.AuthenticationScheme)
                    .AddJwtBearer(options => Jwt.Configure(options, settings.Jwt));
                break;
        }

        builder.Services.AddSingleton<IAuthorizationHandler, ScopeHandler>();
        builder.Services.AddSingleton<IAuthorizationMiddlewareResultHandler, AuthProblems>();
        builder.Services.AddAuthorizationBuilder()
            .SetFallbackPolicy(new AuthorizationPolicyBuilder().AddRequirements(new ScopeRequirement()).Build());
        builder.Services.AddOpenApi(options => AuthDocumentation.Add(options, settings.Mode));
        return builder;
    }

    /// <summary>Lets only those in who may, and none too often.</summary>
    public static WebApplication UseAuth(this WebApplication app)
    {
        var isOn = app.Services.GetRequiredService<AuthSettings>().Mode != AuthMode.None;
        if (isOn)
        {
            app.UseAuthentication();
        }

        // In between: whoever has a name is limited by it, and who only guesses at keys is limited too.
        app.UseRateLimits();
        if (isOn)
        {
            app.UseAuthorization();
        }

        return app;
    }
}
