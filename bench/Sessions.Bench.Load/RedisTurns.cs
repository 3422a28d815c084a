using System.Collections.Concurrent;
using System.Diagnostics;
using Sessions.Api;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Bench.Load;

/// <summary>
/// The commands that a query costs our server on Redis (the scripts that begin and commit a turn, then those that tell both indexes), sent through the driver as it sends
/// them, and nothing else: no session is made of the answers, no agent is asked, no trouble is told apart.
/// </summary>
internal sealed class RedisTurns(IDatabase database)
{
    private static readonly SessionSettings Settings = new();
    private static readonly long Life = (long)(Settings.Timeout + (2 * Settings.CleanupInterval)).TotalMilliseconds;

    private readonly ConcurrentDictionary<string, State> _sessions = new();

    public static async Task<RedisTurns> ConnectAsync(string address)
    {
        var connection = await ConnectionMultiplexer.ConnectAsync(address);
        foreach (var script in (RedisScript[])[RedisScripts.Begin, RedisScripts.Commit, RedisScripts.IndexTouch])
        {
            await connection.GetServers()[0].ScriptLoadAsync(script.Text);
        }

        return new(connection.GetDatabase());
    }

    public async Task AppendAsync(string sessionId, string userId, string query, string response)
    {
        var state = _sessions.GetOrAdd(sessionId, static _ => new State());
        var keys = RedisKeys.OfSession(sessionId);
        var now = TimeProvider.System.GetUtcNow().ToMicroseconds();
        var token = Guid.NewGuid().ToString("N");
        RedisValue[] common = [now, Settings.Timeout.Ticks / TimeSpan.TicksPerMicrosecond, Life, userId, 1];
        var begun = await database.ScriptEvaluateAsync(
            RedisScripts.Begin.Hash, keys, [.. common, Requests.Turns, "", "", token, 10_000, 500, state.Incarnation ?? "", state.Version, state.Activity, state.Turns]);
        var turn = RedisCodec.Encode(Bench.Sqlite.Bench.NewTurn(state.Turns + 1, query, response));
        var commit = database.ScriptEvaluateAsync(
            RedisScripts.Commit.Hash, keys, [.. common, token, state.Incarnation ?? "", state.Turns, turn, token, "", "", "", "", ""]);
        if (state.Incarnation is not null)
        {
            await Task.WhenAll(MoveAsync(RedisKeys.ShardOf(sessionId), sessionId, now), MoveAsync(RedisKeys.OfUser(userId)[0], sessionId, now));
        }
        else
        {
            await Task.WhenAll(TouchAsync([RedisKeys.ShardOf(sessionId)], sessionId, now, 0), TouchAsync(RedisKeys.OfUser(userId), sessionId, now, Settings.MaxSessionsPerUser));
            await database.HashDeleteAsync(RedisKeys.Session(sessionId), "p");
            state.Incarnation = token;
        }

        var committed = await commit;
        if ((int)begun[0] != 0 || (int)committed[0] != 0)
        {
            throw new InvalidOperationException($"The scripts have changed: begin answers {begun[0]}, commit {committed[0]}.");
        }

        state.Turns++;
        (state.Activity, state.Version) = ((long)committed[5], (long)committed[6]);
    }

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

    private Task<bool> MoveAsync(RedisKey index, string sessionId, long now) =>
        database.SortedSetUpdateAsync(index, sessionId, now, SortedSetWhen.Exists | SortedSetWhen.GreaterThan);

    private Task<RedisResult> TouchAsync(RedisKey[] index, string sessionId, long now, int most) =>
        database.ScriptEvaluateAsync(RedisScripts.IndexTouch.Hash, index, [now, sessionId, 2 * Life, $"({now - (2000 * Life)}", most]);

    private sealed class State
    {
        public string? Incarnation { get; set; }

        public int Turns { get; set; }

        public long Version { get; set; }

        public long Activity { get; set; }
    }
}
