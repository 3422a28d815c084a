using System.Runtime.InteropServices;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>A connection with its prepared statements. For one user at a time.</summary>
internal sealed class SqliteDatabase : IDisposable
{
    // SQLITE_FCNTL_HAS_MOVED, which the library has no name for.
    private const int HasMovedControl = 20;

    private readonly SqliteConnection _connection;

    // Found by reference: every statement is a constant.
    private readonly Dictionary<string, SqliteStatement> _statements = new(ReferenceEqualityComparer.Instance);

    // A connection has one user at a time, so SQLite needs no lock of its own around each call; nor, around each allocation, one that
    // serves to count its memory. For the whole process, and only before it opens its first database.
    static SqliteDatabase()
    {
        Batteries_V2.Init();
        raw.sqlite3_config(raw.SQLITE_CONFIG_MULTITHREAD);
        raw.sqlite3_config(raw.SQLITE_CONFIG_MEMSTATUS, 0);
    }

    public SqliteDatabase(string path, TimeSpan busyTimeout)
    {
        // Never creating: a file that has vanished is a fault to be told, not a reason to start with an empty one. Pooled by us, with
        // the statements.
        var options = new SqliteConnectionStringBuilder { DataSource = path, Mode = SqliteOpenMode.ReadWrite, Pooling = false };
        _connection = new SqliteConnection(options.ToString());
        try
        {
            _connection.Open();
            SetBusyTimeout(busyTimeout);

            // Plans by the statement alone. Where the planner looks at a bound value too, as at that of LIMIT, the statement is prepared
            // anew each time it is bound: half of what a list took.
            raw.sqlite3_db_config(_connection.Handle, raw.SQLITE_DBCONFIG_ENABLE_QPSG, 1, out _);
        }
        catch
        {
            _connection.Dispose();
            throw;
        }
    }

    /// <summary>The file's full path as SQLite opened it: without links.</summary>
    public string FileName => raw.sqlite3_db_filename(_connection.Handle, "main").utf8_to_string();

    /// <summary>Whether a transaction is open. Some errors end it.</summary>
    public bool InTransaction => raw.sqlite3_get_autocommit(_connection.Handle) == 0;

    /// <summary>Whether the path no longer leads to the file that is open. Never on Windows, where a file that is open stays.</summary>
    public bool HasMoved => FileControl(_connection.Handle!, 0, HasMovedControl, out var moved) == raw.SQLITE_OK && moved != 0;

    /// <summary>The row that was inserted last.</summary>
    public long LastRow => raw.sqlite3_last_insert_rowid(_connection.Handle);

    /// <summary>The prepared form of one of the statements in <see cref="SqliteSql"/>.</summary>
    public SqliteStatement this[string sql]
    {
        get
        {
            if (!_statements.TryGetValue(sql, out var statement))
            {
                _statements.Add(sql, statement = new SqliteStatement(_connection.Handle!, sql));
            }

            return statement;
        }
    }

    /// <summary>Whether closing the last connection leaves the log as it is, rather than bringing it into the file.</summary>
    public void LeaveLogOnClose() => raw.sqlite3_db_config(_connection.Handle, raw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, out _);

    /// <summary>How long to wait for another process.</summary>
    public void SetBusyTimeout(TimeSpan timeout) => raw.sqlite3_busy_timeout(_connection.Handle, (int)timeout.TotalMilliseconds);

    /// <summary>Runs statements that are needed once.</summary>
    public void Execute(string sql)
    {
        if (raw.sqlite3_exec(_connection.Handle, sql) is not raw.SQLITE_OK)
        {
            SqliteException.ThrowExceptionForRC(raw.sqlite3_errcode(_connection.Handle), _connection.Handle);
        }
    }

    /// <summary>Asks something that is needed once, for the first column of its first row.</summary>
    public string? Ask(string sql)
    {
        using var statement = new SqliteStatement(_connection.Handle!, sql);
        using var rows = statement.Read();
        return rows.Next() ? rows.TextOrNull(0) : null;
    }

    public void Dispose()
    {
        foreach (var statement in _statements.Values)
        {
            statement.Dispose();
        }

        _connection.Dispose();
    }

    // The one call of SQLite's that is needed here and that SQLitePCLRaw does not pass on; the name is that of the library which it brings.
    [DllImport("e_sqlite3", EntryPoint = "sqlite3_file_control")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.AssemblyDirectory | DllImportSearchPath.SafeDirectories)]
    private static extern int FileControl(sqlite3 db, nint database, int operation, out int result);
}
