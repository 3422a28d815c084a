using System.Net.Sockets;
using Sessions.Api;
using Sessions.ServiceDefaults;

try
{
    if (Commands.Start(args) is { } command)
    {
        return await command;
    }

    // Its appsettings.json lies beside it, wherever it is started from. It is not watched: with it all folders beneath would be, and the data in them changes with every turn.
    string[] all = ["--hostBuilder:reloadConfigOnChange=false", .. args];
    // Slim: without what a server of JSON never uses (HTTP/3, IIS, static files), but with HTTPS where an endpoint is set to it.
    var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { Args = all, ContentRootPath = AppContext.BaseDirectory });
    builder.WebHost.UseKestrelHttpsConfiguration();
    builder.AddYamlConfiguration();
    builder.AddServiceDefaults(SessionMetrics.MeterName, QueryMetrics.AgentSourceName);
    builder.AddHttp(args).AddAuth().AddSessions().AddQueries();

    var app = builder.Build();
    app.UseHttp().MapDefaultEndpoints();
    app.MapHome().MapQueries().MapSessions().MapUsers();
    await app.RunAsync();
    return 0;
}
catch (SettingsException e)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}
catch (IOException e) when (e.InnerException?.InnerException is SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse } || e.Message.Contains("in use", StringComparison.Ordinal))
{
    await Console.Error.WriteLineAsync($"{e.Message} Choose another port with --port.");
    return 1;
}
