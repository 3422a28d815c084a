using System.Diagnostics;
using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <content>Limits, and who makes room.</content>
internal sealed partial class RedisSessionStore
{
    private const string UnownedLimit = "limits.unowned_bytes";
    private const string ChainLimit = "limits.responses_bytes_per_user";

    // Of the bound, from where on each write of nobody's asks how much there is.
    private const double Near = 0.9;

    // How old what is known of nobody's bytes may be below that.
    private static readonly TimeSpan UnownedView = TimeSpan.FromSeconds(1);

    // How often whoever makes room looks anew where others come and go meanwhile.
    private const int MaxLooks = 10;

    private long _unowned = -1;
    private long _unownedReadAt;
    private long _unownedSweptAt;

    // Whether an owner's bytes are summed up: chains', and everything of nobody's, as far as there are limits.
    private bool CountsBytes(string? userId, SessionKind kind) =>
        (kind == SessionKind.Chain && policy.ChainBytesPerOwner > 0) || (userId is null && policy.UnownedBytes > 0);

    private int MaxOf(string? userId, SessionKind kind) => userId is null ? 0 : policy.MaxPerUser(kind);

    // Removes those that left the index as they were too many. One on which a turn runs stays where another can go instead; and one stays
    // where others are gone already.
    private async Task EvictAsync(string? userId, SessionKind kind, string own)
    {
        OnStep("doomed");
        var page = await PageAsync([], [keys.OwnerDoomed(userId, kind)], descending: false, null, Chunk);
        foreach (var entry in page.Lists[0])
        {
            var look = await LookPastDamageAsync(entry);
            if (look.IsDamaged || (!look.IsGone && await IsDamagedAsync(entry.Id)))
            {
                // It stays where an erasure finds it.
                continue;
            }

            if (look.IsGone || !await StaysAsync(userId, kind, own, entry, look))
            {
                // In a moment a turn may begin: it was not there when it was chosen, and ends like one whose session was deleted.
                await EvictAsync(userId, kind, entry);
            }
        }
    }

    private async Task<bool> IsDamagedAsync(string id) => policy.IsDamaged(id) || !await PastDamageAsync(async () =>
    {
        var request = new OpenRequest { Session = SessionRef.ById(id), Owner = Owner.Anyone };
        if ((await OpenAsync(request, CancellationToken.None)).Session is { } session)
        {
            policy.Inspect(session);
        }

        return true;
    });

    private async Task<bool> StaysAsync(string? userId, SessionKind kind, string own, IndexEntry entry, Look look)
    {
        var isHeld = look.IsHeld || policy.IsRunning(entry.Id);
        var max = MaxOf(userId, kind);
        if (kind == SessionKind.Chain || (max == 0 && !isHeld))
        {
            return false;
        }

        for (var tries = 0; ; tries++)
        {
            var index = await PageAsync([keys.OwnerIndex(userId, kind)], [], descending: false, null, Chunk);
            var others = index.Lists[0];
            var looks = await Task.WhenAll(others.Select(LookPastDamageAsync));
            await DropAsync(userId, kind, [.. others.Where((_, i) => looks[i].IsGone).Select(other => other.Stored)]);
            IndexEntry instead = default;
            foreach (var other in others.Where((other, i) => isHeld && other.Raw != own
                && looks[i] is { Facts: not null, IsHeld: false } && !policy.IsRunning(other.Id)))
            {
                if (!await IsDamagedAsync(other.Id))
                {
                    instead = other;
                    break;
                }
            }

            // Where others come and go all the time, or there are very many, all that the index names are taken to live.
            var isKnown = others.Count < Chunk && tries < MaxLooks;
            OnStep("looked");
            var answer = (Swap)(int)await redis.ScriptAsync(RedisScripts.OwnerSwap, DoomKeys(userId, kind),
                [max, IndexLife(look.Facts!.ExpiresAt), entry.Raw, look.Facts.Activity, instead.Raw ?? "", instead.Score, isKnown,
                    .. others.Where((_, i) => isKnown && !looks[i].IsGone).Select(other => (RedisValue)other.Raw)]);
            if (answer == Swap.OtherGoes)
            {
                await EvictAsync(userId, kind, instead);
            }

            if (answer != Swap.LookAgain)
            {
                OnStep("decided");
                return answer != Swap.Goes;
            }
        }
    }

