using System.Diagnostics;
using Npgsql;

namespace Sessions.Tests.Storage.Postgres;

/// <summary>A real server that fails a turn in the middle of its commit: what clients are told, and what is stored.</summary>
public sealed class PostgresCommitTests(PostgresFixture postgres)
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("53100", "has no space left on its disk")]
    [InlineData("53200", "has no memory left")]
    [InlineData("53300", "has no connection left")]
    [InlineData("25006", "takes no writes")]
    [InlineData("40001", "could not settle")]
    [InlineData("40P01", "could not settle")]
    [InlineData("57014", "did not answer in time")]
    [InlineData("57P01", "is starting, stopping or failing over")]
    [InlineData("58030", "has trouble with its files")]
    public async Task Trouble_at_the_commit_is_503_and_leaves_nothing_and_goes_by_itself(string code, string words)
    {
        var connection = await postgres.NewSchemaAsync();
        await using var server = Start(connection);
        await server.QueryAsync("first", "a", "ada");
        await FailCommitsAsync(connection, $"RAISE EXCEPTION 'no' USING ERRCODE = '{code}'");

        var refused = (await server.TryQueryAsync("second", "a", "ada")).IsProblem(503, "storage_unavailable");
        Assert.Contains(words, (string)refused.Json["detail"]!, StringComparison.Ordinal);
        Assert.InRange(int.Parse(refused.Headers["Retry-After"], System.Globalization.CultureInfo.InvariantCulture), 1, 10);
        Assert.Equal(["first"], await HistoryAsync(server));

        await ExecuteAsync(connection, "DROP TRIGGER fail ON turns");
        Assert.Equal(2, (int)(await server.QueryAsync("second", "a", "ada"))["metadata"]!["turn"]!);
        Assert.Equal(["first", "second"], await HistoryAsync(server));
    }

    [Theory]
    [InlineData("40001")]
    [InlineData("40P01")]
    public async Task Where_another_transaction_was_in_the_way_it_is_tried_again(string code)
    {
        var connection = await postgres.NewSchemaAsync();
        await using var server = Start(connection);
        await server.QueryAsync("first", "a", "ada");
        await ExecuteAsync(connection, "CREATE SEQUENCE tries");
        await FailCommitsAsync(connection, $"IF nextval('tries') < 3 THEN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END IF");

        Assert.Equal(2, (int)(await server.QueryAsync("second", "a", "ada"))["metadata"]!["turn"]!);
        Assert.Equal(["first", "second"], await HistoryAsync(server));
    }

    [Fact]
    public async Task A_connection_that_is_ended_in_its_commit_leaves_no_turn()
    {
        var connection = await postgres.NewSchemaAsync();
        await using var server = Start(connection);
        await server.QueryAsync("first", "a", "ada");
        await FailCommitsAsync(connection, "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60)");

        (await server.TryQueryAsync("second", "a", "ada")).IsProblem(503, "storage_unavailable");

        await ExecuteAsync(connection, "DROP TRIGGER fail ON turns");
        Assert.Equal(2, (int)(await server.QueryAsync("third", "a", "ada"))["metadata"]!["turn"]!);
        Assert.Equal(["first", "third"], await HistoryAsync(server));
    }

    [Fact]
    public async Task A_connection_that_is_ended_after_its_commit_leaves_the_turn_and_the_retry_finds_it()
    {
        // A commit is on the disk, and waits for a replica that never comes: its connection is ended there.
        await using var own = await PostgresServer.StartAsync();
        await using var server = Start(own.ConnectionString);
        await server.QueryAsync("first", "a", "ada");
        await own.AskAsync("ALTER DATABASE postgres SET synchronous_commit = local");
        await own.AskAsync("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'sessions'");
        await own.AskAsync("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        await own.AskAsync("SELECT pg_reload_conf()");

        // That is taken up at some time: from when the first commit waits, all of them do.
        const string EndWaiting = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        var probing = Task.CompletedTask;
        await ServiceProcess.UntilAsync(async () =>
        {
            if (probing.IsCompleted)
            {
                probing = ExecuteAsync($"{own.ConnectionString};Options=-c synchronous_commit=on",
                    "SELECT pg_logical_emit_message(true, 'probe', '')");
            }

            return await own.AskAsync(EndWaiting) is not 0L;
        });
        await Assert.ThrowsAnyAsync<NpgsqlException>(() => probing);
        await FailCommitsAsync($"{own.ConnectionString};Options=-c synchronous_commit=local",
            "PERFORM set_config('synchronous_commit', 'on', true)");

        // The first one meets a connection that was ended before.
        (string, string) key = ("Idempotency-Key", "second");
        var body = new { query = "second", thread_id = "a", user_id = "ada" };
        Answer? refused = null;
        var asking = Task.Run(async () =>
        {
            do
            {
                refused = await server.PostAsync("/query", body, key);
            }
            while (await own.AskAsync("SELECT count(*) FROM turns") is 1L);
        }, Cancel);
        while (!asking.IsCompleted)
        {
            await own.AskAsync(EndWaiting);
        }

        await asking;
        refused!.IsProblem(503, "storage_unavailable");
        var retried = await server.PostAsync("/query", body, key);
        Assert.True(retried.Status == 200, retried.Text);
        Assert.Equal("true", retried.Headers["Idempotency-Replayed"]);
        Assert.Equal(2, (int)retried.Json["metadata"]!["turn"]!);
        Assert.Equal(["first", "second"], await HistoryAsync(server));
    }

    [Fact]
    public async Task Its_connections_are_bounded_and_who_gets_none_is_told_in_time()
    {
        var connection = await postgres.NewSchemaAsync();
        await using var server = Start($"{connection};Maximum Pool Size=3;Timeout=3;Command Timeout=4;Application Name=bounded");
        await server.QueryAsync("first", "a", "ada");
        await using var source = NpgsqlDataSource.Create(connection);
        await using var blocker = await source.OpenConnectionAsync(Cancel);
        await using var transaction = await blocker.BeginTransactionAsync(Cancel);
        await using (var block = new NpgsqlCommand("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE", blocker))
        {
            await block.ExecuteNonQueryAsync(Cancel);
        }

        var started = Stopwatch.GetTimestamp();
        var answers = await Task.WhenAll(Enumerable.Range(0, 24).Select(i => server.TryQueryAsync("x", $"s{i}", "ada")));
        Assert.InRange(Stopwatch.GetElapsedTime(started), TimeSpan.Zero, TimeSpan.FromSeconds(90));
        Assert.All(answers, answer => answer.IsProblem(503, "storage_unavailable"));
        Assert.All(answers, answer => Assert.NotEmpty(answer.Headers["Retry-After"]));
        Assert.Contains(answers, answer => answer.Text.Contains("All connections to PostgreSQL are in use", StringComparison.Ordinal));

        // One that was given up may take a while to notice. Asked outside of the transaction, which would get the same answer again.
        await using var count = source.CreateCommand("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bounded'");
        await ServiceProcess.UntilAsync(async () => (long)(await count.ExecuteScalarAsync(Cancel))! is >= 1 and <= 3);

        await transaction.RollbackAsync(Cancel);
        Answer? second = null;
        await ServiceProcess.UntilAsync(async () =>
        {
            second = await server.PostAsync("/query", new { query = "second", thread_id = "a", user_id = "ada" },
                ("Idempotency-Key", "second"));
            return second.Status == 200;
        });
        Assert.Equal(2, (int)second!.Json["metadata"]!["turn"]!);
    }

    private static SessionsServer Start(string connection) =>
        SessionsServer.Start([("sessions:storage_type", "postgres"), ("ConnectionStrings:postgres", connection)]);

    // When all that a turn writes is written, and it is about to be committed.
    private static Task FailCommitsAsync(string connection, string plpgsql) => ExecuteAsync(connection, $"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {plpgsql}; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON turns DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail();
        """);

    private static async Task ExecuteAsync(string connection, string sql)
    {
        await using var source = NpgsqlDataSource.Create(connection);
        await using var command = source.CreateCommand(sql);
        await command.ExecuteNonQueryAsync(Cancel);
    }

    private static async Task<IEnumerable<string?>> HistoryAsync(SessionsServer server) =>
        (await server.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray().Select(turn => (string?)turn!["query"]);
}
