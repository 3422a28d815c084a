using Microsoft.Extensions.Diagnostics.HealthChecks;
using Sessions.Api.Domain;
using StackExchange.Redis;

namespace Sessions.Api.Storage.Redis;

/// <summary>
/// Sessions in a Redis (or what speaks its language), alone or as a cluster, shared by many processes. docs/redis.md tells how to run it.
/// </summary>
/// <remarks>
/// <para>
/// Whatever changes a session is one script on the session's own slot; so a turn is atomic wherever the keys of others lie. What gives an
/// owner a session writes an entry into the indexes of that
/// owner and of all first, with the token of its lease; the step that makes the session needs that lease. So whoever erases takes the
/// lease away before the entry, and nothing can come
/// after; and whatever breaks in between leaves an entry that leads to the session. Lists, limits, exports and erasures look behind such
/// entries (<see cref="SettleOwnerAsync"/>).
/// </para>
/// <para>
/// An index may name a session that is gone, and is checked against the sessions wherever it is read. Whether a session has expired is
/// told by its head and the <see cref="TimeProvider"/>;
/// the keys' own time to live is longer, and only sees to it that nothing stays behind.
/// </para>
/// </remarks>
internal sealed partial class RedisSessionStore(
    RedisCommands redis, RedisKeys keys, StorePolicy policy, TimeProvider time, ILogger<RedisSessionStore> logger) : ISessionStore,
        IDisposable
{
    // How much longer than they need to keys live: long enough that the clean-up comes first, and can tell the indexes.
    private static readonly TimeSpan Slack = TimeSpan.FromHours(6);

    private static readonly TimeSpan CheckTimeout = TimeSpan.FromSeconds(1.8);

    private readonly RedisValue[] _lifetimes =
    [
        .. new[] { SessionKind.Session, SessionKind.Conversation, SessionKind.Chain }.Select(kind =>
            (RedisValue)Microseconds(policy.Lifetime(kind))),
    ];

    public StoreCapabilities Capabilities { get; } = new(IsDurable: true, HasLeases: true);

    private long Now => time.GetUtcNow().ToMicroseconds();

    public async ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (await IdOfAsync(session) is not { } id)
        {
            return false;
        }

        var (status, remains) = await RemoveAsync(id, owner, "live", KeyOf(session));
        return status == RemoveStatus.Removed && remains is not null;
    }

    public async ValueTask<bool> CancelAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return await IdOfAsync(session) is { } id
            && (int)await RunAsync(RedisScripts.Cancel, id, owner, "", RedisCodec.Encode(KeyOf(session))) == 1;
    }

    public async ValueTask<HealthCheckResult> CheckAsync(CancellationToken cancellationToken)
    {
        try
        {
            // A write: a server that only answers may be a replica, or full.
            await redis.RunAsync(keys.Health, (database, key) =>
                database.StringSetAsync(key, Environment.MachineName, TimeSpan.FromMinutes(1)))
                .WaitAsync(CheckTimeout, cancellationToken);
            return redis.Unresponsive == 0
                ? HealthCheckResult.Healthy("Sessions are kept in Redis.")
                : HealthCheckResult.Degraded("A server of the Redis cluster does not answer.");
        }
        catch (StoreUnavailableException e)
        {
            return HealthCheckResult.Unhealthy(e.Message, e);
        }
        catch (TimeoutException e)
        {
            return HealthCheckResult.Unhealthy("Redis did not answer in time.", e);
        }
        catch (Exception e) when (e is RedisException or OperationCanceledException)
        {
            return HealthCheckResult.Unhealthy("Redis did not do what it was asked to.", e);
        }
    }

    public void Dispose() => _pages.Dispose();

    private static long Microseconds(TimeSpan span) => span.Ticks / TimeSpan.TicksPerMicrosecond;

    private static Owner OwnerOf(string? userId) => userId is null ? Owner.Nobody : Owner.Of(userId);

    private static Guid? KeyOf(SessionRef session) => session.Id is null ? session.Key : null;

    private static RedisValue NewTag() => Random.Shared.NextInt64();

    // The id that a reference names; null: its key leads nowhere. Whether it still leads to that session, the session's head tells.
    private async ValueTask<string?> IdOfAsync(SessionRef session)
    {
        if (session.Id is { } id)
        {
            return id;
        }

        return await ReadableAsync(
            $"the key {session.Key:N}", redis.RunAsync(keys.IdOf(session.Key), (database, key) => database.StringGetAsync(key)));
    }

    private async Task<RedisHead?> ReadAsync(string id, Owner owner, Guid? key)
    {
        var result = await RunAsync(RedisScripts.Get, id, owner, "", RedisCodec.Encode(key));
        return result.IsNull
            ? null
            : Decode(id, () =>
            {
                var head = RedisCodec.DecodeHead(id, result[0]);
                var last = result[1].IsNull ? null : RedisCodec.DecodeTurn(result[1], head.Session.TurnCount);
                return head with { Session = head.Session with { LastTurn = last } };
            });
    }

    private async Task<(RemoveStatus Status, RedisRemains? Remains)> RemoveAsync(
        string id, Owner owner, string mode, Guid? key = null, string token = "", long activity = 0)
    {
        var result = await RunAsync(RedisScripts.Remove, id, owner, "", mode, RedisCodec.Encode(key), activity, token);
        var status = (RemoveStatus)(int)result[0];
        var remains = result.Length > 1 ? RedisRemains.Decode(result[1]) : null;
        if (status == RemoveStatus.Missing)
        {
            // What was damaged beside it is gone.
            policy.Damage.Forget(DamageReport.NameOf(id));
        }

        if (status == RemoveStatus.Removed && remains is not null)
        {
            policy.Damage.Forget(DamageReport.NameOf(id));
            await ForgetAsync(id, remains);
            if (mode is not "expired" && remains.Key is { } removed)
            {
                await policy.Events.Removed([removed]);
            }
        }

        return (status, remains);
    }

    private Task<RedisResult> RunAsync(RedisScript script, string id, Owner owner, string token, params RedisValue[] more) =>
        ReadableAsync(DamageReport.NameOf(id), redis.ScriptAsync(script, keys.OfSession(id), Arguments(owner, token, more)));

    private Task<RedisResult> RunPatientlyAsync(RedisScript script, string id, Owner owner, string token, RedisValue[] more) =>
        ReadableAsync(DamageReport.NameOf(id), redis.ScriptPatientlyAsync(script, keys.OfSession(id), Arguments(owner, token, more)));

    // What Redis answers, unless what is there is not what was put there.
    private static async Task<T> ReadableAsync<T>(string what, Task<T> task)
    {
        try
        {
            return await task;
        }
        catch (RedisServerException e) when (RedisFailure.IsDamage(e))
        {
            throw Damaged(what, e);
        }
    }

    private RedisValue[] Arguments(Owner owner, string token, params RedisValue[] more) =>
        [Now, owner.UserId ?? "", owner.IsAnyone ? 2 : owner.MayClaim
            ? 1 : 0, .. _lifetimes, (long)Slack.TotalMilliseconds, token, .. more];

    // How long the keys of an index live that is told of a session.
    private long IndexLife(long expiresAt) => (long)((1.25 * (expiresAt - Now) / 1000) + (2 * Slack.TotalMilliseconds));

    private static T Decode<T>(string id, Func<T> decode)
    {
        try
        {
            return decode();
        }
        catch (Exception e) when (
            e is InvalidDataException or FormatException or OverflowException or InvalidCastException or ArgumentException)
        {
            throw Damaged(DamageReport.NameOf(id), e);
        }
    }

    private static StoredDataException Damaged(string what, Exception reason) =>
        new(what, "What is stored of this session can't be read.", reason);

    // For what goes past damage: reports it instead of throwing.
    private async Task<T?> PastDamageAsync<T>(Func<Task<T>> action)
    {
        try
        {
            return await action();
        }
        catch (StoredDataException e)
        {
            policy.Damage.Report(e.What, e.InnerException);
            return default;
        }
    }

    private enum RemoveStatus
    {
        Missing,
        Removed,
        LeftAlone,
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 52, Level = LogLevel.Warning,
            Message = "Session {SessionId} was changed, but the indexes could not be told, and will be later: {Reason}")]
        public static partial void NotListed(ILogger logger, string sessionId, string reason);

        [LoggerMessage(EventId = 46, Level = LogLevel.Debug,
            Message = "The lease on session {SessionId} could not be let go of, and will run out: {Reason}")]
        public static partial void NotReleased(ILogger logger, string sessionId, string reason);
    }
}
