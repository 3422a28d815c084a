using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Text.Json;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using Sessions.Api.Storage.Postgres;

namespace Sessions.Tests.Storage.Postgres;

/// <summary>What is PostgreSQL's own: plans, the schema, damage, and poolers.</summary>
public sealed class PostgresTests(PostgresFixture postgres)
{
    private static readonly DateTimeOffset Start = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Every statement, by its name.</summary>
    public static TheoryData<string> Statements => [.. AllStatements.Keys];

    private static Dictionary<string, string> AllStatements { get; } = Collect();

    [Theory]
    [MemberData(nameof(Statements))]
    public async Task Every_statement_is_answered_by_indexes(string name)
    {
        var connection = await postgres.FilledSchemaAsync(FillAsync);
        await using var source = NpgsqlDataSource.Create(connection);
        await using var session = await source.OpenConnectionAsync(Cancel);
        await ExecuteAsync(session, "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off");
        await ExecuteAsync(session, $"PREPARE asked AS {AllStatements[name]}");
        var parameters = (int)(await AskAsync(session,
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'asked'"))!;
        var values = parameters == 0 ? "" : $"({string.Join(", ", Enumerable.Repeat("NULL", parameters))})";
        var plan = (string)(await AskAsync(session, $"EXPLAIN (FORMAT JSON) EXECUTE asked{values}"))!;

        List<string> scans = [];
        using var json = JsonDocument.Parse(plan);
        Walk(json.RootElement, scans);
        Assert.True(scans.Count == 0, $"{string.Join(", ", scans)}\n{plan}");
    }

    [Fact]
    public async Task Several_that_start_at_once_make_the_tables_once()
    {
        var connection = await postgres.NewSchemaAsync();
        await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => Task.Run(async () =>
        {
            await using var source = NpgsqlDataSource.Create(connection);
            await PostgresSchema.MigrateAsync(source, Cancel);
        }, Cancel)));

        Assert.Equal(PostgresSchema.Version, await AskAsync(connection, "SELECT version FROM sessions_schema"));
        Assert.Equal(16L, await AskAsync(connection, "SELECT count(*) FROM counters"));
    }

