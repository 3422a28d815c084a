using System.Net;
using Garnet;
using Garnet.server;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

[assembly: AssemblyFixture(typeof(GarnetFixture))]

namespace Sessions.Tests.Storage.Redis;

/// <summary>
/// A Garnet in this process, so that the store is tested where there is no redis-server too; started when the first test asks for it.
/// </summary>
public sealed class GarnetFixture : IAsyncDisposable
{
    private readonly SemaphoreSlim _lock = new(1);
    private Server? _server;
    private ConnectionMultiplexer? _connection;
    private int _prefixes;

    /// <summary>A store on an empty space of its own.</summary>
    internal async ValueTask<TestStore> NewStoreAsync(StorePolicy policy, FakeTimeProvider time)
    {
        await _lock.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            _server ??= new Server();
            _connection ??= await ConnectionMultiplexer.ConnectAsync(_server.Address);
        }
        finally
        {
            _lock.Release();
        }

        return await RedisFixture.NewStoreAsync(_connection, $"{Interlocked.Increment(ref _prefixes)}:", policy, time);
    }

    public async ValueTask DisposeAsync()
    {
        if (_connection is not null)
        {
            await _connection.DisposeAsync();
        }

        _server?.Dispose();
        _lock.Dispose();
    }

    /// <summary>One that nobody else uses.</summary>
    internal sealed class Server : IDisposable
    {
        private readonly GarnetServer _garnet;

        public Server()
        {
            var port = FreePort.Find();
            Address = $"127.0.0.1:{port}";
            _garnet = new GarnetServer(new GarnetServerOptions
            {
                EndPoints = [new IPEndPoint(IPAddress.Loopback, port)],
                QuietMode = true,
                EnableLua = true,
                LuaOptions = new LuaOptions(),

                // It reserves what it may use.
                LogMemorySize = "64m",
                PageSize = "1m",
                IndexMemorySize = "8m",
            });
            _garnet.Start();
        }

        public string Address { get; }

        /// <summary>Forgets everything.</summary>
        public async Task<string> EmptyAsync()
        {
            await using var connection = await ConnectionMultiplexer.ConnectAsync($"{Address},allowAdmin=true");
            await connection.GetServer(Address).FlushAllDatabasesAsync();
            return Address;
        }

        public void Dispose() => _garnet.Dispose();
    }
}
