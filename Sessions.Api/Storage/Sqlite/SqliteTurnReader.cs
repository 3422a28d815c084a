using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Sqlite;

/// <summary>
/// Reads turns of one session along the way from each to the one before it: the index has only every sixteenth, see
/// <see cref="SqliteSchema"/>. A path is found run by run: within a run each turn continues the one before it, and its first one names
/// the turn that it goes on from.
/// </summary>
/// <param name="db">The connection, in a transaction where what is read must be of one moment.</param>
/// <param name="session">The session's row.</param>
/// <param name="id">Its id, to name what can't be read.</param>
/// <param name="newest">Its last turn, where that was read already.</param>
/// <param name="newestRow">And the row of that.</param>
internal readonly struct SqliteTurnReader(SqliteDatabase db, long session, string id, Turn? newest = null, long newestRow = 0)
{
    // From the landmark behind the turn that is wanted. Never further, whatever is wrong with the file.
    private const int MaxBeside = 16;

    /// <summary>What a turn and its row are made into.</summary>
    public delegate T Maker<out T>(Turn turn, in SqliteStatement.Rows row);

    /// <summary>Turns of a path that follow each other without another between them.</summary>
    /// <param name="Start">The first.</param>
    /// <param name="End">The last one of it that is on the path.</param>
    /// <param name="Parent">The turn that the first one goes on from; 0: none.</param>
    private readonly record struct Run(int Start, int End, int Parent);

    /// <summary>The turn with that number.</summary>
    public Turn Read(int number) => number == newest?.Number ? newest : Decode(RowOf(number), number).Turn;

    /// <summary>The newest turns of a path, oldest first: as many as are wanted and fit; the last one in any case.</summary>
    /// <param name="tip">The last turn of the path; 0: the path is empty.</param>
    /// <param name="limit">How many are wanted.</param>
    /// <param name="maxBytes">How many bytes they may have.</param>
    /// <param name="isCut">Whether some of those wanted did not fit.</param>
    public List<Turn> ReadTail(int tip, int limit, int maxBytes, out bool isCut)
    {
        List<Turn> turns = [];
        isCut = ReadBackwards(tip, limit, maxBytes, turns);
        turns.Reverse();
        return turns;
    }

    /// <summary>A page of the path that ends with <paramref name="tip"/>.</summary>
    public List<Turn> ReadPath(int tip, TurnPageRequest request)
    {
        List<Turn> turns = [];
        if (request.Descending)
        {
            var from = Math.Clamp((request.After ?? int.MaxValue) - 1L, 0, tip);
            ReadBackwards(from < tip ? LastOnPath(tip, (int)from) : tip, request.Limit, request.MaxBytes, turns);
            return turns;
        }

        // The path is known from its end only: run by run to where the page begins.
        var after = Math.Max(request.After ?? 0, 0);
        var runs = new Stack<Run>();
        for (var end = tip; end > after;)
        {
            var run = RunOf(end);
            runs.Push(run);
            end = run.Parent;
        }

        long bytes = 0;
        while (runs.TryPop(out var run) && ReadForwards(Math.Max(run.Start, after + 1), run.End, request, turns, ref bytes))
        {
        }

        return turns;
    }

    /// <summary>A page of all turns in the order of their numbers.</summary>
    /// <param name="count">How many there are.</param>
    /// <param name="request">Which page.</param>
    public List<Turn> ReadAll(int count, TurnPageRequest request)
    {
        List<Turn> turns = [];
        if (request.Descending)
        {
            ReadBackwards((int)Math.Clamp((request.After ?? int.MaxValue) - 1L, 0, count), request.Limit, request.MaxBytes, turns,
                isPath: false);
        }
        else
        {
            long bytes = 0;
            ReadForwards(Math.Clamp(request.After ?? 0, 0, count) + 1, count, request, turns, ref bytes);
        }

        return turns;
    }

    /// <summary>The turns from one number to another, in order, as far as they have no more bytes than that: one in any case.</summary>
    public List<T> ReadSome<T>(int from, int to, int maxBytes, Maker<T> make)
    {
        List<T> made = [];
        long bytes = 0;
        var number = from;
        foreach (var row in RowsOf(from, to))
        {
            using var rows = db[SqliteSql.TurnByRow].Bind(row).Read();
            var turn = Checked(rows, number++);
            bytes += turn.Bytes;
            if (made.Count > 0 && bytes > maxBytes)
            {
                break;
            }

            made.Add(make(turn, rows));
        }

        return made;
    }

    /// <summary>Makes sure that the turns from one number to another can be read, without their texts.</summary>
    /// <exception cref="StoredDataException">One can't.</exception>
    public void Verify(int from, int to)
    {
        var number = from;
        foreach (var row in RowsOf(from, to))
        {
            using var rows = db[SqliteSql.TurnWithoutTexts].Bind(row).Read();
            Checked(rows, number++);
        }
    }

    /// <summary>The row of the turn with that number.</summary>
    /// <exception cref="StoredDataException">It is missing.</exception>
    public long RowOf(int number)
    {
        if (number == newest?.Number)
        {
            return newestRow;
        }

        var row = StartFrom(number);
        for (var left = MaxBeside + 1; left > 0 && row != 0; left--)
        {
            using var rows = db[SqliteSql.LinkByRow].Bind(row).Read();
            if (!rows.Next() || rows.Long(0) != session || rows.Int(1) < number)
            {
                break;
            }

            if (rows.Int(1) == number)
            {
                return row;
            }

            row = rows.Long(2);
        }

        throw SqliteRows.DamagedTurn(id, number);
    }

    // Newest first. The next one is found with each, so nothing is looked for between those of one run.
    private bool ReadBackwards(int from, int limit, int maxBytes, List<Turn> turns, bool isPath = true)
    {
        long bytes = 0;
        long? row = null;
        for (var number = from; number > 0 && turns.Count < limit;)
        {
            var (turn, previous) = Decode(row ?? RowOf(number), number);
            bytes += turn.Bytes;
            if (turns.Count > 0 && bytes > maxBytes)
            {
                return true;
            }

            turns.Add(turn);
            var next = isPath ? turn.Parent : number - 1;
            row = next == number - 1 ? previous : null;
            number = next;
        }

        return false;
    }

    // False: the page is full. Turns are found from the end, and read on the way as long as all of them fit in; of the others only the
    // rows are noted.
    private bool ReadForwards(int from, int to, TurnPageRequest request, List<Turn> turns, ref long bytes)
    {
        to = (int)Math.Min(to, from + (long)request.Limit - turns.Count - 1);
        if (from > to)
        {
            return turns.Count < request.Limit;
        }

        var found = new (long Row, Turn? Turn)[to - from + 1];
        var (row, read) = (RowOf(to), bytes);
        for (var number = to; number >= from; number--)
        {
            if (read <= request.MaxBytes)
            {
                var (turn, previous) = Decode(row, number);
                found[number - from] = (row, turn);
                (row, read) = (previous, read + turn.Bytes);
            }
            else
            {
                found[number - from] = (row, null);
                row = PreviousOf(row, number);
            }
        }

        for (var number = from; number <= to; number++)
        {
            var turn = found[number - from].Turn ?? Decode(found[number - from].Row, number).Turn;
            bytes += turn.Bytes;
            if (turns.Count > 0 && bytes > request.MaxBytes)
            {
                return false;
            }

            turns.Add(turn);
        }

        return turns.Count < request.Limit;
    }

    // In order. Found from the end, which reads no texts: SQLite reads a row no further than the last column asked for.
    private long[] RowsOf(int from, int to)
    {
        if (from > to)
        {
            return [];
        }

        var rowsOf = new long[to - from + 1];
        var row = RowOf(to);
        for (var number = to; number >= from; number--)
        {
            rowsOf[number - from] = row;
            row = PreviousOf(row, number);
        }

        return rowsOf;
    }

    private long PreviousOf(long row, int number)
    {
        using var rows = db[SqliteSql.LinkByRow].Bind(row).Read();
        return rows.Next() && rows.Long(0) == session && rows.Int(1) == number ? rows.Long(2)
            : throw SqliteRows.DamagedTurn(id, number);
    }

    // The last turn of the path that is not behind the number; 0: none.
    private int LastOnPath(int tip, int number)
    {
        var end = tip;
        while (end > number)
        {
            var run = RunOf(end);
            if (run.Start <= number)
            {
                return number;
            }

            end = run.Parent;
        }

        return end;
    }

    private Run RunOf(int end)
    {
        var start = Read(end).RunStart;

        // A session without branches is one run, and its first turn goes on from none.
        return start == 1 ? new Run(1, end, 0) : new Run(start, end, Read(start).Parent);
    }

    private (Turn Turn, long Previous) Decode(long row, int number)
    {
        using var rows = db[SqliteSql.TurnByRow].Bind(row).Read();
        return (Checked(rows, number), rows.Long(SqliteRows.AfterTurn));
    }

    private Turn Checked(in SqliteStatement.Rows rows, int number) =>
        rows.Next() && rows.Int(1) == number && rows.Long(SqliteRows.AfterTurn + 1) == session
            ? rows.ToTurn(id)
            : throw SqliteRows.DamagedTurn(id, number);

    private long StartFrom(int number)
    {
        using var rows = db[SqliteSql.TurnFrom].Bind(session).Bind(number).Read();
        return rows.Next() ? rows.Long(0) : 0;
    }
}
