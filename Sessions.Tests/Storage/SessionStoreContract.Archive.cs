using Sessions.Api;

namespace Sessions.Tests.Storage;

public abstract partial class SessionStoreContract
{
    [Fact]
    public async Task What_is_exported_and_imported_is_the_same_to_clients()
    {
        await using var from = await OpenAsync();
        await using var to = await OpenAsync();
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        var reservation = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        await from.TurnAsync("a", "user", "first\0second", "ü");
        await from.CommitAsync(await from.BeginAsync("a", "user", idempotency: key), "asked with a key", summary: new Summary("in short", 1));
        await from.FailAsync("a", "user", "why");
        await from.CreateAsync("b", metadata: """{"tag":"blue","n":1.50}""");
        await from.Store.ReserveSessionIdAsync(reservation, Owner.Anyone, "c", Cancel);
        await from.CommitAsync(await from.BeginAsync("c", reservedBy: reservation.Key));

        Assert.Equal([ImportStatus.Imported, ImportStatus.Imported, ImportStatus.Imported], (await MoveAsync(from, to)).Values);

        foreach (var id in (string[])["a", "b", "c"])
        {
            AssertSame(await from.GetAsync(id), await to.GetAsync(id));
            Assert.Equal(await from.HistoryAsync(id), await to.HistoryAsync(id));
        }

        Assert.Equal(["a"], await to.ListIdsAsync("user"));
        Assert.Equal(3, (await to.Store.GetStatisticsAsync(Cancel)).ActiveSessions);
        var replay = await to.BeginAsync("a", "user", idempotency: key);
        Assert.Equal(TurnStartStatus.Replayed, replay.Status);
        Assert.Equal("asked with a key", replay.Replay!.Query);
        Assert.Equal(TurnStartStatus.KeyReused, (await to.BeginAsync("a", "user", idempotency: key with { Body = Guid.NewGuid() })).Status);
        Assert.Equal(new KeyReservation("c", SameBody: true, IsNew: false), await to.Store.ReserveSessionIdAsync(reservation, Owner.Anyone, "d", Cancel));
        await to.TurnAsync("a", "user", "and on");
        Assert.Equal(3, (await to.HistoryAsync("a")).Count);
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

        Assert.Equal((ImportStatus.IdTaken, ImportStatus.IdTaken, ImportStatus.Imported), (again["a"], again["b"], again["c"]));
        Assert.Single(await to.HistoryAsync("a"));
        Assert.Equal("own", Assert.Single(await to.HistoryAsync("b")).Query);
        Assert.Equal(["a", "c"], (await to.ListIdsAsync("user")).Order());
    }

    [Fact]
    public async Task A_long_session_is_imported_as_a_whole_or_not_at_all()
    {
        await using var store = await OpenAsync();
        var session = await store.CreateAsync("a", "user");
        await store.Store.DeleteAsync("a", Owner.Anyone, Cancel);
        async Task<ImportStatus> ImportAsync(int promised, int numbers, int missing = 0) => await store.Store.ImportAsync(
            new ArchivedSession(session with { TurnCount = promised }, null), Turns(store, numbers, missing), Cancel);

        await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(2000, 1999));
        await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(2000, 2001));
        await Assert.ThrowsAsync<InvalidDataException>(() => ImportAsync(2000, 2001, missing: 1500));
        Assert.Null(await store.GetAsync("a"));
        Assert.Empty(await store.ListIdsAsync("user"));
        Assert.Equal(0, (await store.Store.GetStatisticsAsync(Cancel)).ActiveSessions);

        Assert.Equal(ImportStatus.Imported, await ImportAsync(2000, 2000));
        Assert.Equal(2000, (await store.GetAsync("a"))!.TurnCount);
        var last = await store.Store.ReadHistoryAsync("a", Owner.Anyone, new TurnPageRequest(2, null, Descending: true), Cancel);
        Assert.Equal(["q2000", "q1999"], last!.Items.Select(turn => turn.Query));
    }

    [Fact]
    public async Task What_has_expired_is_neither_exported_nor_imported()
    {
        await using var from = await OpenAsync(timeoutHours: 1);
        await using var to = await OpenAsync(timeoutHours: 1);
        await from.TurnAsync("old", "user");
        from.Time.Advance(TimeSpan.FromMinutes(30));
        await from.TurnAsync("young", "user");
        to.Time.Advance(TimeSpan.FromHours(1));
        Assert.Equal((ImportStatus.Expired, ImportStatus.Imported), await MoveAsync(from, to) is var all ? (all["old"], all["young"]) : default);
        from.Time.Advance(TimeSpan.FromMinutes(30));
        Assert.Equal(["young"], (await MoveAsync(from, to)).Keys);
    }

    private static async Task<Dictionary<string, ImportStatus>> MoveAsync(TestStore from, TestStore to)
    {
        List<ArchiveEntry> entries = [];
        await foreach (var entry in from.Store.ExportAsync(Cancel))
        {
            entries.Add(entry);
        }

        Dictionary<string, ImportStatus> statuses = [];
        for (var i = 0; i < entries.Count; i++)
        {
            if (entries[i].Session is { } session)
            {
                var turns = entries.Skip(i + 1).TakeWhile(entry => entry.Turn is not null).Select(entry => entry.Turn!);
                statuses.Add(session.Session.Id, await to.Store.ImportAsync(session, turns.ToAsyncEnumerable(), Cancel));
            }
        }

        return statuses;
    }

    private static IAsyncEnumerable<ArchivedTurn> Turns(TestStore store, int count, int missing) =>
        Enumerable.Range(1, count).Where(number => number != missing)
            .Select(number => new ArchivedTurn(store.NewTurn(new TurnStart(null!, TurnStartStatus.Started), $"q{number}") with { Number = number }, null)).ToAsyncEnumerable();
}
