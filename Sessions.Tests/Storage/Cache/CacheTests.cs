using System.Text;
using Sessions.Api;
using Sessions.ServiceDefaults;
using StackExchange.Redis;

namespace Sessions.Tests.Storage;

/// <summary>What the cache gives is what SQLite would give, whatever became of one or the other meanwhile; and what is removed is not in it either.</summary>
public sealed class CacheTests(RedisFixture redis) : IAsyncLifetime
{
    private readonly TestFolder _folder = new();
    private string _connection = "";
    private ConnectionMultiplexer _admin = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private IDatabase Database => _admin.GetDatabase();

    public async ValueTask InitializeAsync()
    {
        _connection = await redis.NewDatabaseAsync();
        _admin = await ConnectionMultiplexer.ConnectAsync(_connection);
    }

    public async ValueTask DisposeAsync()
    {
        await (_admin?.DisposeAsync() ?? default);
        _folder.Dispose();
    }

    [Fact]
    public async Task What_one_process_commits_another_finds_without_reading_it_from_the_disk()
    {
        await using var one = Open();
        await using var two = Open();
        await TurnsAsync(one, 3);
        SqliteTests.Execute(_folder["a.db"], "UPDATE turns SET query = 'from the disk'");

        var start = await two.Test.BeginAsync("a");
        var history = await two.Test.HistoryAsync("a");

        Assert.Equal(["hit", "hit"], two.Outcomes);
        Assert.Equal(["q1", "q2", "q3"], start.History.Select(turn => turn.Query.ToString()));
        Assert.Equal("q3", start.Session!.LastTurn!.Query.ToString());
        Assert.Equal(start.History, history);
    }

    [Fact]
    public async Task Older_turns_than_those_that_are_cached_come_from_the_disk()
    {
        await using var one = Open();
        for (var i = 1; i <= 9; i++)
        {
            var start = await one.Test.BeginAsync("a", history: 3);
            await one.Test.CommitAsync(start, $"q{i}");
        }

        SqliteTests.Execute(_folder["a.db"], "UPDATE turns SET query = query || '!'");

        await one.BeginsAsync("hit", ["q8", "q9"], 2);
        await one.BeginsAsync("hit", ["q3!", "q4!", "q5!", "q6!", "q7", "q8", "q9"], 7);
        Assert.Equal(["q1!", "q2!", "q3!", "q4!", "q5!", "q6!", "q7", "q8", "q9"], (await one.Test.HistoryAsync("a")).Select(turn => turn.Query.ToString()));
        var newest = await one.Store.ReadHistoryAsync("a", Owner.Anyone, new TurnPageRequest(4, null, Descending: true), Cancel);
        Assert.Equal(["q9", "q8", "q7", "q6!"], newest!.Items.Select(turn => turn.Query.ToString()));
    }

    [Fact]
    public async Task A_turn_that_asks_for_less_does_not_shrink_what_is_cached()
    {
        await using var one = Open();
        await TurnsAsync(one, 5);
        await one.Test.CommitAsync(await one.Test.BeginAsync("a", history: 1), "q6");
        SqliteTests.Execute(_folder["a.db"], "UPDATE turns SET query = 'from the disk'");

        await one.BeginsAsync("hit", ["q2", "q3", "q4", "q5", "q6"], 5);
    }

    [Theory]
    [InlineData("turn", "q1", "q2", "changed")]
    [InlineData("failure", "q1", "q2")]
    [InlineData("metadata", "q1", "q2")]
    [InlineData("anew", "changed", "changed")]
    [InlineData("deleted")]
    public async Task What_was_changed_past_the_cache_is_read_from_the_disk(string change, params string[] queries)
    {
        await using var one = Open();
        await using var plain = SqliteTests.Open(_folder["a.db"], time: one.Time);
        var past = new TestStore(plain, one.Time, new SessionSettings());
        await TurnsAsync(one, 2);

        switch (change)
        {
            case "turn":
                await past.TurnAsync("a", query: "changed");
                break;
            case "failure":
                await past.FailAsync("a");
                break;
            case "metadata":
                Assert.True((await plain.ReplaceMetadataAsync("a", Owner.Anyone, 2, "{\"k\":1}"u8.ToArray(), Cancel)).Replaced);
                break;
            case "anew":
                // To the same number of turns at the same moment.
                await plain.DeleteAsync("a", Owner.Anyone, Cancel);
                await past.TurnAsync("a", query: "changed");
                await past.TurnAsync("a", query: "changed");
                break;
            case "deleted":
                await plain.DeleteAsync("a", Owner.Anyone, Cancel);
                break;
        }

        var (expected, read) = (await past.GetAsync("a"), await one.Test.GetAsync("a"));
        Assert.Equal(expected?.Metadata.ToArray(), read?.Metadata.ToArray());
        Assert.Equal(expected is null ? null : expected with { Metadata = default }, read is null ? null : read with { Metadata = default });
        await one.BeginsAsync("stale", queries);
    }

