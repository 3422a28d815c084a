using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Engine;

/// <summary>A log on a SQLite file of its own, with what belongs to it and short ways to use it.</summary>
internal sealed class TestLog : IAsyncDisposable
{
    public static readonly DateTimeOffset Start = new(2026, 1, 31, 12, 0, 0, TimeSpan.Zero);

    private readonly TestFolder? _owned;
    private SqliteUserKeys? _keys;

    private TestLog(TestFolder folder, TestFolder? owned, FakeTimeProvider time) => (Folder, _owned, Time) = (folder, owned, time);

    public static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public TestFolder Folder { get; }

    public string Path => Folder["sessions.db"];

    public FakeTimeProvider Time { get; }

    public SqliteSessionStore Store { get; private set; } = null!;

    public CountingStore Counting { get; private set; } = null!;

    public SessionLog Log { get; private set; } = null!;

    public HistoryTail? Tail { get; private set; }

    public LogEvents Events { get; private set; } = null!;

    public StorePolicy Policy { get; private set; } = null!;

    public Sealer? Sealer { get; private set; }

    public SqliteUserKeys Keys => _keys!;

    /// <summary>Opens a log.</summary>
    /// <param name="master">Master keys, with encryption.</param>
    /// <param name="on">On the files of another one.</param>
    /// <param name="hasTail">Whether it remembers.</param>
    /// <param name="shared">The second level of what it remembers, if there is one.</param>
    public static TestLog Open(string? master = null, TestLog? on = null, bool hasTail = true, SharedTail? shared = null)
    {
        var folder = on?.Folder ?? new TestFolder();
        var log = new TestLog(folder, on is null ? folder : null, on?.Time ?? new FakeTimeProvider(Start));
        log.Open(master, hasTail, shared);
        return log;
    }

    public static string NewMaster() => Convert.ToBase64String(RandomNumberGenerator.GetBytes(32));

    public static NewSession New(string id, string? userId = null, string? metadata = null, SessionKind kind = SessionKind.Session) =>
        new(id, SessionKey.New(), kind, userId, metadata is null ? default : Encoding.UTF8.GetBytes(metadata), SessionOrigin.Api);

    public ValueTask<BegunTurn> BeginAsync(
        string id, string? userId = null, int turns = 20, int bytes = 1 << 20, int? after = null, SessionKind kind = SessionKind.Session,
        Idempotency? key = null, TimeSpan wait = default) => Log.BeginAsync(
            new BeginRequest
            {
                Session = SessionRef.ById(id),
                Owner = Owner.Claiming(userId),
                Kind = kind,
                HistoryTurns = turns,
                HistoryBytes = bytes,
                AfterTurn = after,
                Idempotency = key,
                Wait = wait,
                MinLifetime = TimeSpan.FromMinutes(2),
            }, Cancel);

    public static Turn NewTurn(Items input, Items output) => new()
    {
        Number = 0,
        Parent = 0,
        RunStart = 0,
        Nonce = default,
        Input = input,
        Output = output,
        AgentType = "advanced",
        AgentUsed = "builtin",
        CreatedAt = Start,
        ExecutionTime = TimeSpan.FromMicroseconds(1500),
    };

    public static Items Text(string text) => Items.OfText(text);

    public static Items Json(string json) => Items.OfJson(Encoding.UTF8.GetBytes(json));

    public Task<Turn> TurnAsync(
        string id, string? userId = null, string query = "query", string response = "response", int? after = null,
        SessionKind kind = SessionKind.Session) =>
        TurnAsync(id, NewTurn(Text(query), Text(response)), userId, after, kind);

    public async Task<Turn> TurnAsync(
        string id, Turn turn, string? userId = null, int? after = null, SessionKind kind = SessionKind.Session, Summary? summary = null)
    {
        await using var begun = await BeginAsync(id, userId, after: after, kind: kind);
        var committed = await Log.CommitAsync(begun, turn, summary, Cancel);
        Assert.NotNull(committed);
        return committed;
    }

    public async Task<string[]> HistoryAsync(string id, int turns = 20)
    {
        await using var begun = await BeginAsync(id, turns: turns);
        return [.. begun.History.Select(turn => turn.Input.ToString())];
    }

    public ValueTask<Session?> GetAsync(string id) => Log.GetAsync(SessionRef.ById(id), Owner.Anyone, Cancel);

    public async Task<IReadOnlyList<Turn>> TurnsAsync(string id) =>
        (await Log.ReadTurnsAsync(SessionRef.ById(id), Owner.Anyone,
            new TurnPageRequest { Limit = 1000, MaxBytes = int.MaxValue, AllBranches = true }, Cancel))!.Turns;

    /// <summary>Changes the file behind the store's back.</summary>
    public void Tamper(string sql)
    {
        using var db = new SqliteDatabase(Path, SqliteFile.BusyTimeout);
        db.Execute(sql);
    }

    /// <summary>Whether bytes are in any of the files.</summary>
    public bool IsInFiles(string text) =>
        Directory.GetFiles(Folder.Path).Any(file => File.ReadAllBytes(file).AsSpan().IndexOf(Encoding.UTF8.GetBytes(text)) >= 0);

