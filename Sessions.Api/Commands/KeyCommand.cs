using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Makes an API key. It is shown once: what is kept is its hash.</summary>
internal static class KeyCommand
{
    /// <summary>Makes a key, and what to put into <c>config.yaml</c> for it.</summary>
    /// <exception cref="SettingsException">There can be no such key.</exception>
    public static string Make(string name, string scopes, string? userId)
    {
        var key = ApiKeys.NewKey();
        var settings = new ApiKeySettings
        {
            Hash = Convert.ToHexStringLower(ApiKeys.Hash(key)),
            Scopes = [.. scopes.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Select(ReadScope)],
            UserId = userId,
        };

        // What the server would refuse is refused here.
        _ = new ApiKeys(new ApiKeysSettings { [name] = settings });
        var user = userId is null ? "" : $"{Environment.NewLine}      user_id: \"{userId.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)}\"";
        return $"""
            The key, shown this once:

              {key}

            For config.yaml:

            auth:
              mode: api_key
              keys:
                {name}:
                  hash: {settings.Hash}
                  scopes: [{string.Join(", ", settings.Scopes.Select(scope => Settings.NameOf(scope)))}]{user}
            """;
    }

    private static Scope ReadScope(string text) => Enum.GetValues<Scope>().Where(scope => Settings.NameOf(scope) == text).Select(scope => (Scope?)scope).FirstOrDefault()
        ?? throw new SettingsException($"'{text}' is no scope; allowed: user, service, admin.");
}
