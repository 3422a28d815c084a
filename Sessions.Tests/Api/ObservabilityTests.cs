using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;

namespace Sessions.Tests.Api;

public sealed class ObservabilityTests(RedisFixture redis)
{
    [Fact]
    public Task The_documentation_names_every_instrument_with_its_unit() => CheckAsync(9);

    [Fact]
    public async Task The_documentation_names_every_instrument_of_the_Redis_store() =>
        await CheckAsync(11, ("sessions:storage_type", "redis"), ("ConnectionStrings:redis", await redis.NewDatabaseAsync()));

    private static async Task CheckAsync(int least, params IEnumerable<(string, string)> settings)
    {
        await using var server = SessionsServer.Start(settings);
        await server.QueryAsync("Hello");
        var meters = server.Services.GetRequiredService<IMeterFactory>();
        var instruments = new List<Instrument>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, _) =>
            {
                if (instrument.Meter.Name == SessionMetrics.MeterName && instrument.Meter.Scope == meters)
                {
                    instruments.Add(instrument);
                }
            },
        };
        listener.Start();

        var documentation = await File.ReadAllTextAsync(Repository.File("docs", "observability.md"), TestContext.Current.CancellationToken);

        Assert.True(instruments.Count >= least, $"{instruments.Count} instruments");
        Assert.All(instruments,
            instrument => Assert.Contains($"| `{instrument.Name}` | {instrument.Unit} |", documentation, StringComparison.Ordinal));
    }
}