    public async Task CloseAsync()
    {
        await Store.DisposeAsync();
        _keys?.Dispose();
        _keys = null;
    }

    public async ValueTask DisposeAsync()
    {
        await CloseAsync();
        _owned?.Dispose();
    }

    private void Open(string? master, bool hasTail, SharedTail? shared)
    {
        Events = new LogEvents();
        Policy = new StorePolicy
        {
            Lifetime = _ => TimeSpan.FromHours(24),
            MaxPerUser = _ => 0,
            Events = new StoreEvents { Removed = Events.RemovedAsync },
        };
        Store = new SqliteSessionStore(SqliteFile.Prepare(Path), Policy, Time, NullLogger<SqliteSessionStore>.Instance);
        Counting = new CountingStore(Store);
        try
        {
            if (master is not null)
            {
                _keys = new SqliteUserKeys(Path);
                Sealer = new Sealer(
                    new UserKeyRing(_keys, MasterKeys.Read(null, master, "/"), TimeSpan.FromHours(24), Time), Policy.Damage);
            }
        }
        catch
        {
            Store.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw;
        }

        Tail = hasTail ? new HistoryTail(Time, shared: shared) : null;
        Log = new SessionLog(Counting, new SessionLogOptions
        {
            Policy = Policy,
            Events = Events,
            Tail = Tail,
            Sealer = Sealer,
            Lease = TimeSpan.FromMilliseconds(60),
        });
    }
}

/// <summary>A store that tells what came of opening, and that can be told to have leases.</summary>
internal sealed class CountingStore(ISessionStore store) : ISessionStore
{
    public List<OpenedSession> Opened { get; } = [];

    /// <summary>Answers in place of the store, where it gives something.</summary>
    public Func<OpenRequest, OpenedSession?>? OnOpen { get; set; }

    public Func<LeaseState>? OnRenew { get; set; }

    /// <summary>Called before a write.</summary>
    public Func<Task>? OnWrite { get; set; }

    /// <summary>Called before a deletion.</summary>
    public Action? OnDelete { get; set; }

    /// <summary>Answers writes in place of the store.</summary>
    public Func<WriteResult>? AnswersWrite { get; set; }

    public int Released { get; private set; }

    public int Renewals { get; private set; }

    public bool HasLeases { get; set; }

    public StoreCapabilities Capabilities => store.Capabilities with { HasLeases = HasLeases };

    public async ValueTask<OpenedSession> OpenAsync(OpenRequest request, CancellationToken cancellationToken)
    {
        var opened = OnOpen?.Invoke(request) ?? await store.OpenAsync(request, cancellationToken);
        lock (Opened)
        {
            Opened.Add(opened);
        }

        return opened;
    }

    public async ValueTask<WriteResult> WriteAsync(OpenedSession opened, SessionChange change, CancellationToken cancellationToken)
    {
        if (OnWrite is { } act)
        {
            OnWrite = null;
            await act();
        }

        return AnswersWrite?.Invoke() ?? await store.WriteAsync(opened, change, cancellationToken);
    }

    public ValueTask<LeaseState> RenewAsync(OpenedSession opened, CancellationToken cancellationToken)
    {
        Renewals++;
        return OnRenew is { } renew ? new(renew()) : store.RenewAsync(opened, cancellationToken);
    }

    public ValueTask ReleaseAsync(OpenedSession opened)
    {
        Released++;
        return opened.GetType() == typeof(OpenedSession) ? default : store.ReleaseAsync(opened);
    }

    public ValueTask<bool> CancelAsync(SessionRef session, Owner owner, CancellationToken cancellationToken) =>
        store.CancelAsync(session, owner, cancellationToken);

    public ValueTask<TurnPage?> ReadTurnsAsync(
        SessionRef session, Owner owner, TurnPageRequest request, CancellationToken cancellationToken) =>
        store.ReadTurnsAsync(session, owner, request, cancellationToken);

    public ValueTask<Page<Session>> ListAsync(SessionPageRequest request, CancellationToken cancellationToken) =>
        store.ListAsync(request, cancellationToken);

    public ValueTask<CopyResult> CopyAsync(CopyRequest request, CancellationToken cancellationToken) =>
        store.CopyAsync(request, cancellationToken);

    public ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        OnDelete?.Invoke();
        return store.DeleteAsync(session, owner, cancellationToken);
    }

    public ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken) => store.EraseAsync(userId, cancellationToken);

    public ValueTask<int> SweepAsync(CancellationToken cancellationToken) => store.SweepAsync(cancellationToken);

    public ValueTask<KeyReservation> ReserveAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken) =>
        store.ReserveAsync(key, owner, sessionId, cancellationToken);

    public IAsyncEnumerable<ArchiveEntry> ExportAsync(string? userId, CancellationToken cancellationToken) =>
        store.ExportAsync(userId, cancellationToken);

    public ValueTask<StoreStatistics> CountAsync(CancellationToken cancellationToken) => store.CountAsync(cancellationToken);

    public ValueTask<Microsoft.Extensions.Diagnostics.HealthChecks.HealthCheckResult> CheckAsync(CancellationToken cancellationToken) =>
        store.CheckAsync(cancellationToken);
}
