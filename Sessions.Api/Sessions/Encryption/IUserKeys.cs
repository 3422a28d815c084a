namespace Sessions.Api;

/// <summary>Where the users' keys are kept, wrapped. A key that was destroyed can't be had again, and with it all that it encrypted.</summary>
/// <remarks>Each operation throws <see cref="StoreUnavailableException"/> while the keys can't be reached.</remarks>
internal interface IUserKeys
{
    /// <summary>The key of a holder, as it is now: another process may have destroyed it a moment ago.</summary>
    /// <param name="holder">The user's id; empty: nobody's.</param>
    /// <param name="cancellationToken">Gives up.</param>
    ValueTask<WrappedKey?> FindAsync(string holder, CancellationToken cancellationToken);

    /// <summary>Gives a holder a key.</summary>
    /// <returns>The key that the holder has: this one, or the one that was there.</returns>
    ValueTask<WrappedKey> AddAsync(string holder, WrappedKey key, CancellationToken cancellationToken);

    /// <summary>Puts the same key, wrapped anew or kept for longer, in the place of the one that was read. Does nothing where that one is not there any more.</summary>
    ValueTask ReplaceAsync(string holder, WrappedKey read, WrappedKey replacement, CancellationToken cancellationToken);

    /// <summary>Destroys a holder's key, if there is one.</summary>
    ValueTask DestroyAsync(string holder, CancellationToken cancellationToken);

    /// <summary>Destroys the keys that were kept for long enough.</summary>
    ValueTask RemoveExpiredAsync(DateTimeOffset now, CancellationToken cancellationToken);

    /// <summary>All keys there are.</summary>
    IAsyncEnumerable<(string Holder, WrappedKey Key)> ReadAllAsync(CancellationToken cancellationToken);
}

/// <summary>A key as it is kept.</summary>
/// <param name="Id">What texts name it by.</param>
/// <param name="Bytes">The key, wrapped by a master key.</param>
/// <param name="KeptUntil">When everything that it has encrypted has expired.</param>
internal sealed record WrappedKey(Guid Id, byte[] Bytes, DateTimeOffset KeptUntil);
