namespace Sessions.Api;

/// <summary>Notices when a database's path no longer leads to the file that was opened: it was moved, deleted, or replaced by another.</summary>
/// <remarks>
/// The open file goes on as if nothing had happened, and what is written to it is lost with the process. Once noticed it stays so, even if the file comes
/// back: nobody knows what happened to it meanwhile.
/// </remarks>
internal sealed class SqlitePlace(string path, string name) : IDisposable
{
    // Only ever asked where it is: no transaction, no log.
    private readonly SqliteLink _anchor = new(path, SqliteFile.BusyTimeout);
    private readonly string _log = path + "-wal";
    private volatile string? _lost;

    /// <summary>Called when it is noticed, by whoever notices.</summary>
    public Action? OnLost { get; set; }

    /// <summary>Whether it was noticed.</summary>
    public bool IsLost => _lost is not null;

    /// <summary>Checks that the file is where it was.</summary>
    /// <exception cref="StoreUnavailableException">It is not.</exception>
    public void Check()
    {
        if (_lost is null && _anchor.HasMoved)
        {
            _lost = File.Exists(path) ? "was replaced by another file" : "was moved or deleted";
            OnLost?.Invoke();
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

    /// <summary>Recalls what was noticed, without looking.</summary>
    /// <inheritdoc cref="Check"/>
    public void ThrowIfLost()
    {
        if (_lost is { } lost)
        {
            throw new StoreUnavailableException($"{name} {lost} while the server was running; it has to be put back, and the server restarted.", TimeSpan.FromSeconds(60));
        }
    }

    public void Dispose() => _anchor.Dispose();
}
