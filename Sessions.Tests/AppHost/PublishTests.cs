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

    [Theory]
    [InlineData("api")]
    [InlineData("janitor")]
    public async Task What_azd_deploys_has_the_variables_of_the_manifest_and_one_replica_with_probes(string name)
    {
        var manifest = await ManifestAsync();
        var template = await File.ReadAllTextAsync(Repository.File("Sessions.AppHost", "infra", $"{name}.tmpl.yaml"), Cancel);

        // What stands in {{ }} is filled in by azd; a YAML reader is not to trip over it.
        var app = Yaml(Placeholder.Replace(template, "0"));

        var container = app["properties"]["template"]["containers"][0];
        Assert.Equal(
            manifest[name]!["env"]!.AsObject().Select(variable => variable.Key).Append("AZURE_CLIENT_ID").Order(StringComparer.Ordinal),
            ((YamlSequenceNode)container["env"]).Select(variable => (string)variable["name"]!).Order(StringComparer.Ordinal));
        Assert.Equal(["Startup /alive", "Liveness /alive", "Readiness /health"], ((YamlSequenceNode)container["probes"]).Select(probe => $"{probe["type"]} {probe["httpGet"]["path"]}"));
        Assert.Equal("1", (string?)app["properties"]["template"]["scale"]["maxReplicas"]);
        Assert.Equal("1", (string?)app["properties"]["template"]["scale"]["minReplicas"]);
        Assert.Equal(name == "api" ? "true" : "false", (string?)app["properties"]["configuration"]["ingress"]["external"]);
        Assert.Equal(name, (string?)app["tags"]["aspire-resource-name"]);
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
    public void More_than_one_replica_is_refused_as_long_as_no_store_is_shared(StorageType storage)
    {
        var settings = new SessionSettings { StorageType = storage };

        Deployment.RequireOneReplica(settings, null);
        Deployment.RequireOneReplica(settings, "1");
        var refused = Assert.Throws<SettingsException>(() => Deployment.RequireOneReplica(settings, "2"));
        Assert.Contains("a store that they share", refused.Message, StringComparison.Ordinal);
    }

    private async Task<JsonObject> ManifestAsync()
    {
        var path = Path.Combine(_folder.FullName, "manifest.json");
        await PublishAsync(["--publisher", "manifest", "--output-path", path]);
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
}
