using System.Runtime.CompilerServices;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <content>Lists and exports.</content>
internal sealed partial class PostgresSessionStore
{
    // Held at once for somebody who reads an export, however slowly.
    private const long ExportedBytes = 4 << 20;

    private static readonly int[] VisibleKinds = [(int)SessionKind.Session, (int)SessionKind.Conversation];

    /// <inheritdoc/>
    public async ValueTask<Page<Session>> ListAsync(SessionPageRequest request, CancellationToken cancellationToken)
    {
        var after = request.After ?? (request.Ascending ? new PageCursor(long.MinValue, "") : new PageCursor(long.MaxValue, "\U0010FFFF"));
        var kinds = request.Kind is { } kind ? [(int)kind] : VisibleKinds;
        return await database.RunAsync(
            (connection, cancel) => PostgresDatabase.QueryAsync(
                connection,
                [
                    PostgresDatabase.Command(
                        PostgresSql.List(request.UserId is not null, request.Ascending, kinds), request.UserId, Now, request.Limit,
                            (long)request.MaxBytes, after.Position, after.Id),
                ],
                async (reader, stop) =>
                {
                    List<Session> items = [];
                    var (available, read) = (0L, 0);
                    PageCursor last = default;
                    while (await reader.ReadAsync(stop))
                    {
                        read++;
                        available = reader.GetInt64(PostgresRows.SessionWidth + PostgresRows.TurnWidth);
                        last = new PageCursor(reader.GetInt64(7), reader.GetString(1));
                        try
                        {
                            var session = PostgresRows.ReadSession(reader, PostgresRows.SessionWidth).Session;
                            items.Add(session is { TurnCount: > 0, LastTurn: null } ? throw PostgresRows.NoTurn(session) : session);
                        }
                        catch (StoredDataException e)
                        {
                            policy.Damage.Report(e.What, e.InnerException);
                        }
                    }

                    return new Page<Session>(items, read < available ? last : null);
                }, cancel), cancellationToken);
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<ArchiveEntry> ExportAsync(string? userId, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (var behind = 0L; ;)
        {
            var now = Now;
            var sids = await database.RunAsync(
                (connection, cancel) => ReadSidsAsync(
                    connection,
                    userId is null ? PostgresDatabase.Command(PostgresSql.ListForExport, behind, now)
                        : PostgresDatabase.Command(PostgresSql.ListForExportOfUser, userId, behind, now),
                    cancel), cancellationToken);
            foreach (var sid in sids)
            {
                await foreach (var entry in ExportAsync(sid, userId, cancellationToken))
                {
                    yield return entry;
                }
            }

            if (sids.Count == 0)
            {
                yield break;
            }

            behind = sids[^1];
        }
    }

    private async IAsyncEnumerable<ArchiveEntry> ExportAsync(long sid, string? userId,
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var session = await ReadForExportAsync(sid, cancellationToken);
        if (session is null || (userId is not null && session.Session.UserId != userId))
        {
            yield break;
        }

        yield return new(session, null);
        for (var behind = 0; behind < session.Session.TurnCount;)
        {
            var turns = await ReadTurnsForExportAsync(session.Session, sid, behind, cancellationToken);
            foreach (var turn in turns.Read)
            {
                yield return new(null, turn);
            }

            if (turns.Last == behind)
            {
                yield break;
            }

            behind = turns.Last;
        }
    }

    private async ValueTask<ArchivedSession?> ReadForExportAsync(long sid, CancellationToken cancellationToken)
    {
        try
        {
            return await database.RunAsync(
                (connection, cancel) => PostgresDatabase.QueryAsync(
                    connection, [PostgresDatabase.Command(PostgresSql.ReadForExport, sid, Now)], async (reader, stop) =>
                    {
                        if (!await reader.ReadAsync(stop))
                        {
                            return null;
                        }

                        var at = PostgresRows.SessionWidth;
                        Idempotency? createdBy = reader.IsDBNull(at) || reader.IsDBNull(at + 1) ? null
                            : new Idempotency(reader.GetGuid(at), reader.GetGuid(at + 1));
                        var session = PostgresRows.ReadSession(reader).Session;

                        // Another store would be given a session with a hole.
                        return reader.GetInt64(at + 2) == session.TurnCount ? new ArchivedSession(session, createdBy)
                            : throw PostgresRows.Gap(session.Id);
                    }, cancel), cancellationToken);
        }
        catch (StoredDataException e)
        {
            policy.Damage.Report(e.What, e.InnerException);
            return null;
        }
    }

    private async ValueTask<(List<ArchivedTurn> Read, int Last)> ReadTurnsForExportAsync(Session session, long sid, int behind,
        CancellationToken cancellationToken) => await database.RunAsync(
        (connection, cancel) => PostgresDatabase.QueryAsync(
            connection,
            [PostgresDatabase.Command(PostgresSql.ReadTurnsForExport, sid, behind, session.TurnCount, ExportedBytes)],
            async (reader, stop) =>
            {
                List<ArchivedTurn> turns = [];
                var last = behind;
                while (await reader.ReadAsync(stop))
                {
                    last = reader.GetInt32(2);
                    try
                    {
                        Idempotency? answered = reader.IsDBNull(0) ? null : new Idempotency(reader.GetGuid(0), reader.GetGuid(1));
                        turns.Add(new ArchivedTurn(PostgresRows.ReadTurn(reader, 2, session.Id), answered));
                    }
                    catch (StoredDataException e)
                    {
                        policy.Damage.Report(e.What, e.InnerException);
                    }
                }

                return (turns, last);
            }, cancel), cancellationToken);
}
