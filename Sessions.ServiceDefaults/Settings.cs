using System.Collections;
using System.ComponentModel.DataAnnotations;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Reflection;
using System.Text;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Configuration.CommandLine;
using Microsoft.Extensions.Configuration.EnvironmentVariables;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Sessions.ServiceDefaults;

/// <summary>Marks a setting that must not stand in a file: it comes from the environment, the command line or user secrets.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SecretAttribute : Attribute;

/// <summary>
/// Binds sections of the configuration to plain classes and refuses what they don't allow: an unknown key, a wrong type, a value out of
/// range. A message names where the value stands (file and line, or environment variable), the key, and what is allowed.
/// </summary>
/// <remarks>
/// A property's key is its name in snake_case; its limits are its <see cref="RangeAttribute"/> and the names of its enum.
/// Nothing is silently ignored, which is why the framework's binder alone is not enough.
/// </remarks>
public static class Settings
{
    /// <summary>Reads and checks a section, and registers the result as a singleton.</summary>
    /// <typeparam name="T">The class that holds the section's settings, each with its default.</typeparam>
    /// <param name="builder">The application.</param>
    /// <param name="section">The section's name in <c>config.yaml</c>.</param>
    /// <returns>The settings, ready to use while the application is being built.</returns>
    /// <exception cref="SettingsException">Something in the section is not allowed.</exception>
    public static T AddSettings<T>(this IHostApplicationBuilder builder, string section) where T : class, new()
    {
        var settings = Read<T>(builder.Configuration, section);
        builder.Services.AddSingleton(settings);
        return settings;
    }

    /// <summary>Refuses a section of <c>config.yaml</c> that nobody reads, such as a misspelt one.</summary>
    /// <param name="builder">The application.</param>
    /// <param name="sections">The sections there are.</param>
    /// <exception cref="SettingsException">The file has another section.</exception>
    public static void RequireKnownSections(this IHostApplicationBuilder builder, params ReadOnlySpan<string> sections)
    {
        var known = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        foreach (var section in sections)
        {
            known.Add(section);
        }

        var errors = new List<string>();
        foreach (var yaml in ((IConfigurationRoot)builder.Configuration).Providers.OfType<YamlConfigurationProvider>())
        {
            errors.AddRange(yaml.GetChildKeys([], null).Where(key => !known.Contains(key))
                .Select(key => $"{yaml.FilePath}, line {yaml.LineOf(key)}: {key}: unknown section; allowed: {string.Join(", ", known)}."));
        }

        ThrowIfAny(errors);
    }

    /// <summary>Reads and checks a section.</summary>
    /// <inheritdoc cref="AddSettings{T}"/>
    public static T Read<T>(IConfiguration configuration, string section) where T : class, new()
    {
        var reader = new SectionReader((IConfigurationRoot)configuration);
        var settings = (T)reader.ReadObject(configuration.GetSection(section), typeof(T));
        ThrowIfAny(reader.Errors);
        return settings;
    }

    /// <summary>A value of an enum as <c>config.yaml</c> names it.</summary>
    public static string NameOf(Enum value) => SnakeCase(value.ToString());

    private static void ThrowIfAny(List<string> errors)
    {
        if (errors.Count > 0)
        {
            throw new SettingsException(string.Join(Environment.NewLine, errors));
        }
    }

    [UnconditionalSuppressMessage("Trimming", "IL2067", Justification = SectionReader.Kept)]
    [UnconditionalSuppressMessage("Trimming", "IL2070", Justification = SectionReader.Kept)]
    [UnconditionalSuppressMessage("Trimming", "IL2072", Justification = SectionReader.Kept)]
    private sealed class SectionReader(IConfigurationRoot root)
    {
        public const string Kept = "Programs that are published without what they don't use keep their own types whole: TrimmerRootAssembly in their project files.";

        public List<string> Errors { get; } = [];

        public object ReadObject(IConfigurationSection section, Type type)
        {
            var settings = Activator.CreateInstance(type)!;
            if (!string.IsNullOrEmpty(section.Value))
            {
                Refuse(section.Path, "must be a mapping of keys to values");
                return settings;
            }

            // A section whose keys are names: a class derived from Dictionary<string, …>.
            if (settings is IDictionary dictionary)
            {
                ReadDictionary(section, dictionary, type.BaseType!.GetGenericArguments()[1]);
                return settings;
            }

            var properties = type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(p => p.CanWrite)
                .ToDictionary(p => SnakeCase(p.Name), StringComparer.OrdinalIgnoreCase);
            foreach (var child in section.GetChildren())
            {
                if (!properties.TryGetValue(child.Key, out var property))
                {
                    Refuse(child.Path, $"unknown key; allowed: {string.Join(", ", properties.Where(p => p.Value.GetCustomAttribute<SecretAttribute>() is null).Select(p => p.Key))}");
                }
                else if (property.GetCustomAttribute<SecretAttribute>() is not null && Provider(child.Path) is YamlConfigurationProvider)
                {
                    Refuse(child.Path, $"is a secret and does not belong into a file; set the environment variable {EnvironmentName(child.Path)}");
                }
                else
                {
                    ReadProperty(child, settings, property);
                }
            }

