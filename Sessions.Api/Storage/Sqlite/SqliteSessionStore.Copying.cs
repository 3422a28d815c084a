using Microsoft.Data.Sqlite;
using Sessions.Api.Domain;
using SQLitePCL;

namespace Sessions.Api.Storage.Sqlite;

/// <content>Making sessions: alone, out of another one, or of turns that are handed in.</content>
/// <remarks>
/// Copying a long history in one step would hold up everybody's turns: most of it goes ahead, step by step, into a session that nobody
/// sees yet, and the last step shows it. Turns change only where items of them are deleted, which <see cref="Session.Rewrites"/> tells:
/// then the copy begins anew.
/// </remarks>
internal sealed partial class SqliteSessionStore
{
    /// <summary>How many bytes one step writes, about.</summary>
    public const int BytesPerStep = 4 * 1024 * 1024;

    private const int HandedInPerStep = 2000;
    private const long BuildingMicroseconds = 3600L * 1_000_000;

    public async ValueTask<CopyResult> CopyAsync(CopyRequest request, CancellationToken cancellationToken)
    {
        while (true)
        {
            // One that is created alone comes to be in one step, before which there is nothing to be known.
            var (refused, copy) = request is { Source: null, Turns: null, Head: null }
                ? (null, new Copy(request, removals: null))
                : await ReadAsync(isConsistent: true, (SqliteDatabase db, ref List<long>? keyless) => Begin(db, request, ref keyless));
            if (refused is { } result)
            {
                return result;
            }

            try
            {
                if (request.Turns is not null)
                {
                    await TakeInAsync(copy!, request.Turns, cancellationToken);
                }
                else if (copy!.Source is not null)
                {
                    await CopyAheadAsync(copy, cancellationToken);
                }

                var finished = await Writer.RunAsync(work => Finish(work, copy!), cancellationToken);
                if (finished is { } made)
                {
                    var isNew = made.Result.Status == CopyStatus.Created && request.Head is null;
                    await PublishAsync(isNew ? request.Session : null, made.Effects);
                    return made.Result;
                }
            }
            catch when (copy!.Built.Row != 0)
            {
                await GiveUpAsync(copy.Built.Row);
                throw;
            }
        }
    }

    // What can be told without writing anything is told before anything is written.
    private (CopyResult? Refused, Copy? Copy) Begin(SqliteDatabase db, CopyRequest request, ref List<long>? keyless)
    {
        var now = Now;
        var removals = SqliteUnitOfWork.CountRemovals(db);
        if (request.Source is not { } reference)
        {
            return request.Head?.ExpiresAt.ToMicroseconds() <= now
                ? (new CopyResult(CopyStatus.Expired), null)
                : (null, new Copy(request, removals));
        }

        if (Find(db, reference, now, out var row, out _, ref keyless) is not { } source || !request.Owner.MayHave(source.UserId)
            || (request.SourceKey is { } key && key != source.Key))
        {
            return (new CopyResult(CopyStatus.SourceNotFound), null);
        }

        return request.AfterTurn is { } last && (last < 0 || last > source.TurnCount)
            ? (new CopyResult(CopyStatus.NoSuchTurn, source), null)
            : (null, new Copy(request, removals) { Source = source, SourceRow = row });
    }

    // While one step is written the next one is read.
    private async Task TakeInAsync(Copy copy, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken)
    {
        var id = copy.Request.Session.Id;
        var step = Task.FromResult(copy.Built);
        List<ArchivedTurn> batch = [];
        long bytes = 0;
        var (count, run) = (0, 0);
        try
        {
            await foreach (var handedIn in turns.WithCancellation(cancellationToken))
            {
                var turn = handedIn.Turn;
                if (turn.Number != ++count)
                {
                    throw new InvalidDataException($"Turn {count} of session '{id}' is missing.");
                }

                if (turn.Parent < 0 || turn.Parent >= count)
                {
                    throw new InvalidDataException($"Turn {count} of session '{id}' does not go on from an earlier one.");
                }

                // Told by the parents alone.
                run = Turn.RunStartOf(count, turn.Parent, run);
                batch.Add(handedIn with { Turn = turn with { RunStart = run } });
                bytes += turn.Bytes;
                if (batch.Count == HandedInPerStep || bytes > BytesPerStep)
                {
                    copy.Built = await step;
                    var full = batch;
                    step = Writer.RunAsync(work => Build(work, copy.Request, copy.Built, full), cancellationToken);
                    (batch, bytes) = ([], 0);
                }
            }
        }
        finally
        {
            // Also where reading has failed: what is written of it has to be given up, and is known only then.
            copy.Built = await step;
        }

        if (copy.Request.Head is { } head && count != head.TurnCount)
        {
            throw new InvalidDataException($"Session '{id}' has {head.TurnCount} turns, but {count} came.");
        }

        copy.LastBatch = batch;
        copy.Turns = count;
    }

