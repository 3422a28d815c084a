using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;

namespace Sessions.Tests.Engine;

/// <summary>Operations of the store are measured and traced by their names.</summary>
public sealed class StoreMeterTests : IDisposable
{
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();
    private readonly IMeterFactory _meters;
    private readonly List<(string Operation, string? Error)> _measured = [];
    private readonly MeterListener _listener = new();

    public StoreMeterTests()
    {
        _meters = _services.GetRequiredService<IMeterFactory>();
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Scope == _meters && instrument.Name == "sessions.store.operation.duration")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<double>((_, _, tags, _) =>
        {
            var all = new Dictionary<string, object?>(tags.ToArray());
            Assert.Equal("sqlite", all["sessions.store"]);
            lock (_measured)
            {
                _measured.Add(((string)all["sessions.store.operation"]!, (string?)all.GetValueOrDefault("error.type")));
            }
        });
        _listener.Start();
    }

    public void Dispose()
    {
        _listener.Dispose();
        _services.Dispose();
    }

    [Fact]
    public async Task Each_operation_has_its_name()
    {
        await using var log = TestLog.Open();
        var metered = new SessionLog(log.Counting,
            new SessionLogOptions { Policy = log.Policy, Meter = new StoreMeter("sqlite", _meters) });
        var request = new BeginRequest
        {
            Session = SessionRef.ById("a"),
            Owner = Owner.Anyone,
            HistoryTurns = 1,
            HistoryBytes = 1,
            Wait = TimeSpan.Zero,
            MinLifetime = TimeSpan.Zero,
        };
        await metered.CreateAsync(TestLog.New("a"), isOwnId: true, null, Owner.Anyone, TestLog.Cancel);
        await using (var begun = await metered.BeginAsync(request, TestLog.Cancel))
        {
            await metered.CommitAsync(begun, TestLog.NewTurn(TestLog.Text("q"), TestLog.Text("r")), null, TestLog.Cancel);
        }

        await metered.GetAsync(request.Session, Owner.Anyone, TestLog.Cancel);
        await metered.SweepAsync(TestLog.Cancel);
        log.Counting.OnOpen = _ => throw new StoreUnavailableException("away", TimeSpan.FromSeconds(1));
        await Assert.ThrowsAsync<StoreUnavailableException>(
            async () => await metered.GetAsync(request.Session, Owner.Anyone, TestLog.Cancel));

        Assert.Equal(
            [("create", null), ("begin_turn", null), ("commit_turn", null), ("get", null), ("remove_expired", null),
                ("get", nameof(StoreUnavailableException))], _measured);
        Assert.Null(Activity.Current);
    }
}
