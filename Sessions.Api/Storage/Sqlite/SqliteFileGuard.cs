namespace Sessions.Api.Storage.Sqlite;

/// <summary>Notices when a database's path no longer leads to the files that were opened: they were moved, deleted, or replaced by
/// others.</summary>
/// <remarks>
/// <para>
/// The open file goes on as if nothing had happened, and what is written to it is lost with the process. Once noticed it stays so, even
/// if the file comes back: nobody knows what happened to it meanwhile.
/// </para>
/// <para>
/// The <c>-shm</c> file is where processes agree on what the log holds, and where their locks are. Where it was removed, a process that
/// starts makes another one: the two then know nothing of each other, write over each other's part of the log, and what one of them has
/// answered is gone. So it is looked for before a transaction and after it.
/// </para>
/// </remarks>
internal sealed class SqliteFileGuard : IDisposable
{
    // How stale what readers see may be where nobody writes.
    private const int MillisecondsBetweenLooks = 50;
    private const string OpenFiles = "/proc/self/fd";

    private readonly string _path;
    private readonly string _name;
    private readonly string _log;
    private readonly string _shared;
    private readonly FileInfo? _openShared;

    // It keeps the -shm file open, and is otherwise only asked where the file is: no transaction.
    private readonly SqliteDatabase _anchor;
    private volatile string? _lost;
    private long _lastLook = long.MinValue;

    /// <param name="path">The database's path.</param>
    /// <param name="name">What it is, to begin a sentence with.</param>
    public SqliteFileGuard(string path, string name)
    {
        (_path, _name, _log) = (path, name, path + "-wal");
        _anchor = new SqliteDatabase(path, SqliteFile.BusyTimeout);
        try
        {
            _anchor.Ask("SELECT 1 FROM sqlite_schema LIMIT 1");
            _shared = _anchor.FileName + "-shm";
            _openShared = FindOpen(_shared);
        }
        catch
        {
            _anchor.Dispose();
            throw;
        }
    }

    /// <summary>Called when it is noticed, by whoever notices.</summary>
    public Action? OnLost { get; set; }

    /// <summary>Whether it was noticed.</summary>
    public bool IsLost => _lost is not null;

    /// <summary>Whether another process may use the same log without knowing of this one: then it must be left as it is.</summary>
    public bool IsLogShared { get; private set; }

    /// <summary>Checks that the file is where it was, and what belongs to it.</summary>
    /// <exception cref="StoreUnavailableException">It is not.</exception>
    public void Check()
    {
        Volatile.Write(ref _lastLook, Environment.TickCount64);
        if (_lost is null && HasMoved())
        {
            Lose(File.Exists(_path) ? "was replaced by another file" : "was moved or deleted");
        }
        else if (_lost is null && !IsSharedInPlace())
        {
            // Nothing of the log is brought into the file, nor is the log removed: the next one to start alone reads what both have
            // written.
            IsLogShared = true;
            lock (_anchor)
            {
                _anchor.LeaveLogOnClose();
            }

            Lose("lost the -shm file beside it");
        }

        ThrowIfLost();
    }

    /// <summary>Checks that the file is where it was, and its log too: only after a transaction, which makes it.</summary>
    /// <inheritdoc cref="Check"/>
    public void CheckWithLog()
    {
        Check();
        if (!File.Exists(_log))
        {
            _lost = "lost its write-ahead log";
            ThrowIfLost();
        }
    }

    /// <summary>Checks, where nobody has done so a moment ago.</summary>
    /// <inheritdoc cref="Check"/>
    public void CheckNowAndThen()
    {
        if (Environment.TickCount64 - Volatile.Read(ref _lastLook) >= MillisecondsBetweenLooks)
        {
            Check();
        }

        ThrowIfLost();
    }

    public void Dispose() => _anchor.Dispose();

    private bool HasMoved()
    {
        lock (_anchor)
        {
            return _anchor.HasMoved;
        }
    }

    private void Lose(string how)
    {
        _lost = how;
        OnLost?.Invoke();
    }

    private void ThrowIfLost()
    {
        if (_lost is { } lost)
        {
            throw new StoreUnavailableException(
                $"{_name} {lost} while the server was running; it has to be put back, and the server restarted.", TimeSpan.FromSeconds(60));
        }
    }

    // A file that was removed, or replaced by another of its name, is shown by another name as long as it is open. Where the system does
    // not tell, it is at least there.
    private bool IsSharedInPlace()
    {
        if (_openShared is null)
        {
            return File.Exists(_shared);
        }

        lock (_openShared)
        {
            _openShared.Refresh();
            return string.Equals(_openShared.LinkTarget, _shared, StringComparison.Ordinal);
        }
    }

    private static FileInfo? FindOpen(string path)
    {
        if (!OperatingSystem.IsLinux() || !Directory.Exists(OpenFiles))
        {
            return null;
        }

        foreach (var open in new DirectoryInfo(OpenFiles).EnumerateFileSystemInfos())
        {
            try
            {
                if (string.Equals(open.LinkTarget, path, StringComparison.Ordinal))
                {
                    return new FileInfo(open.FullName);
                }
            }
            catch (IOException)
            {
                // Closed by now.
            }
        }

        return null;
    }
}
