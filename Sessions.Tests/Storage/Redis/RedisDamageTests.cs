using StackExchange.Redis;

namespace Sessions.Tests.Storage.Redis;

/// <summary>Keys that nobody wrote like that, as a replica meets them that has not seen their sessions before.</summary>
public sealed class RedisDamageTests(RedisFixture redis)
{
    private static readonly RedisKeys Keys = new();

    // What is done to a session of four turns: then it can't be read.
    private static readonly (string Name, Action<IDatabase, string> Damage)[] Sessions =
    [
        .. new (string Field, RedisValue Value)[]
        {
            ("n", -1), ("n", 3), ("n", 9), ("n", "four"), ("n", 2147483647), ("x", long.MaxValue), ("x", "nan"), ("x", "0x7fffffffffff"),
            ("a", long.MaxValue), ("c", long.MaxValue), ("b", -1), ("b", long.MaxValue), ("v", -1), ("w", -1), ("e", -1), ("k", 77),
        }.Select(part => ($"{part.Field} is {part.Value}",
            (Action<IDatabase, string>)((database, id) => database.HashSet(Keys.Session(id), part.Field, part.Value)))),
        ("no turns", (database, id) => database.KeyDelete(Keys.Turns(id))),
        ("fewer turns", (database, id) => database.ListRightPop(Keys.Turns(id))),
        ("more turns", (database, id) => database.ListRightPush(Keys.Turns(id), database.ListGetByIndex(Keys.Turns(id), 0))),
    ];

    // Then it can be read, and no turn can begin on it.
    private static readonly (string Name, Action<IDatabase, string> Damage)[] Beside =
    [
        ("waiter", (database, id) => database.StringSet(Keys.Waiter(id), "foo")),
        ("waiter for ever", (database, id) => database.StringSet(Keys.Waiter(id), RedisKeys.Text(Guid.NewGuid()))),
        ("waiters", (database, id) => database.ListRightPush(Keys.Waiter(id), "foo")),
        ("lease", (database, id) => database.StringSet(Keys.Lease(id), "foo")),
        ("lease for ever", (database, id) => database.SortedSetAdd(Keys.Lease(id), RedisKeys.Text(Guid.NewGuid()), 9e17)),
        ("lease of nobody", (database, id) => database.SortedSetAdd(Keys.Lease(id), "foo", double.PositiveInfinity)),
        ("signals", (database, id) => database.StringSet(Keys.Signals(id), "foo")),
    ];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Numbers_that_can_not_be_and_turns_that_are_missing_are_told_and_go_with_their_sessions()
    {
        var (address, database) = await NewAsync();
        var ids = await DamagedSessions.FillAsync(() => Start(address), Sessions.Length);
        for (var i = 0; i < ids.Length; i++)
        {
            Sessions[i].Damage(database, ids[i]);
        }

        await using var server = Start(address);
        for (var i = 0; i < ids.Length; i++)
        {
            var id = ids[i];
            foreach (var answer in (Answer[])
                [
                    await server.GetAsync($"/sessions/{id}"),
                    await server.GetAsync($"/sessions/{id}/history"),
                    await server.TryQueryAsync("five", id, "ada"),
                    await DamagedSessions.PostTurnAsync(server, id),
                    await server.SendAsync(HttpMethod.Patch, $"/sessions/{id}", """{"metadata":{"b":2}}"""),
                    await server.PostAsync($"/sessions/{id}/fork", new { }),
                ])
            {
                Assert.True(answer.Status == 503, $"{Sessions[i].Name}: {answer.Status} {answer.Text}");
                answer.IsProblem(503, "storage_damaged");
            }
        }

        (await server.PostAsync($"/sessions/{ids[^3]}/cancel", new { })).IsProblem(503, "storage_damaged");
        await DamagedSessions.StoreIsAsync(server, "Degraded");
        var list = (await server.GetAsync("/users/ada/sessions?limit=100")).Json["sessions"]!.AsArray();
        Assert.Equal(["good"], list.Select(session => (string?)session!["session_id"]));
        var export = await server.GetAsync("/users/ada/export");
        Assert.Contains("\"good\"", export.Text, StringComparison.Ordinal);
        Assert.DoesNotContain("\"bad", export.Text, StringComparison.Ordinal);
        await server.Get<ISessionStore>().SweepAsync(Cancel);

        foreach (var id in ids)
        {
            Assert.Equal(200, (await server.DeleteAsync($"/sessions/{id}")).Status);
            (await server.GetAsync($"/sessions/{id}")).IsProblem(404, "session_not_found");
        }

        await DamagedSessions.StoreIsAsync(server, "Healthy");

        // No index names what is gone, as far as its key could be read.
        Assert.Equal(1, database.SortedSetLength(Keys.OwnerIndex("ada", SessionKind.Session)));
    }

