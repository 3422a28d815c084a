using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;

namespace Sessions.Tests.Storage.Redis;

/// <summary>
/// Whatever breaks off between two steps: what is there is seen by lists, limits, exports and erasures, and what is gone stays gone.
/// </summary>
public sealed class RedisBreakTests(RedisFixture redis)
{
    private static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("turn")]
    [InlineData("claim")]
    [InlineData("failure")]
    [InlineData("create")]
    [InlineData("fork")]
    [InlineData("import")]
    [InlineData("evict")]
    public async Task A_process_that_ends_between_any_two_steps_leaves_nothing_that_others_do_not_see(string operation)
    {
        var last = 1;
        while (await BreaksOffAsync(operation, last))
        {
            Assert.True(++last < 30);
        }

        Assert.True(last > 3, "There are more steps than that.");
    }

    [Theory]
    [InlineData("turn")]
    [InlineData("claim")]
    [InlineData("failure")]
    [InlineData("create")]
    [InlineData("fork")]
    [InlineData("import")]
    public async Task A_session_whose_answer_was_lost_is_seen_by_lists_and_erasures(string operation)
    {
        var address = await redis.NewDatabaseAsync();
        var time = new FakeTimeProvider(Start);
        await using var survivor = await OpenAtAsync(address, time, maxPerUser: 0);
        await survivor.CreateAsync("other", "bob");
        await PrepareAsync(survivor, operation);
        await using var admin = await ConnectionMultiplexer.ConnectAsync($"{address},allowAdmin=true");
        await using var connection = await ConnectionMultiplexer.ConnectAsync($"{address},name=deaf");
        var released = new TaskCompletionSource();
        using var store = RedisFixture.NewStore(connection, "", survivor.Policy, time, step =>
        {
            if (step == "ready")
            {
                Deafen();
            }
            else if (step == "released")
            {
                released.TrySetResult();
            }
        });

        // What it sends from then on is carried out, and never answered.
        void Deafen() => connection.GetDatabase().Execute("CLIENT", ["REPLY", "OFF"], CommandFlags.FireAndForget);

        var running = RunAsync(store, operation, survivor, beforeWrite: Deafen);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        limit.CancelAfter(TimeSpan.FromMinutes(1));
        while (!(operation == "claim" ? (await survivor.GetAsync("source"))!.UserId == "ada" : await survivor.GetAsync("new") is not null))
        {
            Assert.False(running.IsCompleted);
            await Task.Delay(1, limit.Token);
        }

        foreach (var client in (await admin.GetServers()[0].ClientListAsync()).Where(client => client.Name == "deaf"))
        {
            await admin.GetServers()[0].ClientKillAsync(client.Id, skipMe: true);
        }

        await Assert.ThrowsAsync<StoreUnavailableException>(() => running);
        await released.Task.WaitAsync(limit.Token);

        string[] all = ["new", "source"];
        await WhatIsThereIsSeenAsync(survivor, all, maxPerUser: 10);
        await survivor.Store.EraseAsync("ada", Cancel);
        await NothingIsLeftAsync(survivor, "ada", all);
        Assert.Equal(["other"], await survivor.ListIdsAsync("bob"));
    }

    [Fact]
    public async Task Twenty_forks_during_an_erasure_bring_nothing_back()
    {
        for (var round = 0; round < 5; round++)
        {
            await using var store = await OpenAsync(maxPerUser: 0);
            for (var i = 0; i < 30; i++)
            {
                await store.TurnAsync("source", "ada", new string('x', 1000));
            }

            using var started = new SemaphoreSlim(0);
            var forks = Enumerable.Range(0, 20).Select(i => Task.Run(async () =>
            {
                started.Release();
                return await store.ForkAsync("source", $"fork{i}");
            }, Cancel)).ToList();
            await started.WaitAsync(Cancel);
            await store.Store.EraseAsync("ada", Cancel);
            await Task.WhenAll(forks);

            // Those that came to be did so before; and were erased.
            await NothingIsLeftAsync(store, "ada", ["source", .. Enumerable.Range(0, 20).Select(i => $"fork{i}")]);
        }
    }

    [Fact]
    public async Task Turns_go_on_once_and_in_order_while_connections_are_killed()
    {
        var address = await redis.NewDatabaseAsync();
        await using var admin = await ConnectionMultiplexer.ConnectAsync($"{address},allowAdmin=true");
        await using var first = await OpenAtAsync(address);
        await using var second = await OpenAtAsync(address);
        var answered = new System.Collections.Concurrent.ConcurrentDictionary<(string Session, int Turn), string>();
        using var enough = new CancellationTokenSource();
        var clients = Enumerable.Range(0, 8).Select(client => Task.Run(async () =>
        {
            for (var i = 0; !enough.IsCancellationRequested; i++)
            {
                var store = (client + i) % 2 == 0 ? first : second;
                await AskAsync(store, $"s{(client + i) % 3}", $"{client}-{i}", answered);
            }
        }, Cancel)).ToArray();
        for (var kills = 1; kills <= 12; kills++)
        {
            var goal = answered.Count + 15;
            while (answered.Count < goal)
            {
                Cancel.ThrowIfCancellationRequested();
                Assert.DoesNotContain(clients, client => client.IsFaulted);
                await Task.Yield();
            }

            foreach (var client in await admin.GetServers()[0].ClientListAsync())
            {
                if (client.Name == "victim")
                {
                    await admin.GetServers()[0].ClientKillAsync(client.Id, skipMe: true);
                }
            }
        }

        await enough.CancelAsync();
        await Task.WhenAll(clients);

        await using var survivor = await OpenAtAsync(address);
        for (var i = 0; i < 3; i++)
        {
            var turns = await survivor.TurnsAsync($"s{i}");
            Assert.Equal(Enumerable.Range(1, turns.Count), turns.Select(turn => turn.Number));
            Assert.Equal(turns.Count, turns.Select(turn => turn.Input.ToString()).Distinct().Count());
            Assert.All(answered.Where(turn => turn.Key.Session == $"s{i}"),
                turn => Assert.Equal(turn.Value, turns[turn.Key.Turn - 1].Input.ToString()));
        }

        Assert.Equal(["s0", "s1", "s2"], (await survivor.ListIdsAsync("user")).Order());
        Assert.Equal(3, await survivor.CountAsync());
    }

    [Fact]
    public async Task A_command_that_the_driver_has_lost_is_not_waited_for_for_ever()
    {
        await using var connection = await ConnectionMultiplexer.ConnectAsync(await redis.NewDatabaseAsync());
        var commands = RedisFixture.NewCommands(connection);
        commands.LostAfter = TimeSpan.FromMilliseconds(1);

        var lost = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => commands.RunAsync("key", (_, _) => new TaskCompletionSource<bool>().Task));

        Assert.True(RedisFailure.MayHaveBeenCarriedOut(lost));
    }

    // What has become of a query nobody knows where it was not answered: its key will tell.
    private static async Task AskAsync(
        TestStore store, string session, string query, System.Collections.Concurrent.ConcurrentDictionary<(string, int), string> answered)
    {
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        while (true)
        {
            Cancel.ThrowIfCancellationRequested();
            try
            {
                var opened = await store.BeginAsync(session, "user", history: 1, idempotency: key);
                if (opened.Status == OpenStatus.Replayed)
                {
                    Assert.True(answered.TryAdd((session, opened.Replay!.Number), query));
                    return;
                }

                if (opened.Status != OpenStatus.Opened)
                {
                    await Task.Yield();
                    continue;
                }

                WriteResult result;
                try
                {
                    result = await store.AppendAsync(opened, query);
                }
                finally
                {
                    await store.Store.ReleaseAsync(opened);
                }

                if (result.Status == WriteStatus.Written)
                {
                    Assert.True(answered.TryAdd((session, result.Turn!.Number), query), "A turn was answered twice.");
                    return;
                }
            }
            catch (StoreUnavailableException)
            {
                await Task.Yield();
            }
        }
    }

    // Lets a process end in the middle of an operation, after so many steps. False: there are no more.
    private async Task<bool> BreaksOffAsync(string operation, int lastStep)
    {
        var address = await redis.NewDatabaseAsync();
        var time = new FakeTimeProvider(Start);
        await using var survivor = await OpenAtAsync(address, time, maxPerUser: 3);
        await survivor.CreateAsync("other", "bob");
        time.Advance(TimeSpan.FromSeconds(1));
        await PrepareAsync(survivor, operation);
        if (operation == "evict")
        {
            foreach (var id in (string[])["old0", "old1", "old2"])
            {
                await survivor.TurnAsync(id, "ada", "secret");
                time.Advance(TimeSpan.FromSeconds(1));
            }
        }

        var isBroken = false;
        await using (var connection = await ConnectionMultiplexer.ConnectAsync(address))
        {
            var step = 0;
            using var store = RedisFixture.NewStore(connection, "", survivor.Policy, time, _ =>
            {
                if (Interlocked.Increment(ref step) == lastStep)
                {
                    // From now on nothing gets through any more, as when the process has ended.
                    isBroken = true;
                    connection.Close(allowCommandsToComplete: false);
                }
            });
            try
            {
                await RunAsync(store, operation, survivor);
            }
            catch (StoreUnavailableException)
            {
                Assert.True(isBroken);
            }
        }

        string[] all = ["new", "source", "old0", "old1", "old2"];
        await WhatIsThereIsSeenAsync(survivor, all);
        await survivor.Store.EraseAsync("ada", Cancel);
        await NothingIsLeftAsync(survivor, "ada",
            operation == "claim" && await survivor.GetAsync("source") is { UserId: null } ? ["new"] : all);
        Assert.Equal(["other"], await survivor.ListIdsAsync("bob"));
        return isBroken;
    }

    private static async Task PrepareAsync(TestStore store, string operation)
    {
        if (operation is "fork" or "claim")
        {
            await store.TurnAsync("source", operation == "claim" ? null : "ada", "secret");
            await store.TurnAsync("source", query: "secret");
        }
    }

    private static async Task RunAsync(RedisSessionStore store, string operation, TestStore ways, Action? beforeWrite = null)
    {
        var lease = TestStore.NewLease();
        switch (operation)
        {
            case "turn" or "failure" or "evict":
                var opened = await store.OpenAsync(
                    new OpenRequest { Session = SessionRef.ById("new"), Owner = Owner.Claiming("ada"), Lease = lease }, Cancel);
                SessionChange change = operation == "failure"
                    ? new RecordFailure("why", TestStore.New("new", "ada"))
                    : new AppendTurn(ways.NewTurn(opened, "secret"), 0) { Create = TestStore.New("new", "ada") };
                await WriteAsync(opened, change);
                break;
            case "claim":
                var claiming = await store.OpenAsync(new OpenRequest
                {
                    Session = SessionRef.ById("source"),
                    Owner = Owner.Claiming("ada"),
                    Lease = lease,
                    HistoryTurns = 1,
                }, Cancel);
                await WriteAsync(claiming, new AppendTurn(ways.NewTurn(claiming, "secret"), 1));
                break;
            case "create":
                await store.CopyAsync(new CopyRequest { Session = TestStore.New("new", "ada") }, Cancel);
                break;
            case "fork":
                await store.CopyAsync(new CopyRequest { Session = TestStore.New("new"), Source = SessionRef.ById("source") }, Cancel);
                break;
            default:
                var head = (await ways.CreateAsync("imported", "ada")) with { TurnCount = 1 };
                await ways.DeleteAsync("imported");
                var turn = ways.NewTurn(await ways.ReadAsync("none"), "secret") with { RunStart = 1 };
                await store.CopyAsync(new CopyRequest
                {
                    Session = TestStore.New("new", "ada") with { Key = head.Key },
                    Head = head with { Id = "new" },
                    Turns = new[] { new ArchivedTurn(turn, null) }.ToAsyncEnumerable(),
                }, Cancel);
                break;
        }

        async Task WriteAsync(OpenedSession opened, SessionChange change)
        {
            beforeWrite?.Invoke();
            try
            {
                await store.WriteAsync(opened, change, Cancel);
            }
            finally
            {
                await store.ReleaseAsync(opened);
            }
        }
    }

    private static async Task WhatIsThereIsSeenAsync(TestStore store, string[] ids, int maxPerUser = 3)
    {
        List<string> there = [], theirs = [];
        foreach (var id in ids)
        {
            if (await store.GetAsync(id) is { } session)
            {
                there.Add(id);
                if (session.UserId == "ada")
                {
                    theirs.Add(id);
                }

                Assert.NotNull(await store.GetAsync(SessionRef.ByKey(session.Key), Owner.Anyone));
            }
        }

        Assert.InRange(theirs.Count, 0, maxPerUser + 1);

        // Whoever looks first finishes what was begun.
        await store.ListIdsAsync(null);
        Assert.Equal(await store.CountAsync(), (await store.ListIdsAsync(null)).Count);
        var listed = await store.ListIdsAsync("ada");
        Assert.InRange(listed.Count, 0, maxPerUser);

        // One that had to make room is gone as soon as somebody looks.
        var evicted = 0;
        foreach (var id in theirs.Except(listed))
        {
            Assert.Null(await store.GetAsync(id));
            evicted++;
        }

        Assert.Equal(theirs.Count - evicted, listed.Count);
        Assert.Equal(listed.Order(), Ids(await store.ExportAsync("ada")).Order());
        Assert.Equal(there.Count - evicted + 1, (await store.ListIdsAsync(null)).Count);
        Assert.Equal(there.Count - evicted + 1, await store.CountAsync());
        Assert.Equal(there.Count - evicted + 1, Ids(await store.ExportAsync()).Count());
    }

    private static async Task NothingIsLeftAsync(TestStore store, string user, IEnumerable<string> ids)
    {
        foreach (var id in ids)
        {
            Assert.Null(await store.GetAsync(id));
        }

        Assert.Empty(await store.ListIdsAsync(user));
        Assert.Empty(await store.ExportAsync(user));
        Assert.Equal(await store.CountAsync(), (await store.ListIdsAsync(null)).Count);
        Assert.DoesNotContain((await store.ListIdsAsync(null)), ids.Contains);
    }

    private static IEnumerable<string> Ids(IEnumerable<ArchiveEntry> entries) =>
        entries.Where(entry => entry.Session is not null).Select(entry => entry.Session!.Session.Id);

    private async Task<TestStore> OpenAsync(int maxPerUser) => await OpenAtAsync(await redis.NewDatabaseAsync(), maxPerUser: maxPerUser);

    private static async Task<TestStore> OpenAtAsync(string address, FakeTimeProvider? time = null, int maxPerUser = 10)
    {
        var connection = await ConnectionMultiplexer.ConnectAsync($"{address},name=victim");
        var policy = new StorePolicy
        {
            Lifetime = _ => TimeSpan.FromHours(24),
            MaxPerUser = kind => kind == SessionKind.Chain ? 0 : maxPerUser,
        };
        return await RedisFixture.NewStoreAsync(connection, "", policy, time ?? new FakeTimeProvider(Start), connection);
    }
}
