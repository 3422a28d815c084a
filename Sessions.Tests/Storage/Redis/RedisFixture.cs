using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;
using Sessions.Tests.Storage;
using StackExchange.Redis;
using StackExchange.Redis.KeyspaceIsolation;

[assembly: AssemblyFixture(typeof(RedisFixture))]

namespace Sessions.Tests.Storage;

/// <summary>
/// One Redis for all tests, started when the first asks for it. Each test has a database or a prefix of its own. The contract suite runs on
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
    internal async Task<TestStore> NewStoreAsync(SessionSettings settings, FakeTimeProvider time)
    {
        await StartAsync();
        return NewStore(_connection!, $"{_run}{Interlocked.Increment(ref _prefixes)}:", settings, time);
    }

    /// <summary>The same, with the space that it is on.</summary>
    internal async Task<(TestStore Store, IDatabase Database)> NewStoreAndDatabaseAsync(SessionSettings settings, FakeTimeProvider time)
    {
        await StartAsync();
        var prefix = $"{_run}{Interlocked.Increment(ref _prefixes)}:";
        return (NewStore(_connection!, prefix, settings, time), _connection!.GetDatabase().WithKeyPrefix(prefix));
    }

    internal static TestStore NewStore(IConnectionMultiplexer connection, string prefix, SessionSettings settings, FakeTimeProvider time, IAsyncDisposable? owned = null) =>
        new(new RedisSessionStore(new RedisCommands(connection.GetDatabase().WithKeyPrefix(prefix), TestStore.NewMeters(), NullLogger<RedisCommands>.Instance),
            new MemoryTurnCache(settings, time, TestStore.NewMeters()), settings, time, TestStore.NewMetrics(), NullLogger<RedisSessionStore>.Instance), time, settings, owned);

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
