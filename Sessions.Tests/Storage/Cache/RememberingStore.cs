using Microsoft.Extensions.Diagnostics.Metrics.Testing;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>A SQLite store that remembers last turns, as a process of its own would have it, and what it tells of that.</summary>
internal sealed class RememberingStore : IAsyncDisposable
{
    private readonly MetricCollector<long> _requests;
    private readonly MemoryTurnCache _cache;
    private readonly SqliteSessionStore _sqlite;

    public RememberingStore(string path, SessionSettings? settings = null, FakeTimeProvider? time = null)
    {
        settings ??= new SessionSettings();
        time ??= new FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
        var meters = TestStore.NewMeters();
        _requests = new MetricCollector<long>(meters, SessionMetrics.MeterName, "sessions.cache.requests");
        _sqlite = SqliteTests.Open(path, settings, time);
        _cache = new MemoryTurnCache(settings, time, meters);
        Test = new TestStore(new CachedSessionStore(_sqlite, _cache), time, settings);
    }

    /// <summary>Short ways to use it.</summary>
    public TestStore Test { get; }

    public ISessionStore Store => Test.Store;

    public FakeTimeProvider Time => Test.Time;

    /// <summary>Begins a turn, and expects these queries before it, oldest first; and what came of the question to the memory.</summary>
    public async Task<TurnStart> BeginsAsync(string outcome, IEnumerable<string> queries, string id = "a", int history = 20)
    {
        var before = _requests.GetMeasurementSnapshot().Count;
        var start = await Test.BeginAsync(id, history: history);
        Assert.Equal(queries, start.History.Select(turn => turn.Query.ToString()));
        Assert.Equal(start.History is [.., var last] ? last : null, history == 0 ? null : start.Session?.LastTurn);
        Assert.Equal(outcome, (string)Assert.Single(_requests.GetMeasurementSnapshot().Skip(before)).Tags["sessions.cache.outcome"]!);
        return start;
    }

    public async ValueTask DisposeAsync()
    {
        await _sqlite.DisposeAsync();
        _cache.Dispose();
        _requests.Dispose();
    }
}
