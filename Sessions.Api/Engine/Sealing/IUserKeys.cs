using Sessions.Api.Storage;

namespace Sessions.Api.Engine.Sealing;

/// <summary>
/// Where the users' keys are kept, wrapped. A holder may have several: texts are sealed with the first, and opened with the one that they
/// name. A key that was destroyed can't be had
/// again, and with it all that it sealed; a tombstone tells that it was destroyed, and is not merely missing.
/// </summary>
/// <remarks>Each operation throws <see cref="StoreUnavailableException"/> while the keys can't be reached.</remarks>
internal interface IUserKeys
{
    /// <summary>
    /// The keys of a holder as they are now, the current one first: another process may have destroyed them a moment ago.
    /// </summary>
    /// <param name="holder">The user's id; empty: nobody's.</param>
    /// <param name="cancellationToken">Gives up.</param>
    ValueTask<IReadOnlyList<WrappedKey>> FindAsync(string holder, CancellationToken cancellationToken);

    /// <summary>Gives a holder a new current key, where the current one is still <paramref name="current"/>.</summary>
    /// <param name="holder">The user's id; empty: nobody's.</param>
    /// <param name="key">The key.</param>
    /// <param name="current">The id of the key that it follows; <see langword="null"/>: the holder has none.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>The keys that the holder has now.</returns>
    ValueTask<IReadOnlyList<WrappedKey>> AddAsync(string holder, WrappedKey key, Guid? current, CancellationToken cancellationToken);

    /// <summary>
    /// Puts the same key, wrapped anew or kept for longer, in the place of the one with its id. Does nothing where that one is not there
    /// any more.
    /// </summary>
    ValueTask ReplaceAsync(string holder, WrappedKey replacement, CancellationToken cancellationToken);

    /// <summary>Removes a key that nothing is sealed with any more. No tombstone: what still names it is missing its key.</summary>
    ValueTask RemoveAsync(string holder, Guid id, CancellationToken cancellationToken);

    /// <summary>Destroys all keys of a holder, and leaves tombstones.</summary>
    ValueTask DestroyAsync(string holder, CancellationToken cancellationToken);

    /// <summary>Whether the key with that id was destroyed.</summary>
    ValueTask<bool> WasDestroyedAsync(Guid id, CancellationToken cancellationToken);

    /// <summary>Removes keys and tombstones that were kept for long enough: what they sealed has expired.</summary>
    ValueTask RemoveExpiredAsync(DateTimeOffset now, CancellationToken cancellationToken);

    /// <summary>All keys there are.</summary>
    IAsyncEnumerable<(string Holder, WrappedKey Key)> ReadAllAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Whether everything in the store is sealed in the present form, so that whatever is not was put there by somebody else.
    /// </summary>
    ValueTask<bool> IsAllSealedAsync(CancellationToken cancellationToken);

    /// <summary>Keeps that everything is sealed from now on.</summary>
    ValueTask SetAllSealedAsync(CancellationToken cancellationToken);
}

/// <summary>A key as it is kept.</summary>
/// <param name="Id">What texts name it by.</param>
/// <param name="Bytes">The key, wrapped by a master key.</param>
/// <param name="KeptUntil">When everything that it has sealed has expired.</param>
internal sealed record WrappedKey(Guid Id, byte[] Bytes, DateTimeOffset KeptUntil);
