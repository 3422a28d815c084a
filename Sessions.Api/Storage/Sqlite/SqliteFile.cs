using System.Diagnostics;
using System.Globalization;
using Microsoft.Data.Sqlite;
using Sessions.ServiceDefaults;
using SQLitePCL;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>The database file: made, checked and brought up to date once at the start; opened from then on.</summary>
internal sealed class SqliteFile
{
    /// <summary>
    /// How long a connection waits for another process before it gives up. SQLite gives the lock to whoever looks first, not to whoever
    /// waits longest: where many processes write on a busy machine, one may be unlucky for seconds.
    /// </summary>
    public static readonly TimeSpan BusyTimeout = TimeSpan.FromSeconds(30);

    /// <summary>How long the writer waits at a time: in between it looks whose time has run out (see <see cref="SqliteWriter"/>).</summary>
    public static readonly TimeSpan WriterBusyTimeout = TimeSpan.FromMilliseconds(200);

    // Readers wait for nobody but a process that recovers the log, or keeps all others out.
    private static readonly TimeSpan ReaderBusyTimeout = TimeSpan.FromSeconds(10);

    // Reading a small file through takes no time; of a big one a look at its schema has to do (`check` looks at all of it).
    private const long CheckedWholeUpTo = 64 * 1024 * 1024;

    private static readonly TimeSpan StartDeadline = TimeSpan.FromSeconds(60);
    public static readonly TimeSpan CanNotOpenDeadline = TimeSpan.FromSeconds(3);
    public static readonly TimeSpan RetryPause = TimeSpan.FromMilliseconds(20);

    private SqliteFile(string path) => Path = path;

    /// <summary>Its full path.</summary>
    public string Path { get; }

    /// <summary>The full path that <c>sessions.db_path</c> means.</summary>
    public static string Locate(string dbPath, string baseFolder) =>
        string.IsNullOrWhiteSpace(dbPath)
            ? throw new SettingsException("sessions.db_path: must name a file.")
            : System.IO.Path.GetFullPath(dbPath, baseFolder);

    /// <summary>Makes the file ready: creates it where there is none, and its folder; checks it; brings it to this version.</summary>
    /// <exception cref="SettingsException">The file can't be used; the message names it and says why.</exception>
    public static SqliteFile Prepare(string path)
    {
        Create(path);
        var file = new SqliteFile(path);
        try
        {
            Retry(StartDeadline, () =>
            {
                using var db = file.Open(BusyTimeout);
                file.Check(db);
                SqliteSchema.Migrate(db);
                return true;
            });
        }
        catch (SqliteException e)
        {
            throw Refused(path, Reason(e));
        }

        return file;
    }

    /// <summary>A file that is there already, whatever its state.</summary>
    /// <exception cref="SettingsException">It is not.</exception>
    public static SqliteFile Existing(string path) =>
        File.Exists(path) ? new SqliteFile(path) : throw Refused(path, "there is no such file");

    /// <summary>A connection that writes. Where another process is at work on the file this fails soon: it is for the caller to come
    /// back.</summary>
    public SqliteDatabase OpenWriter() => Open(WriterBusyTimeout);

    /// <summary>A connection that only reads.</summary>
    public SqliteDatabase OpenReader() => Retry(ReaderBusyTimeout, () =>
    {
        var db = new SqliteDatabase(Path, ReaderBusyTimeout);
        db.LeaveLogOnClose();
        db.Execute("PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096");
        return db;
    });

    // auto_vacuum has to be chosen before anything is in the file, WAL included. secure_delete ON and not FAST: FAST leaves what was erased
    // in pages that become free.
    private SqliteDatabase Open(TimeSpan busyTimeout)
    {
        var db = new SqliteDatabase(Path, busyTimeout);
        try
        {
            db.Execute("PRAGMA auto_vacuum = INCREMENTAL");
            if (db.Ask("PRAGMA journal_mode = WAL") != "wal")
            {
                throw Refused(Path, "write-ahead logging is not possible there; the file must be on a local disk");
            }

            db.Execute("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768");
            SqliteCheckpoints.Bound(db, Path);
            return db;
        }
        catch
        {
            db.Dispose();
            throw;
        }
    }