    [Fact]
    public async Task Tables_that_somebody_reads_for_long_are_changed_after_that_and_nobody_waits_for_it()
    {
        var connection = await NewSchemaAsync();
        await ExecuteAsync(connection, "ALTER TABLE sessions DROP COLUMN uses; UPDATE sessions_schema SET version = 2");
        await using var source = NpgsqlDataSource.Create(connection);
        await using var reader = await source.OpenConnectionAsync(Cancel);
        await using var reading = await reader.BeginTransactionAsync(Cancel);
        await ExecuteAsync(reader, "SELECT count(*) FROM sessions");

        var migration = PostgresSchema.MigrateAsync(source, Cancel);
        await ServiceProcess.UntilAsync(async () => (long)(await AskAsync(
            connection, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'sessions'::regclass"))! > 0);
        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM sessions"));

        Assert.False(migration.IsCompleted);
        await reading.CommitAsync(Cancel);
        await migration;
        Assert.Equal(PostgresSchema.Version, await AskAsync(connection, "SELECT version FROM sessions_schema"));
        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM sessions WHERE uses <> '{}'"));
    }

    [Fact]
    public async Task Tables_of_a_later_version_are_refused()
    {
        var connection = await NewSchemaAsync();
        await ExecuteAsync(connection, "UPDATE sessions_schema SET version = 99");
        await using var source = NpgsqlDataSource.Create(connection);

        var e = await Assert.ThrowsAsync<InvalidOperationException>(() => PostgresSchema.MigrateAsync(source, Cancel));

        Assert.Contains("99", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_role_that_may_make_no_tables_runs_on_those_that_are_there()
    {
        var connection = await NewSchemaAsync();
        var schema = new NpgsqlConnectionStringBuilder(connection).SearchPath!;
        await ExecuteAsync(connection, $"""
            CREATE ROLE role_{schema} LOGIN; GRANT USAGE ON SCHEMA {schema} TO role_{schema};
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO role_{schema};
            """);
        var limited = new NpgsqlConnectionStringBuilder(connection) { Username = $"role_{schema}" }.ConnectionString;
        await using (var store = await OpenAsync(limited))
        {
            await store.TurnAsync("a", "user");
            await store.ForkAsync("a", "b");
            await store.Store.EraseAsync("user", Cancel);
            await TestStore.HealthyAsync(store.Store);
        }

        await ExecuteAsync(connection,
            $"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO role_{schema}");
        await using var source = NpgsqlDataSource.Create(limited);
        var e = await Assert.ThrowsAsync<InvalidOperationException>(() => PostgresSchema.MigrateAsync(source, Cancel));
        Assert.Contains("sessions migrate", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_session_whose_last_turn_is_missing_is_not_read_as_if_it_had_none()
    {
        var connection = await NewSchemaAsync();
        await using var store = await OpenAsync(connection);
        await store.TurnAsync("a", "user");
        await ExecuteAsync(connection, "DELETE FROM turns");
        await using var other = await OpenAsync(connection);
        await Assert.ThrowsAsync<StoredDataException>(() => other.GetAsync("a"));
        await Assert.ThrowsAsync<StoredDataException>(() => other.TurnsAsync("a"));
        await Assert.ThrowsAsync<StoredDataException>(() => other.TurnAsync("a", "user"));
        Assert.True(await other.DeleteAsync("a"));
    }

    [Fact]
    public async Task Damage_is_told_gone_past_and_removed_by_a_deletion_alone()
    {
        var connection = await NewSchemaAsync();
        List<string> damaged = [];
        var policy = new StorePolicy
        {
            Lifetime = _ => TimeSpan.FromHours(1),
            MaxPerUser = _ => 0,
            Damage = new DamageReport { OnFirst = (what, _) => damaged.Add(what) },
        };
        await using var store = await OpenAsync(connection, policy);
        foreach (var id in (string[])["turn", "head", "whole"])
        {
            await store.TurnAsync(id, "user");
            await store.TurnAsync(id, "user");
        }

        await ExecuteAsync(connection,
            "UPDATE turns SET details = '\\xffffff' WHERE number = 2 AND session = (SELECT sid FROM sessions WHERE id = 'turn')");
        await ExecuteAsync(connection, "UPDATE sessions SET created_from = 'nowhere' WHERE id = 'head'");

        foreach (var id in (string[])["turn", "head"])
        {
            await Assert.ThrowsAsync<StoredDataException>(() => store.GetAsync(id));
            await Assert.ThrowsAsync<StoredDataException>(() => store.TurnsAsync(id));
            await Assert.ThrowsAsync<StoredDataException>(() => store.TurnAsync(id, "user"));
        }

        Assert.Empty(damaged);
        Assert.Equal(["whole"], await store.ListIdsAsync("user"));
        Assert.Equal(["whole"], await store.ListIdsAsync(null));
        Assert.Equal(["session 'head'", "session 'turn'"], damaged.Order());
        Assert.Equal(["turn", "whole"], (await store.ExportAsync()).Where(entry => entry.Session is not null)
            .Select(entry => entry.Session!.Session.Id).Order());
        Assert.Equal(0, await store.Store.SweepAsync(Cancel));
        Assert.Equal(3L, await AskAsync(connection, "SELECT count(*) FROM sessions"));
        Assert.Equal(2, policy.Damage.Count);
        Assert.True(await store.DeleteAsync("turn"));
        Assert.Equal(1, policy.Damage.Count);
        Assert.Equal(new Erasure(2, 4), await store.Store.EraseAsync("user", Cancel));
        Assert.Equal(0, policy.Damage.Count);
        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM sessions"));
        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM turns"));
    }

    [Fact]
    public async Task Of_an_erased_or_expired_user_not_even_the_name_is_left()
    {
        var connection = await NewSchemaAsync();
        await using var store = await OpenAsync(connection);
        await store.TurnAsync("a", "erased");
        await store.TurnAsync("b", "expired", kind: SessionKind.Chain);
        await store.TurnAsync("c", "deleted", kind: SessionKind.Chain);
        await store.Store.EraseAsync("never was", Cancel);
        Assert.Equal(new Erasure(1, 1), await store.Store.EraseAsync("erased", Cancel));
        Assert.True(await store.DeleteAsync("c"));
        Assert.Equal("expired", await AskAsync(connection, "SELECT string_agg(user_id, ',' ORDER BY user_id) FROM owners"));

        store.Time.Advance(TimeSpan.FromDays(2));
        await store.Store.SweepAsync(Cancel);
        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM owners"));
    }

    [Fact]
    public async Task Users_whose_last_session_goes_while_they_get_another_are_counted_right()
    {
        var connection = await NewSchemaAsync();
        await using var store = await OpenAsync(connection);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(client => Task.Run(async () =>
        {
            for (var i = 0; i < 40; i++)
            {
                await store.CreateAsync($"{client}-{i}", "user", kind: SessionKind.Chain);
                if (i % 2 == 0)
                {
                    await store.DeleteAsync($"{client}-{i}");
                }
                else
                {
                    await store.Store.EraseAsync("user", Cancel);
                }
            }
        }, Cancel)));

        await store.Store.EraseAsync("user", Cancel);
        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM owners"));
        await store.TurnAsync("last", "user", kind: SessionKind.Chain);
        Assert.Equal(await AskAsync(connection, "SELECT bytes + 512 + 128 FROM sessions"),
            await AskAsync(connection, "SELECT chain_bytes FROM owners"));
    }

    [Fact]
    public async Task An_erasure_is_told_step_by_step()
    {
        var connection = await NewSchemaAsync();
        List<(int Told, long Left)> steps = [];
        var policy = new StorePolicy
        {
            Lifetime = _ => TimeSpan.FromHours(1),
            MaxPerUser = _ => 0,
            Events = new StoreEvents
            {
                Removed = async keys =>
                    steps.Add((keys.Count, (long)(await AskAsync(connection, "SELECT count(*) FROM sessions WHERE user_id = 'user'"))!)),
            },
        };
        await using var store = await OpenAsync(connection, policy);
        await ExecuteAsync(connection, $"""
            INSERT INTO sessions (id, key, kind, shard, user_id, created_from, created_at, last_activity_at, expires_at, version, tag)
            SELECT 's' || i, gen_random_uuid(), 0, i % 16, 'user', 'api', 1, 1, {Start.AddHours(1).ToMicroseconds()}, 1, 1
            FROM generate_series(1, 700) i
            """);

        Assert.Equal(new Erasure(700, 0), await store.Store.EraseAsync("user", Cancel));

        Assert.Equal([(500, 200L), (200, 0L)], steps);
    }

    [Fact]
    public async Task Looking_whether_a_lease_holds_waits_for_nobody()
    {
        var connection = await NewSchemaAsync();
        await using var store = await OpenAsync($"{connection};Command Timeout=5");
        await store.TurnAsync("a", "user");
        var beside = await store.BeginAsync("a", "user", lease: TestStore.NewLease(isExclusive: false));
        var late = await store.BeginAsync("a", "user");
        await store.AppendAsync(await store.BeginAsync("a", "user", lease: late.Request.Lease), "in time");
        await using var source = NpgsqlDataSource.Create(connection);
        await using var session = await source.OpenConnectionAsync(Cancel);
        await using var transaction = await session.BeginTransactionAsync(Cancel);
        await ExecuteAsync(session, "SELECT 1 FROM sessions WHERE id = 'a' FOR UPDATE");

        // Both would wait for the lock until their time is over.
        Assert.Equal(LeaseState.Held, await store.Store.RenewAsync(beside, Cancel));
        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(late, "late")).Status);
    }

    [Fact]
    public async Task The_sums_are_what_they_stand_for_after_all_that_can_be_done()
    {
        var connection = await NewSchemaAsync();
        var policy = new StorePolicy
        {
            Lifetime = _ => TimeSpan.FromHours(1),
            MaxPerUser = kind => kind == SessionKind.Chain ? 0 : 3,
            ChainBytesPerOwner = 40_000,
            UnownedBytes = 200_000,
        };
        await using var store = await OpenAsync(connection, policy);
        var random = new Random(7);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(client => Task.Run(async () =>
        {
            for (var i = 0; i < 40; i++)
            {
                int id, what;
                lock (random)
                {
                    (id, what) = (random.Next(8), random.Next(10));
                }

                var user = id % 3 == 0 ? null : $"u{id % 2}";
                var opened = await store.BeginAsync($"s{id}", user, lease: TestStore.NewLease(isExclusive: id < 5));
                if (opened.Status == OpenStatus.Opened)
                {
                    await store.AppendAsync(opened, new string('x', 100 * what), kind: id < 5 ? SessionKind.Session : SessionKind.Chain,
                        besideOthers: id >= 5);
                }

                if (what == 0)
                {
                    await store.DeleteAsync($"s{id}");
                }
                else if (what == 1)
                {
                    await store.ForkAsync($"s{id}", $"f{client}-{i}");
                }
                else if (what == 2)
                {
                    await store.Store.EraseAsync("u1", Cancel);
                }
            }
        }, Cancel)));

        async Task SameAsync()
        {
            Assert.Equal(await AskAsync(connection, "SELECT count(*)::numeric FROM sessions WHERE version > 0 AND kind <> 2"),
                await AskAsync(connection, "SELECT sum(sessions) FROM counters"));
            foreach (var (column, which) in new[] { ("bytes", "user_id IS NULL OR kind = 2"), ("chain_bytes", "kind = 2") })
            {
                Assert.Equal("", await AskAsync(connection, $"""
                    SELECT COALESCE(string_agg(user_id || ':' || a || '/' || b, ' '), '') FROM (
                      SELECT user_id, sum({column}) AS a FROM owners GROUP BY 1) o FULL JOIN (
                      SELECT COALESCE(user_id, '') AS user_id, sum(bytes + 512 + 128 * turn_count) AS b
                        FROM sessions WHERE version > 0 AND ({which}) GROUP BY 1) s USING (user_id)
                    WHERE COALESCE(a, 0) <> COALESCE(b, 0)
                    """));
            }
        }

        await SameAsync();
        store.Time.Advance(TimeSpan.FromHours(2));
        await store.Store.SweepAsync(Cancel);
        await SameAsync();
        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM sessions"));
    }

    [Fact]
    public async Task The_partitions_of_the_documentation_change_nothing()
    {
        var connection = await NewSchemaAsync();
        var documented = await File.ReadAllTextAsync(Repository.File("docs", "postgres.md"), Cancel);
        var from = documented.IndexOf("ALTER TABLE turns RENAME", StringComparison.Ordinal);
        await ExecuteAsync(connection, documented[from..documented.IndexOf("```", from, StringComparison.Ordinal)]);
        await using var store = await OpenAsync(connection);
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        for (var i = 0; i < 20; i++)
        {
            await store.TurnAsync($"s{i}", "user");
            var opened = await store.BeginAsync($"s{i}", "user", idempotency: key);
            Assert.Equal(WriteStatus.Written, (await store.AppendAsync(opened, "second")).Status);
        }

        Assert.Equal(OpenStatus.Replayed, (await store.BeginAsync("s7", "user", idempotency: key)).Status);
        await store.ForkAsync("s7", "fork");
        Assert.Equal(["query", "second"], (await store.TurnsAsync("fork")).Select(turn => turn.Input.ToString()));
        Assert.True((long)(await AskAsync(connection, "SELECT count(DISTINCT tableoid) FROM turns"))! > 5);
        Assert.Equal(new Erasure(21, 42), await store.Store.EraseAsync("user", Cancel));
        Assert.Equal(0L, await AskAsync(connection, "SELECT count(*) FROM turns"));
    }

    [Fact]
    public async Task Where_all_transactions_are_serializable_nothing_is_lost_or_doubled()
    {
        var connection = await postgres.NewSchemaAsync();
        await using var store = await OpenAsync($"{connection};Options=-c default_transaction_isolation=serializable");
        await store.TurnAsync("s0", "user", "first");
        await store.TurnAsync("s1", null, "first");
        var answered = await Task.WhenAll(Enumerable.Range(0, 4).Select(client => Task.Run(async () =>
        {
            List<string> mine = [];
            for (var i = 0; i < 20; i++)
            {
                try
                {
                    var opened = await store.BeginAsync($"s{client % 2}", client % 2 == 0 ? "user" : null, history: 1);
                    if (opened.Status == OpenStatus.Opened
                        && (await store.AppendAsync(opened, $"{client}-{i}")).Status == WriteStatus.Written)
                    {
                        mine.Add($"{client}-{i}");
                    }
                }
                catch (StoreUnavailableException)
                {
                    // Others were in the way each time. Said, and nothing done.
                }
            }

            return mine;
        }, Cancel)));

        var stored = (await store.TurnsAsync("s0")).Concat(await store.TurnsAsync("s1")).Select(turn => turn.Input.ToString())
            .Where(text => text != "first");
        Assert.Equal(answered.SelectMany(mine => mine).Order(), stored.Order());
    }

    [Fact]
    public async Task It_works_behind_PgBouncer_in_transaction_mode()
    {
        await using var server = await PostgresServer.StartAsync();
        using var pooler = await PgBouncer.StartAsync(server.Port);
        await using var store = await OpenAsync(pooler.ConnectionString);
        await using var other = await store.OpenAnotherAsync();
        await Task.WhenAll(Enumerable.Range(0, 12).Select(client => Task.Run(async () =>
        {
            var mine = client % 2 == 0 ? store : other;
            for (var i = 0; i < 10;)
            {
                var opened = await mine.BeginAsync($"s{client % 4}", "user", history: 5);
                if (opened.Status == OpenStatus.Busy)
                {
                    await Task.Delay(2, Cancel);
                    continue;
                }

                Assert.Equal(WriteStatus.Written, (await mine.AppendAsync(opened, $"{client}-{i}")).Status);
                i++;
            }
        }, Cancel)));

        for (var i = 0; i < 4; i++)
        {
            Assert.Equal(Enumerable.Range(1, 30), (await store.TurnsAsync($"s{i}")).Select(turn => turn.Number));
        }

        await store.ForkAsync("s0", "fork");
        Assert.Equal(5, await other.CountAsync());
        Assert.Equal(5, (await other.ListIdsAsync("user")).Count);
        Assert.Equal(new Erasure(5, 150), await other.Store.EraseAsync("user", Cancel));
        Assert.Equal(0, await store.CountAsync());
    }

    // Enough that the planner has something to choose by.
    private static async Task FillAsync(string connection)
    {
        await using var source = NpgsqlDataSource.Create(connection);
        await PostgresSchema.MigrateAsync(source, Cancel);
        await ExecuteAsync(connection, """
            INSERT INTO sessions (id, key, kind, shard, user_id, created_from, created_at, last_activity_at, expires_at, version, tag,
              turn_count)
            SELECT 's' || i, gen_random_uuid(), i % 3, i % 16, CASE WHEN i % 4 > 0 THEN 'u' || i % 300 END, 'api', i, i, i * 10,
              CASE WHEN i % 50 > 0 THEN 1 ELSE 0 END, i, 3
            FROM generate_series(1, 6000) i;
            INSERT INTO turns (session, number, parent, run_start, nonce, size, request_key, details, input, output, response)
            SELECT sid, n, n - 1, 1, n, 100, CASE WHEN n = 2 THEN gen_random_uuid() END, '', '', '', '' FROM sessions, generate_series(1,
              3) n;
            INSERT INTO reservations SELECT gen_random_uuid(), gen_random_uuid(), 's' || i, i * 10 FROM generate_series(1, 3000) i;
            INSERT INTO owners SELECT 'u' || i, 0 FROM generate_series(1, 3000) i;
            INSERT INTO user_keys SELECT gen_random_uuid(), 'u' || i, 1, '', i * 10 FROM generate_series(1, 3000) i;
            INSERT INTO destroyed_keys SELECT gen_random_uuid(), i * 10 FROM generate_series(1, 3000) i;
            ANALYZE;
            """);
    }

    private async Task<string> NewSchemaAsync()
    {
        var connection = await postgres.NewSchemaAsync();
        await using var source = NpgsqlDataSource.Create(connection);
        await PostgresSchema.MigrateAsync(source, Cancel);
        return connection;
    }

    private static ValueTask<TestStore> OpenAsync(string connection, StorePolicy? policy = null)
    {
        var time = new FakeTimeProvider(Start);
        policy ??= new StorePolicy { Lifetime = _ => TimeSpan.FromHours(24), MaxPerUser = _ => 0 };
        return TestStore.OpenAsync(policy, time, given => PostgresFixture.OpenAsync(connection, given, time));
    }

    private static Dictionary<string, string> Collect()
    {
        const BindingFlags Any = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static;
        var statements = new[] { typeof(PostgresSql), typeof(PostgresUserKeys) }.SelectMany(type => type.GetFields(Any))
            .Where(field => field.IsLiteral && field.FieldType == typeof(string)
                && field.Name is not ("Columns" or "TurnColumns" or "MayBegin" or "WithUse" or "WithoutUse"))
            .ToDictionary(field => $"{field.DeclaringType!.Name}.{field.Name}", field => (string)field.GetRawConstantValue()!);
        foreach (var byKey in (bool[])[false, true])
        {
            var name = byKey ? "key" : "id";
            statements.Add($"Cancel by {name}", PostgresSql.Cancel(byKey));
            statements.Add($"ReadSession by {name}", PostgresSql.ReadSession(byKey));
            statements.Add($"FindOwner by {name}", PostgresSql.FindOwner(byKey));
            statements.Add($"ReadAnswered by {name}", PostgresSql.ReadAnswered(byKey));
            foreach (var (descending, all) in new[] { (false, false), (true, false), (false, true), (true, true) })
            {
                statements.Add($"ReadTurns by {name}, {(descending ? "descending" : "ascending")}, {(all ? "all" : "path")}",
                    PostgresSql.ReadTurns(byKey, descending, all));
            }
        }

        foreach (var (ofUser, ascending) in new[] { (false, false), (true, false), (false, true), (true, true) })
        {
            statements.Add($"List {(ofUser ? "of a user" : "of all")}, {(ascending ? "ascending" : "descending")}",
                PostgresSql.List(ofUser, ascending, [0, 1]));
        }

        return statements;
    }

    // Reading a table from end to end, or an index: but for the sixteen counters, the one row that says that all is sealed, and what holds
    // nothing but nobody's chains, in order.
    private static void Walk(JsonElement element, List<string> scans)
    {
        if (element.ValueKind == JsonValueKind.Object)
        {
            if (element.TryGetProperty("Node Type", out var type))
            {
                var node = type.GetString()!;
                var on = element.TryGetProperty("Relation Name", out var relation) ? relation.GetString()
                    : element.TryGetProperty("Index Name", out var index) ? index.GetString() : "";
                if ((node == "Seq Scan" && on is not ("counters" or "sealing"))
                    || (node.Contains("Index", StringComparison.Ordinal) && node.Contains("Scan", StringComparison.Ordinal)
                    && !element.TryGetProperty("Index Cond", out _)
                    && on is not ("counters" or "sealing") && !(element.TryGetProperty("Index Name", out var name)
                        && name.GetString() == "sessions_unowned_chains")))
                {
                    scans.Add($"{node} on {on}");
                }
            }

            foreach (var property in element.EnumerateObject())
            {
                Walk(property.Value, scans);
            }
        }
        else if (element.ValueKind == JsonValueKind.Array)
        {
            foreach (var item in element.EnumerateArray())
            {
                Walk(item, scans);
            }
        }
    }

    private static async Task<object?> AskAsync(string connection, string sql)
    {
        await using var source = NpgsqlDataSource.Create(connection);
        await using var session = await source.OpenConnectionAsync(Cancel);
        return await AskAsync(session, sql);
    }

    private static async Task<object?> AskAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        return await command.ExecuteScalarAsync(Cancel);
    }

    private static async Task ExecuteAsync(string connection, string sql) => _ = await AskAsync(connection, sql);

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql) => _ = await AskAsync(connection, sql);
}

/// <summary>A PgBouncer in front of a server, in transaction mode with few connections.</summary>
internal sealed class PgBouncer : IDisposable
{
    private static readonly string? Program = File.Exists("/usr/sbin/pgbouncer") ? "/usr/sbin/pgbouncer" : null;

