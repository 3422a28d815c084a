using System.Text;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Storage;

/// <summary>A store under test, with a clock of its own and short ways to use it.</summary>
internal sealed class TestStore : IAsyncDisposable
{
    private readonly Func<StorePolicy, ValueTask<ISessionStore>> _open;
    private readonly IAsyncDisposable? _owned;

    private TestStore(ISessionStore store, StorePolicy policy, FakeTimeProvider time, Func<StorePolicy, ValueTask<ISessionStore>> open,
        IAsyncDisposable? owned) =>
        (Store, Policy, Time, _open, _owned) = (store, policy, time, open, owned);

    public ISessionStore Store { get; private set; }

    public StorePolicy Policy { get; }

    public FakeTimeProvider Time { get; }

    public static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Opens a store.</summary>
    /// <param name="policy">What it is to keep to.</param>
    /// <param name="time">Its clock.</param>
    /// <param name="open">
    /// Opens an instance on the same data each time, as another process would: asked for more than one only as the store's capabilities
    /// say.
    /// </param>
    /// <param name="owned">Disposed of with it: the data.</param>
    public static async ValueTask<TestStore> OpenAsync(
        StorePolicy policy, FakeTimeProvider time, Func<StorePolicy, ValueTask<ISessionStore>> open, IAsyncDisposable? owned = null) =>
        new(await open(policy), policy, time, open, owned);

    /// <summary>Another instance on the same data and clock, as in another process. Where the store has leases.</summary>
    public async ValueTask<TestStore> OpenAnotherAsync(StorePolicy? policy = null) =>
        new(await _open(policy ?? Policy), policy ?? Policy, Time, _open, owned: null);

    /// <summary>Closes the store and opens it again on what it has written. Where it is durable.</summary>
    public async ValueTask ReopenAsync()
    {
        await CloseAsync();
        Store = await _open(Policy);
    }

    public static NewSession New(string id, string? userId = null, string? metadata = null, SessionKind kind = SessionKind.Session,
        Guid? reservedBy = null) =>
        new(id, SessionKey.New(), kind, userId, metadata is null ? default : Encoding.UTF8.GetBytes(metadata), SessionOrigin.Api,
            reservedBy);

    public static LeaseRequest NewLease(TimeSpan? atLeast = null, bool isExclusive = true) =>
        new(Guid.NewGuid(), TimeSpan.FromSeconds(30), atLeast ?? TimeSpan.FromMinutes(1), Waits: false, TimeSpan.FromSeconds(5),
            isExclusive);

    public async Task<Session> CreateAsync(string id, string? userId = null, string? metadata = null,
        SessionKind kind = SessionKind.Session)
    {
        var created = await Store.CopyAsync(new CopyRequest { Session = New(id, userId, metadata, kind) }, Cancel);
        Assert.Equal(CopyStatus.Created, created.Status);
        return created.Session!;
    }

    public Task<Session?> GetAsync(string id) => GetAsync(SessionRef.ById(id), Owner.Anyone);

    public async Task<Session?> GetAsync(SessionRef session, Owner owner)
    {
        var opened = await Store.OpenAsync(new OpenRequest { Session = session, Owner = owner }, Cancel);
        Assert.True(opened.Status is OpenStatus.Opened or OpenStatus.NotFound);
        Assert.Empty(opened.Turns);
        return opened.Session;
    }

    /// <summary>Opens a session for a turn.</summary>
    public ValueTask<OpenedSession> BeginAsync(string id, string? userId = null, int history = 20, Idempotency? idempotency = null,
        int? tip = null, LeaseRequest? lease = null) =>
        BeginAsync(id, Owner.Claiming(userId), history, idempotency, tip, lease);

    public ValueTask<OpenedSession> BeginAsync(
        string id, Owner owner, int history = 20, Idempotency? idempotency = null, int? tip = null, LeaseRequest? lease = null) =>
            Store.OpenAsync(
            new OpenRequest
            {
                Session = SessionRef.ById(id),
                Owner = owner,
                HistoryTurns = history,
                Idempotency = idempotency,
                Tip = tip,
                Lease = lease ?? NewLease(),
            }, Cancel);

    /// <summary>Commits a turn on what was opened.</summary>
    public async Task<WriteResult> AppendAsync(
        OpenedSession opened, string query = "query", string response = "response", Summary? summary = null, Guid? reservedBy = null,
        SessionKind kind = SessionKind.Session, bool besideOthers = false) =>
        await Store.WriteAsync(opened, NewAppend(opened, NewTurn(opened, query, response), reservedBy, kind) with
        {
            Summary = summary,
            BesideOthers = besideOthers,
        }, Cancel);

    public async Task<Turn> TurnAsync(
        string id, string? userId = null, string query = "query", string response = "response", int? tip = null,
            SessionKind kind = SessionKind.Session)
    {
        var opened = await BeginAsync(id, userId, history: 1, tip: tip);
        Assert.Equal(OpenStatus.Opened, opened.Status);
        var result = await AppendAsync(opened, query, response, kind: kind);
        Assert.Equal(WriteStatus.Written, result.Status);
        return result.Turn!;
    }

    public async Task<WriteResult> FailAsync(string id, string? userId = null, string error = "error")
    {
        var opened = await BeginAsync(id, userId);
        Assert.Equal(OpenStatus.Opened, opened.Status);
        return await FailAsync(opened, error);
    }

