namespace Sessions.Tests.Storage;

/// <content>Limits per user in number, and in bytes.</content>
public abstract partial class StoreContract
{
    private const int Room = 10_000;

    [Fact]
    public async Task One_session_more_than_the_limit_removes_the_least_recently_active_one()
    {
        await using var store = await OpenAsync(maxPerUser: 3);
        foreach (var id in (string[])["a", "b", "c"])
        {
            await store.TurnAsync(id, "user");
            store.Time.Advance(TimeSpan.FromMinutes(1));
        }

        await store.TurnAsync("a", "user");
        store.Time.Advance(TimeSpan.FromMinutes(1));
        await store.CreateAsync("d", "user");
        Assert.Equal(["d", "a", "c"], await store.ListIdsAsync("user"));
        Assert.Null(await store.GetAsync("b"));
        store.Time.Advance(TimeSpan.FromMinutes(1));

        await store.TurnAsync("e", "user");
        Assert.Equal(["e", "d", "a"], await store.ListIdsAsync("user"));
        store.Time.Advance(TimeSpan.FromMinutes(1));

        // Claiming gives the user one more as well.
        await store.CreateAsync("f");
        await store.TurnAsync("f", "user");
        Assert.Equal(["f", "e", "d"], await store.ListIdsAsync("user"));
        store.Time.Advance(TimeSpan.FromMinutes(1));

        // And so does a fork, be it of the very session that has to go.
        Assert.Equal(CopyStatus.Created, (await store.ForkAsync("d", "g")).Status);
        Assert.Equal(["g", "f", "e"], await store.ListIdsAsync("user"));
        Assert.Equal(3, await store.CountAsync());
        Assert.Single(await store.TurnsAsync("f"));
    }

    [Fact]
    public async Task The_limit_is_one_of_each_kind_and_of_no_other_user()
    {
        var policy = new StorePolicy
        {
            Lifetime = _ => TimeSpan.FromHours(1),
            MaxPerUser = kind => kind switch { SessionKind.Session => 2, SessionKind.Conversation => 1, _ => 0 },
        };
        await using var store = await OpenAsync(policy, new(Start));
        foreach (var user in (string?[])["user", "other", null])
        {
            for (var i = 0; i < 4; i++)
            {
                foreach (var kind in Enum.GetValues<SessionKind>())
                {
                    await store.CreateAsync($"{user}{kind}{i}", user, kind: kind);
                    store.Time.Advance(TimeSpan.FromSeconds(1));
                }
            }
        }

        foreach (var user in (string[])["user", "other"])
        {
            Assert.Equal([$"{user}Conversation3", $"{user}Session3", $"{user}Session2"], await store.ListIdsAsync(user));
            Assert.Equal(4, (await store.ListIdsAsync(user, kind: SessionKind.Chain)).Count);
        }

        Assert.Equal(3 + 3 + 8, await store.CountAsync());
    }

    [Fact]
    public async Task Expired_sessions_do_not_count_for_the_limit()
    {
        await using var store = await OpenAsync(maxPerUser: 2, lifetimeHours: 1);
        await store.TurnAsync("a", "user");
        store.Time.Advance(TimeSpan.FromMinutes(50));
        await store.TurnAsync("b", "user");
        store.Time.Advance(TimeSpan.FromMinutes(20));

        await store.TurnAsync("c", "user");

        Assert.Equal(["c", "b"], await store.ListIdsAsync("user"));
        await store.FailAsync("d", "user");
        Assert.Equal(["c", "b"], await store.ListIdsAsync("user"));
        store.Time.Advance(TimeSpan.FromMinutes(45));
        await store.FailAsync("d", "user");
        Assert.Equal(["d", "c"], await store.ListIdsAsync("user"));
    }

