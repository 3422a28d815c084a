using System.Collections.Concurrent;
using Microsoft.Data.Sqlite;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>Connections that only read, with their prepared statements: as many as read at the same time, kept for the next ones.</summary>
internal sealed class SqliteReadPool(SqliteFile file, SqliteFileGuard guard, DamageReport damage) : IDisposable
{
    // More than there are threads at work would only take memory.
    private static readonly int MaxKept = Math.Max(4, 2 * Environment.ProcessorCount);

    private readonly ConcurrentBag<SqliteDatabase> _idle = [];
    private int _idleCount;
    private volatile bool _disposed;

    /// <summary>Reads with one statement.</summary>
    public T Read<T>(Func<SqliteDatabase, T> read)
    {
        SqliteDatabase? db = null;
        try
        {
            db = Rent();
            var result = read(db);
            Return(db);
            db = null;
            return result;
        }
        catch (StoredDataException e)
        {
            damage.Report(e.What, e);
            throw;
        }
        catch (SqliteException e) when (SqliteFailure.ToStoreException(e) is { } failure)
        {
            if (failure is StoredDataException damaged)
            {
                damage.Report(damaged.What, damaged);
            }

            throw failure;
        }
        finally
        {
            db?.Dispose();
        }
    }

    /// <summary>Reads with several statements, which all see the same state.</summary>
    public T ReadConsistently<T>(Func<SqliteDatabase, T> read) => Read(db =>
    {
        db[SqliteSql.BeginReading].Run();
        var result = read(db);
        db[SqliteSql.End].Run();
        return result;
    });

    // To be disposed of, or given back.
    private SqliteDatabase Rent()
    {
        ThrowIfStopping();
        if (_idle.TryTake(out var idle))
        {
            Interlocked.Decrement(ref _idleCount);
            try
            {
                guard.CheckNowAndThen();
                return idle;
            }
            catch
            {
                Return(idle);
                throw;
            }
        }

        // Or it would open another file, and mix it with the log of this one.
        guard.Check();
        return file.OpenReader();
    }

    public void Dispose()
    {
        _disposed = true;
        while (_idle.TryTake(out var db))
        {
            db.Dispose();
        }
    }

    // Gives back one that is in no transaction.
    private void Return(SqliteDatabase db)
    {
        // Counted beside: the bag itself would stop everybody for that.
        if (Interlocked.Increment(ref _idleCount) > MaxKept || _disposed)
        {
            Interlocked.Decrement(ref _idleCount);
            db.Dispose();
        }
        else
        {
            _idle.Add(db);
        }
    }

    private void ThrowIfStopping()
    {
        if (_disposed)
        {
            throw new StoreUnavailableException("The server is stopping.", TimeSpan.FromSeconds(5));
        }
    }
}