    private async Task CopyAheadAsync(Copy copy, CancellationToken cancellationToken)
    {
        var turns = copy.Request.AfterTurn ?? copy.Source!.TurnCount;
        while (turns - copy.Built.Turns > SqliteUnitOfWork.TurnsPerStep)
        {
            copy.Built = await Writer.RunAsync(
                work => Build(work, copy, copy.Built.Turns + SqliteUnitOfWork.TurnsPerStep), cancellationToken);
        }
    }

    private static Building Build(SqliteUnitOfWork work, CopyRequest request, Building built, List<ArchivedTurn> turns)
    {
        var row = KeepBuilding(work, request, built);
        return new Building(row, built.Turns + turns.Count, built.Bytes + Append(work, request, row, work.LastTurn(row), turns));
    }

    private static long Append(SqliteUnitOfWork work, CopyRequest request, long row, long last, List<ArchivedTurn> turns)
    {
        long bytes = 0;
        try
        {
            foreach (var (turn, answeredTo) in turns)
            {
                last = work.Append(row, turn, last, answeredTo);
                bytes += turn.Bytes;
            }
        }
        catch (SqliteException e) when (e.SqliteErrorCode == raw.SQLITE_CONSTRAINT)
        {
            throw new InvalidDataException($"Two turns of session '{request.Session.Id}' have answered the same request.", e);
        }

        work.SetLastTurn(row, last);
        return bytes;
    }

    private static Building Build(SqliteUnitOfWork work, Copy copy, int to)
    {
        var row = KeepBuilding(work, copy.Request, copy.Built);
        return new Building(row, to, copy.Built.Bytes + work.CopyTurns(copy.SourceRow, copy.Source!.Id, row, copy.Built.Turns, to));
    }

    private static long KeepBuilding(SqliteUnitOfWork work, CopyRequest request, Building built)
    {
        var until = work.Now + BuildingMicroseconds;
        if (built.Row == 0)
        {
            return work.StartBuilding(until);
        }

        return work.KeepsBuilding(built.Row, until)
            ? built.Row
            : throw new StoreUnavailableException($"Making session '{request.Session.Id}' took too long; try again.", TimeSpan.Zero);
    }

