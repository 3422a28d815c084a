using Microsoft.Extensions.Time.Testing;
using Sessions.Api.Storage.Postgres;

[assembly: AssemblyFixture(typeof(PostgresFixture))]

namespace Sessions.Tests.Storage.Postgres;

/// <summary>One PostgreSQL for all tests, started when the first asks for it. Each test has a schema of its own.</summary>
public sealed class PostgresFixture : IAsyncDisposable
{
    private readonly SemaphoreSlim _lock = new(1);
    private PostgresServer? _server;
    private readonly SemaphoreSlim _fillLock = new(1);
    private string? _filled;
    private int _schemas;

    /// <summary>Where to connect to for an empty schema.</summary>
    internal async Task<string> NewSchemaAsync()
    {
        await _lock.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            _server ??= await PostgresServer.StartAsync();
        }
        finally
        {
            _lock.Release();
        }

        var schema = $"s{Interlocked.Increment(ref _schemas)}";
        await _server.AskAsync($"CREATE SCHEMA {schema}");
        return $"{_server.ConnectionString};Search Path={schema}";
    }

    /// <summary>One with many rows, made for the first that asks for it.</summary>
    internal async Task<string> FilledSchemaAsync(Func<string, Task> fill)
    {
        await _fillLock.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            if (_filled is null)
            {
                var schema = await NewSchemaAsync();
                await fill(schema);
                _filled = schema;
            }

            return _filled;
        }
        finally
        {
            _fillLock.Release();
        }
    }

    internal async ValueTask<TestStore> OpenAsync(StorePolicy policy, FakeTimeProvider time)
    {
        var connection = await NewSchemaAsync();
        return await TestStore.OpenAsync(policy, time, given => OpenAsync(connection, given, time));
    }

    internal static async ValueTask<ISessionStore> OpenAsync(string connection, StorePolicy policy, TimeProvider time)
    {
        var database = PostgresDatabase.Open(connection);
        await PostgresSchema.MigrateAsync(database.Source, TestContext.Current.CancellationToken);
        return new PostgresSessionStore(database, policy, time);
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }

        _lock.Dispose();
        _fillLock.Dispose();
    }
}
