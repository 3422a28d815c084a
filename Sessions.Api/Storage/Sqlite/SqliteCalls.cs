using System.Runtime.InteropServices;
using SQLitePCL;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>Calls of SQLite's that are made by the dozen for each row; and one that SQLitePCLRaw does not pass on.</summary>
/// <remarks>
/// SQLitePCLRaw holds the statement for the length of each call, and lets the garbage collector go on beside it, which takes several
/// times as long as the call itself. Here a statement has one user, who holds it anyhow (<see cref="SqliteStatement"/>), and the calls
/// return at once. The library is the one that SQLitePCLRaw brings.
/// </remarks>
internal static class SqliteCalls
{
    private const string Library = "e_sqlite3";
    private const DllImportSearchPath Where = DllImportSearchPath.AssemblyDirectory | DllImportSearchPath.SafeDirectories;

    /// <summary>Which type the value in a column has, such as <see cref="raw.SQLITE_NULL"/>.</summary>
    [DllImport(Library, EntryPoint = "sqlite3_column_type")]
    [DefaultDllImportSearchPaths(Where)]
    [SuppressGCTransition]
    public static extern int ColumnType(nint statement, int column);

    /// <summary>The value in a column, as a whole number.</summary>
    [DllImport(Library, EntryPoint = "sqlite3_column_int64")]
    [DefaultDllImportSearchPaths(Where)]
    [SuppressGCTransition]
    public static extern long ColumnInt64(nint statement, int column);

    /// <summary>Gives a parameter a whole number.</summary>
    [DllImport(Library, EntryPoint = "sqlite3_bind_int64")]
    [DefaultDllImportSearchPaths(Where)]
    [SuppressGCTransition]
    public static extern int BindInt64(nint statement, int parameter, long value);

    /// <summary>Gives a parameter no value.</summary>
    [DllImport(Library, EntryPoint = "sqlite3_bind_null")]
    [DefaultDllImportSearchPaths(Where)]
    [SuppressGCTransition]
    public static extern int BindNull(nint statement, int parameter);

    /// <summary>Asks the file system below a database something.</summary>
    [DllImport(Library, EntryPoint = "sqlite3_file_control")]
    [DefaultDllImportSearchPaths(Where)]
    public static extern int FileControl(sqlite3 db, nint database, int operation, out int result);
}
