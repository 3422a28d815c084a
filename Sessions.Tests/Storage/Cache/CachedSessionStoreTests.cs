using Microsoft.Extensions.Time.Testing;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>A store with a cache in front is the same store.</summary>
public sealed class CachedSessionStoreTests(RedisFixture redis) : SessionStoreContract, IAsyncLifetime
{
    private readonly TestFolder _folder = new();
    private string _connection = "";
    private int _files;

    // Each sequence has a file and a connection of its own.
    protected override int ModelSequences => 20;

    public async ValueTask InitializeAsync() => _connection = await redis.NewDatabaseAsync();

    public ValueTask DisposeAsync()
    {
        _folder.Dispose();
        return default;
    }

    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time)
    {
        var name = $"{Interlocked.Increment(ref _files)}";
        var cached = new CachedStore(_folder[$"{name}.db"], _connection, name, settings, time);
        return Task.FromResult(new TestStore(cached.Store, time, settings, cached));
    }
}
