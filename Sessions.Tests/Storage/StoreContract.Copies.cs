namespace Sessions.Tests.Storage;

/// <content>Forks, exports and imports.</content>
public abstract partial class StoreContract
{
    [Fact]
    public async Task A_fork_starts_with_the_turns_up_to_there_and_goes_its_own_way()
    {
        await using var store = await OpenAsync();
        var key = NewIdempotency();
        for (var i = 1; i <= 4; i++)
        {
            await store.AppendAsync(await store.BeginAsync("a", "user", idempotency: i == 1 ? key : null), $"q{i}");
        }

        await store.FailAsync("a", "user");
        store.Time.Advance(TimeSpan.FromMinutes(1));
        var wanted = TestStore.New("b", "whoever", """{"k":1}""") with { CreatedFrom = SessionOrigin.Fork };
        var fork = await store.Store.CopyAsync(new CopyRequest { Session = wanted, Source = SessionRef.ById("a"), AfterTurn = 2 }, Cancel);

        Assert.Equal(CopyStatus.Created, fork.Status);
        AssertSame(fork.Session, await store.GetAsync("b"));
        Assert.Equal(wanted.Key, fork.Session!.Key);
        Assert.Equal("user", fork.Session.UserId);
        Assert.Equal((2, 0), (fork.Session.TurnCount, fork.Session.ErrorCount));
        Assert.Equal(1, fork.Session.Revision.Version);
        Assert.Equal("q2", fork.Session.LastTurn!.Input.ToString());
        Assert.Equal(SessionOrigin.Fork, fork.Session.CreatedFrom);
        Assert.Equal(Start.AddMinutes(1), fork.Session.CreatedAt);
        Assert.Equal(Start.AddMinutes(1).AddHours(24), fork.Session.ExpiresAt);
        Assert.Equal((2 * 10) + 7, fork.Session.Bytes);
        AssertSame((await store.TurnsAsync("a")).Take(2), await store.TurnsAsync("b"));
        Assert.Equal(OpenStatus.Opened, (await store.BeginAsync("b", "user", idempotency: key)).Status);
        await store.DeleteAsync("b");
        await store.Store.CopyAsync(new CopyRequest
        {
            Session = wanted with { Key = SessionKey.New() },
            Source = SessionRef.ById("a"),
            AfterTurn = 2,
        }, Cancel);
        await store.TurnAsync("b", "user", "own");
        await store.TurnAsync("a", "user", "other");
        await store.DeleteAsync("a");
        Assert.Equal(["q1", "q2", "own"], (await store.TurnsAsync("b")).Select(turn => turn.Input.ToString()));
        Assert.Equal(["b"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_fork_of_a_tree_is_the_tree_as_it_was_then()
    {
        await using var store = await OpenAsync();
        await TreeAsync(store);

        await store.ForkAsync("a", "b", 6);

        AssertSame((await store.TurnsAsync("a")).Take(6), await store.TurnsAsync("b"));
        Assert.Equal([1, 2, 3, 6], (await store.PathAsync("b")).Select(turn => turn.Number));
        Assert.Equal([1, 4, 5], (await store.PathAsync("b", 5)).Select(turn => turn.Number));
        await store.TurnAsync("b", tip: 5);
        Assert.Equal([1, 4, 5, 7], (await store.PathAsync("b")).Select(turn => turn.Number));
    }

    [Fact]
    public async Task A_fork_needs_a_session_a_turn_of_it_and_a_free_id()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        await store.CreateAsync("taken");

        Assert.Equal(CopyStatus.SourceNotFound, (await store.ForkAsync("none", "b")).Status);
        foreach (var turn in (int[])[2, -1, int.MinValue, int.MaxValue])
        {
            var missing = await store.ForkAsync("a", "b", turn);
            Assert.Equal(CopyStatus.NoSuchTurn, missing.Status);
            AssertSame(await store.GetAsync("a"), missing.Session);
        }

        Assert.Equal(CopyStatus.IdTaken, (await store.ForkAsync("a", "taken", 1)).Status);
        Assert.Equal(CopyStatus.IdTaken, (await store.ForkAsync("a", "a", 1)).Status);
        Assert.Equal(CopyStatus.SourceNotFound, (await store.Store.CopyAsync(
            new CopyRequest { Session = TestStore.New("b"), Source = SessionRef.ById("a"), SourceKey = SessionKey.New() }, Cancel))
                .Status);
        Assert.Null(await store.GetAsync("b"));
        Assert.Equal(CopyStatus.Created, (await store.ForkAsync("a", "b", 0)).Status);
        Assert.Empty(await store.TurnsAsync("b"));
        Assert.Null((await store.GetAsync("b"))!.LastTurn);
    }

    [Fact]
    public async Task A_fork_whose_turns_are_handed_in_is_made_of_them()
    {
        // As where they are sealed: the log opens each and seals it anew for its new place.
        await using var store = await OpenAsync();
        await TreeAsync(store);
        await store.AppendAsync(await store.BeginAsync("a", "user"), summary: new Summary("not this", 2));
        var source = (await store.GetAsync("a"))!;
        var sealedAnew = (await store.TurnsAsync("a")).Take(6)
            .Select(turn => turn with { Input = turn.Input.With("sealed anew"u8.ToArray()) }).ToList();

        var fork = await store.Store.CopyAsync(new CopyRequest
        {
            Session = TestStore.New("b"),
            Source = SessionRef.ById("a"),
            SourceKey = source.Key,
            AfterTurn = 6,
            Turns = sealedAnew.Select(turn => new ArchivedTurn(turn, null)).ToAsyncEnumerable(),
            Summary = new Summary("this", 2),
        }, Cancel);

        Assert.Equal(CopyStatus.Created, fork.Status);
        AssertSame(fork.Session, await store.GetAsync("b"));
        Assert.Equal(("user", 6, 1L), (fork.Session!.UserId, fork.Session.TurnCount, fork.Session.Revision.Version));
        Assert.Equal(new Summary("this", 2), fork.Session.Summary);
        Assert.Equal(4 + (6 * (11 + 8)), fork.Session.Bytes);
        AssertSame(sealedAnew, await store.TurnsAsync("b"));
        Assert.Equal([1, 2, 3, 6], (await store.PathAsync("b")).Select(turn => turn.Number));
    }

    [Fact]
    public async Task What_is_exported_and_imported_is_the_same_to_clients()
    {
        await using var from = await OpenAsync();
        await using var to = await OpenAsync();
        Idempotency key = NewIdempotency(), reservation = NewIdempotency();
        await from.TurnAsync("a", "user", "first\0second", "ü");
        await from.AppendAsync(await from.BeginAsync("a", "user", idempotency: key), "asked with a key",
            summary: new Summary("in short", 1));
        await from.TurnAsync("a", "user", "branch", tip: 1);
        await from.FailAsync("a", "user", "why");
        var reading = await from.ReadAsync("a", history: 9);
        await from.Store.WriteAsync(reading, new ReplaceTurn(reading.Turns[^1] with { Output = Items.None, Response = "{}"u8.ToArray() },
            false), Cancel);
        await from.CreateAsync("b", metadata: """{"tag":"blue","n":1.50}""");
        await from.Store.ReserveAsync(reservation, Owner.Anyone, "c", Cancel);
        await from.AppendAsync(await from.BeginAsync("c"), reservedBy: reservation.Key);
        await from.TurnAsync("chain", "user", kind: SessionKind.Chain);
        await from.CreateAsync("conversation", "user", kind: SessionKind.Conversation);
        to.Time.Advance(TimeSpan.FromMinutes(5));

        Assert.All(await MoveAsync(from, to), moved => Assert.Equal(CopyStatus.Created, moved.Value));

        foreach (var id in (string[])["a", "b", "c", "chain", "conversation"])
        {
            AssertSame(await from.GetAsync(id), await to.GetAsync(id));
            AssertSame(await from.TurnsAsync(id), await to.TurnsAsync(id));
            AssertSame(await from.PathAsync(id), await to.PathAsync(id));
        }

        Assert.Equal(["conversation", "a"], await to.ListIdsAsync("user"));
        Assert.Equal(4, await to.CountAsync());
        var replay = await to.BeginAsync("a", "user", idempotency: key);
        Assert.Equal(OpenStatus.Replayed, replay.Status);
        Assert.Equal("asked with a key", replay.Replay!.Input.ToString());
        Assert.Equal(OpenStatus.KeyReused, (await to.BeginAsync("a", "user", idempotency: key with { Body = Guid.NewGuid() })).Status);
        Assert.Equal(new KeyReservation("c", SameBody: true, IsNew: false),
            await to.Store.ReserveAsync(reservation, Owner.Anyone, "d", Cancel));
        await to.TurnAsync("a", "user", "and on");
        Assert.Equal(4, (await to.TurnsAsync("a")).Count);
    }

    [Fact]
    public async Task An_import_that_is_run_again_adds_only_what_is_missing()
    {
        await using var from = await OpenAsync();
        await using var to = await OpenAsync();
        await from.TurnAsync("a", "user");
        await to.TurnAsync("b", "other", "own");
        await MoveAsync(from, to);
        await from.TurnAsync("b", "user");
        await from.TurnAsync("c", "user");

        var again = await MoveAsync(from, to);

        Assert.Equal((CopyStatus.IdTaken, CopyStatus.IdTaken, CopyStatus.Created), (again["a"], again["b"], again["c"]));
        Assert.Single(await to.TurnsAsync("a"));
        Assert.Equal("own", Assert.Single(await to.TurnsAsync("b")).Input.ToString());
        Assert.Equal(["a", "c"], (await to.ListIdsAsync("user")).Order());
    }

    [Fact]
    public async Task A_long_session_is_imported_as_a_whole_or_not_at_all()
    {
        await using var store = await OpenAsync();
        var session = await store.CreateAsync("a", "user");
        await store.DeleteAsync("a");
        async Task<CopyStatus> ImportAsync(int promised, int numbers, int missing = 0) =>
            (await store.Store.CopyAsync(ImportOf(session with { TurnCount = promised }, Turns(store, numbers, missing)), Cancel)).Status;

        await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(2000, 1999));
        await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(2000, 2001));
        await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(2000, 2001, missing: 1500));
        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Equal(0, await store.CountAsync());

