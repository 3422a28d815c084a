using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>
/// Turns with an idempotency key that failed after a tool had run: a retry is told the failure again and runs nothing. This process knows
/// the latest of them; a turn that succeeds is in the store.
/// </summary>
internal sealed class FinalFailures
{
    private const int Max = 10_000;

    private readonly Lock _lock = new();
    private readonly Dictionary<(string Session, string? User, Guid Key), (Guid Body, Error Error)> _failures = [];
    private readonly Queue<(string Session, string? User, Guid Key)> _oldest = [];

    /// <summary>A turn has failed for good.</summary>
    public void Remember(string sessionId, Owner owner, Idempotency key, Error error)
    {
        var name = (sessionId, owner.UserId, key.Key);
        lock (_lock)
        {
            if (_failures.TryAdd(name, (key.Body, error)))
            {
                _oldest.Enqueue(name);
            }

            if (_oldest.Count > Max)
            {
                _failures.Remove(_oldest.Dequeue());
            }
        }
    }

    /// <summary>How the turn with that key failed, if it did.</summary>
    /// <exception cref="DomainException"><c>idempotency_key_reused</c>: the body was another one.</exception>
    public Error? Find(string sessionId, Owner owner, Idempotency key)
    {
        lock (_lock)
        {
            return !_failures.TryGetValue((sessionId, owner.UserId, key.Key), out var failed) ? null
                : failed.Body == key.Body ? failed.Error : throw new DomainException(Error.IdempotencyKeyReused);
        }
    }
}
