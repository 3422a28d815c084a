using Sessions.Api.Domain;

namespace Sessions.Api.Http.OpenAi;

/// <summary>The <c>openai:</c> section of <c>config.yaml</c>.</summary>
internal sealed class OpenAiSettings
{
    /// <summary>The section's name.</summary>
    public const string Section = "openai";

    /// <summary>The headers by which a chat completion names the session that it is a turn of, separated by commas; the first that is
    /// there counts.</summary>
    public string SessionHeader { get; set; } = "X-Session-Id";

    /// <summary>The session that a request names, if it does.</summary>
    /// <exception cref="OpenAiException">The name is not allowed.</exception>
    public string? SessionOf(IHeaderDictionary headers)
    {
        foreach (var name in SessionHeader.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            if (headers.TryGetValue(name, out var values) && string.Join(',', values.ToArray()) is { Length: > 0 } id)
            {
                return Identifiers.IsSessionId(id)
                    ? id
                    : throw new OpenAiException(name, $"Invalid '{name}': {Identifiers.SessionIdRule}.");
            }
        }

        return null;
    }
}