    private readonly TestFolder _folder = new();
    private readonly int _port = FreePort.Find();
    private Process? _process;

    public string ConnectionString => $"Host=127.0.0.1;Port={_port};Username=sessions;Database=postgres;Timeout=60;Maximum Pool Size=10";

    public static async Task<PgBouncer> StartAsync(int serverPort)
    {
        if (Program is null && Environment.GetEnvironmentVariable("CI") == "true")
        {
            throw new InvalidOperationException("CI needs pgbouncer.");
        }

        Assert.SkipWhen(Program is null, "There is no PgBouncer on this machine (/usr/sbin/pgbouncer).");
        var pooler = new PgBouncer();
        await File.WriteAllTextAsync(pooler._folder["users.txt"], "\"sessions\" \"\"\n", TestStore.Cancel);
        await File.WriteAllTextAsync(pooler._folder["pgbouncer.ini"], string.Create(CultureInfo.InvariantCulture, $"""
            [databases]
            postgres = host=127.0.0.1 port={serverPort} dbname=postgres user=sessions
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {pooler._port}
            unix_socket_dir =
            auth_type = any
            auth_file = {pooler._folder["users.txt"]}
            pool_mode = transaction
            default_pool_size = 3
            max_client_conn = 100
            """), TestStore.Cancel);
        PostgresServer.GiveToUser(pooler._folder.Path);
        pooler._process = PostgresServer.RunAsUser(Program!, pooler._folder["pgbouncer.ini"]);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (true)
        {
            try
            {
                await using var source = NpgsqlDataSource.Create(pooler.ConnectionString);
                await using var command = source.CreateCommand("SELECT 1");
                await command.ExecuteScalarAsync(limit.Token);
                return pooler;
            }
            catch (NpgsqlException)
            {
                Assert.False(pooler._process.HasExited, "pgbouncer ended at once.");
                await Task.Delay(20, limit.Token);
            }
        }
    }

    public void Dispose()
    {
        if (_process is { HasExited: false })
        {
            _process.Kill();
            _process.WaitForExit();
        }

        _process?.Dispose();
        _folder.Dispose();
    }
}
