using System.Globalization;
using Microsoft.Data.Sqlite;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>When the write-ahead log goes into the database file.</summary>
/// <remarks>
/// SQLite itself copies it after a commit that leaves more pages in it than it was told, as far as readers allow, and waits for
/// nobody. To empty it all readers of what was there before must have ended, and nobody may write meanwhile: so this is tried on a
/// connection of its own, for a moment at a time, and whoever needs it waits beside the writer.
/// </remarks>
internal sealed class SqliteCheckpoints(SqliteFile file, SqliteFileGuard guard) : IDisposable
{
    // Up to 32 MiB of log, and 128 where the file is larger than that. In a large file nearly every page goes to a place of its own, and
    // those who write wait meanwhile: the longer the log, the more often a page is in it again before that, and the less often it is
    // copied. Beside a small file a long log would gain nothing, and take more of the disk than the file.
    private const int Pages = 8000;
    private const int PagesOfLarge = 32_000;
    private const long KeptBytes = 32 << 20;
    private const long KeptBytesOfLarge = 128 << 20;
    private const int CommitsBetweenLooks = 64;

    // Those who write wait as long, at the most: about a commit.
    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan LastPause = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan LongWait = TimeSpan.FromSeconds(10);

    private readonly FileInfo _database = new(file.Path);
    private readonly FileInfo _log = new(file.Path + "-wal");
    private readonly SemaphoreSlim _gate = new(1);
    private readonly CancellationTokenSource _stopping = new();
    private SqliteDatabase? _db;
    private Task _later = Task.CompletedTask;
    private long _asked;
    private long _done;
    private int _commits;
    private bool _isLarge = IsLarge(new FileInfo(file.Path));

    /// <summary>Tells a connection how long the log may become before it is copied, and what its file is cut down to after that.</summary>
    public static void Bound(SqliteDatabase db, string path) => Bound(db, IsLarge(new FileInfo(path)));

    /// <summary>
    /// Looks after the log, now and then: it may be longer once the file is large; and where readers follow each other without a gap it
    /// would grow for ever.
    /// </summary>
    public void AfterCommit(SqliteDatabase writer)
    {
        if (++_commits % CommitsBetweenLooks != 0)
        {
            return;
        }

        _database.Refresh();
        if (IsLarge(_database) != _isLarge)
        {
            try
            {
                Bound(writer, !_isLarge);
                _isLarge = !_isLarge;
            }
            catch (SqliteException)
            {
                // What was committed stands. The next look tries again.
            }
        }

        _log.Refresh();
        if (_log.Exists && _log.Length > 2 * (_isLarge ? KeptBytesOfLarge : KeptBytes))
        {
            TruncateLater();
        }
    }

    /// <summary>Empties the log: what was erased before the call is in no file any more.</summary>
    /// <param name="wait">How long to wait for others who read.</param>
    /// <returns>Whether it is empty; else somebody has read all the time.</returns>
    public async Task<bool> TruncateAsync(TimeSpan wait)
    {
        var asked = Interlocked.Increment(ref _asked);
        var until = Environment.TickCount64 + (long)wait.TotalMilliseconds;
        for (var pause = FirstPause; ; pause = pause < LastPause ? pause * 2 : LastPause)
        {
            if (await TryAsync(asked))
            {
                return true;
            }

            if (Environment.TickCount64 + pause.TotalMilliseconds > until)
            {
                return false;
            }

            await Task.Delay(pause, _stopping.Token);
        }
    }

    /// <summary>Empties the log as soon as others let it be; nobody waits for it.</summary>
    public void TruncateLater()
    {
        if (_later.IsCompleted)
        {
            _later = Task.Run(() => TruncateAsync(LongWait));
        }
    }

    /// <summary>Empties the log at the end, on a connection that nobody else uses.</summary>
    public static void Truncate(SqliteDatabase db)
    {
        db.SetBusyTimeout(TimeSpan.FromSeconds(1));
        Ask(db, "TRUNCATE");
    }

    public void Dispose()
    {
        _stopping.Cancel();
        _gate.Wait();
        _db?.Dispose();
        _db = null;
        _stopping.Dispose();
    }

    private static bool IsLarge(FileInfo database) => database.Exists && database.Length > KeptBytesOfLarge;

    private static void Bound(SqliteDatabase db, bool isLarge) => db.Execute(string.Create(CultureInfo.InvariantCulture, $"""
        PRAGMA wal_autocheckpoint = {(isLarge ? PagesOfLarge : Pages)};
        PRAGMA journal_size_limit = {(isLarge ? KeptBytesOfLarge : KeptBytes)};
        """));

    // One after the other; what one has done is done for all who had asked before.
    private async Task<bool> TryAsync(long asked)
    {
        await _gate.WaitAsync(_stopping.Token);
        try
        {
            if (Volatile.Read(ref _done) >= asked)
            {
                return true;
            }

            var covered = Volatile.Read(ref _asked);
            if (!TryTruncate())
            {
                return false;
            }

            Volatile.Write(ref _done, covered);
            return true;
        }
        finally
        {
            _gate.Release();
        }
    }

    private bool TryTruncate()
    {
        try
        {
            guard.Check();
            _db ??= file.OpenWriter();

            // First as much as goes beside those who write, so that little is left to be done in the moment in which they can't.
            _db.SetBusyTimeout(TimeSpan.Zero);
            Ask(_db, "PASSIVE");
            _db.SetBusyTimeout(Moment);
            return Ask(_db, "TRUNCATE");
        }
        catch (SqliteException)
        {
            _db?.Dispose();
            _db = null;
            return false;
        }
    }

    // The log stays as it is where it can't be had, and loses nothing by it. If the disk is in trouble, the next write says so.
    private static bool Ask(SqliteDatabase db, string how)
    {
        try
        {
            return db.Ask($"PRAGMA wal_checkpoint({how})") == "0";
        }
        catch (SqliteException)
        {
            return false;
        }
    }
}
