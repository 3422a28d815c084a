using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Sessions.Api;

/// <summary>What the rows of the statements in <see cref="SqliteSql"/> mean.</summary>
internal static class SqliteRows
{
    private const int SessionColumns = 14;
    private const int TurnColumns = 10;

    /// <summary>The column behind those of a turn, in a statement that gives turns.</summary>
    public const int AfterTurn = TurnColumns;

    /// <summary>The session's key inside.</summary>
    public static long SessionKey(this in SqliteStatement.Rows row) => row.Long(0);

    /// <summary>Where the session stands in a list.</summary>
    public static PageCursor SessionCursor(this in SqliteStatement.Rows row) => new(row.Long(5), row.Text(1));

    /// <summary>A session with its last turn.</summary>
    public static Session ToSession(this in SqliteStatement.Rows row)
    {
        try
        {
            return DecodeSession(row) is { TurnCount: >= 0 } session ? session : throw Damaged(null);
        }
        catch (Exception e) when (e is ArgumentException or OverflowException or InvalidDataException)
        {
            throw Damaged(e);
        }
    }

    /// <summary>A turn, whose columns start with <paramref name="first"/>.</summary>
    public static Turn ToTurn(this in SqliteStatement.Rows row, int first = 0)
    {
        try
        {
            return DecodeTurn(row, first);
        }
        catch (Exception e) when (e is ArgumentException or OverflowException or InvalidDataException)
        {
            throw Damaged(e);
        }
    }

    private static Session DecodeSession(in SqliteStatement.Rows row) => new()
    {
        Id = row.Text(1),
        UserId = row.TextOrNull(2),
        CreatedAt = Timestamps.FromMicroseconds(row.Long(3)),
        CreatedFrom = SessionMetadata.Origin(row.Text(4)),
        LastActivityAt = Timestamps.FromMicroseconds(row.Long(5)),
        ExpiresAt = Timestamps.FromMicroseconds(row.Long(6)),
        Version = row.Long(7),
        Metadata = row.Bytes(8),
        TurnCount = row.Int(9),
        ErrorCount = row.Int(10),
        LastError = row.TextOrNull(11),
        Summary = row.IsNull(12) ? null : new Summary(row.Utf8(12), row.Int(13)),
        LastTurn = row.IsNull(SessionColumns) ? null : DecodeTurn(row, SessionColumns),
    };

    private static Turn DecodeTurn(in SqliteStatement.Rows row, int first) => new()
    {
        Number = row.Int(first),
        CreatedAt = Timestamps.FromMicroseconds(row.Long(first + 1)),
        ExecutionTime = TimeSpan.FromMicroseconds(row.Long(first + 2)),
        InputTokens = row.LongOrNull(first + 3),
        OutputTokens = row.LongOrNull(first + 4),
        StartedSession = row.Long(first + 5) != 0,
        AgentType = row.Text(first + 6),
        AgentUsed = row.Text(first + 7),
        Query = row.Utf8(first + 8),
        Response = row.Utf8(first + 9),
    };

    // SQLite notices what breaks its own structures; a time or a number that nobody wrote is ours to notice.
    private static SqliteException Damaged(Exception? e) => new($"A row can't be read: {e?.Message}", raw.SQLITE_CORRUPT);
}
