using Sessions.Api.Engine;
using Sessions.Api.Storage.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>What commands on the configured store have in common, whichever store it is.</summary>
internal static class StoreCommands
{
    /// <summary>The application with the configured store, not started.</summary>
    /// <param name="input">The command.</param>
    /// <param name="mayCreate">Whether an empty store is made where there is none.</param>
    /// <exception cref="SettingsException">There is no store that a command can get at.</exception>
    public static WebApplication Open(CommandInput input, bool mayCreate = false)
    {
        var builder = input.CreateBuilder();
        var options = builder.AddSettings<SessionSettings>(SessionSettings.Section);
        if (options.StorageType == StorageType.Memory)
        {
            throw new SettingsException(
                "sessions.storage_type is memory: such sessions are in a server's own memory, where no command can get at them.");
        }

        if (options.StorageType == StorageType.Sqlite && !mayCreate)
        {
            SqliteFile.Existing(SqliteFile.Locate(options.DbPath, YamlConfiguration.BaseFolder(builder.Configuration)));
        }

        return builder.AddSessions().Build();
    }
}
