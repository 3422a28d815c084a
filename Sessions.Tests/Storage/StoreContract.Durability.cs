namespace Sessions.Tests.Storage;

/// <content>What is there after the store was closed and opened again.</content>
public abstract partial class StoreContract
{
    [Fact]
    public async Task Everything_is_there_after_a_restart()
    {
        await using var store = await OpenAsync();
        Assert.SkipUnless(store.Store.Capabilities.IsDurable, "This store declares that nothing survives the process.");
        Idempotency key = NewIdempotency(), reservation = NewIdempotency();
        await TreeAsync(store);
        await store.AppendAsync(await store.BeginAsync("a", "user", idempotency: key), "keyed", summary: new Summary("short", 2));
        await store.FailAsync("a", "user", "why");
        var reading = await store.ReadAsync("a", history: 9);
        await store.Store.WriteAsync(reading, new ReplaceTurn(reading.Turns[0] with { Output = Items.None }, false), Cancel);
        await store.ReplaceMetadataAsync(await store.ReadAsync("a"), """{"k":1}""");
        await store.TurnAsync("chain", "user", kind: SessionKind.Chain);
        await store.TurnAsync("deleted", "user");
        await store.DeleteAsync("deleted");
        await store.Store.ReserveAsync(reservation, Owner.Anyone, "reserved", Cancel);
        var before = (await store.GetAsync("a"))!;
        var turns = await store.TurnsAsync("a");

        await store.ReopenAsync();

        AssertSame(before, await store.GetAsync("a"));
        AssertSame(before, await store.GetAsync(SessionRef.ByKey(before.Key), Owner.Of("user")));
        AssertSame(turns, await store.TurnsAsync("a"));
        Assert.Equal([1, 4, 5, 8, 9], (await store.PathAsync("a")).Select(turn => turn.Number));
        Assert.Equal(SessionKind.Chain, (await store.GetAsync("chain"))!.Kind);
        Assert.Null(await store.GetAsync("deleted"));
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        Assert.Equal(1, await store.CountAsync());
        Assert.Equal("keyed", (await store.BeginAsync("a", idempotency: key)).Replay!.Input.ToString());
        Assert.Equal("reserved", (await store.Store.ReserveAsync(reservation, Owner.Anyone, "x", Cancel)).SessionId);
        Assert.Equal(OpenStatus.Unchanged, (await store.Store.OpenAsync(
            new OpenRequest { Session = SessionRef.ById("a"), Owner = Owner.Anyone, Remembered = RememberedOf(before) }, Cancel)).Status);
        await store.TurnAsync("a", "user");
        Assert.Equal(10, (await store.GetAsync("a"))!.TurnCount);
    }

    [Fact]
    public async Task Limits_hold_after_a_restart()
    {
        await using var store = await OpenAsync(NewPolicy(maxPerUser: 2, chainBytes: 3 * Room, unownedBytes: 3 * Room), new(Start));
        Assert.SkipUnless(store.Store.Capabilities.IsDurable, "This store declares that nothing survives the process.");
        await FillAsync(store, "a", "user", SessionKind.Session);
        await FillAsync(store, "b", "user", SessionKind.Session);
        await FillAsync(store, "chain 1", "user", SessionKind.Chain, 2);
        await FillAsync(store, "unowned", null, SessionKind.Session, 2);
        await store.ReopenAsync();

        await FillAsync(store, "c", "user", SessionKind.Session);
        await FillAsync(store, "chain 2", "user", SessionKind.Chain, 2);
        Assert.Equal(["c", "b"], await store.ListIdsAsync("user"));
        Assert.Equal(["chain 2"], await store.ListIdsAsync("user", kind: SessionKind.Chain));
        Assert.Equal(WriteStatus.Full, (await store.AppendAsync(await store.BeginAsync("unowned"), new string('x', 2 * Room))).Status);
    }
}
