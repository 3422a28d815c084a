using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Api;

/// <summary>Sessions in a Redis (or what speaks its language), alone or as a cluster, shared by many processes. docs/redis.md tells how to run it.</summary>
/// <remarks>
/// <para>
/// Whatever changes a session is one script on the session's own slot; so a turn is atomic wherever the keys of others lie. The indexes (of a user,
/// of all) follow in a second step: a session is made before it is listed, and marked as pending until it is, so that whoever meets one whose
/// maker has died lists it. An index may name a session that is gone, and is checked against the sessions wherever it is read.
/// </para>
/// <para>
/// A session's activity and the <see cref="TimeProvider"/> decide whether it has expired; the keys' own time to live is longer, and only sees to it
/// that nothing stays behind.
/// </para>
/// </remarks>
internal sealed partial class RedisSessionStore(
    RedisCommands redis, ITurnCache remembered, SessionSettings options, TimeProvider time, SessionMetrics metrics, ILogger<RedisSessionStore> logger) : ISessionStore
{
    private readonly long _timeout = options.Timeout.Ticks / TimeSpan.TicksPerMicrosecond;
    private readonly int _maxPerUser = options.MaxSessionsPerUser;

    // Long enough that the clean-up comes first, and can tell the indexes.
    private readonly TimeSpan _life = (1.25 * options.Timeout) + Slack(options);

    // An index is kept as often as its sessions are, and its entries may be older than those by what a dead process did not tell: less than the timeout and a quarter.
    private readonly TimeSpan _indexLife = (2.5 * options.Timeout) + Slack(options);

    // How many sessions this process has removed: see RememberAsync.
    private long _removals;

    private long Now => time.GetUtcNow().ToMicroseconds();

    public async ValueTask<Session?> CreateAsync(NewSession session, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return await AddAsync(session, Now, [], []);
    }

    public async ValueTask<Session?> GetAsync(string sessionId, Owner owner, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var row = await ReadAsync(sessionId, owner, Now);
        await HealAsync(row);
        return row?.Session;
    }

    public async ValueTask<bool> DeleteAsync(string sessionId, Owner owner, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return (await RemoveAsync(sessionId, owner, Now, "live")).Removed;
    }

    public async ValueTask<Page<Turn>?> ReadHistoryAsync(string sessionId, Owner owner, TurnPageRequest request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var edge = Math.Clamp(request.After?.Position ?? (request.Descending ? int.MaxValue - 1 : 0), 0, int.MaxValue - 1);
        var page = await RunAsync(RedisScripts.History, sessionId, owner, Now, edge, request.Limit, request.Descending);
        if (page.IsNull)
        {
            return null;
        }

        var (count, first) = ((int)page[0], (int)page[1]);
        var items = RedisCodec.DecodeTurns(page[2], first);
        var more = items.Length > 0 && (request.Descending ? first > 1 : first + items.Length - 1 < count);
        if (request.Descending)
        {
            Array.Reverse(items);
        }

        return new Page<Turn>(items, more ? new PageCursor(items[^1].Number, "") : null);
    }

    public async ValueTask<MetadataReplacement> ReplaceMetadataAsync(
        string sessionId, Owner owner, long expectedVersion, ReadOnlyMemory<byte> metadata, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var result = await RunAsync(RedisScripts.Metadata, sessionId, owner, Now, expectedVersion, metadata);
        return result.IsNull ? default : new MetadataReplacement(RedisCodec.DecodeSession(sessionId, result[1], result[2], _timeout).Session, (int)result[0] == 1);
    }

    public async ValueTask<HealthCheckResult> CheckHealthAsync(CancellationToken cancellationToken)
    {
        try
        {
            // A write: a server that only answers may be a replica, or full.
            await redis.RunAsync(RedisKeys.Health, (database, key) => database.StringSetAsync(key, Environment.MachineName, TimeSpan.FromMinutes(1))).WaitAsync(cancellationToken);
            return redis.Unresponsive == 0
                ? HealthCheckResult.Healthy("Sessions are kept in Redis.")
                : HealthCheckResult.Degraded("A server of the Redis cluster does not answer.");
        }
        catch (StoreUnavailableException e)
        {
            return HealthCheckResult.Unhealthy(e.Message, e);
        }
        catch (Exception e) when (e is RedisException or OperationCanceledException)
        {
            return HealthCheckResult.Unhealthy("Redis did not do what it was asked to.", e);
        }
    }

    private static TimeSpan Slack(SessionSettings options) =>
        TimeSpan.FromMinutes(Math.Clamp(2 * options.CleanupIntervalMinutes, 1, TimeSpan.MinutesPerDay));

    private static string NewToken() => RandomIds.NewVersion4().ToString("N");

    private async Task<RedisRow?> ReadAsync(string id, Owner owner, long now)
    {
        var result = await RunAsync(RedisScripts.Get, id, owner, now);
        return result.IsNull ? null : RedisCodec.DecodeSession(id, result[0], result[1], _timeout);
    }

    // Makes a session, and lists it.
    private async Task<Session?> AddAsync(NewSession session, long now, RedisKey[] ready, RedisValue[] fields)
    {
        if (await MakeAsync(session, now, ready, fields) is not { } made)
        {
            return null;
        }

        metrics.Created(session.CreatedFrom);
        await ListedAsync(session.Id, session.UserId, now, session.IdempotencyKey?.ToString("N"), isPending: true);
        return made;
    }

    // Makes a session. What stands ready under the keys given becomes its turns and answered requests.
    private async Task<Session?> MakeAsync(NewSession session, long now, RedisKey[] ready, RedisValue[] fields)
    {
        RedisValue[] more =
        [
            RedisCodec.Encode(session.CreatedFrom), NewToken(), session.IdempotencyKey?.ToString("N") ?? "", session.Metadata, .. fields,
        ];
        var owner = session.UserId is { } user ? Owner.Of(user) : Owner.Nobody;
        var result = await redis.ScriptAsync(RedisScripts.Create, [.. RedisKeys.OfSession(session.Id), .. ready], Arguments(owner, now, more));
        if ((int)result[0] == 0)
        {
            return null;
        }

        await ForgetAsync(session.Id, RedisRemains.Decode(result[1]), expired: true);
        return RedisCodec.DecodeSession(session.Id, result[2], result[3], _timeout).Session;
    }

    private async Task<(bool Removed, RedisRemains? Remains)> RemoveAsync(string id, Owner owner, long now, string which, long activity = 0)
    {
        var result = await RunAsync(RedisScripts.Remove, id, owner, now, which, activity);
        var status = (int)result[0];
        var remains = status == 0 ? null : RedisRemains.Decode(result[1]);
        if (status == 1)
        {
            Interlocked.Increment(ref _removals);
            await remembered.RemoveAsync([id]);
            await ForgetAsync(id, remains, expired: false);
        }

        return (status == 1, remains);
    }

    private Task<RedisResult> RunAsync(RedisScript script, string id, Owner owner, long now, params RedisValue[] more) =>
        redis.ScriptAsync(script, RedisKeys.OfSession(id), Arguments(owner, now, more));

    private RedisValue[] Arguments(Owner owner, long now, params RedisValue[] more) =>
        [now, _timeout, (long)_life.TotalMilliseconds, owner.UserId ?? "", owner.IsAnyone ? 2 : owner.MayClaim ? 1 : 0, .. more];
}
