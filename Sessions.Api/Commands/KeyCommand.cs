using System.CommandLine;
using System.ComponentModel.DataAnnotations;
using System.Text;
using Sessions.Api.Http.Auth;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>Makes an API key. It is shown once: what is kept is its hash.</summary>
internal static class KeyCommand
{
    private static string Scopes => string.Join(", ", Enum.GetValues<Scope>().Select(scope => Settings.NameOf(scope)));

    public static Command Create()
    {
        Argument<string> name = new("NAME") { Description = "What to call the key in config.yaml" };
        Argument<string> scopes = new("SCOPES") { Description = $"What it is good for, separated by commas: {Scopes}" };
        Argument<string?> user = new("USER")
        {
            Description = "Whose sessions it gets, with the scope user",
            Arity = ArgumentArity.ZeroOrOne,
        };
        return new Command("key", "Makes an API key, and the lines that config.yaml needs for it") { name, scopes, user }.Runs(input =>
        {
            var made = Make(input.Get(name), input.Get(scopes), input.Get(user));
            Console.Out.WriteLine(made);
            return "";
        });
    }

    /// <summary>Makes a key, and what to put into <c>config.yaml</c> for it.</summary>
    /// <exception cref="SettingsException">There can be no such key.</exception>
    public static string Make(string name, string scopes, string? userId)
    {
        if (name.Length == 0 || name.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('_' or '-' or '.')))
        {
            throw new SettingsException($"'{name}' can't be a key's name; allowed: letters, digits, '_', '-' and '.'.");
        }

        var key = ApiKeys.NewKey();
        var settings = new ApiKeySettings
        {
            Hash = Convert.ToHexStringLower(ApiKeys.Hash(key)),
            Scopes = [.. scopes.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Select(ReadScope)],
            UserId = userId,
        };

        // What the server would refuse is refused here.
        var faults = settings.Validate(new ValidationContext(settings, "key", null, null)).Select(fault => fault.ErrorMessage switch
        {
            var rule when fault.MemberNames.First() == nameof(settings.UserId) => $"The argument USER {rule}.",
            var rule => $"The argument SCOPES: {rule}.",
        }).ToList();
        if (faults.Count > 0)
        {
            throw new SettingsException(string.Join(Environment.NewLine, faults));
        }

        name = name.ToLowerInvariant();
        StringBuilder lines = new();
        lines.AppendLine("The key, shown this once. Clients send it as 'Authorization: Bearer KEY', or as 'X-API-Key: KEY'.")
            .AppendLine();
        lines.AppendLine(key).AppendLine();
        lines.AppendLine("What the server keeps of it. Paste this into config.yaml, instead of its lines 'auth:' and 'mode:'.");
        lines.AppendLine($"Where there are keys already, paste what begins with '{name}:' below them.").AppendLine();
        lines.AppendLine("auth:").AppendLine("  mode: api_key").AppendLine("  keys:").AppendLine($"    {name}:")
            .AppendLine($"      hash: {settings.Hash}");
        lines.Append($"      scopes: [{string.Join(", ", settings.Scopes.Select(scope => Settings.NameOf(scope)))}]");
        if (userId is not null)
        {
            lines.AppendLine().Append($"      user_id: {ConfigCommand.Quote(userId)}");
        }

        return lines.ToString();
    }

    private static Scope ReadScope(string text) =>
        Enum.GetValues<Scope>().Where(scope => Settings.NameOf(scope) == text).Select(scope => (Scope?)scope).FirstOrDefault()
        ?? throw new SettingsException(
            $"The argument SCOPES: '{text}' is not a scope; allowed: {Scopes}.{NearMiss.Ask(text, Scopes.Split(", "))}");
}
