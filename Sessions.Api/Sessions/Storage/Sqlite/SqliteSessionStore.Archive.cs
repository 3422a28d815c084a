using System.Runtime.CompilerServices;
using Microsoft.Data.Sqlite;

namespace Sessions.Api;

/// <content>Moving to and from other stores.</content>
internal sealed partial class SqliteSessionStore
{
    private const int ExportedAtOnce = 100;
    private const int ImportedBytesPerStep = 1024 * 1024;

    public async IAsyncEnumerable<ArchiveEntry> ExportAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        // One session at a time sees one state of the file: a reader that stayed for all of them would keep the log from being emptied.
        for (long key = 0; ;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var link = _readers.Rent();
            try
            {
                Read(() => link[SqliteSql.BeginReading].Run());
                if (Read(() => ReadNext(link, ref key)) is not { } session)
                {
                    break;
                }

                yield return new(session, null);
                for (var number = 0; number < session.Session.TurnCount;)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var turns = Read(() => SqliteTurns.Read(link, key, number + 1, number + ExportedAtOnce, ToArchivedTurn));
                    foreach (var turn in turns)
                    {
                        yield return new(null, turn);
                    }

                    number += ExportedAtOnce;
                }
            }
            finally
            {
                // Not given back: its transaction may be open still.
                link.Dispose();
            }
        }

        await Task.CompletedTask;
    }

    public async ValueTask<ImportStatus> ImportAsync(ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken)
    {
        var id = session.Session.Id;
        if (_readers.Read(link => Find(link, id, out _)) is not null)
        {
            return ImportStatus.IdTaken;
        }

        long? built = null;
        var count = 0;
        var batch = new List<ArchivedTurn>();
        var bytes = 0;
        await foreach (var turn in turns.WithCancellation(cancellationToken))
        {
            if (turn.Turn.Number != ++count)
            {
                throw new InvalidDataException($"Turn {count} of session '{id}' is missing.");
            }

            batch.Add(turn);
            bytes += turn.Turn.Query.Length + turn.Turn.Response.Length;
            if (batch.Count == SqliteTables.TurnsPerStep || bytes > ImportedBytesPerStep)
            {
                built = await Writer.RunAsync(tables => Build(tables, built, batch), cancellationToken)
                    ?? throw new StoreUnavailableException($"Importing session '{id}' took too long; import it again.", TimeSpan.Zero);
                batch.Clear();
                bytes = 0;
            }
        }

        if (count != session.Session.TurnCount)
        {
            throw new InvalidDataException($"Session '{id}' has {session.Session.TurnCount} turns, but {count} came.");
        }

        return await Writer.RunAsync(tables => Finish(tables, session, built, batch), cancellationToken);
    }

    private static long? Build(SqliteTables tables, long? built, List<ArchivedTurn> turns)
    {
        var until = tables.Now + BuildingMicroseconds;
        var key = built ?? tables.StartBuilding(until);
        if (!tables.KeepsBuilding(key, until))
        {
            return null;
        }

        var last = tables.LastTurn(key);
        foreach (var (turn, answeredTo) in turns)
        {
            last = tables.Append(key, turn, turn.Number, last, answeredTo);
        }

        tables.SetLastTurn(key, last);

        return key;
    }

    private static ImportStatus Finish(SqliteTables tables, ArchivedSession archived, long? built, List<ArchivedTurn> turns)
    {
        var session = archived.Session;
        var now = tables.Now;
        var status = tables.IsLive(session.Id, now) ? ImportStatus.IdTaken : session.ExpiresAt.ToMicroseconds() <= now ? ImportStatus.Expired : ImportStatus.Imported;
        if (status != ImportStatus.Imported)
        {
            if (built is { } unwanted)
            {
                tables.GiveUpBuilding(unwanted);
            }

            return status;
        }

        var key = Build(tables, built, turns) ?? throw new StoreUnavailableException($"Importing session '{session.Id}' took too long; import it again.", TimeSpan.Zero);
        tables.RemoveExpired(session.Id);
        tables.Show(key, session, archived.CreatedBy?.Key);
        if (archived.CreatedBy is { } createdBy)
        {
            tables.Tie(createdBy, session.Id, session.ExpiresAt.ToMicroseconds());
        }

        return status;
    }

    private ArchivedSession? ReadNext(SqliteLink link, ref long key)
    {
        Session session;
        using (var rows = link[SqliteSql.ExportSession].Bind(key).Bind(Now).Read())
        {
            if (!rows.Next())
            {
                return null;
            }

            key = rows.SessionKey();
            session = rows.ToSession();
        }

        using var reserved = link[SqliteSql.ReservationOfSession].Bind(key).Read();
        return new ArchivedSession(session, reserved.Next() ? new Idempotency(reserved.GuidOrNull(0)!.Value, reserved.GuidOrNull(1)!.Value) : null);
    }

    private static ArchivedTurn ToArchivedTurn(in SqliteStatement.Rows row) => new(
        row.ToTurn(), row.GuidOrNull(SqliteRows.AfterTurn + 1) is { } request ? new Idempotency(request, row.GuidOrNull(SqliteRows.AfterTurn + 2)!.Value) : null);

    private static T Read<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (SqliteException e) when (SqliteFailure.IsTrouble(e))
        {
            throw SqliteFailure.ToUnavailable(e);
        }
    }
}
