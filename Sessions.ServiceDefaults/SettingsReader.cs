using System.Collections;
using System.ComponentModel.DataAnnotations;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Reflection;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Configuration.CommandLine;
using Microsoft.Extensions.Configuration.EnvironmentVariables;

namespace Sessions.ServiceDefaults;

/// <summary>Reads sections into their classes, and collects what is wrong with them.</summary>
[UnconditionalSuppressMessage("Trimming", "IL2026", Justification = Kept)]
[UnconditionalSuppressMessage("Trimming", "IL2067", Justification = Kept)]
[UnconditionalSuppressMessage("Trimming", "IL2070", Justification = Kept)]
[UnconditionalSuppressMessage("Trimming", "IL2072", Justification = Kept)]
internal sealed class SettingsReader : IServiceProvider
{
    private const string Kept =
        "Programs that are published without what they don't use keep their own types whole: TrimmerRootAssembly in their project files.";

    private readonly IConfigurationRoot _root;
    private readonly List<(string Path, IValidatableObject Settings)> _toValidate = [];
    private readonly List<(string Key, string Rule, string Culprit)> _late = [];
    private readonly HashSet<string> _faulty = new(StringComparer.OrdinalIgnoreCase);

    public SettingsReader(IConfigurationRoot root)
    {
        _root = root;
        Errors.AddRange(root.Providers.OfType<YamlConfigurationProvider>().SelectMany(yaml => yaml.Errors));
    }

    public List<string> Errors { get; } = [];

    public List<(SettingsSection Section, object Settings)> Sections { get; } = [];

    public List<SettingInForce> InForce { get; } = [];

    /// <summary>Refuses a section of <c>config.yaml</c> that nobody reads, such as a misspelt one.</summary>
    public void RequireKnownSections(ReadOnlySpan<SettingsSection> sections)
    {
        List<string> known = [];
        foreach (var section in sections)
        {
            known.Add(section.Name);
        }

        foreach (var yaml in _root.Providers.OfType<YamlConfigurationProvider>())
        {
            Errors.AddRange(yaml.GetChildKeys([], null).Distinct(StringComparer.OrdinalIgnoreCase)
                .Where(key => !known.Contains(key, StringComparer.OrdinalIgnoreCase))
                .Select(key =>
                    $"{yaml.FilePath}, line {yaml.LineOf(key)}: {key}: unknown section; allowed: {string.Join(", ", known)}."
                    + NearMiss.Ask(key, known)));
        }
    }

    public void ReadAll(ReadOnlySpan<SettingsSection> sections)
    {
        foreach (var section in sections)
        {
            Sections.Add((section, ReadObject(_root.GetSection(section.Name), section.Type)));
        }

        // Now that all are known: what concerns several of them. Where one of them is wrong in itself, more would only mislead.
        foreach (var (path, settings) in _toValidate)
        {
            var context = new ValidationContext(settings) { MemberName = ConfigurationPath.GetSectionKey(path) };
            context.InitializeServiceProvider(GetService);
            foreach (var fault in settings.Validate(context))
            {
                var keys = fault.MemberNames.Select(member => ConfigurationPath.Combine(path, Settings.SnakeCase(member)))
                    .DefaultIfEmpty(path).ToList();
                if (!keys.Any(IsFaulty))
                {
                    _late.Add((keys[0], $"{fault.ErrorMessage}.", keys.FirstOrDefault(IsSet) ?? keys[0]));
                }
            }
        }

        // Only now, so that one does not hide another.
        foreach (var (key, rule, culprit) in _late)
        {
            Refuse(key, rule, culprit);
        }
    }

    /// <summary>
    /// What a class that is validated may ask for: the settings of other sections, unless they are faulty, and the configuration.
    /// </summary>
    public object? GetService(Type serviceType) => serviceType == typeof(IConfiguration) ? _root
        : Sections.FirstOrDefault(read => read.Section.Type == serviceType && !IsFaulty(read.Section.Name)).Settings;

    /// <summary>The keys of a section, or of what is within one.</summary>
    public static IEnumerable<string> KeysOf(string path, Type type) => type == typeof(string) ? [path]
        : ValuesOf(type) is { } values ? KeysOf(ConfigurationPath.Combine(path, "*"), values)
        : Properties(type).SelectMany(property => IsSection(property.Value.PropertyType)
            ? KeysOf(ConfigurationPath.Combine(path, property.Key), property.Value.PropertyType)
            : [ConfigurationPath.Combine(path, property.Key)]);

    private object ReadObject(IConfigurationSection section, Type type)
    {
        var settings = Activator.CreateInstance(type)!;
        if (settings is IValidatableObject validatable)
        {
            _toValidate.Add((section.Path, validatable));
        }

