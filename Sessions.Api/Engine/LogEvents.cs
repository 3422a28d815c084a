using Sessions.Api.Domain;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine;

/// <summary>
/// Tells what went away, so that nothing of it is kept elsewhere: in what is remembered, in streams, in turns that run. Made before the
/// store, whose
/// <see cref="StoreEvents.Removed"/> is <see cref="RemovedAsync"/>. Whoever listens is told before whoever removed it is answered.
/// </summary>
internal sealed class LogEvents
{
    private readonly List<Func<IReadOnlyCollection<Guid>, ValueTask>> _removed = [];
    private readonly List<Func<Guid, TurnNonce, ValueTask>> _rewritten = [];

    /// <summary>Listens for sessions that were deleted, erased or evicted here; they are named by their keys. At the start only.</summary>
    public void OnRemoved(Func<IReadOnlyCollection<Guid>, ValueTask> listener) => _removed.Add(listener);

    /// <summary>
    /// Listens for turns of which items or the response were deleted; they are named by their session's key and their nonce. At the start
    /// only.
    /// </summary>
    public void OnRewritten(Func<Guid, TurnNonce, ValueTask> listener) => _rewritten.Add(listener);

    /// <summary>Sessions were removed.</summary>
    public async ValueTask RemovedAsync(IReadOnlyCollection<Guid> keys)
    {
        foreach (var listener in _removed)
        {
            await listener(keys);
        }
    }

    /// <summary>Something of a turn was deleted.</summary>
    public async ValueTask RewrittenAsync(Guid key, TurnNonce nonce)
    {
        foreach (var listener in _rewritten)
        {
            await listener(key, nonce);
        }
    }
}
