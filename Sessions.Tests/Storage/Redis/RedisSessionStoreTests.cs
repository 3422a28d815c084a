using Microsoft.Extensions.Time.Testing;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

public sealed class RedisSessionStoreTests(RedisFixture redis) : SessionStoreContract
{
    // Each step goes over a socket.
    protected override int ModelSequences => 40;

    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time) => redis.NewStoreAsync(settings, time);
}

public sealed class RedisClusterSessionStoreTests(RedisClusterFixture redis) : SessionStoreContract
{
    protected override int ModelSequences => 20;

    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time) => redis.NewStoreAsync(settings, time);
}

public sealed class GarnetSessionStoreTests(GarnetFixture garnet) : SessionStoreContract
{
    protected override int ModelSequences => 20;

    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time) => garnet.NewStoreAsync(settings, time);
}
