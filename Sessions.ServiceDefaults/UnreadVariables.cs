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
        List<string> roots = [];
        foreach (var section in sections)
        {
            roots.Add(section.Name.ToUpperInvariant());
        }

        var variables = Settings.Keys(sections)
            .Select(key => key.Replace(":", "__", StringComparison.Ordinal).ToUpperInvariant()).ToList();
        return names.Where(name => !name.Equals(YamlConfiguration.PathKey, StringComparison.OrdinalIgnoreCase))
            .Select(name => (Name: name, Meant: Meant(name, roots, variables)))
            .Where(found => found.Meant is not null)
            .OrderBy(found => found.Name, StringComparer.Ordinal)
            .Select(found => $"The environment variable {found.Name} is not read. "
                + (found.Meant is { Length: > 0 } meant ? $"Did you mean {meant}?" : "docs/configuration.md has those that are."));
    }

    // Null where it looks like none of ours, and empty where it does and nothing is near.
    private static string? Meant(string name, List<string> roots, List<string> variables)
    {
        var parts = name.Split("__", 2);
        if (parts.Length == 2 && (roots.Contains(parts[0], StringComparer.OrdinalIgnoreCase)
            || parts[0].Equals("ConnectionStrings", StringComparison.OrdinalIgnoreCase)))
        {
            return null;
        }

        // One of ours but for a slip or a separator.
        var plain = NearMiss.Plain(name);
        if (variables.Concat(Connections).Append(YamlConfiguration.PathKey)
            .Where(variable => !variable.Contains('*', StringComparison.Ordinal))
            .Where(variable => Math.Abs(NearMiss.Plain(variable).Length - plain.Length) <= Slips)
            .Where(variable => NearMiss.Plain(variable)[0] == plain.FirstOrDefault()) is var near
            && NearMiss.Find(name, near) is { } meant)
        {
            return meant;
        }

        // A name of the user's choice is in it: AGENTS_HELPER_MODEL.
        foreach (var variable in variables.Where(variable => variable.Contains('*', StringComparison.Ordinal)))
        {
            var (before, after) = (variable[..variable.IndexOf("__*", StringComparison.Ordinal)],
                variable[(variable.IndexOf("*__", StringComparison.Ordinal) + 3)..]);
            var pattern = $"^{string.Join("_+", before.Split("__"))}_+(.+?)_+{after}$";
            if (Regex.Match(name, pattern, RegexOptions.IgnoreCase) is { Success: true } match)
            {
                return $"{before}__{match.Groups[1].Value}__{after}".ToUpperInvariant();
            }
        }

        if (parts.Length == 2 && NearMiss.Plain(parts[0]) is "session" or "sessions")
        {
            return $"SESSIONS__{parts[1]}";
        }

        return name.StartsWith("SESSIONS_", StringComparison.OrdinalIgnoreCase) && !Injected.IsMatch(name) ? "" : null;
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
