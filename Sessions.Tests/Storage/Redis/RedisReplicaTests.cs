namespace Sessions.Tests.Storage.Redis;

public sealed class RedisReplicaTests(RedisFixture redis) : ReplicaContract
{
    private protected override async Task<IReadOnlyList<(string Key, string Value)>> StorageAsync() =>
        [("sessions:storage_type", "redis"), ("ConnectionStrings:redis", await redis.NewDatabaseAsync())];
}
