using Sessions.Janitor;
using Sessions.ServiceDefaults;

try
{
    var builder = Host.CreateApplicationBuilder(args);
    builder.AddYamlConfiguration();
    builder.AddServiceDefaults(Janitor.SourceName);
    builder.AddSettings<SessionSettings>(SessionSettings.Section);
    builder.Services.AddSingleton(TimeProvider.System);

    // "api" is found by service discovery: services__api__http__0, as the AppHost sets it.
    builder.Services.AddHttpClient<Janitor>(client => client.BaseAddress = new Uri("https+http://api"));
    builder.Services.AddHostedService(services => services.GetRequiredService<Janitor>());
    await builder.Build().RunAsync();
    return 0;
}
catch (SettingsException e)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}
