using System.Net;
using System.Net.Sockets;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Processes;

/// <summary>What the API's program makes of its command line.</summary>
public sealed class CommandLineTests : IDisposable
{
    private static readonly string[] Commands =
        ["serve", "config", "check", "backup", "backup-keys", "restore", "migrate", "export", "import", "key", "rekey"];

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("--storage_type=sqlite", "'--storage_type' is not an option. Did you mean '--sessions:storage_type'?")]
    [InlineData("--storage-type sqlite", "'--storage-type' is not an option. Did you mean '--sessions:storage_type'?")]
    [InlineData("--session:storage_type=sqlite", "'--session:storage_type' is not an option. Did you mean '--sessions:storage_type'?")]
    [InlineData("storage_type=sqlite", "'storage_type' is not an option. Did you mean '--sessions:storage_type'?")]
    [InlineData("--sessions:storage_type", "'--sessions:storage_type' needs a value")]
    [InlineData("--prot 9000", "'--prot' is not an option. Did you mean '--port'?")]
    [InlineData("--conifg x", "'--conifg' is not an option. Did you mean '--config'?")]
    [InlineData("--port", "--port needs a value")]
    [InlineData("--port many", "--port: 'many' is not allowed; allowed: a whole number from 1 to 65535.")]
    [InlineData("--port 65536", "--port: '65536' is not allowed")]
    [InlineData("--port 0", "--port: '0' is not allowed")]
    [InlineData("--config", "--config needs a value")]
    [InlineData("--config=", "--config needs a value")]
    [InlineData("check --config", "--config needs a value")]
    [InlineData("--port 9000 --urls http://127.0.0.1:0", "--port and --urls exclude one another.")]
    [InlineData("bakcup x", "'bakcup' is not a command. Did you mean 'backup'?")]
    [InlineData("backup", "The argument FILE is missing: where to write the copy")]
    [InlineData("backup a b", "'b' is one argument too many.")]
    [InlineData("key ci", "The argument SCOPES is missing: what it is good for")]
    [InlineData("check --port 9000", "'--port' is not an option.")]
    public async Task What_can_not_be_understood_is_refused_with_what_was_perhaps_meant(string arguments, string message)
    {
        await using var program = ServiceProcess.Program(arguments.Split(' '));

        Assert.Equal(2, await program.ExitAsync());
        await program.SaysAsync(message);
        await program.SaysAsync("--help' shows what there is.");
    }

    [Fact]
    public async Task Values_that_were_not_understood_are_not_repeated()
    {
        await using var program = ServiceProcess.Program(["--encryption_master_key=canary"]);

        Assert.Equal(2, await program.ExitAsync());
        await program.SaysAsync("Did you mean '--encryption:master_key'?");
        Assert.Equal(0, program.Count("canary"));
    }

    [Theory]
    [InlineData("--config nowhere.yaml", "names 'nowhere.yaml', but there is no such file.")]
    [InlineData("--sessions:storage_typ=sqlite",
        "command line --sessions:storage_typ: sessions.storage_typ: unknown key; allowed: storage_type,")]
    [InlineData("export x", "sessions.storage_type is memory")]
    [InlineData("check --sessions:storage_type=sqlite --sessions:db_path=/nowhere/a.db",
        "'/nowhere/a.db' can't be used: there is no such file.")]
    [InlineData("export x --sessions:storage_type=sqlite --sessions:db_path=/nowhere/a.db",
        "'/nowhere/a.db' can't be used: there is no such file.")]
    [InlineData("key ci usr", "The argument SCOPES: 'usr' is not a scope; allowed: user, service, admin, read_all. Did you mean 'user'?")]
    [InlineData("key ci user", "The argument USER is missing; the scope user needs it.")]
    public async Task What_can_not_be_done_is_one_sentence_and_exit_code_1(string arguments, string message)
    {
        await using var program = ServiceProcess.Program(arguments.Split(' '));

        Assert.Equal(1, await program.ExitAsync());
        await program.SaysAsync(message);
        Assert.Single(program.Lines);
    }

    [Theory]
    [InlineData("--help")]
    [InlineData("-h")]
    public async Task Help_names_every_command_and_each_has_its_own(string option)
    {
        await using var help = ServiceProcess.Program([option]);
        Assert.Equal(0, await help.ExitAsync());
        await help.SaysAsync("Exit codes: 0 done");
        Assert.All(Commands, command => Assert.Contains(help.Lines, line => line.StartsWith($"  {command} ", StringComparison.Ordinal)));

        foreach (var command in Commands)
        {
            await using var own = ServiceProcess.Program([command, option]);
            Assert.Equal(0, await own.ExitAsync());
            await own.SaysAsync($"Sessions.Api {command}");
        }
    }

    [Theory]
    [InlineData("--version")]
    [InlineData("backup --version")]
    public async Task The_version_is_that_of_the_product(string arguments)
    {
        await using var program = ServiceProcess.Program(arguments.Split(' '));

        Assert.Equal(0, await program.ExitAsync());
        await program.SaysAsync(Sessions.Api.Commands.CommandLine.Version);
        Assert.Equal(Sessions.Api.Commands.CommandLine.Version, Assert.Single(program.Lines));
    }

    [Fact]
    public async Task A_server_takes_its_port_its_file_and_its_settings_from_the_command_line()
    {
        var port = FreePort.Find();
        await File.WriteAllTextAsync(_folder["own.yaml"], "sessions:\n  storage_type: sqlite\n", TestContext.Current.CancellationToken);

        await using var server = ServiceProcess.Program(
            ["--config", _folder["own.yaml"], "-p", $"{port}", "--sessions:db_path", "own.db"]);

        Assert.Equal(port, (await server.AddressAsync()).Port);
        await server.SaysAsync($"store:         sqlite, {_folder["own.db"]}");
        Assert.True(File.Exists(_folder["own.db"]));
        Assert.Equal(0, await server.StopAsync());
    }

    [Fact]
    public async Task The_configuration_in_force_is_shown_with_where_it_comes_from_and_without_secrets()
    {
        await File.WriteAllTextAsync(_folder["own.yaml"], """
            sessions:
              storage_type: sqlite
            agents:
              helper:
                instructions: "Say \"hi\": always\n"
            auth:
              keys:
                ci:
                  hash: 5eec7fc8eaafffa0909f1cf9f4602b383aebcd62376acd3132957dd5a3a9816b
                  scopes: [service, admin]
            """, TestContext.Current.CancellationToken);

        await using var program = ServiceProcess.Program(
            ["config", "--config", _folder["own.yaml"], "--limits:page_size=5"],
            ("SESSIONS__TIMEOUT_HOURS", "0.5"), ("SESSIONS__CLEANUP_KEY", "canary"), ("ConnectionStrings__redis", "canary"),
                ("OPENAI_API_KEY", "canary"));

        Assert.Equal(0, await program.ExitAsync());
        await program.SaysAsync("include_content");
        Assert.Equal(0, program.Count("canary"));
        Assert.Matches($"^  storage_type: sqlite +# {_folder["own.yaml"]}, line 2$",
            program.Lines.Single(line => line.Contains(" storage_type:", StringComparison.Ordinal)));
        Assert.Matches("^  timeout_hours: 0.5 +# environment variable SESSIONS__TIMEOUT_HOURS$",
            program.Lines.Single(line => line.StartsWith("  timeout_hours: 0.5", StringComparison.Ordinal)));
        Assert.Matches("^  page_size: 5 +# command line --limits:page_size$",
            program.Lines.Single(line => line.Contains("page_size:", StringComparison.Ordinal)));
        Assert.Matches("^  max_sessions_per_user: 10 +# default$",
            program.Lines.Single(line => line.Contains("max_sessions", StringComparison.Ordinal)));
        Assert.Contains("  # cleanup_key: ********  environment variable SESSIONS__CLEANUP_KEY", program.Lines);

        // It is a config.yaml that says the same.
        await File.WriteAllLinesAsync(_folder["shown.yaml"], program.Lines, TestContext.Current.CancellationToken);
        await using var again = ServiceProcess.Program(["config", "--config", _folder["shown.yaml"]]);
        Assert.Equal(0, await again.ExitAsync());
        await again.SaysAsync("include_content");
        Assert.Equal(Values(program), Values(again));
    }

    [Fact]
    public async Task What_the_command_prints_for_a_key_can_be_pasted()
    {
        await using var made = ServiceProcess.Program(["key", "CI", "user,admin", "ada \"x\\y\""]);
        Assert.Equal(0, await made.ExitAsync());
        await made.SaysAsync("user_id");
        var yaml = made.Lines.SkipWhile(line => line != "auth:").ToList();
        await File.WriteAllLinesAsync(_folder["own.yaml"], yaml, TestContext.Current.CancellationToken);
        var key = made.Lines.Single(line => line.StartsWith("sess_", StringComparison.Ordinal));

        await using var server = ServiceProcess.Program(["--config", _folder["own.yaml"]]);
        using var client = new HttpClient { BaseAddress = await server.AddressAsync() };
        client.DefaultRequestHeaders.Add("X-API-Key", key);
        using var answer = await client.GetAsync(new Uri("/sessions/stats", UriKind.Relative), TestContext.Current.CancellationToken);

        Assert.Equal(System.Net.HttpStatusCode.OK, answer.StatusCode);
    }

    [Theory]
    [InlineData("--session:timeout_hours=1", "'--session:timeout_hours' is not an option. Did you mean '--sessions:timeout_hours'?")]
    [InlineData("now", "'now' is not an option.")]
    [InlineData("--conifg=x", "'--conifg' is not an option. Did you mean '--config'?")]
    [InlineData("--config", "'--config' needs a value")]
    [InlineData("--config=", "'--config' needs a value")]
    [InlineData("--config=nowhere.yaml", "names 'nowhere.yaml', but there is no such file.")]
    public async Task The_janitor_refuses_what_it_does_not_know(string argument, string message)
    {
        await using var janitor = ServiceProcess.Janitor([argument], new Uri("http://127.0.0.1:1"));

        Assert.Equal(1, await janitor.ExitAsync());
        await janitor.SaysAsync(message);
    }

    [Fact]
    public async Task The_janitor_takes_its_file_from_the_command_line()
    {
        await File.WriteAllTextAsync(_folder["own.yaml"], "sessions:\n  timeout_hours: never\n", TestContext.Current.CancellationToken);

        await using var janitor = ServiceProcess.Janitor(["--config", _folder["own.yaml"]], new Uri("http://127.0.0.1:1"));

        Assert.Equal(1, await janitor.ExitAsync());
        await janitor.SaysAsync($"{_folder["own.yaml"]}, line 2: sessions.timeout_hours: ");
    }

    [Fact]
    public async Task The_janitor_whose_port_is_in_use_names_the_option_it_has()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;

        await using var janitor = ServiceProcess.Janitor(["--urls", $"http://127.0.0.1:{port}"], new Uri("http://127.0.0.1:1"));

        Assert.Equal(1, await janitor.ExitAsync());
        await janitor.SaysAsync($"{port}: address already in use. Choose another port with --urls.");
    }

    [Theory]
    [InlineData("--storage_type=sqlite", "'--storage_type' is not an option. Did you mean '--sessions:storage_type'?")]
    [InlineData("--prot 8081", "'--prot' is not an option. Did you mean '--port'?")]
    [InlineData("--port many", "--port: 'many' is not allowed; allowed: a whole number from 1 to 65535.")]
    [InlineData("--port", "--port: '' is not allowed")]
    [InlineData("--conifg x", "'--conifg' is not an option. Did you mean '--config'?")]
    [InlineData("--config", "'--config' needs a value.")]
    [InlineData("--config nowhere.yaml", "names 'nowhere.yaml', but there is no such file.")]
    public async Task The_AppHost_refuses_what_is_nearly_meant_for_the_API(string arguments, string message)
    {
        await using var appHost = ServiceProcess.AppHost(arguments.Split(' '));

        Assert.Equal(1, await appHost.ExitAsync());
        await appHost.SaysAsync(message);
    }

    [Fact]
    public void The_AppHost_takes_what_is_meant_for_the_API_and_leaves_the_rest_to_Aspire()
    {
        var (port, config, variables) = CommandLineSettings.HandOn(
            ["--operation", "publish", "-p", "8081", "--config", "own.yaml", "--limits:page_size", "7", "--replicas=2",
                "--rate_limit:burst=1", "--Logging:LogLevel:Default=Debug"]);

        Assert.Equal(((ushort)8081, "own.yaml"), (port!.Value, config));
        Assert.Equal([("LIMITS__PAGE_SIZE", "7"), ("RATE_LIMIT__BURST", "1")], variables);
        Assert.Equal(ApiSettings.Sections.ToArray().Select(section => section.Name).Order(), CommandLineSettings.SectionNames.Order());
    }

    [Theory]
    [InlineData("timeout", "timeout_hours")]
    [InlineData("timeout_hour", "timeout_hours")]
    [InlineData("timeoutHours", "timeout_hours")]
    [InlineData("max-sessions-per-user", "max_sessions_per_user")]
    [InlineData("storage", "storage_type")]
    [InlineData("x", null)]
    [InlineData("", null)]
    [InlineData("colour", null)]
    public void What_is_near_is_found_and_nothing_else(string given, string? meant) =>
        Assert.Equal(meant, NearMiss.Find(given,
            ["storage_type", "db_path", "cache", "timeout_hours", "cleanup_interval_minutes", "max_sessions_per_user"]));

    private static List<string> Values(ServiceProcess program) =>
        [.. program.Lines.Select(line => line.Split("  #")[0].TrimEnd())
            .Where(line => line.Length > 0 && !line.TrimStart().StartsWith('#'))];
}
