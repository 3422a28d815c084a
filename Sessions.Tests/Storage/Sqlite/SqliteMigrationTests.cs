using System.Globalization;
using Microsoft.Extensions.Time.Testing;
using Sessions.Api;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Storage;

/// <summary>A file of an earlier version becomes one of this version, with everything in it.</summary>
public sealed class SqliteMigrationTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private string Db => _folder["a.db"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Turns_of_version_1_are_linked_and_go_on()
    {
        var time = TimeProvider.System.GetUtcNow();
        MakeVersion1(time.ToMicroseconds());
        var clock = new FakeTimeProvider(time);
        SqliteFile.Prepare(Db);

        // As a server of version 1 that is still running would.
        Assert.ThrowsAny<Microsoft.Data.Sqlite.SqliteException>(() => SqliteTests.Execute(Db, """
            INSERT INTO turns (session, number, created_at, execution_us, started_session, agent_type, agent_used, query, response) VALUES (1, 41, 1, 1, 0, '', '', '', '')
            """));
        Assert.Equal("2", SqliteTests.Ask(Db, "PRAGMA user_version"));
        await using var sqlite = SqliteTests.Open(Db, new SessionSettings(), clock);
        var store = new TestStore(sqlite, clock, new SessionSettings());

        Assert.Equal(Queries("a", 1, 40), (await store.HistoryAsync("a")).Select(turn => $"{turn.Query}"));
        Assert.Equal(Queries("b", 1, 3), (await store.HistoryAsync("b")).Select(turn => $"{turn.Query}"));
        Assert.Empty(await store.HistoryAsync("empty"));
        Assert.Null((await store.GetAsync("empty"))!.LastTurn);
        Assert.Equal("a40", $"{(await store.GetAsync("a"))!.LastTurn!.Query}");
        var page = await sqlite.ReadHistoryAsync("a", Owner.Anyone, new TurnPageRequest(7, new PageCursor(11, ""), Descending: false), Cancel);
        Assert.Equal(Queries("a", 12, 7), page!.Items.Select(turn => $"{turn.Query}"));
        var replay = await store.BeginAsync("a", idempotency: new Idempotency(new Guid(Enumerable.Repeat((byte)5, 16).ToArray()), new Guid(Enumerable.Repeat((byte)1, 16).ToArray())));
        Assert.Equal("a5", $"{replay.Replay!.Query}");

        await store.TurnAsync("a", query: "a41");
        await store.TurnAsync("empty", query: "empty1");
        Assert.Equal(Queries("a", 1, 41), (await store.HistoryAsync("a")).Select(turn => $"{turn.Query}"));
        Assert.Equal("empty1", $"{(await store.GetAsync("empty"))!.LastTurn!.Query}");
        Assert.Equal(ForkStatus.Created, (await sqlite.ForkAsync("a", Owner.Anyone, 33, new NewSession("fork", null, default, SessionOrigin.Fork, null), Cancel)).Status);
        Assert.Equal(Queries("a", 1, 33), (await store.HistoryAsync("fork")).Select(turn => $"{turn.Query}"));
        foreach (var id in (string[])["a", "b", "fork"])
        {
            Assert.True(await sqlite.DeleteAsync(id, Owner.Anyone, Cancel));
        }

        Assert.Equal("1", SqliteTests.Ask(Db, "SELECT count(*) FROM turns"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(15)]
    [InlineData(16)]
    [InlineData(17)]
    [InlineData(100)]
    public async Task Every_page_of_a_history_is_found(int count)
    {
        var clock = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
        await using var sqlite = SqliteTests.Open(Db, new SessionSettings(), clock);
        var store = new TestStore(sqlite, clock, new SessionSettings());
        for (var i = 1; i <= count; i++)
        {
            // Others lie between.
            await store.TurnAsync("a", query: $"a{i}");
            await store.TurnAsync("b", query: $"b{i}");
        }

        foreach (var limit in (int[])[1, 5, 16, 1000])
        {
            foreach (var descending in (bool[])[false, true])
            {
                List<int> numbers = [];
                for (PageCursor? after = null; ;)
                {
                    var page = (await sqlite.ReadHistoryAsync("a", Owner.Anyone, new TurnPageRequest(limit, after, descending), Cancel))!;
                    Assert.All(page.Items, turn => Assert.Equal($"a{turn.Number}", $"{turn.Query}"));
                    numbers.AddRange(page.Items.Select(turn => turn.Number));
                    if ((after = page.Next) is null)
                    {
                        break;
                    }
                }

                var all = Enumerable.Range(1, count);
                Assert.Equal(descending ? all.Reverse() : all, numbers);
            }
        }
    }

    // As a server of that version leaves it: two sessions whose turns lie mixed, one without any.
    private void MakeVersion1(long now)
    {
        File.Create(Db).Dispose();
        using (var link = SqliteFile.Existing(Db).OpenWriter())
        {
            SqliteSchema.Migrate(link, to: 1);
        }

        foreach (var id in (string[])["a", "b", "empty"])
        {
            var turns = id switch { "a" => 40, "b" => 3, _ => 0 };
            SqliteTests.Execute(Db, string.Create(CultureInfo.InvariantCulture, $"""
                INSERT INTO sessions (id, created_at, created_from, last_activity_at, expires_at, version, turn_count, error_count)
                VALUES ('{id}', {now}, 'query', {now}, {now + 3_600_000_000}, {turns}, {turns}, 0)
                """));
        }

        for (var i = 1; i <= 40; i++)
        {
            foreach (var (key, id) in (ReadOnlySpan<(int, string)>)[(2, "b"), (1, "a")])
            {
                if (id == "a" || i <= 3)
                {
                    SqliteTests.Execute(Db, string.Create(CultureInfo.InvariantCulture, $"""
                        INSERT INTO turns (session, number, created_at, execution_us, started_session, agent_type, agent_used, request_key, request_body, query, response)
                        VALUES ({key}, {i}, {now}, 1, 0, 'advanced', 'builtin', x'{Convert.ToHexString([.. Enumerable.Repeat((byte)i, 16)])}', x'{Convert.ToHexString([.. Enumerable.Repeat((byte)1, 16)])}', '{id}{i}', 'r')
                        """));
                }
            }
        }
    }

    private static IEnumerable<string> Queries(string id, int first, int count) => Enumerable.Range(first, count).Select(i => string.Create(CultureInfo.InvariantCulture, $"{id}{i}"));
}
