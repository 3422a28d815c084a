using Sessions.Janitor;
using Sessions.ServiceDefaults;

try
{
    // Its appsettings.json lies beside it, wherever it is started from.
    var builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = args, ContentRootPath = AppContext.BaseDirectory });
    builder.AddYamlConfiguration();
    builder.AddServiceDefaults(Janitor.Name);
    builder.AddSettings<SessionSettings>(SessionSettings.Section);
    builder.AddJanitor();

    var app = builder.Build();
    app.MapDefaultEndpoints();
    await app.RunAsync();
    return 0;
}
catch (SettingsException e)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}
