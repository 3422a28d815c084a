using System.Security.Cryptography;
using Sessions.ServiceDefaults;

namespace Sessions.Api;

/// <summary>A user's key, ready for use.</summary>
/// <param name="Id">What texts name it by.</param>
/// <param name="Key">32 bytes.</param>
internal sealed record UserKey(Guid Id, byte[] Key);

/// <summary>
/// Hands out users' keys, and makes those that are missing. Nothing is remembered from one operation to the next: so no process encrypts with a key that
/// another has destroyed, nor still reads what it encrypted.
/// </summary>
internal sealed class UserKeyRing(IUserKeys keys, MasterKeys masters, SessionSettings options, TimeProvider time)
{
    private const string Nobody = "";

    // As long as a session that is written now lives, and again before it has to be looked at. A day more: the clean-up may be late, and clocks differ.
    private readonly TimeSpan _needed = options.Timeout + TimeSpan.FromDays(1);
    private readonly TimeSpan _kept = (2 * options.Timeout) + TimeSpan.FromDays(2);

    /// <summary>The key of a user, if there is one.</summary>
    /// <param name="userId">The user; <see langword="null"/>: nobody.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async ValueTask<UserKey?> FindAsync(string? userId, CancellationToken cancellationToken) =>
        await keys.FindAsync(userId ?? Nobody, cancellationToken) is { } found ? Unwrap(userId, found) : null;

    /// <summary>The key of a user, which will be there as long as what is written now.</summary>
    public async ValueTask<UserKey> ForWritingAsync(string? userId, CancellationToken cancellationToken)
    {
        var holder = userId ?? Nobody;
        var now = time.GetUtcNow();
        var key = await keys.FindAsync(holder, cancellationToken)
            ?? await keys.AddAsync(holder, new WrappedKey(Guid.NewGuid(), masters.Wrap(RandomNumberGenerator.GetBytes(32), holder), now + _kept), cancellationToken);
        if (key.KeptUntil < now + _needed)
        {
            await keys.ReplaceAsync(holder, key, key with { KeptUntil = now + _kept }, cancellationToken);
        }

        return Unwrap(userId, key);
    }

    /// <summary>Destroys a user's key: whatever it has encrypted is lost, wherever there is a copy.</summary>
    public ValueTask DestroyAsync(string userId, CancellationToken cancellationToken) => keys.DestroyAsync(userId, cancellationToken);

    /// <summary>Destroys the keys of those who have had no session for long.</summary>
    public async ValueTask RemoveExpiredAsync(CancellationToken cancellationToken)
    {
        await keys.RemoveExpiredAsync(time.GetUtcNow(), cancellationToken);

        // Nobody's key is also what tells that there is anything encrypted.
        await ForWritingAsync(null, cancellationToken);
    }

    /// <summary>Wraps all keys with the current master key.</summary>
    /// <returns>How many were not, and how many there are.</returns>
    public async Task<(int Rewrapped, int Keys)> RewrapAsync(CancellationToken cancellationToken)
    {
        int rewrapped = 0, all = 0;
        await foreach (var (holder, key) in keys.ReadAllAsync(cancellationToken))
        {
            all++;
            if (!masters.IsCurrent(key.Bytes))
            {
                await keys.ReplaceAsync(holder, key, key with { Bytes = masters.Wrap(masters.Unwrap(key.Bytes, holder), holder) }, cancellationToken);
                rewrapped++;
            }
        }

        return (rewrapped, all);
    }

    private UserKey Unwrap(string? userId, WrappedKey key) => new(key.Id, masters.Unwrap(key.Bytes, userId ?? Nobody));
}
