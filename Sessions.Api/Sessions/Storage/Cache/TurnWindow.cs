namespace Sessions.Api;

/// <summary>
/// What one state of a session is known by: no other state, of this session or of any that has had its id, in this file or in another, has the same. Every
/// change counts the version up; and where a file is put back to an earlier state, time does not go back with it.
/// </summary>
/// <param name="Key">The session's key in its file, never used again there.</param>
/// <param name="CreatedAt">When it was created, in microseconds.</param>
/// <param name="Version">How often it has changed.</param>
/// <param name="LastActivityAt">Its last activity, in microseconds.</param>
internal readonly record struct SessionStamp(long Key, long CreatedAt, long Version, long LastActivityAt)
{
    /// <summary>Of a session as it was read.</summary>
    public static SessionStamp Of(long key, Session session) => new(key, session.CreatedAt.ToMicroseconds(), session.Version, session.LastActivityAt.ToMicroseconds());
}

/// <summary>The last turns of a session as it was at one moment, without gaps: at least one.</summary>
/// <param name="Stamp">The moment.</param>
/// <param name="Turns">The turns, oldest first.</param>
internal sealed record TurnWindow(SessionStamp Stamp, IReadOnlyList<Turn> Turns)
{
    /// <summary>What the texts of one window may have together.</summary>
    public const int MostBytes = 256 * 1024;

    // What .NET adds to the texts: objects, arrays and their places in others. Rounded up; a test bounds the whole.
    private const int BytesPerTurn = 256;
    private const int BytesPerWindow = 1024;

    /// <summary>The session itself at that moment, where it is known.</summary>
    public Session? Session { get; init; }

    /// <summary>What tells the session from an earlier or later one with the same id, where it is not the key in the stamp.</summary>
    public string? Incarnation { get; init; }

    /// <summary>What it takes in memory, roughly.</summary>
    public long BytesInMemory => BytesPerWindow + (Turns.Count * BytesPerTurn) + TextBytes + (Session?.Metadata.Length ?? 0) + (Session?.Summary?.Text.Length ?? 0);

    private long TextBytes
    {
        get
        {
            var bytes = 0L;
            for (var i = 0; i < Turns.Count; i++)
            {
                bytes += Size(Turns[i]);
            }

            return bytes;
        }
    }

    /// <summary>Whether these are the last turns of the session with that stamp.</summary>
    public bool IsOf(SessionStamp stamp, int turnCount) => Stamp == stamp && Turns[^1].Number == turnCount;

    /// <summary>The last turns of a session after one more: as many as the next turn is likely to ask for, which is as this one has, or an earlier one that asked for more.</summary>
    /// <param name="before">The last turns before it, as far as they are known.</param>
    /// <param name="asked">How many were asked for.</param>
    /// <param name="turn">The turn.</param>
    public static Turn[] After(IReadOnlyList<Turn> before, int asked, Turn turn)
    {
        var turns = new Turn[Math.Clamp(Math.Max(asked, before.Count) - 1, 0, before.Count) + 1];
        for (var (i, from) = (0, before.Count - turns.Length + 1); i < turns.Length - 1; i++)
        {
            turns[i] = before[from + i];
        }

        turns[^1] = turn;
        return turns;
    }

    /// <summary>As many of the last turns as have texts of no more than so many bytes together; the last one in any case.</summary>
    public TurnWindow Last(int bytes)
    {
        var first = Turns.Count - 1;
        for (var left = bytes - Size(Turns[first]); first > 0 && (left -= Size(Turns[first - 1])) >= 0; first--)
        {
        }

        return first == 0 ? this : this with { Turns = [.. Turns.Skip(first)] };
    }

    private static int Size(Turn turn) => turn.Query.Length + turn.Response.Length;
}
