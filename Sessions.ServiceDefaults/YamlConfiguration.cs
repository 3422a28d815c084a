using System.Text.RegularExpressions;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Configuration.EnvironmentVariables;
using Microsoft.Extensions.Hosting;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Sessions.ServiceDefaults;

/// <summary>Finds <c>config.yaml</c> and adds it to the configuration, below environment variables and the command line.</summary>
public static class YamlConfiguration
{
    /// <summary>Names the file to read. Without it the file is looked for; with it, it must exist.</summary>
    public const string PathKey = "SESSIONS_CONFIG";

    private const string FileName = "config.yaml";
    private const string RootMarker = "Sessions.sln";

    /// <summary>
    /// Adds <c>config.yaml</c>, if there is one. Its place in the order is just below the environment variables,
    /// so that these and the command line override it.
    /// </summary>
    /// <exception cref="SettingsException">The named file is missing, or the file is not YAML of the expected form.</exception>
    public static T AddYamlConfiguration<T>(this T builder) where T : IHostApplicationBuilder
    {
        if (Find(builder.Configuration[PathKey]) is { } path)
        {
            var sources = builder.Configuration.Sources;
            // Prefixed sources (DOTNET_, ASPNETCORE_) are the host's own and stay below; the unprefixed one overrides the file.
            var environment = sources.FirstOrDefault(source => source is EnvironmentVariablesConfigurationSource { Prefix: null or "" });
            var index = environment is null ? sources.Count : sources.IndexOf(environment);
            sources.Insert(index, new YamlConfigurationSource(path));
        }

        return builder;
    }

    /// <summary>
    /// The folder that relative paths in the settings start from: that of <c>config.yaml</c>, so that the same file means the same
    /// data wherever the process was started; without a file, the current folder.
    /// </summary>
    public static string BaseFolder(IConfiguration configuration) =>
        FileOf(configuration) is { } file ? Path.GetDirectoryName(file)! : Directory.GetCurrentDirectory();

    /// <summary>The file that is in force; <see langword="null"/> where there is none.</summary>
    public static string? FileOf(IConfiguration configuration) =>
        (configuration as IConfigurationRoot)?.Providers.OfType<YamlConfigurationProvider>().LastOrDefault()?.FilePath;

    private static string? Find(string? named)
    {
        if (!string.IsNullOrEmpty(named))
        {
            return File.Exists(named)
                ? Path.GetFullPath(named)
                : throw new SettingsException($"{PathKey} (or --config) names '{named}', but there is no such file.");
        }

        return FindFrom(Directory.GetCurrentDirectory()) ?? FindFrom(AppContext.BaseDirectory);
    }

    // The folder itself, then its parents up to the repository's root. A parent counts only inside a repository:
    // a stray config.yaml further up is somebody else's.
    private static string? FindFrom(string folder)
    {
        var own = Path.Combine(folder, FileName);
        if (File.Exists(own))
        {
            return own;
        }

        string? found = null;
        for (var parent = new DirectoryInfo(folder); parent is not null; parent = parent.Parent)
        {
            var candidate = Path.Combine(parent.FullName, FileName);
            found ??= File.Exists(candidate) ? candidate : null;
            if (File.Exists(Path.Combine(parent.FullName, RootMarker)))
            {
                return found;
            }
        }

        return null;
    }
}

internal sealed class YamlConfigurationSource(string path) : IConfigurationSource
{
    public IConfigurationProvider Build(IConfigurationBuilder builder) => new YamlConfigurationProvider(path);
}

/// <summary>What stands at a key.</summary>
internal enum YamlKind
{
    Text,
    Nothing,
    List,
    Mapping,
}

/// <summary>A YAML file as configuration keys, which remembers the line each key stands on, and what stands there.</summary>
internal sealed partial class YamlConfigurationProvider(string path) : ConfigurationProvider
{
    private readonly Dictionary<string, (long Line, YamlKind Kind)> _keys = new(StringComparer.OrdinalIgnoreCase);

    public string FilePath { get; } = path;

    /// <summary>What is wrong with the file, beside what its settings don't allow.</summary>
    public List<string> Errors { get; } = [];

    public long? LineOf(string key) => _keys.TryGetValue(key, out var found) ? found.Line : null;

    public YamlKind? KindOf(string key) => _keys.TryGetValue(key, out var found) ? found.Kind : null;

