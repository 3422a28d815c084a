using System.Diagnostics;
using System.Globalization;
using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <content>The indexes of sessions: entries of those that are about to be made, and what is told of those that are there.</content>
internal sealed partial class RedisSessionStore
{
    private const int Chunk = 500;

    private static readonly SessionKind[] AllKinds = [SessionKind.Session, SessionKind.Conversation, SessionKind.Chain];
    private static readonly SessionKind[] ListedKinds = [SessionKind.Session, SessionKind.Conversation];

    // What is made is made, or kept on being entered, within two leases; whoever died before leaves an entry that may go then.
    private static readonly TimeSpan EntryLife = TimeSpan.FromMinutes(2);

    // How long whoever makes a session waits for the end of an erasure of its user, and how often it looks.
    private static readonly TimeSpan MaxErasureWait = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan ErasureLook = TimeSpan.FromMilliseconds(5);

    /// <summary>Told of each step that changes something beside a session itself, for tests that break off between them.</summary>
    internal Action<string> OnStep { get; init; } = _ => { };

    // Says in the indexes that a session may be made by whoever has that lease. Waits while its owner is being erased.
    private async Task EnterAsync(string id, string? userId, string token, bool ofAll = true)
    {
        var started = Stopwatch.GetTimestamp();
        while (!await TryEnterAsync(id, userId, token, ofAll))
        {
            if (Stopwatch.GetElapsedTime(started) > MaxErasureWait)
            {
                throw new StoreUnavailableException("The user is being erased.", TimeSpan.FromSeconds(1));
            }

            await Task.Delay(ErasureLook);
        }

        OnStep("entered");
    }

    private async Task<bool> TryEnterAsync(string id, string? userId, string token, bool ofAll = true)
    {
        var entry = RedisKeys.Entry(id, token);
        var entered = await Task.WhenAll(
            ofAll ? TryEnterAsync([keys.ShardEntries(RedisKeys.ShardOf(id))], entry) : Task.FromResult(true),
            userId is not null ? TryEnterAsync([keys.OwnerEntries(userId), keys.OwnerErasing(userId)], entry) : Task.FromResult(true));
        return entered[0] && entered[1];
    }

    private async Task<bool> TryEnterAsync(RedisKey[] index, string entry)
    {
        var life = Now + AllKinds.Max(kind => Microseconds(policy.Lifetime(kind)));
        return (int)await ReadableAsync(
            $"the index {index[0]}", redis.ScriptAsync(RedisScripts.Entry, index, [entry, IndexLife(life)])) == 1;
    }

    // Nothing was made.
    private void Leave(string id, string? userId, string token)
    {
        RedisValue entry = RedisKeys.Entry(id, token);
        redis.Send(database =>
        {
            database.SortedSetRemove(keys.ShardEntries(RedisKeys.ShardOf(id)), entry, CommandFlags.FireAndForget);
            if (userId is not null)
            {
                database.SortedSetRemove(keys.OwnerEntries(userId), entry, CommandFlags.FireAndForget);
            }
        });
    }

    // Tells the indexes of a session as it is, and takes the entry away that was made beforehand. The session stands, whatever becomes of
    // this: that entry leads to it, and the next turn tells them again. Answers with whether they know the session.
    private async Task<bool> TouchAsync(
        RedisFacts facts, string entry = "", bool mayEvict = false, bool onlyMove = false, bool exactly = false)
    {
        OnStep("made");
        var shard = RedisKeys.ShardOf(facts.Id);
        var (life, before) = (IndexLife(facts.ExpiresAt), entry.Length == 0 ? "" : RedisKeys.Entry(facts.Id, entry));
        var counts = CountsBytes(facts.UserId, facts.Kind);
        var isIndexed = facts.UserId is not null || facts.Kind == SessionKind.Chain;
        try
        {
            var ofAll = redis.ScriptAsync(
                RedisScripts.ShardTouch, [keys.ShardIndex(shard, facts.Kind), keys.ShardExpiry(shard, facts.Kind),
                    keys.ShardEntries(shard)],
                [facts.Entry, facts.Activity, facts.ExpiresAt, exactly, before, life, onlyMove]);
            if (before.Length > 0 && redis.IsCluster)
            {
                // An erasure that finds it with its owner is to find it here as well. One server keeps to the order.
                await ofAll;
            }

            var ofOwner = isIndexed || counts
                ? redis.ScriptAsync(RedisScripts.OwnerTouch, OwnerKeys(facts.UserId, facts.Kind),
                    [facts.Entry, facts.Activity, counts ? facts.Size : "", before, life, onlyMove, isIndexed, mayEvict
                        ? MaxOf(facts.UserId, facts.Kind) : 0])
                : null;
            var isKnown = (int)await ofAll == 1;
            if (ofOwner is null)
            {
                return isKnown;
            }

            var answer = await ofOwner;
            OnStep("told");
            if ((int)answer[2] > 0)
            {
                await EvictAsync(facts.UserId, facts.Kind, facts.Entry);
            }

            if (facts.Kind == SessionKind.Chain && policy.ChainBytesPerOwner is not 0 and var room && (long)answer[1] > room)
            {
                await MakeRoomAsync(facts.UserId, facts.Entry, room);
            }

            return isKnown && (int)answer[0] == 1;
        }
        catch (StoreUnavailableException e)
        {
            Log.NotListed(logger, facts.Id, e.Message);
            return false;
        }
        catch (RedisServerException e) when (RedisFailure.IsDamage(e))
        {
            policy.Damage.Report($"the indexes of {DamageReport.NameOf(facts.Id)}", e);
            return false;
        }
    }

