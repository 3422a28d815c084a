using System.CommandLine;
using System.Globalization;
using System.Text;
using Sessions.Api.Storage.Postgres;
using Sessions.Api.Storage.Redis;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>Shows what is in force, and where each value comes from: as a <c>config.yaml</c> that says the same.</summary>
internal static class ConfigCommand
{
    private const int Widest = 48;
    private const string Mask = "********";

    private static readonly string[] Shown = ["urls", "http_ports", "https_ports", "AllowedHosts"];
    private static readonly string[] Masked =
    [
        "OPENAI_API_KEY", "OTEL_EXPORTER_OTLP_ENDPOINT", PostgresConnectionString.Key,
        .. RedisConnectionString.Names.Select(name => $"ConnectionStrings:{name}"),
    ];

    public static Command Create() =>
        new Command("config", "Shows the configuration in force, and where each value comes from; secrets are not shown").Runs(input =>
    {
        var builder = input.CreateUncheckedBuilder();
        Console.Out.Write(Describe(builder.Configuration));
        return string.Join(Environment.NewLine, UnreadVariables.Find(ApiSettings.Sections));
    });

    internal static string Describe(IConfiguration configuration)
    {
        StringBuilder yaml = new();
        yaml.AppendLine($"# {YamlConfiguration.FileOf(configuration) ?? "no configuration file"}");
        string[] path = [];
        foreach (var setting in Settings.InForce(configuration, ApiSettings.Sections))
        {
            var keys = setting.Key.ToLowerInvariant().Split(':');
            var common = path.Zip(keys[..^1]).TakeWhile(both => both.First == both.Second).Count();
            for (var depth = common; depth < keys.Length - 1; depth++)
            {
                yaml.AppendLine(depth == 0 ? $"{Environment.NewLine}{keys[0]}:" : $"{new string(' ', 2 * depth)}{keys[depth]}:");
            }

            path = keys[..^1];
            yaml.AppendLine(Line(setting, keys));
        }

        // What is configured outside of the file.
        yaml.AppendLine();
        foreach (var name in Shown.Concat(Masked).Where(name => !string.IsNullOrEmpty(configuration[name])))
        {
            yaml.AppendLine($"# {name}: {(Shown.Contains(name) ? configuration[name] : Mask)}");
        }

        return yaml.ToString();
    }

    private static string Line(SettingInForce setting, string[] keys)
    {
        var indent = new string(' ', 2 * (keys.Length - 1));
        var origin = setting.Origin ?? "default";

        // A comment: neither a secret nor nothing can stand in a file.
        return setting.IsSecret ? $"{indent}# {keys[^1]}: {(setting.Origin is null ? "not set" : $"{Mask}  {origin}")}"
            : setting.Value is null ? $"{indent}# {keys[^1]}: not set"
            : $"{$"{indent}{keys[^1]}: {Text(setting.Value)}",-Widest}  # {origin}";
    }

    private static string Text(object value) => value switch
    {
        string text => text.Length > 0 && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '/' or '.')
            && !double.TryParse(text, out _)
            && text is not ("true" or "false" or "null") ? text : Quote(text),
        Uri uri => Quote(uri.OriginalString),
        bool flag => flag ? "true" : "false",
        Array list =>
            $"[{string.Join(", ", list.Cast<object>().Select(item => item is Enum named ? Settings.NameOf(named) : Text(item)))}]",
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString() ?? "",
    };

    /// <summary>A text as YAML has it between quotes.</summary>
    public static string Quote(string text) => "\"" + text
        .Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)
        .Replace("\n", "\\n", StringComparison.Ordinal).Replace("\r", "\\r", StringComparison.Ordinal)
        .Replace("\t", "\\t", StringComparison.Ordinal) + "\"";
}
