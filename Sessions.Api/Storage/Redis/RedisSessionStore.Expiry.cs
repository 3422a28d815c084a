using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <content>What has expired, and what has not.</content>
internal sealed partial class RedisSessionStore
{
    public async ValueTask<int> SweepAsync(CancellationToken cancellationToken)
    {
        var total = 0;
        for (var shard = 0; shard < RedisKeys.Shards; shard++)
        {
            var entries = await PageAsync([], [keys.ShardEntries(shard)], descending: false, null, Chunk);
            await SettleShardAsync(shard, entries.Lists[0], entries.ServerTime);
            foreach (var kind in AllKinds)
            {
                var removed = await SweepAsync(shard, kind, cancellationToken);
                total += kind == SessionKind.Chain ? 0 : removed;
            }
        }

        return total;
    }

    public async ValueTask<StoreStatistics> CountAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var counts = await Task.WhenAll(Enumerable.Range(0, RedisKeys.Shards).Select(CountAsync));
        return new StoreStatistics(counts.Sum(), 0);
    }

    private async Task<long> CountAsync(int shard)
    {
        var entries = await PageAsync([], [keys.ShardEntries(shard)], descending: false, null, Chunk);
        await SettleShardAsync(shard, entries.Lists[0], entries.ServerTime);
        var now = Now;
        var counts = await Task.WhenAll(ListedKinds.Select(kind => PastDamageAsync(() =>
        {
            var index = keys.ShardExpiry(shard, kind);
            return ReadableAsync($"the index {index}", redis.RunAsync(index, (database, key) =>
                database.SortedSetLengthAsync(key, now, double.PositiveInfinity, Exclude.Start)));
        })));
        return counts.Sum();
    }

    private async Task<int> SweepAsync(int shard, SessionKind kind, CancellationToken cancellationToken)
    {
        var total = 0;
        PageCursor? after = null;
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var now = Now;
            var page = await PageAsync([keys.ShardExpiry(shard, kind)], [], descending: false, after, Chunk);
            var due = page.Lists[0].TakeWhile(entry => entry.Score <= now).ToList();
            var gone = await Task.WhenAll(due.Select(entry => PastDamageAsync(() => ExpireAsync(entry))));
            var counted = await DropAsync(shard, kind, [.. due.Where((_, i) => gone[i]).Select(entry => entry.Stored)]);
            total += counted;
            if (counted > 0 && kind != SessionKind.Chain)
            {
                policy.Events.Expired(counted);
            }

            if (due.Count < Chunk)
            {
                return total;
            }

            after = new PageCursor(due[^1].Score, due[^1].Id);
        }
    }

    // Whether there is nothing left behind the entry.
    private async Task<bool> ExpireAsync(IndexEntry entry)
    {
        if (entry.Id.Length == 0)
        {
            return true;
        }

        var result = await RunAsync(RedisScripts.Remove, entry.Id, Owner.Anyone, "", "expired", RedisCodec.Encode(entry.Key), 0, "");
        var (status, remains) = ((RemoveStatus)(int)result[0], result.Length > 1 ? RedisRemains.Decode(result[1]) : null);
        if (status == RemoveStatus.LeftAlone && remains?.Key == entry.Key)
        {
            // It has been active since: whoever saw to that died before telling the index.
            if (await LookAsync(entry.Id, entry.Key) is { Facts: { } facts })
            {
                await TouchAsync(facts, exactly: true);
            }

            return false;
        }

        if (status == RemoveStatus.Removed && remains is not null)
        {
            policy.Damage.Forget(DamageReport.NameOf(entry.Id));
            await PastTroubleAsync(entry.Id, () => ForgetBesideAllAsync(entry.Id, entry.Key, remains));
        }

        return true;
    }
}
