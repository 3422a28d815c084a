using Npgsql;
using NpgsqlTypes;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <summary>
/// Runs statements on PostgreSQL, and tells what is wrong with it as a store does. Nothing of a session of the server's is used, so that
/// it may be behind PgBouncer in transaction mode: no prepared statements unless the operator asks for them, no settings, no locks beyond
/// a transaction.
/// </summary>
internal sealed class PostgresDatabase(NpgsqlDataSource source) : IAsyncDisposable, IDisposable
{
    private const int MaxTries = 4;

    // What was wrong at last, until something goes well again: it is logged once, not for each request.
    private string? _trouble;

    /// <summary>The database of a connection string, with bounds where it names none.</summary>
    public static PostgresDatabase Open(string connectionString)
    {
        var settings = new NpgsqlConnectionStringBuilder(connectionString);
        SetDefault("Timeout", () => settings.Timeout = 5);
        SetDefault("Command Timeout", () => settings.CommandTimeout = 10);
        SetDefault("Cancellation Timeout", () => settings.CancellationTimeout = 1000);
        SetDefault("Maximum Pool Size", () => settings.MaxPoolSize = 50);
        SetDefault("Application Name", () => settings.ApplicationName = "sessions");
        SetDefault("Keepalive", () => settings.KeepAlive = 30);

        // There is nothing to reset, and a pooler between would not know what for.
        settings.NoResetOnClose = true;
        if (settings.Host?.Contains(',', StringComparison.Ordinal) != true)
        {
            return new PostgresDatabase(NpgsqlDataSource.Create(settings));
        }

        // Of several servers the one that takes writes: it is another one after a failover.
        settings.Remove("Target Session Attributes");
        return new PostgresDatabase(
            new NpgsqlDataSourceBuilder(settings.ConnectionString).BuildMultiHost().WithTargetSession(TargetSessionAttributes.Primary));

        void SetDefault(string key, Action set)
        {
            if (!settings.ShouldSerialize(key))
            {
                set();
            }
        }
    }

    /// <summary>Where connections come from.</summary>
    public NpgsqlDataSource Source => source;

    /// <summary>A statement with its values, in order: <c>$1</c>, <c>$2</c>, …</summary>
    public static NpgsqlBatchCommand Command(string sql, params ReadOnlySpan<object?> values)
    {
        var command = new NpgsqlBatchCommand(sql);
        foreach (var value in values)
        {
            command.Parameters.Add(value switch
            {
                null => new NpgsqlParameter { Value = DBNull.Value },
                ReadOnlyMemory<byte> bytes => Bytes(bytes),
                Utf8Text text => Bytes(text.Bytes),
                _ => new NpgsqlParameter { Value = value },
            });
        }

        return command;

        static NpgsqlParameter Bytes(ReadOnlyMemory<byte> bytes) =>
            new NpgsqlParameter<ReadOnlyMemory<byte>> { TypedValue = bytes, NpgsqlDbType = NpgsqlDbType.Bytea };
    }

    /// <summary>Does something on a connection; again where another transaction was in the way.</summary>
    public async ValueTask<T> RunAsync<T>(Func<NpgsqlConnection, CancellationToken, Task<T>> operation,
        CancellationToken cancellationToken)
    {
        for (var tries = 1; ; tries++)
        {
            try
            {
                await using var connection = await source.OpenConnectionAsync(cancellationToken);
                var result = await operation(connection, cancellationToken);
                if (_trouble is not null)
                {
                    _trouble = null;
                }

                return result;
            }
            catch (Exception e) when (PostgresFailure.MayRetry(e) && tries < MaxTries)
            {
                await Task.Delay(Random.Shared.Next(1, 10 * tries), cancellationToken);
            }
            catch (Exception e) when (e is not OperationCanceledException && PostgresFailure.Translate(e) is { } translated)
            {
                throw translated is StoreUnavailableException { Message: var message } unavailable
                    && Interlocked.Exchange(ref _trouble, message) == message ? PostgresFailure.AsKnown(unavailable) : translated;
            }
        }
    }

    /// <summary>The same within a transaction.</summary>
    public ValueTask<T> InTransactionAsync<T>(Func<NpgsqlConnection, CancellationToken, Task<T>> operation,
        CancellationToken cancellationToken) => RunAsync(
        async (connection, cancel) =>
        {
            await using var transaction = await connection.BeginTransactionAsync(cancel);
            var result = await operation(connection, cancel);
            await transaction.CommitAsync(cancel);
            return result;
        }, cancellationToken);

    /// <summary>Sends some statements at once, and reads what they answer.</summary>
    public static async Task<T> QueryAsync<T>(
        NpgsqlConnection connection, IEnumerable<NpgsqlBatchCommand> commands, Func<NpgsqlDataReader, CancellationToken, Task<T>> read,
            CancellationToken cancellationToken)
    {
        await using var batch = new NpgsqlBatch(connection);
        foreach (var command in commands)
        {
            batch.BatchCommands.Add(command);
        }

        await using var reader = await batch.ExecuteReaderAsync(cancellationToken);
        return await read(reader, cancellationToken);
    }

    /// <summary>Sends some statements at once; tells how many rows they changed.</summary>
    public static async Task<int> ExecuteAsync(NpgsqlConnection connection, CancellationToken cancellationToken,
        params NpgsqlBatchCommand[] commands)
    {
        await using var batch = new NpgsqlBatch(connection);
        foreach (var command in commands)
        {
            batch.BatchCommands.Add(command);
        }

        return await batch.ExecuteNonQueryAsync(cancellationToken);
    }

    public ValueTask DisposeAsync() => source.DisposeAsync();

    public void Dispose() => source.Dispose();
}
