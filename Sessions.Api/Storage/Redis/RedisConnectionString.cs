using System.Globalization;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>
/// Finds and reads the connection string: the driver's own form, or a URL (<c>redis://</c>, <c>rediss://</c>). Messages never quote it:
/// it may hold a password.
/// </summary>
internal static class RedisConnectionString
{
    private const int DefaultPort = 6379;

    /// <summary>The names it may have. The second is the one it had at first.</summary>
    public static string[] Names { get; } = ["redis", "cache"];

    /// <summary>What is configured.</summary>
    /// <param name="configuration">The configuration.</param>
    /// <param name="setting">What asks for it.</param>
    /// <exception cref="SettingsException">There is none, or it is not one.</exception>
    public static ConfigurationOptions Read(IConfiguration configuration, string setting)
    {
        var name = NameIn(configuration);
        return Parse(configuration.GetConnectionString(name), $"ConnectionStrings:{name}", setting);
    }

    /// <summary>The name that it has there.</summary>
    public static string NameIn(IConfiguration configuration) =>
        Names.FirstOrDefault(name => !string.IsNullOrWhiteSpace(configuration.GetConnectionString(name))) ?? Names[0];

    /// <summary>Reads one.</summary>
    /// <param name="text">The connection string.</param>
    /// <param name="key">Where it stands.</param>
    /// <param name="setting">What asks for it.</param>
    /// <exception cref="SettingsException">There is none, or it is not one.</exception>
    public static ConfigurationOptions Parse(string? text, string key, string setting)
    {
        if (string.IsNullOrWhiteSpace(text))
        {
            throw new SettingsException(
                $"{setting}: redis needs a connection string; set the environment variable ConnectionStrings__{Names[0]}, "
                + "for example to localhost:6379.");
        }

        try
        {
            if (text.Contains("://", StringComparison.Ordinal))
            {
                return ParseUrl(text.Trim(), key);
            }

            var options = ConfigurationOptions.Parse(text);
            return options.EndPoints.Count > 0 ? options : throw Refused(key, " (it names no server)");
        }
        catch (Exception e) when (e is ArgumentException or FormatException or OverflowException)
        {
            // Not what the driver says: it quotes the string.
            throw Refused(key, "");
        }
    }

    private static ConfigurationOptions ParseUrl(string text, string key)
    {
        if (!Uri.TryCreate(text, UriKind.Absolute, out var url) || url.Scheme is not ("redis" or "rediss") || url.Host.Length == 0)
        {
            throw Refused(key, " (a URL begins with redis:// or rediss:// and a host)");
        }

        if (url.Query.Length > 0 || url.Fragment.Length > 0)
        {
            throw Refused(key, " (nothing may follow '?' or '#'; in a password they are percent-encoded)");
        }

        ConfigurationOptions options = new() { EndPoints = { { url.IdnHost, url.Port < 0 ? DefaultPort : url.Port } } };
        if (url.Scheme == "rediss")
        {
            (options.Ssl, options.SslHost) = (true, url.IdnHost);
        }

        // 'user:password', or ':password', or a password alone.
        if (url.UserInfo.Split(':', 2) is [var user, var password])
        {
            options.User = user.Length > 0 ? Uri.UnescapeDataString(user) : null;
            options.Password = Uri.UnescapeDataString(password);
        }
        else if (url.UserInfo.Length > 0)
        {
            options.Password = Uri.UnescapeDataString(url.UserInfo);
        }

        if (url.AbsolutePath.Trim('/') is { Length: > 0 } database)
        {
            options.DefaultDatabase = int.TryParse(database, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number
                : throw Refused(key, " (what follows the host is the number of a database)");
        }

        return options;
    }

    private static SettingsException Refused(string key, string reason) => new(
        $"{key}: is not a Redis connection string{reason}; allowed: host:port[,host:port…][,password=…][,ssl=true]…, "
        + "or redis[s]://[user:password@]host[:port][/database].");
}