        var provider = Provider(section.Path);
        if (!string.IsNullOrEmpty(Said(provider, section.Path))
            || (provider as YamlConfigurationProvider)?.KindOf(section.Path) == YamlKind.List)
        {
            Refuse(section.Path, "must be a mapping of keys to values.");
        }
        else if (ValuesOf(type) is { } values)
        {
            foreach (var child in section.GetChildren())
            {
                // Keys of the configuration are not case-sensitive, and an environment variable's are in upper case.
                ((IDictionary)settings)[child.Key.ToLowerInvariant()] =
                    values == typeof(string) ? ReadText(child) : ReadObject(child, values);
            }
        }
        else
        {
            ReadProperties(section, settings, Properties(type));
        }

        return settings;
    }

    // What does not stand in the file may be a secret.
    private string ReadText(IConfigurationSection section)
    {
        var provider = Provider(section.Path);
        var text = Said(provider, section.Path) ?? "";
        if (text.Length == 0 || section.GetChildren().Any())
        {
            Refuse(section.Path, "must be a text.");
        }

        var isSecret = provider is not YamlConfigurationProvider;
        InForce.Add(new SettingInForce(section.Path, isSecret ? null : text, Origin(section.Path), isSecret));
        return text;
    }

    private void ReadProperties(IConfigurationSection section, object settings, Dictionary<string, PropertyInfo> properties)
    {
        foreach (var child in section.GetChildren().Where(child => !properties.ContainsKey(child.Key)))
        {
            var allowed = properties.Where(property => !IsSecret(property.Value)).Select(property => property.Key).ToList();
            Refuse(child.Path, $"unknown key; allowed: {string.Join(", ", allowed)}.{NearMiss.Ask(child.Key, properties.Keys)}");
        }

        foreach (var (key, property) in properties)
        {
            var child = section.GetSection(key);
            var isSecret = IsSecret(property);
            if (IsSection(property.PropertyType))
            {
                property.SetValue(settings, ReadObject(child, property.PropertyType));
                continue;
            }

            var provider = Provider(child.Path);
            if (isSecret && provider is YamlConfigurationProvider)
            {
                Refuse(child.Path,
                    $"is a secret and does not belong in a file; set the environment variable {EnvironmentName(child.Path)}.");
            }
            else if (provider is not null)
            {
                ReadProperty(child, settings, property, provider);
            }

            var value = property.GetValue(settings);
            InForce.Add(new SettingInForce(
                child.Path, isSecret ? null : value is Enum named ? Settings.NameOf(named) : value,
                provider is null ? null : Origin(child.Path, provider), isSecret));
        }
    }

    private void ReadProperty(IConfigurationSection section, object settings, PropertyInfo property, IConfigurationProvider provider)
    {
        var type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        var kind = (provider as YamlConfigurationProvider)?.KindOf(section.Path);
        var value = Said(provider, section.Path);
        if (type.IsArray && kind is not (YamlKind.Mapping or YamlKind.Nothing))
        {
            ReadArray(section, value, settings, property, type.GetElementType()!);
        }
        else if (kind == YamlKind.Nothing)
        {
            Refuse(section.Path, $"has no value; allowed: {Allowed(property, type)}. Leave the line out for the default.");
        }
        else if (kind is YamlKind.List or YamlKind.Mapping || section.GetChildren().Any())
        {
            Refuse(section.Path, $"must be {(type.IsEnum ? "one of " : "")}{Allowed(property, type)}, not a mapping or a list.");
        }
        else if (TryParse(value!, type, out var parsed) && (property.GetCustomAttribute<RangeAttribute>()?.IsValid(parsed) ?? true))
        {
            property.SetValue(settings, parsed);
        }
        else
        {
            RefuseValue(section.Path, value!, property, type);
        }
    }

    // A list in the file; one after the other, separated by commas, in an environment variable.
    private void ReadArray(IConfigurationSection section, string? line, object settings, PropertyInfo property, Type element)
    {
        var texts = line is not null
            ? [.. line.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
                .Select(text => (section.Path, Text: text))]
            : section.GetChildren().Select(item => (item.Path, Text: item.Value ?? "")).ToList();
        var items = Array.CreateInstanceFromArrayType(property.PropertyType, texts.Count);
        for (var i = 0; i < items.Length; i++)
        {
            if (TryParse(texts[i].Text, element, out var value))
            {
                items.SetValue(value, i);
            }
            else
            {
                RefuseValue(texts[i].Path, texts[i].Text, property, element);
            }
        }

        property.SetValue(settings, items);
    }