    // Past their bytes, the oldest chains go; one on which a turn runs only where there is no other.
    private async Task MakeRoomAsync(string? userId, string own, long room)
    {
        while (true)
        {
            var page = await PageAsync([keys.OwnerIndex(userId, SessionKind.Chain)], [], descending: false, null, Chunk);
            var entries = page.Lists[0];
            var looks = await Task.WhenAll(entries.Select(LookPastDamageAsync));
            await DropAsync(userId, SessionKind.Chain, [.. entries.Where((_, i) => looks[i].IsGone).Select(entry => entry.Stored)]);
            var order = entries.Zip(looks)
                .Where(one => one.Second.Facts is not null && one.First.Raw != own && !policy.IsDamaged(one.First.Id))
                .OrderBy(one => one.Second.IsHeld || policy.IsRunning(one.First.Id)).Select(one => one.First).ToList();
            var chosen = await redis.ScriptAsync(
                RedisScripts.OwnerDoom, DoomKeys(userId, SessionKind.Chain), [room, IndexLife(Now), .. order.SelectMany(entry =>
                    (RedisValue[])[entry.Raw, entry.Score])]);
            if (chosen.Length == 0)
            {
                return;
            }

            OnStep("doomed");
            var doomed = ((string[])chosen!).ToHashSet(StringComparer.Ordinal);
            foreach (var entry in order.Where(entry => doomed.Contains(entry.Raw)))
            {
                if (!await IsDamagedAsync(entry.Id))
                {
                    await EvictAsync(userId, SessionKind.Chain, entry);
                }
            }
        }
    }

    // Removes one that was chosen to go, unless it was used since: then it is put back.
    private async Task EvictAsync(string? userId, SessionKind kind, IndexEntry entry)
    {
        var (status, remains) = entry.Id.Length == 0
            ? default
            : await PastDamageAsync(() => RemoveAsync(entry.Id, OwnerOf(userId), "evict", entry.Key, activity: entry.Score));
        await redis.RunAsync(keys.OwnerDoomed(userId, kind), (database, key) => database.SortedSetRemoveAsync(key, entry.Stored));
        if (status == RemoveStatus.LeftAlone && remains?.Key == entry.Key && remains.UserId == userId && remains.WasLive)
        {
            if (await LookPastDamageAsync(entry) is { Facts: { } facts })
            {
                await TouchAsync(facts, mayEvict: true);
            }
        }
        else if (status == RemoveStatus.Removed && remains is { WasLive: true } && kind != SessionKind.Chain)
        {
            policy.Events.Evicted(1);
        }
    }

    private RedisKey[] DoomKeys(string? userId, SessionKind kind) =>
        [keys.OwnerIndex(userId, kind), keys.OwnerBytes(userId, kind), keys.OwnerDoomed(userId, kind)];

    // Whether one more session of the kind would cost the user another one.
    private async Task<bool> IsFullAsync(string? userId, SessionKind kind)
    {
        var max = MaxOf(userId, kind);
        if (max == 0)
        {
            return false;
        }

        var page = await PageAsync([keys.OwnerIndex(userId, kind)], [], descending: true, null, Chunk);
        if (page.Lists[0].Count < max)
        {
            return false;
        }

        var looks = await Task.WhenAll(page.Lists[0].Select(LookPastDamageAsync));
        return looks.Count(look => !look.IsGone) >= max;
    }

    // The limit that a change would pass, if any, after nobody's oldest chains made room where that helps.
    private async Task<string?> FindLimitAsync(
        RedisOpenedSession opened, NewSession? create, long bytes, int turns, (long Bytes, int Turns)? now = null)
    {
        var (bytesNow, turnsNow) = now ?? (opened.Bytes, opened.TurnCount);
        var before = opened.Key is null ? 0 : StorePolicy.SizeOf(bytesNow, turnsNow);
        var after = StorePolicy.SizeOf(bytesNow + bytes, turnsNow + turns);
        var userId = create is not null ? create.UserId : opened.UserId ?? opened.Request.Owner.UserId;
        var entry = opened.Key is { } key ? RedisKeys.Entry(opened.Id, key) : "";
        return await FindLimitAsync(userId, create?.Kind ?? opened.Kind, entry, before, after);
    }

