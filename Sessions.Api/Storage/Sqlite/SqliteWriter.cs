using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>
/// The one that writes: a thread with a connection of its own. Everything that waits is committed as one transaction, so one sync of the
/// disk does for many turns; each caller is answered when its own change is on the disk.
/// </summary>
/// <remarks>
/// <para>
/// Where anything goes wrong in a transaction, it is rolled back and each of its changes runs again in a transaction of its own: so a
/// bad one fails alone, whatever the error did to the transaction, and the common case pays for no savepoints. A change may therefore
/// run twice, and must do nothing but read and write the database.
/// </para>
/// <para>
/// While another process has the lock, the writer looks in between whose time has run out: nobody waits longer than
/// <see cref="LockWait"/> from when they came, whatever stood before them.
/// </para>
/// </remarks>
internal sealed partial class SqliteWriter : IAsyncDisposable
{
    // Each request and each streamed turn waits for one change at a time: more than there are of both
    // (LimitSettings.ConcurrentRequests), so that no answer is lost for want of a place.
    private const int Capacity = 16_384;

    private readonly SqliteFile _file;
    private readonly SqliteFileGuard _guard;
    private readonly StorePolicy _policy;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly ConcurrentQueue<Change> _queue = new();
    private readonly BlockingCollection<Change> _waiting;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private SqliteUnitOfWork? _work;
    private int _lastChanges;
    private long _lastCommit;
    private long _lockedSince;
    private volatile StoreUnavailableException? _trouble;

    public SqliteWriter(SqliteFile file, SqliteFileGuard guard, StorePolicy policy, TimeProvider time, ILogger logger)
    {
        _file = file;
        _guard = guard;
        _policy = policy;
        _time = time;
        _logger = logger;
        _waiting = new BlockingCollection<Change>(_queue, Capacity);
        Checkpoints = new SqliteCheckpoints(file, guard);
        new Thread(Work) { IsBackground = true, Name = "SQLite writer" }.Start();
    }

    /// <summary>How many changes are committed together at the most. Anything else than this is for measuring what it is good
    /// for.</summary>
    internal int MaxPerCommit { get; set; } = 256;

    /// <summary>How long a change waits for the lock, from when it came. Anything else than this is for tests.</summary>
    internal TimeSpan LockWait { get; set; } = SqliteFile.BusyTimeout;

    /// <summary>Why the last write failed; <see langword="null"/> when it did not.</summary>
    public StoreUnavailableException? Trouble => _trouble;

    /// <summary>How long another process has kept the lock for which the writer waits; zero: it does not wait.</summary>
    public TimeSpan WaitsForLock =>
        Interlocked.Read(ref _lockedSince) is var since and not 0 ? Stopwatch.GetElapsedTime(since) : TimeSpan.Zero;

    /// <summary>Whether others wrote with whoever wrote last.</summary>
    public bool IsShared => Volatile.Read(ref _lastChanges) > 1;

    /// <summary>What becomes of the log.</summary>
    public SqliteCheckpoints Checkpoints { get; }

    /// <summary>Makes a change. It is on the disk when the task ends well.</summary>
    public Task<T> RunAsync<T>(Func<SqliteUnitOfWork, T> change, CancellationToken cancellationToken) =>
        Enqueue(new Change<T>(change, cancellationToken));

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
        var batch = new List<Change>(MaxPerCommit);
        while (Take(batch))
        {
            if (batch.Count == 0)
            {
                ClearAway();
            }
            else
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
        var step = new Change<bool>(work => work.RemoveUnlinked(), CancellationToken.None);
        Run([step]);
        if (step.Task.Exception is not null && _work is { } work)
        {
            // Not again at once; the next clean-up, or the next session that is removed, comes back to it.
            work.HasUnlinked = false;
        }
    }

    // An empty batch: nobody waits, so there is time to clear away.
    private bool Take(List<Change> batch)
    {
        var isIdle = _work?.HasUnlinked == true && _trouble is null;
        if (!_waiting.TryTake(out var first, isIdle ? 0 : Timeout.Infinite))
        {
            return !_waiting.IsCompleted;
        }

        batch.Add(first);
        AwaitOthers();
        while (batch.Count < MaxPerCommit && _waiting.TryTake(out var next))
        {
            batch.Add(next);
        }

        return true;
    }

