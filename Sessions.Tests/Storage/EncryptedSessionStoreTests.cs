using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>Encryption over SQLite keeps every promise that SQLite alone does.</summary>
public sealed class EncryptedSessionStoreTests : SessionStoreContract, IDisposable
{
    private readonly TestFolder _folder = new();
    private int _files;

    protected override int ModelSequences => 20;

    public void Dispose() => _folder.Dispose();

    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time)
    {
        var path = _folder[$"{Interlocked.Increment(ref _files)}.db"];
        var sessions = SqliteTests.Open(path, settings, time);
        var keys = new SqliteUserKeys(path);
        return Task.FromResult(new TestStore(new EncryptedSessionStore(sessions, new UserKeyRing(keys, EncryptionTests.NewMasterKeys(), settings, time)), time, settings, new Owned(keys)));
    }

    private sealed class Owned(IDisposable owned) : IAsyncDisposable
    {
        public ValueTask DisposeAsync()
        {
            owned.Dispose();
            return default;
        }
    }
}

/// <summary>And over Redis.</summary>
public sealed class EncryptedRedisSessionStoreTests(RedisFixture redis) : SessionStoreContract
{
    protected override int ModelSequences => 20;

    private protected override async Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time)
    {
        var (store, database) = await redis.NewStoreAndDatabaseAsync(settings, time);
        return new TestStore(new EncryptedSessionStore(store.Store, new UserKeyRing(new RedisUserKeys(database, time), EncryptionTests.NewMasterKeys(), settings, time)), time, settings);
    }
}