    [Theory]
    [InlineData(false, "create")]
    [InlineData(false, "turn")]
    [InlineData(false, "claim")]
    [InlineData(false, "fail")]
    [InlineData(true, "create")]
    [InlineData(true, "turn")]
    [InlineData(true, "claim")]
    [InlineData(true, "fail")]
    public async Task Expired_sessions_go_before_live_ones_whichever_was_active_last(bool imported, string by)
    {
        long evicted = 0;
        await using var store = await OpenAsync(
            NewPolicy(2, lifetimeHours: 1, events: new StoreEvents { Evicted = count => evicted += count }), new(Start));
        if (imported)
        {
            var head = await store.CreateAsync("live", "user");
            await store.DeleteAsync("live");
            head = head with { ExpiresAt = Start.AddHours(3) };
            Assert.Equal(CopyStatus.Created, (await store.Store.CopyAsync(ImportOf(head, Turns(store, 0, 0)), Cancel)).Status);
        }
        else
        {
            // A turn began and came to nothing: no activity, but a later expiry.
            await store.CreateAsync("live", "user");
            await store.Store.ReleaseAsync(await store.BeginAsync("live", "user", lease: TestStore.NewLease(TimeSpan.FromHours(3))));
        }

        store.Time.Advance(TimeSpan.FromMinutes(10));
        await store.CreateAsync("expired", "user");
        await store.CreateAsync("nobody's");
        store.Time.Advance(TimeSpan.FromMinutes(55));
        await store.TurnAsync("nobody's");
        store.Time.Advance(TimeSpan.FromMinutes(10));

        switch (by)
        {
            case "create":
                await store.CreateAsync("new", "user");
                break;
            case "turn":
                await store.TurnAsync("new", "user");
                break;
            case "claim":
                await store.TurnAsync("nobody's", "user");
                break;
            default:
                Assert.Equal(WriteStatus.Written, (await store.FailAsync("new", "user")).Status);
                break;
        }

        var added = by == "claim" ? "nobody's" : "new";
        Assert.Equal([added, "live"], await store.ListIdsAsync("user"));
        Assert.Equal(0, evicted);

        // And then the least recently active of those that live.
        store.Time.Advance(TimeSpan.FromMinutes(1));
        await store.CreateAsync("newer", "user");
        Assert.Equal(["newer", added], await store.ListIdsAsync("user"));
        Assert.Equal(1, evicted);
    }

