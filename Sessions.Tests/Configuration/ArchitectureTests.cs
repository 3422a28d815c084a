using System.Text.RegularExpressions;

namespace Sessions.Tests.Configuration;

/// <summary>The layers of the API: each knows those beneath it only, and a folder is a namespace.</summary>
public sealed partial class ArchitectureTests
{
    private static readonly string[] Layers = ["Domain", "Storage", "Engine", "Http", "Commands"];

    public static TheoryData<string> EachLayer => new(Layers);

    [Theory]
    [MemberData(nameof(EachLayer))]
    public void A_layer_knows_only_what_is_beneath_it(string layer)
    {
        var above = Layers[(Array.IndexOf(Layers, layer) + 1)..];
        var files = SourcesOf(layer).ToList();

        Assert.NotEmpty(files);
        Assert.All(files, file => Assert.DoesNotContain(
            Name.Matches(file.Text).Select(name => name.Groups[1].Value), above.Contains));
    }

    [Theory]
    [MemberData(nameof(EachLayer))]
    public void A_folder_is_a_namespace(string layer) => Assert.All(SourcesOf(layer), file =>
    {
        var folder = Path.GetRelativePath(Repository.File(), Path.GetDirectoryName(file.Path)!).Replace(Path.DirectorySeparatorChar, '.');
        Assert.Contains($"\nnamespace {folder};", file.Text, StringComparison.Ordinal);
    });

    [Fact]
    public void An_event_id_is_used_once()
    {
        var ids = Layers.SelectMany(SourcesOf).SelectMany(file => EventId.Matches(file.Text)).Select(id => id.Groups[1].Value).ToList();

        Assert.NotEmpty(ids);
        Assert.Equal(ids.Distinct().Order(), ids.Order());
    }

    private static IEnumerable<(string Path, string Text)> SourcesOf(string layer) =>
        Directory.EnumerateFiles(Repository.File("Sessions.Api", layer), "*.cs", SearchOption.AllDirectories)
            .Select(path => (path, $"\n{File.ReadAllText(path)}"));

    [GeneratedRegex(@"\bSessions\.Api\.(\w+)")]
    private static partial Regex Name { get; }

    [GeneratedRegex(@"\bEventId = (\d+)")]
    private static partial Regex EventId { get; }
}