    // The limit that a session would pass that is to be made as a whole. Where its id is taken there is none, and nobody makes room.
    private Task<string?> FindLimitAsync(NewSession made, long bytes, int turns) =>
        FindLimitAsync(made.UserId, made.Kind, "", before: 0, StorePolicy.SizeOf(bytes, turns), made.Id);

    private async Task<string?> FindLimitAsync(
        string? userId, SessionKind kind, string entry, long before, long after, string? newId = null) =>
        kind == SessionKind.Chain && policy.ChainBytesPerOwner > 0 && after > policy.ChainBytesPerOwner
            && !await IsTakenAsync(newId) ? ChainLimit
        : userId is null && policy.UnownedBytes > 0
            && await IsFullAsync(after - before, kind == SessionKind.Chain ? before : 0, entry, newId) ? UnownedLimit
        : null;

    // Whether what is bound to nobody would pass its bound. Below nine tenths of it, what is known may be a second old; above, the bound
    // may be passed by what is written at the same moment.
    private async Task<bool> IsFullAsync(long added, long ownChain, string own, string? newId)
    {
        var max = policy.UnownedBytes;
        if (IsFresh(ref _unownedReadAt) && Volatile.Read(ref _unowned) + added < Near * max)
        {
            Interlocked.Add(ref _unowned, added);
            return false;
        }

        var (sessions, chains) = await ReadUnownedAsync();
        if (sessions + chains + added > max && await IsTakenAsync(newId))
        {
            return false;
        }

        if (sessions + ownChain + added > max)
        {
            (sessions, chains) = await ReadUnownedSweptAsync(sessions, chains);
        }

        if (sessions + ownChain + added <= max && sessions + chains + added > max)
        {
            await MakeRoomAsync(null, own, max - sessions - added);
            (sessions, chains) = await ReadUnownedAsync();
        }

        Volatile.Write(ref _unowned, sessions + chains + added);
        Volatile.Write(ref _unownedReadAt, Stopwatch.GetTimestamp());
        return sessions + chains + added > max;
    }

    // Whether there is room for one session more of nobody's, where need be in the place of nobody's chains.
    private async Task<bool> HasUnownedRoomAsync()
    {
        if (policy.UnownedBytes <= 0 || (IsFresh(ref _unownedReadAt) && Volatile.Read(ref _unowned) < Near * policy.UnownedBytes))
        {
            return true;
        }

        var (sessions, chains) = await ReadUnownedAsync();
        if (!policy.HasUnownedRoom(sessions))
        {
            (sessions, chains) = await ReadUnownedSweptAsync(sessions, chains);
        }

        Volatile.Write(ref _unowned, sessions + chains);
        Volatile.Write(ref _unownedReadAt, Stopwatch.GetTimestamp());
        return policy.HasUnownedRoom(sessions);
    }

    // No chains would make enough room; but some of it may have expired. Looked for now and then only, by the clock that it expires by: it
    // goes through all there is, and a full store is asked again and again.
    private async Task<(long Sessions, long Chains)> ReadUnownedSweptAsync(long sessions, long chains)
    {
        if (Math.Abs(Now - Volatile.Read(ref _unownedSweptAt)) < Microseconds(UnownedView))
        {
            return (sessions, chains);
        }

        Volatile.Write(ref _unownedSweptAt, Now);
        await SweepAsync(CancellationToken.None);
        return await ReadUnownedAsync();
    }

    private async Task<bool> IsTakenAsync(string? newId) => newId is not null && !(await LookAsync(newId, key: null)).IsGone;

    private static bool IsFresh(ref long at) =>
        Volatile.Read(ref at) is not 0 and var then && Stopwatch.GetElapsedTime(then) < UnownedView;

    private async Task<(long Sessions, long Chains)> ReadUnownedAsync()
    {
        var sessions = redis.RunAsync(keys.OwnerBytes(null, SessionKind.Session), (database, key) => database.HashGetAsync(key, "="));
        var chains = await redis.RunAsync(keys.OwnerBytes(null, SessionKind.Chain), (database, key) => database.HashGetAsync(key, "="));
        return ((long)await sessions, (long)chains);
    }

    // What becomes of one that had to go.
    private enum Swap
    {
        NothingToDo,
        Stays,
        Goes,
        OtherGoes,
        LookAgain,
    }
}