    public override void Load()
    {
        var text = "";
        try
        {
            text = File.ReadAllText(FilePath);
            var yaml = new YamlStream();
            yaml.Load(new StringReader(text));
            if (yaml.Documents.Count > 1)
            {
                throw new SettingsException($"{FilePath}: has {yaml.Documents.Count} YAML documents; allowed: one.");
            }

            if (yaml.Documents.Count == 1 && !IsNull(yaml.Documents[0].RootNode))
            {
                Add(yaml.Documents[0].RootNode as YamlMappingNode
                    ?? throw new SettingsException(
                        $"{FilePath}, line 1: must be a mapping of sections, such as 'sessions:'.{SpaceMissing(text, 1)}"), null, text);
            }
        }
        catch (YamlException e)
        {
            // The parser means the line before.
            var tab = Array.FindIndex(text.Split('\n'), line => line.TrimStart(' ').StartsWith('\t'));
            throw new SettingsException(tab >= 0 && tab >= e.Start.Line - 1 && e.Message.Contains("tab", StringComparison.Ordinal)
                ? $"{FilePath}, line {tab + 1}: is not valid YAML: it begins with a tab; indent with spaces."
                : $"{FilePath}, line {e.Start.Line}: is not valid YAML: {(e.InnerException?.Message ?? e.Message).TrimEnd('.')}."
                    + SpaceMissing(text, e.Start.Line));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SettingsException($"{FilePath}: can't be read: {e.Message}");
        }
    }

    private void Add(YamlMappingNode mapping, string? parent, string text)
    {
        foreach (var (keyNode, value) in mapping.Children)
        {
            var line = keyNode.Start.Line;
            if (keyNode is not YamlScalarNode { Value: { } name } || name.Length == 0 || name.Contains(':', StringComparison.Ordinal))
            {
                Errors.Add($"{FilePath}, line {line}: a key must be a plain name.{SpaceMissing(text, line)}");
                continue;
            }

            var key = parent is null ? name : ConfigurationPath.Combine(parent, name);
            if (_keys.TryGetValue(key, out var first))
            {
                Errors.Add(
                    $"{FilePath}, line {line}: {Display(key)}: stands here twice (first on line {first.Line}); "
                    + "keys are not case-sensitive.");
                continue;
            }

            AddValue(key, line, value, text);
        }
    }

    private void AddValue(string key, long line, YamlNode value, string text)
    {
        switch (value)
        {
            case YamlMappingNode nested:
                _keys[key] = (line, YamlKind.Mapping);
                if (nested.Children.Count == 0)
                {
                    // There, though nothing is in it.
                    Set(key, null);
                }

                Add(nested, key, text);
                break;
            case YamlSequenceNode sequence:
                _keys[key] = (line, YamlKind.List);
                for (var i = 0; i < sequence.Children.Count; i++)
                {
                    var item = sequence.Children[i];
                    AddValue(ConfigurationPath.Combine(key, i.ToString(System.Globalization.CultureInfo.InvariantCulture)),
                        item.Start.Line, item, text);
                }

                break;
            case YamlScalarNode scalar:
                _keys[key] = (line, IsNull(scalar) ? YamlKind.Nothing : YamlKind.Text);

                // A text under a section that has lost its space: 'storage_type:sqlite'.
                if (scalar.Style == ScalarStyle.Plain && scalar.Start.Line > line
                    && SpaceMissing(text, scalar.Start.Line) is { Length: > 0 } missing)
                {
                    Errors.Add($"{FilePath}, line {scalar.Start.Line}:{missing}");
                    break;
                }

                Set(key, IsNull(scalar) ? null : scalar.Value);
                break;
        }
    }

    // YAML takes 'key:value' for one text, and then stumbles over it, perhaps a line later.
    private static string SpaceMissing(string text, long line)
    {
        var lines = text.Split('\n');
        for (var i = (int)Math.Min(line, lines.Length); i > 0 && i >= line - 1; i--)
        {
            // Not what stands there: it may be a secret.
            if (WithoutSpace.Match(lines[i - 1]) is { Success: true } match)
            {
                return $" '{match.Groups[1].Value}:' on line {i} needs a space after its colon.";
            }
        }

        return "";
    }

    /// <summary>A key as people read it: with dots, and in lower case, wherever it came from.</summary>
    internal static string Display(string key) => key.Replace(':', '.').ToLowerInvariant();

    private static bool IsNull(YamlNode node) =>
        node is YamlScalarNode { Style: ScalarStyle.Plain, Value: null or "" or "~" or "null" or "Null" or "NULL" };

    [GeneratedRegex(@"^\s*([A-Za-z_][\w.-]*):(?![\s/])[^\s#]+\s*(?:#.*)?$")]
    private static partial Regex WithoutSpace { get; }
}
