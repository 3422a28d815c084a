using Npgsql;

namespace Sessions.Tests.Storage.Postgres;

public sealed class PostgresReplicaTests(PostgresFixture postgres) : ReplicaContract
{
    private protected override async Task<IReadOnlyList<(string Key, string Value)>> StorageAsync() =>
        [("sessions:storage_type", "postgres"), ("ConnectionStrings:postgres", await postgres.NewSchemaAsync())];
}

public sealed class PostgresHammerTests : HammerContract
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public Task Connections_are_ended_all_the_while() => HammerAsync(async run =>
    {
        var store = (HammeredPostgres)run.Store;
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var ended = 0L;
        var killer = Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                ended += (long)(await store.Server.AskAsync(
                    """
                    SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE application_name = 'sessions' AND state <> 'idle' ORDER BY random() LIMIT 1) k
                    """))!;
            }
        }, Cancel);
        await AnswerMoreAsync();
        await stop.CancelAsync();
        await killer;
        Assert.True(ended > 0);
    });

    [Fact]
    public Task The_server_dies_and_its_standby_takes_its_place() => HammerAsync(async run =>
    {
        var store = (HammeredPostgres)run.Store;
        await store.Server.StopAsync();
        await store.Standby!.AskAsync("SELECT pg_promote()");
    }, withStandby: true);

    private protected override Task<IHammeredStore> StartStoreAsync() => StartStoreAsync(withStandby: false);

    private async Task HammerAsync(Func<Run, Task> faultAsync, bool withStandby) =>
        await HammerAsync(await StartStoreAsync(withStandby), faultAsync);

    private static async Task<IHammeredStore> StartStoreAsync(bool withStandby)
    {
        var server = await PostgresServer.StartAsync(isSafe: true);
        return new HammeredPostgres(server, withStandby ? await server.StartStandbyAsync() : null);
    }

    private sealed class HammeredPostgres(PostgresServer server, PostgresServer? standby) : IHammeredStore
    {
        public PostgresServer Server => server;

        public PostgresServer? Standby => standby;

        public IReadOnlyList<(string Key, string Value)> Settings
        {
            get
            {
                var connection = new NpgsqlConnectionStringBuilder(server.ConnectionString);
                connection.Host = standby is null ? connection.Host : $"127.0.0.1:{server.Port},127.0.0.1:{standby.Port}";
                return [("SESSIONS__STORAGE_TYPE", "postgres"), ("ConnectionStrings__postgres", connection.ConnectionString)];
            }
        }

        public async Task CrashAsync()
        {
            await server.StopAsync();
            await server.RestartAsync();
        }

        public async Task CheckAsync() => Assert.Equal(0L, await (standby ?? server).AskAsync(
            """
            SELECT count(*) FROM sessions WHERE version = 0 OR turn_count <> (SELECT count(*) FROM turns WHERE session = sid)
            """));

        public async ValueTask DisposeAsync()
        {
            if (standby is not null)
            {
                await standby.DisposeAsync();
            }

            await server.DisposeAsync();
        }
    }
}
