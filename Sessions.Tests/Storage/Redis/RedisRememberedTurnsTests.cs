using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Tests.Storage;

/// <summary>A process remembers the last turns it has committed, and what a turn starts on is what Redis has all the same.</summary>
public sealed class RedisRememberedTurnsTests(RedisFixture redis)
{
    private static readonly string[] FieldsOfState = ["n", "v", "a"];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_was_committed_here_is_not_sent_again()
    {
        await using var all = await OpenAsync();
        await TurnsAsync(all.One, 3);
        await all.One.CommitAsync(await all.One.BeginAsync("a", "ada"), "q4", summary: new Summary("sum", 3));
        var read = await all.One.GetAsync("a");
        await all.Database.ListSetByIndexAsync("s:{a}:t", 0, """{"q":"sent","r":"","a":"","u":"","t":1,"x":1}""");

        var start = await BeginsAsync(all.One, ["q1", "q2", "q3", "q4"]);
        Assert.Equal("ada", read!.UserId);
        Assert.Equal(read, start.Session! with { Metadata = read.Metadata });
        await BeginsAsync(all.One, ["q4"], history: 1);
        await BeginsAsync(all.One, [], history: 0);
        await BeginsAsync(all.Two, ["sent", "q2", "q3", "q4"]);
    }

    [Fact]
    public async Task Processes_that_continue_a_session_in_turn_see_each_others_turns()
    {
        await using var all = await OpenAsync();
        List<string> queries = [];
        for (var i = 1; i <= 30; i++)
        {
            // Now and then one of them several times in a row.
            var store = i % 2 == 0 || i % 7 < 2 ? all.One : all.Two;
            var start = await BeginsAsync(store, queries.TakeLast(20));
            Assert.Equal(i == 1 ? null : await all.One.GetAsync("a"), i == 1 ? null : start.Session! with { Metadata = (await all.One.GetAsync("a"))!.Metadata });
            await store.CommitAsync(start, $"q{i}");
            queries.Add($"q{i}");
        }

        Assert.Equal(queries, (await all.One.HistoryAsync("a")).Select(turn => turn.Query.ToString()));
    }

    [Fact]
    public async Task Changes_without_a_turn_are_seen()
    {
        await using var all = await OpenAsync();
        await TurnsAsync(all.One, 2);
        var version = (await all.Two.GetAsync("a"))!.Version;
        await all.Two.Store.ReplaceMetadataAsync("a", Owner.Anyone, version, """{"k":1}"""u8.ToArray(), Cancel);
        Assert.Equal("""{"k":1}"""u8.ToArray(), (await BeginsAsync(all.One, ["q1", "q2"])).Session!.Metadata.ToArray());

        await all.Two.FailAsync("a", error: "why");
        Assert.Equal("why", (await BeginsAsync(all.One, ["q1", "q2"])).Session!.LastError);
    }

    [Fact]
    public async Task A_change_while_a_turn_runs_is_not_forgotten_by_the_next()
    {
        await using var all = await OpenAsync();
        await TurnsAsync(all.One, 2);
        var start = await all.One.BeginAsync("a");
        await all.Two.Store.ReplaceMetadataAsync("a", Owner.Anyone, start.Session!.Version, """{"k":1}"""u8.ToArray(), Cancel);
        Assert.Equal(CommitStatus.Committed, await all.One.CommitAsync(start, "q3"));

        Assert.Equal("""{"k":1}"""u8.ToArray(), (await BeginsAsync(all.One, ["q1", "q2", "q3"])).Session!.Metadata.ToArray());
    }

