using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using System.Reflection;
using Microsoft.Data.Sqlite;
using Sessions.Api.Storage;
using Sessions.Api.Storage.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>What the executable does: it serves, or runs one of the commands. docs/commands.md has them all.</summary>
internal static class CommandLine
{
    private const int Misused = 2;

    private const string Settings = """
        Settings:
          --SECTION:KEY=VALUE  Any key of config.yaml, for this run: --sessions:storage_type=sqlite.
          SECTION__KEY         The same as an environment variable: SESSIONS__STORAGE_TYPE=sqlite.

        Exit codes: 0 done, 1 not done (one sentence says why), 2 a command line that can't be understood.
        """;

    private static readonly Option<ushort?> Port = new("--port", "-p")
    {
        Description = "The port to listen on, for this machine only (default: 8080)",
        HelpName = "PORT",
        CustomParser = ReadPort,
    };

    // These two are here for their description: being settings, they come by way of the next one.
    private static readonly Option<string> Config = new(CommandLineSettings.Config)
    {
        Description = "The configuration file. Without it: config.yaml, here or next to the program",
        HelpName = "FILE",
        Recursive = true,
    };

    private static readonly Option<string> Urls = new("--urls")
    {
        Description = "The addresses to listen on, separated by semicolons: http://0.0.0.0:8080",
        HelpName = "URLS",
    };

    // How what was taken out of the command line beforehand comes through the parser, which could not know its names.
    private static readonly Option<string[]> Set = new("--set") { Hidden = true, Recursive = true };

