namespace Sessions.Api;

/// <summary>Reads turns along the way from each to the one before it: the index has only every sixteenth, see <see cref="SqliteSchema"/>.</summary>
internal static class SqliteTurns
{
    // From the landmark behind the turns that are wanted. Never further, whatever is wrong with the file.
    private const int MostBeside = 16;

    /// <summary>What a row is made into.</summary>
    public delegate T Decoder<out T>(in SqliteStatement.Rows row);

    /// <summary>Reads the turns of a session from one number to another, as far as there are such, in order.</summary>
    public static List<T> Read<T>(SqliteLink link, long session, int from, int to, Decoder<T> decode)
    {
        List<T> turns = [];
        var key = Start(link, session, to);
        for (var left = to - from + 1 + MostBeside; left > 0 && key != 0; left--)
        {
            using var rows = link[SqliteSql.TurnByKey].Bind(key).Read();
            if (!rows.Next())
            {
                break;
            }

            var number = rows.Int(0);
            if (number >= from && number <= to)
            {
                turns.Add(decode(rows));
            }

            key = number > from ? rows.Long(SqliteRows.AfterTurn) : 0;
        }

        turns.Reverse();
        return turns;
    }

    private static long Start(SqliteLink link, long session, int to)
    {
        using var rows = link[SqliteSql.TurnFrom].Bind(session).Bind(to).Read();
        return rows.Next() ? rows.Long(0) : 0;
    }
}