        Assert.Equal(CopyStatus.Created, await ImportAsync(2000, 2000));
        Assert.Equal(2000, (await store.GetAsync("a"))!.TurnCount);
        var last = await store.ReadTurnsAsync("a", new TurnPageRequest { Limit = 2, MaxBytes = 1000, Descending = true });
        Assert.Equal(["q2000", "q1999"], last.Turns.Select(turn => turn.Input.ToString()));
        Assert.Equal(2000, (await store.TurnsAsync("a")).Count);
        Assert.Equal(CopyStatus.Created, (await store.ForkAsync("a", "b", 1234)).Status);
        AssertSame((await store.TurnsAsync("a")).Take(1234), await store.TurnsAsync("b"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(700)]
    public async Task An_import_that_is_broken_off_leaves_nothing(int after)
    {
        await using var store = await OpenAsync();
        var session = await store.CreateAsync("a", "user");
        await store.DeleteAsync("a");
        async IAsyncEnumerable<ArchivedTurn> BrokenAsync(Exception? exception, CancellationTokenSource? cancelled)
        {
            await foreach (var turn in Turns(store, 1000, 0).WithCancellation(Cancel))
            {
                yield return turn;
                if (turn.Turn.Number == after)
                {
                    _ = exception is null ? true : throw exception;
                    await cancelled!.CancelAsync();
                    cancelled.Token.ThrowIfCancellationRequested();
                }
            }
        }

        var promised = session with { TurnCount = 1000 };
        await Assert.ThrowsAsync<IOException>(async () => await store.Store.CopyAsync(
            ImportOf(promised, BrokenAsync(new IOException(), null)), Cancel));
        using var cancelled = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
            await store.Store.CopyAsync(ImportOf(promised, BrokenAsync(null, cancelled)), cancelled.Token));

        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ExportAsync());
        Assert.Equal(CopyStatus.Created, (await store.Store.CopyAsync(ImportOf(promised, Turns(store, 1000, 0)), Cancel)).Status);
    }

    [Fact]
    public async Task What_has_expired_is_neither_exported_nor_imported()
    {
        await using var from = await OpenAsync(lifetimeHours: 1);
        await using var to = await OpenAsync(lifetimeHours: 1);
        await from.TurnAsync("old", "user");
        from.Time.Advance(TimeSpan.FromMinutes(30));
        await from.TurnAsync("young", "user");
        to.Time.Advance(TimeSpan.FromHours(1));
        var moved = await MoveAsync(from, to);
        Assert.Equal((CopyStatus.Expired, CopyStatus.Created), (moved["old"], moved["young"]));
        from.Time.Advance(TimeSpan.FromMinutes(30));
        Assert.Equal(["young"], (await MoveAsync(from, to)).Keys);
    }

    [Fact]
    public async Task An_import_does_not_count_for_the_limit_until_the_user_creates_another()
    {
        await using var from = await OpenAsync(maxPerUser: 0);
        await using var to = await OpenAsync(maxPerUser: 2);
        for (var i = 0; i < 4; i++)
        {
            await from.TurnAsync($"s{i}", "user");
            from.Time.Advance(TimeSpan.FromMinutes(1));
        }

        await MoveAsync(from, to);
        Assert.Equal(4, (await to.ListIdsAsync("user")).Count);
        to.Time.Advance(TimeSpan.FromHours(1));
        await to.TurnAsync("new", "user");
        Assert.Equal(["new", "s3"], await to.ListIdsAsync("user"));
    }

    [Fact]
    public async Task An_export_is_of_one_user_or_of_all_and_each_session_stands_before_its_turns()
    {
        await using var store = await OpenAsync();
        for (var i = 0; i < 3; i++)
        {
            await store.TurnAsync("mine", "me");
            await store.TurnAsync("yours", "you");
            await store.TurnAsync("nobody's");
        }

        await store.CreateAsync("empty", "me");

        Assert.Equal(["empty", "mine"], Ids(await store.ExportAsync("me")).Order());
        var all = await store.ExportAsync();
        Assert.Equal(["empty", "mine", "nobody's", "yours"], Ids(all).Order());
        for (var i = 0; i < all.Count; i++)
        {
            Assert.NotEqual(all[i].Session is null, all[i].Turn is null);
            if (all[i].Session is { } session)
            {
                AssertSame((await store.GetAsync(session.Session.Id))! with { LastTurn = null }, session.Session with { LastTurn = null });
                AssertSame(await store.TurnsAsync(session.Session.Id), all.Skip(i + 1).TakeWhile(entry => entry.Turn is not null)
                    .Select(entry => entry.Turn!.Turn));
            }
        }

        Assert.Empty(await store.ExportAsync("ME"));
    }

    [Fact]
    public async Task What_an_export_has_read_before_it_is_taken_is_bounded_in_bytes()
    {
        await using var store = await OpenAsync();
        for (var i = 0; i < 12; i++)
        {
            await store.TurnAsync("large", "ada", new string('x', 1 << 20));
        }

        var whole = 0;
        await foreach (var entry in store.Store.ExportAsync("ada", Cancel))
        {
            if (entry.Turn is not null && ++whole == 1)
            {
                await store.DeleteAsync("large");
            }
        }

        Assert.InRange(whole, 1, 8);
    }

    [Theory]
    [InlineData("nothing")]
    [InlineData("delete")]
    [InlineData("erase")]
    [InlineData("expire")]
    [InlineData("rewrite")]
    [InlineData("append")]
    public async Task An_export_that_nobody_reads_on_holds_up_nobody_and_goes_on_with_what_is_there_then(string meanwhile)
    {
        const int Count = 450;
        await using var store = await OpenAsync();
        var head = await store.CreateAsync("long", "ada");
        await store.DeleteAsync("long");
        Assert.Equal(CopyStatus.Created, (
            await store.Store.CopyAsync(ImportOf(head with { TurnCount = Count }, Turns(store, Count, 0)), Cancel)).Status);
        store.Time.Advance(TimeSpan.FromHours(1));
        await store.TurnAsync("bob's", "bob");
        await store.TurnAsync("cid's", "cid");

        List<Turn> turns = [];
        HashSet<string> sessions = [];
        await foreach (var entry in store.Store.ExportAsync(null, Cancel))
        {
            sessions.Add(entry.Session?.Session.Id ?? "long");
            if (entry.Turn is not { } turn || turn.Turn.Input.ToString() == "query")
            {
                continue;
            }

            turns.Add(turn.Turn);
            if (turns.Count == 1)
            {
                await MeanwhileAsync();

                // Nobody waits for whoever takes what is exported.
                await store.Store.EraseAsync("cid", Cancel);
                await store.TurnAsync("new", "dan", "new");
                await store.DeleteAsync("new");
                await store.Store.SweepAsync(Cancel);
            }
        }

        Assert.Equal(Enumerable.Range(1, turns.Count), turns.Select(turn => turn.Number));
        if (meanwhile is "delete" or "erase" or "expire")
        {
            Assert.InRange(turns.Count, 1, Count - 1);
        }
        else
        {
            Assert.Equal(Count, turns.Count);
            Assert.Equal(meanwhile == "rewrite", turns[Count - 2].Input.IsNone);
        }

        Assert.Contains("long", sessions);
        Assert.True(meanwhile == "expire" || sessions.Contains("bob's"));

        async Task MeanwhileAsync()
        {
            switch (meanwhile)
            {
                case "delete":
                    Assert.True(await store.DeleteAsync("long"));
                    break;
                case "erase":
                    Assert.Equal(new Erasure(1, Count), await store.Store.EraseAsync("ada", Cancel));
                    break;
                case "expire":
                    store.Time.Advance(TimeSpan.FromHours(30));
                    break;
                case "rewrite":
                    var opened = await store.ReadAsync("long", history: 2);
                    Assert.Equal(WriteStatus.Written, (await store.Store.WriteAsync(
                        opened, new ReplaceTurn(opened.Turns[0] with { Input = Items.None }, false), Cancel)).Status);
                    break;
                case "append":
                    await store.TurnAsync("long", "ada", "later");
                    break;
            }
        }
    }

    private static CopyRequest ImportOf(Session head, IAsyncEnumerable<ArchivedTurn> turns, Idempotency? createdBy = null) => new()
    {
        Session = new NewSession(head.Id, head.Key, head.Kind, head.UserId, head.Metadata, head.CreatedFrom, createdBy?.Key),
        Head = head,
        Turns = turns,
        CreatedBy = createdBy,
        Summary = head.Summary,
    };

    private static async Task<Dictionary<string, CopyStatus>> MoveAsync(TestStore from, TestStore to)
    {
        var entries = await from.ExportAsync();
        Dictionary<string, CopyStatus> statuses = [];
        for (var i = 0; i < entries.Count; i++)
        {
            if (entries[i].Session is { } session)
            {
                var turns = entries.Skip(i + 1).TakeWhile(entry => entry.Turn is not null).Select(entry => entry.Turn!);
                var moved = await to.Store.CopyAsync(ImportOf(session.Session, turns.ToAsyncEnumerable(), session.CreatedBy), Cancel);
                statuses.Add(session.Session.Id, moved.Status);
            }
        }

        return statuses;
    }

    private static IAsyncEnumerable<ArchivedTurn> Turns(TestStore store, int count, int missing) =>
        Enumerable.Range(1, count).Where(number => number != missing).Select(number => new ArchivedTurn(new Turn
        {
            Number = number,
            Parent = number - 1,
            RunStart = 1,
            Nonce = TurnNonce.OfNumber(number),
            Input = Items.OfText($"q{number}"),
            Output = Items.OfText("response"),
            AgentType = "advanced",
            AgentUsed = "builtin",
            CreatedAt = store.Time.GetUtcNowMicroseconds(),
        }, null)).ToAsyncEnumerable();
}
