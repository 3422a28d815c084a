using System.Text;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage;

/// <summary>What every store promises. Each store's tests derive from this class; <see cref="EveryStoreIsTested"/> sees to it.</summary>
public abstract partial class StoreContract
{
    protected static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private protected static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Makes an empty store. See <see cref="TestStore.OpenAsync"/>.</summary>
    private protected abstract ValueTask<TestStore> OpenAsync(StorePolicy policy, FakeTimeProvider time);

    private protected ValueTask<TestStore> OpenAsync(int maxPerUser = 10, double lifetimeHours = 24) =>
        OpenAsync(NewPolicy(maxPerUser, lifetimeHours), new FakeTimeProvider(Start));

    private protected static StorePolicy NewPolicy(
        int maxPerUser = 10, double lifetimeHours = 24, long chainBytes = 0, long unownedBytes = 0, Func<string, bool>? isRunning = null,
            StoreEvents? events = null) => new()
            {
                Lifetime = _ => TimeSpan.FromHours(lifetimeHours),
                MaxPerUser = kind => kind == SessionKind.Chain ? 0 : maxPerUser,
                ChainBytesPerOwner = chainBytes,
                UnownedBytes = unownedBytes,
                IsRunning = isRunning ?? (_ => false),
                Events = events ?? new StoreEvents(),
            };

    [Fact]
    public async Task A_created_session_can_be_read_as_it_was_returned()
    {
        await using var store = await OpenAsync();
        var wanted = TestStore.New("a", "user", """{"tag":"blue"}""");

        var created = (await store.Store.CopyAsync(new CopyRequest { Session = wanted }, Cancel)).Session!;
        var read = await store.GetAsync("a");

        Assert.Equal("a", created.Id);
        Assert.Equal(wanted.Key, created.Key);
        Assert.Equal(SessionKind.Session, created.Kind);
        Assert.Equal("user", created.UserId);
        Assert.Equal(1, created.Revision.Version);
        Assert.Equal(0, created.Rewrites);
        Assert.Equal(SessionOrigin.Api, created.CreatedFrom);
        Assert.Equal(Start, created.CreatedAt);
        Assert.Equal(Start, created.LastActivityAt);
        Assert.Equal(Start.AddHours(24), created.ExpiresAt);
        Assert.Equal(0, created.TurnCount);
        Assert.Null(created.LastTurn);
        Assert.Equal(14, created.Bytes);
        AssertSame(created, read);
        Assert.Equal("""{"tag":"blue"}""", Encoding.UTF8.GetString(read!.Metadata.Span));
    }

