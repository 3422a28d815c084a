using StackExchange.Redis;

namespace Sessions.Api;

/// <content>Sessions that start with the turns of others.</content>
internal sealed partial class RedisSessionStore
{
    private const int TurnsPerStep = 200;

    // What is half copied when its process dies goes by itself.
    private static readonly TimeSpan CopyLife = TimeSpan.FromMinutes(10);

    public async ValueTask<Fork> ForkAsync(string sourceId, Owner owner, int? afterTurn, NewSession session, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var now = Now;
        if (await ReadAsync(sourceId, owner, now) is not { } source)
        {
            return new Fork(ForkStatus.SourceNotFound);
        }

        var turns = afterTurn ?? source.Session.TurnCount;
        if (turns < 0 || turns > source.Session.TurnCount)
        {
            return new Fork(ForkStatus.NoSuchTurn);
        }

        if (await ReadAsync(session.Id, Owner.Anyone, now) is not null)
        {
            return new Fork(ForkStatus.IdTaken);
        }

        session = session with { UserId = source.Session.UserId };
        var copies = CopyKeys(session.Id);
        try
        {
            for (var first = 0; first < turns; first += TurnsPerStep)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var encoded = await redis.RunAsync(RedisKeys.Turns(sourceId), (database, key) => database.ListRangeAsync(key, first, Math.Min(turns, first + TurnsPerStep) - 1));
                await AppendAsync(copies[0], encoded);
            }

            // Turns are only ever added to one incarnation: if it is still the same, these are its turns.
            if (turns > 0 && (await redis.RunAsync(RedisKeys.Session(sourceId), (database, key) => database.HashGetAsync(key, "i"))) != source.Incarnation)
            {
                return new Fork(ForkStatus.SourceNotFound);
            }

            RedisValue[] fields = source.Session.Summary is { } summary && summary.CoversTurns <= turns ? ["st", summary.Text.Bytes, "sc", summary.CoversTurns] : [];
            return await AddAsync(session, now, copies, fields) is { } fork
                ? new Fork(ForkStatus.Created, fork)
                : new Fork(ForkStatus.IdTaken);
        }
        finally
        {
            redis.Send(database => database.KeyDelete(copies, CommandFlags.FireAndForget));
        }
    }

    private static RedisKey[] CopyKeys(string id)
    {
        var copy = NewToken();
        return [$"s:{{{id}}}:t:{copy}", $"s:{{{id}}}:k:{copy}"];
    }

    private async Task AppendAsync(RedisKey list, RedisValue[] encoded)
    {
        await redis.RunAsync(list, (database, key) => database.ListRightPushAsync(key, encoded));
        await redis.RunAsync(list, (database, key) => database.KeyExpireAsync(key, CopyLife));
    }
}