    // What the indexes are told at the same time as a turn is committed: only entries that are there are moved. Null: they are told behind
    // it.
    private RedisFacts? MoveOf(RedisOpenedSession opened, long added)
    {
        if (opened.Key is null || opened.Gives || opened.IsExtended)
        {
            return null;
        }

        var now = Now;
        var size = StorePolicy.SizeOf(opened.Bytes + added, opened.TurnCount + 1);
        return opened.Facts(now, now + Microseconds(policy.Lifetime(opened.Kind))) with { Size = size };
    }

    // Where there was no turn after all, its bytes are not to stay counted.
    private async Task TakeBackMoveAsync(RedisFacts? moved)
    {
        if (moved is not null && CountsBytes(moved.UserId, moved.Kind))
        {
            if ((await LookAsync(moved.Id, moved.Key)).Facts is { } facts)
            {
                await TouchAsync(facts, onlyMove: true);
            }
            else
            {
                await DropAsync(moved.UserId, moved.Kind, [moved.Entry]);
            }
        }
    }

    // Takes entries out of an owner's indexes, and their bytes.
    private Task DropAsync(string? userId, SessionKind kind, List<RedisValue> entries) => entries.Count == 0
        ? Task.CompletedTask
        : redis.ScriptAsync(RedisScripts.Drop,
            [keys.OwnerIndex(userId, kind), keys.OwnerDoomed(userId, kind), keys.OwnerBytes(userId, kind)], [true, .. entries]);

    // Takes entries out of the index of all. Answers with how many were there.
    private async Task<int> DropAsync(int shard, SessionKind kind, List<RedisValue> entries) => entries.Count == 0
        ? 0
        : (int)await redis.ScriptAsync(RedisScripts.Drop,
            [keys.ShardExpiry(shard, kind), keys.ShardIndex(shard, kind)], [false, .. entries]);

    private Task<RedisResult> UnreserveAsync(Guid key, string id, bool wasLive) =>
        redis.ScriptAsync(RedisScripts.Unreserve, [keys.Reservation(key)], [id, wasLive ? "" : Now]);

    // After a session was removed, or replaced by another with its id. What fails leaves entries that lead nowhere, and go when they are
    // met.
    private async Task ForgetAsync(string id, RedisRemains remains, bool isExpired = false)
    {
        if (remains.Key is not { } key)
        {
            return;
        }

        await PastTroubleAsync(id, async () =>
        {
            var ofAll = DropAsync(RedisKeys.ShardOf(id), remains.Kind, [RedisKeys.Entry(id, key)]);
            await Task.WhenAll(ofAll, ForgetBesideAllAsync(id, key, remains));
            if (isExpired && remains.Kind != SessionKind.Chain && await ofAll > 0)
            {
                policy.Events.Expired(1);
            }
        });
    }

    // The same, but for the index of all: whoever sweeps that tells it of many at a time.
    private Task ForgetBesideAllAsync(string id, Guid key, RedisRemains remains)
    {
        List<Task> steps = [UnkeyAsync(key, id)];
        if (remains.UserId is not null || remains.Kind == SessionKind.Chain || CountsBytes(remains.UserId, remains.Kind))
        {
            steps.Add(DropAsync(remains.UserId, remains.Kind, [RedisKeys.Entry(id, key)]));
        }

        if (remains.Reservation is { } reservation && Guid.TryParse(reservation, out var reserved))
        {
            steps.Add(UnreserveAsync(reserved, id, remains.WasLive));
        }

        return Task.WhenAll(steps);
    }

    // What is done beside a session must not fail what was done to it: it is logged, and done later by whoever meets it.
    private async Task PastTroubleAsync(string id, Func<Task> action)
    {
        try
        {
            await action();
        }
        catch (Exception e) when (e is StoreUnavailableException || RedisFailure.IsDamage(e))
        {
            Log.NotListed(logger, id, e.Message);
        }
    }

