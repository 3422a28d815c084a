using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>Commands on the database file. They neither create it nor bring it up to date, and disturb no server that works on it.</summary>
internal static class SqliteCommands
{
    /// <summary>Copies the database as it is at this moment.</summary>
    public static string Backup(WebApplicationBuilder builder, string target)
    {
        var file = Find(builder);
        SqliteBackup.Write(file, Path.GetFullPath(target));
        return $"'{file.Path}' is copied to '{target}'.";
    }

    /// <summary>Copies users' keys as they are at this moment, in the place of an earlier copy: what has been destroyed since is not to be kept.</summary>
    public static string BackupKeys(WebApplicationBuilder builder, string target)
    {
        var file = SqliteFile.Existing(Find(builder).Path + SqliteUserKeys.Suffix);
        var copy = Path.GetFullPath(target);
        var unfinished = $"{copy}.{Guid.NewGuid():N}";
        SqliteBackup.Write(file, unfinished);
        File.Move(unfinished, copy, overwrite: true);
        return $"'{file.Path}' is copied to '{target}'.";
    }

    /// <summary>Looks for damage.</summary>
    public static string Check(WebApplicationBuilder builder)
    {
        var file = Find(builder);
        using var link = file.OpenReader();
        return link.Ask("PRAGMA integrity_check(1)") is var found and not "ok"
            ? throw new InvalidDataException($"'{file.Path}' is damaged: {found}")
            : $"'{file.Path}' is in order.";
    }

    private static SqliteFile Find(WebApplicationBuilder builder)
    {
        var options = ServiceDefaults.Settings.Read<SessionSettings>(builder.Configuration, SessionSettings.Section);
        return options.StorageType == StorageType.Sqlite
            ? SqliteFile.Existing(SqliteFile.Locate(options.DbPath, YamlConfiguration.BaseFolder(builder.Configuration)))
            : throw new SettingsException($"sessions.storage_type is {Settings.NameOf(options.StorageType)}; this command is for sqlite.");
    }
}
