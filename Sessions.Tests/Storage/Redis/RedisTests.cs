using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Tests.Storage;

/// <summary>What only the Redis store promises: leases, indexes that heal, and keys that go by themselves.</summary>
public sealed class RedisTests(RedisFixture redis)
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_turn_that_has_lost_its_lease_is_never_committed_over_a_newer_one()
    {
        var (store, database) = await OpenAsync();
        await using var _ = store;
        await store.TurnAsync("a");
        var slow = await store.BeginAsync("a");

        // As when its process was stopped for longer than the lease.
        Assert.True(await database.KeyDeleteAsync("s:{a}:l"));
        var fast = await store.BeginAsync("a");
        Assert.Equal(CommitStatus.Stale, await store.Store.CommitTurnAsync(slow, store.NewTurn(slow, "slow"), null, Cancel));
        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(fast, "fast"));
        Assert.Equal(CommitStatus.Stale, await store.CommitAsync(slow, "slow"));

        Assert.Equal(["query", "fast"], (await store.HistoryAsync("a")).Select(turn => turn.Query));
        Assert.False(await database.KeyExistsAsync("s:{a}:l"));
    }

    [Fact]
    public async Task A_turn_whose_lease_ran_out_is_committed_if_nobody_was_faster()
    {
        var (store, database) = await OpenAsync();
        await using var _ = store;
        await store.TurnAsync("a");
        var slow = await store.BeginAsync("a");
        await database.KeyDeleteAsync("s:{a}:l");

        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(slow, "slow"));
    }

    [Fact]
    public async Task A_lease_is_held_for_a_while_and_let_go_of_at_once()
    {
        var (store, database) = await OpenAsync();
        await using var _ = store;
        foreach (var end in (Func<TurnStart, Task>[])[
            start => store.Store.CommitTurnAsync(start, store.NewTurn(start), null, Cancel).AsTask(),
            start => store.Store.FailTurnAsync(start, "error", Cancel).AsTask(),
            start => store.Store.AbandonTurnAsync(start, Cancel).AsTask()])
        {
            var start = await store.BeginAsync("a");
            Assert.Equal(TurnStartStatus.Busy, (await store.BeginAsync("a")).Status);
            Assert.InRange((await database.KeyTimeToLiveAsync("s:{a}:l"))!.Value, TimeSpan.FromSeconds(1), RedisSessionStore.Lease);
            await end(start);
            Assert.False(await database.KeyExistsAsync("s:{a}:l"));
        }
    }

    [Fact]
    public async Task Whoever_waits_is_next_before_those_who_come_later()
    {
        var (store, database) = await OpenAsync();
        await using var _ = store;
        var request = new TurnRequest { SessionId = "a", Owner = Owner.Anyone, HistoryTurns = 1, Wait = TimeSpan.FromSeconds(30) };
        var running = await store.BeginAsync("a");
        var waiting = store.Store.BeginTurnAsync(request, Cancel).AsTask();
        await UntilWaitingAsync(database);
        await store.CommitAsync(running);

        Assert.Equal(TurnStartStatus.Busy, (await store.BeginAsync("a")).Status);
        var next = await waiting;
        Assert.Equal(TurnStartStatus.Started, next.Status);
        Assert.Single(next.History);
        await store.Store.AbandonTurnAsync(next, Cancel);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_turn_whose_session_was_deleted_keeps_nobody_waiting(bool recreated)
    {
        var (store, database) = await OpenAsync();
        await using var _ = store;
        await store.TurnAsync("a");
        var lost = (RedisTurnStart)await store.BeginAsync("a");
        await store.Store.DeleteAsync("a", Owner.Anyone, Cancel);
        if (recreated)
        {
            await store.CreateAsync("a");
        }

        // As its renewal does.
        Assert.Equal(0, (int)await database.ScriptEvaluateAsync(RedisScripts.Renew.Text, RedisKeys.OfSession("a"), [Score(store), 1, 1, "", true, lost.Token, 1000, lost.Ground]));

        Assert.Equal(TurnStartStatus.Started, (await store.BeginAsync("a")).Status);
    }

    [Fact]
    public async Task Whoever_stops_waiting_leaves_nothing_behind()
    {
        var (store, database) = await OpenAsync();
        await using var _ = store;
        var running = await store.BeginAsync("a");
        using var gone = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var waiting = store.Store.BeginTurnAsync(
            new TurnRequest { SessionId = "a", Owner = Owner.Anyone, HistoryTurns = 1, Wait = TimeSpan.FromSeconds(30) }, gone.Token).AsTask();
        await UntilWaitingAsync(database);
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        await store.Store.AbandonTurnAsync(running, Cancel);

        Assert.Equal(TurnStartStatus.Started, (await store.BeginAsync("a")).Status);
    }

    [Fact]
    public async Task A_turn_moves_its_session_in_the_indexes_that_know_it_and_puts_it_into_those_that_do_not()
    {
        var (store, database) = await OpenAsync();
        await using var _ = store;
        await store.TurnAsync("a", "user");
        await store.TurnAsync("b", "user");
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("a", "user");
        Assert.Equal(["a", "b"], await store.ListIdsAsync("user"));
        Assert.Equal(Score(store), await database.SortedSetScoreAsync("u:{user}", "a"));
        Assert.Equal(Score(store), await database.SortedSetScoreAsync(RedisKeys.ShardOf("a"), "a"));

        // As if an index had been lost.
        await database.KeyDeleteAsync(["u:{user}", RedisKeys.ShardOf("a")]);
        await store.TurnAsync("a", "user");
        Assert.Equal(Score(store), await database.SortedSetScoreAsync("u:{user}", "a"));
        Assert.Equal(Score(store), await database.SortedSetScoreAsync(RedisKeys.ShardOf("a"), "a"));
    }

    [Fact]
    public async Task A_turn_on_a_session_that_has_gone_leaves_nothing_in_the_indexes()
    {
        var (store, database) = await OpenAsync(maxPerUser: 2);
        await using var _ = store;
        await store.TurnAsync("a", "user");
        await store.TurnAsync("b", "user");
        var start = await store.BeginAsync("a", "user");
        store.Time.Advance(TimeSpan.FromSeconds(1));

        // Deleted by a process that has not come to tell the indexes.
        await database.KeyDeleteAsync(["s:{a}", "s:{a}:t"]);
        Assert.Equal(CommitStatus.Gone, await store.CommitAsync(start));

        Assert.Null(await database.SortedSetScoreAsync("u:{user}", "a"));
        Assert.Null(await database.SortedSetScoreAsync(RedisKeys.ShardOf("a"), "a"));
        Assert.NotNull(await store.GetAsync("b"));
    }

    [Fact]
    public async Task Scripts_that_the_server_has_forgotten_are_loaded_again()
    {
        var (store, database) = await OpenAsync();
        await using var _ = store;
        await store.TurnAsync("a", "user");
        foreach (var endpoint in database.Multiplexer.GetEndPoints())
        {
            await database.Multiplexer.GetServer(endpoint).ScriptFlushAsync();
        }

        await store.TurnAsync("a", "user");

        Assert.Equal(2, (await store.HistoryAsync("a")).Count);
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_session_whose_maker_died_before_listing_it_is_listed_by_whoever_meets_it()
    {
        var (store, database) = await OpenAsync(maxPerUser: 2);
        await using var _ = store;
        foreach (var id in (string[])["a", "b", "c"])
        {
            await store.CreateAsync(id, id == "c" ? null : "user");
            store.Time.Advance(TimeSpan.FromSeconds(1));
        }

        // As the script that creates it leaves it.
        await database.HashSetAsync("s:{c}", [new("u", "user"), new("p", 1)]);
        await database.SortedSetRemoveAsync(RedisKeys.ShardOf("c"), "c");
        Assert.Equal(["b", "a"], await store.ListIdsAsync("user"));

        Assert.NotNull(await store.GetAsync("c"));

        Assert.Equal(["c", "b"], await store.ListIdsAsync("user"));
        Assert.Null(await store.GetAsync("a"));
        Assert.Equal(2, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
        Assert.False(await database.HashExistsAsync("s:{c}", "p"));
    }

    [Fact]
    public async Task A_session_that_was_to_be_evicted_when_the_process_died_is_evicted_by_the_next()
    {
        var (store, database) = await OpenAsync(maxPerUser: 2);
        await using var _ = store;
        await store.CreateAsync("old", "user");
        await store.CreateAsync("used", "user");
        var before = Score(store);
        store.Time.Advance(TimeSpan.FromSeconds(1));
        foreach (var id in (string[])["old", "used"])
        {
            await database.SortedSetRemoveAsync("u:{user}", id);
            await database.SortedSetAddAsync("u:{user}:x", id, before);
        }

        // One of the two was used after it was chosen: it stays.
        await database.HashSetAsync("s:{used}", "a", Score(store));

        await store.ListIdsAsync("user");
        Assert.Equal(["used"], await store.ListIdsAsync("user"));
        Assert.Null(await store.GetAsync("old"));
        Assert.False(await database.KeyExistsAsync("u:{user}:x"));
        Assert.Equal(1, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
    }

    [Fact]
    public async Task A_session_that_was_used_without_the_indexes_being_told_is_not_taken_for_expired()
    {
        var (store, database) = await OpenAsync(timeoutHours: 1);
        await using var _ = store;
        await store.CreateAsync("a", "user");
        store.Time.Advance(TimeSpan.FromMinutes(50));
        await database.HashSetAsync("s:{a}", "a", Score(store));
        store.Time.Advance(TimeSpan.FromMinutes(20));

        Assert.Equal(0, await store.Store.RemoveExpiredAsync(Cancel));

        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        Assert.Equal(1, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
    }

    [Fact]
    public async Task Every_key_goes_by_itself_and_no_index_names_what_is_gone()
    {
        var (store, database) = await OpenAsync(maxPerUser: 3, timeoutHours: 1);
        await using var _ = store;
        for (var i = 0; i < 30; i++)
        {
            var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
            var user = i % 5 == 0 ? null : $"u{{}}{i % 4}";
            await store.Store.ReserveSessionIdAsync(key, Owner.Anyone, $"s{i}", Cancel);
            await store.CommitAsync(await store.BeginAsync($"s{i}", user, idempotency: key, reservedBy: key.Key));
            await store.TurnAsync($"s{i}", user);
            await store.FailAsync($"f{i}", user);
            await store.Store.ForkAsync($"s{i}", Owner.Anyone, 1, TestStore.New($"c{i}", user), Cancel);
            await store.Store.AbandonTurnAsync(await store.BeginAsync($"n{i}", user), Cancel);
            if (i % 3 == 0)
            {
                await store.Store.DeleteAsync($"s{i}", Owner.Anyone, Cancel);
            }

            store.Time.Advance(TimeSpan.FromMinutes(4));
        }

        var running = await store.BeginAsync("running", "someone");
        await store.Store.RemoveExpiredAsync(Cancel);
        await CheckKeysAsync(store, database);
        await store.Store.AbandonTurnAsync(running, Cancel);

        await store.Store.EraseUserAsync("u{}1", Cancel);
        await CheckKeysAsync(store, database);

        // Everything has expired: what is left are reservations, for as long as they would keep a session's id.
        store.Time.Advance(TimeSpan.FromHours(1));
        await store.Store.RemoveExpiredAsync(Cancel);
        Assert.All(await KeysAsync(database), key => Assert.StartsWith("r:", key, StringComparison.Ordinal));
    }

    private static async Task UntilWaitingAsync(IDatabase database)
    {
        while (!await database.KeyExistsAsync("s:{a}:w"))
        {
            Cancel.ThrowIfCancellationRequested();
        }
    }

    private static async Task CheckKeysAsync(TestStore store, IDatabase database)
    {
        var keys = await KeysAsync(database);
        Assert.NotEmpty(keys);
        HashSet<string> indexed = [];
        foreach (var key in keys)
        {
            var left = await database.KeyTimeToLiveAsync(key);
            Assert.True(left is not null, $"{key} has no time to live.");
            Assert.InRange(left.Value, TimeSpan.Zero, TimeSpan.FromHours(5));
            if (key.StartsWith("u:", StringComparison.Ordinal) || key.StartsWith("a:", StringComparison.Ordinal))
            {
                foreach (var id in await database.SortedSetRangeByRankAsync(key))
                {
                    indexed.Add((string)id!);
                    Assert.True(await store.GetAsync((string)id!) is not null, $"{key} names {id}, which is gone.");
                }
            }
        }

        Assert.Equal(indexed.Order(), keys.Where(key => key.StartsWith("s:", StringComparison.Ordinal) && key.EndsWith('}')).Select(key => key[3..^1]).Order());
    }

    private static async Task<List<string>> KeysAsync(IDatabase database)
    {
        List<string> keys = [];
        await foreach (var key in database.Multiplexer.GetServer(database.Multiplexer.GetEndPoints()[0]).KeysAsync(database.Database))
        {
            keys.Add(key.ToString());
        }

        return keys;
    }

    private static long Score(TestStore store) => store.Time.GetUtcNow().ToMicroseconds();

    private async Task<(TestStore Store, IDatabase Database)> OpenAsync(int maxPerUser = 10, double timeoutHours = 24)
    {
        var connection = await ConnectionMultiplexer.ConnectAsync($"{await redis.NewDatabaseAsync()},allowAdmin=true");
        var settings = new SessionSettings { MaxSessionsPerUser = maxPerUser, TimeoutHours = timeoutHours };
        var time = new FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
        return (RedisFixture.NewStore(connection, "", settings, time, connection), connection.GetDatabase());
    }
}
