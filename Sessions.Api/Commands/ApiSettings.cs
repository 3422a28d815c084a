using Sessions.Api.Engine;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Engine.Streams;
using Sessions.Api.Http;
using Sessions.Api.Http.Auth;
using Sessions.Api.Http.OpenAi;
using Sessions.Api.Http.WebConsole;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>The sections of <c>config.yaml</c>, in the order in which they are listed. A new one is a line here.</summary>
internal static class ApiSettings
{
    public static ReadOnlySpan<SettingsSection> Sections => All;

    private static readonly SettingsSection[] All =
    [
        new(SessionSettings.Section, typeof(SessionSettings)),
        new(ResponseSettings.Section, typeof(ResponseSettings)),
        new(OpenAiSettings.Section, typeof(OpenAiSettings)),
        new(AuthSettings.Section, typeof(AuthSettings)),
        new(AgentsSettings.Section, typeof(AgentsSettings)),
        new(LimitSettings.Section, typeof(LimitSettings)),
        new(StreamingSettings.Section, typeof(StreamingSettings)),
        new(EncryptionSettings.Section, typeof(EncryptionSettings)),
        new(RateLimitSettings.Section, typeof(RateLimitSettings)),
        new(CorsSettings.Section, typeof(CorsSettings)),
        new(ConsoleSettings.Section, typeof(ConsoleSettings)),
        new(TelemetrySettings.Section, typeof(TelemetrySettings)),
    ];

    /// <summary>The server's builder, configured, so that a command means the same store as the server.</summary>
    /// <param name="settings">Settings of the command line.</param>
    /// <exception cref="SettingsException">Something in the configuration is not allowed.</exception>
    public static WebApplicationBuilder CreateBuilder(string[] settings)
    {
        var builder = CreateUncheckedBuilder(settings);
        builder.AddSettings(Sections);
        return builder;
    }

    /// <summary>The same, with what is configured as it is.</summary>
    /// <exception cref="SettingsException">The file can't be read.</exception>
    public static WebApplicationBuilder CreateUncheckedBuilder(string[] settings)
    {
        // An appsettings.json beside the program is read, wherever it is started from. It is not watched: with it all folders beneath
        // would be, and the data in them changes with every turn.
        string[] all = ["--hostBuilder:reloadConfigOnChange=false", .. settings];

        // Slim: without what a server of JSON never uses (HTTP/3, IIS, static files), but with HTTPS where an endpoint is set to it.
        var builder = WebApplication.CreateSlimBuilder(
            new WebApplicationOptions { Args = all, ContentRootPath = AppContext.BaseDirectory });
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.AddYamlConfiguration();
        return builder;
    }

    /// <summary>Has the log say what is served once it is, and which variables look like settings but are none.</summary>
    public static WebApplicationBuilder AddBanner(this WebApplicationBuilder builder)
    {
        builder.AddUnreadVariables(Sections);
        builder.Services.AddHostedService<Banner>();
        return builder;
    }
}
