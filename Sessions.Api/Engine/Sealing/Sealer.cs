using Sessions.Api.Storage;

namespace Sessions.Api.Engine.Sealing;

/// <summary>Seals what users wrote, above all stores: nothing of it is readable where it is stored.</summary>
internal sealed class Sealer(UserKeyRing ring, DamageReport damage)
{
    /// <summary>The users' keys.</summary>
    public UserKeyRing Ring => ring;

    /// <summary>How many things can't be read, as far as is known.</summary>
    public int Damaged => damage.Count;

    /// <summary>Seals and opens for one user, within one operation.</summary>
    /// <param name="userId">The user that the session is bound to; <see langword="null"/>: nobody.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <param name="acceptsUnsealed">Whether what was written before is opened too: only to be sealed anew.</param>
    public SealScope For(string? userId, CancellationToken cancellationToken, bool acceptsUnsealed = false) =>
        new(ring, userId, acceptsUnsealed, cancellationToken);
}
