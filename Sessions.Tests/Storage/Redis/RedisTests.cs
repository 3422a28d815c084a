using System.Diagnostics;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Time.Testing;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Tests.Storage.Redis;

/// <summary>
/// What only the Redis store promises: keys that go by themselves, layouts, trouble, and what others write under its names.
/// </summary>
public sealed class RedisTests(RedisFixture redis)
{
    private static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private static readonly RedisKeys Keys = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Scripts_that_the_server_has_forgotten_are_loaded_again()
    {
        using var process = await RedisProcess.StartAsync();
        var (store, database, _) = await OpenAsync(process.Address);
        await using var owned = store;
        await store.TurnAsync("a", "user");
        await database.Multiplexer.GetServers()[0].ScriptFlushAsync();

        await store.TurnAsync("a", "user");

        Assert.Equal(2, (await store.TurnsAsync("a")).Count);
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task Every_key_has_the_prefix_and_a_time_to_live_and_no_index_names_what_is_gone()
    {
        var (store, database, _) = await OpenAsync(await redis.NewDatabaseAsync(), maxPerUser: 3, lifetimeHours: 1);
        await using var owned = store;
        for (var i = 0; i < 30; i++)
        {
            var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
            var user = i % 5 == 0 ? null : $"u{{}}{i % 4}";
            await store.Store.ReserveAsync(key, Owner.Anyone, $"s{i}", Cancel);
            await store.AppendAsync(await store.BeginAsync($"s{i}", user, idempotency: key), reservedBy: key.Key);
            await store.TurnAsync($"s{i}", user, tip: 0);
            await store.FailAsync($"f{i}", user);
            await store.TurnAsync($"chain{i}", user, kind: SessionKind.Chain);
            await store.ForkAsync($"s{i}", $"c{i}", 1);
            await store.Store.ReleaseAsync(await store.BeginAsync($"n{i}", user));
            if (i % 3 == 0)
            {
                await store.DeleteAsync($"s{i}");
            }

            store.Time.Advance(TimeSpan.FromMinutes(4));
        }

        await store.Store.SweepAsync(Cancel);
        await CheckKeysAsync(store, database);
        await store.Store.EraseAsync("u{}1", Cancel);
        await CheckKeysAsync(store, database);

        // Everything has expired: what is left are reservations, for as long as they would keep a session's id.
        store.Time.Advance(TimeSpan.FromHours(1));
        await store.Store.SweepAsync(Cancel);
        Assert.All(await NamesAsync(database), key => Assert.StartsWith("sessions:r:", key, StringComparison.Ordinal));
    }

    [Fact]
    public async Task What_others_wrote_under_its_names_is_reported_and_stops_nothing()
    {
        var (store, database, damage) = await OpenAsync(await redis.NewDatabaseAsync(), maxPerUser: 0);
        await using var owned = store;
        for (var i = 0; i < 40; i++)
        {
            await store.TurnAsync($"s{i}", "user");
        }

        // A part of the index of all is no index; a session is no session; a turn is none; an entry is none.
        await store.TurnAsync("no session", "user");
        await store.TurnAsync("no turn", "user");
        var hidden = Enumerable.Range(0, 40).Select(i => $"s{i}").Where(id => RedisKeys.ShardOf(id) == 3).ToList();
        Assert.NotEmpty(hidden);
        foreach (var key in (RedisKey[])[Keys.ShardIndex(3, SessionKind.Session), Keys.ShardExpiry(3, SessionKind.Session)])
        {
            await database.StringSetAsync(key, "foo");
        }

        await database.StringSetAsync(Keys.Session("no session"), "foo");
        await database.ListSetByIndexAsync(Keys.Turns("no turn"), 0, "foo");
        await database.SortedSetAddAsync(Keys.OwnerIndex("user", SessionKind.Session), "foo", 1);
        await database.SortedSetAddAsync(Keys.ShardExpiry(5, SessionKind.Session), "bar", 1);

        await store.Store.SweepAsync(Cancel);
        await store.CountAsync();
        await store.TurnAsync(hidden[0], "user");
        await Assert.ThrowsAsync<StoredDataException>(() => store.GetAsync("no session"));
        await Assert.ThrowsAsync<StoredDataException>(() => store.GetAsync("no turn"));
        await Assert.ThrowsAsync<StoredDataException>(async () => await store.BeginAsync("no session"));
        await Assert.ThrowsAsync<StoredDataException>(() => store.CreateAsync("no session", "other"));
        Assert.Equal(40, (await store.ListIdsAsync("user")).Count);
        Assert.Equal(40 - hidden.Count, (await store.ListIdsAsync(null)).Count);
        Assert.Equal(40, (await store.ExportAsync("user")).Count(entry => entry.Session is not null));
        Assert.True(damage.Count >= 4);
        Assert.Equal("foo", await database.StringGetAsync(Keys.Session("no session")));

        // Only what removes a session removes one that can't be read.
        Assert.True(await store.DeleteAsync("no session"));
        Assert.True(await store.DeleteAsync("no turn"));
        await store.TurnAsync("no session", "user");
        Assert.Equal(41, (await store.Store.EraseAsync("user", Cancel)).Sessions);
        Assert.Empty(await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task An_imported_session_stands_also_where_its_idempotency_key_can_not_be_tied_to_it()
    {
        var (store, database, _) = await OpenAsync(await redis.NewDatabaseAsync());
        await using var owned = store;
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await database.ListRightPushAsync(Keys.Reservation(key.Key), "foo");
        var head = await store.CreateAsync("before", "user");
        await store.DeleteAsync("before");

        var result = await store.Store.CopyAsync(new CopyRequest
        {
            Session = TestStore.New("imported", "user") with { Key = head.Key },
            Head = head with { Id = "imported" },
            CreatedBy = key,
            Turns = AsyncEnumerable.Empty<ArchivedTurn>(),
        }, Cancel);

        Assert.Equal(CopyStatus.Created, result.Status);
        Assert.Equal(["imported"], await store.ListIdsAsync("user"));
        Assert.NotNull(await store.GetAsync(SessionRef.ByKey(head.Key), Owner.Anyone));
    }

    [Fact]
    public async Task A_damaged_session_is_erased_with_its_user()
    {
        var (store, database, damage) = await OpenAsync(await redis.NewDatabaseAsync());
        await using var owned = store;
        await store.TurnAsync("a", "user");
        await database.HashDeleteAsync(Keys.Session("a"), "x");
        var error = await Assert.ThrowsAsync<StoredDataException>(() => store.GetAsync("a"));
        damage.Report(error.What, error);
        damage.Report(DamageReport.NameOf("a"), null);
        Assert.Equal(1, damage.Count);

        await store.Store.EraseAsync("user", Cancel);

        Assert.Equal(0, damage.Count);
        Assert.False(await database.KeyExistsAsync(Keys.Session("a")));
        Assert.Null(await store.GetAsync("a"));
    }

    [Fact]
    public async Task Turns_that_a_failover_has_lost_are_not_gone_on_from()
    {
        var (store, database, _) = await OpenAsync(await redis.NewDatabaseAsync());
        await using var owned = store;
        await store.TurnAsync("a", "user", "kept");
        RedisKey[] names = [Keys.Session("a"), Keys.Turns("a")];
        var kept = await Task.WhenAll(names.Select(name => database.KeyDumpAsync(name)));
        await store.TurnAsync("a", "user", "lost");
        await store.TurnAsync("a", "user", "lost too");
        var lost = (await store.GetAsync("a"))!;
        for (var i = 0; i < names.Length; i++)
        {
            await database.KeyDeleteAsync(names[i]);
            await database.KeyRestoreAsync(names[i], kept[i]!, TimeSpan.FromHours(1));
        }

        foreach (var query in (string[])["another", "and another", "and one more"])
        {
            var opened = await store.Store.OpenAsync(
                new OpenRequest
                {
                    Session = SessionRef.ById("a"),
                    Owner = Owner.Of("user"),
                    HistoryTurns = 10,
                    Remembered = new RememberedTail(lost.Key, lost.Revision, lost.TurnCount, lost.LastTurn!.Nonce, lost.Rewrites),
                    Lease = TestStore.NewLease(),
                }, Cancel);
            Assert.Equal(OpenStatus.Opened, opened.Status);
            Assert.False(opened.FollowsRemembered);
            Assert.DoesNotContain(opened.Turns, turn => turn.Input.ToString().Contains("lost", StringComparison.Ordinal));
            await store.AppendAsync(opened, query);
        }

        Assert.Equal(["kept", "another", "and another", "and one more"],
            (await store.TurnsAsync("a")).Select(turn => turn.Input.ToString()));
    }

    [Fact]
    public async Task Large_pages_and_histories_come_in_steps_and_whole()
    {
        var (store, _, _) = await OpenAsync(await redis.NewDatabaseAsync());
        await using var owned = store;
        for (var i = 0; i < 40; i++)
        {
            await store.TurnAsync("a", query: $"{i} {new string('x', 100_000)}", tip: i == 20 ? 10 : null);
        }

        int[] path = [.. Enumerable.Range(1, 10), .. Enumerable.Range(21, 20)];
        foreach (var descending in (bool[])[false, true])
        {
            var page = await store.ReadTurnsAsync("a",
                new TurnPageRequest { Limit = 100, MaxBytes = int.MaxValue, Descending = descending });
            Assert.Equal(descending ? path.Reverse() : path, page.Turns.Select(turn => turn.Number));
            Assert.False(page.HasMore);
            var some = await store.ReadTurnsAsync("a", new TurnPageRequest { Limit = 100, MaxBytes = 1_510_000, Descending = descending });
            Assert.Equal(15, some.Turns.Count);
            Assert.True(some.HasMore);
        }

        var opened = await store.BeginAsync("a", history: 25);
        Assert.Equal(path[^25..], opened.Turns.Select(turn => turn.Number));
        Assert.False(opened.IsCut);
        await store.Store.ReleaseAsync(opened);
    }

    [Fact]
    public async Task A_layout_that_this_version_can_not_read_is_refused_in_one_sentence()
    {
        await using var connection = await ConnectionMultiplexer.ConnectAsync(await redis.NewDatabaseAsync());
        var database = connection.GetDatabase();

        // What other programs have is none of ours.
        await database.StringSetAsync("a:{3}", "foo");
        RedisLayout.Prepare(database, Keys);
        RedisLayout.Prepare(database, Keys);
        Assert.Equal("2/2", await database.StringGetAsync(Keys.Layout));
        Assert.Null(await database.KeyTimeToLiveAsync(Keys.Layout));

        // A later version that this one can still read, and one that it can't.
        await database.StringSetAsync(Keys.Layout, "3/2");
        RedisLayout.Prepare(database, Keys);
        Assert.Equal("3/2", await database.StringGetAsync(Keys.Layout));
        await database.StringSetAsync(Keys.Layout, "4/3");
        Assert.Contains("later version", Assert.Throws<SettingsException>(() => RedisLayout.Prepare(database, Keys)).Message,
            StringComparison.Ordinal);

        await database.KeyDeleteAsync(Keys.Layout);
        await database.SortedSetAddAsync("a:{7}", "id", 1);
        var refused = Assert.Throws<SettingsException>(() => RedisLayout.Prepare(database, Keys)).Message;
        Assert.Contains("export them with that version, and import them with this one", refused, StringComparison.Ordinal);
        Assert.False(await database.KeyExistsAsync(Keys.Layout));
    }

    [Fact]
    public async Task A_Redis_that_hangs_is_left_alone_and_used_again_when_it_goes_on()
    {
        using var process = await RedisProcess.StartAsync();
        await using var connection = RedisConnection.Open(StackExchange.Redis.ConfigurationOptions.Parse(process.Address), "redis");
        var commands = RedisFixture.NewCommands(connection);
        var policy = NewPolicy(10, 24);
        var time = new FakeTimeProvider(Start);
        var damage = new List<string>();
        await using var store = await TestStore.OpenAsync(
            policy, time, p => ValueTask.FromResult<ISessionStore>(new RedisSessionStore(commands, Keys, p, time,
                Microsoft.Extensions.Logging.Abstractions.NullLogger<RedisSessionStore>.Instance)));
        await store.TurnAsync("a", "user");

        process.Signal("STOP");
        var started = Stopwatch.GetTimestamp();
        var health = await store.Store.CheckAsync(Cancel);
        Assert.Equal(HealthStatus.Unhealthy, health.Status);

        // By its own limit, and not by the driver's.
        Assert.IsType<TimeoutException>(health.Exception);
        Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(10));
        var refusals = Task.WhenAll(Enumerable.Range(0, 20)
            .Select(_ => Assert.ThrowsAsync<StoreUnavailableException>(async () => await store.BeginAsync("a", "user"))));
        await ServiceProcess.UntilAsync(() => commands.Unresponsive == 1);
        await refusals;

        // The first one's time-out, not twenty of them; then nobody waits.
        Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(30));
        process.Signal("CONT");
        while (true)
        {
            try
            {
                var opened = await store.BeginAsync("a", "user");
                if (opened.Status == OpenStatus.Opened)
                {
                    Assert.Equal(WriteStatus.Written, (await store.AppendAsync(opened)).Status);
                    break;
                }
            }
            catch (StoreUnavailableException)
            {
                Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(60));
            }

            await Task.Yield();
        }

        Assert.Equal(0, commands.Unresponsive);
        Assert.Equal(2, (await store.TurnsAsync("a")).Count);
    }

