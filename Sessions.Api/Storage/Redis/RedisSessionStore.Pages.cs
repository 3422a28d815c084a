using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <content>Pages of turns and of sessions.</content>
internal sealed partial class RedisSessionStore
{
    // How much one step answers with, unless a single turn is larger: a server is busy with one command at a time, and one connection
    // carries all answers.
    private const int MaxStepBytes = 1 << 20;

    // What a turn takes beside its texts, at the most that is usual.
    private const int TurnOverhead = 128;

    // How many heads of a list are read at once; each comes with its last turn.
    private const int HeadsAtOnce = 25;

    // How many pages of turns are read from Redis at once by this process: bytes in flight are bounded, and small commands do not wait
    // behind large answers.
    private readonly SemaphoreSlim _pages = new(8);

    public async ValueTask<TurnPage?> ReadTurnsAsync(
        SessionRef session, Owner owner, TurnPageRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (await IdOfAsync(session) is not { } id)
        {
            return null;
        }

        Session? head = null;
        List<Turn> turns = [];
        long bytes = 0;
        var after = request.After;
        var tip = request.AllBranches ? "*" : request.Tip is { } named ? RedisCodec.Text(named) : "";
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var result = await ReadStepAsync(id, owner, head?.Key
                ?? KeyOf(session), request, after, tip, request.Limit - turns.Count, request.MaxBytes - bytes, head is null,
                    cancellationToken);
            if (result.IsNull)
            {
                return null;
            }

            var now = Decode(id, () => RedisCodec.DecodeHead(id, result[0]).Session);
            if (head is not null && now.Rewrites != head.Rewrites)
            {
                // From the start: turns that were read may be others by now.
                (head, after, bytes) = (null, request.After, 0);
                turns.Clear();
                continue;
            }

            head ??= now.TurnCount == 0 ? now : now with { LastTurn = Decode(id, () => RedisCodec.DecodeTurn(result[1], now.TurnCount)) };
            if ((int)result[4] < 0)
            {
                return new TurnPage(head, [], HasMore: false) { IsTipMissing = true };
            }

            foreach (var turn in Decode(id, () => DecodeTurns(result[2], result[3])))
            {
                bytes += turn.Bytes;
                if (turns.Count > 0 && bytes > request.MaxBytes)
                {
                    return new TurnPage(head, turns, HasMore: true);
                }

                turns.Add(turn);
            }

            var hasMore = (int)result[4] == 1;
            if (!hasMore || turns.Count >= request.Limit)
            {
                return new TurnPage(head, turns, hasMore);
            }

            // The path stays the one to the turn that was the newest at first; of all branches, what was added since is behind it.
            after = turns[^1].Number;
            tip = tip.Length == 0 ? RedisCodec.Text(head.TurnCount) : tip;
        }
    }

    public async ValueTask<Page<Session>> ListAsync(SessionPageRequest request, CancellationToken cancellationToken)
    {
        SessionKind[] kinds = request.Kind is { } kind ? [kind] : ListedKinds;
        List<Session> items = [];
        long bytes = 0;
        PageCursor last = default;
        for (var after = request.After; ;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var wanted = request.Limit - items.Count + 1;
            var entries = request.UserId is { } user
                ? await ReadOwnerPageAsync(user, kinds, !request.Ascending, after, wanted)
                : await ReadAllPageAsync(kinds, !request.Ascending, after, wanted);
            foreach (var group in entries.Chunk(HeadsAtOnce))
            {
                var heads = await Task.WhenAll(group.Select(entry => HeadAsync(request.UserId, entry)));
                for (var i = 0; i < group.Length; i++)
                {
                    if (heads[i] is not { Session: var session })
                    {
                        continue;
                    }

                    bytes += session.Metadata.Length + (session.LastTurn?.Bytes ?? 0);
                    if (items.Count == request.Limit || (items.Count > 0 && bytes > request.MaxBytes))
                    {
                        return new Page<Session>(items, last);
                    }

                    items.Add(session);
                    last = new PageCursor(group[i].Score, group[i].Id);
                }
            }

            if (entries.Count < wanted)
            {
                return new Page<Session>(items, null);
            }

            after = new PageCursor(entries[^1].Score, entries[^1].Id);
        }
    }

    private static long StepBytes(long wanted, int turns) => Math.Min(MaxStepBytes, Math.Max(0, wanted) + ((long)TurnOverhead * turns));

    private async Task<RedisResult> ReadStepAsync(
        string id, Owner owner, Guid? key, TurnPageRequest request, int? after, string tip, int limit, long bytes, bool withLast,
            CancellationToken cancellationToken)
    {
        await _pages.WaitAsync(cancellationToken);
        try
        {
            return await RunAsync(RedisScripts.Turns, id, owner, "", limit, StepBytes(bytes, limit), after is { } number
                ? RedisCodec.Text(number) : "", request.Descending, tip,
                RedisCodec.Encode(key), withLast);
        }
        finally
        {
            _pages.Release();
        }
    }

    // The session that an entry stands for; one that leads nowhere leaves the indexes.
    private async Task<RedisHead?> HeadAsync(string? userId, IndexEntry entry)
    {
        if (entry.Id.Length == 0)
        {
            return null;
        }

        var isDamaged = false;
        RedisHead? head = null;
        try
        {
            head = await ReadAsync(entry.Id, userId is null ? Owner.Anyone : Owner.Of(userId), entry.Key);
        }
        catch (StoredDataException e)
        {
            policy.Damage.Report(e.What, e.InnerException);
            isDamaged = true;
        }

        if (head is null && !isDamaged && userId is not null)
        {
            await PastTroubleAsync(entry.Id, async () =>
            {
                await DropAsync(userId, SessionKind.Session, [entry.Stored]);
                await DropAsync(userId, SessionKind.Conversation, [entry.Stored]);
                await DropAsync(userId, SessionKind.Chain, [entry.Stored]);
            });
        }

        return head;
    }

    private async Task<List<IndexEntry>> ReadOwnerPageAsync(
        string? userId, SessionKind[] kinds, bool descending, PageCursor? after, int limit)
    {
        RedisKey[] indexes = [.. kinds.Select(kind => keys.OwnerIndex(userId, kind))];
        RedisKey[] others = [keys.OwnerEntries(userId), .. kinds.Select(kind => keys.OwnerDoomed(userId, kind))];
        var page = await PageAsync(indexes, others, descending, after, limit, known: indexes.Length);
        if (await SettleOwnerAsync(userId, page.Lists[kinds.Length], page.ServerTime, kinds.Select((kind, i) =>
            (kind, page.Lists[kinds.Length + 1 + i]))))
        {
            page = await PageAsync(indexes, others, descending, after, limit, known: indexes.Length);
        }

        return Merge(page.Lists.Take(kinds.Length), descending, limit);
    }

    private async Task<List<IndexEntry>> ReadAllPageAsync(SessionKind[] kinds, bool descending, PageCursor? after, int limit)
    {
        var shards = await Task.WhenAll(Enumerable.Range(0, RedisKeys.Shards).Select(ReadShardAsync));
        return Merge(shards.SelectMany(lists => lists), descending, limit);

        async Task<IEnumerable<List<IndexEntry>>> ReadShardAsync(int shard)
        {
            RedisKey[] indexes = [.. kinds.Select(kind => keys.ShardIndex(shard, kind))];
            RedisKey[] others = [keys.ShardEntries(shard)];
            var page = await PageAsync(indexes, others, descending, after, limit);
            if (await SettleShardAsync(shard, page.Lists[kinds.Length], page.ServerTime))
            {
                page = await PageAsync(indexes, others, descending, after, limit);
            }

            return page.Lists.Take(kinds.Length);
        }
    }

    private static List<IndexEntry> Merge(IEnumerable<List<IndexEntry>> lists, bool descending, int limit)
    {
        List<IndexEntry> all = [.. lists.SelectMany(list => list)];
        all.Sort((left, right) =>
        {
            var order = left.Score != right.Score ? left.Score.CompareTo(right.Score) : string.CompareOrdinal(left.Raw, right.Raw);
            return descending ? -order : order;
        });
        return all.Count <= limit ? all : all[..limit];
    }
}
