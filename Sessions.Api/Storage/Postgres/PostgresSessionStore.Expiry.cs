using Npgsql;
using Sessions.Api.Domain;

namespace Sessions.Api.Storage.Postgres;

/// <content>What ends by itself: expired sessions, and session ids that were reserved.</content>
internal sealed partial class PostgresSessionStore
{
    /// <inheritdoc/>
    public async ValueTask<int> SweepAsync(CancellationToken cancellationToken)
    {
        var total = 0;
        while (true)
        {
            var (swept, counted) = await SweepSomeAsync(SweptAtOnce, cancellationToken);
            total += counted;
            if (swept == 0)
            {
                break;
            }
        }

        while (await database.RunAsync(
            (connection, cancel) => PostgresDatabase.ExecuteAsync(connection, cancel,
                PostgresDatabase.Command(PostgresSql.SweepReservations, Now, SweptAtOnce)), cancellationToken) == SweptAtOnce)
        {
            cancellationToken.ThrowIfCancellationRequested();
        }

        return total;
    }

    /// <inheritdoc/>
    public async ValueTask<KeyReservation> ReserveAsync(Idempotency key, Owner owner, string sessionId,
        CancellationToken cancellationToken)
    {
        var bound = owner.UserId is null && policy.UnownedBytes > 0 ? policy.UnownedBytes : (long?)null;
        var hasSwept = false;
        for (var tries = 1; ; tries++)
        {
            if (await TryReserveAsync(key, owner, sessionId, bound, cancellationToken) is { } reservation)
            {
                return reservation;
            }

            // Where there is room, the reservation that was in the way has ended between two of the statements.
            if (policy.HasUnownedRoom(await database.RunAsync(ReadUnownedAsync, cancellationToken)))
            {
                ThrowIfEndless(tries);
                continue;
            }

            // What has expired does not count, but takes up room.
            if (hasSwept || (await SweepSomeAsync(1000, cancellationToken)).Swept == 0)
            {
                throw new DomainException(Error.StorageFull(UnownedBytesLimit));
            }

            hasSwept = true;
        }

        static Task<long> ReadUnownedAsync(NpgsqlConnection connection, CancellationToken cancellationToken) => PostgresDatabase.QueryAsync(
            connection, [PostgresDatabase.Command(PostgresSql.SumOwner, "")],
            async (reader, cancel) => await reader.ReadAsync(cancel) ? reader.GetInt64(0) - reader.GetInt64(1) : 0, cancellationToken);
    }

    // Null: there is no room for the session that would come.
    private async ValueTask<KeyReservation?> TryReserveAsync(Idempotency key, Owner owner, string sessionId, long? bound,
        CancellationToken cancellationToken)
    {
        var now = Now;
        return await database.RunAsync(
            (connection, cancel) => PostgresDatabase.QueryAsync<KeyReservation?>(
                connection,
                [
                    PostgresDatabase.Command(PostgresSql.Reserve, key.Key, key.Body, sessionId, now
                        + Microseconds(policy.Lifetime(SessionKind.Session)), now, bound, StorePolicy.SizeOf(0, 0)),
                    PostgresDatabase.Command(PostgresSql.ReadReservation, key.Key, now),
                ],
                async (reader, stop) =>
                {
                    var isNew = await reader.ReadAsync(stop);
                    await reader.NextResultAsync(stop);
                    if (isNew)
                    {
                        return new KeyReservation(sessionId, SameBody: true, IsNew: true);
                    }

                    return !await reader.ReadAsync(stop) ? null : KeyReservation.Found(
                        reader.GetString(0), reader.GetGuid(1) == key.Body, sessionId,
                        !reader.GetBoolean(2) || owner.MayHave(reader.IsDBNull(3) ? null : reader.GetString(3)));
                }, cancel), cancellationToken);
    }

    private async ValueTask<(int Swept, int Counted)> SweepSomeAsync(int most, CancellationToken cancellationToken)
    {
        var told = new Told();
        var swept = await InTransactionAsync(
            told, async (connection, cancel) =>
            {
                var count = await SweepSomeAsync(connection, most, told, cancel);
                await RemoveOwnersAsync(connection, told, cancel);
                return count;
            }, cancellationToken);
        await TellAsync(told);
        return (swept, told.Expired);
    }

    private async Task<int> SweepSomeAsync(NpgsqlConnection connection, int most, Told told, CancellationToken cancellationToken)
    {
        var now = Now;
        var sids = await ReadSidsAsync(connection, PostgresDatabase.Command(PostgresSql.ListExpired, now, most), cancellationToken);
        return (await RemoveAsync(connection, sids, now, told, cancellationToken)).Count;
    }
}