    [Fact]
    public async Task A_session_that_was_deleted_or_made_anew_is_another_one()
    {
        await using var all = await OpenAsync();
        await TurnsAsync(all.One, 3);
        await all.Two.Store.DeleteAsync("a", Owner.Anyone, Cancel);
        Assert.Null((await BeginsAsync(all.One, [])).Session);

        await TurnsAsync(all.Two, 3, "other");
        await BeginsAsync(all.One, ["other1", "other2", "other3"]);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(30)]
    public async Task Turns_that_a_failover_has_lost_are_forgotten(int since)
    {
        await using var all = await OpenAsync();
        await TurnsAsync(all.One, 5);
        var lost = await all.Database.HashGetAsync("s:{a}", [.. FieldsOfState.Select(field => (RedisValue)field)]);
        await TurnsAsync(all.One, 2, "lost");

        // As on a replica that had not got them yet.
        await all.Database.ListRightPopAsync("s:{a}:t", 2);
        await all.Database.HashSetAsync("s:{a}", [.. FieldsOfState.Zip(lost, (name, value) => new HashEntry(name, value))]);
        List<string> queries = ["q1", "q2", "q3", "q4", "q5"];
        await BeginsAsync(all.One, queries);
        for (var i = 1; i <= since; i++)
        {
            all.One.Time.Advance(TimeSpan.FromMilliseconds(1));
            await all.Two.TurnAsync("a", query: $"new{i}");
            queries.Add($"new{i}");
        }

        var start = await BeginsAsync(all.One, queries.TakeLast(20));
        Assert.Equal(CommitStatus.Committed, await all.One.CommitAsync(start));
    }

    [Fact]
    public async Task Less_than_is_asked_for_is_not_enough()
    {
        await using var all = await OpenAsync();
        await TurnsAsync(all.Two, 5);
        await all.One.CommitAsync(await BeginsAsync(all.One, ["q4", "q5"], history: 2), "q6");

        await BeginsAsync(all.One, ["q1", "q2", "q3", "q4", "q5", "q6"]);
    }

    [Fact]
    public async Task Keys_are_kept_for_longer_before_they_run_out_and_not_at_every_turn()
    {
        await using var all = await OpenAsync();
        string[] keys = ["s:{a}", "s:{a}:t", "u:{ada}", RedisKeys.ShardOf("a")!];
        for (var i = 1; i <= 2; i++)
        {
            await all.One.TurnAsync("a", "ada");
        }

        var whole = (await all.Database.KeyTimeToLiveAsync("s:{a}"))!.Value;
        var timeout = all.One.Settings.Timeout;
        foreach (var key in keys)
        {
            await all.Database.KeyExpireAsync(key, whole - (timeout / 10));
        }

        await all.One.TurnAsync("a", "ada");
        Assert.InRange((await all.Database.KeyTimeToLiveAsync("s:{a}"))!.Value, timeout, whole - (timeout / 10));
        foreach (var key in keys)
        {
            await all.Database.KeyExpireAsync(key, whole - (timeout / 3));
        }

        await all.One.TurnAsync("a", "ada");
        foreach (var key in keys)
        {
            Assert.InRange((await all.Database.KeyTimeToLiveAsync(key))!.Value, whole - TimeSpan.FromMinutes(1), 3 * whole);
        }
    }

    private static async Task TurnsAsync(TestStore store, int count, string query = "q")
    {
        for (var i = 1; i <= count; i++)
        {
            await store.TurnAsync("a", query: $"{query}{i}");
        }
    }

    // Begins a turn, expects these queries before it, and lets go of it.
    private static async Task<TurnStart> BeginsAsync(TestStore store, IEnumerable<string> queries, int history = 20)
    {
        var start = await store.BeginAsync("a", history: history);
        await store.Store.AbandonTurnAsync(start, Cancel);
        Assert.Equal(TurnStartStatus.Started, start.Status);
        Assert.Equal(queries, start.History.Select(turn => turn.Query.ToString()));
        Assert.Equal(Enumerable.Range((start.Session?.TurnCount ?? 0) - start.History.Count + 1, start.History.Count), start.History.Select(turn => turn.Number));
        if (start.History is [.., var last])
        {
            Assert.Equal(last, start.Session!.LastTurn);
        }

        return start;
    }

    private async Task<Pair> OpenAsync()
    {
        var connection = await ConnectionMultiplexer.ConnectAsync(await redis.NewDatabaseAsync());
        var (settings, time) = (new SessionSettings(), new FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero)));
        return new Pair(RedisFixture.NewStore(connection, "", settings, time), RedisFixture.NewStore(connection, "", settings, time), connection);
    }

    // Two processes on one Redis.
    private sealed record Pair(TestStore One, TestStore Two, ConnectionMultiplexer Connection) : IAsyncDisposable
    {
        public IDatabase Database => Connection.GetDatabase();

        public ValueTask DisposeAsync() => Connection.DisposeAsync();
    }
}
