using System.Diagnostics;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using Sessions.Api.Storage.Postgres;

namespace Sessions.Tests.Storage.Postgres;

/// <summary>A server that is away, killed, frozen or read-only: said in time, and nothing lost or doubled.</summary>
public sealed class PostgresTroubleTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("25006")]
    [InlineData("53100")]
    [InlineData("53300")]
    [InlineData("57P01")]
    [InlineData("57P03")]
    [InlineData("40001")]
    [InlineData("40P01")]
    [InlineData("08006")]
    [InlineData("57014")]
    [InlineData("28P01")]
    [InlineData("3D000")]
    [InlineData("42501")]
    [InlineData("42P01")]
    public void Its_trouble_is_told_as_such(string code) =>
        Assert.IsType<StoreUnavailableException>(PostgresFailure.Translate(new PostgresException("words", "ERROR", "ERROR", code)));

    [Fact]
    public void A_page_that_is_damaged_is_no_trouble_and_a_mistake_of_ours_is_neither()
    {
        Assert.IsType<StoredDataException>(PostgresFailure.Translate(new PostgresException("words", "ERROR", "ERROR", "XX001")));
        Assert.Null(PostgresFailure.Translate(new PostgresException("words", "ERROR", "ERROR", "42601")));
        Assert.Null(PostgresFailure.Translate(new ArgumentException("words")));
    }

    [Fact]
    public async Task A_restart_is_said_in_time_and_gone_through_and_nothing_is_lost()
    {
        await using var server = await PostgresServer.StartAsync(isSafe: true);
        await using var store = await OpenAsync(server.ConnectionString);
        await store.TurnAsync("a", "user", "before");

        await server.StopAsync();
        var started = Stopwatch.GetTimestamp();
        await Assert.ThrowsAsync<StoreUnavailableException>(() => store.TurnAsync("a", "user"));
        Assert.Equal(HealthStatus.Unhealthy, (await store.Store.CheckAsync(Cancel)).Status);
        Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(30));

        await server.RestartAsync();
        await UntilAsync(async () => await store.GetAsync("a") is { TurnCount: 1 });
        await UntilAsync(async () => (await store.Store.CheckAsync(Cancel)).Status == HealthStatus.Healthy);
        await store.TurnAsync("a", "user", "after");
        Assert.Equal(["before", "after"], (await store.TurnsAsync("a")).Select(turn => turn.Input.ToString()));
    }

    // The clock of the store stands still: no lease runs out.
    [Fact]
    public async Task Whoever_ends_a_turn_while_it_is_away_lets_go_when_it_is_back()
    {
        await using var server = await PostgresServer.StartAsync(isSafe: true);
        await using var store = await OpenAsync(server.ConnectionString);
        await store.TurnAsync("a", "user");
        var opened = await store.BeginAsync("a", "user");
        var missing = await store.BeginAsync("b", "user");

        await server.StopAsync();
        await store.Store.ReleaseAsync(opened);
        await store.Store.ReleaseAsync(missing);
        await server.RestartAsync();

        foreach (var id in (string[])["a", "b"])
        {
            await UntilAsync(async () =>
            {
                try
                {
                    return (await store.BeginAsync(id, "user")).Status == OpenStatus.Opened;
                }
                catch (StoreUnavailableException)
                {
                    return false;
                }
            });
        }
    }

    [Fact]
    public async Task Connections_that_are_ended_in_the_middle_lose_and_double_nothing()
    {
        await using var server = await PostgresServer.StartAsync();
        await using var store = await OpenAsync(server.ConnectionString);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var killed = 0;
        var killer = Task.Run(async () =>
        {
            while (!stop.IsCancellationRequested)
            {
                killed += Convert.ToInt32(
                    await server.AskAsync(
                        """
                        SELECT count(*) FROM (
                          SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                          WHERE application_name = 'sessions' ORDER BY random() LIMIT 1) k
                        """),
                    System.Globalization.CultureInfo.InvariantCulture);
            }
        }, Cancel);
        var answered = await Task.WhenAll(Enumerable.Range(0, 4).Select(client => Task.Run(async () =>
        {
            List<string> mine = [];
            for (var i = 0; i < 40; i++)
            {
                var query = $"{client}-{i}";
                try
                {
                    var opened = await store.BeginAsync($"s{client % 2}", client < 2 ? "user" : null, history: 1,
                        lease: TestStore.NewLease() with { Duration = TimeSpan.FromMilliseconds(1) });
                    if (opened.Status == OpenStatus.Opened && (await store.AppendAsync(opened, query)).Status == WriteStatus.Written)
                    {
                        mine.Add(query);
                    }
                }
                catch (StoreUnavailableException)
                {
                    // Unknown, as the contract says: it is there once, or not at all.
                }

                store.Time.Advance(TimeSpan.FromMilliseconds(2));
            }

            return mine;
        }, Cancel)));
        await stop.CancelAsync();
        await killer;

        Assert.True(killed > 0);
        List<string> stored = [];
        foreach (var id in (string[])["s0", "s1"])
        {
            IReadOnlyList<Turn> turns = [];
            await UntilAsync(async () => await store.GetAsync(id) is null || (turns = await store.TurnsAsync(id)).Count >= 0);
            Assert.Equal(Enumerable.Range(1, turns.Count), turns.Select(turn => turn.Number));
            stored.AddRange(turns.Select(turn => turn.Input.ToString()));
        }

        Assert.Equal(stored.Count, stored.Distinct().Count());
        Assert.Empty(answered.SelectMany(mine => mine).Except(stored));
    }

    [Fact]
    public async Task A_write_that_freezes_past_its_lease_comes_to_nothing()
    {
        await using var server = await PostgresServer.StartAsync();
        await using var frozen = await OpenAsync(server.ConnectionString
            + ";Maximum Pool Size=1;Command Timeout=60;Application Name=frozen");
        await using var other = await OpenAsync(server.ConnectionString);
        await frozen.TurnAsync("a");
        var opened = await frozen.BeginAsync("a", history: 1, lease: TestStore.NewLease() with { Duration = TimeSpan.FromSeconds(1) });
        var process = (int)(await server.AskAsync("SELECT pid FROM pg_stat_activity WHERE application_name = 'frozen'"))!;

        server.Signal("STOP", process);
        var late = Task.Run(() => frozen.AppendAsync(opened, "late"), Cancel);
        other.Time.Advance(TimeSpan.FromSeconds(2));
        await other.TurnAsync("a", query: "next");
        Assert.False(late.IsCompleted);
        server.Signal("CONT", process);

        Assert.Equal(WriteStatus.Stale, (await late).Status);
        Assert.Equal(["query", "next"], (await other.TurnsAsync("a")).Select(turn => turn.Input.ToString()));
    }

    [Fact]
    public async Task A_server_that_does_not_answer_is_said_in_time()
    {
        await using var server = await PostgresServer.StartAsync();
        await using var store = await OpenAsync(server.ConnectionString
            + ";Maximum Pool Size=1;Timeout=5;Command Timeout=1;Application Name=frozen");
        await store.TurnAsync("a");
        var process = (int)(await server.AskAsync("SELECT pid FROM pg_stat_activity WHERE application_name = 'frozen'"))!;

        server.Signal("STOP");
        server.Signal("STOP", process);
        var started = Stopwatch.GetTimestamp();
        var health = await store.Store.CheckAsync(Cancel);
        await Assert.ThrowsAsync<StoreUnavailableException>(() => store.TurnAsync("a"));
        var took = Stopwatch.GetElapsedTime(started);
        server.Signal("CONT", process);
        server.Signal("CONT");

        Assert.Equal(HealthStatus.Unhealthy, health.Status);
        Assert.InRange(took, TimeSpan.Zero, TimeSpan.FromSeconds(30));
        await UntilAsync(async () => await store.GetAsync("a") is not null);
        await store.TurnAsync("b");
    }

    [Fact]
    public async Task A_server_that_takes_no_writes_is_said_and_reads_go_on()
    {
        await using var server = await PostgresServer.StartAsync();
        await using var store = await OpenAsync(server.ConnectionString);
        await store.TurnAsync("a");
        await server.AskAsync("ALTER DATABASE postgres SET default_transaction_read_only = on");
        await server.AskAsync("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'sessions'");

        await UntilAsync(async () => await store.GetAsync("a") is not null);
        var e = await Assert.ThrowsAsync<StoreUnavailableException>(() => store.TurnAsync("a"));
        Assert.Contains("read-only", e.Message, StringComparison.Ordinal);
        Assert.Equal(HealthStatus.Unhealthy, (await store.Store.CheckAsync(Cancel)).Status);
    }

    [Fact]
    public async Task No_connection_left_is_said_in_time_and_gone_through()
    {
        await using var server = await PostgresServer.StartAsync(isSafe: false, "max_connections=6", "superuser_reserved_connections=0");
        await using var store = await OpenAsync(server.ConnectionString + ";Maximum Pool Size=2");
        await store.TurnAsync("a");
        await using var other = NpgsqlDataSource.Create(server.ConnectionString);
        List<NpgsqlConnection> taken = [];
        await Assert.ThrowsAnyAsync<NpgsqlException>(async () =>
        {
            while (true)
            {
                taken.Add(await other.OpenConnectionAsync(Cancel));
            }
        });

        // One of its own is left: more than that at once wait for it, or are refused in time.
        var outcomes = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(async () =>
        {
            try
            {
                await store.TurnAsync($"s{i}");
                return true;
            }
            catch (StoreUnavailableException)
            {
                return false;
            }
        }, Cancel)));
        foreach (var connection in taken)
        {
            await connection.DisposeAsync();
        }

        NpgsqlConnection.ClearPool(taken[0]);
        await UntilAsync(async () => await store.GetAsync("a") is not null);
        Assert.Equal(outcomes.Count(isDone => isDone), (await store.ListIdsAsync(null)).Count - 1);
        await store.TurnAsync("a");
    }

    private static ValueTask<TestStore> OpenAsync(string connection)
    {
        var time = new FakeTimeProvider(new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
        return TestStore.OpenAsync(
            new StorePolicy { Lifetime = _ => TimeSpan.FromHours(24), MaxPerUser = _ => 0 }, time, given =>
                PostgresFixture.OpenAsync(connection, given, time));
    }

    private static Task UntilAsync(Func<Task<bool>> condition) => ServiceProcess.UntilAsync(async () =>
    {
        try
        {
            return await condition();
        }
        catch (StoreUnavailableException)
        {
            // Not yet.
            return false;
        }
    });
}