    // Writes down where a key leads to, before its session is made. On one server the commands behind it are carried out behind it; of a
    // cluster, only if they are sent later.
    private async Task<Task> PrepareKeyAsync(Guid key, string id, SessionKind kind)
    {
        var life = TimeSpan.FromMilliseconds(IndexLife(Now + Microseconds(policy.Lifetime(kind))));
        var set = redis.RunAsync(keys.IdOf(key), (database, name) => database.StringSetAsync(name, id, life));
        if (redis.IsCluster)
        {
            await set;
            OnStep("keyed");
        }

        return set;
    }

    private async Task KeyedAsync(RedisHead head, Task? keyed, bool isKept)
    {
        var (id, key) = (head.Session.Id, head.Session.Key);
        try
        {
            if (keyed is not null)
            {
                await keyed;
            }
        }
        catch (StoreUnavailableException)
        {
            // Once more, as the session is there.
            isKept = true;
        }

        if (isKept)
        {
            var life = TimeSpan.FromMilliseconds(IndexLife(head.Facts.ExpiresAt));
            redis.Send(database =>
            {
                database.StringSet(keys.IdOf(key), id, life, When.Always, CommandFlags.FireAndForget);
                if (head.Reservation is { } reservation && Guid.TryParse(reservation, out var reserved))
                {
                    database.KeyExpire(keys.Reservation(reserved), life, flags: CommandFlags.FireAndForget);
                }
            });
        }
    }

    private Task UnkeyAsync(Guid key, string id) =>
        PastTroubleAsync(id, () => redis.ScriptAsync(RedisScripts.Unkey, [keys.IdOf(key)], [id]));

    private void Created(Session session)
    {
        if (session.Kind != SessionKind.Chain)
        {
            policy.Events.Created(session.CreatedFrom);
        }
    }

    // Looks behind the entries of sessions that were about to be made, in a part of the index of all.
    private async Task<bool> SettleShardAsync(int shard, List<IndexEntry> entries, long serverTime)
    {
        var hasChanged = false;
        foreach (var entry in entries)
        {
            hasChanged |= await SettleAsync(keys.ShardEntries(shard), entry, serverTime);
        }

        return hasChanged;
    }

    // The same of an owner; and removes those that had to go when somebody died.
    private async Task<bool> SettleOwnerAsync(
        string? userId, List<IndexEntry> entries, long serverTime, IEnumerable<(SessionKind Kind, List<IndexEntry> Entries)> doomed)
    {
        var hasChanged = false;
        foreach (var entry in entries)
        {
            hasChanged |= await SettleAsync(keys.OwnerEntries(userId), entry, serverTime);
        }

        foreach (var (kind, those) in doomed)
        {
            if (those.Count > 0)
            {
                hasChanged = true;
                await EvictAsync(userId, kind, own: "");
            }
        }

        return hasChanged;
    }

    private async Task<bool> SettleAsync(RedisKey index, IndexEntry entry, long serverTime)
    {
        var look = await LookPastDamageAsync(entry, key: null);
        if (look.Facts is { } found)
        {
            // Whoever made it has not come to say so, or is about to.
            await TouchAsync(found, RedisKeys.Text(entry.Key), mayEvict: true);
            await redis.RunAsync(index, (database, key) => database.SortedSetRemoveAsync(key, entry.Stored));
            return true;
        }

        if (look.IsDamaged)
        {
            return false;
        }

        if (serverTime - entry.Score > EntryLife.TotalMilliseconds)
        {
            if (entry.Id.Length > 0)
            {
                await PastDamageAsync(() => RemoveAsync(entry.Id, Owner.Anyone, "revoke", token: RedisKeys.Text(entry.Key)));
            }

            await redis.RunAsync(index, (database, key) => database.SortedSetRemoveAsync(key, entry.Stored));
        }

        return false;
    }

    // What an entry stands for: the session, if it lives, and whether a turn runs on it.
    private async Task<Look> LookAsync(string id, Guid? key)
    {
        var result = await RunAsync(RedisScripts.Look, id, Owner.Anyone, "", RedisCodec.Encode(key));
        return result.IsNull
            ? default
            : Decode(id, () => new Look(new RedisFacts(
                id, RedisCodec.DecodeHash((byte[]?)result[1]), (SessionKind)(int)result[2], RedisCodec.EmptyToNull(result[0]),
                    (long)result[3], (long)result[4],
                StorePolicy.SizeOf((long)result[5], (int)result[8]), RedisCodec.EmptyToNull(result[7])), (int)result[6] == 1));
    }

