using System.Diagnostics;
using Npgsql;
using Sessions.Api.Storage.Postgres;

namespace Sessions.Bench.Load;

/// <summary>
/// The statements of the PostgreSQL store through Npgsql alone: what the server could reach at the most. Nothing is packed, unpacked or
/// decided; only what the next statement needs is read.
/// </summary>
internal sealed class PostgresTurns(PostgresDatabase database) : IAsyncDisposable
{
    private const int SessionsOfClient = 4;
    private const int VersionColumn = 9;
    private const int TagColumn = 10;
    private const int TurnsColumn = 12;

    private static readonly long Day = TimeSpan.FromDays(1).Ticks / TimeSpan.TicksPerMicrosecond;
    private static readonly byte[] Query = [.. Enumerable.Repeat((byte)'q', 100)];
    private static readonly byte[] Response = [.. Enumerable.Repeat((byte)'r', 400)];
    private static readonly byte[] Details = TurnCodec.PackDetails(Sqlite.Bench.NewTurn(1));

    private static long Now => TimeProvider.System.GetUtcNow().ToMicroseconds();

    /// <summary>So many clients at a time, each with sessions of its own, for a time.</summary>
    public async Task<Measurement> RunAsync(string workload, int clients, TimeSpan time)
    {
        var all = Measurement.NewHistogram();
        var sessions = new State[clients * SessionsOfClient];
        await Parallel.ForAsync(0, sessions.Length, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (i, _) =>
            sessions[i] = await PrepareAsync($"floor-{i}"));
        var started = Stopwatch.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, clients).Select(client => Task.Run(async () =>
        {
            var histogram = Measurement.NewHistogram();
            for (long sent; Stopwatch.GetElapsedTime(started) < time; histogram.RecordValue(Stopwatch.GetElapsedTime(sent).Ticks))
            {
                sent = Stopwatch.GetTimestamp();
                var session = sessions[(client * SessionsOfClient) + (int)(histogram.TotalCount % SessionsOfClient)];
                await (workload switch
                {
                    Requests.Create => CreateAsync(Guid.CreateVersion7().ToString(), $"floor-{Guid.NewGuid():N}"),
                    Requests.Query => AppendAsync(session),
                    Requests.List => ListAsync(session),
                    Requests.History => ReadHistoryAsync(session),
                    _ => throw new ArgumentOutOfRangeException(nameof(workload)),
                });
            }

            lock (all)
            {
                all.Add(histogram);
            }
        })));
        return Measurement.Of(all, Stopwatch.GetElapsedTime(started));
    }

    public ValueTask DisposeAsync() => database.DisposeAsync();

    // As many turns as the sessions have that our server is asked for.
    private async Task<State> PrepareAsync(string id)
    {
        if (await ReadAsync(id) is { } state)
        {
            return state;
        }

        state = await CreateAsync(id, $"{id}-user");
        for (var i = 0; i < Requests.Turns; i++)
        {
            await AppendAsync(state);
        }

        return state;
    }

    private ValueTask<State?> ReadAsync(string id) => RunAsync(
        [PostgresDatabase.Command(PostgresSql.ReadSession(byKey: false), id, Guid.Empty, -1L, 0L)],
        async (reader, cancel) => await reader.ReadAsync(cancel)
            ? new State(id, reader.GetString(4), reader.GetGuid(2), reader.GetInt64(0), reader.GetInt64(VersionColumn),
                reader.GetInt64(TagColumn), reader.GetInt32(TurnsColumn)) : null);

    private async Task<State> CreateAsync(string id, string user)
    {
        var key = SessionKey.New();
        var (now, shard) = (Now, (short)Random.Shared.Next(16));
        return await database.InTransactionAsync(
            async (connection, cancel) =>
            {
                await PostgresDatabase.ExecuteAsync(
                    connection, cancel,
                    PostgresDatabase.Command(PostgresSql.InsertOwner, user, (short)0),
                    PostgresDatabase.Command(PostgresSql.LockOwner, user, (short)0),
                    PostgresDatabase.Command(PostgresSql.LockTaken, id, key));
                return await PostgresDatabase.QueryAsync(
                    connection,
                    [
                        PostgresDatabase.Command(
                            PostgresSql.InsertSession, id, key, (short)0, shard, user, "api", now, now, now + Day, 1L, 1L, 0, 0, 0, 0L,
                            null, null, null, null, null),
                        PostgresDatabase.Command(PostgresSql.CountSession, shard),
                        PostgresDatabase.Command(PostgresSql.ListForLimit, user, (short)0, id),
                    ],
                    async (reader, stop) =>
                    {
                        await reader.ReadAsync(stop);
                        return new State(id, user, key, reader.GetInt64(0), reader.GetInt64(VersionColumn), reader.GetInt64(TagColumn), 0);
                    }, cancel);
            }, CancellationToken.None);
    }

    // What the session holds is remembered, as our server does; the lease, and whether that still is so; then the turn.
    private async Task AppendAsync(State session)
    {
        var (now, token, nonce) = (Now, Guid.NewGuid(), Random.Shared.NextInt64());
        await RunAsync(
            [
                PostgresDatabase.Command(
                    PostgresSql.Acquire, session.Id, token, now + 10_000_000, now, Random.Shared.NextInt64(), now, false, session.User,
                    true, 0, null),
                PostgresDatabase.Command(
                    PostgresSql.ReadSession(byKey: false), session.Id, session.Key, session.Version, session.Tag),
                PostgresDatabase.Command(
                    PostgresSql.ReadTurns(byKey: false, descending: true, allBranches: false), session.Id, null, Requests.Turns,
                    long.MaxValue, session.Key, session.Version, session.Tag, session.Turns, session.Nonce, 0, int.MaxValue),
            ], async (reader, cancel) => await reader.ReadAsync(cancel));
        await RunAsync(
            [
                PostgresDatabase.Command(
                    PostgresSql.Append, session.Sid, token, now, session.Turns, false, session.User, true, Random.Shared.NextInt64(), Day,
                    0, null, null, Query.Length + Response.Length, session.Turns, 1, nonce, null, null, Details, Query, Response,
                    Array.Empty<byte>(), null),
            ],
            async (reader, cancel) =>
            {
                if (!await reader.ReadAsync(cancel))
                {
                    throw new InvalidOperationException("The turn was not written.");
                }

                (session.Version, session.Tag) = (reader.GetInt64(VersionColumn), reader.GetInt64(TagColumn));
                (session.Turns, session.Nonce) = (reader.GetInt32(TurnsColumn), nonce);
                return true;
            });
    }

    private async Task ListAsync(State session) => await RunAsync(
        [
            PostgresDatabase.Command(
                PostgresSql.List(ofUser: true, ascending: false, [0, 1]), session.User, Now, 10, long.MaxValue,
                long.MaxValue, "\U0010FFFF"),
        ], ReadAllAsync);

    private async Task ReadHistoryAsync(State session) => await RunAsync(
        [
            PostgresDatabase.Command(PostgresSql.ReadSession(byKey: false), session.Id, Guid.Empty, -1L, 0L),
            PostgresDatabase.Command(
                PostgresSql.ReadTurns(byKey: false, descending: false, allBranches: false), session.Id, null, Requests.Turns,
                long.MaxValue, Guid.Empty, -1L, 0L, -1, 0L, -1, 0),
        ], ReadAllAsync);

    private static async Task<bool> ReadAllAsync(NpgsqlDataReader reader, CancellationToken cancellationToken)
    {
        do
        {
            while (await reader.ReadAsync(cancellationToken))
            {
                // What comes is what counts.
            }
        }
        while (await reader.NextResultAsync(cancellationToken));

        return true;
    }

    private ValueTask<T> RunAsync<T>(IEnumerable<NpgsqlBatchCommand> commands, Func<NpgsqlDataReader, CancellationToken, Task<T>> read) =>
        database.RunAsync((connection, cancel) => PostgresDatabase.QueryAsync(connection, commands, read, cancel), CancellationToken.None);

    /// <summary>A session, as far as it is remembered.</summary>
    private sealed class State(string id, string user, Guid key, long sid, long version, long tag, int turns)
    {
        public string Id => id;

        public string User => user;

        public Guid Key => key;

        public long Sid => sid;

        public long Version { get; set; } = version;

        public long Tag { get; set; } = tag;

        public int Turns { get; set; } = turns;

        public long Nonce { get; set; }
    }
}