    private void Check(SqliteDatabase db)
    {
        // All of it about one state: else another process that makes the tables in between would be taken for another program.
        db.Execute("BEGIN");
        var version = SqliteSchema.VersionOf(db);
        if (version > SqliteSchema.Version)
        {
            throw Refused(Path, $"a newer version of Sessions has written it (format {version}; this one knows {SqliteSchema.Version})");
        }

        var application = db.Ask("PRAGMA application_id");
        if (version == 0
            ? db.Ask("SELECT 1 FROM sqlite_schema LIMIT 1") is not null
            : application != SqliteSchema.ApplicationId.ToString(CultureInfo.InvariantCulture))
        {
            throw Refused(Path, "it is the database of another program");
        }

        if (version > 0)
        {
            db.Ask("SELECT count(*) FROM (SELECT 1 FROM sessions LIMIT 1)");
            var bytes = db.Ask("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")!;
            if (long.Parse(bytes, CultureInfo.InvariantCulture) <= CheckedWholeUpTo
                && db.Ask("PRAGMA quick_check(1)") is var found and not "ok")
            {
                throw Refused(Path, $"it is damaged ({found}); restore a backup, as in docs/sqlite.md");
            }
        }

        db.Execute("COMMIT");

        // A file that can't be written opens all the same, and fails with the first turn: better now.
        db.Execute("BEGIN IMMEDIATE; ROLLBACK");
    }

    private static void Create(string path)
    {
        if (Directory.Exists(path))
        {
            throw Refused(path, "it is a folder");
        }

        if (File.Exists(path))
        {
            return;
        }

        var folder = System.IO.Path.GetDirectoryName(path)!;
        try
        {
            PrivateFile.CreateFolder(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Refused(path, $"its folder can't be created: {e.Message}");
        }

        // Readable by nobody else from the first moment. Made under another name and closed before it gets its own: closing a file that
        // this process also has open through SQLite would drop SQLite's locks on it.
        var made = $"{path}.{Guid.NewGuid():N}";
        try
        {
            PrivateFile.Create(made).Dispose();
            File.Move(made, path, overwrite: false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            File.Delete(made);
            if (!File.Exists(path))
            {
                throw Refused(path, $"it can't be created: {e.Message}");
            }
        }
    }

    // What another process does with the file at the same moment (creating it, switching it to WAL, recovering it) passes. While it
    // removes the WAL, opening that can fail; but a file that can't be opened at all should be told soon.
    private static T Retry<T>(TimeSpan deadline, Func<T> open)
    {
        var started = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                return open();
            }
            catch (SqliteException e) when (Stopwatch.GetElapsedTime(started) < DeadlineOf(e, deadline))
            {
                Thread.Sleep(RetryPause);
            }
        }
    }

    private static TimeSpan DeadlineOf(SqliteException e, TimeSpan ofLocks) =>
        SqliteFailure.IsBusy(e) ? ofLocks : e.SqliteErrorCode == raw.SQLITE_CANTOPEN ? CanNotOpenDeadline : TimeSpan.Zero;

    private static string Reason(SqliteException e) => e.SqliteErrorCode switch
    {
        raw.SQLITE_NOTADB => "it is not a SQLite database",
        raw.SQLITE_CORRUPT => "it is damaged; restore a backup, as in docs/sqlite.md",
        raw.SQLITE_READONLY or raw.SQLITE_PERM => "it can't be written",
        raw.SQLITE_CANTOPEN => "it, or the -wal and -shm files next to it, can't be opened for reading and writing",
        raw.SQLITE_FULL => "the disk is full",
        _ when SqliteFailure.IsBusy(e) => "another process keeps it locked",
        _ => e.Message,
    };

    private static SettingsException Refused(string path, string reason) =>
        new($"sessions.db_path: '{path}' can't be used: {reason.TrimEnd('.')}.");
}
