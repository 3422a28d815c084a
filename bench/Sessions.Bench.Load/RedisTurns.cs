using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging.Abstractions;
using StackExchange.Redis;

namespace Sessions.Bench.Load;

/// <summary>Turns on the Redis store alone, with nothing of the server around it: what the server could reach at the most.</summary>
internal sealed class RedisTurns
{
    private readonly RedisSessionStore _store;

    private RedisTurns(RedisSessionStore store) => _store = store;

    public static async Task<RedisTurns> ConnectAsync(string address)
    {
        var connection = await ConnectionMultiplexer.ConnectAsync(address);
        var meters = new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>();
        var commands = new RedisCommands(connection.GetDatabase(), meters, NullLogger<RedisCommands>.Instance);
        var policy = new StorePolicy { Lifetime = _ => TimeSpan.FromHours(24), MaxPerUser = _ => 10 };
        return new RedisTurns(new RedisSessionStore(
            commands, new RedisKeys(), policy, TimeProvider.System, NullLogger<RedisSessionStore>.Instance));
    }

    public Task AppendAsync(string sessionId, string userId, string query, string response) =>
        Sqlite.Bench.AppendAsync(_store, sessionId, userId, historyTurns: 20, query, response);

    /// <summary>So many appends at a time, each on sessions of its own, for a time.</summary>
    public async Task<Measurement> RunAsync(int clients, TimeSpan time)
    {
        var all = Measurement.NewHistogram();
        var started = Stopwatch.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, clients).Select(client => Task.Run(async () =>
        {
            var histogram = Measurement.NewHistogram();
            for (long sent; Stopwatch.GetElapsedTime(started) < time; histogram.RecordValue(Stopwatch.GetElapsedTime(sent).Ticks))
            {
                sent = Stopwatch.GetTimestamp();
                var session = $"alone-{client}-{histogram.TotalCount % 16}";
                await AppendAsync(session, session, Bench.Sqlite.Bench.Query, Limits.Response);
            }

            lock (all)
            {
                all.Add(histogram);
            }
        })));
        return Measurement.Of(all, Stopwatch.GetElapsedTime(started));
    }
}
