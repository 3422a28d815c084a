using Microsoft.Data.Sqlite;

namespace Sessions.Api;

/// <summary>When the write-ahead log goes into the database file.</summary>
/// <remarks>
/// SQLite itself copies it after a commit that leaves more than <see cref="Pages"/> pages, as far as readers allow, and waits for nobody. Where readers
/// follow each other without a gap the log would still grow for ever: past <see cref="MostBytes"/> the writer waits for them, shortly.
/// </remarks>
internal sealed class SqliteCheckpoints(string path)
{
    /// <summary>16 MiB of pages: copied in some ten milliseconds, and seldom enough not to be felt.</summary>
    public const int Pages = 4000;

    /// <summary>What the log's file is cut down to when it starts anew.</summary>
    public const int KeptBytes = 32 * 1024 * 1024;

    private const long MostBytes = 64 * 1024 * 1024;
    private const int CommitsBetweenLooks = 64;

    private static readonly TimeSpan ShortWait = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LongWait = TimeSpan.FromSeconds(10);

    private readonly FileInfo _log = new(path + "-wal");
    private int _commits;

    /// <summary>Looks after the log, now and then.</summary>
    public void AfterCommit(SqliteLink link)
    {
        if (++_commits % CommitsBetweenLooks != 0)
        {
            return;
        }

        _log.Refresh();
        if (_log.Exists && _log.Length > MostBytes)
        {
            Truncate(link, ShortWait);
        }
    }

    /// <summary>Empties the log: what was erased is in no file any more.</summary>
    /// <returns>Whether nobody stood in the way.</returns>
    public static bool Truncate(SqliteLink link) => Truncate(link, LongWait);

    private static bool Truncate(SqliteLink link, TimeSpan wait)
    {
        link.SetBusyTimeout(wait);
        try
        {
            return link.Ask("PRAGMA wal_checkpoint(TRUNCATE)") == "0";
        }
        catch (SqliteException)
        {
            // The log stays as it is, and loses nothing by it. If the disk is in trouble, the next write says so.
            return false;
        }
        finally
        {
            link.SetBusyTimeout(SqliteFile.BusyTimeout);
        }
    }
}
