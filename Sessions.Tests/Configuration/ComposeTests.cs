using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Aspire.Hosting.ApplicationModel;
using Aspire.Hosting.Testing;
using Sessions.Api.Storage.Postgres;
using StackExchange.Redis;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Sessions.Tests.Configuration;

/// <summary>
/// <c>deploy/compose.yaml</c>, held to what there is: settings, images, ports, volumes. Its commands and its environment are also run,
/// without containers.
/// </summary>
public sealed partial class ComposeTests : IDisposable
{
    // What is left empty in .env.sample, to be filled in.
    private static readonly Dictionary<string, string> Secrets = new()
    {
        ["SESSIONS__CLEANUP_KEY"] = "a-long-random-text",
        ["REDIS_PASSWORD"] = "anotherlongrandomtext",
        ["POSTGRES_PASSWORD"] = "yetanotherlongrandomtext",
        ["AUTH__KEYS__APP__HASH"] = new('a', 64),
        ["ENCRYPTION__MASTER_KEY"] = Convert.ToBase64String(new byte[32]),
        ["OPENAI_API_KEY"] = "none",
    };

    // What Compose itself reads, and what is the framework's.
    private static readonly string[] OfCompose =
        ["COMPOSE_PROFILES", "PUBLISHED", "API_IMAGE", "JANITOR_IMAGE", "REDIS_PASSWORD", "POSTGRES_PASSWORD"];
    private static readonly string[] OfFramework =
    [
        "HTTP_PORTS", "OTEL_EXPORTER_OTLP_ENDPOINT", "OPENAI_API_KEY", "ConnectionStrings__redis", "ConnectionStrings__postgres",
        "services__api__http__0", "AllowedHosts",
    ];

    private readonly TestFolder _folder = new();
    private readonly YamlMappingNode _file = Read();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private IDictionary<YamlNode, YamlNode> Services => ((YamlMappingNode)_file["services"]).Children;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Every_service_is_without_rights_and_starts_again_when_it_falls()
    {
        Assert.All(Services, service =>
        {
            Assert.DoesNotContain((string?)service.Value["user"], (string?[])[null, "", "0", "root"]);
            Assert.Equal("true", (string?)service.Value["read_only"]);
            Assert.Equal((string)service.Key! == "postgres" ? ["/tmp", "/var/run/postgresql"] : ["/tmp"], Texts(service.Value["tmpfs"]));
            Assert.Equal(["ALL"], Texts(service.Value["cap_drop"]));
            Assert.Equal(["no-new-privileges:true"], Texts(service.Value["security_opt"]));
            Assert.Equal("unless-stopped", (string?)service.Value["restart"]);
            Assert.NotEmpty(Texts(service.Value["healthcheck"]["test"]));
            Assert.False(((YamlMappingNode)service.Value).Children.ContainsKey("privileged"));
        });
    }

    [Theory]
    [InlineData("api", "Sessions.Api")]
    [InlineData("janitor", "Sessions.Janitor")]
    public async Task An_image_is_the_one_that_is_published_and_is_run_as_its_user(string service, string project)
    {
        var text = await File.ReadAllTextAsync(Repository.File(project, project + ".csproj"), Cancel);

        Assert.Contains($"<ContainerRepository>sessions-{service}</ContainerRepository>", text, StringComparison.Ordinal);
        Assert.Contains($"<ContainerUser>{Services[service]["user"]}</ContainerUser>", text, StringComparison.Ordinal);
        Assert.Equal($"sessions-{service}:latest", Fill((string)Services[service]["image"]!, []));
    }

