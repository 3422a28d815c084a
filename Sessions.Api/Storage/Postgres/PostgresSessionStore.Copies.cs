using Npgsql;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <content>Sessions that are made: new, out of others, or as they were in another store.</content>
internal sealed partial class PostgresSessionStore
{
    private const int StagedTurns = 100;
    private const int StagedBytes = 4 << 20;

    // A copy whose turns stop coming is swept after that.
    private static readonly long StagedLifetime = TimeSpan.FromHours(1).Ticks / TimeSpan.TicksPerMicrosecond;

    /// <inheritdoc/>
    public async ValueTask<CopyResult> CopyAsync(CopyRequest request, CancellationToken cancellationToken)
    {
        if (request.Turns is null)
        {
            return await CopyAsync(request, null, cancellationToken);
        }

        var staged = await StageAsync(request, cancellationToken);
        if (staged is null)
        {
            return new CopyResult(CopyStatus.SourceNotFound);
        }

        CopyResult? result = null;
        try
        {
            result = await CopyAsync(request, staged, cancellationToken);
            return result.Value;
        }
        finally
        {
            if (result is not { Status: CopyStatus.Created })
            {
                await UnstageAsync(staged.Sid);
            }
        }
    }

    private async ValueTask<CopyResult> CopyAsync(CopyRequest request, Staged? staged, CancellationToken cancellationToken)
    {
        var told = new Told();
        try
        {
            var result = await InTransactionAsync(told, (connection, cancel) => CopyAsync(connection, request, staged, told, cancel),
                cancellationToken);
            await TellAsync(told);
            return result.Status == CopyStatus.IdTaken ? await IdTakenAsync() : result;
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.UniqueViolation)
        {
            return await IdTakenAsync();
        }

        async Task<CopyResult> IdTakenAsync() => new(CopyStatus.IdTaken)
        {
            IsOwn = request.Session is { ReservedBy: { } key, Id: var id } && await database.RunAsync(
                (connection, cancel) => PostgresDatabase.QueryAsync(
                    connection, [PostgresDatabase.Command(PostgresSql.ReadReservedBy, id)], async (reader, inner) =>
                        await reader.ReadAsync(inner) && !reader.IsDBNull(0) && reader.GetGuid(0) == key, cancel),
                cancellationToken),
        };
    }

    private async Task<CopyResult> CopyAsync(NpgsqlConnection connection, CopyRequest request, Staged? staged, Told told,
        CancellationToken cancellationToken)
    {
        var create = request.Session;
        PostgresSession? source = null;
        List<PostgresSession> taken;
        if (request.Source is { } named)
        {
            if (await FindOwnerAsync(connection, named, cancellationToken) is not { } found)
            {
                return new CopyResult(CopyStatus.SourceNotFound);
            }

            create = create with { UserId = found.UserId };
            (source, taken) = await LockOwnersAsync<(PostgresSession?, List<PostgresSession>)>(
                connection, [OwnerKey.Of(create.UserId, create.Id)],
                () => [PostgresDatabase.Command(PostgresSql.LockSession, found.Sid), LockTakenCommand(create)],
                async (reader, cancel) =>
                {
                    var read = await ReadSessionAsync(reader, cancel);
                    await reader.NextResultAsync(cancel);
                    return (read, await ReadTakenAsync(reader, cancel));
                }, cancellationToken);
            if (source is not { IsThere: true } || !source.IsLive(Now) || !request.Owner.MayHave(source.Session.UserId)
                || source.Session.UserId != create.UserId
                || (request.SourceKey is { } key && key != source.Session.Key))
            {
                return new CopyResult(CopyStatus.SourceNotFound);
            }
        }
        else
        {
            taken = await LockOwnersAsync(connection, [OwnerKey.Of(create.UserId, create.Id)], () => [LockTakenCommand(create)],
                ReadTakenAsync, cancellationToken);
        }

        var now = Now;
        var (count, bytes, summary) = (staged?.Turns ?? 0, staged?.Bytes ?? 0, request.Summary);
        if (source is not null)
        {
            var wanted = request.AfterTurn ?? source.Session.TurnCount;
            if (wanted < 0 || wanted > source.Session.TurnCount)
            {
                return new CopyResult(CopyStatus.NoSuchTurn, await CompleteAsync(connection, source.Session, cancellationToken));
            }

            if (staged is null)
            {
                count = wanted;
                summary = source.Session.Summary?.CoversTurns <= wanted ? source.Session.Summary : null;
                bytes = await PostgresDatabase.QueryAsync(
                    connection, [PostgresDatabase.Command(PostgresSql.SumTurns, source.Sid, count)], async (reader, cancel) =>
                        await reader.ReadAsync(cancel) && reader.GetInt64(1) == count ? reader.GetInt64(0)
                            : throw PostgresRows.Gap(source.Session.Id), cancellationToken);
            }
        }

        if (taken.Exists(row => row.IsThere && row.IsLive(now)))
        {
            return new CopyResult(CopyStatus.IdTaken);
        }

        if (request.Head?.ExpiresAt.ToMicroseconds() <= now)
        {
            return new CopyResult(CopyStatus.Expired);
        }

        bytes += create.Metadata.Length + (summary?.Text.Length ?? 0);
        var head = (request.Head ?? NewHead(create, now)) with
        {
            Id = create.Id,
            Key = create.Key,
            Kind = create.Kind,
            UserId = create.UserId,
            CreatedFrom = create.CreatedFrom,
            Metadata = create.Metadata,
            TurnCount = count,
            Bytes = bytes,
            Summary = summary,
        };
        var (limit, takesSource) = await MakeRoomInBytesAsync(
            connection, -1, source?.Sid ?? 0, create.UserId, create.Kind, 0, StorePolicy.SizeOf(bytes, count), told, cancellationToken);
        if (limit is not null)
        {
            return new CopyResult(CopyStatus.Full) { Limit = limit };
        }

        await RemoveAsync(connection, [.. taken.Select(row => row.Sid)], null, told, cancellationToken);

        // What makes room may be the source: its turns have been copied by then.
        var turns = source is null || staged is not null ? null
            : PostgresDatabase.Command(PostgresSql.CopyTurns, head.Key, source.Sid, count);
        var session = await InsertAsync(connection, head, request.Head is null ? create.ReservedBy : request.CreatedBy?.Key, turns,
            staged?.Sid, isLimited: request.Head is null, told, cancellationToken);
        if (takesSource)
        {
            await RemoveAsync(connection, [source!.Sid], null, told, cancellationToken);
        }

        if (request.Head is null)
        {
            told.Created = create.Kind == SessionKind.Chain ? null : create.CreatedFrom;
        }

        if (request.CreatedBy is { } reservation)
        {
            await PostgresDatabase.ExecuteAsync(
                connection, cancellationToken, PostgresDatabase.Command(PostgresSql.ImportReservation, reservation.Key, reservation.Body,
                    head.Id, head.ExpiresAt.ToMicroseconds()));
        }

        return new CopyResult(CopyStatus.Created, await CompleteAsync(connection, session.Session, cancellationToken));
    }

