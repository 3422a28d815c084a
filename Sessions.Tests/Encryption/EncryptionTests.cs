using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using StackExchange.Redis;

namespace Sessions.Tests;

/// <summary>What users wrote can't be read from what is stored; and not at all once they are erased.</summary>
public sealed class EncryptionTests(RedisFixture redis, PostgresFixture postgres) : IDisposable
{
    private const string Canary = "canary-Zw3q";

    private readonly TestFolder _folder = new();
    private readonly string _master = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32));

    private string Path => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Nothing_that_users_wrote_is_in_the_files()
    {
        await using var server = Start();
        await TalkAsync(server, "a", "ada");
        Assert.Contains(Canary, (await server.GetAsync("/sessions/a/history")).Text, StringComparison.Ordinal);
        Assert.Contains(Canary, await EverythingAsync(server), StringComparison.Ordinal);

        Assert.Empty(FilesWith(Encoding.UTF8.GetBytes(Canary)));
        Assert.NotEmpty(FilesWith("ada"u8.ToArray()));

        await using var another = Start();
        Assert.Contains(Canary, await EverythingAsync(another), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nothing_that_users_wrote_is_in_Redis()
    {
        var connection = await redis.NewDatabaseAsync();
        await using var server = Start(("sessions:storage_type", "redis"), ("ConnectionStrings:redis", connection));
        await TalkAsync(server, "a", "ada");
        Assert.Contains(Canary, await EverythingAsync(server), StringComparison.Ordinal);

        await using var client = await ConnectionMultiplexer.ConnectAsync(connection);
        var keys = await client.GetServers()[0].KeysAsync(ConfigurationOptions.Parse(connection).DefaultDatabase!.Value)
            .ToListAsync(TestStore.Cancel);
        Assert.Contains("sessions:user-keys:{ada}", keys);
        foreach (var key in keys.Where(key => key != "sessions:layout" && key != "sessions:all-sealed"))
        {
            Assert.NotNull(await client.GetDatabase().KeyTimeToLiveAsync(key));
            var dump = await client.GetDatabase().KeyDumpAsync(key);
            Assert.DoesNotContain(Canary, Encoding.Latin1.GetString(dump!), StringComparison.Ordinal);
            Assert.DoesNotContain(Canary, string.Concat(await ReadAsync(client.GetDatabase(), key)), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Nothing_that_users_wrote_is_in_PostgreSQL_and_it_is_not_turned_off_by_mistake()
    {
        var connection = await postgres.NewSchemaAsync();
        (string, string)[] settings = [("sessions:storage_type", "postgres"), ("ConnectionStrings:postgres", connection)];
        await using (var server = Start(settings))
        {
            await TalkAsync(server, "a", "ada");
            Assert.Contains(Canary, await EverythingAsync(server), StringComparison.Ordinal);
        }

        await using var source = NpgsqlDataSource.Create(connection);
        Assert.Equal(1, await CountAsync("user_keys WHERE holder = 'ada'"));
        Assert.Equal(1, await CountAsync("turns"));
        foreach (var table in (string[])["sessions", "turns", "reservations", "owners", "user_keys", "destroyed_keys"])
        {
            Assert.Equal(0, await CountAsync($"{table} t WHERE position('{Canary}' in t::text) > 0"));
            Assert.Equal(0, await CountAsync($"{table} t WHERE position(encode('{Canary}'::bytea, 'hex') in t::text) > 0"));
        }

        Assert.Contains("encryption.enabled", await RefusedAsync(
            ("ENCRYPTION__ENABLED", "false"), ("SESSIONS__STORAGE_TYPE", "postgres"), ("ConnectionStrings__postgres", connection)),
            StringComparison.Ordinal);
        await using var another = Start(settings);
        Assert.Contains(Canary, await EverythingAsync(another), StringComparison.Ordinal);
        Assert.Equal(200, (await another.DeleteAsync("/users/ada/sessions")).Status);
        Assert.Equal(0, await CountAsync("user_keys WHERE holder = 'ada'"));
        Assert.Equal(1, await CountAsync("destroyed_keys"));

        async Task<int> CountAsync(string rows)
        {
            await using var command = source.CreateCommand($"SELECT count(*)::int FROM {rows}");
            return (int)(await command.ExecuteScalarAsync(TestStore.Cancel))!;
        }
    }

    [Fact]
    public async Task A_backup_from_before_an_erasure_can_not_be_read_after_it()
    {
        var (backup, keys) = (_folder["backup.db"], _folder["backup.keys"]);
        await using (var server = Start())
        {
            await TalkAsync(server, "a", "ada");
            await TalkAsync(server, "b", "bob");
            await CommandAsync("backup", backup);
            await CommandAsync("backup-keys", keys);
            Assert.Equal(200, (await server.DeleteAsync("/users/ada/sessions")).Status);
            await CommandAsync("backup-keys", keys);
        }

        // Another machine: the old sessions, and the newest copy of the keys.
        Directory.CreateDirectory(_folder["restored"]);
        File.Move(backup, _folder["restored/sessions.db"]);
        File.Move(keys, _folder["restored/sessions.db.keys"]);
        await using var restored = Start(("sessions:db_path", _folder["restored/sessions.db"]));
        Assert.Equal(404, (await restored.GetAsync("/sessions/a")).Status);
        Assert.Equal(404, (await restored.GetAsync("/sessions/a/history")).Status);
        Assert.Empty((await restored.GetAsync("/users/ada/sessions")).Json["sessions"]!.AsArray());
        Assert.Contains(Canary, (await restored.GetAsync("/sessions/b/history")).Text, StringComparison.Ordinal);

        // Whoever goes on with it starts anew.
        var query = await restored.PostAsync("/query", """{"query":"hello","thread_id":"a","user_id":"ada"}""");
        Assert.Equal(1, (int)query.Json["metadata"]!["turn"]!);
        Assert.DoesNotContain(Canary, query.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Another_master_key_is_told_at_the_start_and_an_old_one_still_reads()
    {
        await using (var server = Start())
        {
            await TalkAsync(server, "a", "ada");
        }

        var newer = Convert.ToBase64String(RandomNumberGenerator.GetBytes(32));
        Assert.Contains("master key", await RefusedAsync(("ENCRYPTION__MASTER_KEY", newer)), StringComparison.Ordinal);
        await using (var server = Start(("encryption:master_key", $"{newer} {_master}")))
        {
            Assert.Contains(Canary, await EverythingAsync(server), StringComparison.Ordinal);
            var (rewrapped, all) = await server.Services.GetRequiredService<UserKeyRing>().RewrapAsync(TestStore.Cancel);
            Assert.Equal((2, 2), (rewrapped, all));
        }

        await using var last = Start(("encryption:master_key", newer));
        Assert.Contains(Canary, await EverythingAsync(last), StringComparison.Ordinal);
        Assert.Equal((0, 2), await last.Services.GetRequiredService<UserKeyRing>().RewrapAsync(TestStore.Cancel));
    }

    [Fact]
    public async Task It_is_not_turned_off_by_mistake_but_can_be_turned_on_late()
    {
        await using (var server = Start(("encryption:enabled", "false")))
        {
            // By the clock of the process that is to refuse it.
            server.Time.SetUtcNow(DateTimeOffset.UtcNow);
            await TalkAsync(server, "a", "ada");
        }

        Assert.Contains("rekey", await RefusedAsync(), StringComparison.Ordinal);
        await CommandAsync("rekey", "--encryption:enabled=true", $"--encryption:master_key={_master}");
        await using (var server = Start())
        {
            Assert.Contains(Canary, await EverythingAsync(server), StringComparison.Ordinal);
            Assert.Equal(2, (int)(await TalkAsync(server, "a", "ada")).Json["metadata"]!["turn"]!);
        }

        Assert.Contains("encryption.enabled", await RefusedAsync(("ENCRYPTION__ENABLED", "false")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "needs a master key")]
    [InlineData("c2hvcnQ=", "key 1 is not one")]
    public async Task A_master_key_that_is_none_is_told_without_being_shown(string key, string message)
    {
        var told = await RefusedAsync(("ENCRYPTION__MASTER_KEY", key));
        Assert.Contains(message, told, StringComparison.Ordinal);
        Assert.True(key.Length == 0 || !told.Contains(key, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Memory_has_nothing_to_encrypt() =>
        Assert.Contains("not memory", await RefusedAsync(("SESSIONS__STORAGE_TYPE", "memory")), StringComparison.Ordinal);

    private SessionsServer Start(params (string Key, string Value)[] settings) => SessionsServer.Start(
        [("sessions:storage_type", "sqlite"), ("sessions:db_path", Path), ("encryption:enabled", "true"),
            ("encryption:master_key", _master), .. settings]);

    private async Task CommandAsync(params string[] command)
    {
        var (code, output) = await SqliteTests.RunAsync("dotnet",
            ["exec", typeof(ISessionStore).Assembly.Location, .. command, "--sessions:storage_type=sqlite", $"--sessions:db_path={Path}"]);
        Assert.True(code == 0, output);
    }

    private async Task<string> RefusedAsync(params (string Key, string Value)[] environment)
    {
        await using var process = ServiceProcess.Api(
            [("SESSIONS__STORAGE_TYPE", "sqlite"), ("SESSIONS__DB_PATH", Path), ("ENCRYPTION__ENABLED", "true"),
                ("ENCRYPTION__MASTER_KEY", _master), .. environment]);
        Assert.Equal(1, await process.ExitAsync());
        return string.Join('\n', process.Lines);
    }

    private static async Task<Answer> TalkAsync(SessionsServer server, string session, string user)
    {
        var answer = await server.PostAsync("/query",
            $$"""{"query":"my secret is {{Canary}}","thread_id":"{{session}}","user_id":"{{user}}"}""");
        Assert.Equal(200, answer.Status);
        Assert.Equal(200,
            (await server.SendAsync(HttpMethod.Patch, $"/sessions/{session}", $$$"""{"metadata":{"note":"{{{Canary}}}"}}""")).Status);
        return answer;
    }

    private static Task<string> EverythingAsync(SessionsServer server) =>
        server.Client.GetStringAsync("/users/ada/export", TestStore.Cancel);

    private IEnumerable<string> FilesWith(byte[] bytes) =>
        Directory.GetFiles(_folder.Path).Where(file => File.ReadAllBytes(file).AsSpan().IndexOf(bytes) >= 0);

    private static async Task<IEnumerable<string>> ReadAsync(IDatabase database, RedisKey key) => await database.KeyTypeAsync(key) switch
    {
        RedisType.Hash => (await database.HashGetAllAsync(key)).Select(entry => $"{entry.Name}={entry.Value}"),
        RedisType.List => (await database.ListRangeAsync(key)).Select(entry => (string)entry!),
        RedisType.SortedSet => (await database.SortedSetRangeByRankAsync(key)).Select(entry => (string)entry!),
        _ => [(string?)await database.StringGetAsync(key) ?? ""],
    };
}