    private Task<Look> LookPastDamageAsync(IndexEntry entry) => LookPastDamageAsync(entry, entry.Key);

    private async Task<Look> LookPastDamageAsync(IndexEntry entry, Guid? key)
    {
        if (entry.Id.Length == 0)
        {
            return default;
        }

        try
        {
            return await LookAsync(entry.Id, key);
        }
        catch (StoredDataException e)
        {
            policy.Damage.Report(e.What, e.InnerException);
            return new Look(null, IsHeld: false) { IsDamaged = true };
        }
    }

    private RedisKey[] OwnerKeys(string? userId, SessionKind kind) =>
        [keys.OwnerIndex(userId, kind), keys.OwnerBytes(userId, kind), keys.OwnerDoomed(userId, kind), keys.OwnerEntries(userId)];

    // One page of indexes of one slot, and others of it as they are. Of those that can't be read nothing comes; of the first ones that
    // must be known that is damage: without them, nobody can say what there is.
    private async Task<IndexPage> PageAsync(
        RedisKey[] ordered, RedisKey[] others, bool descending, PageCursor? after, int limit, int known = 0)
    {
        RedisKey[] all = [.. ordered, .. others];
        try
        {
            var answer = await redis.ScriptAsync(
                RedisScripts.Page, all, [ordered.Length, descending, after?.Position.ToString(CultureInfo.InvariantCulture) ?? "", limit]);
            return Read(answer, ordered.Length, descending, after);
        }
        catch (RedisServerException e) when (RedisFailure.IsDamage(e))
        {
            if (all.Length == 1)
            {
                policy.Damage.Report($"the index {all[0]}", e);
                return known > 0 ? throw DamagedIndex(all[0], e) : new IndexPage([[]], 0);
            }

            // One of them is none: the others still are.
            List<List<IndexEntry>> lists = [];
            long serverTime = 0;
            foreach (var key in all)
            {
                var must = lists.Count < known ? 1 : 0;
                var alone = lists.Count < ordered.Length
                    ? await PageAsync([key], [], descending, after, limit, must)
                    : await PageAsync([], [key], descending, after, limit, must);
                lists.Add(alone.Lists[0]);
                serverTime = Math.Max(serverTime, alone.ServerTime);
            }

            return new IndexPage(lists, serverTime);
        }
    }

    private static StoredDataException DamagedIndex(RedisKey index, Exception reason) => new(
        $"the index {index}", "What there is can't be known: an index of it can't be read.", reason);

    private IndexPage Read(RedisResult answer, int ordered, bool descending, PageCursor? after)
    {
        List<List<IndexEntry>> lists = [];
        for (var i = 0; i < answer.Length - 1; i++)
        {
            List<IndexEntry> list = new(answer[i].Length / 2);
            for (var k = 0; k < answer[i].Length; k += 2)
            {
                var raw = (string)answer[i][k]!;
                var score = (long)(double)answer[i][k + 1];
                if (!RedisKeys.TryRead(raw, out var id, out var key))
                {
                    policy.Damage.Report($"an entry of an index ({raw.Length} characters)", null);
                }

                if (i < ordered && after is { } cursor && score == cursor.Position
                    && (id.Length == 0 || (string.CompareOrdinal(id, cursor.Id) is var order && (descending ? order >= 0 : order <= 0))))
                {
                    continue;
                }

                list.Add(new IndexEntry(raw, id, key, score) { Stored = (byte[])answer[i][k]! });
            }

            lists.Add(list);
        }

        return new IndexPage(lists, (long)answer[answer.Length - 1]);
    }

    /// <summary>An entry of an index.</summary>
    /// <param name="Raw">As it stands there.</param>
    /// <param name="Id">The session's id; empty: it can't be read.</param>
    /// <param name="Key">The session's key, or the token of the lease by which it may come.</param>
    /// <param name="Score">What it is ordered by.</param>
    private readonly record struct IndexEntry(string Raw, string Id, Guid Key, long Score)
    {
        /// <summary>Its bytes, by which it is removed: others may have written what is no text.</summary>
        public RedisValue Stored { get; init; }
    }

    /// <summary>What stands behind an entry.</summary>
    /// <param name="Facts">The session; <see langword="null"/>: it is gone, or can't be read.</param>
    /// <param name="IsHeld">Whether a turn runs on it.</param>
    private readonly record struct Look(RedisFacts? Facts, bool IsHeld)
    {
        public bool IsDamaged { get; init; }

        public bool IsGone => Facts is null && !IsDamaged;
    }

    private sealed record IndexPage(List<List<IndexEntry>> Lists, long ServerTime);
}