    // Turns come as fast as somebody sends them: they are put, some at a time, under a row that is no session yet. An erasure of its user
    // removes that row, and so the copy.
    private async ValueTask<Staged?> StageAsync(CopyRequest request, CancellationToken cancellationToken)
    {
        var userId = request.Session.UserId;
        if (request.Source is { } source)
        {
            var found = await database.RunAsync((connection, cancel) => FindOwnerAsync(connection, source, cancel), cancellationToken);
            if (found is null)
            {
                return null;
            }

            userId = found.Value.UserId;
        }

        var key = SessionKey.New();
        var id = $"~{key:N}";
        var now = Now;
        var sid = await database.RunAsync(
            async (connection, cancel) =>
            {
                await PostgresDatabase.ExecuteAsync(
                    connection, cancel, PostgresDatabase.Command(PostgresSql.InsertPlaceholder, id, key, Shard(id), userId, now, now
                        + StagedLifetime, null, 0L));
                return (await FindOwnerAsync(connection, SessionRef.ById(id), cancel))?.Sid ?? 0;
            }, cancellationToken);
        try
        {
            return await StageAsync(request, sid, cancellationToken);
        }
        catch
        {
            await UnstageAsync(sid);
            throw;
        }
    }

    private async ValueTask<Staged?> StageAsync(CopyRequest request, long sid, CancellationToken cancellationToken)
    {
        var (count, bytes, runStart, waiting) = (0, 0L, 0, 0L);
        List<NpgsqlBatchCommand> batch = [];
        await foreach (var archived in request.Turns!.WithCancellation(cancellationToken))
        {
            var turn = archived.Turn;
            runStart = Turn.RunStartOf(turn.Number, turn.Parent, runStart);
            if (turn.Number != count + 1 || turn.Parent < 0 || turn.Parent >= turn.Number || turn.RunStart != runStart)
            {
                throw new InvalidDataException(
                    $"Turn {count + 1} of session '{request.Session.Id}' is missing, or is not where it says it is.");
            }

            batch.Add(InsertTurnCommand(PostgresSql.InsertTurn, sid, archived));
            (count, bytes, waiting) = (count + 1, bytes + turn.Bytes, waiting + turn.Bytes);
            if ((batch.Count == StagedTurns || waiting >= StagedBytes) && !await FlushAsync())
            {
                return null;
            }
        }

        if (request.Head is { } head && count != head.TurnCount)
        {
            throw new InvalidDataException($"Session '{head.Id}' has {head.TurnCount} turns, but {count} came.");
        }

        cancellationToken.ThrowIfCancellationRequested();
        return await FlushAsync() ? new Staged(sid, count, bytes) : null;

        async ValueTask<bool> FlushAsync()
        {
            try
            {
                await database.RunAsync(
                    (connection, cancel) => PostgresDatabase.ExecuteAsync(connection, cancel,
                        [PostgresDatabase.Command(PostgresSql.TouchStaged, sid, Now + StagedLifetime), .. batch]), cancellationToken);
            }
            catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.ForeignKeyViolation)
            {
                // Erased meanwhile.
                return false;
            }
            catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.UniqueViolation)
            {
                throw new InvalidDataException($"Two turns of session '{request.Session.Id}' have answered the same request.", e);
            }

            batch.Clear();
            waiting = 0;
            return true;
        }
    }

    private async ValueTask UnstageAsync(long sid)
    {
        try
        {
            await database.RunAsync((connection, cancel) => RemoveAsync(connection, [sid], null, new Told(), cancel),
                CancellationToken.None);
        }
        catch (StoreUnavailableException)
        {
            // It is swept.
        }
    }

    private sealed record Staged(long Sid, int Turns, long Bytes);
}
