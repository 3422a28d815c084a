using StackExchange.Redis;

namespace Sessions.Api;

/// <content>What has expired, and what has not.</content>
internal sealed partial class RedisSessionStore
{
    public async ValueTask<int> RemoveExpiredAsync(CancellationToken cancellationToken)
    {
        remembered.RemoveExpired();
        var total = 0;
        for (var shard = 0; shard < RedisKeys.Shards; shard++)
        {
            total += await RemoveExpiredAsync(RedisKeys.Shard(shard), cancellationToken);
        }

        return total;
    }

    public async ValueTask<StoreStatistics> GetStatisticsAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var expired = Now - _timeout;
        var counts = await Task.WhenAll(Enumerable.Range(0, RedisKeys.Shards).Select(RedisKeys.Shard)
            .Select(shard => redis.RunAsync(shard, (database, key) => database.SortedSetLengthAsync(key, expired, double.PositiveInfinity, Exclude.Start))));
        return new StoreStatistics(counts.Sum(), 0);
    }

    private async Task<int> RemoveExpiredAsync(RedisKey shard, CancellationToken cancellationToken)
    {
        var removed = 0;
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var now = Now;
            var (_, oldest) = await PageAsync([shard], descending: false, after: null, Chunk);
            var due = oldest.TakeWhile(entry => entry.Activity + _timeout <= now).ToList();
            var states = await Task.WhenAll(due.Select(entry => RunAsync(RedisScripts.Remove, entry.Id, Owner.Anyone, now, "expired")));
            List<(string Id, long Activity)> gone = [];
            List<Task> told = [];
            for (var i = 0; i < due.Count; i++)
            {
                var remains = (int)states[i][0] == 0 ? null : RedisRemains.Decode(states[i][1]);
                if ((int)states[i][0] == 2)
                {
                    // It has been active since: whoever saw to that died before telling the index.
                    told.Add(ListedAsync(due[i].Id, remains!.UserId, remains.Activity, remains.Reservation, isPending: false));
                    continue;
                }

                gone.Add(due[i]);
                Interlocked.Increment(ref _removals);
                if (remains?.UserId is { } user)
                {
                    told.Add(DropAsync([RedisKeys.OfUser(user)[0]], [(due[i].Id, remains.Activity)]));
                }

                if (remains?.Reservation is { } reservation)
                {
                    told.Add(redis.ScriptAsync(RedisScripts.Unreserve, [RedisKeys.Reservation(Guid.Parse(reservation))], [due[i].Id]));
                }
            }

            await remembered.RemoveAsync([.. gone.Select(entry => entry.Id)]);
            await Task.WhenAll(told);
            var counted = await DropAsync([shard], gone);
            metrics.Expired(counted);
            removed += counted;
            if (due.Count < Chunk)
            {
                return removed;
            }
        }
    }
}
