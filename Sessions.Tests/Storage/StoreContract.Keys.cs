namespace Sessions.Tests.Storage;

/// <content>Idempotency: requests that were answered, and ids that were reserved.</content>
public abstract partial class StoreContract
{
    [Fact]
    public async Task A_request_with_a_key_is_answered_once()
    {
        await using var store = await OpenAsync();
        var key = NewIdempotency();
        await store.TurnAsync("a", "user", "before");
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(await store.BeginAsync("a", "user", idempotency: key), "keyed"))
            .Status);
        await store.TurnAsync("a", "user", "another");

        var again = await store.BeginAsync("a", "user", idempotency: key);
        var changed = await store.BeginAsync("a", "user", idempotency: key with { Body = Guid.NewGuid() });
        var elsewhere = await store.BeginAsync("b", "user", idempotency: key);

        Assert.Equal(OpenStatus.Replayed, again.Status);
        AssertSame([(await store.TurnsAsync("a"))[1]], [again.Replay!]);
        Assert.Equal("keyed", again.Replay!.Input.ToString());
        Assert.Equal(3, again.Session!.TurnCount);
        Assert.Equal(OpenStatus.KeyReused, changed.Status);
        Assert.Null(changed.Replay);
        Assert.Equal(OpenStatus.Opened, elsewhere.Status);
        Assert.Equal(OpenStatus.NotFound, (await store.BeginAsync("a", "other", idempotency: key)).Status);
        await store.Store.ReleaseAsync(elsewhere);

        // Nothing was held, and what is remembered does not stand before an answer.
        var known = RememberedOf((await store.GetAsync("a"))!);
        Assert.Equal(OpenStatus.Replayed, (await store.Store.OpenAsync(
            new OpenRequest
            {
                Session = SessionRef.ById("a"),
                Owner = Owner.Anyone,
                Idempotency = key,
                Remembered = known,
            }, Cancel)).Status);
        await store.TurnAsync("a", "user");
        Assert.Equal(4, (await store.GetAsync("a"))!.TurnCount);
    }

    [Fact]
    public async Task A_failed_turn_does_not_use_up_its_key()
    {
        await using var store = await OpenAsync();
        var key = NewIdempotency();
        await store.FailAsync(await store.BeginAsync("a", idempotency: key));
        await store.Store.ReleaseAsync(await store.BeginAsync("a", idempotency: key));

        var again = await store.BeginAsync("a", idempotency: key);

        Assert.Equal(OpenStatus.Opened, again.Status);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(again)).Status);
        Assert.Equal(OpenStatus.Replayed, (await store.BeginAsync("a", idempotency: key)).Status);
    }

    [Fact]
    public async Task A_key_is_answered_once_also_where_branches_grow_side_by_side()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("chain", kind: SessionKind.Chain);
        var key = NewIdempotency();
        var first = await store.BeginAsync("chain", idempotency: key, lease: TestStore.NewLease(isExclusive: false));
        var second = await store.BeginAsync("chain", idempotency: key, lease: TestStore.NewLease(isExclusive: false));

        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(first, "first", besideOthers: true)).Status);
        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(second, "second", besideOthers: true)).Status);

        Assert.Equal("first", (await store.BeginAsync("chain", idempotency: key)).Replay!.Input.ToString());
        Assert.Equal(2, (await store.TurnsAsync("chain")).Count);
    }

    [Fact]
    public async Task Keys_end_with_their_session()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        var key = NewIdempotency();
        await store.AppendAsync(await store.BeginAsync("a", idempotency: key));
        store.Time.Advance(TimeSpan.FromHours(2));

        var again = await store.BeginAsync("a", idempotency: key);
        Assert.Equal(OpenStatus.Opened, again.Status);
        Assert.Null(again.Session);
        await store.AppendAsync(again);
        await store.DeleteAsync("a");

        again = await store.BeginAsync("a", idempotency: key);
        Assert.Equal(OpenStatus.Opened, again.Status);
        Assert.Null(again.Session);
        await store.Store.ReleaseAsync(again);
    }

    [Fact]
    public async Task A_replayed_turn_shows_nothing_that_was_deleted_of_it()
    {
        await using var store = await OpenAsync();
        var key = NewIdempotency();
        await store.AppendAsync(await store.BeginAsync("a", idempotency: key));
        var opened = await store.ReadAsync("a", history: 1);
        await store.Store.WriteAsync(opened, new ReplaceTurn(opened.Turns[0] with { Output = Items.None }, false), Cancel);

        Assert.True((await store.BeginAsync("a", idempotency: key)).Replay!.Output.IsNone);
    }

    [Fact]
    public async Task A_reserved_session_id_stays_the_same_for_the_same_request()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        var key = NewIdempotency();

        Assert.Equal(new KeyReservation("a", SameBody: true, IsNew: true), await store.Store.ReserveAsync(key, Owner.Anyone, "a", Cancel));
        Assert.Equal(new KeyReservation("a", SameBody: true, IsNew: false),
            await store.Store.ReserveAsync(key, Owner.Anyone, "b", Cancel));
        Assert.False((await store.Store.ReserveAsync(key with { Body = Guid.NewGuid() }, Owner.Anyone, "b", Cancel)).SameBody);
        Assert.Equal("b", (await store.Store.ReserveAsync(key with { Key = Guid.NewGuid() }, Owner.Anyone, "b", Cancel)).SessionId);

        // Nothing came of it: it ends like an idle session.
        store.Time.Advance(TimeSpan.FromHours(2));
        Assert.Equal(new KeyReservation("c", SameBody: true, IsNew: true), await store.Store.ReserveAsync(key, Owner.Anyone, "c", Cancel));
    }

    [Fact]
    public async Task A_reservation_lasts_as_long_as_its_session()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        var key = NewIdempotency();
        await store.Store.ReserveAsync(key, Owner.Anyone, "a", Cancel);
        await store.AppendAsync(await store.BeginAsync("a", idempotency: key), reservedBy: key.Key);
        for (var i = 0; i < 4; i++)
        {
            store.Time.Advance(TimeSpan.FromMinutes(40));
            await store.TurnAsync("a");
            await store.Store.SweepAsync(Cancel);
            Assert.Equal("a", (await store.Store.ReserveAsync(key, Owner.Anyone, "x", Cancel)).SessionId);
        }

        await store.DeleteAsync("a");
        Assert.Equal("y", (await store.Store.ReserveAsync(key, Owner.Anyone, "y", Cancel)).SessionId);
    }

    [Fact]
    public async Task A_reservation_ends_with_its_session_however_that_ends()
    {
        await using var store = await OpenAsync(maxPerUser: 1, lifetimeHours: 1);
        Idempotency erased = NewIdempotency(), evicted = NewIdempotency(), expired = NewIdempotency();
        async Task CreateAsync(Idempotency key, string id, string? user)
        {
            await store.Store.ReserveAsync(key, Owner.Claiming(user), id, Cancel);
            await store.Store.CopyAsync(new CopyRequest { Session = TestStore.New(id, user, reservedBy: key.Key) }, Cancel);
        }

        await CreateAsync(erased, "erased", "ada");
        await store.Store.EraseAsync("ada", Cancel);
        Assert.Equal("new", (await store.Store.ReserveAsync(erased, Owner.Anyone, "new", Cancel)).SessionId);
        await CreateAsync(evicted, "evicted", "bob");
        await store.TurnAsync("other", "bob");
        Assert.Equal("new", (await store.Store.ReserveAsync(evicted, Owner.Anyone, "new", Cancel)).SessionId);
        await CreateAsync(expired, "expired", "cid");
        store.Time.Advance(TimeSpan.FromHours(1));
        Assert.Equal("new", (await store.Store.ReserveAsync(expired, Owner.Anyone, "new", Cancel)).SessionId);
    }

    [Fact]
    public async Task A_renewed_reservation_does_not_end_with_the_one_before()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        var key = NewIdempotency();
        await store.Store.ReserveAsync(key, Owner.Anyone, "a", Cancel);
        store.Time.Advance(TimeSpan.FromHours(1));
        Assert.Equal(new KeyReservation("b", SameBody: true, IsNew: true), await store.Store.ReserveAsync(key, Owner.Anyone, "b", Cancel));

        await store.Store.SweepAsync(Cancel);
        for (var i = 0; i < 50; i++)
        {
            await store.CreateAsync($"s{i}");
        }

        Assert.Equal(new KeyReservation("b", SameBody: true, IsNew: false),
            await store.Store.ReserveAsync(key, Owner.Anyone, "c", Cancel));
        store.Time.Advance(TimeSpan.FromHours(1) - TimeSpan.FromMicroseconds(1));
        Assert.Equal("b", (await store.Store.ReserveAsync(key, Owner.Anyone, "c", Cancel)).SessionId);
        store.Time.Advance(TimeSpan.FromMicroseconds(1));
        Assert.Equal("c", (await store.Store.ReserveAsync(key, Owner.Anyone, "c", Cancel)).SessionId);
    }

    [Fact]
    public async Task A_renewed_reservation_does_not_end_with_the_expired_session_that_had_its_id()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        var key = NewIdempotency();
        async Task ReserveAndCreateAsync()
        {
            Assert.Equal(new KeyReservation("a", SameBody: true, IsNew: true),
                await store.Store.ReserveAsync(key, Owner.Anyone, "a", Cancel));
            var created = new CopyRequest { Session = TestStore.New("a", reservedBy: key.Key) };
            Assert.Equal(CopyStatus.Created, (await store.Store.CopyAsync(created, Cancel)).Status);
        }

        await ReserveAndCreateAsync();
        store.Time.Advance(TimeSpan.FromHours(1));
        await ReserveAndCreateAsync();
        await store.Store.SweepAsync(Cancel);

        Assert.Equal(new KeyReservation("a", SameBody: true, IsNew: false),
            await store.Store.ReserveAsync(key, Owner.Anyone, "b", Cancel));
    }

    [Fact]
    public async Task Of_many_that_reserve_by_one_key_at_once_all_get_the_same_id()
    {
        await using var store = await OpenAsync();
        var key = NewIdempotency();

        var reserved = await Task.WhenAll(Enumerable.Range(0, 16)
            .Select(i => Task.Run(async () => await store.Store.ReserveAsync(key, Owner.Anyone, $"s{i}", Cancel), Cancel)));

        Assert.Single(reserved, reservation => reservation.IsNew);
        Assert.Single(reserved.Select(reservation => reservation.SessionId).Distinct());
    }

    [Fact]
    public async Task Where_there_is_no_room_for_the_session_nothing_is_kept_of_its_key()
    {
        const int Bound = 10_000;
        await using var store = await OpenAsync(NewPolicy(lifetimeHours: 2, unownedBytes: Bound), new(Start));
        var (before, key, users) = (NewIdempotency(), NewIdempotency(), NewIdempotency());
        await store.Store.ReserveAsync(before, Owner.Anyone, "before", Cancel);
        await store.TurnAsync("seen", null, new string('x', Bound - 1000), "");

        foreach (var owner in (Owner[])[Owner.Anyone, Owner.Nobody])
        {
            var full = await Assert.ThrowsAsync<DomainException>(async () => await store.Store.ReserveAsync(key, owner, "a", Cancel));
            Assert.Equal(("storage_full", "limits.unowned_bytes"), (full.Error.Code, full.Error.Limit));
        }

        // What is tied already is found; and a user's is another's room.
        Assert.Equal(new KeyReservation("before", SameBody: true, IsNew: false),
            await store.Store.ReserveAsync(before, Owner.Anyone, "b", Cancel));
        Assert.False((await store.Store.ReserveAsync(before with { Body = Guid.NewGuid() }, Owner.Anyone, "b", Cancel)).SameBody);
        Assert.True((await store.Store.ReserveAsync(users, Owner.Claiming("user"), "c", Cancel)).IsNew);

        await store.DeleteAsync("seen");
        Assert.Equal(new KeyReservation("d", SameBody: true, IsNew: true), await store.Store.ReserveAsync(key, Owner.Anyone, "d", Cancel));

        // Chains make room, and so does what has expired.
        await store.TurnAsync("chain", null, new string('x', Bound - 1000), "", kind: SessionKind.Chain);
        Assert.True((await store.Store.ReserveAsync(NewIdempotency(), Owner.Anyone, "e", Cancel)).IsNew);
        await store.DeleteAsync("chain");
        await store.TurnAsync("seen", null, new string('x', Bound - 1000), "");
        store.Time.Advance(TimeSpan.FromHours(1));
        await Assert.ThrowsAsync<DomainException>(async () => await store.Store.ReserveAsync(NewIdempotency(), Owner.Anyone, "f", Cancel));
        store.Time.Advance(TimeSpan.FromHours(1));
        await store.Store.SweepAsync(Cancel);
        Assert.True((await store.Store.ReserveAsync(before, Owner.Anyone, "g", Cancel)).IsNew);
    }

    private static Idempotency NewIdempotency() => new(Guid.NewGuid(), Guid.NewGuid());
}
