using Sessions.Api.Commands;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Http;
using Sessions.Api.Http.Auth;
using Sessions.Api.Http.Native;
using Sessions.Api.Http.OpenAi;
using Sessions.Api.Http.WebConsole;
using Sessions.ServiceDefaults;

return await CommandLine.RunAsync(args, async (settings, port) =>
{
    var builder = ApiSettings.CreateBuilder(settings);
    builder.AddLogs().AddServiceDefaults(SessionMetrics.MeterName, AgentCatalog.SourceName);
    builder.AddHttp(port).AddAuth().AddSessions().AddTurns().AddOpenAi().AddConsole().AddBanner();

    var app = builder.Build();
    app.UseHttp().MapDefaultEndpoints();
    app.MapHome().MapQueries().MapAgents().MapSessions().MapUsers().MapCaller().MapActivity().MapOpenAi().MapConsole();
    await app.RunAsync();
});
