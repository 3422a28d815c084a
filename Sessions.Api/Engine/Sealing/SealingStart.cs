using Sessions.Api.Storage;
using Sessions.ServiceDefaults;

namespace Sessions.Api.Engine.Sealing;

/// <summary>Looks, before anything is served, whether keys, settings and what is stored go together.</summary>
internal static class SealingStart
{
    /// <summary>With encryption: whether the master keys are those that the stored data needs, and whether everything is sealed.</summary>
    /// <exception cref="SettingsException">It does not go together: one sentence says what to do.</exception>
    public static async Task CheckAsync(ISessionStore store, UserKeyRing ring, CancellationToken cancellationToken)
    {
        try
        {
            // Nobody's key is made with the first start, and unwrapped by each.
            using var nobodys = await ring.ForWritingAsync(null, until: null, cancellationToken);
            _ = nobodys.Cipher;
        }
        catch (StoredDataException e)
        {
            throw new SettingsException($"encryption: {e.Message} Put the key that they were encrypted with behind the current one.");
        }

        if (await ring.Keys.IsAllSealedAsync(cancellationToken))
        {
            return;
        }

        if (!await IsEmptyAsync(store, cancellationToken))
        {
            throw new SettingsException(
                "encryption: What is stored was written before encryption was turned on, or was encrypted by an earlier version: "
                + "the command rekey seals it, with the servers stopped.");
        }

        await ring.Keys.SetAllSealedAsync(cancellationToken);
    }

    /// <summary>Without encryption: whether anything was ever encrypted.</summary>
    /// <exception cref="SettingsException">It was.</exception>
    public static async Task CheckWithoutAsync(IUserKeys keys, CancellationToken cancellationToken)
    {
        if ((await keys.FindAsync("", cancellationToken)).Count > 0)
        {
            throw EncryptionIsOff();
        }
    }

    /// <summary>What is stored was encrypted, and encryption is off.</summary>
    public static SettingsException EncryptionIsOff() =>
        new("What is stored was encrypted: set encryption.enabled, and the master key. "
            + "docs/encryption.md tells how to decrypt it for good.");

    // Heads alone: what can't be decoded is there too, and is reported by the list.
    private static async ValueTask<bool> IsEmptyAsync(ISessionStore store, CancellationToken cancellationToken)
    {
        foreach (var kind in SessionPageRequest.AllKinds)
        {
            var page = await store.ListAsync(new SessionPageRequest { Kind = kind, Limit = 1 }, cancellationToken);
            if (page.Items.Count > 0 || page.Next is not null)
            {
                return false;
            }
        }

        return true;
    }
}
