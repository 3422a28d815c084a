using System.Text.Json.Nodes;

namespace Sessions.Tests.Storage.Sqlite;

/// <summary>Several processes on one file, one of them killed while it works: what was answered is there, once, in order; and what was
/// removed stays so.</summary>
public sealed class SqliteProcessesTests : IDisposable
{
    private readonly TestFolder _folder = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private string Db => _folder["sessions.db"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_turn_that_another_server_was_faster_than_is_run_again_unless_it_is_streamed(bool streamed)
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        (string, string)[] settings = [("sessions:storage_type", "sqlite"), ("sessions:db_path", Db), .. model.Agent("model")];
        await using var one = SessionsServer.Start(settings);
        await using var two = SessionsServer.Start(settings);
        await one.QueryAsync("hello", "a");
        model.Reply = async (request, before, http) =>
        {
            // The other server is faster than the first answer.
            Task OvertakeAsync() => before == 0 ? two.QueryAsync("meanwhile", "a") : Task.CompletedTask;

            var answer = ChatCompletionsServer.Digest(ChatCompletionsServer.Asked(request));
            if (streamed)
            {
                await ChatCompletionsServer.StreamAsync(
                    http, [answer[..8], answer[8..]], number => number == 1 ? OvertakeAsync() : Task.CompletedTask);
                return;
            }

            await OvertakeAsync();
            await ChatCompletionsServer.AnswerAsync(http, answer);
        };
        var latest = ChatCompletionsServer.Digest(["hello", "meanwhile", "tell me"]);
        var body = $$"""{"query":"tell me","thread_id":"a","agent_type":"model","stream":{{(streamed ? "true" : "false")}}}""";
        (string, string) key = ("Idempotency-Key", "k");
        JsonNode answered;
        if (streamed)
        {
            await using (var reader = await EventReader.OpenAsync(one, body, key))
            {
                // The whole text, and yet nothing of it is kept: a client must not take it for said before "done".
                var events = await reader.RestAsync();
                Assert.Equal(
                    ChatCompletionsServer.Digest(["hello", "tell me"]),
                    string.Concat(events.Where(happened => happened.Name == "delta").Select(happened => (string)happened.Data["text"]!)));
                Assert.Equal(
                    ("error", "session_busy", 409),
                    (events[^1].Name, (string?)events[^1].Data["code"], (int)events[^1].Data["status"]!));
                Assert.Equal(["hello", "meanwhile"], await two.HistoryAsync("a"));
            }

            // Its key is not used up: the same request again is a turn, on what came meanwhile.
            await using var again = await EventReader.OpenAsync(one, body, key);
            var rest = await again.RestAsync();
            Assert.Equal("done", rest[^1].Name);
            answered = rest[^1].Data;
        }
        else
        {
            var answer = await one.PostAsync("/query", body, key);
            Assert.True(answer.Status == 200, answer.Text);
            answered = answer.Json;
        }

        Assert.Equal((3, latest), ((int)answered["metadata"]!["turn"]!, (string?)answered["response"]));
        Assert.Equal(2, model.Requests.Count);
        Assert.Equal(["hello", "meanwhile", "tell me"], await two.HistoryAsync("a"));
    }

    [Fact]
    public async Task Every_answered_turn_survives_a_kill()
    {
        const int Rounds = 6;
        const int AnsweredPerRound = 150;
        List<(string Session, string Query)> answered = [];
        for (var round = 0; round < Rounds; round++)
        {
            using var process = await SqliteProcess.StartAsync(Db);
            Assert.Equal("opened", await process.AskAsync("open"));
            await process.TellAsync($"turns r{round}");
            for (var i = 0; i < AnsweredPerRound; i++)
            {
                var words = (await process.ReadAsync()).Split(' ');
                Assert.Equal(2, words.Length);
                answered.Add((words[0], words[1]));
            }

            // In the middle of the next ones.
            process.Kill();
            while (await process.ReadAsync() is not "ended" and var told)
            {
                answered.Add((told.Split(' ')[0], told.Split(' ')[1]));
            }

            Assert.Equal("ok", SqliteTests.Ask(Db, "PRAGMA integrity_check"));
        }

        await using var store = SqliteTests.Open(Db);
        foreach (var session in answered.GroupBy(turn => turn.Session, turn => turn.Query))
        {
            var turns = await SqliteTests.HistoryAsync(store, session.Key);
            Assert.Equal(Enumerable.Range(1, turns.Count), turns.Select(turn => turn.Number));
            var stored = turns.Select(turn => $"{turn.Input}").ToList();
            Assert.Equal(stored.Count, stored.Distinct().Count());
            Assert.Equal(session, stored.Where(session.Contains));

            // What is more was on the disk when its answer was lost: one for each kill at the most.
            Assert.InRange(stored.Count - session.Count(), 0, Rounds);
            Assert.Equal(turns.Sum(turn => turn.Bytes), (await SqliteTests.GetAsync(store, session.Key))!.Bytes);
        }

        // The totals are those of what is there.
        Assert.Equal(8, (await store.CountAsync(Cancel)).ActiveSessions);
    }

