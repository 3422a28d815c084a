using System.Diagnostics;
using StackExchange.Redis;

namespace Sessions.Tests.Storage.Redis;

/// <summary>A Redis that is away, or will not write: told within seconds, and over as soon as it is back.</summary>
public sealed class RedisTroubleTests
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task A_Redis_that_hangs_is_told_in_time_and_used_again_when_it_goes_on()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = Start(redis);
        await server.QueryAsync("hello", "a", "ada");

        redis.Signal("STOP");
        await UnavailableAsync(server);
        redis.Signal("CONT");

        await RecoversAsync(server);
        Assert.Equal("hello", (string?)(await server.GetAsync("/sessions/a/history")).Json["turns"]![0]!["query"]);
    }

    [Fact]
    public async Task Sessions_that_are_created_with_encryption_do_not_each_wait_for_a_Redis_that_hangs()
    {
        using var redis = await RedisProcess.StartAsync();
        var master = Convert.ToBase64String(System.Security.Cryptography.RandomNumberGenerator.GetBytes(32));
        await using var server = SessionsServer.Start(
        [
            ("sessions:storage_type", "redis"), ("ConnectionStrings:redis", redis.Address), ("encryption:enabled", "true"),
            ("encryption:master_key", master),
        ]);
        Assert.Equal(201, (await server.PostAsync("/sessions", new { user_id = "ada" })).Status);

        redis.Signal("STOP");
        var started = Stopwatch.GetTimestamp();
        for (var i = 0; i < 10; i++)
        {
            (await server.PostAsync("/sessions", new { user_id = "ada", metadata = new { a = i } })).IsProblem(503, "storage_unavailable");
        }

        // The first one's time-out, not ten of them: their keys are asked for on the same way as everything else.
        Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(15));
        redis.Signal("CONT");
        await RecoversAsync(server);
    }

    [Fact]
    public async Task Queries_that_queue_on_one_session_do_not_each_wait_for_a_Redis_that_hangs()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = Start(redis);
        await server.QueryAsync("hello", "a", "ada");

        redis.Signal("STOP");
        var started = Stopwatch.GetTimestamp();
        var asking = Task.WhenAll(Enumerable.Range(0, 20).Select(_ => server.TryQueryAsync("are you there?", "a", "ada")));

        // Until the driver gives the connection up, which it does after some more seconds.
        await ServiceProcess.UntilAsync(() => server.Get<RedisCommands>().Unresponsive == 1);
        var answers = await asking;
        var took = Stopwatch.GetElapsedTime(started);
        Assert.All(answers, answer => answer.IsProblem(503, "storage_unavailable"));

        // The first one's time-out, not twenty of them.
        Assert.InRange(took, TimeSpan.Zero, TimeSpan.FromSeconds(20));
        Assert.Equal(503, (await server.GetAsync("/health")).Status);
        redis.Signal("CONT");
        await RecoversAsync(server);
        Assert.Equal(0, server.Get<RedisCommands>().Unresponsive);
    }

    [Fact]
    public async Task A_Redis_that_was_killed_and_comes_back_with_its_log_has_lost_nothing()
    {
        using var redis = await RedisProcess.StartAsync("--appendonly", "yes", "--appendfsync", "always");
        await using var server = Start(redis);
        await server.QueryAsync("hello", "a", "ada");

        redis.Kill();
        await UnavailableAsync(server);
        await redis.RestartAsync();

        await RecoversAsync(server);
        Assert.Equal("hello", (string?)(await server.GetAsync("/sessions/a/history")).Json["turns"]![0]!["query"]);
    }

    [Fact]
    public async Task A_Redis_that_is_still_loading_is_told_by_that_and_used_when_it_has_loaded()
    {
        // A tenth of a second for each key, until it is told to hurry; and an answer now and then meanwhile.
        using var redis = await RedisProcess.StartAsync("--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024",
            "--rdbcompression", "no");
        await using var server = Start(redis);
        await server.QueryAsync("hello", "a", "ada");
        await using (var admin = await redis.ConnectAsync())
        {
            await Task.WhenAll(Enumerable.Range(0, 3000)
                .Select(i => admin.GetDatabase().StringSetAsync($"other {i}", new string('x', 100))));
            await admin.GetDatabase().ExecuteAsync("SAVE");
        }

        redis.Kill();
        redis.Restart();

        // At first nothing listens there.
        Answer answer;
        do
        {
            answer = (await server.TryQueryAsync("are you there?", "a", "ada")).IsProblem(503, "storage_unavailable");
        }
        while (!answer.Text.Contains("loading", StringComparison.Ordinal));

        await UnavailableAsync(server);
        await redis.AskAsync("CONFIG SET key-load-delay 0");
        await RecoversAsync(server);
        Assert.Equal("hello", (string?)(await server.GetAsync("/sessions/a/history")).Json["turns"]![0]!["query"]);
    }

    [Theory]
    [InlineData("volatile-lru", "100mb", "warn: Sessions.Api.Storage.Redis.RedisEvictionWarning", "maxmemory-policy: volatile-lru")]
    [InlineData("volatile-lru", "0", "dbug: Sessions.Api.Storage.Redis.RedisEvictionWarning", "keeps sessions")]
    [InlineData("noeviction", "100mb", "dbug: Sessions.Api.Storage.Redis.RedisEvictionWarning", "keeps sessions")]
    public async Task A_Redis_that_would_evict_sessions_is_warned_of(string policy, string memory, string level, string message)
    {
        using var redis = await RedisProcess.StartAsync("--maxmemory-policy", policy, "--maxmemory", memory);
        await using var server = ServiceProcess.Api(("SESSIONS__STORAGE_TYPE", "redis"), ("ConnectionStrings__redis", redis.Address),
            ("Logging__LogLevel__Sessions.Api.Storage.Redis.RedisEvictionWarning", "Debug"));
        await server.SaysAsync(message);

        Assert.Equal(1, server.Count(level));
    }

    [Fact]
    public async Task A_Redis_that_can_not_write_its_file_is_told_by_that()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = Start(redis);
        await using var admin = await redis.ConnectAsync();
        var database = admin.GetDatabase();
        await server.QueryAsync("hello", "a", "ada");

        // A folder stands where the file is to be.
        var folder = ((string[])(await database.ExecuteAsync("CONFIG", "GET", "dir"))!)[1];
        var inTheWay = Directory.CreateDirectory(Path.Combine(folder, "dump.rdb"));
        await database.ExecuteAsync("CONFIG", "SET", "save", "3600 1");
        await SaveAsync("err");
        var refused = (await server.TryQueryAsync("are you there?", "a", "ada")).IsProblem(503, "storage_unavailable");
        Assert.Contains("can't save", (string?)refused.Json["detail"], StringComparison.Ordinal);
        Assert.NotNull(refused.Headers["Retry-After"]);

        inTheWay.Delete();
        await SaveAsync("ok");
        await RecoversAsync(server);

        async Task SaveAsync(string status)
        {
            await database.ExecuteAsync("BGSAVE");
            await ServiceProcess.UntilAsync(async () =>
            {
                var info = (string)(await database.ExecuteAsync("INFO", "persistence"))!;
                return info.Contains("rdb_bgsave_in_progress:0", StringComparison.Ordinal)
                    && info.Contains($"rdb_last_bgsave_status:{status}", StringComparison.Ordinal);
            });
        }
    }

    [Fact]
    public async Task A_Redis_that_asks_for_a_password_it_did_not_ask_for_is_told()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = Start(redis);
        await using var admin = await redis.ConnectAsync();
        await server.QueryAsync("hello", "a", "ada");

        await admin.GetDatabase().ExecuteAsync("CONFIG", "SET", "requirepass", "secret");
        await admin.GetDatabase().ExecuteAsync("CLIENT", "KILL", "TYPE", "normal");
        await UnavailableAsync(server);

        await using var again = await ConnectionMultiplexer.ConnectAsync($"{redis.Address},password=secret,allowAdmin=true");
        await again.GetDatabase().ExecuteAsync("CONFIG", "SET", "requirepass", "");
        await RecoversAsync(server);
    }

    [Theory]
    [InlineData("no memory", "maxmemory", "1", "0")]
    [InlineData("too few replicas", "min-replicas-to-write", "1", "0")]
    public async Task A_Redis_that_takes_no_writes_is_told_by_its_reason(string reason, string setting, string bad, string good)
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = Start(redis);
        await using var admin = await redis.ConnectAsync();
        await server.QueryAsync("hello", "a", "ada");

        await admin.GetServer(redis.Address).ConfigSetAsync(setting, bad);
        var answer = await UnavailableAsync(server);
        Assert.Contains(reason, answer.Text, StringComparison.Ordinal);
        await admin.GetServer(redis.Address).ConfigSetAsync(setting, good);

        await RecoversAsync(server);
    }

    [Fact]
    public async Task A_Redis_that_became_a_replica_is_told_and_used_again_when_it_is_a_master()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = Start(redis);
        await using var admin = await redis.ConnectAsync();
        await server.QueryAsync("hello", "a", "ada");

        // Of a master that is not there: what it has stays.
        await admin.GetServer(redis.Address).ExecuteAsync("REPLICAOF", "127.0.0.1", "1");
        await UnavailableAsync(server);
        await admin.GetServer(redis.Address).ExecuteAsync("REPLICAOF", "NO", "ONE");

        await RecoversAsync(server);
    }

    [Theory]
    [InlineData("Command cannot be issued to a replica: EVAL")]
    [InlineData("The database does not exist on the server: 3")]
    public void What_the_driver_refuses_while_a_server_changes_its_role_is_trouble(string message) =>
        Assert.True(RedisFailure.IsTrouble(new RedisCommandException(message)));

    private static SessionsServer Start(RedisProcess redis) =>
        SessionsServer.Start([("sessions:storage_type", "redis"), ("ConnectionStrings:redis", redis.Address)]);

    private static async Task<Answer> UnavailableAsync(SessionsServer server)
    {
        var started = Stopwatch.GetTimestamp();

        // Many at once: none waits for the others.
        var answers = await Task.WhenAll(Enumerable.Range(0, 50).Select(i => server.TryQueryAsync("are you there?", $"t{i}", "ada")));

        Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, Bound);
        Assert.All(answers, answer => answer.IsProblem(503, "storage_unavailable"));
        Assert.All(answers,
            answer => Assert.InRange(int.Parse(answer.Headers["Retry-After"], System.Globalization.CultureInfo.InvariantCulture), 1, 10));
        Assert.Equal(503, (await server.GetAsync("/health")).Status);
        Assert.Equal(200, (await server.GetAsync("/alive")).Status);
        return answers[0];
    }

    private static async Task RecoversAsync(SessionsServer server)
    {
        var started = Stopwatch.GetTimestamp();
        while ((await server.TryQueryAsync("again", "a", "ada")).Status != 200)
        {
            Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(20));
        }

        while ((await server.GetAsync("/health")).Status != 200)
        {
            Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(20));
        }
    }
}