    [Fact]
    public async Task A_file_that_was_put_back_to_an_earlier_state_is_not_given_what_came_after_it()
    {
        var (path, backup) = (_folder["a.db"], _folder["backup.db"]);
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(DateTimeOffset.UnixEpoch);
        await using (var before = new CachedStore(path, _connection, "", time: time, patient: true))
        {
            await before.Test.TurnAsync("a", query: "q1");
            await before.Sqlite.Writer.RunAloneAsync(tables => SqliteCheckpoints.Truncate(tables.Link), Cancel);
            File.Copy(path, backup);
            time.Advance(TimeSpan.FromSeconds(1));
            await before.Test.TurnAsync("a", query: "lost");
        }

        File.Copy(backup, path, overwrite: true);
        time.Advance(TimeSpan.FromSeconds(1));
        await using (var plain = SqliteTests.Open(path, time: time))
        {
            await new TestStore(plain, time, new SessionSettings()).TurnAsync("a", query: "q2");
        }

        await using var after = new CachedStore(path, _connection, "", time: time, patient: true);
        await after.BeginsAsync("stale", ["q1", "q2"]);
    }

    [Theory]
    [InlineData("nothing", "miss", false)]
    [InlineData("empty", "miss", true)]
    [InlineData("noise", "miss", true)]
    [InlineData("half", "miss", true)]
    [InlineData("another", "stale", false)]
    [InlineData("another type", "bypassed", true)]
    public async Task An_entry_that_is_not_what_it_should_be_is_as_if_there_were_none(string entry, string outcome, bool told)
    {
        await using var one = Open();
        await TurnsAsync(one, 2);
        await TurnsAsync(one, 2, "b");
        var sound = (byte[])(await Database.HashGetAsync("c:a", "data"))!;
        switch (entry)
        {
            case "nothing":
                await Database.KeyDeleteAsync("c:a");
                break;
            case "another type":
                await Database.KeyDeleteAsync("c:a");
                await Database.StringSetAsync("c:a", "text", TimeSpan.FromHours(1));
                break;
            default:
                await Database.HashSetAsync("c:a", "data", entry switch
                {
                    "empty" => (RedisValue)Array.Empty<byte>(),
                    "noise" => Encoding.UTF8.GetBytes(new string('x', 5000)),
                    "half" => sound[..(sound.Length / 2)],
                    _ => (await Database.HashGetAsync("c:b", "data")),
                });
                break;
        }

        await one.BeginsAsync(outcome, ["q1", "q2"]);
        Assert.Equal(told ? 1 : 0, one.Logged(72));
        Assert.Equal(0, one.Logged(70));

        // The next turns mend it.
        await ServiceProcess.UntilAsync(async () =>
        {
            await one.Test.TurnAsync("a");
            return (await one.BeginAsync()).Outcome == "hit";
        });
    }

    [Fact]
    public async Task What_is_removed_is_removed_from_the_cache_before_it_is_answered()
    {
        await using var one = Open(new SessionSettings { MaxSessionsPerUser = 2 });
        foreach (var (id, user) in new[] { ("deleted", "d"), ("erased1", "e"), ("erased2", "e"), ("evicted1", "v"), ("evicted2", "v"), ("evicted3", "v"), ("kept", "k") })
        {
            await one.Test.TurnAsync(id, user);
            one.Time.Advance(TimeSpan.FromSeconds(1));
        }

        Assert.Equal(["c:deleted", "c:erased1", "c:erased2", "c:evicted2", "c:evicted3", "c:kept"], Keys());
        await one.Store.CreateAsync(TestStore.New("another", "v"), Cancel);
        Assert.Equal(["c:deleted", "c:erased1", "c:erased2", "c:evicted3", "c:kept"], Keys());
        await one.Store.DeleteAsync("deleted", Owner.Anyone, Cancel);
        await one.Store.EraseUserAsync("e", Cancel);
        Assert.Equal(["c:evicted3", "c:kept"], Keys());
        Assert.Equal(ForkStatus.Created, (await one.Store.ForkAsync("another", Owner.Anyone, null, TestStore.New("fork"), Cancel)).Status);
        Assert.Equal(["c:kept"], Keys());
    }

    [Fact]
    public async Task A_session_that_is_removed_while_its_turn_is_being_cached_is_not_left_in_the_cache()
    {
        await using var one = Open(new SessionSettings { MaxSessionsPerUser = 1 });
        await using var two = Open();
        await one.Test.TurnAsync("old", "u");
        var removed = one.Sqlite.OnRemoved!;
        one.Sqlite.OnRemoved = async ids =>
        {
            // The turn is committed, and made room for itself; its session is deleted by another before it gets into the cache.
            await removed(ids);
            Assert.True(await two.Store.DeleteAsync("a", Owner.Anyone, Cancel));
        };

        await one.Test.TurnAsync("a", "u");

        Assert.Empty(Keys());
    }

    [Theory]
    [InlineData(24, 60)]
    [InlineData(0.5, 30)]
    public async Task An_entry_is_gone_before_its_session_expires(double timeoutHours, int minutes)
    {
        await using var one = Open(new SessionSettings { TimeoutHours = timeoutHours });
        await one.Test.TurnAsync("a");

        Assert.InRange((await Database.KeyTimeToLiveAsync("c:a"))!.Value, TimeSpan.FromMinutes(minutes - 1), TimeSpan.FromMinutes(minutes));
    }

    private CachedStore Open(SessionSettings? settings = null) => new(_folder["a.db"], _connection, "", settings, patient: true);

    private static async Task TurnsAsync(CachedStore store, int turns, string id = "a")
    {
        for (var i = 1; i <= turns; i++)
        {
            await store.Test.TurnAsync(id, query: $"q{i}");
        }
    }

    private IEnumerable<string> Keys() => _admin.GetServer(_admin.GetEndPoints()[0]).Keys(Database.Database).Select(key => (string)key!).Order(StringComparer.Ordinal);
}
