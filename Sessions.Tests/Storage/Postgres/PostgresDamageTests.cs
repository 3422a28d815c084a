using Npgsql;

namespace Sessions.Tests.Storage.Postgres;

/// <summary>Rows that nobody wrote like that, as a replica meets them that has not seen their sessions before.</summary>
public sealed class PostgresDamageTests(PostgresFixture postgres)
{
    private const string AndItsTurn = "session = (SELECT sid FROM sessions WHERE id = '{0}') AND number";

    // Of a session of four turns.
    private static readonly string[] Heads =
    [
        "UPDATE sessions SET turn_count = -1", "UPDATE sessions SET turn_count = 2147483647", "UPDATE sessions SET turn_count = 9",
        "UPDATE sessions SET error_count = -1", "UPDATE sessions SET rewrites = -1", "UPDATE sessions SET kind = 77",
        "UPDATE sessions SET kind = -1", "UPDATE sessions SET bytes = -1", "UPDATE sessions SET bytes = 9223372036854775807",
        "UPDATE sessions SET version = -1", "UPDATE sessions SET version = 0", "UPDATE sessions SET version = 9223372036854775807",
        "UPDATE sessions SET expires_at = 9223372036854775807", "UPDATE sessions SET created_at = 9223372036854775807",
        "UPDATE sessions SET last_activity_at = 9223372036854775807", "UPDATE sessions SET created_at = -9223372036854775808",
        "UPDATE sessions SET lease_token = gen_random_uuid(), lease_until = 9223372036854775807",
    ];

    private static readonly string[] Turns =
    [
        $"DELETE FROM turns WHERE {AndItsTurn} = 2", $"DELETE FROM turns WHERE {AndItsTurn} = 1",
        $"UPDATE turns SET number = 7 WHERE {AndItsTurn} = 3", $"UPDATE turns SET parent = 2 WHERE {AndItsTurn} = 2",
        $"UPDATE turns SET parent = 1 WHERE {AndItsTurn} = 3", $"UPDATE turns SET parent = -1 WHERE {AndItsTurn} = 3",
        $"UPDATE turns SET run_start = 9 WHERE {AndItsTurn} = 2", $"UPDATE turns SET run_start = 0 WHERE {AndItsTurn} = 2",
    ];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Numbers_that_can_not_be_are_told_spin_nothing_and_go_with_their_sessions()
    {
        var connection = await postgres.NewSchemaAsync();
        var ids = await DamagedSessions.FillAsync(() => Start(connection), Heads.Length);
        for (var i = 0; i < ids.Length; i++)
        {
            await AskAsync(connection, $"{Heads[i]} WHERE id = '{ids[i]}'");
        }

        await using var server = Start(connection);
        foreach (var id in ids)
        {
            foreach (var answer in (Answer[])
                [
                    await server.GetAsync($"/sessions/{id}"),
                    await server.GetAsync($"/sessions/{id}/history"),
                    await server.TryQueryAsync("five", id, "ada"),
                    await server.PostAsync("/query", new { query = "five", thread_id = id, user_id = "ada", on_busy = "reject" }),
                    await DamagedSessions.PostTurnAsync(server, id),
                    await server.SendAsync(HttpMethod.Patch, $"/sessions/{id}", """{"metadata":{"b":2}}"""),
                    await server.PostAsync($"/sessions/{id}/fork", new { }),
                ])
            {
                answer.IsProblem(503, "storage_damaged");
            }
        }

        await OthersAreThereAsync(server);
        foreach (var id in ids)
        {
            Assert.Equal(200, (await server.DeleteAsync($"/sessions/{id}")).Status);
            (await server.GetAsync($"/sessions/{id}")).IsProblem(404, "session_not_found");
        }

        await DamagedSessions.StoreIsAsync(server, "Healthy");
        Assert.Equal(1L, await AskAsync(connection, "SELECT sum(sessions)::bigint FROM counters"));
        Assert.Equal(4L, await AskAsync(connection, "SELECT count(*) FROM turns"));
    }

    [Theory]
    [InlineData("metadata = '{'::bytea", false)]
    [InlineData("metadata = '{'::bytea", true)]
    [InlineData("turn_count = -1", false)]
    [InlineData("turn_count = -1", true)]
    public async Task What_can_not_be_read_makes_no_room(string update, bool isKnown)
    {
        var connection = await postgres.NewSchemaAsync();
        await DamagedSessions.MakesNoRoomAsync(limit => Start(connection, limit),
            id => AskAsync(connection, $"UPDATE sessions SET {update} WHERE id = '{id}'").GetAwaiter().GetResult(), isKnown);
    }

