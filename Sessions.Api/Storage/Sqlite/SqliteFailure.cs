using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>What SQLite's errors mean to others.</summary>
internal static class SqliteFailure
{
    /// <summary>Another process is at work; it is worth trying again at once.</summary>
    public static bool IsBusy(SqliteException e) => e.SqliteErrorCode is raw.SQLITE_BUSY or raw.SQLITE_LOCKED or raw.SQLITE_PROTOCOL;

    /// <summary>The connection is as good as before: there was no room, or another process was at work.</summary>
    public static bool KeepsConnection(SqliteException e) =>
        e.SqliteErrorCode is raw.SQLITE_FULL or raw.SQLITE_BUSY or raw.SQLITE_LOCKED or raw.SQLITE_NOMEM;

    /// <summary>The error as the caller of a store gets it; <see langword="null"/>: it lies with what was asked.</summary>
    public static Exception? ToStoreException(SqliteException e) => e.SqliteErrorCode is raw.SQLITE_CORRUPT or raw.SQLITE_NOTADB
        ? new StoredDataException("the database file", Describe(e)!, e)
        : IsTrouble(e) ? ToUnavailable(e) : null;

    /// <summary>Whether the trouble lies with the file or the disk, rather than with what was asked.</summary>
    public static bool IsTrouble(SqliteException e) => Describe(e) is not null;

    /// <summary>What it means for callers.</summary>
    public static StoreUnavailableException ToUnavailable(SqliteException e) =>
        new(Describe(e) ?? "The database did not do what it was asked to.", RetryAfter(e), e);

    private static TimeSpan RetryAfter(SqliteException e) => TimeSpan.FromSeconds(IsBusy(e) ? 1 : 10);

    private static string? Describe(SqliteException e) => e.SqliteErrorCode switch
    {
        raw.SQLITE_FULL => "The disk that sessions are kept on is full.",
        raw.SQLITE_IOERR => "The disk that sessions are kept on fails to read or write.",
        raw.SQLITE_READONLY or raw.SQLITE_PERM or raw.SQLITE_AUTH => "The database that sessions are kept in can't be written.",
        raw.SQLITE_CANTOPEN => "The database that sessions are kept in can't be opened.",
        raw.SQLITE_CORRUPT or raw.SQLITE_NOTADB => "The database that sessions are kept in is damaged.",
        raw.SQLITE_BUSY or raw.SQLITE_LOCKED or raw.SQLITE_PROTOCOL =>
            "The database that sessions are kept in is busy with other processes.",
        raw.SQLITE_NOMEM => "There is not enough memory for the database that sessions are kept in.",
        _ => null,
    };
}