    private static bool TryParse(string text, Type type, out object? value)
    {
        value = null;
        if (type == typeof(string))
        {
            value = text;
        }
        else if (type == typeof(bool))
        {
            value = bool.TryParse(text, out var flag) ? flag : null;
        }
        else if (type == typeof(int))
        {
            value = int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) ? number : null;
        }
        else if (type == typeof(long))
        {
            value = long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) ? number : null;
        }
        else if (type == typeof(double))
        {
            value = double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number)
                ? number : null;
        }
        else if (type == typeof(Uri))
        {
            value = Uri.TryCreate(text, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https" ? uri : null;
        }
        else if (type.IsEnum)
        {
            value = Enum.GetNames(type).FirstOrDefault(name =>
                Settings.SnakeCase(name).Equals(text, StringComparison.OrdinalIgnoreCase)) is { } name
                ? Enum.Parse(type, name) : null;
        }
        else
        {
            throw new NotSupportedException($"Settings of type {type} can't be read.");
        }

        return value is not null;
    }

    private void RefuseValue(string key, string value, PropertyInfo property, Type type)
    {
        var given = IsSecret(property) ? "the value" : $"'{Shorten(value)}'";
        var near = type.IsEnum ? NearMiss.Ask(value, Enum.GetNames(type).Select(Settings.SnakeCase)) : "";
        Refuse(key, $"{given} is not allowed; allowed: {Allowed(property, type)}.{near}");
    }

    private static string Allowed(PropertyInfo property, Type type)
    {
        if (type.IsEnum)
        {
            return string.Join(", ", Enum.GetNames(type).Select(Settings.SnakeCase));
        }

        var kind = type == typeof(bool) ? "true or false"
            : type == typeof(int) || type == typeof(long) ? "a whole number"
            : type == typeof(double) ? "a number"
            : type == typeof(Uri) ? "an http or https address"
            : type.IsArray ? "a list"
            : "a text";
        return property.GetCustomAttribute<RangeAttribute>() is { } range
            ? $"{kind} from {Plain(range.Minimum)} to {Plain(range.Maximum)}"
            : kind;

        // 0.00001, not 1E-05.
        static decimal Plain(object limit) => Convert.ToDecimal(limit, CultureInfo.InvariantCulture);
    }

    private void Refuse(string key, string rule, string? culprit = null)
    {
        _faulty.Add(key);
        Errors.Add($"{Origin(culprit ?? key)}: {YamlConfigurationProvider.Display(key)}: {rule}");
    }

    private bool IsFaulty(string path) =>
        _faulty.Any(key => key.Equals(path, StringComparison.OrdinalIgnoreCase)
            || key.StartsWith($"{path}:", StringComparison.OrdinalIgnoreCase));

    private string Origin(string key) => Origin(key, Provider(key));

    private string Origin(string key, IConfigurationProvider? provider) => provider switch
    {
        YamlConfigurationProvider yaml => $"{yaml.FilePath}, line {yaml.LineOf(key)}",
        EnvironmentVariablesConfigurationProvider => $"environment variable {EnvironmentName(key)}",
        CommandLineConfigurationProvider => $"command line --{key}",
        FileConfigurationProvider json => json.Source.Path ?? "configuration",
        not null => "configuration",

        // What is missing is missing from what is around it.
        null => ConfigurationPath.GetParentPath(key) is { } parent ? Origin(parent) : "configuration",
    };

    private bool IsSet(string key) => Provider(key) is not null;

    // The provider that has the last word on a key, or on the keys below it. An environment variable that is empty says nothing.
    private IConfigurationProvider? Provider(string key) =>
        _root.Providers.LastOrDefault(provider => Said(provider, key) is not null)
        ?? _root.Providers.LastOrDefault(provider => provider is YamlConfigurationProvider yaml && yaml.LineOf(key) is not null)
        ?? _root.Providers.LastOrDefault(provider => provider.GetChildKeys([], key).Any());

    private static string? Said(IConfigurationProvider? provider, string key) =>
        provider is not null && provider.TryGet(key, out var value)
            && (provider is not EnvironmentVariablesConfigurationProvider || value?.Length > 0)
            ? value : null;

    private static Dictionary<string, PropertyInfo> Properties(Type type) =>
        type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(property => property.CanWrite)
            .ToDictionary(property => Settings.SnakeCase(property.Name), StringComparer.OrdinalIgnoreCase);

    // A section whose keys are names: a class derived from Dictionary<string, …>.
    private static Type? ValuesOf(Type type) => typeof(IDictionary).IsAssignableFrom(type)
        ? type.BaseType!.GetGenericArguments()[1] : null;

    private static bool IsSection(Type type) => type.IsClass && !type.IsArray && type != typeof(string) && type != typeof(Uri);

    private static bool IsSecret(PropertyInfo property) => property.GetCustomAttribute<SecretAttribute>() is not null;

    private static string EnvironmentName(string key) => key.Replace(":", "__", StringComparison.Ordinal).ToUpperInvariant();

    private static string Shorten(string text) => text.Length <= 80 ? text : string.Concat(text.AsSpan(0, 80), "…");
}
