using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests;

/// <summary>A store under test, with a clock of its own and short ways to use it.</summary>
internal sealed class TestStore(ISessionStore store, FakeTimeProvider time, SessionSettings settings, IAsyncDisposable? owned = null) : IAsyncDisposable
{
    public ISessionStore Store { get; } = store;

    public FakeTimeProvider Time { get; } = time;

    public SessionSettings Settings { get; } = settings;

    public static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static IMeterFactory NewMeters() => new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>();

    public static SessionMetrics NewMetrics() => new(NewMeters());

    public async Task<Session> CreateAsync(string id, string? userId = null, string? metadata = null) =>
        await Store.CreateAsync(New(id, userId, metadata), Cancel) ?? throw new InvalidOperationException($"{id} exists.");

    public async Task<Session?> GetAsync(string id) => await Store.GetAsync(id, Owner.Anyone, Cancel);

    public ValueTask<TurnStart> BeginAsync(string id, string? userId = null, int history = 20, Idempotency? idempotency = null, Guid? reservedBy = null) =>
        Store.BeginTurnAsync(new TurnRequest
        {
            SessionId = id,
            Owner = Owner.Claiming(userId),
            HistoryTurns = history,
            Idempotency = idempotency,
            ReservedBy = reservedBy,
        }, Cancel);

    public async Task<CommitStatus> CommitAsync(TurnStart start, string query = "query", string response = "response", Summary? summary = null)
    {
        var status = await Store.CommitTurnAsync(start, NewTurn(start, query, response), summary, Cancel);
        await Store.AbandonTurnAsync(start, Cancel);
        return status;
    }

    public async Task<TurnStart> TurnAsync(string id, string? userId = null, string query = "query", string response = "response")
    {
        var start = await BeginAsync(id, userId);
        Assert.Equal(TurnStartStatus.Started, start.Status);
        Assert.Equal(CommitStatus.Committed, await CommitAsync(start, query, response));
        return start;
    }

    public async Task FailAsync(string id, string? userId = null, string error = "error")
    {
        var start = await BeginAsync(id, userId);
        Assert.Equal(TurnStartStatus.Started, start.Status);
        await Store.FailTurnAsync(start, error, Cancel);
        await Store.AbandonTurnAsync(start, Cancel);
    }

    public async Task<IReadOnlyList<string>> ListIdsAsync(string userId, bool ascending = false)
    {
        var page = await Store.ListAsync(userId, new SessionPageRequest { Limit = 1000, Ascending = ascending }, Cancel);
        return [.. page.Items.Select(session => session.Id)];
    }

    public async Task<IReadOnlyList<Turn>> HistoryAsync(string id)
    {
        var page = await Store.ReadHistoryAsync(id, Owner.Anyone, new TurnPageRequest(1000, null, Descending: false), Cancel);
        return page?.Items ?? throw new InvalidOperationException($"{id} does not exist.");
    }

    public Turn NewTurn(TurnStart start, string query = "query", string response = "response") => new()
    {
        Number = (start.Session?.TurnCount ?? 0) + 1,
        Query = query,
        Response = response,
        AgentType = "advanced",
        AgentUsed = "builtin",
        CreatedAt = Time.GetUtcNowMicroseconds(),
        ExecutionTime = TimeSpan.FromMilliseconds(1.5),
        StartedSession = start.Session is null,
    };

    public static NewSession New(string id, string? userId = null, string? metadata = null, Guid? key = null) =>
        new(id, userId, metadata is null ? default : System.Text.Encoding.UTF8.GetBytes(metadata), SessionOrigin.Api, key);

    public async ValueTask DisposeAsync()
    {
        if (Store is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }

        if (owned is not null)
        {
            await owned.DisposeAsync();
        }
    }
}
