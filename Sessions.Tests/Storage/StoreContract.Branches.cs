namespace Sessions.Tests.Storage;

/// <content>Branches, hidden chains, and pages of paths.</content>
public abstract partial class StoreContract
{
    [Fact]
    public async Task A_turn_that_goes_on_from_an_earlier_one_is_a_branch()
    {
        await using var store = await OpenAsync();
        await TreeAsync(store);

        var turns = await store.TurnsAsync("a");

        Assert.Equal([0, 1, 2, 1, 4, 3, 6, 5], turns.Select(turn => turn.Parent));
        Assert.Equal([1, 1, 1, 4, 4, 6, 6, 8], turns.Select(turn => turn.RunStart));
        Assert.Equal([1, 4, 5, 8], (await store.PathAsync("a")).Select(turn => turn.Number));
        Assert.Equal([1, 2, 3, 6, 7], (await store.PathAsync("a", 7)).Select(turn => turn.Number));
        Assert.Equal([1, 2], (await store.PathAsync("a", 2)).Select(turn => turn.Number));
        Assert.Equal("q8", (await store.GetAsync("a"))!.LastTurn!.Input.ToString());
    }

    [Theory]
    [InlineData(null, 10, new[] { 1, 4, 5, 8 })]
    [InlineData(null, 3, new[] { 4, 5, 8 })]
    [InlineData(7, 10, new[] { 1, 2, 3, 6, 7 })]
    [InlineData(7, 4, new[] { 2, 3, 6, 7 })]
    [InlineData(6, 1, new[] { 6 })]
    [InlineData(0, 10, new int[0])]
    [InlineData(3, 0, new int[0])]
    public async Task A_turn_begins_with_the_turns_of_its_path(int? tip, int history, int[] numbers)
    {
        await using var store = await OpenAsync();
        await TreeAsync(store);

        var opened = await store.BeginAsync("a", history: history, tip: tip);

        Assert.Equal(OpenStatus.Opened, opened.Status);
        Assert.Equal(numbers, opened.Turns.Select(turn => turn.Number));
        Assert.Equal(8, opened.Session!.TurnCount);
        Assert.False(opened.IsCut);
        await store.Store.ReleaseAsync(opened);
    }

    [Fact]
    public async Task A_tip_that_is_not_there_is_told()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        foreach (var tip in (int[])[-1, int.MinValue, 2, 99, int.MaxValue])
        {
            var opened = await store.BeginAsync("a", tip: tip);
            Assert.Equal(OpenStatus.NoSuchTurn, opened.Status);
            Assert.Equal(1, opened.Session!.TurnCount);
            var page = await store.ReadTurnsAsync("a", new TurnPageRequest { Limit = 5, MaxBytes = 1000, Tip = tip });
            Assert.True(page.IsTipMissing);
            Assert.Empty(page.Turns);
            Assert.False(page.HasMore);
        }

        Assert.Equal(OpenStatus.NoSuchTurn, (await store.BeginAsync("none", tip: 1)).Status);

