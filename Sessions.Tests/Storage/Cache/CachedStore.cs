using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.Metrics.Testing;
using Microsoft.Extensions.Logging.Testing;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Tests.Storage;

/// <summary>A SQLite store with its cache, as a process of its own would have them, and what it tells of the cache.</summary>
internal sealed class CachedStore : IAsyncDisposable
{
    private readonly FakeLogger<TurnCache> _log = new();
    private readonly MetricCollector<long> _requests;

    // Patient: with the driver's own time-outs, for tests of what a Redis that works does; on a busy machine it may take its time.
    public CachedStore(string path, string connection, string prefix, SessionSettings? settings = null, FakeTimeProvider? time = null, bool patient = false)
    {
        settings ??= new SessionSettings();
        Time = time ?? new FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
        var meters = new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>();
        _requests = new MetricCollector<long>(meters, SessionMetrics.MeterName, "sessions.cache.requests");
        Sqlite = SqliteTests.Open(path, settings, Time);
        Cache = new TurnCache(patient ? ConnectionMultiplexer.Connect(connection) : RedisConnection.OpenForCache(connection), prefix, settings, meters, _log);
        Store = new CachedSessionStore(Sqlite, Cache);
        Test = new TestStore(Store, Time, settings);
    }

    public FakeTimeProvider Time { get; }

    public SqliteSessionStore Sqlite { get; }

    public TurnCache Cache { get; }

    public CachedSessionStore Store { get; }

    /// <summary>Short ways to use it.</summary>
    public TestStore Test { get; }

    /// <summary>What came of the questions to the cache so far, in order.</summary>
    public IReadOnlyList<string> Outcomes => [.. _requests.GetMeasurementSnapshot().Select(measurement => (string)measurement.Tags["sessions.cache.outcome"]!)];

    /// <summary>How often something was logged, by its event id.</summary>
    public int Logged(int id) => _log.Collector.GetSnapshot().Count(record => record.Id.Id == id);

    /// <summary>Begins a turn, and expects these queries before it, oldest first; and what came of the question to the cache.</summary>
    public async Task BeginsAsync(string outcome, IEnumerable<string> queries, int history = 20)
    {
        var (found, before) = await BeginAsync("a", history);
        Assert.Equal(queries, before);
        Assert.Equal(outcome, found);
    }

    /// <inheritdoc cref="BeginsAsync"/>
    public async Task<(string Outcome, string[] Queries)> BeginAsync(string id = "a", int history = 20)
    {
        var before = Outcomes.Count;
        var start = await Test.BeginAsync(id, history: history);
        await Store.AbandonTurnAsync(start, TestStore.Cancel);
        return (Assert.Single(Outcomes.Skip(before)), [.. start.History.Select(turn => turn.Query.ToString())]);
    }

    public async ValueTask DisposeAsync()
    {
        await Sqlite.DisposeAsync();
        await Cache.DisposeAsync();
        _requests.Dispose();
    }
}
