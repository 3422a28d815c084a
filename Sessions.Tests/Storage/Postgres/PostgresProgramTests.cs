using System.Net.Http.Json;
using System.Text.Json.Nodes;
using Npgsql;

namespace Sessions.Tests.Storage.Postgres;

/// <summary>The program on PostgreSQL: its start, its replicas, its commands.</summary>
public sealed class PostgresProgramTests(PostgresFixture postgres) : IDisposable
{
    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Replicas_that_start_at_once_on_nothing_hold_one_conversation_and_one_of_them_can_be_killed()
    {
        var settings = Settings(await postgres.NewSchemaAsync());
        await using var one = ServiceProcess.Api(settings);
        await using var other = ServiceProcess.Api(settings);
        using var first = new HttpClient { BaseAddress = await one.AddressAsync() };
        using var second = new HttpClient { BaseAddress = await other.AddressAsync() };
        await one.SaysAsync("postgres, 127.0.0.1:");

        var turns = await Task.WhenAll(Enumerable.Range(0, 20).Select(i => TurnAsync(i % 2 == 0 ? first : second)));
        Assert.Equal(Enumerable.Range(1, 20), turns.Order());

        one.Signal("KILL");
        await one.ExitAsync();
        Assert.Equal(21, await TurnAsync(second));
        Assert.Equal(System.Net.HttpStatusCode.OK, (await second.GetAsync(new Uri("/health", UriKind.Relative), Cancel)).StatusCode);
        Assert.Equal(0, await other.StopAsync());
    }

    [Fact]
    public async Task Commands_migrate_export_and_import_and_a_later_version_is_refused_in_one_sentence()
    {
        var (from, to) = (Settings(await postgres.NewSchemaAsync()), Settings(await postgres.NewSchemaAsync()));
        Assert.Contains("have format", await RunAsync(from, "migrate"), StringComparison.Ordinal);
        await using (var server = ServiceProcess.Api(from))
        {
            using var client = new HttpClient { BaseAddress = await server.AddressAsync() };
            await TurnAsync(client);
            await TurnAsync(client);
            Assert.Equal(0, await server.StopAsync());
        }

        var file = _folder["all.ndjson"];
        Assert.Contains("Sessions exported: 1; turns: 2", await RunAsync(from, "export", file), StringComparison.Ordinal);
        Assert.Contains("Sessions imported: 1; turns: 2", await RunAsync(to, "import", file), StringComparison.Ordinal);
        Assert.Contains(
            "Sessions imported: 0; turns: 0; there already: 1", await RunAsync(to, "import", file), StringComparison.Ordinal);

        await using var source = NpgsqlDataSource.Create(to[1].Value);
        await using var command = source.CreateCommand("UPDATE sessions_schema SET version = 99");
        await command.ExecuteNonQueryAsync(Cancel);
        await using var refused = ServiceProcess.Api(to);
        Assert.Equal(1, await refused.ExitAsync());
        Assert.Contains("are of version 99", Assert.Single(refused.Lines), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Tables_of_others_are_left_alone_and_of_several_servers_the_one_that_answers_is_used()
    {
        var connection = await postgres.NewSchemaAsync();
        await using var source = NpgsqlDataSource.Create(connection);
        await using var make = source.CreateCommand("CREATE TABLE turns (theirs int)");
        await make.ExecuteNonQueryAsync(Cancel);
        await using (var refused = ServiceProcess.Api(Settings(connection)))
        {
            Assert.Equal(1, await refused.ExitAsync());
            Assert.Contains("it refuses to make the tables", Assert.Single(refused.Lines), StringComparison.Ordinal);
        }

        await using var drop = source.CreateCommand("DROP TABLE turns");
        await drop.ExecuteNonQueryAsync(Cancel);
        var several = new NpgsqlConnectionStringBuilder(connection);
        several.Host = $"127.0.0.1:1,127.0.0.1:{several.Port}";
        await using var server = ServiceProcess.Api(Settings(several.ConnectionString));
        using var client = new HttpClient { BaseAddress = await server.AddressAsync() };
        Assert.Equal(1, await TurnAsync(client));
    }

    [Fact]
    public async Task The_roles_of_the_documentation_do_with_what_they_are_given()
    {
        await using var server = await PostgresServer.StartAsync();
        await server.AskAsync("CREATE ROLE sessions_owner LOGIN");
        await server.AskAsync("CREATE ROLE sessions_server LOGIN");
        await server.AskAsync("CREATE DATABASE chat OWNER sessions_owner");
        await server.AskAsync("""
            ALTER DEFAULT PRIVILEGES FOR ROLE sessions_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO sessions_server
            """, "chat");
        var (owner, limited) = (Settings(As("sessions_owner")), Settings(As("sessions_server")));
        await using (var refused = ServiceProcess.Api(limited))
        {
            Assert.Equal(1, await refused.ExitAsync());
            Assert.Contains("run `sessions migrate` with one that owns them", Assert.Single(refused.Lines), StringComparison.Ordinal);
        }

        Assert.Contains("have format", await RunAsync(owner, "migrate"), StringComparison.Ordinal);
        await using var api = ServiceProcess.Api(limited);
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };
        Assert.Equal(1, await TurnAsync(client));
        using var erased = await client.DeleteAsync(new Uri("/users/ada/sessions", UriKind.Relative), Cancel);
        Assert.Equal(System.Net.HttpStatusCode.OK, erased.StatusCode);
        using var health = await client.GetAsync(new Uri("/health", UriKind.Relative), Cancel);
        Assert.Equal(System.Net.HttpStatusCode.OK, health.StatusCode);

        string As(string role) => $"Host=127.0.0.1;Port={server.Port};Username={role};Database=chat";
    }

    [Fact]
    public async Task A_server_that_is_away_is_logged_once_and_not_for_each_request()
    {
        await using var server = await PostgresServer.StartAsync();
        await using var api = ServiceProcess.Api(Settings(server.ConnectionString));
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };
        await TurnAsync(client);
        await server.StopAsync();
        for (var i = 0; i < 10; i++)
        {
            using var refused = await client.GetAsync(new Uri("/sessions/a", UriKind.Relative), Cancel);
            Assert.Equal(System.Net.HttpStatusCode.ServiceUnavailable, refused.StatusCode);
        }

        await server.RestartAsync();
        await ServiceProcess.UntilAsync(() => client.GetAsync(new Uri("/health", UriKind.Relative), Cancel).Result.IsSuccessStatusCode);
        Assert.Equal(2, await TurnAsync(client));
        Assert.Equal(0, await api.StopAsync());

        // The first may have met a connection that was ended, the others none.
        Assert.InRange(api.Count("The store is unavailable"), 1, 2);
    }

