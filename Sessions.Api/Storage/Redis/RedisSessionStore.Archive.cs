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
                        if (entry.Id.Length == 0 || !seen.Add(entry.Raw)
                            || await PastDamageAsync(() => BeginExportAsync(entry, userId, cancellationToken)) is not { } exported)
                        {
                            continue;
                        }

                        yield return new(exported.Session, null);
                        for (var turns = exported.First; turns is { Count: > 0 }; turns = turns[^1].Turn.Number < exported.Head.TurnCount
                            ? await PastDamageAsync(() => ReadForExportAsync(exported, turns[^1].Turn.Number, cancellationToken)) : null)
                        {
                            foreach (var turn in turns)
                            {
                                cancellationToken.ThrowIfCancellationRequested();
                                yield return new(null, turn);
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

    // Null: it has gone meanwhile. Whether all of it can be read is known before anything of it is given; only the first step is held.
    private async Task<Exported?> BeginExportAsync(IndexEntry entry, string? userId, CancellationToken cancellationToken)
    {
        var (id, owner) = (entry.Id, userId is null ? Owner.Anyone : Owner.Of(userId));
        while (await ReadAsync(id, owner, entry.Key) is { Session: var session } head)
        {
            var exported = new Exported(
                new ArchivedSession(session with { LastTurn = null }, await ReadReservationAsync(id, head.Reservation)),
                await ReadAnsweredAsync(id));
            var turns = exported.First;
            for (var last = 0; turns is not null && last < session.TurnCount; last = turns?[^1].Turn.Number ?? 0)
            {
                turns = await ReadForExportAsync(exported, last, cancellationToken);
                exported.First = last == 0 ? turns ?? [] : exported.First;
            }

            if (turns is not null)
            {
                return exported;
            }
        }

        return null;
    }

    // As they are by then: nothing more of a session that is gone, and nothing that was deleted of a turn. Null: it is gone.
    private async Task<List<ArchivedTurn>?> ReadForExportAsync(Exported exported, int last, CancellationToken cancellationToken)
    {
        var session = exported.Head;
        var request = new TurnPageRequest { Limit = TurnsPerStep, MaxBytes = MaxStepBytes };
        var limit = Math.Min(TurnsPerStep, session.TurnCount - last);
        var result = await ReadStepAsync(session.Id, Owner.Anyone, session.Key, request, last, "*", limit, MaxStepBytes,
            withLast: false, cancellationToken);
        return result.IsNull
            ? null
            : Decode(session.Id, () => DecodeTurns(result[2], result[3])).ConvertAll(turn =>
                new ArchivedTurn(turn, exported.Answered.TryGetValue(turn.Number, out var key) ? key : null));
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

    private sealed record Exported(ArchivedSession Session, Dictionary<int, Idempotency> Answered)
    {
        public Session Head => Session.Session;

        /// <summary>The turns that come first.</summary>
        public List<ArchivedTurn> First { get; set; } = [];
    }
}
