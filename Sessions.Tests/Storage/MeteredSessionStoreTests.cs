using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>A store that is watched is the same store.</summary>
public sealed class MeteredSessionStoreTests : SessionStoreContract, IDisposable
{
    private readonly IMeterFactory _meters = new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>();
    private readonly List<(string Operation, string? Error)> _measured = [];
    private readonly MeterListener _listener = new();

    public MeteredSessionStoreTests()
    {
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
            lock (_measured)
            {
                _measured.Add(((string)all["sessions.store.operation"]!, (string?)all.GetValueOrDefault("error.type")));
            }
        });
        _listener.Start();
    }

    public void Dispose() => _listener.Dispose();

    private protected override Task<TestStore> OpenAsync(SessionSettings settings, FakeTimeProvider time)
    {
        var store = new MemorySessionStore(settings, time, TestStore.NewMetrics());
        return Task.FromResult(new TestStore(new MeteredSessionStore(store, "memory", _meters), time, settings));
    }

    [Fact]
    public async Task Each_operation_is_measured_by_its_name()
    {
        await using var store = await OpenAsync(new SessionSettings(), new FakeTimeProvider(Start));

        await store.CreateAsync("a", "user");
        await store.TurnAsync("a");
        await store.ListIdsAsync("user");

        Assert.Equal([("create", null), ("begin_turn", null), ("commit_turn", null), ("list", null)], _measured);
    }

    [Fact]
    public async Task A_failure_is_measured_as_one_and_goes_on()
    {
        await using var store = await OpenAsync(new SessionSettings(), new FakeTimeProvider(Start));
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        using var listener = new ActivityListener { ShouldListenTo = source => source == QueryMetrics.Source, Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData };
        ActivitySource.AddActivityListener(listener);

        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await store.Store.RemoveExpiredAsync(cancelled.Token));

        Assert.Equal([("remove_expired", nameof(OperationCanceledException))], _measured);
        Assert.Null(Activity.Current);
    }
}
