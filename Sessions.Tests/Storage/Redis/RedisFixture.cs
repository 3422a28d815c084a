using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

[assembly: AssemblyFixture(typeof(RedisFixture))]

namespace Sessions.Tests.Storage.Redis;

/// <summary>
/// One Redis for all tests, started when the first asks for it. Each test has a database or a prefix of its own. The contract suite runs
/// on
/// another server where <c>SESSIONS_TEST_REDIS</c> is a connection string: a Valkey, a Garnet, a managed one.
/// </summary>
public sealed class RedisFixture : IAsyncDisposable
{
    private static readonly string? Other = Environment.GetEnvironmentVariable("SESSIONS_TEST_REDIS");

    private readonly SemaphoreSlim _lock = new(1);
    private readonly string _run = Other is null ? "" : $"{Guid.NewGuid():N}:";
    private RedisProcess? _process;
    private ConnectionMultiplexer? _connection;
    private int _databases;
    private int _prefixes;

    /// <summary>A connection string to an empty database.</summary>
    internal async Task<string> NewDatabaseAsync()
    {
        await StartAsync();
        Assert.SkipWhen(_process is null, "Only the contract suite runs on SESSIONS_TEST_REDIS.");
        return $"{_process.Address},defaultDatabase={Interlocked.Increment(ref _databases)}";
    }

    /// <summary>A store on an empty space of its own.</summary>
    internal async ValueTask<TestStore> NewStoreAsync(StorePolicy policy, FakeTimeProvider time)
    {
        await StartAsync();
        return await NewStoreAsync(_connection!, $"{_run}{Interlocked.Increment(ref _prefixes)}:", policy, time);
    }

    internal static ValueTask<TestStore> NewStoreAsync(
        IConnectionMultiplexer connection, string prefix, StorePolicy policy, FakeTimeProvider time, IAsyncDisposable? owned = null) =>
        TestStore.OpenAsync(policy, time, p => ValueTask.FromResult<ISessionStore>(NewStore(connection, prefix, p, time)), owned);

    internal static RedisSessionStore NewStore(
        IConnectionMultiplexer connection, string prefix, StorePolicy policy, TimeProvider time, Action<string>? onStep = null) =>
        new(NewCommands(connection), new RedisKeys(prefix), policy, time, NullLogger<RedisSessionStore>.Instance)
        {
            OnStep = onStep ?? (_ => { }),
        };

    internal static RedisCommands NewCommands(IConnectionMultiplexer connection) =>
        new(connection.GetDatabase(), new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>(),
            NullLogger<RedisCommands>.Instance);

    public async ValueTask DisposeAsync()
    {
        if (_connection is not null)
        {
            await _connection.DisposeAsync();
        }

        _process?.Dispose();
        _lock.Dispose();
    }

    private async Task StartAsync()
    {
        await _lock.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            if (_connection is null)
            {
                if (Other is null)
                {
                    _process ??= await RedisProcess.StartAsync();
                }

                _connection = _process is null ? await ConnectionMultiplexer.ConnectAsync(Other!) : await _process.ConnectAsync();
            }
        }
        finally
        {
            _lock.Release();
        }
    }
}
