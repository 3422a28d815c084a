using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage.Redis;

public sealed class RedisSessionStoreTests(RedisFixture redis) : StoreContract
{
    protected override int ModelSequences => 60;

    private protected override ValueTask<TestStore> OpenAsync(StorePolicy policy, FakeTimeProvider time) =>
        redis.NewStoreAsync(policy, time);
}

public sealed class RedisClusterSessionStoreTests(RedisClusterFixture redis) : StoreContract
{
    protected override int ModelSequences => 20;

    private protected override ValueTask<TestStore> OpenAsync(StorePolicy policy, FakeTimeProvider time) =>
        redis.NewStoreAsync(policy, time);
}

public sealed class GarnetSessionStoreTests(GarnetFixture garnet) : StoreContract
{
    protected override int ModelSequences => 20;

    private protected override ValueTask<TestStore> OpenAsync(StorePolicy policy, FakeTimeProvider time) =>
        garnet.NewStoreAsync(policy, time);
}
