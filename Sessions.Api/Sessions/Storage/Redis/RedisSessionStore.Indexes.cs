using System.Globalization;
using StackExchange.Redis;

namespace Sessions.Api;

/// <content>The indexes of sessions, and the limit per user that hangs on them.</content>
internal sealed partial class RedisSessionStore
{
    private const int Chunk = 500;

    // After a change of a session: tells the indexes. The change stands, whatever becomes of this: the next one tells them again.
    private async Task ListedAsync(string id, string? userId, long activity, string? reservation, bool isPending, bool mayEvict = true)
    {
        try
        {
            var all = TouchAsync([RedisKeys.ShardOf(id)], id, activity, most: 0);
            KeepReservation(reservation);
            if (userId is not null)
            {
                await EvictAsync(userId, await TouchAsync(RedisKeys.OfUser(userId), id, activity, mayEvict ? _maxPerUser : 0));
            }

            await all;

            if (isPending)
            {
                redis.Send(database => database.HashDelete(RedisKeys.Session(id), "p", CommandFlags.FireAndForget));
            }
        }
        catch (StoreUnavailableException e)
        {
            Log.NotListed(logger, id, e.Message);
        }
    }

    // As ListedAsync, for a session that is listed: at the same time as what changes it. Only moves an entry that is there: none is added, so nobody has to
    // make room. Answers with whether both are there, and have moved.
    private async Task<bool> MoveAsync(string id, string? userId, long activity)
    {
        try
        {
            var all = redis.MoveAsync(RedisKeys.ShardOf(id), id, activity);
            var ofUser = userId is null ? all : redis.MoveAsync(RedisKeys.OfUser(userId)[0], id, activity);
            await Task.WhenAll(all, ofUser);
            return await all && await ofUser;
        }
        catch (StoreUnavailableException e)
        {
            Log.NotListed(logger, id, e.Message);
            return false;
        }
    }

    // Takes back what MoveAsync did, where the session turned out to be gone: unless there is another one by now.
    private async Task UnlistAsync(string id, string? userId, long activity)
    {
        try
        {
            if (await ReadAsync(id, Owner.Anyone, activity) is null)
            {
                await Task.WhenAll(DropAsync([RedisKeys.ShardOf(id)], [(id, activity)]), userId is null ? Task.CompletedTask : DropAsync([RedisKeys.OfUser(userId)[0]], [(id, activity)]));
            }
        }
        catch (StoreUnavailableException e)
        {
            Log.NotListed(logger, id, e.Message);
        }
    }

    private void KeepReservation(string? reservation)
    {
        if (!string.IsNullOrEmpty(reservation))
        {
            redis.Send(database => database.KeyExpire(RedisKeys.Reservation(Guid.Parse(reservation)), _indexLife, flags: CommandFlags.FireAndForget));
        }
    }

    // Whoever made it has not said that it is listed: either about to, or dead.
    private Task HealAsync(RedisRow? row) => row is { IsPending: true }
        ? ListedAsync(row.Session.Id, row.Session.UserId, row.Activity, row.Reservation, isPending: true)
        : Task.CompletedTask;

    // After a session was removed, or replaced by another with its id.
    private async Task ForgetAsync(string id, RedisRemains? remains, bool expired)
    {
        if (remains is null)
        {
            return;
        }

        try
        {
            List<Task> steps = [];
            if (expired)
            {
                metrics.Expired(1);
            }
            else
            {
                steps.Add(DropAsync([RedisKeys.ShardOf(id)], [(id, remains.Activity)]));
            }

            if (remains.UserId is { } user)
            {
                steps.Add(DropAsync([RedisKeys.OfUser(user)[0]], [(id, remains.Activity)]));
            }

            if (remains.Reservation is { } reservation)
            {
                steps.Add(redis.ScriptAsync(RedisScripts.Unreserve, [RedisKeys.Reservation(Guid.Parse(reservation))], [id]));
            }

            await Task.WhenAll(steps);
        }
        catch (StoreUnavailableException e)
        {
            Log.NotListed(logger, id, e.Message);
        }
    }

