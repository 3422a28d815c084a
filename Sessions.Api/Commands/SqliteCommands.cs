using System.CommandLine;
using Sessions.Api.Engine.Sealing;
using Sessions.Api.Storage.Postgres;
using Sessions.Api.Storage.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>
/// Commands on the database file. docs/sqlite.md explains each. But for restore and migrate, they neither create it nor bring it up to
/// date, and disturb no server that works on it.
/// </summary>
internal static class SqliteCommands
{
    /// <summary>Copies the database as it is at this moment.</summary>
    public static Command Backup()
    {
        Argument<string> target = new("FILE") { Description = "Where to write the copy; it must not exist yet" };
        Command command = new("backup", "Copies the database to a file, also while a server works on it (storage_type: sqlite)") { target };
        return command.Runs(input =>
        {
            var file = SqliteFile.Existing(Locate(input));
            SqliteBackup.Write(file, Path.GetFullPath(input.Get(target)));
            return $"'{file.Path}' is copied to '{input.Get(target)}'.";
        });
    }

    /// <summary>Copies users' keys as they are at this moment, in the place of an earlier copy: what has been destroyed since is not to
    /// be kept.</summary>
    public static Command BackupKeys()
    {
        Argument<string> target = new("FILE") { Description = "Where to write the copy; an earlier one is replaced" };
        Command command = new("backup-keys", "Copies users' keys to a file (encryption.enabled, storage_type: sqlite)") { target };
        return command.Runs(input =>
        {
            var file = SqliteFile.Existing(Locate(input) + SqliteUserKeys.Suffix);
            var copy = Path.GetFullPath(input.Get(target));
            var unfinished = $"{copy}.{Guid.NewGuid():N}";
            SqliteBackup.Write(file, unfinished);
            File.Move(unfinished, copy, overwrite: true);
            return $"'{file.Path}' is copied to '{input.Get(target)}'.";
        });
    }

    /// <summary>Puts a backup where the database belongs.</summary>
    public static Command Restore()
    {
        Argument<string> source = new("FILE") { Description = "The copy that 'backup' has written" };
        Option<bool> replace = new("--replace") { Description = "Even if there is a database: it is kept under another name" };
        const string Description = "Replaces the database by a backup, while no server runs (storage_type: sqlite)";
        return new Command("restore", Description) { source, replace }.Runs(input =>
        {
            var database = Locate(input);
            return SqliteRestore.Run(Path.GetFullPath(input.Get(source)), database, input.Get(replace)) is { } kept
                ? $"'{input.Get(source)}' is now '{database}'; what was there is '{kept}'."
                : $"'{input.Get(source)}' is now '{database}'.";
        });
    }

    /// <summary>Does now what the first start of a new version does.</summary>
    public static Command Migrate() =>
        new Command(
            "migrate", "Brings the database to this version's format, as the next start would (storage_type: sqlite, postgres)")
            .Runs(input =>
        {
            var builder = input.CreateBuilder();
            if (builder.AddSettings<SessionSettings>(SessionSettings.Section).StorageType == StorageType.Postgres)
            {
                using var database = PostgresConnection.Open(PostgresConnectionString.Read(builder.Configuration));
                return $"The tables in PostgreSQL have format {PostgresSchema.Version} now.";
            }

            var path = SqliteFile.Existing(Locate(input)).Path;
            var before = VersionOf(path);
            SqliteFile.Prepare(path);
            var now = VersionOf(path);
            return before == now ? $"'{path}' has format {now} already." : $"'{path}' had format {before} and has format {now} now.";
        });

    /// <summary>Looks for damage.</summary>
    public static Command Check() => new Command(
        "check", "Reads the whole database and looks for damage (storage_type: sqlite)").Runs(input =>
    {
        var file = SqliteFile.Existing(Locate(input));
        using var link = file.OpenReader();
        return link.Ask("PRAGMA integrity_check(1)") is var found and not "ok"
            ? throw new InvalidDataException($"'{file.Path}' is damaged: {found}")
            : $"'{file.Path}' is in order.";
    });

    private static int VersionOf(string path)
    {
        using var link = new SqliteDatabase(path, TimeSpan.FromSeconds(1));
        return (int)SqliteSchema.VersionOf(link);
    }

    private static string Locate(CommandInput input)
    {
        var builder = input.CreateBuilder();
        var options = builder.AddSettings<SessionSettings>(SessionSettings.Section);
        return options.StorageType == StorageType.Sqlite
            ? SqliteFile.Locate(options.DbPath, YamlConfiguration.BaseFolder(builder.Configuration))
            : throw new SettingsException($"sessions.storage_type is {Settings.NameOf(options.StorageType)}; this command is for sqlite.");
    }
}
