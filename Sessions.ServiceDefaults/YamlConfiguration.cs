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
        (configuration as IConfigurationRoot)?.Providers.OfType<YamlConfigurationProvider>().LastOrDefault() is { } yaml
            ? Path.GetDirectoryName(yaml.FilePath)!
            : Directory.GetCurrentDirectory();

    private static string? Find(string? named)
    {
        if (!string.IsNullOrEmpty(named))
        {
            return File.Exists(named)
                ? Path.GetFullPath(named)
                : throw new SettingsException($"{PathKey} names '{named}', but there is no such file.");
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

/// <summary>A YAML file as configuration keys, which remembers the line each key stands on.</summary>
internal sealed class YamlConfigurationProvider(string path) : ConfigurationProvider
{
    private readonly Dictionary<string, long> _lines = new(StringComparer.OrdinalIgnoreCase);

    public string FilePath { get; } = path;

    public long? LineOf(string key) => _lines.TryGetValue(key, out var line) ? line : null;

    public override void Load()
    {
        try
        {
            using var reader = File.OpenText(FilePath);
            var yaml = new YamlStream();
            yaml.Load(reader);
            if (yaml.Documents.Count > 1)
            {
                throw new SettingsException($"{FilePath}: has {yaml.Documents.Count} YAML documents; allowed: one.");
            }

            if (yaml.Documents.Count == 1 && !IsNull(yaml.Documents[0].RootNode))
            {
                Add(yaml.Documents[0].RootNode as YamlMappingNode
                    ?? throw new SettingsException($"{FilePath}, line 1: must be a mapping of sections, such as 'sessions:'."), parent: null);
            }
        }
        catch (YamlException e)
        {
            throw new SettingsException($"{FilePath}, line {e.Start.Line}: is not valid YAML: {e.InnerException?.Message ?? e.Message}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SettingsException($"{FilePath}: can't be read: {e.Message}");
        }
    }

    private void Add(YamlMappingNode mapping, string? parent)
    {
        foreach (var (keyNode, value) in mapping.Children)
        {
            if (keyNode is not YamlScalarNode { Value: { } name } || name.Length == 0 || name.Contains(':', StringComparison.Ordinal))
            {
                throw new SettingsException($"{FilePath}, line {keyNode.Start.Line}: a key must be a plain name.");
            }

            var key = parent is null ? name : ConfigurationPath.Combine(parent, name);
            if (!_lines.TryAdd(key, keyNode.Start.Line))
            {
                throw new SettingsException($"{FilePath}, line {keyNode.Start.Line}: {Display(key)}: stands here twice (first on line {_lines[key]}); keys are not case-sensitive.");
            }

            AddValue(key, value);
        }
    }

    private void AddValue(string key, YamlNode value)
    {
        switch (value)
        {
            case YamlMappingNode nested:
                Add(nested, key);
                break;
            case YamlSequenceNode sequence:
                for (var i = 0; i < sequence.Children.Count; i++)
                {
                    var item = ConfigurationPath.Combine(key, i.ToString(System.Globalization.CultureInfo.InvariantCulture));
                    _lines[item] = sequence.Children[i].Start.Line;
                    AddValue(item, sequence.Children[i]);
                }

                break;
            case YamlScalarNode scalar when !IsNull(scalar):
                Set(key, scalar.Value);
                break;
        }
    }

    /// <summary>A key as people read it: with dots, and in lower case, wherever it came from.</summary>
    internal static string Display(string key) => key.Replace(':', '.').ToLowerInvariant();

    private static bool IsNull(YamlNode node) =>
        node is YamlScalarNode { Style: ScalarStyle.Plain, Value: null or "" or "~" or "null" or "Null" or "NULL" };
}
