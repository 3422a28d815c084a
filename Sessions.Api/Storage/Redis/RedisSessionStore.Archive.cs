using System.Runtime.CompilerServices;
using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <content>Moving to other stores.</content>
internal sealed partial class RedisSessionStore
{
    public async IAsyncEnumerable<ArchiveEntry> ExportAsync(string? userId, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        foreach (var kind in AllKinds)
        {
            for (var shard = 0; shard < (userId is null ? RedisKeys.Shards : 1); shard++)
            {
                // A session that is used meanwhile comes by again.
                HashSet<string> seen = new(StringComparer.Ordinal);
                PageCursor? after = null;
                List<IndexEntry> entries;
                do
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    entries = userId is null ? await ReadShardPageAsync(shard, kind, after) : await ReadOwnerPageAsync(userId, [kind],
                        descending: false, after, Chunk);
                    foreach (var entry in entries)
                    {
                        cancellationToken.ThrowIfCancellationRequested();
                        after = new PageCursor(entry.Score, entry.Id);
                        if (entry.Id.Length > 0 && seen.Add(entry.Raw)
                            && await PastDamageAsync(() => ExportAsync(entry, userId, cancellationToken)) is { } exported)
                        {
                            foreach (var one in exported)
                            {
                                yield return one;
                            }
                        }
                    }
                }
                while (entries.Count > 0);
            }
        }
    }

    private async Task<List<IndexEntry>> ReadShardPageAsync(int shard, SessionKind kind, PageCursor? after)
    {
        RedisKey[] index = [keys.ShardIndex(shard, kind)];
        RedisKey[] others = [keys.ShardEntries(shard)];
        var page = await PageAsync(index, others, descending: false, after, Chunk);
        return await SettleShardAsync(shard, page.Lists[1], page.ServerTime)
            ? (await PageAsync(index, others, descending: false, after, Chunk)).Lists[0]
            : page.Lists[0];
    }

    // Null: it has gone meanwhile. Held as a whole, because half a session is none.
    private async Task<List<ArchiveEntry>?> ExportAsync(IndexEntry entry, string? userId, CancellationToken cancellationToken)
    {
        var (id, owner) = (entry.Id, userId is null ? Owner.Anyone : Owner.Of(userId));
        while (await ReadAsync(id, owner, entry.Key) is { Session: var session } head)
        {
            var answered = await ReadAnsweredAsync(id);
            List<ArchiveEntry> entries = [new(new ArchivedSession(session
                with { LastTurn = null }, await ReadReservationAsync(id, head.Reservation)), null)];
            if (await AddTurnsAsync(entries, session, answered, cancellationToken))
            {
                return entries;
            }
        }

        return null;
    }

    // False: turns were rewritten, or it is gone.
    private async Task<bool> AddTurnsAsync(
        List<ArchiveEntry> entries, Session session, Dictionary<int, Idempotency> answered, CancellationToken cancellationToken)
    {
        var request = new TurnPageRequest { Limit = TurnsPerStep, MaxBytes = MaxStepBytes };
        for (var last = 0; last < session.TurnCount;)
        {
            var limit = Math.Min(TurnsPerStep, session.TurnCount - last);
            var result = await ReadStepAsync(session.Id, Owner.Anyone, session.Key, request, last, "*", limit, MaxStepBytes,
                withLast: false, cancellationToken);
            if (result.IsNull || Decode(session.Id, () =>
                RedisCodec.DecodeHead(session.Id, result[0])).Session.Rewrites != session.Rewrites)
            {
                return false;
            }

            foreach (var turn in Decode(session.Id, () => DecodeTurns(result[2], result[3])))
            {
                entries.Add(new(null, new ArchivedTurn(turn, answered.TryGetValue(turn.Number, out var key) ? key : null)));
                last = turn.Number;
            }
        }

        return true;
    }

    private async Task<Dictionary<int, Idempotency>> ReadAnsweredAsync(string id)
    {
        Dictionary<int, Idempotency> answered = [];
        var records = await ReadableAsync(
            DamageReport.NameOf(id), redis.RunAsync(keys.Answered(id), (database, key) => database.HashGetAllAsync(key)));
        foreach (var record in records)
        {
            var (body, number) = Decode(id, () => RedisCodec.DecodeAnswer((byte[]?)record.Value));
            answered[number] = new Idempotency(Decode(id, () => RedisCodec.DecodeHash((byte[]?)record.Name)), body);
        }

        return answered;
    }

    private async Task<Idempotency?> ReadReservationAsync(string id, string? reservation)
    {
        if (reservation is null || !Guid.TryParse(reservation, out var key))
        {
            return null;
        }

        var values = await ReadableAsync($"the reservation {key:N}", redis.RunAsync(
            keys.Reservation(key), (database, name) => database.HashGetAsync(name, ["s", "b"])));
        return values is [var reserved, { IsNull: false } body]
            && reserved == id ? new Idempotency(key, Decode(id, () => RedisCodec.DecodeHash((byte[]?)body))) : null;
    }
}