    [Theory]
    [InlineData("m", "{", false)]
    [InlineData("m", "{", true)]
    [InlineData("n", "-1", false)]
    [InlineData("n", "-1", true)]
    [InlineData("e", "-1", false)]
    public async Task What_can_not_be_read_makes_no_room(string field, string value, bool isKnown)
    {
        var (address, database) = await NewAsync();
        await DamagedSessions.MakesNoRoomAsync(
            limit => Start(address, limit), id => database.HashSet(Keys.Session(id), field, value), isKnown);
    }

    [Fact]
    public async Task A_chain_that_can_not_be_read_makes_no_room()
    {
        var (address, database) = await NewAsync();
        await DamagedSessions.ChainMakesNoRoomAsync(limit => Start(address, limit), async () =>
        {
            await foreach (var key in database.Multiplexer.GetServers()[0].KeysAsync(database.Database))
            {
                if (await database.KeyTypeAsync(key) == RedisType.Hash && await database.HashExistsAsync(key, "n"))
                {
                    await database.HashSetAsync(key, "m", "{");
                }
            }
        });
    }

    [Fact]
    public async Task Leases_that_nobody_has_are_told_and_nobody_waits_for_them()
    {
        var (address, database) = await NewAsync();
        var ids = await DamagedSessions.FillAsync(() => Start(address), Beside.Length);
        for (var i = 0; i < ids.Length; i++)
        {
            Beside[i].Damage(database, ids[i]);
        }

        await using var server = Start(address);
        for (var i = 0; i < ids.Length; i++)
        {
            Assert.Equal(200, (await server.GetAsync($"/sessions/{ids[i]}")).Status);
            var answer = await server.PostAsync("/query", new { query = "five", thread_id = ids[i], user_id = "ada", on_busy = "reject" });
            Assert.True(answer.Status == 503, $"{Beside[i].Name}: {answer.Status} {answer.Text}");
            answer.IsProblem(503, "storage_damaged");
            (await server.TryQueryAsync("five", ids[i], "ada")).IsProblem(503, "storage_damaged");
        }

        await DamagedSessions.StoreIsAsync(server, "Degraded");
        foreach (var id in ids)
        {
            Assert.Equal(200, (await server.DeleteAsync($"/sessions/{id}")).Status);
            await server.QueryAsync("one", id, "ada");
        }

        await DamagedSessions.StoreIsAsync(server, "Healthy");
    }

