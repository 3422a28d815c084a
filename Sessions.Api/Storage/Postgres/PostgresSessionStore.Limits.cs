using Npgsql;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <content>Limits, in number and in bytes: under the lock of their owner's row.</content>
internal sealed partial class PostgresSessionStore
{
    private const string ChainBytesLimit = "limits.responses_bytes_per_user";
    private const string UnownedBytesLimit = "limits.unowned_bytes";

    // In the same order for all, so that none waits for another that waits for it.
    private static async Task LockOwnersAsync(NpgsqlConnection connection, IReadOnlyCollection<OwnerKey> owners,
        CancellationToken cancellationToken)
    {
        if (owners.Count > 0)
        {
            await PostgresDatabase.ExecuteAsync(
                connection, cancellationToken,
                [
                    .. owners.OrderBy(owner => owner.UserId, StringComparer.Ordinal).ThenBy(owner => owner.Shard).SelectMany(owner => new[]
                    {
                        PostgresDatabase.Command(PostgresSql.InsertOwner, owner.UserId, owner.Shard),
                        PostgresDatabase.Command(PostgresSql.LockOwner, owner.UserId, owner.Shard),
                    }),
                ]);
        }
    }

    private static async Task CountBytesAsync(NpgsqlConnection connection, string? userId, string sessionId, SessionKind kind, long more,
        CancellationToken cancellationToken)
    {
        if (more != 0 && IsCounted(userId, kind))
        {
            var owner = OwnerKey.Of(userId, sessionId);
            await PostgresDatabase.ExecuteAsync(
                connection, cancellationToken, PostgresDatabase.Command(PostgresSql.CountBytes, owner.UserId, owner.Shard, more,
                    kind == SessionKind.Chain ? more : 0L));
        }
    }

    private async Task<bool> IsFullInNumberAsync(NpgsqlConnection connection, string? userId, SessionKind kind, long now,
        CancellationToken cancellationToken) =>
        policy.MaxPerUser(kind) is var max and > 0 && userId is not null
            && (await ListForLimitAsync(connection, -1, userId, kind, cancellationToken)).Count(row => row.ExpiresAt > now) >= max;

    // The one that comes is not among them, so that it is never the one to go.
    private async Task MakeRoomInNumberAsync(NpgsqlConnection connection, long sid, string? userId, SessionKind kind, Told told,
        CancellationToken cancellationToken)
    {
        var max = policy.MaxPerUser(kind);
        if (max <= 0 || userId is null)
        {
            return;
        }

        var now = Now;
        var live = (await ListForLimitAsync(connection, sid, userId, kind, cancellationToken)).Where(row => row.ExpiresAt > now).ToList();
        var goes = live.OrderBy(row => row.IsRunning ? 1 : 0).Take(live.Count - max + 1).Select(row => row.Sid).ToList();
        var gone = await RemoveAsync(connection, goes, null, told, cancellationToken);
        told.Evicted += gone.Count(row => !row.IsChain);
    }

    private async Task<List<(long Sid, long ExpiresAt, bool IsRunning)>> ListForLimitAsync(
        NpgsqlConnection connection, long sid, string userId, SessionKind kind, CancellationToken cancellationToken)
    {
        var now = Now;
        return await PostgresDatabase.QueryAsync(
            connection, [PostgresDatabase.Command(PostgresSql.ListForLimit, userId, (short)kind, sid)], async (reader, cancel) =>
            {
                List<(long, long, bool)> rows = [];
                while (await reader.ReadAsync(cancel))
                {
                    rows.Add((reader.GetInt64(0), reader.GetInt64(2), (reader.GetBoolean(3) && reader.GetInt64(4) > now)
                        || policy.IsRunning(reader.GetString(1))));
                }

                return rows;
            }, cancellationToken);
    }

    /// <summary>
    /// Makes room for a session that is going to be larger, or new, or another's; tells the limit that stands against it.
    /// </summary>
    private async Task<string?> MakeRoomInBytesAsync(
        NpgsqlConnection connection, long sid, string? userId, SessionKind kind, long before, long size, Told told,
            CancellationToken cancellationToken)
    {
        var isBounded = (kind == SessionKind.Chain && policy.ChainBytesPerOwner > 0) || (userId is null && policy.UnownedBytes > 0);
        if (size <= before || !isBounded)
        {
            return null;
        }

        for (var hasSwept = false; ;)
        {
            var (bytes, chainBytes) = await PostgresDatabase.QueryAsync(
                connection, [PostgresDatabase.Command(PostgresSql.SumOwner, userId ?? "")],
                async (reader, cancel) => await reader.ReadAsync(cancel) ? (reader.GetInt64(0), reader.GetInt64(1)) : default,
                    cancellationToken);
            var missing = 0L;
            string? limit = null;
            Check(ChainBytesLimit, kind == SessionKind.Chain ? policy.ChainBytesPerOwner : 0, chainBytes);
            Check(UnownedBytesLimit, userId is null ? policy.UnownedBytes : 0, bytes);
            if (limit is null)
            {
                return null;
            }

            if (!hasSwept)
            {
                // What has expired does not count, but takes up room.
                hasSwept = true;
                if (await SweepSomeAsync(connection, 1000, told, cancellationToken) > 0)
                {
                    continue;
                }
            }

            if (missing > chainBytes - (kind == SessionKind.Chain ? before : 0))
            {
                return limit;
            }

            var chains = await ListChainsAsync(connection, sid, userId, cancellationToken);
            List<long> goes = [];
            foreach (var chain in chains.OrderBy(chain => chain.IsRunning ? 1 : 0))
            {
                if (missing <= 0)
                {
                    break;
                }

                goes.Add(chain.Sid);
                missing -= chain.Size;
            }

            if ((await RemoveAsync(connection, goes, null, told, cancellationToken)).Count == 0)
            {
                return limit;
            }

            void Check(string name, long allowed, long counted)
            {
                if (allowed > 0 && counted + size - before - allowed is var more && more > missing)
                {
                    (missing, limit) = (more, name);
                }
            }
        }
    }

    private async Task<List<(long Sid, long Size, bool IsRunning)>> ListChainsAsync(NpgsqlConnection connection, long sid, string? userId,
        CancellationToken cancellationToken)
    {
        var now = Now;
        return await PostgresDatabase.QueryAsync(
            connection,
            [userId is null ? PostgresDatabase.Command(PostgresSql.ListUnownedChains, sid)
                : PostgresDatabase.Command(PostgresSql.ListChains, userId, sid)],
            async (reader, cancel) =>
            {
                List<(long, long, bool)> rows = [];
                while (await reader.ReadAsync(cancel))
                {
                    var isRunning = (reader.GetBoolean(4) && reader.GetInt64(5) > now) || policy.IsRunning(reader.GetString(1));
                    rows.Add((reader.GetInt64(0), StorePolicy.SizeOf(reader.GetInt64(2), reader.GetInt32(3)), isRunning));
                }

                return rows;
            }, cancellationToken);
    }
}
