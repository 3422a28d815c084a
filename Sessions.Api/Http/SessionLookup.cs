using Sessions.Api.Domain;
using Sessions.Api.Engine;

namespace Sessions.Api.Http;

/// <summary>Sessions by the ids that clients have of them.</summary>
internal static class SessionLookup
{
    /// <summary>Finds a session by its id, or by that of a conversation: <c>conv_</c> and its key. A chain is none that people
    /// see.</summary>
    public static async ValueTask<Session?> FindAsync(this SessionLog log, string id, Owner owner, CancellationToken cancellationToken) =>
        Identifiers.IsSessionId(id)
        && await log.GetAsync(await log.RefOfAsync(id, cancellationToken), owner, cancellationToken)
            is { Kind: not SessionKind.Chain } found
            ? found : null;
}