    [Fact]
    public async Task An_erasure_a_list_and_an_export_of_a_user_whose_index_can_not_be_read_say_so()
    {
        foreach (var index in (RedisKey[])
            [
                Keys.OwnerIndex("ada", SessionKind.Session), Keys.OwnerIndex("ada", SessionKind.Conversation),
                Keys.OwnerIndex("ada", SessionKind.Chain), Keys.OwnerEntries("ada"), Keys.OwnerDoomed("ada", SessionKind.Session),
            ])
        {
            var (address, database) = await NewAsync();
            await using var server = Start(address);
            await server.QueryAsync("one", "a", "ada");
            var before = database.KeyDump(index);
            database.StringSet(index, "foo");

            var erasure = await server.DeleteAsync("/users/ada/sessions");
            erasure.IsProblem(503, "storage_damaged");
            Assert.Contains("nothing was removed", erasure.Text, StringComparison.Ordinal);
            await DamagedSessions.StoreIsAsync(server, "Degraded");
            Assert.Equal(200, (await server.GetAsync("/sessions/a")).Status);
            if (index == Keys.OwnerIndex("ada", SessionKind.Session))
            {
                (await server.GetAsync("/users/ada/sessions")).IsProblem(503, "storage_damaged");
                (await server.GetAsync("/users/ada/export")).IsProblem(503, "storage_damaged");
                Assert.Equal(200, (await server.GetAsync("/sessions")).Status);
            }

            // Put right, it is as it was.
            database.KeyDelete(index);
            if (before is not null)
            {
                database.KeyRestore(index, before);
            }

            Assert.Equal(1, (int)(await server.DeleteAsync("/users/ada/sessions")).Json["sessions_removed"]!);
            (await server.GetAsync("/sessions/a")).IsProblem(404, "session_not_found");
        }
    }

    [Fact]
    public async Task An_erasure_ends_whatever_stands_in_the_index_and_in_the_sums()
    {
        var (address, database) = await NewAsync();
        await using var server = Start(address);
        await server.QueryAsync("one", "a", "ada");
        foreach (var kind in (SessionKind[])[SessionKind.Session, SessionKind.Chain])
        {
            database.StringSet(Keys.OwnerBytes("ada", kind), "foo");
        }

        database.SortedSetAdd(Keys.OwnerIndex("ada", SessionKind.Session), [new(new byte[] { 0xFF, 0xFE }, 1), new("foo", 2)]);
        database.SortedSetAdd(Keys.OwnerEntries("ada"), [new(new byte[] { 0xFF, 0xFD }, 1)]);

        Assert.Equal(200, (await server.GetAsync("/users/ada/sessions")).Status);
        Assert.Equal(1, (int)(await server.DeleteAsync("/users/ada/sessions")).Json["sessions_removed"]!);
        Assert.False(database.KeyExists(Keys.OwnerIndex("ada", SessionKind.Session)));
        await server.QueryAsync("one", "a", "ada");
    }

    [Fact]
    public async Task Runs_that_lead_nowhere_are_told_and_end()
    {
        var (address, database) = await NewAsync();
        await DamagedSessions.FillAsync(() => Start(address), 2);
        database.SortedSetAdd(Keys.Branches("bad0"), "2:3", 2);
        database.SortedSetAdd(Keys.Branches("bad1"), "3:1", 3);
        await using var server = Start(address);
        foreach (var id in (string[])["bad0", "bad1"])
        {
            (await server.TryQueryAsync("five", id, "ada")).IsProblem(503, "storage_damaged");
        }

        (await server.GetAsync("/sessions/bad0/history?order=asc")).IsProblem(503, "storage_damaged");
        (await server.GetAsync("/sessions/bad0/history?order=desc")).IsProblem(503, "storage_damaged");
        await DamagedSessions.StoreIsAsync(server, "Degraded");
    }

    private async Task<(string Address, IDatabase Database)> NewAsync()
    {
        var address = await redis.NewDatabaseAsync();
        return (address, (await ConnectionMultiplexer.ConnectAsync($"{address},allowAdmin=true")).GetDatabase());
    }

    private static SessionsServer Start(string address) => Start(address, ("sessions:max_sessions_per_user", "0"));

    private static SessionsServer Start(string address, (string Key, string Value) limit) =>
        SessionsServer.Start([("sessions:storage_type", "redis"), ("ConnectionStrings:redis", address), limit]);
}
