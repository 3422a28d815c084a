using System.Diagnostics;
using System.Formats.Tar;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sessions.Tests.Configuration;

/// <summary>
/// The images that the SDK makes, written into archives and looked into. Their base is a registry's: here an empty one, of a registry in
/// this process.
/// </summary>
public sealed class ImageTests : IDisposable
{
    private const string BaseUser = "1000";

    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("Sessions.Api", "sessions-api")]
    [InlineData("Sessions.Janitor", "sessions-janitor")]
    public async Task An_image_holds_the_program_and_runs_it_without_rights(string project, string image)
    {
        await using var registry = await RegistryAsync();
        var archive = _folder["image.tar.gz"];
        await PublishAsync(project, $"localhost:{new Uri(registry.Urls.Single()).Port}", archive);

        var unpacked = Directory.CreateDirectory(_folder["unpacked"]).FullName;
        await TarFile.ExtractToDirectoryAsync(await OpenAsync(archive), unpacked, overwriteFiles: false, Cancel);
        var manifest = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(unpacked, "manifest.json"), Cancel))![0]!;
        Assert.Equal([$"{image}:latest"], manifest["RepoTags"]!.AsArray().Select(tag => (string)tag!));
        var config = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(unpacked, (string)manifest["Config"]!), Cancel))!["config"]!;
        Assert.Equal("1654", (string?)config["User"]);
        Assert.Equal("/app/", (string?)config["WorkingDir"]);
        Assert.Equal(["dotnet", $"/app/{project}.dll"], config["Entrypoint"]!.AsArray().Select(word => (string)word!));

        List<TarEntry> files = [];
        foreach (var layer in manifest["Layers"]!.AsArray().Skip(1))
        {
            await using var reader = new TarReader(await OpenAsync(Path.Combine(unpacked, (string)layer!)));
            while (await reader.GetNextEntryAsync(copyData: false, Cancel) is { } entry)
            {
                files.Add(entry);
            }
        }

        string[] needed = [$"app/{project}.dll", $"app/{project}.runtimeconfig.json", "app/config.yaml"];
        Assert.Empty(needed.Except(files.Select(file => file.Name)));
        Assert.Equal(project == "Sessions.Api", files.Any(file => file.Name == "app/data/.keep"));
        Assert.DoesNotContain(files, file => file.Name.Contains("/Http/", StringComparison.Ordinal)
            || file.Name.EndsWith("config.new.yaml", StringComparison.Ordinal));

        // So that a volume that is put on /app/data can be written.
        Assert.All(files.Where(file => file.Name == "app" || file.Name.StartsWith("app/", StringComparison.Ordinal)), file =>
            Assert.Equal(1654, file.Uid));
    }

    // An archive is compressed or not by its name; a layer within is not.
    private static async Task<Stream> OpenAsync(string path)
    {
        var bytes = new MemoryStream(await File.ReadAllBytesAsync(path, Cancel));
        var isCompressed = bytes.ReadByte() == 0x1f;
        bytes.Position = 0;
        return isCompressed ? new GZipStream(bytes, CompressionMode.Decompress) : bytes;
    }

    private static async Task PublishAsync(string project, string registry, string archive)
    {
        var configuration = AppContext.BaseDirectory.Contains($"{Path.DirectorySeparatorChar}Release{Path.DirectorySeparatorChar}",
            StringComparison.Ordinal) ? "Release" : "Debug";
        string[] arguments =
        [
            "publish", Repository.File(project, project + ".csproj"), "-c", configuration, "--no-build", "-nodeReuse:false",
                "-t:PublishContainer",
            $"-p:ContainerBaseImage={registry}/base:1", $"-p:ContainerArchiveOutputPath={archive}",
        ];
        using var process = Process.Start(new ProcessStartInfo("dotnet", arguments) { RedirectStandardOutput = true })!;
        var output = await process.StandardOutput.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        Assert.True(process.ExitCode == 0, output);
    }

    // Two manifests of its protocol are all that the SDK asks of a registry: https://distribution.github.io/distribution/spec/api/
    private static async Task<WebApplication> RegistryAsync()
    {
        using var tar = new MemoryStream();
        await using (var writer = new TarWriter(tar, leaveOpen: true))
        {
            await writer.WriteEntryAsync(new PaxTarEntry(TarEntryType.Directory, "etc/"), Cancel);
        }

        using var zipped = new MemoryStream();
        await using (var gzip = new GZipStream(zipped, CompressionLevel.Fastest, leaveOpen: true))
        {
            tar.Position = 0;
            await tar.CopyToAsync(gzip, Cancel);
        }

        var layer = zipped.ToArray();
        var config = Bytes(new JsonObject
        {
            ["architecture"] = "amd64",
            ["os"] = "linux",
            ["created"] = "2026-01-01T00:00:00Z",
            ["config"] = new JsonObject { ["User"] = BaseUser, ["Env"] = new JsonArray("PATH=/usr/bin:/bin") },
            ["rootfs"] = new JsonObject { ["type"] = "layers", ["diff_ids"] = new JsonArray(Digest(tar.ToArray())) },
            ["history"] = new JsonArray(new JsonObject { ["created"] = "2026-01-01T00:00:00Z" }),
        });
        const string ManifestType = "application/vnd.docker.distribution.manifest.v2+json";
        var manifest = Bytes(new JsonObject
        {
            ["schemaVersion"] = 2,
            ["mediaType"] = ManifestType,
            ["config"] = Part("application/vnd.docker.container.image.v1+json", config),
            ["layers"] = new JsonArray(Part("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)),
        });

        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        app.MapGet("/v2/", () => Results.Ok());
        app.MapMethods("/v2/base/manifests/{reference}", ["GET", "HEAD"], (HttpResponse response) =>
        {
            response.Headers["Docker-Content-Digest"] = Digest(manifest);
            return Results.Bytes(manifest, ManifestType);
        });
        app.MapMethods("/v2/base/blobs/{digest}", ["GET", "HEAD"], (string digest) =>
            digest == Digest(config) ? Results.Bytes(config) : digest == Digest(layer) ? Results.Bytes(layer) : Results.NotFound());
        await app.StartAsync(Cancel);
        return app;

        static byte[] Bytes(JsonObject json) => System.Text.Encoding.UTF8.GetBytes(json.ToJsonString());
        static string Digest(byte[] bytes) => $"sha256:{Convert.ToHexStringLower(SHA256.HashData(bytes))}";
        static JsonObject Part(string type, byte[] bytes) =>
            new() { ["mediaType"] = type, ["size"] = bytes.Length, ["digest"] = Digest(bytes) };
    }
}
