using System.Globalization;
using Microsoft.Data.Sqlite;
using Sessions.Api.Storage;
using Sessions.Api.Storage.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Commands;

/// <summary>Puts a backup in the place of the database.</summary>
internal static class SqliteRestore
{
    private static readonly string[] Suffixes = ["", "-wal", "-shm"];

    /// <summary>Does it: the database is either as it was, or the whole backup.</summary>
    /// <param name="backup">The backup, which stays as it is.</param>
    /// <param name="database">The database.</param>
    /// <param name="replace">Whether there may be one already.</param>
    /// <returns>The name under which what was there is kept; <see langword="null"/> where nothing was.</returns>
    /// <exception cref="SettingsException">The backup is not one, a database is there, or somebody works on it.</exception>
    public static string? Run(string backup, string database, bool replace)
    {
        if (!File.Exists(backup))
        {
            throw new SettingsException($"'{backup}' can't be restored: there is no such file.");
        }

        if (Path.Exists(database) && !replace)
        {
            throw new SettingsException(
                $"'{database}' exists. With --replace it is kept under another name, and the backup takes its place.");
        }

        PrivateFile.CreateFolder(Path.GetDirectoryName(database)!);
        var copy = $"{database}.{Guid.NewGuid():N}";
        try
        {
            using (var written = PrivateFile.Create(copy))
            {
                using var read = File.OpenRead(backup);
                read.CopyTo(written);
                written.Flush(flushToDisk: true);
            }

            Check(copy, backup);
            RequireNobodyAt(database);

            // A log that is left over belongs to what was there, never to the backup.
            var kept = string.Create(CultureInfo.InvariantCulture, $"{database}.before-{DateTime.UtcNow:yyyyMMdd'T'HHmmssfff}");
            var moved = false;
            foreach (var suffix in Suffixes.Where(suffix => File.Exists(database + suffix)))
            {
                File.Move(database + suffix, kept + suffix);
                moved = true;
            }

            File.Move(copy, database, overwrite: false);
            return moved ? kept : null;
        }
        finally
        {
            File.Delete(copy);
        }
    }

    private static void Check(string copy, string backup)
    {
        try
        {
            using var link = new SqliteDatabase(copy, TimeSpan.Zero);
            if (link.Ask("PRAGMA application_id") != SqliteSchema.ApplicationId.ToString(CultureInfo.InvariantCulture))
            {
                throw new SettingsException($"'{backup}' can't be restored: it is not a database of Sessions.");
            }

            if (SqliteSchema.VersionOf(link) is var version && version > SqliteSchema.Version)
            {
                throw new SettingsException(
                    $"'{backup}' can't be restored: a newer version of Sessions has written it "
                    + $"(format {version}; this one knows {SqliteSchema.Version}).");
            }

            if (link.Ask("PRAGMA integrity_check(1)") is var found and not "ok")
            {
                throw new SettingsException($"'{backup}' can't be restored: it is damaged ({found}).");
            }
        }
        catch (SqliteException e)
        {
            throw new SettingsException($"'{backup}' can't be restored: {e.Message}");
        }
    }

    // Every process that has the file open has a lock on it, also when it does nothing.
    private static void RequireNobodyAt(string database)
    {
        if (!File.Exists(database))
        {
            return;
        }

        try
        {
            using var link = new SqliteDatabase(database, TimeSpan.Zero);
            link.Execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT");
        }
        catch (SqliteException e) when (SqliteFailure.IsBusy(e))
        {
            throw new SettingsException($"'{database}' is in use: stop every server first.");
        }
        catch (SqliteException)
        {
            // What is damaged is what backups are for.
        }
    }
}