            return settings;
        }

        private void ReadDictionary(IConfigurationSection section, IDictionary dictionary, Type valueType)
        {
            foreach (var child in section.GetChildren())
            {
                // Keys of the configuration are not case-sensitive, and an environment variable's are in upper case.
                dictionary[child.Key.ToLowerInvariant()] = ReadObject(child, valueType);
            }
        }

        private void ReadProperty(IConfigurationSection section, object settings, PropertyInfo property)
        {
            var type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
            if (type.IsArray)
            {
                ReadArray(section, settings, property, type.GetElementType()!);
            }
            else if (type.IsClass && type != typeof(string) && type != typeof(Uri))
            {
                property.SetValue(settings, ReadObject(section, type));
            }
            else if (section.GetChildren().Any())
            {
                Refuse(section.Path, $"must be {Allowed(property, type)}, not a mapping or a list");
            }
            else if (!string.IsNullOrEmpty(section.Value))
            {
                if (TryParse(section.Value, type, out var value) && (property.GetCustomAttribute<RangeAttribute>()?.IsValid(value) ?? true))
                {
                    property.SetValue(settings, value);
                }
                else
                {
                    var given = property.GetCustomAttribute<SecretAttribute>() is null ? $"'{Shorten(section.Value)}'" : "the value";
                    Refuse(section.Path, $"{given} is not allowed; allowed: {Allowed(property, type)}");
                }
            }
        }

        // A list in the file; one after the other, separated by commas, in an environment variable.
        private void ReadArray(IConfigurationSection section, object settings, PropertyInfo property, Type element)
        {
            var texts = string.IsNullOrEmpty(section.Value)
                ? section.GetChildren().Select(item => (item.Path, Text: item.Value ?? "")).ToList()
                : [.. section.Value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Select(text => (section.Path, text))];
            var items = Array.CreateInstanceFromArrayType(property.PropertyType, texts.Count);
            for (var i = 0; i < items.Length; i++)
            {
                if (TryParse(texts[i].Text, element, out var value))
                {
                    items.SetValue(value, i);
                }
                else
                {
                    Refuse(texts[i].Path, $"'{Shorten(texts[i].Text)}' is not allowed; allowed: {Allowed(property, element)}");
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
                value = double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number) ? number : null;
            }
            else if (type == typeof(Uri))
            {
                value = Uri.TryCreate(text, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https" ? uri : null;
            }
            else if (type.IsEnum)
            {
                value = Enum.GetNames(type).FirstOrDefault(name => SnakeCase(name).Equals(text, StringComparison.OrdinalIgnoreCase)) is { } name ? Enum.Parse(type, name) : null;
            }
            else
            {
                throw new NotSupportedException($"Settings of type {type} can't be read.");
            }

            return value is not null;
        }

        private static string Allowed(PropertyInfo property, Type type)
        {
            if (type.IsEnum)
            {
                return string.Join(", ", Enum.GetNames(type).Select(SnakeCase));
            }

            var kind = type == typeof(bool) ? "true or false"
                : type == typeof(int) || type == typeof(long) ? "a whole number"
                : type == typeof(double) ? "a number"
                : type == typeof(Uri) ? "an http or https address"
                : "a text";
            return property.GetCustomAttribute<RangeAttribute>() is { } range
                ? string.Create(CultureInfo.InvariantCulture, $"{kind} from {range.Minimum} to {range.Maximum}")
                : kind;
        }

        private void Refuse(string key, string rule) => Errors.Add($"{Origin(key)}: {YamlConfigurationProvider.Display(key)}: {rule}.");

        private string Origin(string key) => Provider(key) switch
        {
            YamlConfigurationProvider yaml => $"{yaml.FilePath}, line {yaml.LineOf(key)}",
            EnvironmentVariablesConfigurationProvider => $"environment variable {EnvironmentName(key)}",
            CommandLineConfigurationProvider => $"command line --{key}",
            { } other => other.ToString() ?? other.GetType().Name,
            null => "configuration",
        };

        // The provider that has the last word on a key, or on the keys below it.
        private IConfigurationProvider? Provider(string key) =>
            root.Providers.LastOrDefault(p => p.TryGet(key, out _))
            ?? root.Providers.LastOrDefault(p => p is YamlConfigurationProvider yaml && yaml.LineOf(key) is not null)
            ?? root.Providers.LastOrDefault(p => p.GetChildKeys([], key).Any());

        private static string EnvironmentName(string key) => key.Replace(":", "__", StringComparison.Ordinal).ToUpperInvariant();

        private static string Shorten(string text) => text.Length <= 80 ? text : string.Concat(text.AsSpan(0, 80), "…");
    }

    internal static string SnakeCase(string name)
    {
        var snake = new StringBuilder(name.Length + 8);
        for (var i = 0; i < name.Length; i++)
        {
            if (char.IsUpper(name[i]) && i > 0)
            {
                snake.Append('_');
            }

            snake.Append(char.ToLowerInvariant(name[i]));
        }

        return snake.ToString();
    }
}