    // Null: the source was rewritten meanwhile, and has to be copied anew.
    private static (CopyResult Result, SqliteEffects Effects)? Finish(SqliteUnitOfWork work, Copy copy)
    {
        var request = copy.Request;
        var now = work.Now;
        var effects = default(SqliteEffects);
        var created = request.Session;
        Session? source = null;
        if (copy.Source is { } begun)
        {
            source = work.Head(copy.SourceRow, now, out _);
            if (source is null || !request.Owner.MayHave(source.UserId))
            {
                return GivenUp(CopyStatus.SourceNotFound);
            }

            if (request.Turns is not null && source.Rewrites != begun.Rewrites)
            {
                throw new StoreUnavailableException($"Session '{source.Id}' has changed while it was copied; try again.", TimeSpan.Zero);
            }

            if (copy.Built.Turns > 0 && source.Rewrites != begun.Rewrites)
            {
                work.GiveUpBuilding(copy.Built.Row);
                return null;
            }

            created = created with { UserId = source.UserId };
        }

        if (copy.Removals is { } removals && work.IsRemoved(created, removals))
        {
            return GivenUp(CopyStatus.SourceNotFound);
        }

        if (request.Head?.ExpiresAt.ToMicroseconds() <= now)
        {
            return GivenUp(CopyStatus.Expired);
        }

        if (!work.Vacate(created.Id, created.Key, now, ref effects))
        {
            var isOwn = created.ReservedBy is { } key && work.IsReservedBy(created.Id, key, now);
            return (GivenUp(CopyStatus.IdTaken).Result with { IsOwn = isOwn }, effects);
        }

        var head = Head(work, request, created, source, copy, now);

        // What has come whole in one step needs no session that nobody sees: it is added behind the head.
        var isWhole = copy.Built.Row == 0 && request.Turns is not null;
        var built = isWhole ? new Building(0, copy.Turns, copy.LastBatch.Sum(turn => turn.Turn.Bytes))
            : copy.LastBatch.Count > 0 ? Build(work, request, copy.Built, copy.LastBatch)
            : request.Turns is null && head.TurnCount > copy.Built.Turns ? Build(work, copy, head.TurnCount)
            : copy.Built;
        head = head with { Bytes = head.Bytes + (head.Summary?.Text.Length ?? 0) + built.Bytes };
        if (work.MakeRoom(head.Kind, head.UserId, 0, SizeOf(head), now, ref effects) is { } limit)
        {
            return (GivenUp(CopyStatus.Full, built.Row).Result with { Limit = limit }, effects);
        }

        if (request.Head is null)
        {
            // After the turns are copied: it may push out the source.
            work.MakeRoom(head.Kind, head.UserId, now, ref effects);
        }

        var reservedBy = created.ReservedBy ?? request.CreatedBy?.Key;
        var row = built.Row;
        if (row == 0)
        {
            row = work.Insert(head, reservedBy);
            if (copy.LastBatch.Count > 0)
            {
                Append(work, request, row, last: 0, copy.LastBatch);
            }
        }
        else
        {
            work.Publish(row, head, reservedBy);
        }

        if (request.CreatedBy is { } createdBy)
        {
            work.Tie(createdBy, head.Id, head.ExpiresAt.ToMicroseconds());
        }

        return (new CopyResult(CopyStatus.Created, head.TurnCount == 0 ? head with { Place = row } : work.Get(row)), effects);

        (CopyResult Result, SqliteEffects Effects) GivenUp(CopyStatus status, long? row = null)
        {
            if ((row ?? copy.Built.Row) is not 0 and var unwanted)
            {
                work.GiveUpBuilding(unwanted);
            }

            return (new CopyResult(status), effects);
        }
    }

    private static Session Head(SqliteUnitOfWork work, CopyRequest request, NewSession created, Session? source, Copy copy, long now)
    {
        var turns = request.Turns is not null ? copy.Turns : source is null ? 0 : request.AfterTurn ?? source.TurnCount;
        var summary = request.Summary
            ?? (request.Turns is null && source?.Summary is { } along && along.CoversTurns <= turns ? along : null);
        var head = work.New(created, now);
        return request.Head is not { } imported
            ? head with { TurnCount = turns, Summary = summary }
            : head with
            {
                TurnCount = turns,
                Summary = summary ?? imported.Summary,
                CreatedAt = imported.CreatedAt,
                LastActivityAt = imported.LastActivityAt,
                ExpiresAt = imported.ExpiresAt,
                Revision = imported.Revision,
                Rewrites = imported.Rewrites,
                ErrorCount = imported.ErrorCount,
                LastError = imported.LastError,
            };
    }

    // If it can't be done now, the next clean-up after its time does it.
    private async Task GiveUpAsync(long built)
    {
        try
        {
            await Writer.RunAsync(work =>
            {
                work.GiveUpBuilding(built);
                return 0;
            }, CancellationToken.None);
        }
        catch (StoreUnavailableException)
        {
            // Told by what comes after.
        }
    }

    /// <summary>A session that is being built.</summary>
    /// <param name="Row">Its row; 0: there is none yet.</param>
    /// <param name="Turns">How many turns it has.</param>
    /// <param name="Bytes">How many bytes they have.</param>
    private readonly record struct Building(long Row, int Turns, long Bytes);

    /// <summary>What is to be made, and how far it has come.</summary>
    private sealed class Copy(CopyRequest request, long? removals)
    {
        public CopyRequest Request { get; } = request;

        /// <summary>How many removals there had been when it began; <see langword="null"/>: it is one step.</summary>
        public long? Removals { get; } = removals;

        /// <summary>The source as it was then, if there is one.</summary>
        public Session? Source { get; init; }

        public long SourceRow { get; init; }

        /// <summary>What is on the disk. Set when a step has been committed: a step may run twice.</summary>
        public Building Built { get; set; }

        /// <summary>Turns that were handed in and are not on the disk.</summary>
        public List<ArchivedTurn> LastBatch { get; set; } = [];

        /// <summary>How many turns were handed in.</summary>
        public int Turns { get; set; }
    }
}