    [Fact]
    public async Task Sessions_on_which_a_turn_runs_are_the_last_to_make_room()
    {
        HashSet<string> running = ["a"];
        await using var store = await OpenAsync(NewPolicy(2, isRunning: running.Contains), new(Start));
        await store.TurnAsync("a", "user");
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("b", "user");
        store.Time.Advance(TimeSpan.FromSeconds(1));

        await store.TurnAsync("c", "user");
        Assert.Equal(["c", "a"], await store.ListIdsAsync("user"));
        store.Time.Advance(TimeSpan.FromSeconds(1));
        running.Add("c");
        await store.CreateAsync("d", "user");
        Assert.Equal(["d", "c"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task The_limit_holds_under_concurrency()
    {
        await using var store = await OpenAsync(maxPerUser: 5);
        await Task.WhenAll(Enumerable.Range(0, 64).Select(i => Task.Run(async () =>
        {
            if (i % 2 == 0)
            {
                await store.CreateAsync($"s{i}", "user");
            }
            else
            {
                await store.TurnAsync($"s{i}", "user");
            }

            // What others push out while a page is read is not in it: that may be all of them.
            Assert.InRange((await store.ListIdsAsync("user")).Count, 0, 5);
        }, Cancel)));

        Assert.Equal(5, (await store.ListIdsAsync("user")).Count);
        Assert.Equal(5, await store.CountAsync());
    }

    [Fact]
    public async Task What_comes_and_goes_is_told()
    {
        List<SessionOrigin> created = [];
        List<Guid> removed = [];
        long evicted = 0;
        var events = new StoreEvents
        {
            Created = created.Add,
            Evicted = count => evicted += count,
            Removed = keys =>
            {
                removed.AddRange(keys);
                return default;
            },
        };
        await using var store = await OpenAsync(NewPolicy(2, events: events), new(Start));
        var a = await store.CreateAsync("a", "user");
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("b", "user");
        await store.TurnAsync("b", "user");
        await store.TurnAsync("chain", "user", kind: SessionKind.Chain);
        await store.ForkAsync("b", "c");
        Assert.Equal([SessionOrigin.Api, SessionOrigin.Query, SessionOrigin.Fork], created);
        Assert.Equal(1, evicted);
        Assert.Equal([a.Key], removed);

        var keys = new List<Guid>();
        foreach (var id in (string[])["b", "c", "chain"])
        {
            keys.Add((await store.GetAsync(id))!.Key);
        }

        removed.Clear();
        await store.DeleteAsync("b");
        Assert.Equal([keys[0]], removed);
        await store.Store.EraseAsync("user", Cancel);
        Assert.Equal(keys.Order(), removed.Order());
        Assert.Equal(1, evicted);
    }

    [Fact]
    public async Task Past_their_bytes_the_oldest_chains_of_an_owner_go_and_nobody_elses()
    {
        await using var store = await OpenAsync(NewPolicy(chainBytes: 4 * Room), new(Start));
        foreach (var user in (string?[])["user", "other", null])
        {
            await FillAsync(store, $"{user} seen", user, SessionKind.Session, 5);
            for (var i = 0; i < 3; i++)
            {
                await FillAsync(store, $"{user} {i}", user, SessionKind.Chain);
            }
        }

        await FillAsync(store, "user 0", "user", SessionKind.Chain);
        await FillAsync(store, "user 3", "user", SessionKind.Chain);
        Assert.Equal(["user 3", "user 0", "user 2"], await store.ListIdsAsync("user", kind: SessionKind.Chain));
        Assert.Equal(["other 2", "other 1", "other 0"], await store.ListIdsAsync("other", kind: SessionKind.Chain));
        await FillAsync(store, " 3", null, SessionKind.Chain);
        await FillAsync(store, " 4", null, SessionKind.Chain);
        Assert.Null(await store.GetAsync(" 0"));
        Assert.NotNull(await store.GetAsync(" 1"));

        // One that is claimed comes on top of what the user has.
        await FillAsync(store, " 4", "user", SessionKind.Chain);
        Assert.Equal([" 4", "user 3"], await store.ListIdsAsync("user", kind: SessionKind.Chain));
        Assert.Equal(5, (await store.TurnsAsync("user seen")).Count);
    }

    [Theory]
    [InlineData("user")]
    [InlineData(null)]
    public async Task Chains_on_which_a_turn_runs_are_the_last_to_make_room(string? user)
    {
        HashSet<string> running = ["0"];
        var policy = NewPolicy(chainBytes: 4 * Room, unownedBytes: 4 * Room, isRunning: running.Contains);
        await using var store = await OpenAsync(policy, new(Start));
        for (var i = 0; i < 5; i++)
        {
            await FillAsync(store, $"{i}", user, SessionKind.Chain);
        }

        Assert.NotNull(await store.GetAsync("0"));
        Assert.Null(await store.GetAsync("1"));
        Assert.NotNull(await store.GetAsync("4"));

        // Where there is no other, it goes as well.
        running.UnionWith(["2", "3", "4"]);
        await FillAsync(store, "5", user, SessionKind.Chain);
        Assert.Null(await store.GetAsync("0"));
        Assert.NotNull(await store.GetAsync("5"));
    }

    [Theory]
    [InlineData("user")]
    [InlineData(null)]
    public async Task A_copy_that_takes_the_room_of_its_source_has_all_turns(string? user)
    {
        await using var store = await OpenAsync(NewPolicy(chainBytes: 3 * Room, unownedBytes: 3 * Room), new(Start));
        foreach (var id in (string[])["source", "other"])
        {
            await FillAsync(store, id, user, SessionKind.Chain);
        }

        var copied = await store.Store.CopyAsync(
            new CopyRequest
            {
                Session = TestStore.New("copy", user, new string('m', (int)Room), kind: SessionKind.Chain),
                Source = SessionRef.ById("source"),
            }, Cancel);

        Assert.Equal(CopyStatus.Created, copied.Status);
        Assert.Null(await store.GetAsync("source"));
        Assert.Equal(copied.Session!.TurnCount, (await store.TurnsAsync("copy")).Count);
        AssertSame(copied.Session, await store.GetAsync("copy"));
    }

    [Theory]
    [InlineData("user", false)]
    [InlineData("user", true)]
    [InlineData(null, false)]
    [InlineData(null, true)]
    public async Task For_an_id_that_is_taken_nothing_makes_room(string? user, bool isChain)
    {
        var kind = isChain ? SessionKind.Chain : SessionKind.Session;
        var policy = NewPolicy(maxPerUser: 2, chainBytes: 3 * Room, unownedBytes: 3 * Room);
        await using var store = await OpenAsync(policy, new(Start));
        await FillAsync(store, "0", user, kind);
        await FillAsync(store, "1", user, SessionKind.Chain);

        foreach (var id in (string[])["0", "1"])
        {
            foreach (var bytes in (int[])[0, 2 * Room, 9 * Room])
            {
                var session = TestStore.New(id, user, new string('m', bytes), kind);
                Assert.Equal(CopyStatus.IdTaken, (await store.Store.CopyAsync(new CopyRequest { Session = session }, Cancel)).Status);
                var fork = new CopyRequest { Session = session, Source = SessionRef.ById("1") };
                Assert.Equal(CopyStatus.IdTaken, (await store.Store.CopyAsync(fork, Cancel)).Status);
            }
        }

        Assert.NotNull(await store.GetAsync("0"));
        Assert.NotNull(await store.GetAsync("1"));
    }

    [Fact]
    public async Task A_first_failure_that_would_cost_another_session_is_full()
    {
        await using var store = await OpenAsync(maxPerUser: 1);
        await store.TurnAsync("a", "user");
        var opened = await store.BeginAsync("b", "user");

        var result = await store.Store.WriteAsync(
            opened, new RecordFailure("why", TestStore.New("b", "user", "", SessionKind.Session)), Cancel);

        Assert.Equal((WriteStatus.Full, null), (result.Status, result.Session));
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_chain_that_is_too_large_by_itself_is_full_and_stays_as_it_is()
    {
        await using var store = await OpenAsync(NewPolicy(chainBytes: 3 * Room), new(Start));
        await FillAsync(store, "chain", "user", SessionKind.Chain, 2);
        var before = await store.GetAsync("chain");

        var result = await store.AppendAsync(await store.BeginAsync("chain", "user"), new string('x', 2 * Room));

        Assert.Equal((WriteStatus.Full, "limits.responses_bytes_per_user"), (result.Status, result.Limit));
        AssertSame(before, await store.GetAsync("chain"));
        Assert.Equal(2, (await store.TurnsAsync("chain")).Count);

        // Nothing is held, and what fits goes on.
        await store.TurnAsync("chain", "user");
        Assert.Equal(3, (await store.TurnsAsync("chain")).Count);
        var other = await store.AppendAsync(await store.BeginAsync("other", "user"), new string('x', 4 * Room), kind: SessionKind.Chain);
        Assert.Equal(WriteStatus.Full, other.Status);
        Assert.Null(await store.GetAsync("other"));
        var copy = await store.Store.CopyAsync(
            new CopyRequest { Session = TestStore.New("copy", "user", new string('m', 4 * Room), SessionKind.Chain) }, Cancel);
        Assert.Equal((CopyStatus.Full, "limits.responses_bytes_per_user"), (copy.Status, copy.Limit));
        Assert.Null(await store.GetAsync("copy"));
        await store.TurnAsync("copy", "user");
    }

    [Fact]
    public async Task Sessions_of_nobody_are_bounded_in_all_and_make_no_room_for_each_other()
    {
        await using var store = await OpenAsync(NewPolicy(unownedBytes: 5 * Room), new(Start));
        await FillAsync(store, "seen", null, SessionKind.Session, 2);
        await FillAsync(store, "chain 0", null, SessionKind.Chain, 2);
        await FillAsync(store, "users", "user", SessionKind.Session, 9);
        Assert.Equal(WriteStatus.Full, (await store.AppendAsync(await store.BeginAsync("huge"), new string('x', 9 * Room))).Status);

        // Chains of nobody's make room.
        await FillAsync(store, "other", null, SessionKind.Session, 2);
        Assert.Null(await store.GetAsync("chain 0"));
        await FillAsync(store, "chain 1", null, SessionKind.Chain);
        await FillAsync(store, "other", null, SessionKind.Session, 1);
        Assert.Null(await store.GetAsync("chain 1"));

        // And then there is none left.
        var before = await store.GetAsync("other");
        var full = await store.AppendAsync(await store.BeginAsync("other"), new string('x', Room));
        Assert.Equal((WriteStatus.Full, "limits.unowned_bytes"), (full.Status, full.Limit));
        var metadata = await store.ReplaceMetadataAsync(await store.ReadAsync("other"), new string('m', Room));
        Assert.Equal((WriteStatus.Full, "limits.unowned_bytes"), (metadata.Status, metadata.Limit));
        var fork = await store.ForkAsync("seen", "fork");
        Assert.Equal((CopyStatus.Full, "limits.unowned_bytes"), (fork.Status, fork.Limit));
        AssertSame(before, await store.GetAsync("other"));
        Assert.Null(await store.GetAsync("fork"));
        await store.TurnAsync("users", "user", new string('x', Room));

        // What somebody claims is nobody's no more; what is deleted is nowhere.
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(await store.BeginAsync("other", "user"), new string('x', Room)))
            .Status);
        await FillAsync(store, "seen", null, SessionKind.Session, 2);
        await store.DeleteAsync("seen");
        await FillAsync(store, "new", null, SessionKind.Session, 5);
    }

    [Fact]
    public async Task Space_that_expired_or_was_rewritten_is_free_again()
    {
        await using var store = await OpenAsync(NewPolicy(lifetimeHours: 1, unownedBytes: 3 * Room), new(Start));
        await FillAsync(store, "a", null, SessionKind.Session, 2);
        Assert.Equal(WriteStatus.Full, (await store.AppendAsync(await store.BeginAsync("b"), new string('x', 2 * Room))).Status);
        var opened = await store.ReadAsync("a", history: 2);
        await store.Store.WriteAsync(opened, new ReplaceTurn(opened.Turns[0] with { Input = Items.None }, false), Cancel);
        await FillAsync(store, "b", null, SessionKind.Session);

        store.Time.Advance(TimeSpan.FromHours(2));
        await store.Store.SweepAsync(Cancel);
        await FillAsync(store, "c", null, SessionKind.Session, 2);
        await store.DeleteAsync("c");
        await FillAsync(store, "d", "user", SessionKind.Session, 2);
        await store.Store.EraseAsync("user", Cancel);
        await FillAsync(store, "e", null, SessionKind.Session, 2);
    }

    // Turns that are nearly as large as the room for one: what stands beside their texts fits in.
    private static async Task FillAsync(TestStore store, string id, string? user, SessionKind kind, int turns = 1)
    {
        for (var i = 0; i < turns; i++)
        {
            await store.TurnAsync(id, user, new string('x', Room - 1200), "", kind: kind);
            store.Time.Advance(TimeSpan.FromSeconds(1));
        }
    }
}
