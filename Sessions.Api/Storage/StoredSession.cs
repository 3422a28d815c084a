using Sessions.Api.Domain;

namespace Sessions.Api.Storage;

/// <summary>What no store has ever written: where it stands in one, the session is damaged.</summary>
internal static class StoredSession
{
    // What is added to a number below this is still one, in SQL and in Lua, which holds it exactly.
    private const long Most = 1L << 53;

    /// <summary>The head as it was read, if there can be one like that.</summary>
    /// <exception cref="InvalidDataException">There can't.</exception>
    public static Session Checked(this Session head) =>
        head is
        {
            TurnCount: >= 0 and < int.MaxValue, ErrorCount: >= 0 and < int.MaxValue, Rewrites: >= 0 and < int.MaxValue,
            Bytes: >= 0 and < Most, Revision.Version: >= 0 and < Most, Summary: null or { CoversTurns: >= 0 },
        } && Enum.IsDefined(head.Kind)
            ? head
            : throw new InvalidDataException("No session has such numbers.");

    /// <summary>The turn as it was read, if its place is one.</summary>
    /// <exception cref="InvalidDataException">It is not.</exception>
    public static Turn Checked(this Turn turn) =>
        turn.Number > 0 && turn.Parent >= 0 && turn.Parent < turn.Number && turn.RunStart > 0 && turn.RunStart <= turn.Number
            ? turn
            : throw new InvalidDataException("A turn has no such place.");
}
