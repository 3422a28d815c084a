using Microsoft.Data.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>What the executable does besides serving: <c>dotnet run --project Sessions.Api -- backup FILE</c>. docs/sqlite.md explains each.</summary>
internal static class Commands
{
    private const int Failed = 1;
    private const int Misused = 2;

    private const string Usage = """
        Commands (without one, the server starts):
          backup FILE     copies the database to FILE, also while a server works on it (storage_type: sqlite)
          check           looks for damage in the database (storage_type: sqlite)
          export FILE|-   writes all sessions as NDJSON to FILE or to the standard output
          import FILE|-   adds the sessions that an export wrote, but for those that are there already
          backup-keys FILE  copies users' keys to FILE, in the place of an earlier copy (encryption.enabled, storage_type: sqlite)
          key NAME SCOPES [USER]  makes an API key: SCOPES are user, service, admin, separated by commas; user needs the USER
          rekey           wraps all users' keys with the current master key (encryption.enabled)
        """;

    /// <summary>Runs the command that the arguments name.</summary>
    /// <returns>The exit code; <see langword="null"/> where they name none.</returns>
    public static Task<int>? Start(string[] args)
    {
        if (args is not [{ Length: > 0 } name, ..] || name[0] == '-' || name.Contains('=', StringComparison.Ordinal))
        {
            return null;
        }

        // What follows the words is configuration, as for the server.
        var words = args.TakeWhile((arg, i) => i == 0 || arg == "-" || !arg.StartsWith('-')).ToArray();
        return RunAsync(words, args[words.Length..]);
    }

    private static async Task<int> RunAsync(string[] words, string[] settings)
    {
        using var interrupted = new CancellationTokenSource();
        Console.CancelKeyPress += (_, e) =>
        {
            e.Cancel = true;
            interrupted.Cancel();
        };
        try
        {
            switch (words)
            {
                case ["backup", var file]:
                    await Console.Error.WriteLineAsync(SqliteCommands.Backup(Settings(settings), file));
                    return 0;
                case ["check"]:
                    await Console.Error.WriteLineAsync(SqliteCommands.Check(Settings(settings)));
                    return 0;
                case ["export", var file]:
                    await Console.Error.WriteLineAsync(await ArchiveCommands.ExportAsync(Settings(settings), file, interrupted.Token));
                    return 0;
                case ["import", var file]:
                    await Console.Error.WriteLineAsync(await ArchiveCommands.ImportAsync(Settings(settings), file, interrupted.Token));
                    return 0;
                case ["backup-keys", var file]:
                    await Console.Error.WriteLineAsync(SqliteCommands.BackupKeys(Settings(settings), file));
                    return 0;
                case ["key", var name, var scopes, .. { Length: <= 1 } user]:
                    await Console.Out.WriteLineAsync(KeyCommand.Make(name, scopes, user.FirstOrDefault()));
                    return 0;
                case ["rekey"]:
                    await Console.Error.WriteLineAsync(await EncryptionCommands.RekeyAsync(Settings(settings), interrupted.Token));
                    return 0;
                default:
                    await Console.Error.WriteLineAsync($"'{string.Join(' ', words)}' is no command.{Environment.NewLine}{Usage}");
                    return Misused;
            }
        }
        catch (OperationCanceledException)
        {
            await Console.Error.WriteLineAsync("Interrupted.");
        }
        catch (SqliteException e)
        {
            await Console.Error.WriteLineAsync(SqliteFailure.ToUnavailable(e).Message + " " + e.Message);
        }
        catch (Exception e) when (e is SettingsException or StoreUnavailableException or InvalidDataException or IOException or UnauthorizedAccessException)
        {
            await Console.Error.WriteLineAsync(e.Message);
        }

        return Failed;
    }

    // The server's own builder, so that a command means the same store as the server; it is never started, and says nothing on the standard output.
    private static WebApplicationBuilder Settings(string[] args)
    {
        var builder = WebApplication.CreateBuilder(args);
        builder.AddYamlConfiguration();
        builder.Logging.ClearProviders();
        return builder;
    }
}