    [Fact]
    public async Task A_chain_that_can_not_be_read_makes_no_room()
    {
        var connection = await postgres.NewSchemaAsync();
        await DamagedSessions.ChainMakesNoRoomAsync(
            limit => Start(connection, limit), () => AskAsync(connection, "UPDATE sessions SET metadata = '{'::bytea"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_the_server_itself_can_not_read_makes_no_room_and_stops_nothing(bool isKnown)
    {
        await using var server = await PostgresServer.StartAsync();
        await DamagedSessions.MakesNoRoomAsync(
            limit => Start(server.ConnectionString, limit), id => Damage(id).GetAwaiter().GetResult(), isKnown, mayList: false);

        // Its text is too long for the row, and what it was put into is empty.
        async Task Damage(string id)
        {
            await server.AskAsync($"""
                UPDATE turns SET output = (SELECT string_agg(sha256(i::text::bytea), ''::bytea) FROM generate_series(1, 500) i)
                WHERE session = (SELECT sid FROM sessions WHERE id = '{id}')
                """);
            var file = (string)(await server.AskAsync("""
                SELECT current_setting('data_directory') || '/' || pg_relation_filepath(reltoastrelid)
                FROM pg_class WHERE oid = 'turns'::regclass
                """))!;
            await server.AskAsync("CHECKPOINT");
            await server.StopAsync();
            await File.WriteAllBytesAsync(file, new byte[new FileInfo(file).Length], Cancel);
            await server.RestartAsync();
        }
    }

    [Fact]
    public async Task Whatever_a_session_is_said_to_take_it_can_be_deleted_erased_and_swept()
    {
        var connection = await postgres.NewSchemaAsync();
        await DamagedSessions.FillAsync(() => Start(connection), 0);
        await using var server = Start(connection);
        foreach (var id in (string[])["one", "two", "three"])
        {
            await server.QueryAsync("hello", id, id == "two" ? "bob" : null);
        }

        await AskAsync(connection, "UPDATE sessions SET bytes = 9223372036854775807 WHERE id <> 'good'");
        Assert.Equal(200, (await server.DeleteAsync("/sessions/one")).Status);
        Assert.Equal(1, (int)(await server.DeleteAsync("/users/bob/sessions")).Json["sessions_removed"]!);
        foreach (var id in (string[])["four", "five"])
        {
            await server.QueryAsync("hello", id, "carl");
        }

        await AskAsync(connection, "UPDATE sessions SET turn_count = 2147483647 WHERE user_id = 'carl'");
        Assert.Equal(2, (int)(await server.DeleteAsync("/users/carl/sessions")).Json["sessions_removed"]!);
        await AskAsync(connection, "UPDATE sessions SET expires_at = 1 WHERE id = 'three'");
        Assert.Equal(1, await server.Get<ISessionStore>().SweepAsync(Cancel));

        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM owners WHERE bytes < 0 OR chain_bytes < 0"));
        await server.QueryAsync("hello", "six");
        await server.QueryAsync("hello", "good", "ada");
    }

    [Fact]
    public async Task A_path_with_a_gap_is_told_and_not_gone_on_from()
    {
        var connection = await postgres.NewSchemaAsync();
        var ids = await DamagedSessions.FillAsync(() => Start(connection), Turns.Length);
        for (var i = 0; i < ids.Length; i++)
        {
            await AskAsync(connection, Turns[i].Replace("{0}", ids[i], StringComparison.Ordinal));
        }

        await using var server = Start(connection);
        foreach (var id in ids)
        {
            Assert.Equal(200, (await server.GetAsync($"/sessions/{id}")).Status);
            (await server.GetAsync($"/sessions/{id}/history")).IsProblem(503, "storage_damaged");
            (await server.GetAsync($"/sessions/{id}/history?order=asc")).IsProblem(503, "storage_damaged");
            (await server.TryQueryAsync("five", id, "ada")).IsProblem(503, "storage_damaged");
        }

        foreach (var id in ids.Take(3))
        {
            (await server.PostAsync($"/sessions/{id}/fork", new { })).IsProblem(503, "storage_damaged");
        }

        await DamagedSessions.StoreIsAsync(server, "Degraded");
        foreach (var id in ids)
        {
            Assert.Equal(200, (await server.DeleteAsync($"/sessions/{id}")).Status);
        }

        await DamagedSessions.StoreIsAsync(server, "Healthy");
        Assert.Equal(["one", "two", "three", "four"], await server.HistoryAsync("good"));
    }

    [Fact]
    public async Task A_session_that_counts_fewer_turns_than_it_has_gets_no_more_of_them()
    {
        var connection = await postgres.NewSchemaAsync();
        var ids = await DamagedSessions.FillAsync(() => Start(connection), 1);
        await AskAsync(connection, $"UPDATE sessions SET turn_count = 3 WHERE id = '{ids[0]}'");
        await using var server = Start(connection);

        (await server.TryQueryAsync("five", ids[0], "ada")).IsProblem(503, "storage_damaged");
        await DamagedSessions.StoreIsAsync(server, "Degraded");
        (await DamagedSessions.PostTurnAsync(server, ids[0])).IsProblem(503, "storage_damaged");
        Assert.Equal(8L, await AskAsync(connection, "SELECT count(*) FROM turns"));

        Assert.Equal(200, (await server.DeleteAsync($"/sessions/{ids[0]}")).Status);
        await DamagedSessions.StoreIsAsync(server, "Healthy");
    }

    [Fact]
    public async Task A_branch_that_goes_on_from_a_turn_that_is_missing_is_told_whichever_page_is_read()
    {
        var connection = await postgres.NewSchemaAsync();
        await using (var filled = await OpenAsync(connection))
        {
            for (var i = 0; i < 4; i++)
            {
                await filled.TurnAsync("a", "ada");
            }

            await filled.TurnAsync("a", "ada", tip: 2);
            await filled.TurnAsync("a", "ada");
        }

        await AskAsync(connection, "DELETE FROM turns WHERE number = 2");
        await using var store = await OpenAsync(connection);
        foreach (var isDescending in (bool[])[true, false])
        {
            foreach (var limit in (int[])[2, 3, 100])
            {
                var request = new TurnPageRequest { Limit = limit, MaxBytes = 1 << 20, Descending = isDescending, Tip = 6 };
                if (isDescending && limit == 2)
                {
                    // As far as the page goes, all is there; the next one is not.
                    var page = await store.ReadTurnsAsync("a", request with { Limit = 1 });
                    Assert.Equal((6, true), (page.Turns[0].Number, page.HasMore));
                }

                await Assert.ThrowsAsync<StoredDataException>(() => store.ReadTurnsAsync("a", request));
            }
        }

        await Assert.ThrowsAsync<StoredDataException>(() => store.TurnsAsync("a"));
        await Assert.ThrowsAsync<StoredDataException>(async () => await store.BeginAsync("a", "ada", tip: 2));
        await Assert.ThrowsAsync<StoredDataException>(async () => await store.BeginAsync("a", "ada", tip: 4));

        // Turns that lead to one behind them: a path of which the end would never be found.
        await AskAsync(connection, "UPDATE turns SET parent = 6 WHERE number = 5");
        await Assert.ThrowsAsync<StoredDataException>(() => store.PathAsync("a", 6));
        var behind = new TurnPageRequest { Limit = 9, MaxBytes = 1 << 20, Descending = true, Tip = 6, After = 5 };
        Assert.Empty((await store.ReadTurnsAsync("a", behind)).Turns);
        Assert.True(await store.DeleteAsync("a"));
    }

    private static async Task<TestStore> OpenAsync(string connection)
    {
        var policy = new StorePolicy { Lifetime = _ => TimeSpan.FromHours(1), MaxPerUser = _ => 0 };
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
        return await TestStore.OpenAsync(policy, time, given => PostgresFixture.OpenAsync(connection, given, time));
    }

    private static SessionsServer Start(string connection) => Start(connection, ("sessions:max_sessions_per_user", "0"));

    private static SessionsServer Start(string connection, (string Key, string Value) limit) =>
        SessionsServer.Start([("sessions:storage_type", "postgres"), ("ConnectionStrings:postgres", connection), limit]);

    private static async Task OthersAreThereAsync(SessionsServer server)
    {
        await DamagedSessions.StoreIsAsync(server, "Degraded");
        var list = (await server.GetAsync("/users/ada/sessions?limit=100")).Json["sessions"]!.AsArray();
        Assert.Equal(["good"], list.Select(session => (string?)session!["session_id"]));
        var export = await server.GetAsync("/users/ada/export");
        Assert.Contains("\"good\"", export.Text, StringComparison.Ordinal);
        Assert.DoesNotContain("\"bad", export.Text, StringComparison.Ordinal);
        Assert.Equal(0, await server.Get<ISessionStore>().SweepAsync(Cancel));
    }

    private static async Task<object?> AskAsync(string connection, string sql)
    {
        await using var source = NpgsqlDataSource.Create(connection);
        await using var command = source.CreateCommand(sql);
        return await command.ExecuteScalarAsync(Cancel);
    }
}
