using Sessions.Api;

namespace Sessions.Tests.Storage;

// No HTTP here, and nothing that checks before the store does: it is the store itself that refuses.
public abstract partial class SessionStoreContract
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

    [Theory]
    [MemberData(nameof(Owners))]
    public async Task A_bound_session_is_only_for_its_user(string owner, bool has, bool _) => await HasAsync(Named(owner), Victim, has);

    [Theory]
    [MemberData(nameof(Owners))]
    public async Task An_unbound_session_is_only_for_those_who_may_have_what_is_nobodys(string owner, bool _, bool has) => await HasAsync(Named(owner), null, has);

    [Fact]
    public async Task A_turn_of_another_user_on_a_session_that_came_meanwhile_leaves_no_trace()
    {
        await using var store = await OpenAsync();
        foreach (var owner in (Owner[])[Owner.Of("another"), Owner.Nobody, default])
        {
            var request = new TurnRequest { SessionId = "new", Owner = owner, HistoryTurns = 1 };
            var committing = await store.Store.BeginTurnAsync(request, Cancel);
            await store.Store.AbandonTurnAsync(committing, Cancel);
            await store.CreateAsync("new", Victim);
            var before = await store.GetAsync("new");

            Assert.Equal(CommitStatus.Stale, await store.CommitAsync(committing));
            await store.Store.FailTurnAsync(committing, "error", Cancel);
            await store.Store.AbandonTurnAsync(committing, Cancel);

            AssertSame(before, await store.GetAsync("new"));
            Assert.Empty(await store.HistoryAsync("new"));
            await store.Store.DeleteAsync("new", Owner.Anyone, Cancel);
        }
    }

    [Fact]
    public async Task A_turn_on_a_session_that_changed_hands_meanwhile_leaves_no_trace()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var running = await store.Store.BeginTurnAsync(new TurnRequest { SessionId = "a", Owner = Owner.Nobody, HistoryTurns = 1 }, Cancel);
        await store.Store.AbandonTurnAsync(running, Cancel);
        await store.TurnAsync("a", Victim);
        var before = await store.GetAsync("a");

        Assert.Equal(CommitStatus.Gone, await store.CommitAsync(running));
        await store.Store.FailTurnAsync(running, "error", Cancel);

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
        var request = new TurnRequest { SessionId = "a", Owner = Named(owner), HistoryTurns = 0 };

        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(await store.Store.BeginTurnAsync(request, Cancel)));

        Assert.Equal(user, (await store.GetAsync("a"))!.UserId);
        Assert.Equal(CommitStatus.Committed, await store.CommitAsync(await store.Store.BeginTurnAsync(request, Cancel)));
    }

    [Theory]
    [MemberData(nameof(Owners))]
    public async Task A_key_does_not_tell_the_id_of_a_session_that_is_not_the_owners(string owner, bool has, bool _)
    {
        await using var store = await OpenAsync();
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await store.Store.ReserveSessionIdAsync(key, Owner.Of(Victim), "a", Cancel);
        await store.Store.CreateAsync(TestStore.New("a", Victim, key: key.Key), Cancel);

        Assert.Equal(has ? new KeyReservation("a", SameBody: true, IsNew: false) : new KeyReservation("b", SameBody: false, IsNew: false),
            await store.Store.ReserveSessionIdAsync(key, Named(owner), "b", Cancel));

        // And it is still the victim's, also when it lasts by its session alone.
        Assert.Equal("a", (await store.Store.ReserveSessionIdAsync(key, Owner.Of(Victim), "c", Cancel)).SessionId);
        store.Time.Advance(TimeSpan.FromHours(20));
        await store.TurnAsync("a", Victim);
        store.Time.Advance(TimeSpan.FromHours(20));
        Assert.Equal(has, (await store.Store.ReserveSessionIdAsync(key, Named(owner), "b", Cancel)).SameBody);
        Assert.Equal("a", (await store.Store.ReserveSessionIdAsync(key, Owner.Of(Victim), "c", Cancel)).SessionId);
    }

    // Every operation that carries an owner, on a session of that user.
    private async Task HasAsync(Owner owner, string? user, bool has)
    {
        await using var store = await OpenAsync();
        var answered = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await store.CommitAsync(await store.BeginAsync("a", user, idempotency: answered), "secret query", "secret response");
        var before = await store.GetAsync("a");

        Assert.Equal(has, owner.MayHave(user));
        Assert.Equal(has, await store.Store.GetAsync("a", owner, Cancel) is not null);
        Assert.Equal(has, await store.Store.ReadHistoryAsync("a", owner, new TurnPageRequest(10, null, false), Cancel) is not null);
        Assert.Equal(has, await store.Store.ReadHistoryAsync("a", owner, new TurnPageRequest(10, new PageCursor(5, ""), true), Cancel) is not null);

        foreach (var idempotency in (Idempotency?[])[null, answered, answered with { Body = Guid.NewGuid() }])
        {
            var start = await store.Store.BeginTurnAsync(new TurnRequest { SessionId = "a", Owner = owner, HistoryTurns = 5, Idempotency = idempotency }, Cancel);
            Assert.Equal(has, start.Status != TurnStartStatus.NotFound);
            Assert.Equal(has && idempotency is null, start.History.Count > 0);
            Assert.Equal(has && idempotency == answered, start.Replay is not null);
            await store.Store.AbandonTurnAsync(start, Cancel);
        }

        Assert.Equal(has ? ForkStatus.Created : ForkStatus.SourceNotFound, (await store.Store.ForkAsync("a", owner, 1, TestStore.New("fork", user), Cancel)).Status);
        Assert.Equal(has ? ForkStatus.NoSuchTurn : ForkStatus.SourceNotFound, (await store.Store.ForkAsync("a", owner, 7, TestStore.New("fork", user), Cancel)).Status);
        Assert.Equal(has, await store.GetAsync("fork") is not null);
        AssertSame(before, await store.GetAsync("a"));

        var (shown, replaced) = await store.Store.ReplaceMetadataAsync("a", owner, 1, "{\"k\":1}"u8.ToArray(), Cancel);
        Assert.Equal(has, replaced);
        Assert.Equal(has, shown is not null);
        Assert.Equal(has, (await store.Store.ReplaceMetadataAsync("a", owner, 99, default, Cancel)).Session is not null);
        Assert.Equal(has, await store.Store.DeleteAsync("a", owner, Cancel));
        Assert.Equal(has, await store.GetAsync("a") is null);
    }
}
