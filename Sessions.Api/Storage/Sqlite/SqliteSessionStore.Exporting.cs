using System.Runtime.CompilerServices;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Sqlite;

/// <content>Reading everything, to be moved to another store.</content>
internal sealed partial class SqliteSessionStore
{
    private const int ExportedAtOnce = 100;

    public async IAsyncEnumerable<ArchiveEntry> ExportAsync(string? userId, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        foreach (var (row, isKeyless) in userId is null ? RowsOfAll() : RowsOf(userId))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (isKeyless)
            {
                await Writer.RunAsync(work => work.GiveKey(row), cancellationToken);
            }

            if (Begin(row) is not var (session, first))
            {
                continue;
            }

            yield return new(session, null);
            for (var batch = first; batch.Count > 0; batch = ReadMore(row, session.Session, batch[^1].Turn.Number + 1))
            {
                foreach (var turn in batch)
                {
                    yield return new(null, turn);
                    cancellationToken.ThrowIfCancellationRequested();
                }
            }
        }
    }

    private IEnumerable<(long Row, bool IsKeyless)> RowsOfAll()
    {
        for (var row = NextRow(0); row is { } next; row = NextRow(next.Row))
        {
            yield return next;
        }
    }

    private (long Row, bool IsKeyless)? NextRow(long row) => _readers.Read<(long, bool)?>(db =>
    {
        using var rows = db[SqliteSql.NextRow].Bind(row).Bind(Now).Read();
        return rows.Next() ? (rows.Long(0), rows.Long(1) != 0) : null;
    });

    private List<(long Row, bool IsKeyless)> RowsOf(string userId) => _readers.Read(db =>
    {
        List<(long, bool)> found = [];
        using var rows = db[SqliteSql.RowsOfUser].Bind(userId).Bind(Now).Read();
        while (rows.Next())
        {
            found.Add((rows.Long(0), rows.Long(1) != 0));
        }

        return found;
    });

    // Whether all of a session can be read is known before anything of it is given. What can't be is gone past, and told.
    private (ArchivedSession Session, List<ArchivedTurn> First)? Begin(long row) =>
        ReadPastDamage<(ArchivedSession, List<ArchivedTurn>)?>(null, db =>
        {
            if (ReadHead(db, row) is not { } session)
            {
                return null;
            }

            var turns = new SqliteTurnReader(db, row, session.Id);
            var first = ReadSome(turns, session, 1);
            for (var number = first.Count + 1; number <= session.TurnCount; number += SqliteUnitOfWork.TurnsPerStep)
            {
                turns.Verify(number, Math.Min(session.TurnCount, number + SqliteUnitOfWork.TurnsPerStep - 1));
            }

            return (new ArchivedSession(session, ReservationOf(db, row, session.Id)), first);
        });

    // As it is by then: nothing more of a session that is gone, and nothing that was deleted of a turn.
    private List<ArchivedTurn> ReadMore(long row, Session session, int from) => from > session.TurnCount
        ? []
        : ReadPastDamage<List<ArchivedTurn>>([], db => IsVisible(db, row) ? ReadSome(new(db, row, session.Id), session, from) : []);

    // In a transaction that ends with it: whoever takes what was read may take any time for that, and nobody could empty the log until
    // then.
    private T ReadPastDamage<T>(T nothing, Func<SqliteDatabase, T> read)
    {
        try
        {
            return _readers.ReadConsistently(read);
        }
        catch (StoredDataException)
        {
            // Told already.
            return nothing;
        }
    }

    private Session? ReadHead(SqliteDatabase db, long row)
    {
        // With its last turn, which tells whether it counts those that it has.
        using var rows = db[SqliteSql.SessionByRow].Bind(row).Read();
        return rows.Next() && !rows.IsNull(1) && rows.Long(6) > Now ? rows.ToSession() with { LastTurn = null } : null;
    }

    private List<ArchivedTurn> ReadSome(SqliteTurnReader turns, Session session, int from) =>
        turns.ReadSome(
            from,
            Math.Min(session.TurnCount, from + ExportedAtOnce - 1),
            BytesPerStep,
            (turn, in row) => new ArchivedTurn(turn, AnsweredTo(row, session.Id)));

    private Idempotency? AnsweredTo(in SqliteStatement.Rows row, string sessionId)
    {
        try
        {
            return row.ToIdempotency(SqliteRows.AfterTurn + 2, DamageReport.NameOf(sessionId));
        }
        catch (StoredDataException e)
        {
            _policy.Damage.Report(e.What, e);
            return null;
        }
    }

    private Idempotency? ReservationOf(SqliteDatabase db, long row, string sessionId)
    {
        try
        {
            using var rows = db[SqliteSql.ReservationOfSession].Bind(row).Read();
            return rows.Next() ? rows.ToIdempotency(0, DamageReport.NameOf(sessionId)) : null;
        }
        catch (StoredDataException e)
        {
            _policy.Damage.Report(e.What, e);
            return null;
        }
    }
}
