using Microsoft.Extensions.Diagnostics.HealthChecks;
using Npgsql;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <summary>Sessions in PostgreSQL: durable, for many replicas.</summary>
/// <remarks>
/// The row of a session is its lock: each change is one statement on it, or a short transaction where more than the session is concerned
/// (a limit, sums of bytes). Such a transaction first locks the owner's row, and then sessions. Leases are columns; there is nothing that
/// outlasts a transaction in the server, so a pooler may stand between.
/// </remarks>
internal sealed partial class PostgresSessionStore(PostgresDatabase database, StorePolicy policy, TimeProvider time) : ISessionStore,
    IAsyncDisposable
{
    private const int Shards = 16;
    private const int SweptAtOnce = 200;

    private static readonly TimeSpan PauseToLetGo = TimeSpan.FromMilliseconds(500);

    // How often something is begun again that others have changed meanwhile.
    private const int MaxTries = 100;

    // Beyond its lease: a turn that comes late still finds that it was not deleted.
    private static readonly long PlaceholderGrace = TimeSpan.FromMinutes(1).Ticks / TimeSpan.TicksPerMicrosecond;

    private readonly SemaphoreSlim _lettingGo = new(4);

    /// <inheritdoc/>
    public StoreCapabilities Capabilities => new(IsDurable: true, HasLeases: true);

    private long Now => time.GetUtcNow().ToMicroseconds();

    /// <inheritdoc/>
    public async ValueTask<LeaseState> RenewAsync(OpenedSession opened, CancellationToken cancellationToken)
    {
        var given = (PostgresOpened)opened;
        if (given is not { Sid: { } sid, Request.Lease: { } lease })
        {
            return LeaseState.Held;
        }

        return await database.RunAsync(async (connection, cancel) =>
        {
            var now = Now;
            if (given.Token is null)
            {
                var use = PostgresDatabase.Command(PostgresSql.UseOn, sid, lease.Token, now + Microseconds(lease.Duration), now);
                return await ReadStateAsync(connection, sid, cancel, use) is { } state && (state.ExpiresAt > now || state.Version == 0)
                    ? LeaseState.Held : LeaseState.Lost;
            }

            return await PostgresDatabase.QueryAsync(
                connection,
                [PostgresDatabase.Command(PostgresSql.Renew, sid, lease.Token, now + Microseconds(lease.Duration), now)],
                async (reader, stop) => !await reader.ReadAsync(stop) ? LeaseState.Lost : reader.GetBoolean(0) ? LeaseState.Cancelled
                    : LeaseState.Held,
                cancel);
        }, cancellationToken);
    }

    /// <inheritdoc/>
    public async ValueTask ReleaseAsync(OpenedSession opened)
    {
        if (opened is PostgresOpened { Sid: { } sid, Request.Lease: { } lease, HasEnded: false } given
            && (opened.Status != OpenStatus.Busy || lease.Waits))
        {
            given.HasEnded = true;

            // The lease as well where it has a place: the answer by which it came may have been lost.
            await LetGoAsync(opened.Request.Session, sid, lease, withPlace: opened.Status == OpenStatus.Busy);
        }
    }

    private async Task LetGoAsync(SessionRef session, long? sid, LeaseRequest lease, bool withPlace)
    {
        if (!await TryLetGoAsync(session, sid, lease, withPlace))
        {
            LetGoLater(session, sid, lease, withPlace);
        }
    }

    // Nobody waits for it: it is for those who come once the server is back. In real time, as it is that which the lease runs out by.
    // Only a few of them ask at once: others need the connections as well.
    private void LetGoLater(SessionRef session, long? sid, LeaseRequest lease, bool withPlace) => _ = Task.Run(async () =>
    {
        var began = TimeProvider.System.GetTimestamp();
        var isFree = false;
        while (!isFree && TimeProvider.System.GetElapsedTime(began) < lease.Duration)
        {
            await Task.Delay(PauseToLetGo);
            await _lettingGo.WaitAsync();
            try
            {
                isFree = await TryLetGoAsync(session, sid, lease, withPlace);
            }
            finally
            {
                _lettingGo.Release();
            }
        }
    });

    private async Task<bool> TryLetGoAsync(SessionRef session, long? sid, LeaseRequest lease, bool withPlace)
    {
        try
        {
            await database.RunAsync(
                async (connection, cancel) =>
                {
                    if ((sid ?? (await FindOwnerAsync(connection, session, cancel))?.Sid) is not { } found)
                    {
                        return 0;
                    }

                    string[] held = withPlace
                        ? [PostgresSql.ReleaseLease, PostgresSql.ReleasePlaceholder, PostgresSql.ReleasePlace]
                        : [PostgresSql.ReleaseLease, PostgresSql.ReleasePlaceholder];
                    return await PostgresDatabase.ExecuteAsync(connection, cancel, lease.IsExclusive
                        ? [.. held.Select(sql => PostgresDatabase.Command(sql, found, lease.Token))]
                        : [PostgresDatabase.Command(PostgresSql.ReleaseUse, found, lease.Token)]);
                }, CancellationToken.None);
            return true;
        }
        catch (StoreUnavailableException)
        {
            return false;
        }
        catch (Exception e) when (e is StoredDataException or ObjectDisposedException)
        {
            // It runs out.
            return true;
        }
    }

    /// <inheritdoc/>
    public async ValueTask<bool> CancelAsync(SessionRef session, Owner owner, CancellationToken cancellationToken) =>
        await database.RunAsync(
        (connection, cancel) => PostgresDatabase.ExecuteAsync(
            connection, cancel, PostgresDatabase.Command(PostgresSql.Cancel(session.Id is null), Name(session), Now, owner.IsAnyone,
                owner.UserId, owner.MayClaim)),
        cancellationToken) > 0;

    /// <inheritdoc/>
    public async ValueTask<bool> DeleteAsync(SessionRef session, Owner owner, CancellationToken cancellationToken)
    {
        var told = new Told();
        var deleted = await InTransactionAsync(
            told, async (connection, cancel) =>
            {
                var found = await FindOwnerAsync(connection, session, cancel);
                if (found is not { } row)
                {
                    return false;
                }

                // The owner's row before the session's, as everywhere.
                await LockOwnersAsync(connection, [OwnerKey.Of(row.UserId, row.Id)], cancel);
                found = await FindOwnerAsync(connection, session, cancel);
                if (found is not { } now || !owner.MayHave(now.UserId))
                {
                    return false;
                }

                var removed = await RemoveAsync(connection, [now.Sid], null, told, cancel);
                await RemoveOwnersAsync(connection, told, cancel);
                return removed is [{ IsSession: true, IsLive: true }];
            }, cancellationToken);
        await TellAsync(told);
        return deleted;
    }

    /// <inheritdoc/>
    public async ValueTask<Erasure> EraseAsync(string userId, CancellationToken cancellationToken)
    {
        long sessions = 0, turns = 0;
        while (true)
        {
            // In steps, each of which waits for what is just being made for the user, and is told at once: what is gone must not be
            // answered from elsewhere while the others go.
            var told = new Told();
            var removed = await InTransactionAsync(
                told, async (connection, cancel) =>
                {
                    await LockOwnersAsync(connection, [new OwnerKey(userId, 0)], cancel);
                    var sids = await ReadSidsAsync(connection, PostgresDatabase.Command(PostgresSql.ListAllOfUser, userId), cancel);
                    var rows = await RemoveAsync(connection, sids, null, told, cancel);

                    // Also where the user had nothing: the lock has made the row.
                    told.Users.Add(userId);
                    await RemoveOwnersAsync(connection, told, cancel);
                    return rows;
                }, cancellationToken);
            await TellAsync(told);
            if (removed.Count == 0)
            {
                return new Erasure(sessions, turns);
            }

            sessions += removed.Count(row => row is { IsSession: true, IsLive: true });
            turns += removed.Where(row => row is { IsSession: true, IsLive: true }).Sum(row => (long)row.Turns);
        }
    }

    /// <inheritdoc/>
    public async ValueTask<StoreStatistics> CountAsync(CancellationToken cancellationToken) => new(
        await database.RunAsync(
            (connection, cancel) => PostgresDatabase.QueryAsync(
                connection, [PostgresDatabase.Command(PostgresSql.Count, Now)], async (reader, stop) => await reader.ReadAsync(stop)
                    ? reader.GetInt64(0) : 0, cancel),
            cancellationToken),
        ActiveSessionsInMemory: 0);

    /// <inheritdoc/>
    public async ValueTask<HealthCheckResult> CheckAsync(CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(TimeSpan.FromMilliseconds(1800));
        try
        {
            return await CheckAsync().AsTask().WaitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            return HealthCheckResult.Unhealthy("PostgreSQL did not answer in time.");
        }
        catch (Exception e) when (e is StoreUnavailableException or StoredDataException)
        {
            return HealthCheckResult.Unhealthy(e.Message);
        }

        async ValueTask<HealthCheckResult> CheckAsync() => await database.RunAsync(
            async (connection, cancel) =>
            {
                await using var command = new NpgsqlCommand(
                    PostgresSql.Check, connection);
                await using var reader = await command.ExecuteReaderAsync(cancel);
                await reader.ReadAsync(cancel);
                return reader.GetBoolean(0) ? HealthCheckResult.Unhealthy(
                    "PostgreSQL takes no writes at the moment: it is a replica, or read-only.")
                    : !reader.GetBoolean(1) ? HealthCheckResult.Unhealthy("PostgreSQL does not permit what is needed.")
                    : HealthCheckResult.Healthy("PostgreSQL answers and takes writes.");
            }, limit.Token);
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => database.DisposeAsync();

    private static long Microseconds(TimeSpan span) => span.Ticks / TimeSpan.TicksPerMicrosecond;

    private static object Name(SessionRef session) => session.Id ?? (object)session.Key;

    // The same on every replica.
    private static short Shard(string id)
    {
        var hash = 2166136261u;
        foreach (var character in id)
        {
            hash = (hash ^ character) * 16777619u;
        }

        return (short)(hash % Shards);
    }

    private static long NewTag() => Random.Shared.NextInt64();

    private static async Task<List<long>> ReadSidsAsync(NpgsqlConnection connection, NpgsqlBatchCommand command,
        CancellationToken cancellationToken) => await PostgresDatabase.QueryAsync(
        connection, [command], async (reader, cancel) =>
        {
            List<long> sids = [];
            while (await reader.ReadAsync(cancel))
            {
                sids.Add(reader.GetInt64(0));
            }

            return sids;
        }, cancellationToken);

    private static async Task<RowState?> ReadStateAsync(NpgsqlConnection connection, long sid, CancellationToken cancellationToken,
        params IEnumerable<NpgsqlBatchCommand> before) =>
        await PostgresDatabase.QueryAsync<RowState?>(
            connection, [.. before, PostgresDatabase.Command(PostgresSql.ReadState, sid)], async (reader, cancel) =>
                await reader.ReadAsync(cancel)
                ? new RowState(reader.GetInt64(0), reader.GetInt64(1), reader.IsDBNull(2) ? null : reader.GetString(2)) : null,
            cancellationToken);

    // Without what could be damaged.
    private static async Task<(long Sid, string Id, string? UserId)?> FindOwnerAsync(NpgsqlConnection connection, SessionRef session,
        CancellationToken cancellationToken) =>
        await PostgresDatabase.QueryAsync<(long, string, string?)?>(
            connection, [PostgresDatabase.Command(PostgresSql.FindOwner(session.Id is null), Name(session))],
            async (reader, cancel) => await reader.ReadAsync(cancel)
                ? (reader.GetInt64(0), reader.GetString(1), reader.IsDBNull(2) ? null : reader.GetString(2)) : null, cancellationToken);

    private async Task<List<RemovedRow>> RemoveAsync(NpgsqlConnection connection, List<long> sids, long? expiredBy, Told told,
        CancellationToken cancellationToken)
    {
        if (sids.Count == 0)
        {
            return [];
        }

        var now = Now;
        var ofSession = StorePolicy.SizeOf(0, 0);
        return await PostgresDatabase.QueryAsync(
            connection,
                [PostgresDatabase.Command(PostgresSql.Remove, sids.ToArray(), expiredBy, ofSession,
                StorePolicy.SizeOf(0, 1) - ofSession, now)], async (reader, cancel) =>
            {
                List<RemovedRow> rows = [];
                while (await reader.ReadAsync(cancel))
                {
                    var row = new RemovedRow(reader.GetBoolean(2), reader.GetInt64(3) > now,
                        reader.GetInt16(1) == (short)SessionKind.Chain, Math.Max(0, reader.GetInt32(4)));
                    rows.Add(row);
                    told.Ids.Add(reader.GetString(5));
                    if (!reader.IsDBNull(6))
                    {
                        told.Users.Add(reader.GetString(6));
                    }

                    if (row is { IsSession: true, IsLive: false, IsChain: false })
                    {
                        told.Expired++;
                    }

                    if (row is { IsSession: true, IsLive: true })
                    {
                        told.Removed.Add(reader.GetGuid(0));
                    }
                }

                return rows;
            }, cancellationToken);
    }

    // In the transaction that removed what they had.
    private static async Task RemoveOwnersAsync(NpgsqlConnection connection, Told told, CancellationToken cancellationToken)
    {
        if (told.Users.Count > 0)
        {
            await PostgresDatabase.ExecuteAsync(
                connection, cancellationToken, PostgresDatabase.Command(PostgresSql.RemoveOwners, [told.Users.ToArray()]));
        }
    }

    private async ValueTask TellAsync(Told told)
    {
        foreach (var id in told.Ids)
        {
            policy.Damage.Forget(DamageReport.NameOf(id));
        }

        if (told.Created is { } origin)
        {
            policy.Events.Created(origin);
        }

        if (told.Expired > 0)
        {
            policy.Events.Expired(told.Expired);
        }

        if (told.Evicted > 0)
        {
            policy.Events.Evicted(told.Evicted);
        }

        if (told.Removed.Count > 0)
        {
            await policy.Events.Removed(told.Removed);
        }
    }

    /// <summary>What is to be told once the transaction is committed.</summary>
    private sealed class Told
    {
        public SessionOrigin? Created { get; set; }

        public int Expired { get; set; }

        public int Evicted { get; set; }

        public List<Guid> Removed { get; } = [];

        /// <summary>Ids of all rows that went: what was damaged about them is gone.</summary>
        public List<string> Ids { get; } = [];

        /// <summary>Those whose they were.</summary>
        public HashSet<string> Users { get; } = [];

        public void Clear()
        {
            (Created, Expired, Evicted) = (null, 0, 0);
            Removed.Clear();
            Ids.Clear();
            Users.Clear();
        }
    }

    /// <summary>What tells whether a row is still a session, and whose.</summary>
    private readonly record struct RowState(long Version, long ExpiresAt, string? UserId);

    private readonly record struct RemovedRow(bool IsSession, bool IsLive, bool IsChain, int Turns);

    /// <summary>The row of an owner's sums: of nobody's the one of the session's shard.</summary>
    private readonly record struct OwnerKey(string UserId, short Shard)
    {
        public static OwnerKey Of(string? userId, string sessionId) => userId is null ? new("", PostgresSessionStore.Shard(sessionId))
            : new(userId, 0);
    }
}