    [Fact]
    public async Task A_session_is_found_by_its_key_for_every_operation()
    {
        await using var store = await OpenAsync();
        var key = (await store.CreateAsync("a", "user")).Key;
        await store.TurnAsync("a", "user");
        var byKey = SessionRef.ByKey(key);

        AssertSame(await store.GetAsync("a"), await store.GetAsync(byKey, Owner.Of("user")));
        Assert.Null(await store.GetAsync(byKey, Owner.Of("other")));
        Assert.Null(await store.GetAsync(SessionRef.ByKey(SessionKey.New()), Owner.Anyone));
        Assert.Single((
            await store.Store.ReadTurnsAsync(byKey, Owner.Anyone, new TurnPageRequest { Limit = 5, MaxBytes = 1000 }, Cancel))!.Turns);
        var opened = await store.Store.OpenAsync(
            new OpenRequest { Session = byKey, Owner = Owner.Of("user"), HistoryTurns = 1, Lease = TestStore.NewLease() }, Cancel);
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(opened)).Status);
        Assert.Equal(2, (await store.GetAsync("a"))!.TurnCount);
        var fork = await store.Store.CopyAsync(new CopyRequest { Session = TestStore.New("b"), Source = byKey }, Cancel);
        Assert.Equal(CopyStatus.Created, fork.Status);
        Assert.False(await store.Store.DeleteAsync(byKey, Owner.Of("other"), Cancel));
        Assert.True(await store.Store.DeleteAsync(byKey, Owner.Of("user"), Cancel));
        Assert.Null(await store.GetAsync("a"));
        Assert.Null(await store.GetAsync(byKey, Owner.Anyone));
        Assert.NotNull(await store.GetAsync("b"));
    }

    [Fact]
    public async Task An_id_and_a_key_are_given_once()
    {
        await using var store = await OpenAsync();
        var first = await store.CreateAsync("a", "first");

        Assert.Equal(CopyStatus.IdTaken, (await store.Store.CopyAsync(new CopyRequest { Session = TestStore.New("a", "second") }, Cancel))
            .Status);
        Assert.Equal(CopyStatus.IdTaken, (
            await store.Store.CopyAsync(new CopyRequest { Session = TestStore.New("b", "second") with { Key = first.Key } }, Cancel))
            .Status);

        AssertSame(first, await store.GetAsync("a"));
        Assert.Null(await store.GetAsync("b"));
        Assert.Empty(await store.ListIdsAsync("second"));
    }

    [Fact]
    public async Task A_key_leads_to_its_own_session_whatever_ids_are_called()
    {
        await using var store = await OpenAsync();
        var (id, key) = SessionKey.NewWithId(TimeProvider.System);
        var named = TestStore.New(id, "ada") with { Key = key };
        Assert.Equal(CopyStatus.Created, (await CreateAsync(named)).Status);
        Assert.Equal(id, (await store.GetAsync(SessionRef.ByKey(key), Owner.Anyone))!.Id);
        Assert.Equal(CopyStatus.IdTaken, (await CreateAsync(named with { Id = "other" })).Status);
        Assert.Equal(CopyStatus.IdTaken, (await CreateAsync(named with { Key = SessionKey.New() })).Status);

        // Another one comes by that id, and another by that key.
        await store.DeleteAsync(id);
        var later = SessionKey.New();
        Assert.Equal(CopyStatus.Created, (await CreateAsync(named with { Key = later })).Status);
        Assert.Null(await store.GetAsync(SessionRef.ByKey(key), Owner.Anyone));
        Assert.Equal(id, (await store.GetAsync(SessionRef.ByKey(later), Owner.Anyone))!.Id);
        Assert.Equal(CopyStatus.Created, (await CreateAsync(named with { Id = "other" })).Status);
        Assert.Equal("other", (await store.GetAsync(SessionRef.ByKey(key), Owner.Anyone))!.Id);

        ValueTask<CopyResult> CreateAsync(NewSession session) => store.Store.CopyAsync(new CopyRequest { Session = session }, Cancel);
    }

    [Fact]
    public async Task Whoever_comes_with_the_same_idempotency_key_is_told_that_the_session_is_its_own()
    {
        await using var store = await OpenAsync();
        var (mine, other) = (Guid.NewGuid(), Guid.NewGuid());
        await store.CreateAsync("plain", "ada");
        Assert.Equal((CopyStatus.Created, false), await CreateAsync("keyed", mine));

        Assert.Equal((CopyStatus.IdTaken, true), await CreateAsync("keyed", mine));
        Assert.Equal((CopyStatus.IdTaken, false), await CreateAsync("keyed", other));
        Assert.Equal((CopyStatus.IdTaken, false), await CreateAsync("keyed", null));
        Assert.Equal((CopyStatus.IdTaken, false), await CreateAsync("plain", mine));
        Assert.Equal((CopyStatus.IdTaken, false), await CreateAsync("plain", null));
        var all = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() => CreateAsync("many", other))));
        Assert.Single(all, one => one == (CopyStatus.Created, false));
        Assert.Equal(7, all.Count(one => one == (CopyStatus.IdTaken, true)));

        async Task<(CopyStatus, bool)> CreateAsync(string id, Guid? key)
        {
            var result = await store.Store.CopyAsync(
                new CopyRequest { Session = TestStore.New(id, "ada") with { ReservedBy = key } }, Cancel);
            return (result.Status, result.IsOwn);
        }
    }

    [Fact]
    public async Task Ids_are_told_apart_by_case()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a", "User");

        Assert.Null(await store.GetAsync("A"));
        Assert.Empty(await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_deleted_session_is_gone_with_its_turns()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");
        var key = (await store.GetAsync("a"))!.Key;

        Assert.True(await store.DeleteAsync("a"));

        Assert.False(await store.DeleteAsync("a"));
        Assert.Null(await store.GetAsync("a"));
        Assert.Null(await store.GetAsync(SessionRef.ByKey(key), Owner.Anyone));
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Empty(await store.ListIdsAsync(null));
        Assert.Empty(await store.ExportAsync());
        Assert.Null(await store.Store.ReadTurnsAsync(SessionRef.ById("a"), Owner.Anyone,
            new TurnPageRequest { Limit = 10, MaxBytes = 1000 }, Cancel));
        var again = await store.TurnAsync("a", "other");
        Assert.True(again.StartedSession);
        Assert.Single(await store.TurnsAsync("a"));
    }

    [Fact]
    public async Task Texts_come_back_to_the_letter()
    {
        await using var store = await OpenAsync();
        string[] texts =
        [
            "", "plain", "naïve café", "שלום עולם", "👩‍👩‍👧‍👦 🇩🇪", "a\0b\u0001\r\n\t", "'; DROP TABLE turns; --", new string('x', 70_000),
        ];

        foreach (var text in texts)
        {
            await store.TurnAsync("a", "user'\"%_\\", text, text + "!");
        }

        var turns = await store.TurnsAsync("a");
        Assert.Equal(texts, turns.Select(turn => turn.Input.ToString()));
        Assert.Equal(texts.Select(text => text + "!"), turns.Select(turn => turn.Output.ToString()));
        Assert.Equal(["a"], await store.ListIdsAsync("user'\"%_\\"));
    }

    [Fact]
    public async Task Bytes_that_are_no_text_come_back_as_they_were()
    {
        // As they are where the log seals what it gives to a store.
        await using var store = await OpenAsync();
        byte[] bytes = [.. Enumerable.Range(0, 256).Select(i => (byte)i), 0xFF, 0xC0, 0x80];
        byte[] reversed = [.. bytes.Reverse()];
        await store.Store.CopyAsync(new CopyRequest { Session = TestStore.New("a") with { Metadata = bytes } }, Cancel);
        var opened = await store.BeginAsync("a");
        var turn = store.NewTurn(opened) with
        {
            Input = Items.Of(ItemsForm.Json, bytes),
            Output = Items.Of(ItemsForm.Text, reversed),
            Response = bytes,
        };
        Assert.Equal(WriteStatus.Written, (await store.Store.WriteAsync(
            opened, TestStore.NewAppend(opened, turn) with { Summary = new Summary(new Utf8Text(bytes), 1) }, Cancel)).Status);
        opened = await store.BeginAsync("a");
        await store.Store.WriteAsync(opened, new RecordFailure(new Utf8Text(bytes), null), Cancel);

        var session = (await store.GetAsync("a"))!;
        Assert.Equal(bytes, session.Metadata.ToArray());
        Assert.Equal(new Utf8Text(bytes), session.Summary!.Text);
        Assert.Equal(new Utf8Text(bytes), session.LastError);
        Assert.Equal(5 * bytes.Length, session.Bytes);
        var read = Assert.Single(await store.TurnsAsync("a"));
        Assert.Equal((ItemsForm.Json, ItemsForm.Text), (read.Input.Form, read.Output.Form));
        Assert.Equal(bytes, read.Input.Bytes.ToArray());
        Assert.Equal(reversed, read.Output.Bytes.ToArray());
        Assert.Equal(bytes, read.Response.ToArray());
    }

    [Fact]
    public async Task Metadata_is_replaced_only_in_the_state_that_was_opened_and_is_no_activity()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a", "user", """{"k":1}""");
        store.Time.Advance(TimeSpan.FromHours(1));
        var first = await store.ReadAsync("a");
        var second = await store.ReadAsync("a");

        var replaced = await store.ReplaceMetadataAsync(first, "{\"k\":22}");
        var stale = await store.ReplaceMetadataAsync(second, "{\"k\":3}");

        Assert.Equal(WriteStatus.Written, replaced.Status);
        Assert.Equal(2, replaced.Session!.Revision.Version);
        Assert.Equal(Start, replaced.Session.LastActivityAt);
        Assert.Equal(Start.AddHours(24), replaced.Session.ExpiresAt);
        Assert.Equal(8, replaced.Session.Bytes);
        AssertSame(replaced.Session, await store.GetAsync("a"));
        Assert.Equal(WriteStatus.Stale, stale.Status);
        Assert.Equal("{\"k\":22}", Encoding.UTF8.GetString((await store.GetAsync("a"))!.Metadata.Span));

        // A turn changes the state as well, and so does a failure.
        var third = await store.ReadAsync("a");
        await store.TurnAsync("a");
        Assert.Equal(WriteStatus.Stale, (await store.ReplaceMetadataAsync(third, "{}")).Status);
        var fourth = await store.ReadAsync("a");
        await store.FailAsync("a");
        Assert.Equal(WriteStatus.Stale, (await store.ReplaceMetadataAsync(fourth, "{}")).Status);
        var fifth = await store.ReadAsync("a");
        await store.DeleteAsync("a");
        Assert.Equal(WriteStatus.Gone, (await store.ReplaceMetadataAsync(fifth, "{}")).Status);
        Assert.Null(await store.GetAsync("a"));
    }

    [Fact]
    public async Task Every_change_makes_a_revision_that_was_never_there_before()
    {
        await using var store = await OpenAsync();
        await store.CreateAsync("a");
        List<Revision> seen = [(await store.GetAsync("a"))!.Revision];
        async Task SeenAsync() => seen.Add((await store.GetAsync("a"))!.Revision);

        await store.TurnAsync("a");
        await SeenAsync();
        await store.FailAsync("a");
        await SeenAsync();
        await store.ReplaceMetadataAsync(await store.ReadAsync("a"), "{}");
        await SeenAsync();
        await store.Store.ReleaseAsync(await store.BeginAsync("a"));
        Assert.Equal(seen[^1], (await store.GetAsync("a"))!.Revision);
        await store.DeleteAsync("a");
        await store.CreateAsync("a");
        await SeenAsync();

        Assert.Equal([1, 2, 3, 4, 1], seen.Select(revision => revision.Version));
        Assert.Equal(5, seen.Select(revision => revision.Tag).Distinct().Count());
    }

    [Fact]
    public async Task Health_is_good()
    {
        await using var store = await OpenAsync();

        await TestStore.HealthyAsync(store.Store);
    }

    [Fact]
    public async Task What_is_cancelled_has_happened_as_a_whole_or_not_at_all()
    {
        await using var store = await OpenAsync();
        var written = 0;
        for (var i = 0; i < 60; i++)
        {
            var opened = await store.BeginAsync("a", "user", history: 1);
            Assert.Equal(OpenStatus.Opened, opened.Status);
            using var cancelled = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
            var racing = i % 3 == 0 ? Task.CompletedTask : Task.Run(cancelled.Cancel, Cancel);
            if (i % 3 == 0)
            {
                await cancelled.CancelAsync();
            }

            try
            {
                // Stale where the one before was cancelled, and made all the same after this one was opened.
                var result = await store.Store.WriteAsync(opened, TestStore.NewAppend(opened, store.NewTurn(opened, $"q{i}")),
                    cancelled.Token);
                Assert.True(result.Status is WriteStatus.Written or WriteStatus.Stale);
                written += result.Status == WriteStatus.Written ? 1 : 0;
            }
            catch (OperationCanceledException)
            {
                await store.Store.ReleaseAsync(opened);
            }

            await racing;
        }

        await store.TurnAsync("a", "user", "last");
        var turns = await store.TurnsAsync("a");
        Assert.Equal(Enumerable.Range(1, turns.Count), turns.Select(turn => turn.Number));
        Assert.Equal(turns.Count, turns.Select(turn => turn.Input.ToString()).Distinct().Count());
        Assert.Equal(turns.Count, (await store.GetAsync("a"))!.TurnCount);
        Assert.InRange(turns.Count, written + 1, 61);
    }

    private protected static void AssertSame(Session? expected, Session? actual)
    {
        Assert.NotNull(expected);
        Assert.NotNull(actual);
        Assert.Equal(Comparable(expected), Comparable(actual));
        Assert.Equal(expected.Metadata.ToArray(), actual.Metadata.ToArray());
        AssertSame(expected.LastTurn is null ? [] : [expected.LastTurn], actual.LastTurn is null ? [] : [actual.LastTurn]);
    }

    private protected static void AssertSame(IEnumerable<Turn> expected, IEnumerable<Turn> actual) =>
        Assert.Equal(expected.Select(Comparable), actual.Select(Comparable));

    // Where a store keeps it is its own affair.
    private static Session Comparable(Session session) => session with { Metadata = default, LastTurn = null, Place = 0 };

    // Memory is equal where it is the same memory; bytes are meant.
    private protected static (Turn Turn, string Response) Comparable(Turn turn) =>
        (turn with { Response = default }, Convert.ToHexString(turn.Response.Span));
}
