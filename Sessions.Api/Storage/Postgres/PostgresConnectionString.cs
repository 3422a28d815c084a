using Npgsql;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Storage.Postgres;

/// <summary>
/// Finds and reads the connection string: the driver's own form, or a URL (<c>postgres://</c>, <c>postgresql://</c>). Messages never
/// quote it: it may hold a password.
/// </summary>
internal static class PostgresConnectionString
{
    /// <summary>Where it stands.</summary>
    public const string Key = "ConnectionStrings:postgres";

    private const int DefaultPort = 5432;

    // What may follow the '?' of a URL, as libpq has it, and what the driver calls it.
    private static readonly Dictionary<string, string> Parameters = new(StringComparer.OrdinalIgnoreCase)
    {
        ["sslmode"] = "SSL Mode",
        ["sslrootcert"] = "Root Certificate",
        ["channel_binding"] = "Channel Binding",
        ["connect_timeout"] = "Timeout",
        ["application_name"] = "Application Name",
        ["options"] = "Options",
    };

    /// <summary>What is configured.</summary>
    /// <exception cref="SettingsException">There is none, or it is not one.</exception>
    public static NpgsqlConnectionStringBuilder Read(IConfiguration configuration) => Parse(configuration[Key]);

    /// <summary>Reads one.</summary>
    /// <exception cref="SettingsException">There is none, or it is not one.</exception>
    public static NpgsqlConnectionStringBuilder Parse(string? text)
    {
        if (string.IsNullOrWhiteSpace(text))
        {
            throw new SettingsException(
                "sessions.storage_type: postgres needs a connection string; set the environment variable ConnectionStrings__postgres, "
                + "for example to Host=localhost;Username=sessions;Password=…;Database=sessions.");
        }

        try
        {
            // In the driver's own form '=' comes before anything that a password may contain.
            var trimmed = text.Trim();
            var isUrl = trimmed.IndexOf("://", StringComparison.Ordinal) is >= 0 and var scheme
                && !trimmed[..scheme].Contains('=', StringComparison.Ordinal);
            var settings = isUrl ? ParseUrl(trimmed) : new NpgsqlConnectionStringBuilder(trimmed);
            if (string.IsNullOrWhiteSpace(settings.Host))
            {
                throw Refused(" (it names no server)");
            }

            // They would name values, and with them users.
            settings.IncludeErrorDetail = false;
            return settings;
        }
        catch (Exception e) when (e is ArgumentException or FormatException or OverflowException or InvalidCastException
            or KeyNotFoundException or NotSupportedException)
        {
            // Not what the driver says: it may quote the string.
            throw Refused("");
        }
    }

    /// <summary>Which server and database it names.</summary>
    public static string Describe(NpgsqlConnectionStringBuilder settings)
    {
        var servers = (settings.Host ?? "").Split(',').Select(host => host.Trim())
            .Select(host => host.StartsWith('/') || (host.Contains(':', StringComparison.Ordinal) && !host.EndsWith(']')) ? host
                : $"{host}:{settings.Port}");
        return $"{string.Join(", ", servers)}/{settings.Database ?? settings.Username}".TrimEnd('/');
    }

    private static NpgsqlConnectionStringBuilder ParseUrl(string text)
    {
        if (!Uri.TryCreate(text, UriKind.Absolute, out var url) || url.Scheme is not ("postgres" or "postgresql") || url.Host.Length == 0)
        {
            throw Refused(" (a URL begins with postgres:// or postgresql:// and a host)");
        }

        if (url.Fragment.Length > 0)
        {
            throw Refused(" (nothing may follow '#'; in a password it is percent-encoded)");
        }

        NpgsqlConnectionStringBuilder settings = new() { Host = url.IdnHost, Port = url.Port < 0 ? DefaultPort : url.Port };
        var user = url.UserInfo.Split(':', 2);
        if (user[0].Length > 0)
        {
            settings.Username = Uri.UnescapeDataString(user[0]);
        }

        if (user.Length > 1)
        {
            settings.Password = Uri.UnescapeDataString(user[1]);
        }

        if (url.AbsolutePath.Trim('/') is { Length: > 0 } database)
        {
            settings.Database = Uri.UnescapeDataString(database);
        }

        foreach (var parameter in url.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var (name, value) = parameter.Split('=', 2) is [var before, var after] ? (before, Uri.UnescapeDataString(after))
                : (parameter, "");
            if (!Parameters.TryGetValue(name, out var keyword))
            {
                throw Refused($" (after '?' may follow {string.Join(", ", Parameters.Keys)})");
            }

            // verify-full is VerifyFull there.
            settings[keyword] = keyword == "SSL Mode" ? value.Replace("-", "", StringComparison.Ordinal) : value;
        }

        return settings;
    }

    private static SettingsException Refused(string reason) => new(
        $"{Key}: is not a PostgreSQL connection string{reason}; allowed: "
        + "Host=…[;Port=…][;Username=…][;Password=…][;Database=…]…, or postgres://[user[:password]@]host[:port][/database][?sslmode=…].");
}
