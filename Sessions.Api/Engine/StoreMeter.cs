using System.Diagnostics;
using System.Diagnostics.Metrics;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>Times and traces the operations of the store. While nobody listens, calls are only passed on.</summary>
internal sealed class StoreMeter
{
    private readonly string _store;
    private readonly Histogram<double>? _duration;

    /// <summary>Makes the instrument.</summary>
    /// <param name="store">The store's name, as config.yaml has it.</param>
    /// <param name="meters">Makes the meter; <see langword="null"/>: there are only spans.</param>
    public StoreMeter(string store, IMeterFactory? meters)
    {
        _store = store;
        _duration = meters?.Create(SessionMetrics.MeterName).CreateHistogram("sessions.store.operation.duration", "s",
            "How long an operation of the store took.",
            advice: new InstrumentAdvice<double>
            {
                HistogramBucketBoundaries = [0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 30],
            });
    }

    /// <summary>Calls the store. A static lambda with its arguments handed through allocates nothing while nobody listens.</summary>
    public ValueTask<T> TimeAsync<TArguments, T>(
        string operation, ISessionStore store, TArguments arguments, Func<ISessionStore, TArguments, ValueTask<T>> call) =>
        _duration is { Enabled: true } || TurnMetrics.Source.HasListeners()
            ? TimedAsync(operation, store, arguments, call)
            : call(store, arguments);

    private async ValueTask<T> TimedAsync<TArguments, T>(
        string operation, ISessionStore store, TArguments arguments, Func<ISessionStore, TArguments, ValueTask<T>> call)
    {
        var tags = new TagList { { "sessions.store", _store }, { "sessions.store.operation", operation } };
        using var activity = TurnMetrics.Source.StartActivity(ActivityKind.Internal, tags: tags, name: $"store {operation}");
        var began = Stopwatch.GetTimestamp();
        try
        {
            return await call(store, arguments);
        }
        catch (Exception e)
        {
            tags.Add("error.type", e.GetType().Name);
            var said = e is StoreUnavailableException or StoredDataException ? e.Message : null;
            activity?.SetTag("error.type", e.GetType().Name).SetStatus(ActivityStatusCode.Error, said);
            throw;
        }
        finally
        {
            _duration?.Record(Stopwatch.GetElapsedTime(began).TotalSeconds, tags);
        }
    }
}
