using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Sessions.Api.Storage.Postgres;

namespace Sessions.Tests.Processes;

/// <summary>What the programs say when they start, and when they can't.</summary>
public sealed class StartTests : IDisposable
{
    private const string Nowhere = "http://127.0.0.1:1";

    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_server_says_what_it_is_and_where_to_go()
    {
        await File.WriteAllTextAsync(_folder["own.yaml"], """
            agents:
              helper:
                provider: openai
                model: llama
                endpoint: http://localhost:11434/v1
            """, Cancel);
        await using var api = ServiceProcess.Api(("SESSIONS_CONFIG", _folder["own.yaml"]), ("SESSIONS__STORAGE_TYPE", "sqlite"));
        var address = (await api.AddressAsync()).GetLeftPart(UriPartial.Authority);
        await api.SaysAsync("Application started");

        string[] banner =
        [
            $"      Sessions {Sessions.Api.Commands.CommandLine.Version}",
            $"        configuration: {_folder["own.yaml"]}",
            $"        store:         sqlite, {_folder["data/sessions.db"]}",
            "        agents:        advanced (built in, not a language model), helper (llama)",
            "        auth:          none",
            $"        API:           {address}",
            $"        reference:     {address}/scalar",
        ];
        Assert.Equal(banner, api.Lines.SkipWhile(line => line != banner[0]).Take(banner.Length));
        Assert.All(api.Lines.Where(line => line.Length > 0 && line[0] != ' '), line =>
            Assert.Matches(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warn): ", line));
    }

    [Fact]
    public async Task The_log_can_be_JSON()
    {
        await using var api = ServiceProcess.Api(("Logging__Console__FormatterName", "json"));
        await api.SaysAsync("Application started");

        var entries = api.Lines.Select(line => JsonNode.Parse(line)!).ToList();
        var banner = Assert.Single(entries, entry => (string?)entry["Category"] == "Sessions.Api.Commands.Banner");
        Assert.Equal("none", (string?)banner["State"]!["Auth"]);
        Assert.All(entries, entry => Assert.Matches(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", (string?)entry["Timestamp"]));
    }

    [Fact]
    public async Task Each_request_is_a_line_at_Debug_without_what_stands_in_its_address()
    {
        await using var api = ServiceProcess.Api(("Logging__LogLevel__Sessions.Api.Requests", "Debug"));
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };
        foreach (var path in (string[])["/sessions/canary", "/users/canary/sessions?metadata.topic=canary", "/canary"])
        {
            (await client.GetAsync(new Uri(path, UriKind.Relative), Cancel)).Dispose();
        }

        await api.SaysAsync("(no such route)");
        Assert.Contains(api.Lines, line => System.Text.RegularExpressions.Regex.IsMatch(line,
            @"^      GET /sessions/\{session_id\} 404 in \d+\.\d ms$"));
        Assert.Contains(api.Lines, line => System.Text.RegularExpressions.Regex.IsMatch(line,
            @"^      GET /users/\{user_id\}/sessions/? 200 in \d+\.\d ms$"));
        Assert.Contains(api.Lines, line => System.Text.RegularExpressions.Regex.IsMatch(line,
            @"^      GET \(no such route\) 404 in \d+\.\d ms$"));
        Assert.Equal(0, api.Count("canary"));
    }

    [Fact]
    public async Task Variables_that_look_like_settings_are_warned_about()
    {
        await using var api = ServiceProcess.Api(("SESSIONS_STORAGE_TYPE", "canary"));
        await using var janitor = ServiceProcess.Janitor(await api.AddressAsync(), ("SESSIONS_CLEANUP_KEY", "canary"));

        await api.SaysAsync("The environment variable SESSIONS_STORAGE_TYPE is not read. Did you mean SESSIONS__STORAGE_TYPE?");
        await janitor.SaysAsync("The environment variable SESSIONS_CLEANUP_KEY is not read. Did you mean SESSIONS__CLEANUP_KEY?");
        Assert.Equal(0, api.Count("canary") + janitor.Count("canary"));
    }

    [Fact]
    public async Task A_port_in_use_is_one_sentence()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;

        await FailsAsync(["--urls", $"http://127.0.0.1:{port}"],
            $"{port}: address already in use. Choose another port with --port or --urls.");
        await FailsAsync(["--port", $"{port}"], $"{port}: address already in use. Choose another port with --port or --urls.");
    }

    [Theory]
    [InlineData("--urls nonsense", "Invalid url: 'nonsense'")]
    [InlineData("--Logging:Console:FormatterName=jsn",
        "Logging:Console:FormatterName: 'jsn' is not allowed; allowed: simple, json, systemd. Did you mean 'json'?")]
    public Task What_can_not_be_is_one_sentence(string arguments, string message) => FailsAsync(arguments.Split(' '), message);

    [Fact]
    public async Task A_wrong_master_key_is_one_sentence()
    {
        string[] arguments = ["--sessions:storage_type=sqlite", $"--sessions:db_path={_folder["a.db"]}", "--encryption:enabled=true"];
        await using (var api = ServiceProcess.Program(arguments, ("ENCRYPTION__MASTER_KEY", Key('a'))))
        {
            await api.SaysAsync("Application started");
            Assert.Equal(0, await api.StopAsync());
        }

        await FailsAsync(arguments, "encrypted with a master key that this server does not have", ("ENCRYPTION__MASTER_KEY", Key('b')));

        static string Key(char letter) => Convert.ToBase64String(System.Text.Encoding.ASCII.GetBytes(new string(letter, 32)));
    }

    [Theory]
    [InlineData("redis://user:canary@127.0.0.1:1/2", "Redis at 127.0.0.1:1 does not answer")]
    [InlineData("rediss://:canary@127.0.0.1:1", "Redis at 127.0.0.1:1 does not answer")]
    [InlineData("127.0.0.1:1,password=canary", "Redis at 127.0.0.1:1 does not answer")]
    [InlineData("no-such-host.invalid:6379,password=canary", "Redis at no-such-host.invalid:6379 does not answer")]
    [InlineData("redis://:canary@127.0.0.1/two", "is not a Redis connection string (what follows the host is the number of a database)")]
    [InlineData("redis://:canary@127.0.0.1?db=2", "is not a Redis connection string (nothing may follow '?' or '#'")]
    [InlineData("http://:canary@127.0.0.1", "is not a Redis connection string (a URL begins with redis:// or rediss:// and a host)")]
    [InlineData("password=canary", "is not a Redis connection string (it names no server)")]
    [InlineData("127.0.0.1:99999999,password=canary", "ConnectionStrings:redis: ")]
    [InlineData("::::,password=canary", "ConnectionStrings:redis: ")]
    [InlineData("", "needs a connection string; set the environment variable ConnectionStrings__redis")]
    public Task A_Redis_that_can_not_be_had_is_one_sentence_without_its_password(string connection, string message) =>
        FailsAsync(["--sessions:storage_type=redis"], message, ("ConnectionStrings__redis", connection));

    [Theory]
    [InlineData("redis://localhost", "Unspecified/localhost:6379", null, null, null, false)]
    [InlineData("redis://localhost:6380/3", "Unspecified/localhost:6380", null, null, 3, false)]
    [InlineData("rediss://ada:p%40ss%3Aword@redis.example.com", "Unspecified/redis.example.com:6379", "ada", "p@ss:word", null, true)]
    [InlineData("redis://:secret@127.0.0.1:7000/", "127.0.0.1:7000", null, "secret", null, false)]
    [InlineData("redis://secret@[::1]", "[::1]:6379", null, "secret", null, false)]
    [InlineData("localhost:6379,password=secret,defaultDatabase=1", "Unspecified/localhost:6379", null, "secret", 1, false)]
    public void Addresses_of_Redis_are_read_as_they_are_written_elsewhere(string text, string endPoint, string? user, string? password,
        int? database, bool tls)
    {
        var options = RedisConnectionString.Parse(text, "ConnectionStrings:redis", "sessions.storage_type");

        Assert.Equal(endPoint, Assert.Single(options.EndPoints).ToString());
        Assert.Equal((user, password, database, tls), (options.User, options.Password, options.DefaultDatabase, options.Ssl));
    }

    [Theory]
    [InlineData("", "sessions.storage_type: postgres needs a connection string")]
    [InlineData("Host=127.0.0.1;Port=1;Username=u;Password=canary;Database=d",
        "PostgreSQL at 127.0.0.1:1/d: PostgreSQL can't be reached; sessions.storage_type: postgres does not start without it.")]
    [InlineData("postgres://user:canary@127.0.0.1:1/d", "PostgreSQL at 127.0.0.1:1/d: PostgreSQL can't be reached; ")]
    [InlineData("Host=no-such-host.invalid;Password=canary", "PostgreSQL at no-such-host.invalid:5432: PostgreSQL can't be reached; ")]
    [InlineData("Host=127.0.0.1:1,127.0.0.1:2;Username=u;Password=canary", "PostgreSQL at 127.0.0.1:1, 127.0.0.1:2/u: ")]
    [InlineData("Host=127.0.0.1;Pasword=canary", "is not a PostgreSQL connection string; allowed: ")]
    [InlineData("Password=canary", "is not a PostgreSQL connection string (it names no server)")]
    [InlineData("canary", "is not a PostgreSQL connection string; allowed: ")]
    [InlineData("Host=127.0.0.1;Port=canary", "is not a PostgreSQL connection string; allowed: ")]
    [InlineData("mysql://u:canary@127.0.0.1", "is not a PostgreSQL connection string (a URL begins with postgres:// or postgresql://")]
    [InlineData("postgres://u:canary@127.0.0.1/d?pgbouncer=canary", "is not a PostgreSQL connection string (after '?' may follow sslmode,")]
    [InlineData("postgres://u:canary@127.0.0.1/d?sslmode=canary", "is not a PostgreSQL connection string; allowed: ")]
    public Task A_PostgreSQL_that_can_not_be_had_is_one_sentence_without_its_password(string connection, string message) =>
        FailsAsync(["--sessions:storage_type=postgres"], message, ("ConnectionStrings__postgres", connection));

    [Theory]
    [InlineData("postgres://localhost", "localhost", 5432, null, null, null, "Prefer")]
    [InlineData("postgresql://ada:p%40ss%3Aword@db.example.com:6543/chat?sslmode=verify-full&application_name=a", "db.example.com", 6543,
        "ada", "p@ss:word", "chat", "VerifyFull")]
    [InlineData(" postgres://ada@db/chat?sslmode=require&channel_binding=require ", "db", 5432, "ada", null, "chat", "Require")]
    [InlineData("Host=db;Username=ada;Password=http://x?;Database=chat", "db", 5432, "ada", "http://x?", "chat", "Prefer")]
    [InlineData("Server=db;User Id=ada;Port=1", "db", 1, "ada", null, null, "Prefer")]
    public void Addresses_of_PostgreSQL_are_read_as_they_are_written_elsewhere(string text, string host, int port, string? user,
        string? password, string? database, string tls)
    {
        var settings = PostgresConnectionString.Parse(text);

        Assert.Equal((host, port, user, password, database, tls),
            (settings.Host, settings.Port, settings.Username, settings.Password, settings.Database, settings.SslMode.ToString()));
    }

    [Theory]
    [InlineData("not-an-address", "OTEL_EXPORTER_OTLP_ENDPOINT: 'not-an-address' is not an http or https address: no telemetry is sent")]
    [InlineData(Nowhere, "The collector at http://127.0.0.1:1 does not take telemetry (")]
    public async Task A_collector_that_is_none_is_told_once_and_the_server_serves(string endpoint, string message)
    {
        await using var api = ServiceProcess.Api(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"));
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };
        await api.SaysAsync(message);

        (await client.GetAsync(new Uri("/sessions/stats", UriKind.Relative), Cancel)).EnsureSuccessStatusCode();
        Assert.Equal(0, await api.StopAsync());
        Assert.Equal(1, api.Count(message));
    }

    [Fact]
    public async Task A_folder_that_can_not_be_made_is_one_sentence()
    {
        await File.WriteAllTextAsync(_folder["file"], "", Cancel);
        await using var api = ServiceProcess.Program(["--sessions:storage_type=sqlite", $"--sessions:db_path={_folder["file/a.db"]}"]);

        Assert.Equal(1, await api.ExitAsync());
        Assert.Matches(@"^sessions\.db_path: '.*' can't be used: its folder can't be created: .*[^.]\.$", Assert.Single(api.Lines));
    }

    private static async Task FailsAsync(string[] arguments, string message, params (string Key, string Value)[] environment)
    {
        await using var api = ServiceProcess.Program(arguments, environment);

        Assert.Equal(1, await api.ExitAsync());
        var lines = api.Lines.Where(line => !line.Contains("info: Microsoft.Hosting.Lifetime", StringComparison.Ordinal)
            && !line.EndsWith("Application is shutting down...", StringComparison.Ordinal));
        Assert.Contains(message, Assert.Single(lines), StringComparison.Ordinal);
        Assert.Equal(0, api.Count("canary"));
    }
}
