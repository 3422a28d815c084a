using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <content>What a user has, and which ids are reserved.</content>
internal sealed partial class RedisSessionStore
{
    // Nothing new is begun for a user meanwhile, so that an erasure comes to an end; nor for longer than this after one that was broken
    // off.
    private static readonly TimeSpan ErasureLife = TimeSpan.FromSeconds(4);

    public async ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken)
    {
        var erasing = keys.OwnerErasing(userId);
        RedisValue token = RedisKeys.Text(Guid.NewGuid());
        try
        {
            return await EraseAsync(userId, erasing, token, cancellationToken);
        }
        finally
        {
            redis.Send(database => database.ScriptEvaluate(RedisScripts.Unkey.Text, [erasing], [token], CommandFlags.FireAndForget));
        }
    }

    private async Task<Erasure> EraseAsync(string userId, RedisKey erasing, RedisValue token, CancellationToken cancellationToken)
    {
        long sessions = 0, turns = 0;
        var rounds = 0;
        var owner = Owner.Of(userId);
        RedisKey[] indexes = [.. AllKinds.Select(kind => keys.OwnerIndex(userId, kind))];
        RedisKey[] others = [keys.OwnerEntries(userId), .. AllKinds.Select(kind => keys.OwnerDoomed(userId, kind))];
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await redis.RunAsync(erasing, (database, key) => database.StringSetAsync(key, token, ErasureLife));
            var page = await PageToEraseAsync(indexes, others, isFirst: rounds++ == 0);
            var entering = page.Lists[AllKinds.Length];
            var made = page.Lists.SelectMany((list, i) => i == AllKinds.Length ? [] : list).DistinctBy(entry => entry.Raw).ToList();
            if (entering.Count + made.Count == 0)
            {
                return new Erasure(sessions, turns);
            }

            // Whoever makes one of them no longer brings it into the index of all.
            await Task.WhenAll(entering.Where(entry => entry.Id.Length > 0).Select(entry => redis.RunAsync(
                keys.ShardEntries(RedisKeys.ShardOf(entry.Id)), (database, key) => database.SortedSetRemoveAsync(key, entry.Stored))));

            // First the session or the lease by which it may come, then the entry: nothing comes that no entry leads to.
            var removals = await Task.WhenAll(
                made.Select(entry => EraseAsync(owner, entry, token: "")).Concat(entering.Select(entry =>
                    EraseAsync(owner, entry, RedisKeys.Text(entry.Key)))));
            foreach (var remains in removals)
            {
                if (remains is { WasLive: true })
                {
                    sessions++;
                    turns += remains.Turns;
                }
            }

            OnStep("erased");
            foreach (var kind in AllKinds)
            {
                await DropErasedAsync(userId, kind, [.. made.Select(entry => entry.Stored)]);
            }

            if (entering.Count > 0)
            {
                await redis.RunAsync(keys.OwnerEntries(userId), (database, key) =>
                    database.SortedSetRemoveAsync(key, [.. entering.Select(entry => entry.Stored)]));
            }
        }
    }

    // All of it, before anything goes: an erasure that can't know what there is would say that there is nothing.
    private async Task<IndexPage> PageToEraseAsync(RedisKey[] indexes, RedisKey[] others, bool isFirst)
    {
        try
        {
            return await PageAsync(indexes, others, descending: false, null, Chunk, known: indexes.Length + others.Length);
        }
        catch (StoredDataException e)
        {
            throw new StoredDataException(
                e.What, $"What the user has can't be known, as an index can't be read: {(isFirst ? "nothing" : "not all")} was removed.",
                e.InnerException);
        }
    }

    private async Task DropErasedAsync(string userId, SessionKind kind, List<RedisValue> entries)
    {
        try
        {
            await DropAsync(userId, kind, entries);
        }
        catch (RedisServerException e) when (RedisFailure.IsDamage(e))
        {
            // Only the sums of what was erased can't be read: they go with it.
            await redis.RunAsync(keys.OwnerBytes(userId, kind), (database, key) => database.KeyDeleteAsync(key));
            await DropAsync(userId, kind, entries);
        }
    }

    public async ValueTask<KeyReservation> ReserveAsync(
        Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        RedisKey[] name = [keys.Reservation(key.Key)];
        var replaced = "";
        var hasRoom = owner.UserId is not null || await HasUnownedRoomAsync();
        while (true)
        {
            var now = Now;
            var lapses = now + Microseconds(policy.Lifetime(SessionKind.Session));
            var result = await ReadableAsync($"the reservation {key.Key:N}", redis.ScriptAsync(
                RedisScripts.Reserve, name, [now, lapses, IndexLife(lapses), key.Body.ToByteArray(), sessionId, replaced, hasRoom]));
            if (result.IsNull)
            {
                throw new DomainException(Error.StorageFull(UnownedLimit));
            }

            var (id, sameBody, state) = ((string)result[0]!, new Guid((byte[])result[1]!) == key.Body, (int)result[2]);
            if (state == 2)
            {
                return new KeyReservation(id, sameBody, IsNew: true);
            }

            var found = await LookAsync(id, key: null);
            if (state == 1 || found.Facts?.Reservation == key.Key.ToString("N"))
            {
                return KeyReservation.Found(id, sameBody, sessionId, found.Facts is null || owner.MayHave(found.Facts.UserId));
            }

            replaced = id;
        }
    }

    private async Task<RedisRemains?> EraseAsync(Owner owner, IndexEntry entry, string token) => entry.Id.Length == 0
        ? null
        : await PastDamageAsync(async () =>
        {
            var (status, remains) = await RemoveAsync(entry.Id, owner, "user", token: token);
            return status == RemoveStatus.Removed ? remains : null;
        });
}