    public async Task<WriteResult> FailAsync(OpenedSession opened, string error = "error") =>
        await Store.WriteAsync(opened, new RecordFailure(error, opened.Session is null ? NewOf(opened, null, SessionKind.Session) : null),
            Cancel);

    /// <summary>Opens a session for a change that is no turn.</summary>
    public ValueTask<OpenedSession> ReadAsync(string id, Owner? owner = null, int history = 0) =>
        Store.OpenAsync(new OpenRequest { Session = SessionRef.ById(id), Owner = owner ?? Owner.Anyone, HistoryTurns = history }, Cancel);

    public async Task<WriteResult> ReplaceMetadataAsync(OpenedSession opened, string metadata) =>
        await Store.WriteAsync(opened, new ReplaceMetadata(Encoding.UTF8.GetBytes(metadata)), Cancel);

    public Task<bool> DeleteAsync(string id, Owner? owner = null) => Store.DeleteAsync(SessionRef.ById(id), owner ?? Owner.Anyone, Cancel)
        .AsTask();

    public async Task<CopyResult> ForkAsync(string source, string id, int? afterTurn = null, Owner? owner = null) => await Store.CopyAsync(
        new CopyRequest
        {
            Session = New(id) with { CreatedFrom = SessionOrigin.Fork },
            Source = SessionRef.ById(source),
            AfterTurn = afterTurn,
            Owner = owner ?? Owner.Anyone,
        }, Cancel);

    public async Task<IReadOnlyList<string>> ListIdsAsync(string? userId, bool ascending = false, SessionKind? kind = null)
    {
        var page = await Store.ListAsync(new SessionPageRequest { UserId = userId, Kind = kind, Limit = 1000, Ascending = ascending },
            Cancel);
        Assert.Null(page.Next);
        return [.. page.Items.Select(session => session.Id)];
    }

    /// <summary>All turns, in the order of commits.</summary>
    public async Task<IReadOnlyList<Turn>> TurnsAsync(string id) =>
        (await ReadTurnsAsync(id, new TurnPageRequest { Limit = 10_000, MaxBytes = int.MaxValue, AllBranches = true })).Turns;

    /// <summary>The turns on a path.</summary>
    public async Task<IReadOnlyList<Turn>> PathAsync(string id, int? tip = null) =>
        (await ReadTurnsAsync(id, new TurnPageRequest { Limit = 10_000, MaxBytes = int.MaxValue, Tip = tip })).Turns;

    public async Task<TurnPage> ReadTurnsAsync(string id, TurnPageRequest request) =>
        await Store.ReadTurnsAsync(SessionRef.ById(id), Owner.Anyone, request, Cancel) ?? throw new InvalidOperationException(
            $"{id} does not exist.");

    /// <summary>Waits until a store says that it is well. A check that takes too long says that it is not.</summary>
    public static Task HealthyAsync(ISessionStore store) =>
        ServiceProcess.UntilAsync(async () => (await store.CheckAsync(Cancel)).Status == HealthStatus.Healthy);

    public async Task<long> CountAsync() => (await Store.CountAsync(Cancel)).ActiveSessions;

    public async Task<List<ArchiveEntry>> ExportAsync(string? userId = null)
    {
        List<ArchiveEntry> entries = [];
        await foreach (var entry in Store.ExportAsync(userId, Cancel))
        {
            entries.Add(entry);
        }

        return entries;
    }

    /// <summary>A turn that goes on from where the session was opened.</summary>
    public Turn NewTurn(OpenedSession opened, string query = "query", string response = "response")
    {
        var expected = (opened.Session?.TurnCount ?? opened.Request.Remembered?.LastTurn ?? 0) + 1;
        return new()
        {
            Number = expected,
            Parent = opened.Request.Tip ?? (expected - 1),
            RunStart = 0,
            Nonce = TurnNonce.New(expected),
            Input = Items.OfText(query),
            Output = Items.OfText(response),
            AgentType = "advanced",
            AgentUsed = "builtin",
            CreatedAt = Time.GetUtcNowMicroseconds(),
            ExecutionTime = TimeSpan.FromMilliseconds(1.5),
            StartedSession = opened.Session is null && opened.Status == OpenStatus.Opened,
        };
    }

    /// <summary>The change that adds a turn to what was opened. Its parent is among the turns that were read, or the newest.</summary>
    public static AppendTurn NewAppend(OpenedSession opened, Turn turn, Guid? reservedBy = null, SessionKind kind = SessionKind.Session)
    {
        var parent = opened.Turns.LastOrDefault(read => read.Number == turn.Parent) ?? (opened.Session?.LastTurn is { } last
            && last.Number == turn.Parent ? last : null);
        Assert.True(turn.Parent == 0 || parent is not null || opened.Status == OpenStatus.Unchanged, "Read the parent when you open.");
        return new AppendTurn(turn, parent?.RunStart ?? 0) { Create = opened.Session is null ? NewOf(opened, reservedBy, kind) : null };
    }

    public async ValueTask DisposeAsync()
    {
        await CloseAsync();
        if (_owned is not null)
        {
            await _owned.DisposeAsync();
        }
    }

    private static NewSession NewOf(OpenedSession opened, Guid? reservedBy, SessionKind kind) =>
        new(opened.Request.Session.Id!, SessionKey.New(), kind, opened.Request.Owner.UserId, default, SessionOrigin.Query, reservedBy);

    private async ValueTask CloseAsync()
    {
        if (Store is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }
        else
        {
            (Store as IDisposable)?.Dispose();
        }
    }
}
