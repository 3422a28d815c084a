using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sessions.AppHost;
using Sessions.ServiceDefaults;
using YamlDotNet.RepresentationModel;

namespace Sessions.Tests.AppHost;

/// <summary>What azd and Docker Compose are given, as the AppHost's own publish operation writes it.</summary>
public sealed partial class PublishTests : IDisposable
{
    private static readonly (string, string) Sqlite = ("SESSIONS__STORAGE_TYPE", "sqlite");
    private static readonly (string, string) Redis = ("SESSIONS__STORAGE_TYPE", "redis");
    private static readonly (string, string) Existing = ("ConnectionStrings__cache", "redis.example.com:6380,password=secret,ssl=true");

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("sessions");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task The_manifest_holds_the_two_services_and_the_key_between_them()
    {
        var manifest = await ManifestAsync();

        // azd refuses a manifest with a resource of a kind that it does not know, such as a Compose environment.
        Assert.Equal(["api: project.v0", "cleanup-key: parameter.v0", "janitor: project.v0"], manifest.Select(entry => $"{entry.Key}: {entry.Value!["type"]}").Order());
        Assert.All(["api", "janitor"], name => Assert.Equal("{cleanup-key.value}", (string?)manifest[name]!["env"]!["SESSIONS__CLEANUP_KEY"]));
        Assert.Equal("memory", (string?)manifest["api"]!["env"]!["SESSIONS__STORAGE_TYPE"]);
        Assert.Equal("{api.bindings.https.url}", (string?)manifest["janitor"]!["env"]!["services__api__https__0"]);
        var key = manifest["cleanup-key"]!["inputs"]!["value"]!;
        Assert.True((bool)key["secret"]!);
        Assert.Equal(32, (int)key["default"]!["generate"]!["minLength"]!);
    }