    // Answers with those that have to go for it.
    private async Task<List<(string Id, long Activity)>> TouchAsync(RedisKey[] index, string id, long activity, int most)
    {
        var longDead = $"({activity - (_indexLife.Ticks / TimeSpan.TicksPerMicrosecond)}";
        return Entries(await redis.ScriptAsync(RedisScripts.IndexTouch, index, [activity, id, (long)_indexLife.TotalMilliseconds, longDead, most]));
    }

    // Entries that have been active since stay.
    private async Task<int> DropAsync(RedisKey[] index, List<(string Id, long Activity)> entries)
    {
        if (entries.Count == 0)
        {
            return 0;
        }

        RedisValue[] values = [.. entries.SelectMany(entry => (RedisValue[])[entry.Id, entry.Activity])];
        return (int)await redis.ScriptAsync(RedisScripts.IndexDrop, index, values);
    }

    // Removes sessions that have left their user's index because they were too many: those that just did, and those that somebody left behind.
    private async Task EvictAsync(string userId, List<(string Id, long Activity)> doomed)
    {
        if (doomed.Count == 0)
        {
            return;
        }

        var keys = RedisKeys.OfUser(userId);
        var removals = await Task.WhenAll(doomed.Select(entry => RemoveAsync(entry.Id, Owner.Of(userId), Now, "at", entry.Activity)));
        metrics.Evicted(removals.Count(removal => removal is { Removed: true, Remains.WasLive: true }));
        for (var i = 0; i < doomed.Count; i++)
        {
            // Used in the meantime, so another one has to go; whoever used it may have died before saying so.
            if (removals[i] is { Removed: false, Remains: { } remains } && remains.UserId == userId)
            {
                await ListedAsync(doomed[i].Id, userId, remains.Activity, remains.Reservation, isPending: false);
            }
        }

        await DropAsync([keys[1]], doomed);
    }

    // One page of an index, behind a place that need not exist any more; and those that have to go.
    private async Task<(List<(string Id, long Activity)> Doomed, List<(string Id, long Activity)> Entries)> PageAsync(
        RedisKey[] index, bool descending, PageCursor? after, int limit)
    {
        var page = await redis.ScriptAsync(RedisScripts.IndexPage, index, [descending, after?.Position.ToString(CultureInfo.InvariantCulture) ?? "", limit]);
        var entries = Entries(page[1]);
        if (after is { } place)
        {
            entries.RemoveAll(entry => string.CompareOrdinal(entry.Id, place.Id) is var order && (descending ? order >= 0 : order <= 0));
        }

        entries.AddRange(Entries(page[2]));
        return (Entries(page[0]), entries);
    }

    private static List<(string Id, long Activity)> Entries(RedisResult flat)
    {
        List<(string Id, long Activity)> entries = new(flat.Length / 2);
        for (var i = 0; i < flat.Length; i += 2)
        {
            entries.Add(((string)flat[i]!, (long)(double)flat[i + 1]));
        }

        return entries;
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 40, Level = LogLevel.Warning, Message = "Session {SessionId} was changed, but the indexes could not be told, and will be later: {Reason}")]
        public static partial void NotListed(ILogger logger, string sessionId, string reason);

        [LoggerMessage(EventId = 41, Level = LogLevel.Debug, Message = "The lease on session {SessionId} could not be renewed: {Reason}")]
        public static partial void NotRenewed(ILogger logger, string sessionId, string reason);

        [LoggerMessage(EventId = 46, Level = LogLevel.Debug, Message = "The lease on session {SessionId} could not be let go of, and will run out: {Reason}")]
        public static partial void NotReleased(ILogger logger, string sessionId, string reason);

        [LoggerMessage(EventId = 42, Level = LogLevel.Warning, Message = "The lease on session {SessionId} was lost; its turn will not be committed if another one was")]
        public static partial void LeaseLost(ILogger logger, string sessionId);
    }
}
