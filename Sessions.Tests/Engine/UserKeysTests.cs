using System.Security.Cryptography;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api.Storage.Postgres;
using StackExchange.Redis;

namespace Sessions.Tests.Engine;

/// <summary>What every place for users' keys keeps to.</summary>
public abstract class UserKeysContract
{
    private protected FakeTimeProvider Time { get; } = new(DateTimeOffset.UtcNow);

    private static CancellationToken Cancel => TestLog.Cancel;

    private protected abstract Task<IUserKeys> OpenAsync();

    [Fact]
    public async Task A_holder_gets_one_key_however_many_ask()
    {
        var keys = await OpenAsync();
        Assert.Empty(await keys.FindAsync("ada", Cancel));

        var added = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => keys.AddAsync("ada", NewKey(), null, Cancel).AsTask()));

        Assert.Single(added.Select(found => Assert.Single(found).Id).Distinct());
        Assert.Equal(added[0][0].Bytes, (await keys.FindAsync("ada", Cancel))[0].Bytes);
        Assert.Empty(await keys.FindAsync("bob", Cancel));
        Assert.Empty(await keys.FindAsync("", Cancel));
    }

    [Fact]
    public async Task A_new_key_comes_first_and_the_former_one_stays_until_it_is_removed()
    {
        var keys = await OpenAsync();
        var (first, second) = (NewKey(), NewKey());
        await keys.AddAsync("ada", first, null, Cancel);

        Assert.Equal([second.Id, first.Id], (await keys.AddAsync("ada", second, first.Id, Cancel)).Select(key => key.Id));
        Assert.Equal(2, (await keys.AddAsync("ada", NewKey(), first.Id, Cancel)).Count);
        await keys.RemoveAsync("ada", first.Id, Cancel);

        Assert.Equal([second.Id], (await keys.FindAsync("ada", Cancel)).Select(key => key.Id));
        Assert.False(await keys.WasDestroyedAsync(first.Id, Cancel));
    }

    [Fact]
    public async Task A_key_is_replaced_by_itself_alone_and_never_kept_shorter()
    {
        var keys = await OpenAsync();
        var key = NewKey();
        await keys.AddAsync("ada", key, null, Cancel);
        var wrapped = RandomNumberGenerator.GetBytes(68);
        await keys.ReplaceAsync("ada", key with { Bytes = wrapped, KeptUntil = key.KeptUntil - TimeSpan.FromHours(1) }, Cancel);
        await keys.ReplaceAsync("ada", NewKey(), Cancel);
        await keys.ReplaceAsync("bob", NewKey(), Cancel);

        var found = Assert.Single(await keys.FindAsync("ada", Cancel));
        Assert.Equal(wrapped, found.Bytes);
        Assert.True(found.KeptUntil >= key.KeptUntil - TimeSpan.FromMilliseconds(1));
        Assert.Empty(await keys.FindAsync("bob", Cancel));
    }

    [Fact]
    public async Task Destroyed_keys_leave_tombstones_and_others_stay()
    {
        var keys = await OpenAsync();
        var (first, second, bobs) = (NewKey(), NewKey(), NewKey());
        await keys.AddAsync("ada", first, null, Cancel);
        await keys.AddAsync("ada", second, first.Id, Cancel);
        await keys.AddAsync("bob", bobs, null, Cancel);

        await keys.DestroyAsync("ada", Cancel);
        await keys.DestroyAsync("nobody at all", Cancel);

        Assert.Empty(await keys.FindAsync("ada", Cancel));
        Assert.True(await keys.WasDestroyedAsync(first.Id, Cancel));
        Assert.True(await keys.WasDestroyedAsync(second.Id, Cancel));
        Assert.False(await keys.WasDestroyedAsync(bobs.Id, Cancel));
        Assert.False(await keys.WasDestroyedAsync(Guid.NewGuid(), Cancel));
        Assert.Equal(bobs.Id, Assert.Single(await keys.FindAsync("bob", Cancel)).Id);

        var anew = NewKey();
        Assert.Equal(anew.Id, Assert.Single(await keys.AddAsync("ada", anew, null, Cancel)).Id);
    }

    [Fact]
    public async Task All_of_them_are_read()
    {
        var keys = await OpenAsync();
        HashSet<(string, Guid)> all = [];
        foreach (var holder in (string[])["", "ada", "{b}*[ob]", "ü"])
        {
            var (first, second) = (NewKey(), NewKey());
            await keys.AddAsync(holder, first, null, Cancel);
            await keys.AddAsync(holder, second, first.Id, Cancel);
            all.UnionWith([(holder, first.Id), (holder, second.Id)]);
        }

        HashSet<(string, Guid)> read = [];
        await foreach (var (holder, key) in keys.ReadAllAsync(Cancel))
        {
            read.Add((holder, key.Id));
        }

        Assert.Equal(all, read);
        Assert.False(await keys.IsAllSealedAsync(Cancel));
        await keys.SetAllSealedAsync(Cancel);
        Assert.True(await keys.IsAllSealedAsync(Cancel));
    }

    private WrappedKey NewKey() => new(Guid.NewGuid(), RandomNumberGenerator.GetBytes(68), Time.GetUtcNow() + TimeSpan.FromDays(2));
}

