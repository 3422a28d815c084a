using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Api;

public sealed class CleanupScheduleTests : IDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromMinutes(1);

    private readonly SemaphoreSlim _timers = new(0);
    private readonly FakeTimeProvider _time;
    private readonly SessionSettings _settings = new() { CleanupIntervalMinutes = 60, TimeoutHours = 0.001, MaxSessionsPerUser = 0 };
    private readonly FaultySessionStore _store;
    private readonly CleanupSchedule _schedule;

    public CleanupScheduleTests()
    {
        _time = new TimeWithTimers(_timers);
        var meters = new ServiceCollection().AddMetrics().BuildServiceProvider().GetRequiredService<IMeterFactory>();
        var metrics = new SessionMetrics(meters);
        var policy = new StorePolicy { Lifetime = _ => _settings.Timeout, MaxPerUser = _ => 0 };
        _store = new FaultySessionStore(new MemorySessionStore(policy, _time));
        var log = new SessionLog(_store, new SessionLogOptions { Policy = policy, Events = new LogEvents() });
        _schedule = new CleanupSchedule(log, _settings, _time, metrics, NullLogger<CleanupSchedule>.Instance);
    }

    public void Dispose()
    {
        _schedule.Dispose();
        _timers.Dispose();
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task An_API_that_runs_alone_cleans_up_every_interval()
    {
        await _schedule.StartAsync(Cancel);
        var start = _time.GetUtcNow();

        for (var round = 1; round <= 3; round++)
        {
            await WaitsAsync();
            _time.Advance(TimeSpan.FromMinutes(59));
            _time.Advance(TimeSpan.FromMinutes(1));
            Assert.Equal(start.AddHours(round), await CleanedAfterAsync(start.AddHours(round - 1)));
        }

        await _schedule.StopAsync(Cancel);
    }

    [Fact]
    public async Task As_long_as_somebody_asks_in_time_it_leaves_it_to_them_and_steps_in_when_they_stop()
    {
        await _schedule.StartAsync(Cancel);
        for (var i = 0; i < 5; i++)
        {
            await WaitsAsync();
            await _schedule.RunAsync(Cancel);
            Assert.Equal(_time.GetUtcNow(), _schedule.LastCleanupAt);
            _time.Advance(TimeSpan.FromMinutes(66));
        }

        await WaitsAsync();
        await _schedule.RunAsync(Cancel);
        var last = _time.GetUtcNow();
        _time.Advance(TimeSpan.FromMinutes(89));
        await WaitsAsync();
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal(last.AddMinutes(90), await CleanedAfterAsync(last));
        await WaitsAsync();
        _time.Advance(TimeSpan.FromMinutes(60));
        Assert.Equal(last.AddMinutes(150), await CleanedAfterAsync(last.AddMinutes(90)));
        await _schedule.StopAsync(Cancel);
    }

    [Fact]
    public async Task One_that_failed_is_none_and_the_next_comes_when_it_is_due()
    {
        var failed = new TaskCompletionSource();
        _store.Before = (_, _) =>
        {
            failed.TrySetResult();
            return Task.FromException(new StoreUnavailableException("The disk is full.", TimeSpan.FromSeconds(1)));
        };
        await _schedule.StartAsync(Cancel);
        await WaitsAsync();
        _time.Advance(TimeSpan.FromMinutes(60));
        await failed.Task.WaitAsync(Deadline, Cancel);
        await Assert.ThrowsAsync<StoreUnavailableException>(() => _schedule.RunAsync(Cancel));
        Assert.Null(_schedule.LastCleanupAt);

        _store.Heal();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        limit.CancelAfter(Deadline);
        while (_schedule.LastCleanupAt is null)
        {
            _time.Advance(TimeSpan.FromMinutes(60));
            await Task.Delay(1, limit.Token);
        }

        await _schedule.StopAsync(Cancel);
    }

    // It has looked at the clock, and waits until what is due is due: if the clock went on before, it would wait too long.
    private async Task WaitsAsync() => Assert.True(await _timers.WaitAsync(Deadline, Cancel));

    // The clock stands still meanwhile: a clean-up that came too early shows by its time.
    private async Task<DateTimeOffset> CleanedAfterAsync(DateTimeOffset last)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        limit.CancelAfter(Deadline);
        while (!(_schedule.LastCleanupAt > last))
        {
            await Task.Delay(1, limit.Token);
        }

        return _schedule.LastCleanupAt.Value;
    }

    /// <summary>A clock that tells when a timer has been set.</summary>
    private sealed class TimeWithTimers(SemaphoreSlim timers) : FakeTimeProvider
    {
        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var timer = base.CreateTimer(callback, state, dueTime, period);
            timers.Release();
            return timer;
        }
    }
}
