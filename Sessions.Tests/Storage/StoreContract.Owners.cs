namespace Sessions.Tests.Storage;

/// <content>Ownership. No HTTP here, and nothing that checks before the store does: it is the store itself that refuses.</content>
public abstract partial class StoreContract
{
    private const string Victim = "victim";

    /// <summary>Owners by name, and what they may have: the victim's sessions, those of nobody.</summary>
    public static TheoryData<string, bool, bool> Owners => new()
    {
        { "anyone", true, true },
        { "the victim", true, false },
        { "the victim, claiming", true, true },
        { "another", false, false },
        { "another, claiming", false, true },
        { "the victim in capitals", false, false },
        { "nobody", false, true },
        { "none", false, false },
    };

    [Theory]
    [MemberData(nameof(Owners))]
    public async Task A_bound_session_is_only_for_its_user(string owner, bool has, bool _) => await HasAsync(Named(owner), Victim, has);

    [Theory]
    [MemberData(nameof(Owners))]
    public async Task An_unbound_session_is_only_for_those_who_may_have_what_is_nobodys(string owner, bool _, bool has) =>
        await HasAsync(Named(owner), null, has);

    [Fact]
    public async Task A_turn_of_another_user_on_a_session_that_came_meanwhile_leaves_no_trace()
    {
        await using var store = await OpenAsync();
        foreach (var owner in (Owner[])[Owner.Of("another"), Owner.Nobody, default])
        {
            var committing = await store.BeginAsync("new", owner);
            await store.Store.ReleaseAsync(committing);
            var failing = await store.BeginAsync("new", owner);
            await store.Store.ReleaseAsync(failing);
            await store.CreateAsync("new", Victim);
            var before = await store.GetAsync("new");

            Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(committing)).Status);
            Assert.NotEqual(WriteStatus.Written, (await store.FailAsync(failing)).Status);

