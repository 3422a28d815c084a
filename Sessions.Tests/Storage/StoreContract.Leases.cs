using System.Diagnostics;

namespace Sessions.Tests.Storage;

/// <content>Leases: several processes on one store.</content>
public abstract partial class StoreContract
{
    private static readonly TimeSpan ShortLease = TimeSpan.FromMilliseconds(300);

    // For longer than any test takes.
    private static LeaseRequest NewWaitingLease() =>
        TestStore.NewLease() with { Waits = true, WaiterTimeout = TimeSpan.FromMinutes(10) };

    [Fact]
    public async Task Where_there_are_no_leases_nobody_is_kept_away_and_nothing_is_asked_to_stop()
    {
        await using var store = await OpenAsync();
        Assert.SkipWhen(store.Store.Capabilities.HasLeases, "This store has leases.");
        await store.TurnAsync("a");
        var first = await store.BeginAsync("a");
        var second = await store.BeginAsync("a");

        Assert.Equal((OpenStatus.Opened, OpenStatus.Opened), (first.Status, second.Status));
        Assert.Equal(LeaseState.Held, await store.Store.RenewAsync(first, Cancel));
        Assert.False(await store.Store.CancelAsync(SessionRef.ById("a"), Owner.Anyone, Cancel));
    }

    [Fact]
    public async Task One_at_a_time_has_a_session_also_one_that_is_not_there_yet()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await store.TurnAsync("old");
        foreach (var id in (string[])["old", "new"])
        {
            var first = await store.BeginAsync(id);
            Assert.Equal(OpenStatus.Opened, first.Status);
            var busy = await other.BeginAsync(id);
            Assert.Equal(OpenStatus.Busy, busy.Status);
            Assert.Equal(OpenStatus.Busy, (await store.BeginAsync(id)).Status);
            await other.Store.ReleaseAsync(busy);
            Assert.Equal(OpenStatus.Busy, (await other.BeginAsync(id)).Status);

            // Reading needs nothing.
            Assert.Equal(id == "old" ? 1 : null, (await other.GetAsync(id))?.TurnCount);
            Assert.Equal(LeaseState.Held, await store.Store.RenewAsync(first, Cancel));
            Assert.Equal(WriteStatus.Written, (await store.AppendAsync(first)).Status);

            // The change let go of it.
            var next = await other.BeginAsync(id);
            Assert.Equal(OpenStatus.Opened, next.Status);
            Assert.Equal(OpenStatus.Busy, (await store.BeginAsync(id)).Status);
            await other.FailAsync(next);
            var third = await store.BeginAsync(id);
            Assert.Equal(OpenStatus.Opened, third.Status);
            await store.Store.ReleaseAsync(third);
            await other.TurnAsync(id);
        }
    }

    [Fact]
    public async Task Who_comes_with_the_same_token_has_it_already()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        var lease = TestStore.NewLease();
        Assert.Equal(OpenStatus.Opened, (await store.BeginAsync("a", lease: lease)).Status);

        var again = await store.BeginAsync("a", lease: lease);
        Assert.Equal(OpenStatus.Opened, again.Status);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(again)).Status);
    }

    [Fact]
    public async Task Releasing_lets_go_of_ones_own_lease_alone()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await store.TurnAsync("a");
        var first = await store.BeginAsync("a");
        await store.Store.ReleaseAsync(first);
        var second = await store.BeginAsync("a");
        await store.Store.ReleaseAsync(first);

        Assert.Equal(OpenStatus.Busy, (await store.BeginAsync("a")).Status);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(second, besideOthers: true)).Status);
    }

    [Fact]
    public async Task Neither_a_replay_nor_a_refusal_holds_anything()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        var key = NewIdempotency();
        await store.AppendAsync(await store.BeginAsync("a", "user", idempotency: key));

        Assert.Equal(OpenStatus.Replayed, (await store.BeginAsync("a", idempotency: key)).Status);
        Assert.Equal(OpenStatus.KeyReused, (await store.BeginAsync("a", idempotency: key with { Body = Guid.NewGuid() })).Status);
        Assert.Equal(OpenStatus.NotFound, (await store.BeginAsync("a", "other")).Status);
        Assert.Equal(OpenStatus.NoSuchTurn, (await store.BeginAsync("a", tip: 7)).Status);

        var held = await store.BeginAsync("a");
        Assert.Equal(OpenStatus.Opened, held.Status);

        // And an answer is given also while somebody has the session.
        Assert.Equal(OpenStatus.Replayed, (await store.BeginAsync("a", idempotency: key)).Status);
        Assert.Equal(OpenStatus.NotFound, (await store.BeginAsync("a", "other")).Status);
        await store.Store.ReleaseAsync(held);
    }

    [Fact]
    public async Task A_lease_that_ran_out_is_the_next_ones_and_the_first_can_write_no_more()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await store.TurnAsync("a");
        var late = await store.BeginAsync("a", lease: TestStore.NewLease() with { Duration = ShortLease });
        Assert.Equal(OpenStatus.Opened, late.Status);

        var next = await ComesFreeAsync(other, "a");

        Assert.Equal(LeaseState.Lost, await store.Store.RenewAsync(late, Cancel));
        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(late, "late")).Status);
        await store.Store.ReleaseAsync(late);
        Assert.Equal(OpenStatus.Busy, (await store.BeginAsync("a")).Status);
        Assert.Equal(WriteStatus.Written, (await other.AppendAsync(next, "next")).Status);
        Assert.Equal("next", (await store.GetAsync("a"))!.LastTurn!.Input.ToString());
        Assert.Equal(2, (await store.GetAsync("a"))!.TurnCount);
    }

    [Fact]
    public async Task A_first_turn_whose_lease_ran_out_does_not_come_before_the_next_ones()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        var late = await store.BeginAsync("a", lease: TestStore.NewLease() with { Duration = ShortLease });

        var next = await ComesFreeAsync(other, "a");

        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(late, "late")).Status);
        Assert.Null(await store.GetAsync("a"));
        Assert.Equal(WriteStatus.Written, (await other.AppendAsync(next, "next")).Status);
        Assert.Equal("next", Assert.Single(await store.TurnsAsync("a")).Input.ToString());
    }

    [Fact]
    public async Task A_lease_that_ran_out_and_that_nobody_took_is_taken_again()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await store.TurnAsync("a");
        var lease = TestStore.NewLease();
        var opened = await store.BeginAsync("a", lease: lease);

        // Short until here only: taken again, it lasts for as long as it was opened for.
        Assert.Equal(OpenStatus.Opened, (await store.BeginAsync("a", lease: lease with { Duration = ShortLease })).Status);
        var free = await ComesFreeAsync(store, "a");
        await store.Store.ReleaseAsync(free);

        Assert.Equal(LeaseState.Held, await store.Store.RenewAsync(opened, Cancel));
        Assert.Equal(OpenStatus.Busy, (await store.BeginAsync("a")).Status);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(opened)).Status);
    }

    [Fact]
    public async Task Whoever_leaves_while_it_opens_holds_nothing()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await store.TurnAsync("there");

        // Somewhere between the first step and the last, of a session that is there and of one that is not.
        for (var i = 0; i < 100; i++)
        {
            foreach (var id in (string[])["there", $"new{i}"])
            {
                using var leaves = new CancellationTokenSource();
                leaves.CancelAfter(TimeSpan.FromMicroseconds(50 * i));
                try
                {
                    var request = new OpenRequest { Session = SessionRef.ById(id), Owner = Owner.Anyone, Lease = TestStore.NewLease() };
                    await store.Store.ReleaseAsync(await store.Store.OpenAsync(request, leaves.Token));
                }
                catch (OperationCanceledException)
                {
                    // Its client has left.
                }

                var next = await store.BeginAsync(id);
                Assert.Equal(OpenStatus.Opened, next.Status);
                await store.Store.ReleaseAsync(next);
            }
        }
    }

    [Fact]
    public async Task Who_waits_keeps_a_place_in_front_of_those_who_come_later()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await store.TurnAsync("a");
        var running = await store.BeginAsync("a");
        var waiting = TestStore.NewLease() with { Waits = true, WaiterTimeout = TimeSpan.FromMinutes(1) };
        Assert.Equal(OpenStatus.Busy, (await other.BeginAsync("a", lease: waiting)).Status);
        Assert.Equal(OpenStatus.Busy, (await store.BeginAsync("a")).Status);
        await store.AppendAsync(running);

        Assert.Equal(OpenStatus.Busy, (await store.BeginAsync("a")).Status);
        var turn = await other.BeginAsync("a", lease: waiting);
        Assert.Equal(OpenStatus.Opened, turn.Status);
        Assert.Equal(2, turn.Session!.TurnCount);
        await other.AppendAsync(turn);
        await store.TurnAsync("a");
    }

    [Fact]
    public async Task A_place_is_kept_no_longer_than_was_asked_for()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await store.TurnAsync("a");
        var running = await store.BeginAsync("a");
        Assert.Equal(OpenStatus.Busy,
            (await store.BeginAsync("a", lease: TestStore.NewLease() with { Waits = true, WaiterTimeout = ShortLease })).Status);
        await store.AppendAsync(running);

        await store.Store.ReleaseAsync(await ComesFreeAsync(store, "a"));
    }

    [Fact]
    public async Task A_place_that_is_given_up_keeps_nobody_away()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await store.TurnAsync("old");
        foreach (var id in (string[])["old", "new"])
        {
            var running = await store.BeginAsync(id);
            var busy = await other.BeginAsync(id, lease: NewWaitingLease());
            Assert.Equal(OpenStatus.Busy, busy.Status);
            await other.Store.ReleaseAsync(busy);
            Assert.Equal(WriteStatus.Written, (await store.AppendAsync(running)).Status);

            await store.TurnAsync(id);
        }
    }

    [Fact]
    public async Task A_lease_that_is_held_is_kept_whoever_waits_for_it()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await store.TurnAsync("old");
        foreach (var id in (string[])["old", "new"])
        {
            var lease = NewWaitingLease();
            Assert.Equal(OpenStatus.Opened, (await store.BeginAsync(id, lease: lease)).Status);
            var busy = await other.BeginAsync(id, lease: NewWaitingLease());
            Assert.Equal(OpenStatus.Busy, busy.Status);

            // Later, so that it is another lease than the one that is there.
            store.Time.Advance(TimeSpan.FromMilliseconds(1));
            var again = await store.BeginAsync(id, lease: lease);
            Assert.Equal(OpenStatus.Opened, again.Status);
            Assert.Equal(WriteStatus.Written, (await store.AppendAsync(again)).Status);
            Assert.Equal(OpenStatus.Opened, (await other.BeginAsync(id, lease: busy.Request.Lease)).Status);
        }
    }

    [Fact]
    public async Task Who_is_answered_or_refused_keeps_no_place()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        var key = NewIdempotency();
        await store.AppendAsync(await store.BeginAsync("a", "user", idempotency: key));
        foreach (var (status, openAsync) in (IEnumerable<(OpenStatus, Func<ValueTask<OpenedSession>>)>)
            [
                (OpenStatus.NotFound, () => other.BeginAsync("a", "other", lease: NewWaitingLease())),
                (OpenStatus.NotFound, () => other.BeginAsync("a", Owner.Nobody, lease: NewWaitingLease())),
                (OpenStatus.Replayed, () => other.BeginAsync("a", "user", idempotency: key, lease: NewWaitingLease())),
                (OpenStatus.KeyReused,
                    () => other.BeginAsync("a", "user", idempotency: key with { Body = Guid.NewGuid() }, lease: NewWaitingLease())),
                (OpenStatus.NoSuchTurn, () => other.BeginAsync("a", "user", tip: 70, lease: NewWaitingLease())),
            ])
        {
            var running = await store.BeginAsync("a", "user");
            Assert.Equal(status, (await openAsync()).Status);
            Assert.Equal(WriteStatus.Written, (await store.AppendAsync(running)).Status);

            await store.TurnAsync("a", "user");
        }
    }

    [Fact]
    public async Task A_first_turn_on_another_replica_is_asked_to_stop()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        foreach (var user in (string?[])[null, "user"])
        {
            var id = $"of {user}";
            var running = await store.BeginAsync(id, user);
            Assert.Equal(user is null, await other.Store.CancelAsync(SessionRef.ById(id), Owner.Nobody, Cancel));
            Assert.False(await other.Store.CancelAsync(SessionRef.ById(id), Owner.Of("other"), Cancel));
            Assert.Equal(user is null ? LeaseState.Cancelled : LeaseState.Held, await store.Store.RenewAsync(running, Cancel));

            Assert.True(await other.Store.CancelAsync(SessionRef.ById(id), Owner.Claiming(user), Cancel));
            Assert.Equal(LeaseState.Cancelled, await store.Store.RenewAsync(running, Cancel));
            Assert.Equal(WriteStatus.Written, (await store.AppendAsync(running)).Status);
            Assert.False(await other.Store.CancelAsync(SessionRef.ById(id), Owner.Anyone, Cancel));
        }
    }

    [Fact]
    public async Task A_turn_on_another_replica_is_asked_to_stop()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await store.TurnAsync("a", "user");
        Assert.False(await other.Store.CancelAsync(SessionRef.ById("a"), Owner.Anyone, Cancel));
        var running = await store.BeginAsync("a", "user");
        var key = SessionRef.ByKey(running.Session!.Key);

        Assert.False(await other.Store.CancelAsync(SessionRef.ById("a"), Owner.Of("other"), Cancel));
        Assert.False(await other.Store.CancelAsync(SessionRef.ById("b"), Owner.Anyone, Cancel));
        Assert.Equal(LeaseState.Held, await store.Store.RenewAsync(running, Cancel));
        Assert.True(await other.Store.CancelAsync(key, Owner.Of("user"), Cancel));
        Assert.Equal(LeaseState.Cancelled, await store.Store.RenewAsync(running, Cancel));

        // What was told so far is kept; and the next turn is another one.
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(running)).Status);
        var next = await store.BeginAsync("a", "user");
        Assert.Equal(LeaseState.Held, await store.Store.RenewAsync(next, Cancel));
        await store.Store.ReleaseAsync(next);
    }

    [Fact]
    public async Task What_is_deleted_or_erased_elsewhere_is_lost()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        foreach (var isNew in (bool[])[false, true])
        {
            foreach (var erases in (bool[])[false, true])
            {
                if (!isNew)
                {
                    await store.TurnAsync("a", "user");
                }

                var running = await store.BeginAsync("a", "user");
                Assert.Equal(OpenStatus.Opened, running.Status);
                if (erases)
                {
                    Assert.Equal(isNew ? 0 : 1, (await other.Store.EraseAsync("user", Cancel)).Sessions);
                }
                else
                {
                    Assert.Equal(!isNew, await other.DeleteAsync("a"));
                }

                Assert.Equal(LeaseState.Lost, await store.Store.RenewAsync(running, Cancel));
                Assert.NotEqual(WriteStatus.Written, (await store.AppendAsync(running)).Status);
                Assert.Null(await other.GetAsync("a"));
                Assert.Empty(await other.ListIdsAsync("user"));

                // Nothing of it holds up who comes next.
                await other.TurnAsync("a", "user");
                await store.TurnAsync("a", "user");
                await store.DeleteAsync("a");
            }
        }
    }

    [Fact]
    public async Task A_session_that_was_opened_and_never_came_to_be_is_nowhere()
    {
        await using var store = await OpenAsync(maxPerUser: 2);
        await store.TurnAsync("a", "user");
        await store.TurnAsync("b", "user");
        for (var i = 0; i < 5; i++)
        {
            var opened = await store.BeginAsync($"never{i}", "user");
            if (i % 2 == 0)
            {
                await store.Store.ReleaseAsync(opened);
            }
        }

        Assert.Equal(["a", "b"], (await store.ListIdsAsync("user")).Order());
        Assert.Equal(["a", "b"], (await store.ListIdsAsync(null)).Order());
        Assert.Equal(["a", "b"], Ids(await store.ExportAsync()).Order());
        Assert.Equal(2, await store.CountAsync());
        Assert.Equal(new Erasure(2, 2), await store.Store.EraseAsync("user", Cancel));
    }

    [Fact]
    public async Task Sessions_that_another_replica_has_are_the_last_to_make_room()
    {
        await using var store = await OpenAsync(maxPerUser: 2);
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await FillWithTwoAsync(store);
        var running = await other.BeginAsync("a", "user");

        await store.TurnAsync("c", "user");

        Assert.Equal(["c", "a"], await store.ListIdsAsync("user"));
        Assert.Equal(WriteStatus.Written, (await other.AppendAsync(running)).Status);
    }

    [Fact]
    public async Task A_session_that_another_replicas_turn_goes_on_from_is_too_and_keeps_nobody_waiting()
    {
        await using var store = await OpenAsync(maxPerUser: 2);
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await FillWithTwoAsync(store);
        var source = await other.BeginAsync("a", "user", lease: TestStore.NewLease(isExclusive: false));
        Assert.Equal(LeaseState.Held, await other.Store.RenewAsync(source, Cancel));

        // It makes no room, and is no turn that could be waited for or stopped.
        await store.TurnAsync("c", "user");
        Assert.Equal(["c", "a"], await store.ListIdsAsync("user"));
        Assert.False(await store.Store.CancelAsync(SessionRef.ById("a"), Owner.Anyone, Cancel));
        Assert.Equal(LeaseState.Held, await other.Store.RenewAsync(source, Cancel));
        var turn = await store.BeginAsync("a", "user");
        Assert.Equal(OpenStatus.Opened, turn.Status);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(turn)).Status);
        Assert.Equal(LeaseState.Held, await other.Store.RenewAsync(source, Cancel));

        // Until it ends.
        await other.Store.ReleaseAsync(source);
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("c", "user");
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("d", "user");
        Assert.Equal(["d", "c"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_chain_that_another_replica_has_is_the_last_to_make_room()
    {
        await using var store = await OpenAsync(NewPolicy(chainBytes: 3 * Room), new(Start));
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await FillAsync(store, "a", "user", SessionKind.Chain);
        await FillAsync(store, "b", "user", SessionKind.Chain);

        var running = await other.BeginAsync("a", "user", lease: TestStore.NewLease(isExclusive: false));
        Assert.Equal(LeaseState.Held, await other.Store.RenewAsync(running, Cancel));
        await FillAsync(store, "c", "user", SessionKind.Chain, 2);

        Assert.NotNull(await store.GetAsync("a"));
        Assert.Null(await store.GetAsync("b"));
        Assert.Equal(WriteStatus.Written, (await other.AppendAsync(running)).Status);

        // With its turn that ends: then it goes before one that was used later.
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("c", "user", kind: SessionKind.Chain);
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await FillAsync(store, "d", "user", SessionKind.Chain);
        Assert.Null(await store.GetAsync("a"));
        Assert.NotNull(await store.GetAsync("c"));
    }

    [Theory]
    [InlineData("released")]
    [InlineData("committed")]
    [InlineData("failed")]
    public async Task A_chain_that_two_turns_need_is_needed_until_both_have_ended(string end)
    {
        await using var store = await OpenAsync(NewPolicy(chainBytes: 3 * Room), new(Start));
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await FillAsync(store, "a", "user", SessionKind.Chain);
        await FillAsync(store, "b", "user", SessionKind.Chain);
        var running = await other.BeginAsync("a", "user", lease: TestStore.NewLease(isExclusive: false));
        var second = await store.BeginAsync("a", "user", lease: TestStore.NewLease(isExclusive: false));

        switch (end)
        {
            case "committed":
                Assert.Equal(WriteStatus.Written, (await store.AppendAsync(second, besideOthers: true)).Status);
                break;
            case "failed":
                Assert.Equal(WriteStatus.Written, (await store.FailAsync(second)).Status);
                break;
        }

        await store.Store.ReleaseAsync(second);
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("b", "user", kind: SessionKind.Chain);
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await FillAsync(store, "c", "user", SessionKind.Chain, 2);

        Assert.NotNull(await store.GetAsync("a"));
        Assert.Null(await store.GetAsync("b"));
        Assert.Equal(LeaseState.Held, await other.Store.RenewAsync(running, Cancel));
        Assert.Equal(WriteStatus.Written, (await other.AppendAsync(running, besideOthers: true)).Status);
    }

    [Fact]
    public async Task Two_replicas_see_what_the_other_has_written()
    {
        await using var store = await OpenAsync(maxPerUser: 3);
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        var key = NewIdempotency();
        for (var i = 0; i < 6; i++)
        {
            var (one, two) = i % 2 == 0 ? (store, other) : (other, store);
            await one.TurnAsync($"s{i}", "user");
            await one.TurnAsync("shared");
            Assert.Equal(i + 1, (await two.TurnsAsync("shared")).Count);
            AssertSame(await one.GetAsync("shared"), await two.GetAsync("shared"));
            Assert.Equal(await one.ListIdsAsync("user"), await two.ListIdsAsync("user"));
            Assert.Equal(await one.CountAsync(), await two.CountAsync());
            store.Time.Advance(TimeSpan.FromSeconds(1));
        }

        await store.AppendAsync(await store.BeginAsync("shared", idempotency: key), "keyed");
        Assert.Equal("keyed", (await other.BeginAsync("shared", idempotency: key)).Replay!.Input.ToString());
        await store.Store.ReserveAsync(key, Owner.Anyone, "reserved", Cancel);
        Assert.Equal("reserved", (await other.Store.ReserveAsync(key, Owner.Anyone, "x", Cancel)).SessionId);
    }

    [Fact]
    public async Task Turns_of_two_replicas_on_one_session_leave_no_gap_and_no_double()
    {
        await using var store = await OpenAsync();
        SkipWithoutLeases(store);
        await using var other = await store.OpenAnotherAsync();
        await Task.WhenAll(Enumerable.Range(0, 6).Select(client => Task.Run(async () =>
        {
            var mine = client % 2 == 0 ? store : other;
            var lease = TestStore.NewLease() with { Waits = true, WaiterTimeout = TimeSpan.FromSeconds(10) };
            for (var i = 0; i < 8;)
            {
                var opened = await mine.BeginAsync("a", history: 1, lease: lease);
                if (opened.Status == OpenStatus.Busy)
                {
                    await Task.Delay(2, Cancel);
                    continue;
                }

                Assert.Equal(WriteStatus.Written, (await mine.AppendAsync(opened, $"{client}-{i}")).Status);
                lease = lease with { Token = Guid.NewGuid() };
                i++;
            }
        }, Cancel)));

        var turns = await store.TurnsAsync("a");
        Assert.Equal(Enumerable.Range(1, 48), turns.Select(turn => turn.Number));
        Assert.Equal(48, turns.Select(turn => turn.Input.ToString()).Distinct().Count());
    }

    // As many as a user may have, "a" the older one.
    private static async Task FillWithTwoAsync(TestStore store)
    {
        foreach (var id in (string[])["a", "b"])
        {
            await store.TurnAsync(id, "user");
            store.Time.Advance(TimeSpan.FromSeconds(1));
        }
    }

    private static void SkipWithoutLeases(TestStore store) =>
        Assert.SkipUnless(store.Store.Capabilities.HasLeases, "This store declares no leases: one process alone has it.");

    // A lease or a place runs out by the store's clock or by the server's own: whichever it is, it goes on here.
    private static async Task<OpenedSession> ComesFreeAsync(TestStore store, string id)
    {
        for (var started = Stopwatch.GetTimestamp(); ;)
        {
            var opened = await store.BeginAsync(id);
            if (opened.Status == OpenStatus.Opened)
            {
                return opened;
            }

            Assert.Equal(OpenStatus.Busy, opened.Status);
            Assert.True(Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(20), "The lease never ran out.");
            store.Time.Advance(TimeSpan.FromMilliseconds(20));
            await Task.Delay(20, Cancel);
        }
    }
}