    // Those who have just been answered tend to come back at once. Without a moment's patience the first of them would be committed
    // alone, and all others wait for that: half of them at a time, with twice the syncs.
    private void AwaitOthers()
    {
        var until = Stopwatch.GetTimestamp() + (_lastCommit / 4);
        var spin = default(SpinWait);
        while (_waiting.Count < _lastChanges - 1 && Stopwatch.GetTimestamp() < until)
        {
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    private void Run(List<Change> batch)
    {
        try
        {
            Commit(batch);
            Succeeded(batch);
            foreach (var change in batch)
            {
                change.Succeed();
            }
        }
        catch (Exception e) when (batch.Count == 1 || _work is null || _guard.IsLost)
        {
            var failure = Failed(e);
            foreach (var change in batch)
            {
                change.Fail(failure);
            }
        }
        catch (Exception e)
        {
            Log.Again(_logger, batch.Count, e as SqliteException);
            Recover(e);
            foreach (var change in batch)
            {
                Run([change]);
            }
        }
    }

    private void Commit(List<Change> batch)
    {
        _guard.Check();
        Obtain(batch, () => (_work ??= NewWork()).Db[SqliteSql.BeginWriting].Run());
        if (batch.Count == 0)
        {
            return;
        }

        var started = Stopwatch.GetTimestamp();
        var work = _work!;
        foreach (var change in batch)
        {
            change.Run(work);
        }

        work.Db[SqliteSql.End].Run();
        _guard.CheckWithLog();
        (_lastChanges, _lastCommit) = (batch.Count, Stopwatch.GetTimestamp() - started);
        Checkpoints.AfterCommit(work.Db);
    }

    private SqliteUnitOfWork NewWork() => new(_file.OpenWriter(), _policy, _time);

    // Until it succeeds, or everybody's time has run out: then nobody is left in the batch. What another process does with the file passes.
    private void Obtain(List<Change> batch, Action step)
    {
        try
        {
            for (var started = Stopwatch.GetTimestamp(); batch.Count > 0;)
            {
                try
                {
                    step();
                    return;
                }
                catch (SqliteException e) when (SqliteFailure.IsBusy(e)
                    || (e.SqliteErrorCode == raw.SQLITE_CANTOPEN && Stopwatch.GetElapsedTime(started) < SqliteFile.CanNotOpenDeadline))
                {
                    Interlocked.CompareExchange(ref _lockedSince, started, 0);
                    FailThoseOutOfTime(batch, e);
                    if (!SqliteFailure.IsBusy(e))
                    {
                        Thread.Sleep(SqliteFile.RetryPause);
                    }
                }
            }
        }
        finally
        {
            Interlocked.Exchange(ref _lockedSince, 0);
        }
    }

    private void FailThoseOutOfTime(List<Change> batch, SqliteException reason)
    {
        batch.RemoveAll(IsOutOfTime);
        // In the order in which they came; nobody else takes from the queue.
        while (_queue.TryPeek(out var first) && first.Waited >= LockWait && _waiting.TryTake(out first))
        {
            IsOutOfTime(first);
        }

        bool IsOutOfTime(Change change)
        {
            if (!change.IsCancelled && change.Waited < LockWait)
            {
                return false;
            }

            if (change.IsCancelled)
            {
                change.Cancel();
            }
            else
            {
                change.Fail(Failed(reason));
            }

            return true;
        }
    }

    private void Succeeded(List<Change> batch)
    {
        if (_trouble is not null && batch.Count > 0)
        {
            Log.Recovered(_logger);
            _trouble = null;
        }
    }

    private Exception Failed(Exception e)
    {
        Recover(e);
        var failure = e is SqliteException sqlite ? SqliteFailure.ToStoreException(sqlite) : e;
        if (failure is StoredDataException damage)
        {
            _policy.Damage.Report(damage.What, damage);
        }

        // One that a change has thrown by itself is no trouble with the file.
        if (failure is not StoreUnavailableException unavailable || (failure == e && !_guard.IsLost))
        {
            return failure ?? e;
        }

        if (_trouble is null)
        {
            Log.Trouble(_logger, unavailable.Message, unavailable.InnerException);
            SaveWhatIsLost();
        }

        return _trouble = unavailable;
    }

    // Everything that was answered goes from the log into the file, wherever that is now; and the log, if it stayed, is mixed with no
    // other file at the next start. Not where another process may be writing the same log, whose part of it this one can't see.
    private void SaveWhatIsLost()
    {
        if (_guard.IsLost && _work is { } work && !_guard.IsLogShared)
        {
            SqliteCheckpoints.Truncate(work.Db);
        }
    }

    // Back to where the next change can start.
    private void Recover(Exception e)
    {
        if (_work is not { } work)
        {
            return;
        }

        try
        {
            if (work.Db.InTransaction)
            {
                work.Db[SqliteSql.Undo].Run();
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

        work.Db.Dispose();
        _work = null;
    }

    private void Close()
    {
        Checkpoints.Dispose();
        if (_work is not { } work)
        {
            return;
        }

        if (_guard.IsLogShared)
        {
            work.Db.LeaveLogOnClose();
        }
        else
        {
            SqliteCheckpoints.Truncate(work.Db);
        }

        work.Db.Dispose();
    }

    private abstract class Change
    {
        private readonly long _arrived = Stopwatch.GetTimestamp();

        public TimeSpan Waited => Stopwatch.GetElapsedTime(_arrived);

        public abstract bool IsCancelled { get; }

        public abstract void Run(SqliteUnitOfWork work);

        public abstract void Succeed();

        public abstract void Cancel();

        public abstract void Fail(Exception e);
    }

    private sealed class Change<T>(Func<SqliteUnitOfWork, T> run, CancellationToken cancellationToken) : Change
    {
        private readonly TaskCompletionSource<T> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private T _result = default!;
        private bool _cancelled;

        public Task<T> Task => _completion.Task;

        public override bool IsCancelled => cancellationToken.IsCancellationRequested;

        // Nobody waits for it any more: then it does not happen at all.
        public override void Run(SqliteUnitOfWork work)
        {
            _cancelled = IsCancelled;
            if (!_cancelled)
            {
                _result = run(work);
            }
        }

        public override void Succeed()
        {
            if (_cancelled)
            {
                Cancel();
            }
            else
            {
                _completion.SetResult(_result);
            }
        }

        public override void Cancel() => _completion.SetCanceled(cancellationToken);

        public override void Fail(Exception e) => _completion.SetException(e);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 40, Level = LogLevel.Error, Message = "Writing fails: {Reason}")]
        public static partial void Trouble(ILogger logger, string reason, Exception? exception);

        [LoggerMessage(EventId = 41, Level = LogLevel.Information, Message = "Writing works again")]
        public static partial void Recovered(ILogger logger);

        [LoggerMessage(EventId = 42, Level = LogLevel.Warning,
            Message = "A transaction of {Changes} changes failed; each runs again on its own")]
        public static partial void Again(ILogger logger, int changes, Exception? exception);
    }
}
