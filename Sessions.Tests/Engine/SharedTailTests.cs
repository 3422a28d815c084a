using Microsoft.Extensions.Logging.Abstractions;
using StackExchange.Redis;

namespace Sessions.Tests.Engine;

/// <summary>A Redis as the second level of what is remembered: it spares reading turns, and nothing is wrong with it or without
/// it.</summary>
public sealed class SharedTailTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Another_process_is_given_what_is_there_and_what_is_removed_is_gone(bool isEncrypted)
    {
        using var redis = await RedisProcess.StartAsync();
        await using var shared = await ConnectAsync(redis, timeout: 30_000);
        var master = isEncrypted ? TestLog.NewMaster() : null;
        await using var log = TestLog.Open(master, shared: shared);
        await using var other = TestLog.Open(master, log, shared: shared);
        for (var i = 1; i <= 3; i++)
        {
            await log.TurnAsync("a", "ada", $"canary-q{i}");
        }

        Assert.Equal(["canary-q1", "canary-q2", "canary-q3"], await other.HistoryAsync("a"));
        Assert.Equal(OpenStatus.Unchanged, other.Counting.Opened[^1].Status);
        await using var client = await ConnectionMultiplexer.ConnectAsync(redis.Address);
        var key = (await log.GetAsync("a"))!.Key;
        byte[] entry = (await client.GetDatabase().HashGetAsync($"t:tail:{key:N}", "data"))!;
        Assert.Equal(!isEncrypted, entry.AsSpan().IndexOf("canary"u8) >= 0);

        // Changed, it is not taken.
        entry[^1] ^= 1;
        await client.GetDatabase().HashSetAsync($"t:tail:{key:N}", "data", isEncrypted ? entry : [1, 2, 3]);
        await using (var third = TestLog.Open(master, log, shared: shared))
        {
            Assert.Equal(["canary-q1", "canary-q2", "canary-q3"], await third.HistoryAsync("a"));
        }

        await log.TurnAsync("a", "ada", "canary-q4");
        Assert.True(await client.GetDatabase().KeyExistsAsync($"t:tail:{key:N}"));
        await other.Log.EraseAsync("ada", TestLog.Cancel);
        Assert.False(await client.GetDatabase().KeyExistsAsync($"t:tail:{key:N}"));
        Assert.Empty(await log.HistoryAsync("a"));
    }

    [Fact]
    public async Task Without_Redis_everything_goes_on()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var shared = await ConnectAsync(redis, timeout: 2000);
        await using var log = TestLog.Open(shared: shared);
        await log.TurnAsync("a", query: "q1");
        redis.Kill();

        await log.TurnAsync("a", query: "q2");
        await using var other = TestLog.Open(on: log, shared: shared);
        Assert.Equal(["q1", "q2"], await other.HistoryAsync("a"));
        await other.Log.DeleteAsync(SessionRef.ById("a"), Owner.Anyone, TestLog.Cancel);
        Assert.Empty(await log.HistoryAsync("a"));
        Assert.Equal(Microsoft.Extensions.Diagnostics.HealthChecks.HealthStatus.Degraded, (await shared.CheckAsync(TestLog.Cancel)).Status);
    }

    private static async Task<SharedTail> ConnectAsync(RedisProcess redis, int timeout)
    {
        var options = ConfigurationOptions.Parse(
            $"{redis.Address},connectTimeout={timeout},asyncTimeout={timeout},abortConnect=false");
        options.BacklogPolicy = BacklogPolicy.FailFast;
        return new SharedTail(await ConnectionMultiplexer.ConnectAsync(options), "t:", TimeSpan.FromHours(24),
            NullLogger<SharedTail>.Instance);
    }
}
