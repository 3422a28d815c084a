using System.ComponentModel.DataAnnotations;
using System.Text.RegularExpressions;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents.Tools;

/// <summary>The tool servers of an agent, by the names that they have in its answers (<c>server_label</c>).</summary>
internal sealed class ToolServersSettings : Dictionary<string, ToolServerSettings>
{
    public ToolServersSettings() : base(StringComparer.OrdinalIgnoreCase)
    {
    }
}

/// <summary>The headers of what is sent to a tool server.</summary>
internal sealed class ToolHeadersSettings : Dictionary<string, string>
{
    public ToolHeadersSettings() : base(StringComparer.OrdinalIgnoreCase)
    {
    }
}

/// <summary>A server of tools that speaks the Model Context Protocol: at an address, or a program on this machine.</summary>
internal sealed partial class ToolServerSettings : IValidatableObject
{
    /// <summary>Its address, which may be the name of a service.</summary>
    public Uri? Url { get; set; }

    /// <summary>Headers of what is sent there; <c>${NAME}</c> stands for an environment variable.</summary>
    public ToolHeadersSettings Headers { get; set; } = [];

    /// <summary>The program, where the server runs on this machine and is talked to by its standard input and output.</summary>
    public string? Command { get; set; }

    /// <summary>The program's arguments.</summary>
    public string[] Args { get; set; } = [];

    /// <summary>The environment variables that the program is given, beside those that every program needs, such as <c>PATH</c>.</summary>
    public string[] Env { get; set; } = [];

    /// <summary>The tools that the agent may call; all of the server's where there are none.</summary>
    public string[] Allowed { get; set; } = [];

    /// <summary>How long a call may take.</summary>
    [Range(0.01, 3600)]
    public double TimeoutSeconds { get; set; } = 30;

    /// <summary>How long a result may be, as UTF-8. A longer one is a failure, which the model is told.</summary>
    [Range(1, 1 << 28)]
    public int ResultBytes { get; set; } = 256 << 10;

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (Url is null == string.IsNullOrEmpty(Command))
        {
            yield return new(
                Url is null ? "is missing; a tool server needs a url, or a command that starts it"
                    : "excludes command: a tool server has one of them",
                [nameof(Url), nameof(Command)]);
        }

        if (!Label.IsMatch(validationContext.MemberName ?? ""))
        {
            yield return new("must be called by 1 to 64 letters, digits, '_' and '-'", []);
        }

        if (Url is null && Headers.Count > 0)
        {
            yield return new("are for a url; a command gets environment variables by env", [nameof(Headers)]);
        }

        if (Command is null && (Args.Length > 0 || Env.Length > 0))
        {
            yield return new("is only for a command", [Args.Length > 0 ? nameof(Args) : nameof(Env)]);
        }

        if (validationContext.GetService(typeof(IConfiguration)) is not IConfiguration configuration)
        {
            yield break;
        }

        foreach (var (name, value) in Headers)
        {
            // What a variable holds counts too: a secret that was read from a file often ends with a line break.
            if (!HeaderName.IsMatch(name) || Expand(value, configuration).AsSpan().ContainsAnyExceptInRange(' ', '~'))
            {
                yield return new($"'{Error.Shorten(name)}' can't be a header with that value", [nameof(Headers)]);
            }

            // A reference that stands in the file is to be there; a secret itself is not to stand in it.
            foreach (var missing in Variable.Matches(value)
                .Select(match => match.Groups[1].Value)
                .Where(variable => string.IsNullOrEmpty(ValueOf(variable, configuration))))
            {
                yield return new($"{name} needs the environment variable {missing}, which is not set", [nameof(Headers)]);
            }
        }

        foreach (var missing in Env.Where(variable => string.IsNullOrEmpty(ValueOf(variable, configuration))))
        {
            yield return new($"needs the environment variable {Error.Shorten(missing)}, which is not set", [nameof(Env)]);
        }
    }

    /// <summary>A header's value with the environment's in the place of their names.</summary>
    public static string Expand(string value, IConfiguration configuration) =>
        Variable.Replace(value, match => ValueOf(match.Groups[1].Value, configuration) ?? "");

    /// <summary>The value of an environment variable. Configuration has it by a key, in which two underscores are a colon.</summary>
    public static string? ValueOf(string variable, IConfiguration configuration) =>
        configuration[variable.Replace("__", ConfigurationPath.KeyDelimiter, StringComparison.Ordinal)];

    [GeneratedRegex(@"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")]
    private static partial Regex Variable { get; }

    [GeneratedRegex("^[A-Za-z0-9_-]{1,64}$")]
    private static partial Regex Label { get; }

    [GeneratedRegex("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
    private static partial Regex HeaderName { get; }
}
