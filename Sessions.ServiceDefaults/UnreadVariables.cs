using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Sessions.ServiceDefaults;

/// <summary>
/// Environment variables that look like settings and are not read: <c>SESSIONS_STORAGE_TYPE</c>, <c>SESSION__STORAGE_TYPE</c>.
/// </summary>
public static partial class UnreadVariables
{
    private const int Slips = 2;

    private static readonly string[] Connections = ["ConnectionStrings__redis", "ConnectionStrings__postgres"];

    /// <summary>Warns of them at the start.</summary>
    public static void AddUnreadVariables(this IHostApplicationBuilder builder, params ReadOnlySpan<SettingsSection> sections)
    {
        var found = Find(sections).ToList();
        if (found.Count > 0)
        {
            builder.Services.AddHostedService(services => new Warning(found, services.GetRequiredService<ILogger<Warning>>()));
        }
    }

    /// <summary>What to say of those in the environment.</summary>
    public static IEnumerable<string> Find(params ReadOnlySpan<SettingsSection> sections) =>
        Find(Environment.GetEnvironmentVariables().Keys.Cast<string>(), sections);

    /// <summary>What to say of those among the names.</summary>
    public static IEnumerable<string> Find(IEnumerable<string> names, params ReadOnlySpan<SettingsSection> sections)
    {
        List<string> roots = ["ConnectionStrings"];
        foreach (var section in sections)
        {
            roots.Add(section.Name);
        }

        var variables = Settings.Keys(sections).Select(key => key.Replace(":", "__", StringComparison.Ordinal).ToUpperInvariant())
            .Concat(Connections).Append(YamlConfiguration.PathKey)
            .ToLookup(variable => variable.Contains('*', StringComparison.Ordinal));
        List<(string Name, string Plain)> plain = [.. variables[false].Select(variable => (variable, NearMiss.Plain(variable)))];
        List<NamedVariable> named = [.. variables[true].Select(NamedVariable.Of)];
        return names.Where(name => !name.Equals(YamlConfiguration.PathKey, StringComparison.OrdinalIgnoreCase))
            .Select(name => (Name: name, Meant: Meant(name, roots, plain, named)))
            .Where(found => found.Meant is not null)
            .OrderBy(found => found.Name, StringComparer.Ordinal)
            .Select(found => $"The environment variable {found.Name} is not read. "
                + (found.Meant is { Length: > 0 } meant ? $"Did you mean {meant}?" : "docs/configuration.md has those that are."));
    }

    // Null where it looks like none of ours, and empty where it does and nothing is near.
    private static string? Meant(string name, List<string> roots, List<(string Name, string Plain)> variables, List<NamedVariable> named)
    {
        var parts = name.Split("__", 2);
        if (parts.Length == 2 && roots.Contains(parts[0], StringComparer.OrdinalIgnoreCase))
        {
            return null;
        }

        // One of ours but for a slip or a separator.
        var plain = NearMiss.Plain(name);
        if (variables.Where(variable => Math.Abs(variable.Plain.Length - plain.Length) <= Slips
                && variable.Plain[0] == plain.FirstOrDefault()).Select(variable => variable.Name) is var near
            && NearMiss.Find(name, near) is { } meant)
        {
            return meant;
        }

        if (named.Select(variable => variable.Meant(name)).FirstOrDefault(found => found is not null) is { } ofName)
        {
            return ofName;
        }

        if (parts.Length == 2 && NearMiss.Plain(parts[0]) is "session" or "sessions")
        {
            return $"SESSIONS__{parts[1]}";
        }

        return name.StartsWith("SESSIONS_", StringComparison.OrdinalIgnoreCase) && !Injected.IsMatch(name) ? "" : null;
    }

    // One with a name of the user's choice in it, which AGENTS_HELPER_MODEL is meant to be.
    private sealed record NamedVariable(string Before, string After)
    {
        public static NamedVariable Of(string variable) => new(
            variable[..variable.IndexOf("__*", StringComparison.Ordinal)],
            variable[(variable.IndexOf("*__", StringComparison.Ordinal) + 3)..]);

        public string? Meant(string name)
        {
            // Most are told apart by their ends, for which no expression need be made.
            if (!name.StartsWith(Before.Split("__")[0], StringComparison.OrdinalIgnoreCase)
                || !name.EndsWith(After, StringComparison.OrdinalIgnoreCase))
            {
                return null;
            }

            var pattern = $"^{string.Join("_+", Before.Split("__"))}_+(.+?)_+{After}$";
            return Regex.Match(name, pattern, RegexOptions.IgnoreCase) is { Success: true } match
                ? $"{Before}__{match.Groups[1].Value}__{After}".ToUpperInvariant()
                : null;
        }
    }

    private sealed partial class Warning(List<string> found, ILogger<Warning> logger) : IHostedService
    {
        public Task StartAsync(CancellationToken cancellationToken)
        {
            found.ForEach(unread => Unread(logger, unread));
            return Task.CompletedTask;
        }

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        [LoggerMessage(EventId = 82, Level = LogLevel.Warning, Message = "{Unread}")]
        private static partial void Unread(ILogger logger, string unread);
    }

    // What Kubernetes and Docker set in every container for a service of the name 'sessions' (or 'sessions-…'), and what the tests are
    // told by.
    [GeneratedRegex(@"^SESSIONS_(TEST_\w+|(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?|NAME|ENV_\w+))$",
        RegexOptions.IgnoreCase)]
    private static partial Regex Injected { get; }
}
