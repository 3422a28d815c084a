using System.Globalization;
using System.Runtime.CompilerServices;
using StackExchange.Redis;

namespace Sessions.Api;

/// <content>Moving to and from other stores.</content>
internal sealed partial class RedisSessionStore
{
    // How much of an import is sent in one step, beside TurnsPerStep: a step holds up everybody else.
    private const int BytesPerStep = 1 << 20;

    public async IAsyncEnumerable<ArchiveEntry> ExportAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (var shard = 0; shard < RedisKeys.Shards; shard++)
        {
            // A session that is used meanwhile comes by again.
            HashSet<string> seen = new(StringComparer.Ordinal);
            PageCursor? after = null;
            List<(string Id, long Activity)> ids;
            do
            {
                (_, ids) = await PageAsync([RedisKeys.Shard(shard)], descending: false, after, Chunk);
                foreach (var (id, activity) in ids)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    after = new PageCursor(activity, id);
                    if (seen.Add(id) && await ExportAsync(id) is { } entries)
                    {
                        foreach (var entry in entries)
                        {
                            yield return entry;
                        }
                    }
                }
            }
            while (ids.Count > 0);
        }
    }

    public async ValueTask<ImportStatus> ImportAsync(ArchivedSession session, IAsyncEnumerable<ArchivedTurn> turns, CancellationToken cancellationToken)
    {
        var imported = session.Session;
        if (await ReadAsync(imported.Id, Owner.Anyone, Now) is not null)
        {
            return ImportStatus.IdTaken;
        }

        var copies = CopyKeys(imported.Id);
        try
        {
            var count = await CopyAsync(imported.Id, turns, copies, cancellationToken);
            if (count != imported.TurnCount)
            {
                throw new InvalidDataException($"Session '{imported.Id}' has {imported.TurnCount} turns, but {count} came.");
            }

            return imported.LastActivityAt.ToMicroseconds() + _timeout <= Now ? ImportStatus.Expired : await FinishAsync(session, copies);
        }
        finally
        {
            redis.Send(database => database.KeyDelete(copies, CommandFlags.FireAndForget));
        }
    }

    // Null: it has gone meanwhile. Held as a whole, because half a session is none.
    private async Task<List<ArchiveEntry>?> ExportAsync(string id)
    {
        if (await ReadAsync(id, Owner.Anyone, Now) is not { Session: var session } row)
        {
            return null;
        }

        Dictionary<int, Idempotency> answered = [];
        foreach (var record in await redis.RunAsync(RedisKeys.Answered(id), (database, key) => database.HashGetAllAsync(key)))
        {
            var value = (byte[])record.Value!;
            answered[int.Parse(value.AsSpan(16), CultureInfo.InvariantCulture)] = new Idempotency(new Guid((byte[])record.Name!), new Guid(value.AsSpan(0, 16)));
        }

        Idempotency? createdBy = null;
        if (row.Reservation is { } reservation
            && await redis.RunAsync(RedisKeys.Reservation(Guid.Parse(reservation)), (database, key) => database.HashGetAsync(key, ["s", "b"])) is [var reserved, { IsNull: false } body] && reserved == id)
        {
            createdBy = new Idempotency(Guid.Parse(reservation), new Guid((byte[])body!));
        }

        List<ArchiveEntry> entries = [new(new ArchivedSession(session, createdBy), null)];
        for (var first = 0; first < session.TurnCount; first += TurnsPerStep)
        {
            var encoded = await redis.RunAsync(RedisKeys.Turns(id), (database, key) => database.ListRangeAsync(key, first, Math.Min(session.TurnCount, first + TurnsPerStep) - 1));
            for (var i = 0; i < encoded.Length; i++)
            {
                var number = first + i + 1;
                entries.Add(new(null, new ArchivedTurn(RedisCodec.DecodeTurn(encoded[i], number), answered.TryGetValue(number, out var request) ? request : null)));
            }
        }

        var still = await redis.RunAsync(RedisKeys.Session(id), (database, key) => database.HashGetAsync(key, "i"));
        return still == row.Incarnation ? entries : null;
    }

    private async Task<int> CopyAsync(string id, IAsyncEnumerable<ArchivedTurn> turns, RedisKey[] copies, CancellationToken cancellationToken)
    {
        var (count, bytes) = (0, 0L);
        List<RedisValue> encoded = [];
        List<HashEntry> answered = [];
        await foreach (var (turn, answeredTo) in turns.WithCancellation(cancellationToken))
        {
            if (turn.Number != ++count)
            {
                throw new InvalidDataException($"Turn {count} of session '{id}' is missing.");
            }

            encoded.Add(RedisCodec.Encode(turn));
            bytes += encoded[^1].Length();
            if (answeredTo is { } request)
            {
                answered.Add(new(request.Key.ToByteArray(), (byte[])[.. request.Body.ToByteArray(), .. System.Text.Encoding.ASCII.GetBytes(turn.Number.ToString(CultureInfo.InvariantCulture))]));
            }

            if (encoded.Count == TurnsPerStep || bytes > BytesPerStep)
            {
                await SendAsync();
            }
        }

        await SendAsync();
        return count;

        async Task SendAsync()
        {
            if (encoded.Count > 0)
            {
                await AppendAsync(copies[0], [.. encoded]);
            }

            if (answered.Count > 0)
            {
                HashEntry[] records = [.. answered];
                await redis.RunAsync(copies[1], async (database, key) =>
                {
                    await database.HashSetAsync(key, records);
                    return true;
                });
                await redis.RunAsync(copies[1], (database, key) => database.KeyExpireAsync(key, CopyLife));
            }

            encoded.Clear();
            answered.Clear();
            bytes = 0;
        }
    }

    private async Task<ImportStatus> FinishAsync(ArchivedSession session, RedisKey[] copies)
    {
        var imported = session.Session;
        var activity = imported.LastActivityAt.ToMicroseconds();
        List<RedisValue> fields = ["c", imported.CreatedAt.ToMicroseconds(), "a", activity, "v", imported.Version, "e", imported.ErrorCount];
        if (imported.LastError is { } error)
        {
            fields.AddRange(["le", error]);
        }

        if (imported.Summary is { } summary)
        {
            fields.AddRange(["st", summary.Text.Bytes, "sc", summary.CoversTurns]);
        }

        var added = new NewSession(imported.Id, imported.UserId, imported.Metadata, imported.CreatedFrom, session.CreatedBy?.Key);
        if (await MakeAsync(added, Now, copies, [.. fields]) is null)
        {
            return ImportStatus.IdTaken;
        }

        if (session.CreatedBy is { } key)
        {
            await redis.ScriptAsync(RedisScripts.Reserve, [RedisKeys.Reservation(key.Key)],
                [Now, activity + _timeout, (long)_indexLife.TotalMilliseconds, key.Body.ToByteArray(), imported.Id, ""]);
        }

        await ListedAsync(imported.Id, imported.UserId, activity, reservation: null, isPending: true, mayEvict: false);
        return ImportStatus.Imported;
    }
}
