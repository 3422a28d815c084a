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
            var told = new Told();
            var swept = await InTransactionAsync(
                told, async (connection, cancel) =>
                {
                    var count = await SweepSomeAsync(connection, SweptAtOnce, told, cancel);
                    await RemoveOwnersAsync(connection, told, cancel);
                    return count;
                }, cancellationToken);
            await TellAsync(told);
            total += told.Expired;
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
        var now = Now;
        return await database.RunAsync(
            (connection, cancel) => PostgresDatabase.QueryAsync(
                connection,
                [
                    PostgresDatabase.Command(PostgresSql.Reserve, key.Key, key.Body, sessionId, now
                        + Microseconds(policy.Lifetime(SessionKind.Session)), now),
                    PostgresDatabase.Command(PostgresSql.ReadReservation, key.Key, now),
                ],
                async (reader, stop) =>
                {
                    var isNew = await reader.ReadAsync(stop);
                    await reader.NextResultAsync(stop);
                    if (isNew || !await reader.ReadAsync(stop))
                    {
                        return new KeyReservation(sessionId, SameBody: true, IsNew: true);
                    }

                    return KeyReservation.Found(
                        reader.GetString(0), reader.GetGuid(1) == key.Body, sessionId,
                        !reader.GetBoolean(2) || owner.MayHave(reader.IsDBNull(3) ? null : reader.GetString(3)));
                }, cancel), cancellationToken);
    }

    private async Task<int> SweepSomeAsync(NpgsqlConnection connection, int most, Told told, CancellationToken cancellationToken)
    {
        var now = Now;
        var sids = await ReadSidsAsync(connection, PostgresDatabase.Command(PostgresSql.ListExpired, now, most), cancellationToken);
        return (await RemoveAsync(connection, sids, now, told, cancellationToken)).Count;
    }
}
