using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sessions.AppHost;
using Sessions.ServiceDefaults;
using YamlDotNet.RepresentationModel;

namespace Sessions.Tests.AppHost;

/// <summary>What azd is given: the manifest as the AppHost writes it, and the templates beside it.</summary>
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

        // azd refuses a manifest with a resource of a kind that it does not know.
        Assert.Equal(["api: project.v0", "cleanup-key: parameter.v0", "janitor: project.v0"], Kinds(manifest));
        Assert.All(["api", "janitor"], name =>
            Assert.Equal("{cleanup-key.value}", (string?)manifest[name]!["env"]!["SESSIONS__CLEANUP_KEY"]));
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
            variable.Key is "ASPNETCORE_ENVIRONMENT" or "DOTNET_ENVIRONMENT" or "ASPIRE_ALLOW_UNSECURED_TRANSPORT"
            || variable.Key.Contains("CAPTURE_MESSAGE_CONTENT", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Redis_is_a_secret_connection_string_in_the_manifest()
    {
        var manifest = await ManifestAsync(Redis, Existing);

        Assert.Equal(["api: project.v0", "cache: parameter.v0", "cleanup-key: parameter.v0", "janitor: project.v0"], Kinds(manifest));
        Assert.True((bool)manifest["cache"]!["inputs"]!["value"]!["secret"]!);
        Assert.Equal("redis", (string?)manifest["api"]!["env"]!["SESSIONS__STORAGE_TYPE"]);
        Assert.Equal("{cache.connectionString}", (string?)manifest["api"]!["env"]!["ConnectionStrings__cache"]);
        Assert.DoesNotContain("example.com", manifest.ToJsonString(), StringComparison.Ordinal);

        // Where there is none to be known yet, azd asks for it.
        Assert.Equal(manifest.ToJsonString(), (await ManifestAsync(Redis)).ToJsonString());
    }

    [Fact]
    public async Task PostgreSQL_is_a_secret_connection_string_in_the_manifest()
    {
        var manifest = await ManifestAsync(
            ("SESSIONS__STORAGE_TYPE", "postgres"), ("ConnectionStrings__postgres", "Host=db.example.com;Password=secret"));

        Assert.Equal(["api: project.v0", "cleanup-key: parameter.v0", "janitor: project.v0", "postgres: parameter.v0"], Kinds(manifest));
        Assert.True((bool)manifest["postgres"]!["inputs"]!["value"]!["secret"]!);
        Assert.Equal("postgres", (string?)manifest["api"]!["env"]!["SESSIONS__STORAGE_TYPE"]);
        Assert.Equal("{postgres.connectionString}", (string?)manifest["api"]!["env"]!["ConnectionStrings__postgres"]);
        Assert.DoesNotContain("example.com", manifest.ToJsonString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("api", "memory", "1")]
    [InlineData("api", "redis", "3")]
    [InlineData("api", "postgres", "3")]
    [InlineData("janitor", "memory", "1")]
    public async Task What_azd_deploys_has_the_variables_of_the_manifest_probes_and_as_many_replicas_as_the_store_can_serve(
        string name, string storage, string replicas)
    {
        var manifest = await ManifestAsync(("SESSIONS__STORAGE_TYPE", storage));
        var template = await File.ReadAllTextAsync(Repository.File("Sessions.AppHost", "infra", $"{name}.tmpl.yaml"), Cancel);

        // What stands in {{ }} is filled in by azd; a YAML reader is not to trip over it.
        template = IfStore.Replace(template, condition =>
            condition.Groups[condition.Groups["stores"].Value.Contains($"\"{storage}\"", StringComparison.Ordinal)
                ? "then"
                : "else"].Value);
        var app = Yaml(Placeholder.Replace(template, "0"));

        var container = app["properties"]["template"]["containers"][0];
        Assert.Equal(
            manifest[name]!["env"]!.AsObject().Select(variable => variable.Key).Append("AZURE_CLIENT_ID").Order(StringComparer.Ordinal),
            ((YamlSequenceNode)container["env"]).Select(variable => (string)variable["name"]!).Order(StringComparer.Ordinal));
        Assert.Equal(
            ((YamlSequenceNode)app["properties"]["configuration"]["secrets"]).Select(secret => (string)secret["name"]!),
            ((YamlSequenceNode)container["env"]).Cast<YamlMappingNode>()
                .Where(variable => variable.Children.ContainsKey("secretRef")).Select(variable => (string)variable["secretRef"]!));
        Assert.Equal(
            ["Startup Host=localhost /alive", "Liveness Host=localhost /alive", "Readiness Host=localhost /health"],
            ((YamlSequenceNode)container["probes"]).Select(probe =>
            {
                var (get, header) = (probe["httpGet"], probe["httpGet"]["httpHeaders"][0]);
                return $"{probe["type"]} {header["name"]}={header["value"]} {get["path"]}";
            }));
        Assert.Equal(replicas, (string?)app["properties"]["template"]["scale"]["maxReplicas"]);
        Assert.Equal("1", (string?)app["properties"]["template"]["scale"]["minReplicas"]);
        Assert.Equal(name == "api" ? "true" : "false", (string?)app["properties"]["configuration"]["ingress"]["external"]);
        Assert.Equal(name, (string?)app["tags"]["aspire-resource-name"]);
    }

    [Fact]
    public async Task SQLite_on_Container_Apps_is_refused_with_the_reason()
    {
        await using var appHost = ServiceProcess.AppHost(
            ["--publisher", "manifest", "--output-path", Path.Combine(_folder.FullName, "manifest.json")], Sqlite);

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

    [Theory]
    [InlineData(StorageType.Redis)]
    [InlineData(StorageType.Postgres)]
    public void A_store_that_is_shared_allows_as_many_replicas_as_are_asked_for_and_a_deployment_counts_them_itself(StorageType storage)
    {
        var settings = new SessionSettings { StorageType = storage };

        Assert.Equal(1, Deployment.ReadReplicas(settings, null));
        Assert.Equal(3, Deployment.ReadReplicas(settings, "3"));
        Assert.All(["0", "-1", "two", ""], faulty => Assert.Throws<SettingsException>(() => Deployment.ReadReplicas(settings, faulty)));
        Assert.Equal(1, Deployment.ReadReplicas(settings, "1", published: true));
        Assert.Throws<SettingsException>(() => Deployment.ReadReplicas(settings, "3", published: true));
    }

    private static IEnumerable<string> Kinds(JsonObject manifest) =>
        manifest.Select(entry => $"{entry.Key}: {entry.Value!["type"]}").Order();

    private async Task<JsonObject> ManifestAsync(params (string Key, string Value)[] environment)
    {
        var path = Path.Combine(_folder.FullName, "manifest.json");
        await PublishAsync(["--publisher", "manifest", "--output-path", path], environment);
        return JsonNode.Parse(await File.ReadAllTextAsync(path, Cancel))!["resources"]!.AsObject();
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

    [GeneratedRegex(
        @"\{\{ if eq \.Env\.SESSIONS__STORAGE_TYPE (?<stores>[\w"" ]+) \}\}(?<then>.*?)(?:\{\{ else \}\}(?<else>.*?))?\{\{ end \}\}",
        RegexOptions.Singleline)]
    private static partial Regex IfStore { get; }
}
