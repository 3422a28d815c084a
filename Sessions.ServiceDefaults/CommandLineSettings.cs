namespace Sessions.ServiceDefaults;

/// <summary>Settings on the command line (<c>--sessions:timeout_hours=1</c>), and what is wrong with other options.</summary>
public static class CommandLineSettings
{
    /// <summary>The option that names the configuration file, as <c>SESSIONS_CONFIG</c> does.</summary>
    public const string Config = "--config";

    // What .NET's hosts read themselves; docs/configuration.md names those that matter.
    private static readonly HashSet<string> Framework = new(StringComparer.OrdinalIgnoreCase)
    {
        YamlConfiguration.PathKey, "AllowedHosts", "applicationName", "captureStartupErrors", "ConnectionStrings", "contentRoot",
        "detailedErrors", "environment", "FORWARDEDHEADERS_ENABLED", "hostBuilder", "hostingStartupAssemblies", "http_ports", "https_ports",
        "Kestrel", "Logging", "OPENAI_API_KEY", "preferHostingUrls", "preventHostingStartup", "services", "shutdownTimeoutSeconds",
        "suppressStatusMessages", "urls", "webroot",
    };

    /// <summary>The names of all sections of <c>config.yaml</c>.</summary>
    public static IReadOnlyList<string> SectionNames { get; } =
        [SessionSettings.Section, "responses", "openai", "auth", "agents", "limits", "streaming", "encryption", "rate_limit", "cors",
            "console", "telemetry"];

    /// <summary>Takes the settings out of a command line, <see cref="Config"/> among them.</summary>
    /// <param name="args">The command line.</param>
    /// <param name="sections">The sections of <c>config.yaml</c> that may be set.</param>
    /// <returns>The settings, each as <c>--key=value</c>, and the other arguments as they are.</returns>
    public static (string[] Settings, string[] Others) Split(IReadOnlyList<string> args, params ReadOnlySpan<SettingsSection> sections)
    {
        HashSet<string> known = new(Framework, StringComparer.OrdinalIgnoreCase);
        foreach (var section in sections)
        {
            known.Add(section.Name);
        }

        List<string> settings = [], others = [];
        for (var i = 0; i < args.Count; i++)
        {
            // Without a value it would mean whichever file is found.
            var setting = args[i] == Config || args[i].StartsWith($"{Config}=", StringComparison.Ordinal)
                ? $"--{YamlConfiguration.PathKey}{args[i][Config.Length..]}" : args[i];
            if (!IsKnown(setting, known) || args[i] == $"{Config}=")
            {
                others.Add(args[i]);
            }
            else if (setting.Contains('=', StringComparison.Ordinal))
            {
                settings.Add(setting);
            }
            else if (i + 1 < args.Count && !args[i + 1].StartsWith("--", StringComparison.Ordinal))
            {
                settings.Add($"{setting}={args[++i]}");
            }
            else
            {
                others.Add(args[i]);
            }
        }

        return ([.. settings], [.. others]);
    }

    /// <summary>
    /// Says of an argument that nobody knows what is wrong with it, and what was perhaps meant. Its value is not repeated: it may be a
    /// secret.
    /// </summary>
    /// <param name="argument">The argument.</param>
    /// <param name="options">The options there are.</param>
    /// <param name="sections">The sections of <c>config.yaml</c> that may be set.</param>
    public static string Unknown(string argument, IEnumerable<string> options, params ReadOnlySpan<SettingsSection> sections)
    {
        var name = argument.Split('=', 2)[0];
        var keys = Settings.Keys(sections).Where(key => !key.Contains('*', StringComparison.Ordinal)).Select(key => $"--{key}").ToList();
        return name == Config || keys.Contains(name, StringComparer.OrdinalIgnoreCase)
            ? $"'{name}' needs a value: {name}=VALUE."
            : $"'{name}' is not an option.{NearMiss.Ask(name, options.Concat(keys))}";
    }

    /// <summary>Refuses a command line that holds anything but settings, for a program that takes nothing else.</summary>
    /// <returns>The settings.</returns>
    /// <exception cref="SettingsException">It does.</exception>
    public static string[] Require(string[] args, IReadOnlyList<string> options, params ReadOnlySpan<SettingsSection> sections)
    {
        var (settings, others) = Split(args, sections);
        List<string> errors = [];
        foreach (var other in others)
        {
            errors.Add(Unknown(other, options, sections));
        }

        return errors.Count == 0 ? settings : throw new SettingsException(string.Join(Environment.NewLine, errors));
    }

    /// <summary>
    /// Takes what is meant for the API out of a command line that is another program's too, such as the AppHost's: a port, the name of the
    /// configuration file, and settings, as environment variables. Other options are that program's, unless one is nearly one of ours.
    /// </summary>
    /// <exception cref="SettingsException">An option is nearly one of ours, or has no value.</exception>
    public static (ushort? Port, string? ConfigPath, IReadOnlyList<(string Name, string Value)> Variables) HandOn(
        IReadOnlyList<string> args)
    {
        SettingsSection[] sections =
            [new(SessionSettings.Section, typeof(SessionSettings)),
                .. SectionNames.Select(name => new SettingsSection(name, typeof(object)))];
        var (settings, others) = Split(args, sections);
        var ours = Settings.Keys(sections[0]).Select(key => $"--{key}").Append("--port").Append(Config).ToList();
        ushort? port = null;
        for (var i = 0; i < others.Length; i++)
        {
            var (name, value) = others[i].Split('=', 2) is [var before, var after]
                ? (before, after) : (others[i], others.ElementAtOrDefault(i + 1));
            if (name is "--port" or "-p")
            {
                port = ushort.TryParse(value, out var number) && number > 0 ? number
                    : throw new SettingsException($"{name}: '{value}' is not allowed; allowed: a whole number from 1 to 65535.");
            }
            else if (name.StartsWith('-') && NearMiss.Find(name, ours) is { } near)
            {
                throw new SettingsException(
                    near == name ? $"'{name}' needs a value." : $"'{name}' is not an option. Did you mean '{near}'?");
            }
        }

        var pairs = settings.Select(setting => setting[2..].Split('=', 2)).ToList();
        var config = pairs.FindLast(pair => pair[0].Equals(YamlConfiguration.PathKey, StringComparison.OrdinalIgnoreCase))?[1];
        return (port, config, [.. pairs
            .Where(pair => SectionNames.Contains(pair[0].Split(':')[0], StringComparer.OrdinalIgnoreCase))
            .Select(pair => (pair[0].Replace(":", "__", StringComparison.Ordinal).ToUpperInvariant(), pair[1]))]);
    }

    private static bool IsKnown(string argument, HashSet<string> known)
    {
        var name = argument.StartsWith("--", StringComparison.Ordinal) ? argument[2..].Split('=', 2)[0] : "";
        var root = name.Split(':', 2)[0];

        // A section alone has no value; hosts of tests name it without one.
        return known.Contains(root) && (Framework.Contains(root) || name.Length > root.Length + 1 || argument == $"--{root}=")
            || root.StartsWith("OTEL_", StringComparison.OrdinalIgnoreCase)
            || root.StartsWith("ASPNETCORE_", StringComparison.OrdinalIgnoreCase)
            || root.StartsWith("DOTNET_", StringComparison.OrdinalIgnoreCase);
    }
}