    [Fact]
    public async Task A_new_file_can_be_opened_by_many_at_once_from_several_processes()
    {
        const int Each = 20;
        var processes = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => SqliteProcess.StartAsync(Db)));
        try
        {
            var opened = await Task.WhenAll(processes.Select(process => process.AskAsync($"open-many {Each}")));
            Assert.True(opened.All(answer => answer == $"{Each}"), string.Join(Environment.NewLine, opened));
        }
        finally
        {
            foreach (var process in processes)
            {
                process.Dispose();
            }
        }

        await using var store = SqliteTests.Open(Db);
        Assert.Equal(processes.Length * Each, (await store.CountAsync(Cancel)).ActiveSessions);
    }

    [Fact]
    public async Task Two_stores_on_one_file_keep_the_order_of_turns()
    {
        const int Each = 100;
        await using var one = SqliteTests.Open(Db);
        await using var two = SqliteTests.Open(Db);

        async Task RunAsync(SqliteSessionStore store)
        {
            for (var committed = 0; committed < Each;)
            {
                var status = await SqliteTests.TurnAsync(store, "shared", "user");
                Assert.True(status is WriteStatus.Written or WriteStatus.Stale, $"{status}");
                committed += status == WriteStatus.Written ? 1 : 0;
            }
        }

        await Task.WhenAll(Task.Run(() => RunAsync(one), Cancel), Task.Run(() => RunAsync(two), Cancel));

        Assert.Equal(Enumerable.Range(1, 2 * Each), (await SqliteTests.HistoryAsync(two, "shared")).Select(turn => turn.Number));
    }

    [Theory]
    [InlineData("deletes the session")]
    [InlineData("deletes the session by its key")]
    [InlineData("erases the user")]
    public async Task What_another_process_removes_while_its_first_turn_runs_does_not_come_back(string how)
    {
        await using var one = SqliteTests.Open(Db);
        await using var two = SqliteTests.Open(Db);
        var opened = await SqliteTests.BeginAsync(one, "a", "user");
        var append = TestStore.NewAppend(opened, SqliteTests.NewTurn(1));
        var other = await SqliteTests.BeginAsync(one, "b", "other");
        switch (how)
        {
            case "deletes the session":
                Assert.False(await two.DeleteAsync(SessionRef.ById("a"), Owner.Of("user"), Cancel));
                break;
            case "deletes the session by its key":
                Assert.False(await two.DeleteAsync(SessionRef.ByKey(append.Create!.Key), Owner.Of("user"), Cancel));
                break;
            default:
                await two.EraseAsync("user", Cancel);
                break;
        }

        Assert.Equal(WriteStatus.Gone, (await one.WriteAsync(opened, append, Cancel)).Status);
        Assert.Null(await SqliteTests.GetAsync(two, "a"));
        Assert.Equal(WriteStatus.Gone, (await one.WriteAsync(opened, new RecordFailure("failed", append.Create), Cancel)).Status);

        // Others', and what begins after it, come to be.
        Assert.Equal(WriteStatus.Written, await SqliteTests.CommitAsync(one, other));
        Assert.Equal(WriteStatus.Written, await SqliteTests.TurnAsync(one, "a", "user"));
    }

    [Fact]
    public async Task What_somebody_else_deletes_keeps_no_first_turn_from_its_owner()
    {
        await using var store = SqliteTests.Open(Db);
        var opened = await SqliteTests.BeginAsync(store, "a", "user");
        Assert.False(await store.DeleteAsync(SessionRef.ById("a"), Owner.Of("other"), Cancel));
        Assert.Equal(WriteStatus.Written, await SqliteTests.CommitAsync(store, opened));
    }

    [Fact]
    public async Task What_is_remembered_of_removals_names_nobody_and_is_forgotten()
    {
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(DateTimeOffset.UtcNow);
        await using var store = SqliteTests.Open(Db, time: time);
        await store.DeleteAsync(SessionRef.ById("canary-session"), Owner.Of("canary-user"), Cancel);
        await store.EraseAsync("canary-user", Cancel);
        Assert.Equal("2 16", SqliteTests.Ask(Db, "SELECT count(*) || ' ' || max(length(what)) FROM removals"));
        time.Advance(TimeSpan.FromHours(25));
        await store.SweepAsync(Cancel);
        Assert.Equal("0", SqliteTests.Ask(Db, "SELECT count(*) FROM removals"));
    }

    [Fact]
    public async Task What_is_remembered_of_removals_is_bounded_and_what_began_before_all_of_it_does_not_come_to_be()
    {
        await using var store = SqliteTests.Open(Db);
        var before = await SqliteTests.BeginAsync(store, "a", "user");
        await DeleteUnknownAsync(20);
        Assert.Equal("20", SqliteTests.Ask(Db, "SELECT count(*) FROM removals"));

        // As many more as there may be: what there is of them is old.
        SqliteTests.Execute(Db, $"UPDATE totals SET value = value + {SqliteUnitOfWork.MaxRemovals} WHERE name = 'removals'");
        var behind = await SqliteTests.BeginAsync(store, "b", "user");
        await DeleteUnknownAsync(3);
        Assert.Equal("3", SqliteTests.Ask(Db, "SELECT count(*) FROM removals"));

        Assert.Equal(WriteStatus.Gone, await SqliteTests.CommitAsync(store, before));
        Assert.Equal(WriteStatus.Written, await SqliteTests.CommitAsync(store, behind));

        async Task DeleteUnknownAsync(int count)
        {
            for (var i = 0; i < count; i++)
            {
                Assert.False(await store.DeleteAsync(SessionRef.ById(Guid.NewGuid().ToString()), Owner.Of("other"), Cancel));
            }
        }
    }
}