    /// <summary>The version of the program.</summary>
    public static string Version { get; } = typeof(CommandLine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!
        .InformationalVersion.Split('+')[0];

    /// <summary>Runs what the arguments ask for.</summary>
    /// <param name="args">The command line.</param>
    /// <param name="serve">Runs the server: with settings of the command line, and on a port where one is given.</param>
    /// <returns>The exit code.</returns>
    public static Task<int> RunAsync(string[] args, Func<string[], ushort?, Task> serve)
    {
        var root = Create(serve);
        var (settings, others) = CommandLineSettings.Split(args, ApiSettings.Sections);
        var parsed = root.Parse([.. others, .. settings.Select(setting => $"{Set.Name}={setting[2..]}")],
            new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0 && parsed.Action is ParseErrorAction)
        {
            return ExplainAsync(parsed);
        }

        // A server ends when it has finished what it does: see GracefulStop.
        var isServer = parsed.CommandResult.Command is RootCommand or { Name: "serve" };
        return parsed.InvokeAsync(new InvocationConfiguration
        {
            EnableDefaultExceptionHandler = false,
            ProcessTerminationTimeout = isServer ? null : TimeSpan.FromSeconds(10),
        });
    }

    /// <summary>Says what a command does.</summary>
    /// <param name="command">The command.</param>
    /// <param name="run">Does it, and says what it has done; failures are its exceptions.</param>
    public static Command Runs(this Command command, Func<CommandInput, CancellationToken, Task<string>> run)
    {
        command.SetAction((parsed, cancellationToken) => GuardAsync(async () =>
        {
            // Not to the standard output, where a command's data goes.
            if (await run(new CommandInput(parsed, SettingsOf(parsed)), cancellationToken) is { Length: > 0 } done)
            {
                await Console.Error.WriteLineAsync(done);
            }
        }));
        return command;
    }

    /// <inheritdoc cref="Runs(Command, Func{CommandInput, CancellationToken, Task{string}})"/>
    public static Command Runs(this Command command, Func<CommandInput, string> run) =>
        command.Runs((input, _) => Task.Run(() => run(input)));

    private static RootCommand Create(Func<string[], ushort?, Task> serve)
    {
        RootCommand root = new("Sessions, the durable conversation layer for LLM agents. Without a command it serves.")
        {
            // A command more is a line more.
            Serving(new Command("serve", "Serves the API; the default command"), serve),
            ConfigCommand.Create(),
            SqliteCommands.Check(),
            SqliteCommands.Backup(),
            SqliteCommands.BackupKeys(),
            SqliteCommands.Restore(),
            SqliteCommands.Migrate(),
            ArchiveCommands.Export(),
            ArchiveCommands.Import(),
            ChatCommand.Create(),
            KeyCommand.Create(),
            EncryptionCommands.Rekey(),
        };
        root.HelpName = "Sessions.Api";
        root.Options.Add(Config);
        root.Options.Add(Set);
        Serving(root, serve);

        // Understood after each command too.
        root.Options.Remove(root.Options.OfType<VersionOption>().Single());
        root.Options.Add(new Option<bool>("--version")
        {
            Description = "Show the version",
            Recursive = true,
            Arity = ArgumentArity.Zero,
            Action = new ShowVersion(),
        });
        var help = root.Options.OfType<HelpOption>().Single();
        help.Description = "Show this help; after a command, that command's";
        help.Action = new ShowHelp((HelpAction)help.Action!);
        return root;
    }

    private static Command Serving(Command command, Func<string[], ushort?, Task> serve)
    {
        command.Options.Add(Port);
        command.Options.Add(Urls);
        command.Validators.Add(result =>
        {
            var hasUrls = (result.GetValue(Set) ?? []).Any(setting => setting.StartsWith("urls=", StringComparison.OrdinalIgnoreCase));
            if (hasUrls && result.GetResult(Port) is not null)
            {
                result.AddError("--port and --urls exclude one another.");
            }
        });
        command.SetAction((parsed, _) => GuardAsync(() => serve(SettingsOf(parsed), parsed.GetValue(Port))));
        return command;
    }

    private static string[] SettingsOf(ParseResult parsed) => [.. (parsed.GetValue(Set) ?? []).Select(setting => $"--{setting}")];

    private static ushort? ReadPort(ArgumentResult result)
    {
        var text = result.Tokens.Count > 0 ? result.Tokens[0].Value : "";
        if (ushort.TryParse(text, out var port) && port > 0)
        {
            return port;
        }

        result.AddError($"--port: '{text}' is not allowed; allowed: a whole number from 1 to 65535.");
        return null;
    }

    private static Task<int> GuardAsync(Func<Task> run) => ServiceProgram.RunAsync(run, $"{Port.Name} or {Urls.Name}", exception =>
        exception switch
        {
            StoreUnavailableException => exception.Message,
            SqliteException sqlite => $"{SqliteFailure.ToUnavailable(sqlite).Message} {sqlite.Message}",
            _ => null,
        });

    private static async Task<int> ExplainAsync(ParseResult parsed)
    {
        var command = parsed.CommandResult.Command;
        List<string> lines = [.. Unknown(parsed)];
        if (lines.Count == 0)
        {
            lines.AddRange(command.Arguments
                .Where(argument => (parsed.GetResult(argument)?.Tokens.Count ?? 0) < argument.Arity.MinimumNumberOfValues)
                .Select(argument => $"The argument {argument.Name} is missing: {Lower(argument.Description!)}."));
        }

        if (lines.Count == 0)
        {
            lines.AddRange(parsed.Errors.Select(error => error.SymbolResult is OptionResult { Tokens.Count: 0, Option: var option }
                ? $"{option.Name} needs a value: {option.Name} {option.HelpName}." : error.Message));
        }

        lines.Add($"'Sessions.Api {(command is RootCommand ? "" : $"{command.Name} ")}--help' shows what there is.");
        await Console.Error.WriteLineAsync(string.Join(Environment.NewLine, lines.Distinct()));
        return Misused;

        static string Lower(string text) => char.ToLowerInvariant(text[0]) + text[1..];
    }

    private static IEnumerable<string> Unknown(ParseResult parsed)
    {
        var command = parsed.CommandResult.Command;
        var options = command.Options.Concat(parsed.RootCommandResult.Command.Options.Where(option => option.Recursive))
            .Where(option => !option.Hidden).Select(option => option.Name).Distinct().ToList();
        for (var i = 0; i < parsed.UnmatchedTokens.Count; i++)
        {
            var token = parsed.UnmatchedTokens[i];
            if (token.StartsWith('-') || token.Contains('=', StringComparison.Ordinal))
            {
                yield return CommandLineSettings.Unknown(token, options, ApiSettings.Sections);
            }
            else if (i > 0 && parsed.UnmatchedTokens[i - 1].StartsWith('-'))
            {
                // Perhaps the value of the one before.
            }
            else if (command is RootCommand)
            {
                yield return $"'{token}' is not a command.{NearMiss.Ask(token, command.Subcommands.Select(known => known.Name))}";
                yield break;
            }
            else
            {
                yield return $"'{token}' is one argument too many.";
            }
        }
    }

    private sealed class ShowVersion : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            parseResult.InvocationConfiguration.Output.WriteLine(Version);
            return 0;
        }
    }

    private sealed class ShowHelp(HelpAction help) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            var shown = help.Invoke(parseResult);
            parseResult.InvocationConfiguration.Output.WriteLine(Settings);
            return shown;
        }
    }
}

/// <summary>What a command is given.</summary>
internal sealed class CommandInput(ParseResult parsed, string[] settings)
{
    /// <summary>The configuration as it is, settings of the command line included.</summary>
    /// <exception cref="SettingsException">The file can't be read.</exception>
    public WebApplicationBuilder CreateUncheckedBuilder() => ApiSettings.CreateUncheckedBuilder(settings);

    /// <summary>The server's builder, with all settings registered. It says nothing on the standard output.</summary>
    /// <exception cref="SettingsException">Something in the configuration is not allowed.</exception>
    public WebApplicationBuilder CreateBuilder()
    {
        var builder = ApiSettings.CreateBuilder(settings);
        builder.Logging.ClearProviders();
        return builder;
    }

    /// <summary>The value of an argument.</summary>
    public T Get<T>(Argument<T> argument) => parsed.GetValue(argument)!;

    /// <summary>The value of an option.</summary>
    public T? Get<T>(Option<T> option) => parsed.GetValue(option);
}