        // Nothing is held.
        await store.TurnAsync("a");
        await store.TurnAsync("none");
    }

    [Fact]
    public async Task A_turn_from_the_root_begins_a_path_of_its_own()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var second = await store.TurnAsync("a", tip: 0);
        var third = await store.TurnAsync("a");

        Assert.Equal((2, 0, 2), (second.Number, second.Parent, second.RunStart));
        Assert.Equal((3, 2, 2), (third.Number, third.Parent, third.RunStart));
        Assert.Equal([2, 3], (await store.PathAsync("a")).Select(turn => turn.Number));
        Assert.Equal([1, 2, 3], (await store.TurnsAsync("a")).Select(turn => turn.Number));
    }

    [Fact]
    public async Task Of_two_branches_of_a_session_that_people_see_the_second_is_stale()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var first = await store.BeginAsync("a", tip: 1);
        var second = await store.BeginAsync("a", tip: 0);
        Assert.SkipWhen(second.Status == OpenStatus.Busy, "This store lets only one turn begin at a time.");

        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(first)).Status);
        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(second)).Status);
    }

    [Fact]
    public async Task Branches_of_a_chain_grow_beside_one_another()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("chain", "user", kind: SessionKind.Chain);
        var opened = new List<OpenedSession>();
        for (var i = 0; i < 4; i++)
        {
            opened.Add(await store.BeginAsync("chain", "user", tip: 1, lease: TestStore.NewLease(isExclusive: false)));
        }

        Assert.All(opened, branch => Assert.Equal(OpenStatus.Opened, branch.Status));
        List<Turn> turns = [];
        foreach (var branch in opened.AsEnumerable().Reverse())
        {
            var result = await store.AppendAsync(branch, $"q{turns.Count + 2}", besideOthers: true);
            Assert.Equal(WriteStatus.Written, result.Status);
            turns.Add(result.Turn!);
        }

        Assert.Equal([2, 3, 4, 5], turns.Select(turn => turn.Number));
        Assert.Equal([1, 3, 4, 5], turns.Select(turn => turn.RunStart));
        Assert.All(turns, turn => Assert.Equal((1, 2), (turn.Parent, turn.Nonce.ExpectedNumber)));
        AssertSame(turns, (await store.TurnsAsync("chain")).Skip(1));
        Assert.Equal([1, 5], (await store.PathAsync("chain")).Select(turn => turn.Number));
        Assert.Equal([1, 3], (await store.PathAsync("chain", 3)).Select(turn => turn.Number));
        Assert.Equal(5, (await store.GetAsync("chain"))!.Revision.Version);
    }

    [Fact]
    public async Task Of_two_turns_that_would_create_a_chain_the_second_is_stale()
    {
        await using var store = await OpenAsync();
        var first = await store.BeginAsync("chain", lease: TestStore.NewLease(isExclusive: false));
        var second = await store.BeginAsync("chain", lease: TestStore.NewLease(isExclusive: false));

        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(first, kind: SessionKind.Chain, besideOthers: true)).Status);
        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(second, kind: SessionKind.Chain, besideOthers: true)).Status);

        Assert.Single(await store.TurnsAsync("chain"));
    }

    [Fact]
    public async Task Branches_of_a_chain_that_grow_at_once_leave_no_gap_and_no_double()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("chain", kind: SessionKind.Chain);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(client => Task.Run(async () =>
        {
            var tip = 1;
            for (var i = 0; i < 10; i++)
            {
                var opened = await store.BeginAsync("chain", tip: tip, lease: TestStore.NewLease(isExclusive: false));
                var result = await store.AppendAsync(opened, $"{client}-{i}", besideOthers: true);
                Assert.Equal(WriteStatus.Written, result.Status);
                Assert.Equal(tip, result.Turn!.Parent);
                tip = result.Turn.Number;
            }

            Assert.Equal(Enumerable.Range(0, 10).Select(i => $"{client}-{i}"), (await store.PathAsync("chain", tip)).Skip(1)
                .Select(turn => turn.Input.ToString()));
        }, Cancel)));

        Assert.Equal(Enumerable.Range(1, 81), (await store.TurnsAsync("chain")).Select(turn => turn.Number));
    }

    [Fact]
    public async Task Chains_are_neither_listed_nor_counted_but_erased_and_exported()
    {
        await using var store = await OpenAsync(maxPerUser: 1);
        await store.TurnAsync("seen", "user");
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("first", "user", kind: SessionKind.Chain);
        store.Time.Advance(TimeSpan.FromSeconds(1));
        await store.TurnAsync("second", "user", kind: SessionKind.Chain);
        await store.TurnAsync("unbound", kind: SessionKind.Chain);

        Assert.Equal(["seen"], await store.ListIdsAsync("user"));
        Assert.Equal(["seen"], await store.ListIdsAsync(null));
        Assert.Equal(["second", "first"], await store.ListIdsAsync("user", kind: SessionKind.Chain));
        Assert.Equal(1, await store.CountAsync());
        Assert.Equal(["first", "second", "seen"], Ids(await store.ExportAsync("user")).Order());
        Assert.Equal(["first", "second", "seen", "unbound"], Ids(await store.ExportAsync()).Order());
        Assert.Equal(SessionKind.Chain, (await store.GetAsync("first"))!.Kind);
        Assert.Equal(new Erasure(3, 3), await store.Store.EraseAsync("user", Cancel));
        Assert.Equal(["unbound"], Ids(await store.ExportAsync()));
        store.Time.Advance(TimeSpan.FromHours(24));
        Assert.Equal(0, await store.Store.SweepAsync(Cancel));
        Assert.Empty(await store.ExportAsync());
    }

    [Theory]
    [InlineData(false, null, new[] { 1, 2, 3 }, true)]
    [InlineData(false, 3, new[] { 4, 5, 6 }, true)]
    [InlineData(false, 4, new[] { 5, 6, 7 }, false)]
    [InlineData(false, 5, new[] { 6, 7 }, false)]
    [InlineData(false, 7, new int[0], false)]
    [InlineData(false, 99, new int[0], false)]
    [InlineData(true, null, new[] { 7, 6, 5 }, true)]
    [InlineData(true, 5, new[] { 4, 3, 2 }, true)]
    [InlineData(true, 2, new[] { 1 }, false)]
    [InlineData(true, 4, new[] { 3, 2, 1 }, false)]
    [InlineData(true, 1, new int[0], false)]
    [InlineData(true, 99, new[] { 7, 6, 5 }, true)]
    [InlineData(false, int.MaxValue, new int[0], false)]
    [InlineData(false, int.MaxValue - 1, new int[0], false)]
    [InlineData(false, 0, new[] { 1, 2, 3 }, true)]
    [InlineData(false, -1, new[] { 1, 2, 3 }, true)]
    [InlineData(false, int.MinValue, new[] { 1, 2, 3 }, true)]
    [InlineData(true, int.MaxValue, new[] { 7, 6, 5 }, true)]
    [InlineData(true, 0, new int[0], false)]
    [InlineData(true, -1, new int[0], false)]
    [InlineData(true, int.MinValue, new int[0], false)]
    public async Task Turns_are_paged_in_both_directions(bool descending, int? after, int[] numbers, bool hasMore)
    {
        await using var store = await OpenAsync();
        for (var i = 1; i <= 7; i++)
        {
            await store.TurnAsync("a", query: $"q{i}");
        }

        foreach (var allBranches in (bool[])[false, true])
        {
            var page = await store.ReadTurnsAsync(
                "a", new TurnPageRequest
                {
                    Limit = 3,
                    MaxBytes = 10_000,
                    After = after,
                    Descending = descending,
                    AllBranches = allBranches,
                });

            Assert.Equal(numbers, page.Turns.Select(turn => turn.Number));
            Assert.Equal(numbers.Select(number => $"q{number}"), page.Turns.Select(turn => turn.Input.ToString()));
            Assert.Equal(hasMore, page.HasMore);
            AssertSame(await store.GetAsync("a"), page.Session);
        }
    }

    [Theory]
    [InlineData(false, null, null, 2, new[] { 1, 4 }, true)]
    [InlineData(false, null, 4, 2, new[] { 5, 8 }, false)]
    [InlineData(false, null, 3, 2, new[] { 4, 5 }, true)]
    [InlineData(true, null, null, 3, new[] { 8, 5, 4 }, true)]
    [InlineData(true, null, 4, 3, new[] { 1 }, false)]
    [InlineData(true, null, 6, 3, new[] { 5, 4, 1 }, false)]
    [InlineData(false, 7, null, 3, new[] { 1, 2, 3 }, true)]
    [InlineData(false, 7, 3, 3, new[] { 6, 7 }, false)]
    [InlineData(false, 7, 4, 1, new[] { 6 }, true)]
    [InlineData(true, 7, 6, 10, new[] { 3, 2, 1 }, false)]
    [InlineData(false, null, int.MaxValue, 10, new int[0], false)]
    [InlineData(false, 7, int.MinValue, 2, new[] { 1, 2 }, true)]
    [InlineData(true, 7, int.MaxValue, 2, new[] { 7, 6 }, true)]
    [InlineData(true, null, int.MinValue, 10, new int[0], false)]
    [InlineData(false, 7, null, int.MaxValue, new[] { 1, 2, 3, 6, 7 }, false)]
    [InlineData(true, 7, null, int.MaxValue, new[] { 7, 6, 3, 2, 1 }, false)]
    public async Task Paths_are_paged_in_both_directions(bool descending, int? tip, int? after, int limit, int[] numbers, bool hasMore)
    {
        await using var store = await OpenAsync();
        await TreeAsync(store);

        var page = await store.ReadTurnsAsync("a", new TurnPageRequest
        {
            Limit = limit,
            MaxBytes = 10_000,
            After = after,
            Tip = tip,
            Descending = descending,
        });

        Assert.Equal(numbers, page.Turns.Select(turn => turn.Number));
        Assert.Equal(hasMore, page.HasMore);
        Assert.False(page.IsTipMissing);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Pages_are_bounded_in_bytes_and_hold_at_least_one_turn(bool descending)
    {
        await using var store = await OpenAsync();
        int[] sizes = [100, 100, 5000, 100, 100, 100, 3000, 100];
        foreach (var size in sizes)
        {
            await store.TurnAsync("a", query: new string('q', size / 2), response: new string('r', size / 2));
        }

        foreach (var maxBytes in (int[])[0, 100, 299, 300, 5099, 5100, 10_000])
        {
            List<int> seen = [];
            for (int? after = null; ;)
            {
                var page = await store.ReadTurnsAsync("a", new TurnPageRequest
                {
                    Limit = 100,
                    MaxBytes = maxBytes,
                    After = after,
                    Descending = descending,
                });
                seen.AddRange(page.Turns.Select(turn => turn.Number));
                Assert.True(page.Turns.Count == 1 || page.Turns.Sum(turn => turn.Bytes) <= maxBytes);
                if (!page.HasMore)
                {
                    break;
                }

                // Not one turn less than would have fitted.
                var next = sizes[(descending ? seen[^1] - 1 : seen[^1] + 1) - 1];
                Assert.True(page.Turns.Sum(turn => turn.Bytes) + next > maxBytes);
                after = seen[^1];
            }

            Assert.Equal(descending ? Enumerable.Range(1, 8).Reverse() : Enumerable.Range(1, 8), seen);
        }
    }

    [Fact]
    public async Task A_session_with_many_branches_and_turns_is_read_as_it_was_written()
    {
        await using var store = await OpenAsync();
        List<int> parents = [];
        for (var i = 1; i <= 150; i++)
        {
            var tip = i % 7 == 0 ? i * 31 % i : i - 1;
            parents.Add(tip);
            await store.TurnAsync("a", query: $"q{i}", response: new string('r', i * 37 % 500), tip: tip);
        }

        List<int> PathOf(int tip)
        {
            List<int> path = [];
            for (; tip > 0; tip = parents[tip - 1])
            {
                path.Insert(0, tip);
            }

            return path;
        }

        foreach (var tip in (int[])[1, 7, 48, 49, 77, 120, 149, 150])
        {
            Assert.Equal(PathOf(tip), (await store.PathAsync("a", tip)).Select(turn => turn.Number));
            var opened = await store.BeginAsync("a", history: 9, tip: tip);
            Assert.Equal(PathOf(tip).TakeLast(9), opened.Turns.Select(turn => turn.Number));
            Assert.Equal(PathOf(tip).TakeLast(9).Select(number => $"q{number}"), opened.Turns.Select(turn => turn.Input.ToString()));
            await store.Store.ReleaseAsync(opened);
            List<int> paged = [];
            for (TurnPage? page = null; page is null || page.HasMore;)
            {
                page = await store.ReadTurnsAsync(
                    "a", new TurnPageRequest
                    {
                        Limit = 7,
                        MaxBytes = 2500,
                        Tip = tip,
                        Descending = true,
                        After = paged.Count > 0 ? paged[^1] : null,
                    });
                paged.AddRange(page.Turns.Select(turn => turn.Number));
            }

            Assert.Equal(PathOf(tip).AsEnumerable().Reverse(), paged);
        }
    }

    // 1─2─3─6─7, 1─4─5─8.
    private static async Task TreeAsync(TestStore store)
    {
        foreach (var (parent, number) in new[] { (0, 1), (1, 2), (2, 3), (1, 4), (4, 5), (3, 6), (6, 7), (5, 8) })
        {
            Assert.Equal(number, (await store.TurnAsync("a", query: $"q{number}", tip: parent)).Number);
        }
    }

    private static IEnumerable<string> Ids(IEnumerable<ArchiveEntry> entries) => entries.Where(entry => entry.Session is not null)
        .Select(entry => entry.Session!.Session.Id);
}