public sealed class SqliteUserKeysTests : UserKeysContract, IDisposable
{
    private readonly TestFolder _folder = new();
    private SqliteUserKeys? _keys;

    public void Dispose()
    {
        _keys?.Dispose();
        _folder.Dispose();
    }

    private protected override Task<IUserKeys> OpenAsync() =>
        Task.FromResult<IUserKeys>(_keys = new SqliteUserKeys(SqliteFile.Prepare(_folder["sessions.db"]).Path));
}

public sealed class RedisUserKeysTests(RedisFixture redis) : UserKeysContract, IAsyncDisposable
{
    private ConnectionMultiplexer? _connection;

    public async ValueTask DisposeAsync()
    {
        if (_connection is not null)
        {
            await _connection.DisposeAsync();
        }
    }

    private protected override async Task<IUserKeys> OpenAsync()
    {
        var connection = await redis.NewDatabaseAsync();
        _connection = await ConnectionMultiplexer.ConnectAsync(connection);
        return new RedisUserKeys(RedisFixture.NewCommands(_connection), _connection.GetDatabase(), "a*[b]:", Time);
    }
}

public sealed class PostgresUserKeysTests(PostgresFixture postgres) : UserKeysContract, IAsyncDisposable
{
    private PostgresDatabase? _database;

    [Fact]
    public async Task What_was_kept_for_long_enough_goes_and_the_rest_stays()
    {
        var keys = await OpenAsync();
        var now = Time.GetUtcNow();
        var (old, destroyed, young) = (NewKey(now), NewKey(now), NewKey(now + TimeSpan.FromHours(1)));
        await keys.AddAsync("ada", old, null, TestLog.Cancel);
        await keys.AddAsync("bob", destroyed, null, TestLog.Cancel);
        await keys.DestroyAsync("bob", TestLog.Cancel);
        await keys.AddAsync("cai", young, null, TestLog.Cancel);

        await keys.RemoveExpiredAsync(now, TestLog.Cancel);

        Assert.Empty(await keys.FindAsync("ada", TestLog.Cancel));
        Assert.False(await keys.WasDestroyedAsync(destroyed.Id, TestLog.Cancel));
        Assert.Equal(young.Id, Assert.Single(await keys.FindAsync("cai", TestLog.Cancel)).Id);

        static WrappedKey NewKey(DateTimeOffset until) => new(Guid.NewGuid(), RandomNumberGenerator.GetBytes(68), until);
    }

    [Fact]
    public async Task Keys_that_are_added_while_all_are_destroyed_are_destroyed_or_come_after()
    {
        var keys = await OpenAsync();
        for (var round = 0; round < 20; round++)
        {
            var (first, second) = (NewKey(), NewKey());
            await keys.AddAsync("ada", first, null, TestLog.Cancel);
            await Task.WhenAll(
                keys.AddAsync("ada", second, first.Id, TestLog.Cancel).AsTask(), keys.DestroyAsync("ada", TestLog.Cancel).AsTask());

            // It follows one that is gone, so it can't have come later.
            Assert.Empty(await keys.FindAsync("ada", TestLog.Cancel));
        }

        WrappedKey NewKey() => new(Guid.NewGuid(), RandomNumberGenerator.GetBytes(68), Time.GetUtcNow() + TimeSpan.FromDays(2));
    }

    public async ValueTask DisposeAsync()
    {
        if (_database is not null)
        {
            await _database.DisposeAsync();
        }
    }

    private protected override async Task<IUserKeys> OpenAsync()
    {
        _database = PostgresConnection.Open(PostgresConnectionString.Parse(await postgres.NewSchemaAsync()));
        return new PostgresUserKeys(_database);
    }
}
