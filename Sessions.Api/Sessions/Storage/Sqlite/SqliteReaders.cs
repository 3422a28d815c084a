using System.Collections.Concurrent;
using Microsoft.Data.Sqlite;

namespace Sessions.Api;

/// <summary>Connections that only read, with their prepared statements: as many as read at the same time, kept for the next ones.</summary>
internal sealed class SqliteReaders(SqliteFile file, SqlitePlace place) : IDisposable
{
    // More than there are threads at work would only take memory.
    private static readonly int MostKept = Math.Max(4, 2 * Environment.ProcessorCount);

    private readonly ConcurrentBag<SqliteLink> _idle = [];
    private volatile bool _disposed;

    /// <summary>Reads with one statement.</summary>
    public T Read<T>(Func<SqliteLink, T> read)
    {
        SqliteLink? link = null;
        try
        {
            link = Rent();
            var result = read(link);
            Return(link);
            link = null;
            return result;
        }
        catch (SqliteException e) when (SqliteFailure.IsTrouble(e))
        {
            throw SqliteFailure.ToUnavailable(e);
        }
        finally
        {
            link?.Dispose();
        }
    }

    /// <summary>Reads with several statements, which all see the same state.</summary>
    public T ReadConsistently<T>(Func<SqliteLink, T> read) => Read(link =>
    {
        link[SqliteSql.BeginReading].Run();
        var result = read(link);
        link[SqliteSql.End].Run();
        return result;
    });

    /// <summary>A connection to keep for a while; to be disposed of, or given back by <see cref="Return"/>.</summary>
    public SqliteLink Rent()
    {
        if (_disposed)
        {
            throw new StoreUnavailableException("The server is stopping.", TimeSpan.FromSeconds(5));
        }

        place.ThrowIfLost();
        if (_idle.TryTake(out var idle))
        {
            return idle;
        }

        // Or it would open another file, and mix it with the log of this one.
        place.Check();
        return file.OpenReader();
    }

    /// <summary>Gives back a connection that is in no transaction.</summary>
    public void Return(SqliteLink link)
    {
        if (_disposed || _idle.Count >= MostKept)
        {
            link.Dispose();
        }
        else
        {
            _idle.Add(link);
        }
    }

    public void Dispose()
    {
        _disposed = true;
        while (_idle.TryTake(out var link))
        {
            link.Dispose();
        }
    }

}
