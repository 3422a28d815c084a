namespace Sessions.Tests.Storage;

/// <content>Gone is gone: nothing comes back, whatever was running.</content>
public abstract partial class StoreContract
{
    [Fact]
    public async Task Erasing_a_user_removes_all_of_its_sessions_and_nothing_else()
    {
        await using var store = await OpenAsync();
        var key = NewIdempotency();
        for (var i = 0; i < 5; i++)
        {
            await store.TurnAsync($"mine{i}", "me");
            await store.AppendAsync(await store.BeginAsync($"mine{i}", "me", idempotency: key));
            await store.TurnAsync($"yours{i}", "you");
        }

        var running = await store.BeginAsync("mine0", "me");
        var changing = await store.ReadAsync("mine1");
        var erasure = await store.Store.EraseAsync("me", Cancel);

        Assert.Equal(new Erasure(5, 10), erasure);
        Assert.Empty(await store.ListIdsAsync("me"));
        Assert.Empty(await store.ExportAsync("me"));
        Assert.Null(await store.GetAsync("mine0"));
        Assert.Equal(5, (await store.ListIdsAsync("you")).Count);
        Assert.Equal(5, (await store.ListIdsAsync(null)).Count);
        Assert.Equal(WriteStatus.Gone, (await store.AppendAsync(running)).Status);
        Assert.Equal(WriteStatus.Gone, (await store.ReplaceMetadataAsync(changing, "{}")).Status);
        Assert.Equal(default, await store.Store.EraseAsync("me", Cancel));
        Assert.Equal(5, await store.CountAsync());
        var again = await store.BeginAsync("mine0", "me", idempotency: key);
        Assert.Equal(OpenStatus.Opened, again.Status);
        Assert.Null(again.Session);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(again)).Status);
        Assert.Equal(["mine0"], await store.ListIdsAsync("me"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_session_deleted_during_a_turn_stays_deleted(bool recreated)
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", query: "old");
        var opened = await store.BeginAsync("a");
        await store.DeleteAsync("a");
        if (recreated)
        {
            await store.CreateAsync("a", "new");
        }

        Assert.Equal(WriteStatus.Gone, (await store.AppendAsync(opened, "late")).Status);

        Assert.Equal(recreated, await store.GetAsync("a") is { TurnCount: 0, UserId: "new" });
        Assert.Equal(!recreated, await store.GetAsync("a") is null);
        await store.DeleteAsync("a");
        await store.TurnAsync("b");
        var failing = await store.BeginAsync("b");
        await store.DeleteAsync("b");
        if (recreated)
        {
            await store.CreateAsync("b");
        }

        Assert.Equal(WriteStatus.Gone, (await store.FailAsync(failing, "late")).Status);
        Assert.Equal(recreated ? 0 : null, (await store.GetAsync("b"))?.ErrorCount);
    }

    [Fact]
    public async Task A_session_that_was_deleted_or_erased_before_its_first_turn_ended_does_not_come_to_be()
    {
        await using var store = await OpenAsync();
        foreach (var fails in (bool[])[false, true])
        {
            async Task EndAsync(OpenedSession opened)
            {
                var result = fails ? await store.FailAsync(opened) : await store.AppendAsync(opened);
                Assert.NotEqual(WriteStatus.Written, result.Status);
            }

            var erased = await store.BeginAsync("a", "user");
            await store.Store.EraseAsync("user", Cancel);
            await EndAsync(erased);
            Assert.Null(await store.GetAsync("a"));

            var deleted = await store.BeginAsync("b", "user");
            Assert.False(await store.DeleteAsync("b"));
            await EndAsync(deleted);
            Assert.Null(await store.GetAsync("b"));

            var nobodys = await store.BeginAsync("c");
            await store.DeleteAsync("c", Owner.Nobody);
            await EndAsync(nobodys);
            Assert.Null(await store.GetAsync("c"));
        }

        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Empty(await store.ExportAsync());
        Assert.Equal(0, await store.CountAsync());

        // What begins after that is new.
        await store.TurnAsync("a", "user");
        await store.TurnAsync("b", "user");
        await store.TurnAsync("c");
    }

    [Fact]
    public async Task What_others_delete_or_erase_stops_no_first_turn()
    {
        await using var store = await OpenAsync();
        var first = await store.BeginAsync("a", "user");
        var second = await store.BeginAsync("b", "user");

        await store.Store.EraseAsync("other", Cancel);
        Assert.False(await store.DeleteAsync("a", Owner.Of("other")));
        Assert.False(await store.DeleteAsync("a", Owner.Nobody));
        Assert.False(await store.DeleteAsync("c"));

        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(first)).Status);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(second)).Status);
    }

    [Fact]
    public async Task A_session_that_was_claimed_and_erased_during_a_turn_stays_erased()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var running = await store.BeginAsync("a");
        await store.Store.ReleaseAsync(running);
        await store.TurnAsync("a", "user");
        await store.Store.EraseAsync("user", Cancel);

        Assert.Equal(WriteStatus.Gone, (await store.AppendAsync(running)).Status);
        Assert.Null(await store.GetAsync("a"));
    }

    [Fact]
    public async Task An_unbound_session_that_is_claimed_by_a_turn_during_an_erasure_is_whole_or_gone()
    {
        await using var store = await OpenAsync();
        for (var i = 0; i < 20; i++)
        {
            await store.TurnAsync("a");
            var claiming = await store.BeginAsync("a", "user");
            var erasing = Task.Run(async () => await store.Store.EraseAsync("user", Cancel), Cancel);
            var result = await store.AppendAsync(claiming);
            var erasure = await erasing;

            Assert.True(result.Status is WriteStatus.Written or WriteStatus.Gone);
            var left = await store.GetAsync("a");
            Assert.Equal(erasure.Sessions == 1, left is null);
            Assert.Equal(left?.UserId is null ? [] : ["a"], await store.ListIdsAsync("user"));
            await store.DeleteAsync("a");
        }
    }

    [Fact]
    public async Task A_fork_of_what_was_erased_meanwhile_does_not_come_to_be()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");
        await store.TurnAsync("a", "user");
        var source = (await store.GetAsync("a"))!;
        var turns = await store.TurnsAsync("a");
        foreach (var erases in (bool[])[false, true])
        {
            var fork = await store.Store.CopyAsync(new CopyRequest
            {
                Session = TestStore.New("fork"),
                Source = SessionRef.ById("a"),
                SourceKey = source.Key,
                Turns = WithAsync(turns, async () => _ = erases ? (await store.Store.EraseAsync("user", Cancel)).Sessions > 0
                    : await store.DeleteAsync("a")),
            }, Cancel);

            Assert.Equal(CopyStatus.SourceNotFound, fork.Status);
            Assert.Null(await store.GetAsync("fork"));
            await store.TurnAsync("a", "user", "another of the same name");
            fork = await store.Store.CopyAsync(new CopyRequest
            {
                Session = TestStore.New("fork"),
                Source = SessionRef.ById("a"),
                SourceKey = source.Key,
                Turns = WithAsync(turns, () => Task.CompletedTask),
            }, Cancel);
            Assert.Equal(CopyStatus.SourceNotFound, fork.Status);
            Assert.Null(await store.GetAsync("fork"));
            source = (await store.GetAsync("a"))!;
            turns = await store.TurnsAsync("a");
        }

        Assert.Equal(["a"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task An_import_for_a_user_who_is_erased_meanwhile_does_not_come_to_be()
    {
        await using var from = await OpenAsync();
        await from.TurnAsync("a", "user");
        await from.TurnAsync("a", "user");
        await from.TurnAsync("b", "other");
        await using var to = await OpenAsync();
        foreach (var id in (string[])["a", "b"])
        {
            var result = await to.Store.CopyAsync(ImportOf((await from.GetAsync(id))!, WithAsync(
                await from.TurnsAsync(id), async () => await to.Store.EraseAsync("user", Cancel))), Cancel);
            Assert.Equal(id == "b", result.Status == CopyStatus.Created);
        }

        Assert.Null(await to.GetAsync("a"));
        Assert.NotNull(await to.GetAsync("b"));
        Assert.Empty(await to.ListIdsAsync("user"));
        Assert.Empty(await to.ExportAsync("user"));
    }

    [Fact]
    public async Task An_erasure_among_many_writers_leaves_nothing_that_was_there_before_it()
    {
        await using var store = await OpenAsync(maxPerUser: 0);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var written = 0;
        var writers = Enumerable.Range(0, 4).Select(writer => Task.Run(async () =>
        {
            for (var i = 0; !stop.IsCancellationRequested; i++)
            {
                try
                {
                    var opened = await store.BeginAsync($"w{writer}-{i % 3}", "user", history: 1);
                    if (opened.Status == OpenStatus.Opened && (await store.AppendAsync(opened)).Status == WriteStatus.Written)
                    {
                        Interlocked.Increment(ref written);
                    }

                    await store.ForkAsync($"w{writer}-{i % 3}", $"f{writer}-{i % 3}");
                }
                catch (StoreUnavailableException)
                {
                    // It waited for the end of one erasure, and met the next one, for as long as anybody waits.
                }
            }
        }, Cancel)).ToArray();
        await ServiceProcess.UntilAsync(() => Volatile.Read(ref written) > 0);
        for (var i = 0; i < 15; i++)
        {
            await store.TurnAsync("marked", "user");
            var key = (await store.GetAsync("marked"))!.Key;
            var erasure = await store.Store.EraseAsync("user", Cancel);
            Assert.True(erasure.Sessions >= 1);
            Assert.Null(await store.GetAsync(SessionRef.ByKey(key), Owner.Anyone));
        }

        await stop.CancelAsync();
        await Task.WhenAll(writers);
        await store.Store.EraseAsync("user", Cancel);
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Empty(await store.ExportAsync("user"));
        Assert.Equal(0, await store.CountAsync());
    }

    private static async IAsyncEnumerable<ArchivedTurn> WithAsync(IReadOnlyList<Turn> turns, Func<Task> between)
    {
        yield return new ArchivedTurn(turns[0], null);
        await between();
        foreach (var turn in turns.Skip(1))
        {
            yield return new ArchivedTurn(turn, null);
        }
    }
}
