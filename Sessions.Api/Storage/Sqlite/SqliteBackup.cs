namespace Sessions.Api.Storage.Sqlite;

/// <summary>A copy of the database, taken while others work on it.</summary>
internal static class SqliteBackup
{
    /// <summary>Writes the copy: one file, as small as its contents allow, on the disk when this returns. It appears under its name when
    /// it is whole.</summary>
    /// <exception cref="IOException">There is a file of that name, or it can't be written.</exception>
    public static void Write(SqliteFile source, string target)
    {
        if (Path.Exists(target))
        {
            throw new IOException($"'{target}' exists already.");
        }

        var unfinished = $"{target}.{Guid.NewGuid():N}";
        try
        {
            PrivateFile.Create(unfinished).Dispose();
            using (var db = source.OpenReader())
            {
                db.Execute($"PRAGMA query_only = OFF; VACUUM INTO '{unfinished.Replace("'", "''", StringComparison.Ordinal)}'");
            }

            using (var copy = new SqliteDatabase(unfinished, TimeSpan.Zero))
            {
                if (copy.Ask("PRAGMA quick_check(1)") is var found and not "ok")
                {
                    throw new InvalidDataException($"The copy is damaged, as '{source.Path}' may be: {found}");
                }
            }

            // SQLite leaves a copy to the system to write.
            using (var written = new FileStream(unfinished, FileMode.Open, FileAccess.Write))
            {
                written.Flush(flushToDisk: true);
            }

            File.Move(unfinished, target, overwrite: false);
        }
        finally
        {
            File.Delete(unfinished);
        }
    }
}