            AssertSame(before, await store.GetAsync("new"));
            Assert.Empty(await store.TurnsAsync("new"));
            await store.DeleteAsync("new");
        }
    }

    [Fact]
    public async Task A_turn_on_a_session_that_changed_hands_meanwhile_leaves_no_trace()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var committing = await store.BeginAsync("a", Owner.Nobody);
        await store.Store.ReleaseAsync(committing);
        var failing = await store.BeginAsync("a", Owner.Claiming("another"));
        await store.Store.ReleaseAsync(failing);
        var changing = await store.ReadAsync("a", Owner.Nobody);
        await store.TurnAsync("a", Victim);
        var before = await store.GetAsync("a");

        Assert.Equal(WriteStatus.Gone, (await store.AppendAsync(committing)).Status);
        Assert.Equal(WriteStatus.Gone, (await store.FailAsync(failing)).Status);
        Assert.Equal(WriteStatus.Gone, (await store.ReplaceMetadataAsync(changing, "{}")).Status);

        AssertSame(before, await store.GetAsync("a"));
    }

    [Theory]
    [InlineData("anyone", null)]
    [InlineData("the victim", Victim)]
    [InlineData("the victim, claiming", Victim)]
    [InlineData("nobody", null)]
    public async Task A_session_that_a_turn_creates_belongs_to_its_owner(string owner, string? user)
    {
        await using var store = await OpenAsync();

        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(await store.BeginAsync("a", Named(owner)))).Status);

        Assert.Equal(user, (await store.GetAsync("a"))!.UserId);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(await store.BeginAsync("a", Named(owner)))).Status);
    }

    [Theory]
    [MemberData(nameof(Owners))]
    public async Task A_key_does_not_tell_the_id_of_a_session_that_is_not_the_owners(string owner, bool has, bool _)
    {
        await using var store = await OpenAsync();
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await store.Store.ReserveAsync(key, Owner.Of(Victim), "a", Cancel);
        await store.Store.CopyAsync(new CopyRequest { Session = TestStore.New("a", Victim, reservedBy: key.Key) }, Cancel);

        Assert.Equal(has ? new KeyReservation("a", SameBody: true, IsNew: false) : new KeyReservation("b", SameBody: false, IsNew: false),
            await store.Store.ReserveAsync(key, Named(owner), "b", Cancel));

        // Who names the id has it already; whether there is such a session, the creation tells.
        Assert.Equal(new KeyReservation("a", SameBody: true, IsNew: false), await store.Store.ReserveAsync(key, Named(owner), "a", Cancel));
        Assert.False((await store.Store.ReserveAsync(key with { Body = Guid.NewGuid() }, Named(owner), "a", Cancel)).SameBody);

        // And it is still the victim's, also when it lasts by its session alone.
        Assert.Equal("a", (await store.Store.ReserveAsync(key, Owner.Of(Victim), "c", Cancel)).SessionId);
        store.Time.Advance(TimeSpan.FromHours(20));
        await store.TurnAsync("a", Victim);
        store.Time.Advance(TimeSpan.FromHours(20));
        Assert.Equal(has, (await store.Store.ReserveAsync(key, Named(owner), "b", Cancel)).SameBody);
        Assert.Equal("a", (await store.Store.ReserveAsync(key, Owner.Of(Victim), "c", Cancel)).SessionId);
    }

    private static Owner Named(string owner) => owner switch
    {
        "anyone" => Owner.Anyone,
        "the victim" => Owner.Of(Victim),
        "the victim, claiming" => Owner.Claiming(Victim),
        "another" => Owner.Of("another"),
        "another, claiming" => Owner.Claiming("another"),
        "the victim in capitals" => Owner.Of("VICTIM"),
        "nobody" => Owner.Nobody,
        _ => default,
    };

    // Every operation that carries an owner, on a session of that user.
    private async Task HasAsync(Owner owner, string? user, bool has)
    {
        await using var store = await OpenAsync();
        var answered = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await store.AppendAsync(await store.BeginAsync("a", user, idempotency: answered), "secret query", "secret response");
        var before = (await store.GetAsync("a"))!;
        SessionRef[] names = [SessionRef.ById("a"), SessionRef.ByKey(before.Key)];

        Assert.Equal(has, owner.MayHave(user));
        foreach (var name in names)
        {
            Assert.Equal(has, await store.GetAsync(name, owner) is not null);
            foreach (var request in (TurnPageRequest[])
            [
                new() { Limit = 10, MaxBytes = 1000 },
                new() { Limit = 10, MaxBytes = 1000, After = 5, Descending = true },
                new() { Limit = 10, MaxBytes = 1000, AllBranches = true },
                new() { Limit = 10, MaxBytes = 1000, Tip = 7 },
            ])
            {
                Assert.Equal(has, await store.Store.ReadTurnsAsync(name, owner, request, Cancel) is not null);
            }

            foreach (var idempotency in (Idempotency?[])[null, answered, answered with { Body = Guid.NewGuid() }])
            {
                var opened = await store.Store.OpenAsync(
                    new OpenRequest
                    {
                        Session = name,
                        Owner = owner,
                        HistoryTurns = 5,
                        Idempotency = idempotency,
                        Lease = TestStore.NewLease(),
                    }, Cancel);
                Assert.Equal(has, opened.Status != OpenStatus.NotFound);
                Assert.Equal(has && idempotency is null, opened.Turns.Count > 0);
                Assert.Equal(has && idempotency == answered, opened.Replay is not null);
                Assert.True(has || opened.Session is null);
                await store.Store.ReleaseAsync(opened);
            }

            Assert.Equal(has ? OpenStatus.NoSuchTurn : OpenStatus.NotFound,
                (await store.Store.OpenAsync(new OpenRequest { Session = name, Owner = owner, Tip = 9 }, Cancel)).Status);
            Assert.Equal(has ? OpenStatus.Unchanged : OpenStatus.NotFound, (await store.Store.OpenAsync(
                new OpenRequest { Session = name, Owner = owner, Remembered = RememberedOf(before) }, Cancel)).Status);
        }

        Assert.Equal(has ? CopyStatus.Created : CopyStatus.SourceNotFound, (await store.ForkAsync("a", "fork", 1, owner)).Status);
        var missing = await store.ForkAsync("a", "fork", 7, owner);
        Assert.Equal(has ? CopyStatus.NoSuchTurn : CopyStatus.SourceNotFound, missing.Status);
        Assert.Equal(has, missing.Session is not null);
        Assert.Equal(has, await store.GetAsync("fork") is not null);
        AssertSame(before, await store.GetAsync("a"));
        Assert.False(!has && await store.Store.CancelAsync(names[0], owner, Cancel));

        Assert.Equal(has, await store.DeleteAsync("a", owner));
        Assert.Equal(has, await store.GetAsync("a") is null);
    }
}
