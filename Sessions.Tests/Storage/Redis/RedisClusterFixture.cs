using System.Globalization;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

[assembly: AssemblyFixture(typeof(RedisClusterFixture))]

namespace Sessions.Tests.Storage.Redis;

/// <summary>A Redis Cluster of three masters, started when the first test asks for it.</summary>
public sealed class RedisClusterFixture : IAsyncDisposable
{
    private const int Slots = 16384;

    private readonly SemaphoreSlim _lock = new(1);
    private readonly List<RedisProcess> _nodes = [];
    private ConnectionMultiplexer? _connection;
    private int _prefixes;

    /// <summary>A store on an empty space of its own.</summary>
    internal async ValueTask<TestStore> NewStoreAsync(StorePolicy policy, FakeTimeProvider time) =>
        await RedisFixture.NewStoreAsync(await ConnectAsync(), $"{Interlocked.Increment(ref _prefixes)}:", policy, time);

    /// <summary>A connection string to the whole cluster, emptied before: for those who share it with nobody.</summary>
    internal async Task<string> EmptyAsync()
    {
        await ConnectAsync();
        foreach (var process in _nodes)
        {
            await using var node = await process.ConnectAsync();
            await node.GetServer(process.Address).FlushAllDatabasesAsync();
        }

        return string.Join(',', _nodes.Select(node => node.Address));
    }

    public async ValueTask DisposeAsync()
    {
        if (_connection is not null)
        {
            await _connection.DisposeAsync();
        }

        foreach (var node in _nodes)
        {
            node.Dispose();
        }

        _lock.Dispose();
    }

    private async Task<ConnectionMultiplexer> ConnectAsync()
    {
        await _lock.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            return _connection ??= await StartAsync();
        }
        finally
        {
            _lock.Release();
        }
    }

    private async Task<ConnectionMultiplexer> StartAsync()
    {
        while (_nodes.Count < 3)
        {
            // Nothing fails there: one that only got no time is not to be taken for one that did.
            _nodes.Add(await RedisProcess.StartAsync("--cluster-enabled", "yes", "--cluster-node-timeout", "60000"));
        }

        for (var i = 0; i < _nodes.Count; i++)
        {
            await using var node = await _nodes[i].ConnectAsync();
            var server = node.GetServer(_nodes[i].Address);
            await server.ExecuteAsync("CLUSTER", "ADDSLOTSRANGE", Slots * i / 3, (Slots * (i + 1) / 3) - 1);
            await server.ExecuteAsync("CLUSTER", "MEET", "127.0.0.1", _nodes[0].Port.ToString(CultureInfo.InvariantCulture));
        }

        foreach (var process in _nodes)
        {
            await using var node = await process.ConnectAsync();
            while (!((string?)await node.GetServer(process.Address).ExecuteAsync("CLUSTER", "INFO"))!.Contains("cluster_state:ok",
                StringComparison.Ordinal))
            {
                TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
            }
        }

        return await ConnectionMultiplexer.ConnectAsync(string.Join(',', _nodes.Select(node => node.Address)));
    }
}
