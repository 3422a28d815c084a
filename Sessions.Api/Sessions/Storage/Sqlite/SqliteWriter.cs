using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Data.Sqlite;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>
/// The one that writes: a thread with a connection of its own. Everything that waits is committed as one transaction, so one sync of the disk does
/// for many turns; each caller is answered when its own change is on the disk.
/// </summary>
/// <remarks>
/// Where anything goes wrong in a transaction, it is rolled back and each of its changes runs again in a transaction of its own: so a bad one fails
/// alone, whatever the error did to the transaction, and the common case pays for no savepoints. A change may therefore run twice, and must do
/// nothing but read and write the database.
/// </remarks>
internal sealed partial class SqliteWriter : IAsyncDisposable
{
    // Each request and each streamed turn waits for one change at a time: more than there are of both (LimitSettings.ConcurrentRequests), so that no answer is lost for want of a place.
    private const int Capacity = 16_384;

    private readonly SqliteFile _file;
    private readonly SqlitePlace _place;
    private readonly SessionSettings _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly SqliteCheckpoints _checkpoints;
    private readonly BlockingCollection<Change> _waiting = new(new ConcurrentQueue<Change>(), Capacity);
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private SqliteTables? _tables;
    private Change? _next;
    private int _lastChanges;
    private long _lastCommit;
    private volatile StoreUnavailableException? _trouble;

    public SqliteWriter(SqliteFile file, SqlitePlace place, SessionSettings options, TimeProvider time, ILogger logger)
    {
        _file = file;
        _place = place;
        _options = options;
        _time = time;
        _logger = logger;
        _checkpoints = new SqliteCheckpoints(file.Path);
        new Thread(Work) { IsBackground = true, Name = "SQLite writer" }.Start();
    }

    /// <summary>How many changes are committed together at the most. Anything else than this is for measuring what it is good for.</summary>
    internal int MostPerCommit { get; set; } = 256;

    /// <summary>Why the last write failed; <see langword="null"/> when it did not.</summary>
    public StoreUnavailableException? Trouble => _trouble;

    /// <summary>Makes a change. It is on the disk when the task ends well.</summary>
    public Task<T> RunAsync<T>(Func<SqliteTables, T> change, CancellationToken cancellationToken) => Enqueue(new Change<T>(change, inTransaction: true, cancellationToken));

    /// <summary>Does something that can't be done in a transaction.</summary>
    public Task<T> RunAloneAsync<T>(Func<SqliteTables, T> work, CancellationToken cancellationToken) => Enqueue(new Change<T>(work, inTransaction: false, cancellationToken));

    /// <summary>Makes the changes that wait, and closes the file.</summary>
    public async ValueTask DisposeAsync()
    {
        _waiting.CompleteAdding();
        await _ended.Task;
    }

    private Task<T> Enqueue<T>(Change<T> change)
    {
        try
        {
            if (_waiting.TryAdd(change))
            {
                return change.Task;
            }
        }
        catch (InvalidOperationException)
        {
            throw new StoreUnavailableException("The server is stopping.", TimeSpan.FromSeconds(5));
        }

        throw new StoreUnavailableException("More is to be written than the disk can take.", TimeSpan.FromSeconds(1));
    }

    private void Work()
    {
        var batch = new List<Change>(MostPerCommit);
        while (Take(batch))
        {
            if (batch.Count == 0)
            {
                ClearAway();
            }
            else if (Open(batch))
            {
                Run(batch);
            }

            batch.Clear();
        }

        Close();
        _ended.SetResult();
    }

    private void ClearAway()
    {
        var step = new Change<bool>(tables => tables.RemoveUnlinked(), inTransaction: true, CancellationToken.None);
        Run([step]);
        if (step.Task.Exception is not null && _tables is { } tables)
        {
            // Not again at once; the next clean-up, or the next session that is removed, comes back to it.
            tables.HasUnlinked = false;
        }
    }

    // An empty batch: nobody waits, so there is time to clear away.
    private bool Take(List<Change> batch)
    {
        var first = _next;
        _next = null;
        var isIdle = _tables?.HasUnlinked == true && _trouble is null;
        if (first is null && !_waiting.TryTake(out first, isIdle ? 0 : Timeout.Infinite))
        {
            return !_waiting.IsCompleted;
        }

        batch.Add(first);
        if (first.InTransaction)
        {
            AwaitOthers();
        }

        while (first.InTransaction && batch.Count < MostPerCommit && _waiting.TryTake(out var next))
        {
            if (!next.InTransaction)
            {
                _next = next;
                break;
            }

            batch.Add(next);
        }

        return true;
    }

