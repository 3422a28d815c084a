using System.Security.Cryptography;
using Sessions.Api.Storage;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// Hands out users' keys, and makes those that are missing. Nothing is remembered from one operation to the next: so no process seals with
/// a key that
/// another has destroyed, nor still reads what it sealed.
/// </summary>
/// <param name="keys">Where they are kept.</param>
/// <param name="masters">What they are wrapped with.</param>
/// <param name="longestLife">How long an idle session lives at the most.</param>
/// <param name="time">The clock.</param>
internal sealed class UserKeyRing(IUserKeys keys, MasterKeys masters, TimeSpan longestLife, TimeProvider time)
{
    private const string Nobody = "";

    // As long as a session that is written now lives, and again before it has to be looked at. A day more: the clean-up may be late, and
    // clocks differ.
    private readonly TimeSpan _needed = longestLife + TimeSpan.FromDays(1);
    private readonly TimeSpan _kept = (2 * longestLife) + TimeSpan.FromDays(2);

    /// <summary>Where they are kept.</summary>
    public IUserKeys Keys => keys;

    /// <summary>The keys of a user, the current one first.</summary>
    /// <param name="userId">The user; <see langword="null"/>: nobody.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public ValueTask<IReadOnlyList<WrappedKey>> FindAsync(string? userId, CancellationToken cancellationToken) =>
        keys.FindAsync(userId ?? Nobody, cancellationToken);

    /// <summary>The current key of a user, which will be there as long as what is written now.</summary>
    /// <param name="userId">The user; <see langword="null"/>: nobody.</param>
    /// <param name="until">When what is written expires, where that is not the usual time from now.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async ValueTask<UserKey> ForWritingAsync(string? userId, DateTimeOffset? until, CancellationToken cancellationToken)
    {
        var holder = userId ?? Nobody;
        var now = time.GetUtcNow();
        var found = await keys.FindAsync(holder, cancellationToken);
        if (found.Count == 0)
        {
            found = await keys.AddAsync(holder, NewKey(holder), current: null, cancellationToken);
        }

        var key = found.Count > 0 ? found[0]
            : throw new StoreUnavailableException("The user was erased at the same moment.", TimeSpan.FromSeconds(1));
        var needed = now + _needed;
        if (until is { } expires && expires + TimeSpan.FromDays(1) > needed)
        {
            needed = expires + TimeSpan.FromDays(1);
        }

        if (key.KeptUntil < needed)
        {
            var longer = needed > now + _kept ? needed : now + _kept;
            await keys.ReplaceAsync(holder, key with { KeptUntil = longer }, cancellationToken);
        }

        return Use(userId, key);
    }

    /// <summary>A key that was found, for use.</summary>
    public UserKey Use(string? userId, WrappedKey key) => new(userId ?? Nobody, key, masters);

    /// <summary>Whether the key with that id was destroyed.</summary>
    public ValueTask<bool> WasDestroyedAsync(Guid id, CancellationToken cancellationToken) =>
        keys.WasDestroyedAsync(id, cancellationToken);

    /// <summary>Destroys a user's keys: whatever they have sealed is lost, wherever there is a copy.</summary>
    public ValueTask DestroyAsync(string userId, CancellationToken cancellationToken) => keys.DestroyAsync(userId, cancellationToken);

    /// <summary>Removes the keys of those who have had no session for long.</summary>
    public async ValueTask RemoveExpiredAsync(CancellationToken cancellationToken)
    {
        await keys.RemoveExpiredAsync(time.GetUtcNow(), cancellationToken);

        // Nobody's key is also what tells that there is anything encrypted.
        using var nobodys = await ForWritingAsync(null, until: null, cancellationToken);
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
                await keys.ReplaceAsync(holder, key with { Bytes = masters.Wrap(masters.Unwrap(key.Bytes, holder, key.Id), holder) },
                    cancellationToken);
                rewrapped++;
            }
        }

        return (rewrapped, all);
    }

    /// <summary>Gives everybody who has a key a new one; the former ones still open what they sealed.</summary>
    /// <returns>The former keys: when nothing is sealed with them any more they can be removed.</returns>
    public async Task<IReadOnlyList<(string Holder, Guid Id)>> RotateAsync(CancellationToken cancellationToken)
    {
        List<(string Holder, Guid Id)> former = [];
        await foreach (var (holder, key) in keys.ReadAllAsync(cancellationToken))
        {
            former.Add((holder, key.Id));
        }

        foreach (var holder in former.Select(key => key.Holder).Distinct(StringComparer.Ordinal))
        {
            if (await keys.FindAsync(holder, cancellationToken) is [var current, ..])
            {
                await keys.AddAsync(holder, NewKey(holder) with { KeptUntil = current.KeptUntil }, current.Id, cancellationToken);
            }
        }

        return former;
    }

    private WrappedKey NewKey(string holder)
    {
        var key = RandomNumberGenerator.GetBytes(Aead.KeyBytes);
        var wrapped = new WrappedKey(Guid.NewGuid(), masters.Wrap(key, holder), time.GetUtcNow() + _kept);
        CryptographicOperations.ZeroMemory(key);
        return wrapped;
    }
}
