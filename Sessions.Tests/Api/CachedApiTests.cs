using System.Diagnostics.Metrics;
using Microsoft.Extensions.Diagnostics.Metrics.Testing;

namespace Sessions.Tests.Api;

/// <summary>SQLite with a cache in front.</summary>
public sealed class CachedApiTests(RedisFixture redis) : ApiContract
{
    private readonly TestFolder _folder = new();
    private string _connection = "";

    private protected override IEnumerable<(string Key, string Value)> Storage =>
        [("sessions:storage_type", "sqlite"), ("sessions:db_path", _folder["sessions.db"]), ("sessions:cache", "redis"),
            ("ConnectionStrings:redis", _connection)];

    private protected override string StorageName => "sqlite";

    [Fact]
    public async Task What_came_of_questions_to_the_cache_is_counted_and_documented()
    {
        var server = Start();
        using var requests = new MetricCollector<long>(server.Get<IMeterFactory>(), SessionMetrics.MeterName, "sessions.cache.requests");

        // Again and again: on a busy machine Redis may not answer in time.
        await ServiceProcess.UntilAsync(async () =>
        {
            await server.QueryAsync("hello", "a");
            var outcomes = requests.GetMeasurementSnapshot()
                .Select(measurement => (string)measurement.Tags["sessions.cache.outcome"]!).ToList();
            Assert.Subset(new HashSet<string> { "miss", "hit", "stale", "bypassed" }, outcomes.ToHashSet());
            return outcomes.Contains("hit");
        });
        var documentation = await File.ReadAllTextAsync(Repository.File("docs", "observability.md"), TestContext.Current.CancellationToken);
        Assert.Contains($"| `{requests.Instrument!.Name}` | {requests.Instrument.Unit} |", documentation, StringComparison.Ordinal);
    }

    public override async ValueTask InitializeAsync() => _connection = await redis.NewDatabaseAsync();

    private protected override async Task<SessionsServer> RestartAsync(SessionsServer server)
    {
        await server.DisposeAsync();
        return Start(("limits:page_size_max", "1000"));
    }

    public override async ValueTask DisposeAsync()
    {
        await base.DisposeAsync();
        _folder.Dispose();
    }
}
