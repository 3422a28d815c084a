using System.Diagnostics;
using System.Net.Http.Json;
using System.Security.Cryptography;

namespace Sessions.Tests.Storage;

/// <summary>A Redis that is away costs a moment, and never a wrong answer or none.</summary>
public sealed class CacheTroubleTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_Redis_that_hangs_is_waited_for_a_moment_and_then_left_alone_until_it_is_back()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = SessionsServer.Start(Settings(redis));
        await server.QueryAsync("q1", "a");

        redis.Signal("STOP");
        var started = Stopwatch.GetTimestamp();
        for (var i = 2; i <= 100; i++)
        {
            Assert.Equal(i, (int)(await server.QueryAsync($"q{i}", "a"))["metadata"]!["turn"]!);
        }

        // A time-out each would be 40 s.
        Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(25));
        redis.Signal("CONT");
        await UsedAgainAsync(server, redis);
    }

    [Fact]
    public async Task A_Redis_that_is_not_there_at_the_start_is_used_when_it_is()
    {
        using var redis = await RedisProcess.StartAsync();
        redis.Kill();
        await using var server = SessionsServer.Start(Settings(redis));
        await server.QueryAsync("q1", "a");
        Assert.Equal(2, (int)(await server.QueryAsync("q2", "a"))["metadata"]!["turn"]!);

        await redis.RestartAsync();
        await UsedAgainAsync(server, redis);
    }

    [Fact]
    public async Task What_was_deleted_while_Redis_hung_is_removed_from_it_when_it_goes_on()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = SessionsServer.Start(Settings(redis));
        await ServiceProcess.UntilAsync(async () =>
        {
            await server.QueryAsync("hello", "other");
            await server.QueryAsync("hello", "a");
            return (await KeysAsync(redis)).Count == 2;
        });
        redis.Signal("STOP");

        // The first one finds out; the deletion itself is not even sent.
        await server.QueryAsync("and?", "other");
        Assert.Equal(200, (await server.DeleteAsync("/sessions/a")).Status);
        redis.Signal("CONT");

        await ServiceProcess.UntilAsync(async () => (await KeysAsync(redis)).Count == 1);
    }

    [Fact]
    public async Task Health_says_that_the_cache_is_away_and_that_the_server_is_ready_all_the_same()
    {
        using var redis = await RedisProcess.StartAsync();
        await using var server = SessionsServer.Start(Settings(redis));
        await server.QueryAsync("hello", "a");
        await HealthyAsync();

        // While the driver has not noticed, it only does not answer.
        redis.Kill();
        await ServiceProcess.UntilAsync(async () =>
        {
            var health = await server.GetAsync("/health");
            Assert.Equal(200, health.Status);
            Assert.Equal("Degraded", (string?)health.Json["status"]);
            Assert.Equal("Healthy", (string?)health.Json["checks"]!["store"]!["status"]);
            return (string?)health.Json["checks"]!["cache"]!["description"]
                == "Redis can't be reached. Until it is back, everything is read from the disk.";
        });
        Assert.Equal(2, (int)(await server.QueryAsync("and again", "a"))["metadata"]!["turn"]!);

        await redis.RestartAsync();
        await HealthyAsync();

        Task HealthyAsync() =>
            ServiceProcess.UntilAsync(async () => (string?)(await server.GetAsync("/health")).Json["status"] == "Healthy");
    }

    [Fact]
    public async Task Two_servers_on_one_file_never_answer_from_a_history_that_is_not_the_latest_whatever_becomes_of_the_cache()
    {
        const int Clients = 8;
        const int Threads = 4;
        using var redis = await RedisProcess.StartAsync();
        await using var model = await ChatCompletionsServer.StartAsync();
        model.Reply = (request, _, http) =>
            ChatCompletionsServer.AnswerAsync(http, ChatCompletionsServer.Digest(ChatCompletionsServer.Asked(request)));
        IReadOnlyList<(string, string)> settings = [.. Settings(redis), .. model.Agent("model"), ("agents:model:history_turns", "1000")];
        await using var one = SessionsServer.Start(settings);
        one.Time.SetUtcNow(DateTimeOffset.UtcNow);
        await using var process = ServiceProcess.Api(settings);
        using var two = new HttpClient { BaseAddress = await process.AddressAsync() };

        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var answered = 0;
        var clients = Enumerable.Range(0, Clients).Select(client => Task.Run(async () =>
        {
            for (var i = 0; !stop.IsCancellationRequested; i++)
            {
                using var content = JsonContent.Create(new
                {
                    query = $"{client}-{i}",
                    thread_id = $"t{Random.Shared.Next(Threads)}",
                    agent_type = "model",
                    parameters = new { history_turns = 1000 },
                });
                using var response = await (Random.Shared.Next(2) == 0 ? one.Client : two)
                    .PostAsync(new Uri("/query", UriKind.Relative), content, Cancel);

                // 409: the other server was faster again and again.
                Assert.True((int)response.StatusCode is 200 or 409, await response.Content.ReadAsStringAsync(Cancel));
                Interlocked.Add(ref answered, response.IsSuccessStatusCode ? 1 : 0);
            }
        }, Cancel)).ToList();

        foreach (var disturb in Disturbances(redis))
        {
            await AnsweredAsync(20);
            await disturb();
        }

        await AnsweredAsync(20);
        await stop.CancelAsync();
        await Task.WhenAll(clients);
        for (var thread = 0; thread < Threads; thread++)
        {
            List<string> queries = [];
            string? next = null;
            do
            {
                var page = (await one.GetAsync($"/sessions/t{thread}/history?limit=100{(next is null ? "" : $"&after={next}")}")).Json;
                foreach (var turn in page["turns"]!.AsArray())
                {
                    queries.Add((string)turn!["query"]!);
                    Assert.Equal(ChatCompletionsServer.Digest(queries), (string?)turn["response"]);
                }

                next = (string?)page["next"];
            }
            while (next is not null);
        }

        async Task AnsweredAsync(int more)
        {
            var until = Volatile.Read(ref answered) + more;
            await ServiceProcess.UntilAsync(() => Volatile.Read(ref answered) >= until || clients.Any(client => client.IsFaulted));
        }
    }

    [Theory]
    [InlineData("sqlite", null, "sessions.cache: redis needs a connection string; set the environment variable ConnectionStrings__redis")]
    [InlineData("sqlite", "127.0.0.1:1,password=hush,nonsense=1", "ConnectionStrings:redis: is not a Redis connection string")]
    [InlineData("memory", "127.0.0.1:1",
        "sessions.cache: 'redis' is not allowed with sessions.storage_type: memory; it is for storage_type: sqlite.")]
    public async Task A_cache_that_can_not_be_is_told_at_the_start(string storage, string? connection, string message)
    {
        await using var api = ServiceProcess.Api(
            ("SESSIONS__STORAGE_TYPE", storage), ("SESSIONS__DB_PATH", _folder["a.db"]), ("SESSIONS__CACHE", "redis"),
            ("ConnectionStrings__redis", connection ?? ""));

        Assert.Equal(1, await api.ExitAsync());
        Assert.Contains(message, Assert.Single(api.Lines, line => line.Length > 0), StringComparison.Ordinal);
    }

    private static IEnumerable<Func<Task>> Disturbances(RedisProcess redis)
    {
        yield return () => Signal("STOP");
        yield return () => Signal("CONT");
        yield return () => AdminAsync(database => database.ExecuteAsync("FLUSHALL"));

        // Entries of each session in the place of another's, and an earlier one in the place of a later one.
        Dictionary<string, byte[]> earlier = [];
        yield return () => AdminAsync(database => ServiceProcess.UntilAsync(async () =>
        {
            foreach (var key in await KeysAsync(redis))
            {
                earlier[key] = (byte[]?)await database.HashGetAsync(key, "data") ?? [];
            }

            return earlier.Count > 0;
        }));
        yield return () => AdminAsync(async database =>
        {
            foreach (var key in await KeysAsync(redis))
            {
                await database.HashSetAsync(key, "data", earlier.Values.First());
            }
        });
        yield return () => AdminAsync(async database =>
        {
            foreach (var key in await KeysAsync(redis))
            {
                await database.HashSetAsync(key, "data", RandomNumberGenerator.GetBytes(1000));
            }
        });
        yield return () =>
        {
            redis.Kill();
            return Task.CompletedTask;
        };
        yield return redis.RestartAsync;

        Task Signal(string signal)
        {
            redis.Signal(signal);
            return Task.CompletedTask;
        }

        async Task AdminAsync(Func<StackExchange.Redis.IDatabase, Task> act)
        {
            await using var admin = await redis.ConnectAsync();
            await act(admin.GetDatabase());
        }
    }

    private IReadOnlyList<(string, string)> Settings(RedisProcess redis) =>
        [("sessions:storage_type", "sqlite"), ("sessions:db_path", _folder["a.db"]), ("sessions:cache", "redis"),
            ("ConnectionStrings:redis", redis.Address)];

    private static async Task<List<string>> KeysAsync(RedisProcess redis)
    {
        await using var admin = await redis.ConnectAsync();
        return [.. admin.GetServers()[0].Keys(pattern: "sessions:tail:*").Select(key => key.ToString())];
    }

    // What a turn leaves in the cache.
    private static Task UsedAgainAsync(SessionsServer server, RedisProcess redis) => ServiceProcess.UntilAsync(async () =>
    {
        await server.QueryAsync("still there?", "a");
        return (await KeysAsync(redis)).Count > 0 && (string?)(await server.GetAsync("/health")).Json["status"] == "Healthy";
    });
}
