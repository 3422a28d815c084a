using StackExchange.Redis;

namespace Sessions.Api;

/// <content>What a user has, and which ids are reserved.</content>
internal sealed partial class RedisSessionStore
{
    public async ValueTask<Page<Session>> ListAsync(string userId, SessionPageRequest request, CancellationToken cancellationToken)
    {
        var index = RedisKeys.OfUser(userId);
        var scan = request.Filter is null ? request.Limit : SessionPageRequest.ScanLimit;
        List<Session> items = [];
        var after = request.After;
        PageCursor last = default;
        for (var seen = 0; ;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var wanted = Math.Min(Chunk, scan + 1 - seen);
            var (doomed, entries) = await PageAsync(index, !request.Ascending, after, wanted);
            await EvictAsync(userId, doomed);
            foreach (var (entry, session) in await LiveAsync(userId, entries))
            {
                if (seen == scan || items.Count == request.Limit)
                {
                    return new Page<Session>(items, last);
                }

                seen++;
                last = entry;
                if (request.Filter?.Invoke(session) ?? true)
                {
                    items.Add(session);
                }
            }

            if (entries.Count < wanted)
            {
                return new Page<Session>(items, null);
            }

            after = new PageCursor(entries[^1].Activity, entries[^1].Id);
        }
    }

    public async ValueTask<KeyReservation> ReserveSessionIdAsync(Idempotency key, Owner owner, string sessionId, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        RedisKey[] keys = [RedisKeys.Reservation(key.Key)];
        var now = Now;
        string replaced = "";
        while (true)
        {
            var result = await redis.ScriptAsync(RedisScripts.Reserve, keys, [now, now + _timeout, (long)_indexLife.TotalMilliseconds, key.Body.ToByteArray(), sessionId, replaced]);
            var (id, sameBody, state) = ((string)result[0]!, new Guid((byte[])result[1]!) == key.Body, (int)result[2]);
            if (state == 2)
            {
                return new KeyReservation(id, sameBody, IsNew: true);
            }

            var row = await ReadAsync(id, Owner.Anyone, now);
            if (state == 1 || row?.Reservation == key.Key.ToString("N"))
            {
                return row is null || owner.MayHave(row.Session.UserId)
                    ? new KeyReservation(id, sameBody, IsNew: false)
                    : new KeyReservation(sessionId, SameBody: false, IsNew: false);
            }

            replaced = id;
        }
    }

    public async ValueTask<Erasure> EraseUserAsync(string userId, CancellationToken cancellationToken)
    {
        long sessions = 0, turns = 0;
        var index = RedisKeys.OfUser(userId);
        var owner = Owner.Of(userId);
        for (PageCursor? after = null; ;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var (doomed, entries) = await PageAsync(index, descending: false, after, Chunk);
            await EvictAsync(userId, doomed);
            var removals = await Task.WhenAll(entries.Select(entry => RemoveAsync(entry.Id, owner, Now, "owned")));
            foreach (var (removed, remains) in removals)
            {
                if (removed && remains!.WasLive)
                {
                    sessions++;
                    turns += remains.Turns;
                }
            }

            // What was there no more when it was to be removed.
            await DropAsync([index[0]], [.. entries.Where((_, i) => !removals[i].Removed)]);
            if (entries.Count < Chunk)
            {
                return new Erasure(sessions, turns);
            }

            after = new PageCursor(entries[^1].Activity, entries[^1].Id);
        }
    }

    // Those entries that a live session of the user stands behind; the others leave the index.
    private async Task<List<(PageCursor Entry, Session Session)>> LiveAsync(string userId, List<(string Id, long Activity)> entries)
    {
        var now = Now;
        var owner = Owner.Of(userId);
        var rows = await Task.WhenAll(entries.Select(entry => ReadAsync(entry.Id, owner, now)));
        List<(PageCursor Entry, Session Session)> live = [];
        List<(string Id, long Activity)> dead = [];
        for (var i = 0; i < rows.Length; i++)
        {
            if (rows[i] is { } row)
            {
                live.Add((new PageCursor(entries[i].Activity, entries[i].Id), row.Session));
            }
            else
            {
                dead.Add(entries[i]);
            }
        }

        await DropAsync([RedisKeys.OfUser(userId)[0]], dead);
        return live;
    }
}
