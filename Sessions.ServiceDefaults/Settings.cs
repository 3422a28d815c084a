using System.ComponentModel.DataAnnotations;
using System.Text;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Sessions.ServiceDefaults;

/// <summary>Marks a setting that must not stand in a file: it comes from the environment, the command line or user secrets.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SecretAttribute : Attribute;

/// <summary>A section of <c>config.yaml</c>.</summary>
/// <param name="Name">Its name in the file.</param>
/// <param name="Type">The class that holds its settings, each with its default.</param>
public sealed record SettingsSection(string Name, Type Type);

/// <summary>
/// Binds sections of the configuration to plain classes and refuses what they don't allow: an unknown key, a wrong type, a value out of
/// range, values that don't go together. A message names where the value stands (file and line, or environment variable), the key, and
/// what is allowed; all mistakes are reported at once.
/// </summary>
/// <remarks>
/// A property's key is its name in snake_case; its limits are its <see cref="RangeAttribute"/> and the names of its enum. What concerns
/// several settings is checked by their class (<see cref="IValidatableObject"/>). Nothing is silently ignored, which is why the
/// framework's binder alone is not enough.
/// </remarks>
public static class Settings
{
    /// <summary>Reads and checks all sections, refuses others, and registers each as a singleton.</summary>
    /// <exception cref="SettingsException">Something is not allowed.</exception>
    public static void AddSettings(this IHostApplicationBuilder builder, params ReadOnlySpan<SettingsSection> sections)
    {
        var reader = new SettingsReader((IConfigurationRoot)builder.Configuration);
        reader.RequireKnownSections(sections);
        reader.ReadAll(sections);
        ThrowIfAny(reader.Errors);
        foreach (var (section, settings) in reader.Sections)
        {
            builder.Services.AddSingleton(section.Type, settings);
        }
    }

    /// <summary>Reads and checks a section, and registers the result as a singleton.</summary>
    /// <typeparam name="T">The class that holds the section's settings, each with its default.</typeparam>
    /// <param name="builder">The application.</param>
    /// <param name="section">The section's name in <c>config.yaml</c>.</param>
    /// <returns>The settings, ready to use while the application is being built.</returns>
    /// <exception cref="SettingsException">Something in the section is not allowed.</exception>
    public static T AddSettings<T>(this IHostApplicationBuilder builder, string section) where T : class, new()
    {
        if (builder.Services.LastOrDefault(service => service.ServiceType == typeof(T))?.ImplementationInstance is T known)
        {
            return known;
        }

        var settings = Read<T>(builder.Configuration, section);
        builder.Services.AddSingleton(settings);
        return settings;
    }

    /// <summary>Reads and checks a section.</summary>
    /// <inheritdoc cref="AddSettings{T}"/>
    public static T Read<T>(IConfiguration configuration, string section) where T : class, new()
    {
        var reader = new SettingsReader((IConfigurationRoot)configuration);
        reader.ReadAll([new SettingsSection(section, typeof(T))]);
        ThrowIfAny(reader.Errors);
        return (T)reader.Sections[0].Settings;
    }

    /// <summary>Every setting that is in force, in the order of the sections and their classes.</summary>
    /// <exception cref="SettingsException">Something is not allowed.</exception>
    public static IReadOnlyList<SettingInForce> InForce(IConfiguration configuration, params ReadOnlySpan<SettingsSection> sections)
    {
        var reader = new SettingsReader((IConfigurationRoot)configuration);
        reader.RequireKnownSections(sections);
        reader.ReadAll(sections);
        ThrowIfAny(reader.Errors);
        return reader.InForce;
    }

    /// <summary>The keys there are (<c>sessions:storage_type</c>); a name that is free to choose is a <c>*</c>.</summary>
    public static IReadOnlyList<string> Keys(params ReadOnlySpan<SettingsSection> sections)
    {
        List<string> keys = [];
        foreach (var section in sections)
        {
            keys.AddRange(SettingsReader.KeysOf(section.Name, section.Type));
        }

        return keys;
    }

    /// <summary>A value of an enum as <c>config.yaml</c> names it.</summary>
    public static string NameOf(Enum value) => SnakeCase(value.ToString());

    private static void ThrowIfAny(IEnumerable<string> errors)
    {
        var all = string.Join(Environment.NewLine, errors.Distinct());
        if (all.Length > 0)
        {
            throw new SettingsException(all);
        }
    }

    internal static string SnakeCase(string name)
    {
        var snake = new StringBuilder(name.Length + 8);
        for (var i = 0; i < name.Length; i++)
        {
            if (char.IsUpper(name[i]) && i > 0 && name[i - 1] != ':')
            {
                snake.Append('_');
            }

            snake.Append(char.ToLowerInvariant(name[i]));
        }

        return snake.ToString();
    }
}

/// <summary>A setting, its value, and where that comes from.</summary>
/// <param name="Key">Its key: <c>sessions:storage_type</c>.</param>
/// <param name="Value">Its value as <c>config.yaml</c> would have it; <see langword="null"/> where it has none, and of a secret.</param>
/// <param name="Origin">Where it is set; <see langword="null"/> where it is the default.</param>
/// <param name="IsSecret">Whether it is a secret.</param>
public sealed record SettingInForce(string Key, object? Value, string? Origin, bool IsSecret);
