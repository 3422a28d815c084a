using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Sessions.Api.Engine.Agents;
using Sessions.Api.Http.Auth;
using Sessions.Api.Storage.Postgres;
using Sessions.Api.Storage.Redis;
using Sessions.Api.Storage.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>What the log says once the server listens: what it is, what it was configured by, and where to go.</summary>
internal sealed partial class Banner(
    IServer server, IConfiguration configuration, SessionSettings sessions, AuthSettings auth, AgentsSettings agents,
        EndpointDataSource endpoints, ILogger<Banner> logger) : IHostedLifecycleService
{
    private static readonly (string Name, string Path)[] Pages = [("API", "/"), ("reference", "/scalar"), ("console", "/console")];

    // Only now is it known where the server listens.
    public Task StartedAsync(CancellationToken cancellationToken)
    {
        var (file, store, all, mode, addresses) =
            (YamlConfiguration.FileOf(configuration) ?? "no file", Store(), Agents(), Settings.NameOf(auth.Mode), Addresses());
        Log.Started(logger, CommandLine.Version, file, store, all, mode, addresses);
        return Task.CompletedTask;
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private string Store() => sessions.StorageType switch
    {
        StorageType.Memory => "memory: sessions are lost when the process ends",
        StorageType.Sqlite => $"sqlite, {SqliteFile.Locate(sessions.DbPath, YamlConfiguration.BaseFolder(configuration))}",
        StorageType.Redis => $"redis, {string.Join(", ", RedisConnectionString.Read(configuration, "sessions.storage_type").EndPoints)}",
        StorageType.Postgres => $"postgres, {PostgresConnectionString.Describe(PostgresConnectionString.Read(configuration))}",
        _ => Settings.NameOf(sessions.StorageType),
    };

    private string Agents()
    {
        var names = agents.Keys.Append(AgentsSettings.Default).Distinct(StringComparer.OrdinalIgnoreCase).Order(StringComparer.Ordinal);
        return string.Join(", ", names.Select(name => agents.GetValueOrDefault(name) is { Provider: not AgentProvider.Builtin } agent
            ? $"{name} ({agent.Model})" : $"{name} (built in, not a language model)"));
    }

    private string Addresses()
    {
        var paths = endpoints.Endpoints.OfType<RouteEndpoint>()
            .Select(endpoint => $"/{endpoint.RoutePattern.RawText?.Trim('/')}").ToList();
        var pages = Pages
            .Where(page => paths.Any(path => path == page.Path || path.StartsWith($"{page.Path}/", StringComparison.Ordinal))).ToList();
        var addresses = server.Features.Get<IServerAddressesFeature>()?.Addresses ?? [];
        return string.Join(Environment.NewLine, addresses.SelectMany(address =>
            pages.Select(page => $"  {$"{page.Name}:",-15}{address.TrimEnd('/')}{page.Path.TrimEnd('/')}")));
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 90, Level = LogLevel.Information, Message = """
            Sessions {Version}
              configuration: {Configuration}
              store:         {Store}
              agents:        {Agents}
              auth:          {Auth}
            {Addresses}
            """)]
        public static partial void Started(ILogger logger, string version, string configuration, string store, string agents,
            string auth, string addresses);
    }
}
