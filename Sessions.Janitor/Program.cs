using Sessions.Janitor;
using Sessions.ServiceDefaults;

return await ServiceProgram.RunAsync(async () =>
{
    SettingsSection[] sections = [new(SessionSettings.Section, typeof(SessionSettings))];
    var settings = CommandLineSettings.Require(args, [CommandLineSettings.Config, "--urls"], sections);

    // An appsettings.json beside it is read, wherever it is started from.
    var builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = settings, ContentRootPath = AppContext.BaseDirectory });
    builder.AddYamlConfiguration();
    builder.AddLogs(new("Logging:LogLevel:System.Net.Http.HttpClient", "Warning"), new("Logging:LogLevel:Polly", "Error"));
    builder.AddServiceDefaults(Janitor.Name);
    builder.AddSettings<SessionSettings>(SessionSettings.Section);
    builder.AddUnreadVariables(sections);
    builder.AddJanitor();

    var app = builder.Build();
    app.MapDefaultEndpoints();
    await app.RunAsync();
}, "--urls");
