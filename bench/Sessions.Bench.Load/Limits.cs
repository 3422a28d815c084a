using System.Text.Json;
using System.Text.Json.Serialization;
using Sessions.Api.Storage.Postgres;
using Sessions.Bench.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Bench.Load;

/// <summary>
/// What our server is measured beside: bare Kestrel, with routes that a minimal API maps, that parses the same bodies and answers
/// ready-made bytes; alone, or with the
/// plainest work on SQLite or Redis in between.
/// </summary>
internal static class Limits
{
    public const string Bare = "bare";
    public const string Sqlite = "sqlite";
    public const string Redis = "redis";
    public const string Postgres = "postgres";
    public const string OneByOne = "one-by-one";
    public const string Model = "model";
    public const string PassThrough = "pass-through";

    // About what the agent that is built in answers to the queries of this benchmark.
    public static readonly string Response = new('r', 400);

    /// <summary>Serves until the process is ended.</summary>
    /// <param name="kind">Which of them.</param>
    /// <param name="where">The SQLite file, the address of Redis or the model, or PostgreSQL's connection string.</param>
    public static async Task ServeAsync(string kind, string where)
    {
        switch (kind)
        {
            case OneByOne:
                await ServeOneByOneAsync(where);
                return;
            case Model:
                await MockModel.ServeAsync();
                return;
        }

        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.AddServerHeader = false);
        builder.Services.ConfigureHttpJsonOptions(options =>
        {
            options.SerializerOptions.PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower;
            options.SerializerOptions.TypeInfoResolverChain.Insert(0, LimitJson.Default);
        });
        await using var app = builder.Build();
        switch (kind)
        {
            case Bare:
                app.MapGet("/bare/{bytes:int}", (int bytes) => ReadyJson.Of(bytes));
                app.MapPost("/bare/created/{bytes:int}",
                    (NewSessionBody body, int bytes) => ReadyJson.Of(bytes, StatusCodes.Status201Created));
                app.MapPost("/bare/{bytes:int}", (QueryBody body, int bytes) => ReadyJson.Of(bytes));
                break;
            case Sqlite:
                MapSqlite(app, new PlainLoop(where));
                break;
            case Redis:
                MapRedis(app, await RedisTurns.ConnectAsync(where));
                break;
            case PassThrough:
                Load.PassThrough.Map(app, where);
                break;
            case Postgres:
                MapPostgres(app, new PostgresTurns(PostgresDatabase.Open(where)));
                break;
        }

        await app.StartAsync();
        Console.WriteLine($"Now listening on: {app.Urls.First()}");
        await app.WaitForShutdownAsync();
    }

    // Our own server on SQLite, but that each change is a commit of its own.
    private static async Task ServeOneByOneAsync(string where)
    {
        string[] args =
        [
            "--hostBuilder:reloadConfigOnChange=false", "--sessions:storage_type=sqlite", $"--sessions:db_path={where}",
            "--urls=http://127.0.0.1:0",
        ];
        var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions
        {
            Args = args,
            ContentRootPath = AppContext.BaseDirectory,
        });
        builder.AddSettings(ApiSettings.Sections);
        builder.AddServiceDefaults(SessionMetrics.MeterName, AgentCatalog.SourceName);
        builder.AddHttp(port: null).AddAuth().AddSessions().AddTurns();
        await using var app = builder.Build();
        app.UseHttp().MapDefaultEndpoints();
        app.MapHome().MapQueries().MapSessions().MapUsers();
        ((SqliteSessionStore)app.Services.GetRequiredService<ISessionStore>()).Writer.MaxPerCommit = 1;
        await app.RunAsync();
    }

    // One transaction for each append; who waits for the connection holds no thread meanwhile.
    private static void MapSqlite(WebApplication app, PlainLoop plain)
    {
        var connection = new SemaphoreSlim(1);
        var known = new HashSet<string>();
        app.MapPost("/sqlite/{bytes:int}", async (QueryBody body, int bytes) =>
        {
            await connection.WaitAsync();
            try
            {
                if (known.Add(body.ThreadId))
                {
                    plain.Create(body.ThreadId);
                }

                plain.Append(body.ThreadId, body.Query, Response);
            }
            finally
            {
                connection.Release();
            }

            return ReadyJson.Of(bytes);
        });
    }

    // Without HTTP: as many at a time as there would be clients, in this process.
    private static void MapPostgres(WebApplication app, PostgresTurns turns) =>
        app.MapGet("/postgres/{workload}/{clients:int}/{milliseconds:int}", async (string workload, int clients, int milliseconds) =>
            TypedResults.Ok(await turns.RunAsync(workload, clients, TimeSpan.FromMilliseconds(milliseconds))));

    private static void MapRedis(WebApplication app, RedisTurns turns)
    {
        app.MapPost("/redis/{bytes:int}", async (QueryBody body, int bytes) =>
        {
            // Our server has the sessions of that name.
            await turns.AppendAsync($"driver-{body.ThreadId}", $"driver-{body.UserId}", body.Query, Response);
            return ReadyJson.Of(bytes);
        });

        // Without HTTP: as many at a time as there would be clients, in this process.
        app.MapGet("/redis/alone/{clients:int}/{milliseconds:int}", async (int clients, int milliseconds) =>
            TypedResults.Ok(await turns.RunAsync(clients, TimeSpan.FromMilliseconds(milliseconds))));
    }
}

/// <summary>What <c>POST /query</c> is sent.</summary>
internal sealed record QueryBody(string Query, string ThreadId, string UserId);

/// <summary>What <c>POST /sessions</c> is sent.</summary>
internal sealed record NewSessionBody(string UserId);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Measurement))]
[JsonSerializable(typeof(NewSessionBody))]
[JsonSerializable(typeof(QueryBody))]
internal sealed partial class LimitJson : JsonSerializerContext;