    // Those who have just been answered tend to come back at once. Without a moment's patience the first of them would be committed alone, and all others
    // wait for that: half of them at a time, with twice the syncs.
    private void AwaitOthers()
    {
        var until = Stopwatch.GetTimestamp() + (_lastCommit / 4);
        var spin = default(SpinWait);
        while (_waiting.Count < _lastChanges - 1 && Stopwatch.GetTimestamp() < until)
        {
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    private bool Open(IEnumerable<Change> batch)
    {
        try
        {
            _place.Check();
            _tables ??= new SqliteTables(_file.OpenWriter(), _options, _time);
            return true;
        }
        catch (Exception e)
        {
            foreach (var change in batch)
            {
                change.Fail(Failed(e));
            }

            return false;
        }
    }

    private void Run(List<Change> batch)
    {
        try
        {
            Commit(batch, _tables!);
            Succeeded();
            foreach (var change in batch)
            {
                change.Succeed();
            }
        }
        catch (Exception e) when (batch.Count == 1)
        {
            batch[0].Fail(Failed(e));
        }
        catch (Exception e)
        {
            Log.Again(_logger, batch.Count, e as SqliteException);
            Recover(e);
            for (var i = 0; i < batch.Count && Open(batch.Skip(i)); i++)
            {
                Run([batch[i]]);
            }
        }
    }

    private void Commit(List<Change> batch, SqliteTables tables)
    {
        if (!batch[0].InTransaction)
        {
            batch[0].Run(tables);
            return;
        }

        var started = Stopwatch.GetTimestamp();
        tables.Link[SqliteSql.BeginWriting].Run();
        foreach (var change in batch)
        {
            change.Run(tables);
        }

        tables.Link[SqliteSql.End].Run();
        _place.CheckWithLog();
        (_lastChanges, _lastCommit) = (batch.Count, Stopwatch.GetTimestamp() - started);
        _checkpoints.AfterCommit(tables.Link);
    }

    private void Succeeded()
    {
        if (_trouble is not null)
        {
            Log.Recovered(_logger);
            _trouble = null;
        }
    }

    private Exception Failed(Exception e)
    {
        Recover(e);
        var unavailable = e is SqliteException sqlite && SqliteFailure.IsTrouble(sqlite) ? SqliteFailure.ToUnavailable(sqlite) : _place.IsLost ? e as StoreUnavailableException : null;
        if (unavailable is null)
        {
            return e;
        }

        if (_trouble is null)
        {
            Log.Trouble(_logger, unavailable.Message, unavailable.InnerException);
            SaveWhatIsLost();
        }

        return _trouble = unavailable;
    }

    // Everything that was answered goes from the log into the file, wherever that is now; and the log, if it stayed, is mixed with no other file at the next start.
    private void SaveWhatIsLost()
    {
        if (_place.IsLost && _tables is { } tables)
        {
            SqliteCheckpoints.Truncate(tables.Link);
        }
    }

    // Back to where the next change can start.
    private void Recover(Exception e)
    {
        if (_tables is not { } tables)
        {
            return;
        }

        try
        {
            if (tables.Link.InTransaction)
            {
                tables.Link[SqliteSql.Undo].Run();
            }

            if (e is not SqliteException sqlite || SqliteFailure.KeepsConnection(sqlite) || !SqliteFailure.IsTrouble(sqlite))
            {
                return;
            }
        }
        catch (SqliteException)
        {
            // The connection is of no more use, which is what comes next.
        }

        tables.Link.Dispose();
        _tables = null;
    }

    private void Close()
    {
        if (_tables is { } tables)
        {
            SqliteCheckpoints.Truncate(tables.Link);
            tables.Link.Dispose();
        }
    }

    private abstract class Change(bool inTransaction)
    {
        public bool InTransaction { get; } = inTransaction;

        public abstract void Run(SqliteTables tables);

        public abstract void Succeed();

        public abstract void Fail(Exception e);
    }

    private sealed class Change<T>(Func<SqliteTables, T> run, bool inTransaction, CancellationToken cancellationToken) : Change(inTransaction)
    {
        private readonly TaskCompletionSource<T> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private T _result = default!;
        private bool _cancelled;

        public Task<T> Task => _completion.Task;

        // Nobody waits for it any more: then it does not happen at all.
        public override void Run(SqliteTables tables)
        {
            _cancelled = cancellationToken.IsCancellationRequested;
            if (!_cancelled)
            {
                _result = run(tables);
            }
        }

        public override void Succeed()
        {
            if (_cancelled)
            {
                _completion.SetCanceled(cancellationToken);
            }
            else
            {
                _completion.SetResult(_result);
            }
        }

        public override void Fail(Exception e) => _completion.SetException(e);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 40, Level = LogLevel.Error, Message = "Writing fails: {Reason}")]
        public static partial void Trouble(ILogger logger, string reason, Exception? exception);

        [LoggerMessage(EventId = 41, Level = LogLevel.Information, Message = "Writing works again")]
        public static partial void Recovered(ILogger logger);

        [LoggerMessage(EventId = 42, Level = LogLevel.Warning, Message = "A transaction of {Changes} changes failed; each runs again on its own")]
        public static partial void Again(ILogger logger, int changes, Exception? exception);
    }
}
