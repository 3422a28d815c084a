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

        Assert.Contains("1 sessions with 2 turns are exported", await RunAsync(from, "export", _folder["all.ndjson"]), StringComparison.Ordinal);
        Assert.Contains("1 sessions with 2 turns are imported", await RunAsync(to, "import", _folder["all.ndjson"]), StringComparison.Ordinal);
        Assert.Contains("0 sessions with 0 turns are imported; 1 were there", await RunAsync(to, "import", _folder["all.ndjson"]), StringComparison.Ordinal);

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
        var answer = await client.PostAsJsonAsync(new Uri("/query", UriKind.Relative), new { query = "words", thread_id = "a", user_id = "ada" }, Cancel);
        var body = await answer.Content.ReadAsStringAsync(Cancel);
        Assert.True(answer.IsSuccessStatusCode, body);
        return (int)JsonNode.Parse(body)!["metadata"]!["turn"]!;
    }
}