    [Fact]
    public async Task Redis_is_the_one_of_the_AppHost_and_has_a_profile()
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            ["--sessions:storage_type=redis"], Cancel);
        var image = builder.Resources.OfType<RedisResource>().Single().Annotations.OfType<ContainerImageAnnotation>().Single();

        Assert.Equal($"{image.Image}:{image.Tag}", $"library/{Services["redis"]["image"]}");
        Assert.Equal(["redis"], Texts(Services["redis"]["profiles"]));
        Assert.All(["api", "janitor"], name => Assert.False(((YamlMappingNode)Services[name]).Children.ContainsKey("profiles")));
        Assert.Equal("false", (string?)Services["api"]["depends_on"]["redis"]["required"]);
    }

    [Fact]
    public async Task PostgreSQL_is_the_one_of_the_AppHost_has_a_profile_and_is_what_the_API_connects_to()
    {
        await using var builder = await DistributedApplicationTestingBuilder.CreateAsync<Projects.Sessions_AppHost>(
            ["--sessions:storage_type=postgres"], Cancel);
        var resource = builder.Resources.OfType<PostgresServerResource>().Single();
        var image = resource.Annotations.OfType<ContainerImageAnnotation>().Single();

        Assert.Equal($"{image.Image}:{image.Tag}", $"library/{Services["postgres"]["image"]}");
        Assert.Equal(["postgres"], Texts(Services["postgres"]["profiles"]));
        Assert.Equal("false", (string?)Services["api"]["depends_on"]["postgres"]["required"]);
        Assert.Equal(
            Texts(Services["postgres"]["volumes"]).Single().Split(':')[1],
            resource.Annotations.OfType<ContainerMountAnnotation>().Single().Target);

        var server = Environment("postgres", Secrets).ToDictionary();
        var connection = PostgresConnectionString.Parse(
            Environment("api", Secrets).Single(variable => variable.Key == "ConnectionStrings__postgres").Value);
        Assert.Equal(
            ("postgres", 5432, server["POSTGRES_USER"], server["POSTGRES_PASSWORD"], server["POSTGRES_DB"]),
            (connection.Host, connection.Port, connection.Username, connection.Password, connection.Database));
    }

    [Fact]
    public void The_API_alone_is_reached_from_outside_and_on_this_machine_alone()
    {
        Assert.Equal(["127.0.0.1:8080:8080"], Texts(Services["api"]["ports"]).Select(port => Fill(port, [])));
        Assert.All(Services.Where(service => (string?)service.Key != "api"), service =>
            Assert.False(((YamlMappingNode)service.Value).Children.ContainsKey("ports")));
        Assert.Equal("8080", (string?)Services["api"]["environment"]["HTTP_PORTS"]);
        Assert.Equal("http://api:8080", (string?)Services["janitor"]["environment"]["services__api__http__0"]);
        Assert.Equal(["sessions.example.com", "localhost", "api"], Sample(commented: true)["AllowedHosts"].Split(';'));
    }

    [Fact]
    public void What_is_kept_is_on_a_volume()
    {
        var mounted = Services.Values.Select(service => ((YamlMappingNode)service).Children)
            .Where(service => service.ContainsKey("volumes")).SelectMany(service => Texts(service["volumes"])).ToList();

        Assert.Equal(["data:/app/data", "postgres:/var/lib/postgresql", "redis:/data"], mounted.Order());
        Assert.Equal(
            mounted.Select(volume => volume.Split(':')[0]).Order(),
            ((YamlMappingNode)_file["volumes"]).Children.Keys.Select(name => (string)name!).Order());
        Assert.Equal("/app/data/sessions.db", (string?)Services["api"]["environment"]["SESSIONS__DB_PATH"]);
    }

    [Fact]
    public void Whoever_stops_it_waits_longer_than_a_stop_may_take()
    {
        Assert.All(Services, service =>
        {
            var seconds = double.Parse(((string)service.Value["stop_grace_period"]!).TrimEnd('s'), CultureInfo.InvariantCulture);
            Assert.InRange(seconds, new LimitSettings().ShutdownSeconds + GracefulStop.Margin.TotalSeconds + 5, double.MaxValue);
        });
    }

    [Fact]
    public void No_secret_has_a_value_here_and_without_a_key_nothing_starts()
    {
        var sample = Sample(commented: true);

        Assert.All(Secrets.Keys, name => Assert.Equal("", sample[name]));
        Assert.All(["api", "janitor"], name =>
            Assert.Throws<KeyNotFoundException>(() => Fill((string)Services[name]["environment"]["SESSIONS__CLEANUP_KEY"]!, [])));
    }

    [Fact]
    public void Every_variable_is_a_setting_or_is_read_by_Compose()
    {
        var text = File.ReadAllText(Repository.File("deploy", "compose.yaml"));
        var filled = Variable.Matches(text).Select(match => match.Groups["name"].Value).ToHashSet();
        var given = Services.Where(service => (string?)service.Key is "api" or "janitor")
            .SelectMany(service => ((YamlMappingNode)service.Value["environment"]).Children.Keys.Select(key => (string)key!));
        var sample = Sample(commented: true).Keys;
        var sections = ApiSettings.Sections.ToArray().Select(section => section.Name.ToUpperInvariant()).ToList();

        // Whether the section has that key is for the next test.
        Assert.All(given.Concat(sample).Except(OfCompose).Except(OfFramework), name => Assert.Contains(name.Split("__")[0], sections));
        Assert.All(OfCompose, name => Assert.True(filled.Contains(name) || name == "COMPOSE_PROFILES", name));
        Assert.All(OfCompose, name => Assert.Contains(name, sample));
    }

    [Fact]
    public async Task Services_start_with_what_the_sample_and_the_file_give_them_and_are_found_healthy()
    {
        // With every line of the sample, whether it is commented out or not: the API refuses a setting that it does not know.
        var settings = Sample(commented: true).Select(line => (line.Key, Secrets.GetValueOrDefault(line.Key, line.Value))).ToDictionary();
        settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = "";
        await using var api = ServiceProcess.Api([
            .. settings.Select(line => (line.Key, line.Value)),
            .. Environment("api", settings),
            ("SESSIONS__DB_PATH", _folder["sessions.db"])]);
        var address = await api.AddressAsync();

        // By a name, as the API answers to those of the sample alone.
        await using var janitor = ServiceProcess.Janitor(new UriBuilder(address) { Host = "localhost" }.Uri,
            Environment("janitor", settings).Where(variable => variable.Key != "services__api__http__0"));

        await janitor.SaysAsync("0 expired sessions removed");

        Assert.Equal(0, await HealthAsync("api", address));
        Assert.Equal(0, await HealthAsync("janitor", await janitor.AddressAsync()));
        Assert.Equal(0, await api.StopAsync());
        Assert.NotEqual(0, await HealthAsync("api", address));
    }

    [Fact]
    public async Task Redis_wants_a_password_writes_everything_and_is_what_the_API_connects_to()
    {
        Assert.SkipWhen(RedisProcess.Program is null, "There is no redis-server on this machine.");
        var command = Fill(Texts(Services["redis"]["command"])[^1], []);
        using var refused = Shell(command, ("REDISCLI_AUTH", ""));
        await refused.WaitForExitAsync(Cancel);
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("REDIS_PASSWORD is empty", await refused.StandardError.ReadToEndAsync(Cancel), StringComparison.Ordinal);

        var port = FreePort.Find();
        var environment = Environment("redis", Secrets);
        using var redis = Shell($"{command} --port {port} --bind 127.0.0.1 --dir {_folder.Path}", [.. environment]);
        try
        {
            var check = Fill(Texts(Services["redis"]["healthcheck"]["test"])[^1], [])
                .Replace("redis-cli", $"redis-cli -p {port}", StringComparison.Ordinal);
            await ServiceProcess.UntilAsync(async () => await ExitAsync(Shell(check, [.. environment])) == 0);
            Assert.NotEqual(0, await ExitAsync(Shell(check, ("REDISCLI_AUTH", "wrong"))));

            var connection = Environment("api", Secrets).Single(variable => variable.Key == "ConnectionStrings__redis").Value;
            Assert.StartsWith("redis:6379,", connection, StringComparison.Ordinal);
            connection = connection.Replace("redis:6379", $"127.0.0.1:{port}", StringComparison.Ordinal);
            await using var client = await ConnectionMultiplexer.ConnectAsync(
                $"{connection},allowAdmin=true,connectTimeout=60000,syncTimeout=60000,asyncTimeout=60000");
            var server = client.GetServers().Single();
            Assert.Equal("yes", (await server.ConfigGetAsync("appendonly")).Single().Value);
            Assert.Equal("always", (await server.ConfigGetAsync("appendfsync")).Single().Value);
        }
        finally
        {
            redis.Kill();
            await redis.WaitForExitAsync(CancellationToken.None);
        }
    }

    [Fact]
    public async Task Docker_accepts_the_file_with_and_without_profiles()
    {
        Assert.SkipUnless(await ComposeAsync("version") == 0, "There is no Docker with Compose on this machine.");

        var file = Repository.File("deploy", "compose.yaml");
        Assert.Equal(0, await ComposeAsync($"-f {file} config --quiet"));
        Assert.Equal(0, await ComposeAsync($"-f {file} --profile redis config --quiet"));
        Assert.Equal(0, await ComposeAsync($"-f {file} --profile postgres config --quiet"));

        static Task<int> ComposeAsync(string arguments) =>
            ExitAsync(Shell($"docker compose {arguments}", ("SESSIONS__CLEANUP_KEY", "text")));
    }

    private static YamlMappingNode Read()
    {
        using var reader = File.OpenText(Repository.File("deploy", "compose.yaml"));
        var yaml = new YamlStream();
        yaml.Load(new MergingParser(new Parser(reader)));
        return (YamlMappingNode)yaml.Documents[0].RootNode;
    }

    private static Dictionary<string, string> Sample(bool commented) => File.ReadLines(Repository.File("deploy", ".env.sample"))
        .Select(line => SampleLine.Match(line)).Where(match => match.Success && (commented || match.Groups["comment"].Length == 0))
        .ToDictionary(match => match.Groups["name"].Value, match => match.Groups["value"].Value);

    /// <summary>What stands in ${…} filled in, as Compose does.</summary>
    private static string Fill(string text, Dictionary<string, string> variables) => Variable.Replace(text, match =>
        match.Value == "$$" ? "$"
        : variables.GetValueOrDefault(match.Groups["name"].Value) is { Length: > 0 } value ? value
        : match.Groups["kind"].Value == "?" ? throw new KeyNotFoundException(match.Groups["other"].Value)
        : Fill(match.Groups["other"].Value, variables));

    private static string[] Texts(YamlNode node) => [.. ((YamlSequenceNode)node).Select(item => (string)item!)];

    private static Process Shell(string command, params (string Key, string Value)[] environment)
    {
        var start = new ProcessStartInfo("bash", ["-c", command]) { RedirectStandardError = true, RedirectStandardOutput = true };
        foreach (var (key, value) in environment)
        {
            start.Environment[key] = value;
        }

        return Process.Start(start)!;
    }

    private static async Task<int> ExitAsync(Process process)
    {
        using (process)
        {
            await process.WaitForExitAsync(Cancel);
            return process.ExitCode;
        }
    }

    private IEnumerable<(string Key, string Value)> Environment(string service, Dictionary<string, string> variables) =>
        ((YamlMappingNode)Services[service]["environment"]).Children
            .Select(entry => ((string)entry.Key!, Fill((string)entry.Value!, variables)));

    private Task<int> HealthAsync(string service, Uri address)
    {
        var check = Texts(Services[service]["healthcheck"]["test"]);
        Assert.Equal(["CMD", "bash", "-c"], check[..3]);
        return ExitAsync(Shell(Fill(check[3], []).Replace("127.0.0.1/8080", $"127.0.0.1/{address.Port}", StringComparison.Ordinal)));
    }

    [GeneratedRegex(@"\$\$|\$\{(?<name>\w+)(?::(?<kind>[-?])(?<other>(?:[^${}]|\$\{[^}]*\})*))?\}")]
    private static partial Regex Variable { get; }

    [GeneratedRegex(@"^(?<comment>#?)(?<name>[A-Za-z_0-9]+)=(?<value>.*)$")]
    private static partial Regex SampleLine { get; }
}