    [Fact]
    public async Task Only_the_API_is_to_be_reached_from_outside_and_nothing_is_set_up_for_development()
    {
        var manifest = await ManifestAsync();

        Assert.All(manifest["api"]!["bindings"]!.AsObject(), binding => Assert.True((bool)binding.Value!["external"]!));
        Assert.All(manifest["janitor"]!["bindings"]!.AsObject(), binding => Assert.Null(binding.Value!["external"]));
        Assert.All(["api", "janitor"], name => Assert.DoesNotContain(manifest[name]!["env"]!.AsObject(), variable =>
            variable.Key is "ASPNETCORE_ENVIRONMENT" or "DOTNET_ENVIRONMENT" or "ASPIRE_ALLOW_UNSECURED_TRANSPORT" || variable.Key.Contains("CAPTURE_MESSAGE_CONTENT", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Redis_is_a_secret_connection_string_in_the_manifest()
    {
        var manifest = await ManifestAsync(Redis, Existing);

        Assert.Equal(["api: project.v0", "cache: parameter.v0", "cleanup-key: parameter.v0", "janitor: project.v0"], manifest.Select(entry => $"{entry.Key}: {entry.Value!["type"]}").Order());
        Assert.True((bool)manifest["cache"]!["inputs"]!["value"]!["secret"]!);
        Assert.Equal("redis", (string?)manifest["api"]!["env"]!["SESSIONS__STORAGE_TYPE"]);
        Assert.Equal("{cache.connectionString}", (string?)manifest["api"]!["env"]!["ConnectionStrings__cache"]);
        Assert.DoesNotContain("example.com", manifest.ToJsonString(), StringComparison.Ordinal);

        // Where there is none to be known yet, azd asks for it.
        Assert.Equal(manifest.ToJsonString(), (await ManifestAsync(Redis)).ToJsonString());
    }

    [Theory]
    [InlineData("api", "memory", "1")]
    [InlineData("api", "redis", "3")]
    [InlineData("janitor", "memory", "1")]
    public async Task What_azd_deploys_has_the_variables_of_the_manifest_probes_and_as_many_replicas_as_the_store_can_serve(string name, string storage, string replicas)
    {
        var manifest = await ManifestAsync(("SESSIONS__STORAGE_TYPE", storage));
        var template = await File.ReadAllTextAsync(Repository.File("Sessions.AppHost", "infra", $"{name}.tmpl.yaml"), Cancel);

        // What stands in {{ }} is filled in by azd; a YAML reader is not to trip over it.
        template = IfRedis.Replace(template, condition => condition.Groups[storage == "redis" ? 1 : 2].Value);
        var app = Yaml(Placeholder.Replace(template, "0"));

        var container = app["properties"]["template"]["containers"][0];
        Assert.Equal(
            manifest[name]!["env"]!.AsObject().Select(variable => variable.Key).Append("AZURE_CLIENT_ID").Order(StringComparer.Ordinal),
            ((YamlSequenceNode)container["env"]).Select(variable => (string)variable["name"]!).Order(StringComparer.Ordinal));
        Assert.Equal(
            ((YamlSequenceNode)app["properties"]["configuration"]["secrets"]).Select(secret => (string)secret["name"]!),
            ((YamlSequenceNode)container["env"]).Cast<YamlMappingNode>().Where(variable => variable.Children.ContainsKey("secretRef")).Select(variable => (string)variable["secretRef"]!));
        Assert.Equal(["Startup /alive", "Liveness /alive", "Readiness /health"], ((YamlSequenceNode)container["probes"]).Select(probe => $"{probe["type"]} {probe["httpGet"]["path"]}"));
        Assert.Equal(replicas, (string?)app["properties"]["template"]["scale"]["maxReplicas"]);
        Assert.Equal("1", (string?)app["properties"]["template"]["scale"]["minReplicas"]);
        Assert.Equal(name == "api" ? "true" : "false", (string?)app["properties"]["configuration"]["ingress"]["external"]);
        Assert.Equal(name, (string?)app["tags"]["aspire-resource-name"]);
    }

    [Fact]
    public async Task Compose_has_a_Redis_that_writes_everything_to_a_volume_and_wants_a_password()
    {
        var services = await ComposeAsync(Redis);
        var (api, cache) = (services["services"]["api"], services["services"]["cache"]);

        Assert.StartsWith("cache:6379,password=${CACHE_PASSWORD:?", (string?)api["environment"]["ConnectionStrings__cache"], StringComparison.Ordinal);
        Assert.Equal("redis", (string?)api["environment"]["SESSIONS__STORAGE_TYPE"]);
        Assert.DoesNotContain(((YamlMappingNode)api["environment"]).Children.Keys, name => ((string)name!).StartsWith("CACHE_", StringComparison.Ordinal));
        Assert.StartsWith("${CACHE_PASSWORD:?", (string?)cache["environment"]["REDIS_PASSWORD"], StringComparison.Ordinal);
        Assert.StartsWith("redis-server --requirepass $$REDIS_PASSWORD", (string?)cache["command"][1], StringComparison.Ordinal);
        Assert.EndsWith("--appendonly yes --appendfsync always", (string?)cache["command"][1], StringComparison.Ordinal);
        Assert.Equal(("sessions-cache", "/data"), ((string?)cache["volumes"][0]["source"], (string?)cache["volumes"][0]["target"]));
        Assert.Equal("local", (string?)services["volumes"]["sessions-cache"]["driver"]);
        Assert.Equal("unless-stopped", (string?)cache["restart"]);
        Assert.False(((YamlMappingNode)cache).Children.ContainsKey("ports"));
    }

    [Fact]
    public async Task Compose_takes_an_existing_Redis_from_the_env_file()
    {
        var services = (YamlMappingNode)(await ComposeAsync(Redis, Existing))["services"];

        Assert.Equal(["api", "janitor"], services.Children.Keys.Select(name => (string)name!));
        Assert.StartsWith("${CACHE:?", (string?)services["api"]["environment"]["ConnectionStrings__cache"], StringComparison.Ordinal);
        Assert.DoesNotContain("example.com", await File.ReadAllTextAsync(Path.Combine(_folder.FullName, "docker-compose.yaml"), Cancel), StringComparison.Ordinal);
        Assert.Contains("CACHE=\n", await File.ReadAllTextAsync(Path.Combine(_folder.FullName, ".env"), Cancel), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Compose_has_a_volume_for_SQLite_that_the_images_user_may_write_to()
    {
        var services = await ComposeAsync(Sqlite);
        var api = services["services"]["api"];

        Assert.Equal("sqlite", (string?)api["environment"]["SESSIONS__STORAGE_TYPE"]);
        Assert.Equal("/app/data/sessions.db", (string?)api["environment"]["SESSIONS__DB_PATH"]);
        Assert.Equal("/app/data", (string?)api["volumes"][0]["target"]);
        Assert.Equal("sessions-data", (string?)api["volumes"][0]["source"]);
        Assert.Equal("local", (string?)services["volumes"]["sessions-data"]["driver"]);
        Assert.Contains("<ContainerUser>1654</ContainerUser>", await File.ReadAllTextAsync(Repository.File("Sessions.Api", "Sessions.Api.csproj"), Cancel), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Compose_opens_the_API_alone_requires_the_key_and_starts_again_what_falls()
    {
        var services = (YamlMappingNode)(await ComposeAsync())["services"];

        Assert.Equal(["api", "janitor"], services.Children.Keys.Select(name => (string)name!));
        Assert.Equal("${API_PUBLISHED_PORT:-8080}:8080", (string?)services["api"]["ports"][0]);
        Assert.False(((YamlMappingNode)services["janitor"]).Children.ContainsKey("ports"));
        Assert.False(((YamlMappingNode)services["api"]).Children.ContainsKey("volumes"));
        Assert.Equal("http://api:8080", (string?)services["janitor"]["environment"]["services__api__http__0"]);
        Assert.All(services.Children, service =>
        {
            Assert.StartsWith("${CLEANUP_KEY:?", (string?)service.Value["environment"]["SESSIONS__CLEANUP_KEY"], StringComparison.Ordinal);
            Assert.Equal("unless-stopped", (string?)service.Value["restart"]);
            Assert.Equal("8080", (string?)service.Value["environment"]["HTTP_PORTS"]);
            Assert.Equal("true", (string?)service.Value["read_only"]);
            Assert.Equal("/tmp", (string?)service.Value["tmpfs"][0]);
            Assert.Equal("ALL", (string?)service.Value["cap_drop"][0]);
            Assert.Equal("no-new-privileges:true", (string?)service.Value["security_opt"][0]);
            Assert.Equal("40s", (string?)service.Value["stop_grace_period"]);
        });
    }

    [Fact]
    public async Task SQLite_on_Container_Apps_is_refused_with_the_reason()
    {
        await using var appHost = ServiceProcess.AppHost(["--publisher", "manifest", "--output-path", Path.Combine(_folder.FullName, "manifest.json")], Sqlite);

        Assert.NotEqual(0, await appHost.ExitAsync());
        Assert.Equal(1, appHost.Count("network share"));
        Assert.False(File.Exists(Path.Combine(_folder.FullName, "manifest.json")));
    }

    [Theory]
    [InlineData(StorageType.Memory)]
    [InlineData(StorageType.Sqlite)]
    public void More_than_one_replica_is_refused_where_the_store_belongs_to_one_process(StorageType storage)
    {
        var settings = new SessionSettings { StorageType = storage };

        Assert.Equal(1, Deployment.ReadReplicas(settings, null));
        Assert.Equal(1, Deployment.ReadReplicas(settings, "1"));
        var refused = Assert.Throws<SettingsException>(() => Deployment.ReadReplicas(settings, "2"));
        Assert.Contains("a store that they share", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Redis_allows_as_many_replicas_as_are_asked_for_and_a_deployment_counts_them_itself()
    {
        var settings = new SessionSettings { StorageType = StorageType.Redis };

        Assert.Equal(1, Deployment.ReadReplicas(settings, null));
        Assert.Equal(3, Deployment.ReadReplicas(settings, "3"));
        Assert.All(["0", "-1", "two", ""], faulty => Assert.Throws<SettingsException>(() => Deployment.ReadReplicas(settings, faulty)));
        Assert.Equal(1, Deployment.ReadReplicas(settings, "1", published: true));
        Assert.Throws<SettingsException>(() => Deployment.ReadReplicas(settings, "3", published: true));
    }

    private async Task<JsonObject> ManifestAsync(params (string Key, string Value)[] environment)
    {
        var path = Path.Combine(_folder.FullName, "manifest.json");
        await PublishAsync(["--publisher", "manifest", "--output-path", path], environment);
        return JsonNode.Parse(await File.ReadAllTextAsync(path, Cancel))!["resources"]!.AsObject();
    }

    private async Task<YamlNode> ComposeAsync(params (string Key, string Value)[] environment)
    {
        await PublishAsync(["--operation", "publish", "--step", "publish", "--output-path", _folder.FullName], environment);
        return Yaml(await File.ReadAllTextAsync(Path.Combine(_folder.FullName, "docker-compose.yaml"), Cancel));
    }

    private static async Task PublishAsync(string[] arguments, params (string Key, string Value)[] environment)
    {
        await using var appHost = ServiceProcess.AppHost(arguments, environment);
        Assert.True(await appHost.ExitAsync() == 0, string.Join(Environment.NewLine, appHost.Lines));
    }

    private static YamlNode Yaml(string text)
    {
        var yaml = new YamlStream();
        yaml.Load(new StringReader(text));
        return yaml.Documents[0].RootNode;
    }

    [GeneratedRegex(@"\{\{.*?\}\}")]
    private static partial Regex Placeholder { get; }

    [GeneratedRegex(@"\{\{ if eq \.Env\.SESSIONS__STORAGE_TYPE ""redis"" \}\}(.*?)(?:\{\{ else \}\}(.*?))?\{\{ end \}\}", RegexOptions.Singleline)]
    private static partial Regex IfRedis { get; }
}
