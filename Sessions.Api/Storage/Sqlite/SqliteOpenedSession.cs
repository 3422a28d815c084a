using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>A session that was opened, with the row of that very session: a later one with the same id has another.</summary>
internal sealed class SqliteOpenedSession(OpenRequest request, OpenStatus status) : OpenedSession(request, status)
{
    /// <summary>The session's row; 0: there was none.</summary>
    public long Row { get; init; }

    /// <summary>The state that was opened.</summary>
    public Revision Revision { get; init; }

    /// <summary>How many turns it had.</summary>
    public int TurnCount { get; init; }

    /// <summary>How often a turn of it had been rewritten.</summary>
    public int Rewrites { get; init; }

    /// <summary>When it expires, in microseconds.</summary>
    public long ExpiresAt { get; init; }

    /// <summary>Where there was none: how many removals there had been. What was removed since is not created.</summary>
    public long Removals { get; init; }
}
