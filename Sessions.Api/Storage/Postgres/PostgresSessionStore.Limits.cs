using Npgsql;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <content>Limits, in number and in bytes: under the lock of their owner's row.</content>
internal sealed partial class PostgresSessionStore
{
    private const string ChainBytesLimit = "limits.responses_bytes_per_user";
    private const string UnownedBytesLimit = "limits.unowned_bytes";

    private static Task LockOwnersAsync(NpgsqlConnection connection, IReadOnlyCollection<OwnerKey> owners,
        CancellationToken cancellationToken) => owners.Count == 0 ? Task.CompletedTask
        : LockOwnersAsync(connection, owners, () => [], (_, _) => Task.FromResult(true), cancellationToken);

    // In the same order for all, so that none waits for another that waits for it; and in the same go what is to be read under the lock.
    private static async Task<T> LockOwnersAsync<T>(NpgsqlConnection connection, IReadOnlyCollection<OwnerKey> owners,
        Func<IEnumerable<NpgsqlBatchCommand>> then, Func<NpgsqlDataReader, CancellationToken, Task<T>> read,
        CancellationToken cancellationToken)
    {
        while (true)
        {
            var locks = owners.OrderBy(owner => owner.UserId, StringComparer.Ordinal).ThenBy(owner => owner.Shard).SelectMany(owner =>
                (IEnumerable<NpgsqlBatchCommand>)
                [
                    PostgresDatabase.Command(PostgresSql.InsertOwner, owner.UserId, owner.Shard),
                    PostgresDatabase.Command(PostgresSql.LockOwner, owner.UserId, owner.Shard),
                ]);
            var (isLocked, result) = await PostgresDatabase.QueryAsync<(bool, T)>(
                connection, [.. locks, .. then()], async (reader, cancel) =>
                {
                    for (var i = 0; i < owners.Count; i++)
                    {
                        if (!await reader.ReadAsync(cancel))
                        {
                            return (false, default!);
                        }

                        await reader.NextResultAsync(cancel);
                    }

                    return (true, await read(reader, cancel));
                }, cancellationToken);

            // Not so where the row was removed, with the last of what its owner had, while this waited for it.
            if (isLocked)
            {
                return result;
            }
        }
    }

    private static NpgsqlBatchCommand? CountBytesCommand(string? userId, string sessionId, SessionKind kind, long more)
    {
        if (more == 0 || !IsCounted(userId, kind))
        {
            return null;
        }

        var owner = OwnerKey.Of(userId, sessionId);
        return PostgresDatabase.Command(PostgresSql.CountBytes, owner.UserId, owner.Shard, more, kind == SessionKind.Chain ? more : 0L);
    }

    private static async Task CountBytesAsync(NpgsqlConnection connection, string? userId, string sessionId, SessionKind kind, long more,
        CancellationToken cancellationToken)
    {
        if (CountBytesCommand(userId, sessionId, kind, more) is { } command)
        {
            await PostgresDatabase.ExecuteAsync(connection, cancellationToken, command);
        }
    }

    private async Task<bool> IsFullInNumberAsync(NpgsqlConnection connection, string? userId, SessionKind kind, long now,
        CancellationToken cancellationToken) => ListForLimitCommand(userId, kind, "") is { } command
        && (await PostgresDatabase.QueryAsync(connection, [command], ReadForLimitAsync, cancellationToken)).Count(row =>
            row.ExpiresAt > now && !policy.IsDamaged(row.Id)) >= policy.MaxPerUser(kind);

    // The one that comes is not among them, so that it is never the one to go.
    private NpgsqlBatchCommand? ListForLimitCommand(string? userId, SessionKind kind, string id) =>
        policy.MaxPerUser(kind) <= 0 || userId is null ? null
            : PostgresDatabase.Command(PostgresSql.ListForLimit, userId, (short)kind, id);

    private async Task<List<LimitRow>> ReadForLimitAsync(NpgsqlDataReader reader, CancellationToken cancellationToken)
    {
        var now = Now;
        List<LimitRow> rows = [];
        while (await reader.ReadAsync(cancellationToken))
        {
            var id = reader.GetString(1);
            rows.Add(new LimitRow(reader.GetInt64(0), id, reader.GetInt64(2), reader.GetInt64(3) > now || policy.IsRunning(id)));
        }

        return rows;
    }

    private async Task MakeRoomInNumberAsync(NpgsqlConnection connection, IReadOnlyCollection<LimitRow> others, SessionKind kind, Told told,
        CancellationToken cancellationToken)
    {
        var now = Now;
        var live = others.Where(row => row.ExpiresAt > now && !policy.IsDamaged(row.Id)).ToList();
        var count = live.Count - policy.MaxPerUser(kind) + 1;
        List<(long Sid, string Id)> chosen = [.. live.OrderBy(row => row.IsRunning ? 1 : 0).Take(count).Select(row => (row.Sid, row.Id))];

        // One that is found to be damaged now does not count.
        var damaged = await FindDamagedAsync(connection, chosen, cancellationToken);
        var goes = chosen.Select(row => row.Sid).Where(sid => !damaged.Contains(sid)).ToList();
        var gone = await RemoveAsync(connection, goes, null, told, cancellationToken);
        told.Evicted += gone.Count(row => !row.IsChain);
    }

