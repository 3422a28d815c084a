using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Sessions.Api;

namespace Sessions.Tests.Api;

public sealed class ObservabilityTests
{
    [Fact]
    public async Task The_documentation_names_every_instrument_with_its_unit()
    {
        await using var server = SessionsServer.Start([]);
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

        Assert.True(instruments.Count >= 9, $"{instruments.Count} instruments");
        Assert.All(instruments, instrument => Assert.Contains($"| `{instrument.Name}` | {instrument.Unit} |", documentation, StringComparison.Ordinal));
    }
}