    [Fact]
    public async Task A_dump_of_a_server_that_works_can_be_restored()
    {
        await using var server = await PostgresServer.StartAsync();
        await using var api = ServiceProcess.Api(Settings(server.ConnectionString));
        using var client = new HttpClient { BaseAddress = await api.AddressAsync() };
        await TurnAsync(client);
        await TurnAsync(client);
        PostgresServer.GiveToUser(_folder.Path);
        var dump = _folder["sessions.dump"];
        string[] where = ["-h", "127.0.0.1", "-p", $"{server.Port}", "-U", "sessions"];
        await PostgresServer.RunToolAsync("pg_dump", [.. where, "--format=custom", $"--file={dump}", "postgres"]);
        await server.AskAsync("CREATE DATABASE copy");
        await PostgresServer.RunToolAsync("pg_restore", [.. where, "--clean", "--if-exists", "--dbname=copy", dump]);
        await TurnAsync(client);

        await using var restored = ServiceProcess.Api(
            Settings(new NpgsqlConnectionStringBuilder(server.ConnectionString) { Database = "copy" }.ConnectionString));
        using var other = new HttpClient { BaseAddress = await restored.AddressAsync() };
        Assert.Equal(3, await TurnAsync(other));
        Assert.Equal(4, await TurnAsync(client));
    }

    [Fact]
    public async Task Replicas_behind_PgBouncer_start_on_nothing_and_hold_one_conversation()
    {
        await using var server = await PostgresServer.StartAsync();
        using var pooler = await PgBouncer.StartAsync(server.Port);
        await using var one = ServiceProcess.Api(Settings(pooler.ConnectionString));
        await using var other = ServiceProcess.Api(Settings(pooler.ConnectionString));
        using var first = new HttpClient { BaseAddress = await one.AddressAsync() };
        using var second = new HttpClient { BaseAddress = await other.AddressAsync() };

        var turns = await Task.WhenAll(Enumerable.Range(0, 20).Select(i => TurnAsync(i % 2 == 0 ? first : second)));

        Assert.Equal(Enumerable.Range(1, 20), turns.Order());
    }

    private static (string Key, string Value)[] Settings(string connection) =>
        [("SESSIONS__STORAGE_TYPE", "postgres"), ("ConnectionStrings__postgres", connection)];

    private static async Task<string> RunAsync((string, string)[] settings, params string[] command)
    {
        await using var program = ServiceProcess.Program(command, settings);
        var code = await program.ExitAsync();
        var said = string.Join('\n', program.Lines);
        Assert.True(code == 0, said);
        return said;
    }

    private static async Task<int> TurnAsync(HttpClient client)
    {
        var answer = await client.PostAsJsonAsync(
            new Uri("/query", UriKind.Relative), new { query = "words", thread_id = "a", user_id = "ada" }, Cancel);
        var body = await answer.Content.ReadAsStringAsync(Cancel);
        Assert.True(answer.IsSuccessStatusCode, body);
        return (int)JsonNode.Parse(body)!["metadata"]!["turn"]!;
    }
}
