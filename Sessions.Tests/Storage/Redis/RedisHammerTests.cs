namespace Sessions.Tests.Storage.Redis;

public sealed class RedisHammerTests : HammerContract
{
    private protected override async Task<IHammeredStore> StartStoreAsync() =>
        new HammeredRedis(await RedisProcess.StartAsync("--appendonly", "yes", "--appendfsync", "always"));

    private sealed class HammeredRedis(RedisProcess redis) : IHammeredStore
    {
        public IReadOnlyList<(string Key, string Value)> Settings =>
            [("SESSIONS__STORAGE_TYPE", "redis"), ("ConnectionStrings__redis", redis.Address)];

        public Task CrashAsync()
        {
            redis.Kill();
            return redis.RestartAsync();
        }

        public async Task CheckAsync()
        {
            await using var connection = await redis.ConnectAsync();
            await foreach (var key in connection.GetServers()[0].KeysAsync())
            {
                // -2: gone since. What the layout is stays as long as the database.
                Assert.True(key == "sessions:layout" || (long)await connection.GetDatabase().ExecuteAsync("PTTL", key) != -1,
                    $"{key} stays for ever.");
            }
        }

        public ValueTask DisposeAsync()
        {
            redis.Dispose();
            return default;
        }
    }
}