    // Which of them can't be read. Each by a statement of its own: then it is known where PostgreSQL itself can't read one.
    private async Task<HashSet<long>> FindDamagedAsync(
        NpgsqlConnection connection, List<(long Sid, string Id)> rows, CancellationToken cancellationToken)
    {
        HashSet<long> damaged = [];
        if (rows.Count == 0)
        {
            return damaged;
        }

        var at = 0;
        try
        {
            return await PostgresDatabase.QueryAsync(
                connection, rows.Select(row => PostgresDatabase.Command(PostgresSql.ReadSessionOfRow, row.Sid)), async (reader, cancel) =>
                {
                    do
                    {
                        if (await reader.ReadAsync(cancel) && !IsReadable(reader))
                        {
                            damaged.Add(rows[at].Sid);
                        }

                        at++;
                    }
                    while (await reader.NextResultAsync(cancel));
                    return damaged;
                }, cancellationToken);
        }
        catch (PostgresException e) when (PostgresFailure.Translate(e) is StoredDataException)
        {
            policy.Damage.Report(DamageReport.NameOf(rows[at].Id), e);
            throw new BeginAgainException();
        }

        bool IsReadable(NpgsqlDataReader reader) => policy.IsReadable(() =>
        {
            var session = PostgresRows.ReadSession(reader, PostgresRows.SessionWidth).Session;
            return session is { TurnCount: > 0, LastTurn: null } ? throw PostgresRows.NoTurn(session) : session;
        });
    }

    /// <summary>
    /// Makes room for a session that is going to be larger, or new, or another's; tells the limit that stands against it.
    /// </summary>
    private async Task<string?> MakeRoomInBytesAsync(
        NpgsqlConnection connection, long sid, string? userId, SessionKind kind, long before, long size, Told told,
            CancellationToken cancellationToken) =>
        (await MakeRoomInBytesAsync(connection, sid, source: 0, userId, kind, before, size, told, cancellationToken)).Limit;

    // What is about to be copied is not removed here; whether it has to go, once it was, is said.
    private async Task<(string? Limit, bool TakesSource)> MakeRoomInBytesAsync(
        NpgsqlConnection connection, long sid, long source, string? userId, SessionKind kind, long before, long size, Told told,
            CancellationToken cancellationToken)
    {
        var isBounded = (kind == SessionKind.Chain && policy.ChainBytesPerOwner > 0) || (userId is null && policy.UnownedBytes > 0);
        if (size <= before || !isBounded)
        {
            return default;
        }

        var ofSource = 0L;
        HashSet<long> damaged = [];
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
                return (null, ofSource > 0);
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

            if (missing > chainBytes - ofSource - (kind == SessionKind.Chain ? before : 0))
            {
                return (limit, false);
            }

            var chains = await ListChainsAsync(connection, sid, userId, cancellationToken);
            List<(long Sid, string Id)> goes = [];
            var known = ofSource;
            foreach (var chain in chains.Where(chain => (chain.Sid != source || ofSource == 0) && !damaged.Contains(chain.Sid)
                && !policy.IsDamaged(chain.Id)).OrderBy(chain => chain.IsRunning ? 1 : 0))
            {
                if (missing <= 0)
                {
                    break;
                }

                if (chain.Sid == source)
                {
                    ofSource = chain.Size;
                }
                else
                {
                    goes.Add((chain.Sid, chain.Id));
                }

                missing -= chain.Size;
            }

            var found = await FindDamagedAsync(connection, goes, cancellationToken);
            damaged.UnionWith(found);
            List<long> whole = [.. goes.Select(chain => chain.Sid).Where(chain => !found.Contains(chain))];
            var gone = await RemoveAsync(connection, whole, null, told, cancellationToken);
            if (gone.Count == 0 && found.Count == 0 && ofSource == known)
            {
                return (limit, false);
            }

            void Check(string name, long allowed, long counted)
            {
                if (allowed > 0 && counted + size - before - ofSource - allowed is var more && more > missing)
                {
                    (missing, limit) = (more, name);
                }
            }
        }
    }

    private async Task<List<(long Sid, string Id, long Size, bool IsRunning)>> ListChainsAsync(
        NpgsqlConnection connection, long sid, string? userId, CancellationToken cancellationToken)
    {
        var now = Now;
        return await PostgresDatabase.QueryAsync(
            connection,
            [userId is null ? PostgresDatabase.Command(PostgresSql.ListUnownedChains, sid)
                : PostgresDatabase.Command(PostgresSql.ListChains, userId, sid)],
            async (reader, cancel) =>
            {
                List<(long, string, long, bool)> rows = [];
                while (await reader.ReadAsync(cancel))
                {
                    var id = reader.GetString(1);
                    var isRunning = reader.GetInt64(4) > now || policy.IsRunning(id);

                    // One whose numbers are damaged makes no room.
                    if (reader.GetInt64(2) >= 0 && reader.GetInt32(3) >= 0)
                    {
                        rows.Add((reader.GetInt64(0), id, StorePolicy.SizeOf(reader.GetInt64(2), reader.GetInt32(3)), isRunning));
                    }
                }

                return rows;
            }, cancellationToken);
    }

    // What stood in the way is known by now, and passed over; but the transaction is lost with its connection.
    private sealed class BeginAgainException : Exception;

    private readonly record struct LimitRow(long Sid, string Id, long ExpiresAt, bool IsRunning);
}