    [Fact]
    public void One_time_out_opens_the_circuit_and_one_command_at_a_time_tries_again()
    {
        var circuit = new RedisCircuit();
        circuit.Enter();
        Assert.True(circuit.TimedOut());
        Assert.True(circuit.IsOpen);
        Assert.Throws<ServerUnresponsiveException>(circuit.Enter);
        SpinWait.SpinUntil(() => Try(circuit), TimeSpan.FromSeconds(30));
        Assert.Throws<ServerUnresponsiveException>(circuit.Enter);
        Assert.False(circuit.TimedOut());
        Assert.Throws<ServerUnresponsiveException>(circuit.Enter);
        SpinWait.SpinUntil(() => Try(circuit), TimeSpan.FromSeconds(30));
        Assert.True(circuit.Answered());
        circuit.Enter();
        circuit.Enter();

        // It has just answered somebody: it does not hang, it is only busy.
        Assert.False(circuit.TimedOut());
        circuit.Enter();

        static bool Try(RedisCircuit circuit)
        {
            try
            {
                circuit.Enter();
                return true;
            }
            catch (ServerUnresponsiveException)
            {
                return false;
            }
        }
    }

    [Theory]
    [InlineData("LOADING Redis is loading the dataset in memory", "loading")]
    [InlineData("MISCONF Errors writing to the AOF file: No space left on device", "can't save")]
    [InlineData("READONLY You can't write against a read only replica. script: 5f, on @user_script:8.", "replica")]
    [InlineData("NOSCRIPT No matching script. Please use EVAL.", "starting")]
    [InlineData("ERR upstream failure", "error")]
    public void What_the_server_says_of_its_state_is_trouble(string message, string told)
    {
        var error = new RedisServerException(message);

        Assert.True(RedisFailure.IsTrouble(error));
        Assert.False(RedisFailure.IsDamage(error));
        Assert.Contains(told, RedisFailure.ToUnavailable(error).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("WRONGTYPE Operation against a key holding the wrong kind of value script: 5f, on @user_script:8.", true)]
    [InlineData("ERR user_script:41: DAMAGED script: 5f, on @user_script:41.", true)]
    [InlineData("ERR user_script:8: attempt to call a nil value script: 5f, on @user_script:8.", false)]
    [InlineData("CROSSSLOT Keys in request don't hash to the same slot", false)]
    [InlineData("ERR unknown command 'EVALSHA'", false)]
    public void What_the_server_says_of_our_mistakes_and_of_damage_is_none(string message, bool isDamage)
    {
        Assert.False(RedisFailure.IsTrouble(new RedisServerException(message)));
        Assert.Equal(isDamage, RedisFailure.IsDamage(new RedisServerException(message)));
    }

    [Theory]
    [InlineData("Command cannot be issued to a replica: EVAL")]
    [InlineData("The database does not exist on the server: 3")]
    public void What_the_driver_refuses_while_a_server_changes_its_role_is_trouble(string message) =>
        Assert.True(RedisFailure.IsTrouble(new RedisCommandException(message)));

    private static async Task CheckKeysAsync(TestStore store, IDatabase database)
    {
        HashSet<string> indexed = [];
        var names = await NamesAsync(database);
        Assert.NotEmpty(names);
        foreach (var name in names)
        {
            Assert.StartsWith("sessions:", name, StringComparison.Ordinal);
            Assert.True(await database.KeyTimeToLiveAsync(name) is { } left && left < TimeSpan.FromHours(24),
                $"{name} has no time to live, or a long one.");
            if (await database.KeyTypeAsync(name) == RedisType.SortedSet
                && (name.Contains(":u:", StringComparison.Ordinal) || name.Contains(":a:", StringComparison.Ordinal)))
            {
                foreach (var entry in await database.SortedSetRangeByRankAsync(name))
                {
                    Assert.True(RedisKeys.TryRead(entry, out var id, out var key));
                    indexed.Add(id);
                    Assert.True(await store.GetAsync(SessionRef.ByKey(key), Owner.Anyone) is not null,
                        $"{name} names {id}, which is gone.");
                }
            }
        }

        Assert.Equal(indexed.Order(), names.Where(name => name.StartsWith("sessions:s:", StringComparison.Ordinal) && name.EndsWith('}'))
            .Select(name => name[12..^1]).Order());
    }

    private static async Task<List<string>> NamesAsync(IDatabase database)
    {
        List<string> names = [];
        await foreach (var name in database.Multiplexer.GetServers()[0].KeysAsync(database.Database))
        {
            names.Add(name.ToString());
        }

        return names;
    }

    private static StorePolicy NewPolicy(int maxPerUser, double lifetimeHours, DamageReport? damage = null) => new()
    {
        Lifetime = _ => TimeSpan.FromHours(lifetimeHours),
        MaxPerUser = kind => kind == SessionKind.Chain ? 0 : maxPerUser,
        Damage = damage ?? new DamageReport(),
    };

    private static async Task<(TestStore Store, IDatabase Database, DamageReport Damage)> OpenAsync(
        string address, int maxPerUser = 10, double lifetimeHours = 24)
    {
        var connection = await ConnectionMultiplexer.ConnectAsync($"{address},allowAdmin=true");
        var damage = new DamageReport();
        var store = await RedisFixture.NewStoreAsync(connection, RedisKeys.DefaultPrefix, NewPolicy(maxPerUser, lifetimeHours, damage),
            new FakeTimeProvider(Start), connection);
        return (store, connection.GetDatabase(), damage);
    }
}
