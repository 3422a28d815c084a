using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>What the rows of the statements in <see cref="SqliteSql"/> mean.</summary>
internal static class SqliteRows
{
    private const int HeadColumns = 20;
    private const int TurnColumns = 12;
    private const int SessionKeyColumn = 14;
    private const int LastTurnColumn = 19;
    private const long MaxUncounted = 1L << 40;

    /// <summary>The column behind those of a turn, in a statement that gives turns.</summary>
    public const int AfterTurn = TurnColumns;

    /// <summary>The session's row.</summary>
    public static long Row(this in SqliteStatement.Rows row) => row.Long(0);

    /// <summary>Where the session stands in a list.</summary>
    public static PageCursor SessionCursor(this in SqliteStatement.Rows row) => new(row.Long(5), row.Text(1));

    /// <summary>Whether the session is of a time when there were no keys, and must be given one before it is shown.</summary>
    public static bool IsKeyless(this in SqliteStatement.Rows row) => row.IsNull(SessionKeyColumn);

    /// <summary>The row of a session's last turn; 0: it has none.</summary>
    public static long LastTurnRow(this in SqliteStatement.Rows row) => row.Long(LastTurnColumn);

    /// <summary>A session with its last turn.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static Session ToSession(this in SqliteStatement.Rows row)
    {
        try
        {
            var session = row.ToHead();
            var hasTurn = !row.IsNull(HeadColumns + 1);
            var last = hasTurn ? row.ToTurn(session.Id, HeadColumns) : null;
            return (last?.Number ?? 0) == session.TurnCount ? session with { LastTurn = last } : throw Damaged(session.Id, null);
        }
        catch (StoredDataException e)
        {
            e.SessionKey = row.TryGetKey();
            throw;
        }
    }

    /// <summary>A session without its last turn.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static Session ToHead(this in SqliteStatement.Rows row)
    {
        var id = row.Text(1);
        try
        {
            // Those that are older than their bytes are counted may have less than none.
            var head = DecodeHead(row, id);
            return (head.Bytes is < 0 and > -MaxUncounted ? head with { Bytes = 0 } : head).Checked();
        }
        catch (Exception e) when (IsOfDecoding(e))
        {
            throw Damaged(id, e);
        }
    }

    private static Guid? TryGetKey(this in SqliteStatement.Rows row)
    {
        try
        {
            return row.GuidOrNull(SessionKeyColumn);
        }
        catch (Exception e) when (IsOfDecoding(e))
        {
            return null;
        }
    }

    /// <summary>A turn, whose columns start with <paramref name="first"/>.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static Turn ToTurn(this in SqliteStatement.Rows row, string sessionId, int first = 0)
    {
        try
        {
            return (row.IsNull(first) ? DecodePlainTurn(row, first) : DecodeTurn(row, first)).Checked();
        }
        catch (Exception e) when (IsOfDecoding(e))
        {
            throw DamagedTurn(sessionId, row.Int(first + 1), e);
        }
    }

    /// <summary>A key, or the hash of a request, or none.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static Guid? ToGuid(this in SqliteStatement.Rows row, int column, string what)
    {
        try
        {
            return row.GuidOrNull(column);
        }
        catch (ArgumentException e)
        {
            throw new StoredDataException(what, "An idempotency record can't be read: it is damaged.", e);
        }
    }

    /// <summary>An idempotency key and its request in two columns; <see langword="null"/>: none.</summary>
    /// <exception cref="StoredDataException">It can't be read.</exception>
    public static Idempotency? ToIdempotency(this in SqliteStatement.Rows row, int column, string what) =>
        row.ToGuid(column, what) is { } key ? new Idempotency(key, row.ToGuid(column + 1, what) ?? default) : null;

    /// <summary>A session can't be read.</summary>
    public static StoredDataException Damaged(string id, Exception? reason) =>
        new(DamageReport.NameOf(id), $"Session '{id}' can't be read: its data is damaged.", reason);

    /// <summary>A turn can't be read.</summary>
    public static StoredDataException DamagedTurn(string sessionId, int number, Exception? reason = null) =>
        new(DamageReport.NameOf(sessionId), $"Turn {number} of session '{sessionId}' can't be read: its data is damaged.", reason);

    private static Session DecodeHead(in SqliteStatement.Rows row, string id) => new()
    {
        Id = id,
        Place = row.Long(0),
        UserId = row.TextOrNull(2),
        CreatedAt = Timestamps.FromMicroseconds(row.Long(3)),
        CreatedFrom = SessionOrigins.Parse(row.Text(4)),
        LastActivityAt = Timestamps.FromMicroseconds(row.Long(5)),
        ExpiresAt = Timestamps.FromMicroseconds(row.Long(6)),
        Metadata = row.Bytes(8),
        TurnCount = checked((int)row.Long(9)),
        ErrorCount = checked((int)row.Long(10)),
        LastError = row.IsNull(11) ? (Utf8Text?)null : new Utf8Text(row.Bytes(11)),
        Summary = row.IsNull(12) ? null : new Summary(new Utf8Text(row.Bytes(12)), checked((int)row.Long(13))),
        Key = row.GuidOrNull(SessionKeyColumn) ?? default,
        Kind = (SessionKind)checked((byte)row.Long(15)),
        Revision = new Revision(row.Long(7), row.Long(16)),
        Rewrites = checked((int)row.Long(17)),
        Bytes = row.Long(18),
    };

    private static Turn DecodeTurn(in SqliteStatement.Rows row, int first)
    {
        byte[] input = row.Bytes(first + 2), output = row.Bytes(first + 3), response = row.Bytes(first + 4);
        return TurnCodec.UnpackDetails(row.Span(first), row.Int(first + 1), input, output, response);
    }

    // Of a format before this one.
    private static Turn DecodePlainTurn(in SqliteStatement.Rows row, int first)
    {
        var number = row.Int(first + 1);
        long? input = row.LongOrNull(first + 7), output = row.LongOrNull(first + 8);
        return new Turn
        {
            Number = number,
            Parent = number - 1,
            RunStart = 1,
            Nonce = TurnNonce.OfNumber(number),
            Input = Items.OfText(new Utf8Text(row.Bytes(first + 2))),
            Output = Items.OfText(new Utf8Text(row.Bytes(first + 3))),
            CreatedAt = Timestamps.FromMicroseconds(row.Long(first + 5)),
            ExecutionTime = TimeSpan.FromMicroseconds(row.Long(first + 6)),
            Usage = input is null && output is null ? null : new TokenUsage(input, output),
            StartedSession = row.Long(first + 9) != 0,
            AgentType = row.Text(first + 10),
            AgentUsed = row.Text(first + 11),
        };
    }

    private static bool IsOfDecoding(Exception e) => e is ArgumentException or OverflowException or InvalidDataException;
}
