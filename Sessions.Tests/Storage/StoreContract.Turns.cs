using System.Text;

namespace Sessions.Tests.Storage;

/// <content>Turns, failures, and what is deleted out of turns.</content>
public abstract partial class StoreContract
{
    [Fact]
    public async Task A_history_without_a_bound_is_the_whole_of_it()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        await store.TurnAsync("a");

        var opened = await store.BeginAsync("a", history: int.MaxValue);

        Assert.Equal(OpenStatus.Opened, opened.Status);
        Assert.Equal([1, 2], opened.Turns.Select(turn => turn.Number));
    }

    [Fact]
    public async Task A_turn_on_no_session_creates_it_when_it_commits_and_not_before()
    {
        await using var store = await OpenAsync();

        var opened = await store.BeginAsync("a", "user");
        Assert.Equal(OpenStatus.Opened, opened.Status);
        Assert.Null(opened.Session);
        Assert.Empty(opened.Turns);
        Assert.Null(await store.GetAsync("a"));
        var result = await store.AppendAsync(opened, "hello", "hi");

        Assert.Equal(WriteStatus.Written, result.Status);
        var session = (await store.GetAsync("a"))!;
        AssertSame(session with { LastTurn = null }, result.Session! with { LastTurn = null });
        AssertSame([session.LastTurn!], [result.Turn!]);
        Assert.Equal("user", session.UserId);
        Assert.Equal(SessionOrigin.Query, session.CreatedFrom);
        Assert.Equal((1, 1, 0, 1), (session.TurnCount, session.LastTurn!.Number, session.LastTurn.Parent, session.LastTurn.RunStart));
        Assert.Equal(1, session.Revision.Version);
        Assert.Equal(7, session.Bytes);
        Assert.Equal("hello", session.LastTurn.Input.ToString());
        Assert.True(session.LastTurn.StartedSession);
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_session_that_a_turn_creates_is_as_it_was_asked_for()
    {
        await using var store = await OpenAsync();
        var opened = await store.BeginAsync("a");
        var wanted = TestStore.New("a", "user", """{"k":1}""", SessionKind.Conversation);

        await store.Store.WriteAsync(opened, new AppendTurn(store.NewTurn(opened), 0)
        {
            Create = wanted,
            Summary = new Summary("short", 1),
        }, Cancel);

        var session = (await store.GetAsync("a"))!;
        Assert.Equal((wanted.Key, SessionKind.Conversation, "user", SessionOrigin.Api),
            (session.Key, session.Kind, session.UserId, session.CreatedFrom));
        Assert.Equal("""{"k":1}""", Encoding.UTF8.GetString(session.Metadata.Span));
        Assert.Equal(new Summary("short", 1), session.Summary);
        Assert.Equal(7 + 5 + 13, session.Bytes);
    }

    [Fact]
    public async Task What_is_let_go_of_leaves_no_trace()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("old", "user");
        var before = await store.GetAsync("old");

        await store.Store.ReleaseAsync(await store.BeginAsync("new", "user"));
        var opened = await store.BeginAsync("old", "user");
        await store.Store.ReleaseAsync(opened);
        await store.Store.ReleaseAsync(opened);

        Assert.Null(await store.GetAsync("new"));
        AssertSame(before, await store.GetAsync("old"));
        await store.TurnAsync("old", "user");
    }

    [Fact]
    public async Task Turns_keep_everything_they_were_committed_with()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", query: "first");
        var opened = await store.BeginAsync("a");
        var turn = store.NewTurn(opened, "q", "r") with
        {
            AgentType = "support",
            AgentUsed = "openai/gpt-5-mini",
            Model = "gpt-5-mini-2026",
            ExecutionTime = TimeSpan.FromMicroseconds(1234567),
            Usage = new TokenUsage(12, 0, 3, long.MaxValue),
            FinishReason = "length",
            HistoryTokens = 17,
            Status = TurnStatus.Incomplete,
            IncompleteReason = "max_output_tokens",
            Input = Items.OfJson("""[{"type":"message","role":"user","content":"q"}]"""u8.ToArray()),
            Output = Items.None,
            Response = """{"object":"response"}"""u8.ToArray(),
        };
        var result = await store.Store.WriteAsync(opened, TestStore.NewAppend(opened, turn), Cancel);
        var appended = turn with { Number = 2, RunStart = 1 };

        AssertSame([appended], [result.Turn!]);
        AssertSame([appended], (await store.TurnsAsync("a")).Skip(1));
        AssertSame([appended], [(await store.GetAsync("a"))!.LastTurn!]);
        var next = await store.BeginAsync("a");
        AssertSame([appended], next.Turns.Skip(1));
        await store.Store.ReleaseAsync(next);
        Assert.Equal(turn.Bytes + 13, (await store.GetAsync("a"))!.Bytes);
    }

    [Theory]
    [InlineData(nameof(TurnStatus.Appended), null, null)]
    [InlineData(nameof(TurnStatus.Incomplete), "cancelled", "a word of its own")]
    [InlineData(nameof(TurnStatus.Completed), null, "tool_calls")]
    public async Task Turns_keep_how_they_ended(string status, string? reason, string? finishReason)
    {
        await using var store = await OpenAsync();
        var opened = await store.BeginAsync("a");
        var turn = store.NewTurn(opened) with
        {
            Status = Enum.Parse<TurnStatus>(status),
            IncompleteReason = reason,
            FinishReason = finishReason,
            AgentType = "x",
            AgentUsed = "",
            Usage = new TokenUsage(null, null),
        };
        await store.Store.WriteAsync(opened, TestStore.NewAppend(opened, turn), Cancel);

        AssertSame([turn with { RunStart = 1 }], await store.TurnsAsync("a"));
    }

    [Theory]
    [InlineData(0, new int[0])]
    [InlineData(1, new[] { 5 })]
    [InlineData(3, new[] { 3, 4, 5 })]
    [InlineData(100, new[] { 1, 2, 3, 4, 5 })]
    public async Task A_turn_begins_with_as_many_of_the_last_turns_as_were_asked_for(int wanted, int[] numbers)
    {
        await using var store = await OpenAsync();
        for (var i = 1; i <= 5; i++)
        {
            await store.TurnAsync("a", query: $"q{i}");
        }

        var opened = await store.BeginAsync("a", history: wanted);

        Assert.Equal(numbers, opened.Turns.Select(turn => turn.Number));
        Assert.Equal(numbers.Select(number => $"q{number}"), opened.Turns.Select(turn => turn.Input.ToString()));
        Assert.Equal(5, opened.Session!.TurnCount);
        Assert.False(opened.IsCut);
        await store.Store.ReleaseAsync(opened);
    }

    [Theory]
    [InlineData(10, 0, new[] { 5 }, true)]
    [InlineData(10, 100, new[] { 5 }, true)]
    [InlineData(10, 199, new[] { 5 }, true)]
    [InlineData(10, 200, new[] { 4, 5 }, true)]
    [InlineData(2, 200, new[] { 4, 5 }, false)]
    [InlineData(10, 499, new[] { 2, 3, 4, 5 }, true)]
    [InlineData(10, 500, new[] { 1, 2, 3, 4, 5 }, false)]
    [InlineData(0, 0, new int[0], false)]
    public async Task A_turn_begins_with_as_many_of_them_as_fit(int wanted, int bytes, int[] numbers, bool isCut)
    {
        await using var store = await OpenAsync();
        for (var i = 1; i <= 5; i++)
        {
            await store.TurnAsync("a", query: new string('q', 60), response: new string('r', 40));
        }

        var opened = await store.Store.OpenAsync(
            new OpenRequest { Session = SessionRef.ById("a"), Owner = Owner.Anyone, HistoryTurns = wanted, HistoryBytes = bytes }, Cancel);

        Assert.Equal(numbers, opened.Turns.Select(turn => turn.Number));
        Assert.Equal(isCut, opened.IsCut);
    }

    [Fact]
    public async Task A_commit_moves_version_activity_and_expiry()
    {
        await using var store = await OpenAsync(lifetimeHours: 2);
        await store.TurnAsync("a");
        store.Time.Advance(TimeSpan.FromHours(1));
        await store.TurnAsync("a");

        var session = (await store.GetAsync("a"))!;
        Assert.Equal(2, session.Revision.Version);
        Assert.Equal(Start, session.CreatedAt);
        Assert.Equal(Start.AddHours(1), session.LastActivityAt);
        Assert.Equal(Start.AddHours(3), session.ExpiresAt);
    }

    [Fact]
    public async Task A_session_is_as_old_as_the_turn_that_created_it()
    {
        await using var store = await OpenAsync(lifetimeHours: 2);
        var opened = await store.BeginAsync("a");
        var turn = store.NewTurn(opened);
        store.Time.Advance(TimeSpan.FromSeconds(3));

        await store.Store.WriteAsync(opened, TestStore.NewAppend(opened, turn), Cancel);

        var session = (await store.GetAsync("a"))!;
        Assert.Equal(Start, session.CreatedAt);
        Assert.Equal(Start.AddSeconds(3), session.LastActivityAt);
        Assert.Equal(Start.AddSeconds(3).AddHours(2), session.ExpiresAt);
    }

    [Fact]
    public async Task A_summary_is_committed_with_a_turn_and_stays_until_the_next()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user");
        Assert.Null((await store.GetAsync("a"))!.Summary);

        await store.AppendAsync(await store.BeginAsync("a", "user"), summary: new Summary("what was said: שלום", 1));
        await store.TurnAsync("a", "user");
        Assert.Equal(new Summary("what was said: שלום", 1), (await store.GetAsync("a"))!.Summary);
        await store.AppendAsync(await store.BeginAsync("a", "user"), summary: new Summary("more", 3));

        var opened = await store.BeginAsync("a", "user");
        Assert.Equal(new Summary("more", 3), opened.Session!.Summary);
        Assert.Equal((4 * 13) + 4, opened.Session.Bytes);
        await store.Store.ReleaseAsync(opened);
        Assert.Equal(new Summary("more", 3), (await store.ForkAsync("a", "b", 3)).Session!.Summary);
        Assert.Null((await store.ForkAsync("a", "c", 2)).Session!.Summary);
    }

    [Fact]
    public async Task The_first_user_binds_an_unbound_session()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        Assert.Null((await store.GetAsync("a"))!.UserId);

        await store.TurnAsync("a", "user");

        Assert.Equal("user", (await store.GetAsync("a"))!.UserId);
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        Assert.Equal(OpenStatus.NotFound, (await store.BeginAsync("a", "other")).Status);
        await store.TurnAsync("a");
        Assert.Equal("user", (await store.GetAsync("a"))!.UserId);
    }

    [Fact]
    public async Task A_failed_turn_is_counted_and_recorded_and_not_in_the_log()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", "user", "good");
        store.Time.Advance(TimeSpan.FromHours(1));

        await store.FailAsync("a", "user", "first");
        var result = await store.FailAsync("a", "user", "second");

        Assert.Equal(WriteStatus.Written, result.Status);
        var session = (await store.GetAsync("a"))!;
        AssertSame(session with { LastTurn = null }, result.Session! with { LastTurn = null });
        Assert.Equal(2, session.ErrorCount);
        Assert.Equal("second", session.LastError);
        Assert.Equal(1, session.TurnCount);
        Assert.Equal("good", session.LastTurn!.Input.ToString());
        Assert.Equal(3, session.Revision.Version);
        Assert.Equal(Start.AddHours(25), session.ExpiresAt);
        Assert.Single(await store.TurnsAsync("a"));
        await store.TurnAsync("a", "user");
        Assert.Equal(2, (await store.GetAsync("a"))!.TurnCount);
    }

    [Fact]
    public async Task A_failed_turn_on_no_session_creates_it_empty()
    {
        await using var store = await OpenAsync();

        await store.FailAsync("a", "user", "why");

        var session = (await store.GetAsync("a"))!;
        Assert.Equal("user", session.UserId);
        Assert.Equal(0, session.TurnCount);
        Assert.Equal(1, session.ErrorCount);
        Assert.Equal("why", session.LastError);
        Assert.Equal(1, session.Revision.Version);
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        Assert.False((await store.TurnAsync("a", "user")).StartedSession);
    }

    [Fact]
    public async Task A_failed_turn_binds_nobody()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");

        await store.FailAsync("a", "user");

        Assert.Null((await store.GetAsync("a"))!.UserId);
        Assert.Equal(1, (await store.GetAsync("a"))!.ErrorCount);
        Assert.Empty(await store.ListIdsAsync("user"));
    }

    [Fact]
    public async Task A_failed_turn_never_costs_the_user_another_session()
    {
        await using var store = await OpenAsync(maxPerUser: 1);
        await store.TurnAsync("a", "user");

        await store.FailAsync("b", "user");

        Assert.Null(await store.GetAsync("b"));
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        await store.TurnAsync("b", "other");
    }

    [Fact]
    public async Task Of_two_turns_on_the_same_history_the_second_is_stale()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");

        var first = await store.BeginAsync("a");
        var second = await store.BeginAsync("a");
        Assert.SkipWhen(second.Status == OpenStatus.Busy, "This store lets only one turn begin at a time.");
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(first, "first")).Status);
        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(second, "second")).Status);

        Assert.Equal(2, (await store.GetAsync("a"))!.TurnCount);
        Assert.Equal("first", (await store.GetAsync("a"))!.LastTurn!.Input.ToString());
    }

    [Fact]
    public async Task Of_two_turns_that_would_create_a_session_the_second_is_stale()
    {
        await using var store = await OpenAsync();

        var first = await store.BeginAsync("a");
        var second = await store.BeginAsync("a");
        Assert.SkipWhen(second.Status == OpenStatus.Busy, "This store lets only one turn begin at a time.");
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(first, "first")).Status);
        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(second, "second")).Status);

        Assert.Single(await store.TurnsAsync("a"));
    }

    [Fact]
    public async Task A_turn_that_would_create_a_session_that_was_created_meanwhile_is_stale()
    {
        await using var store = await OpenAsync();
        var opened = await store.BeginAsync("a");
        await store.CreateAsync("a");
        var before = await store.GetAsync("a");

        Assert.Equal(WriteStatus.Stale, (await store.AppendAsync(opened)).Status);

        AssertSame(before, await store.GetAsync("a"));
    }

    [Fact]
    public async Task Changing_metadata_during_a_turn_does_not_stop_it()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a");
        var opened = await store.BeginAsync("a");
        Assert.Equal(WriteStatus.Written, (await store.ReplaceMetadataAsync(await store.ReadAsync("a"), "{\"k\":1}")).Status);

        var result = await store.AppendAsync(opened);

        Assert.Equal(WriteStatus.Written, result.Status);
        var session = (await store.GetAsync("a"))!;
        Assert.Equal(3, session.Revision.Version);
        Assert.Equal("{\"k\":1}", Encoding.UTF8.GetString(session.Metadata.Span));

        // Something lies between what was opened and what is there now: a head that is told at all is the whole one.
        if (result.Session is not null)
        {
            AssertSame(session with { LastTurn = null }, result.Session with { LastTurn = null });
        }
    }

    [Fact]
    public async Task A_turn_whose_items_were_deleted_keeps_nothing_of_them()
    {
        await using var store = await OpenAsync();
        for (var i = 1; i <= 3; i++)
        {
            await store.AppendAsync(await store.BeginAsync("a", "user"), $"query {i}", $"response {i}", i == 2 ? new Summary("short", 1)
                : null);
        }

        store.Time.Advance(TimeSpan.FromHours(1));
        var before = (await store.GetAsync("a"))!;
        foreach (var (number, dropSummary) in new[] { (3, false), (1, true), (2, false) })
        {
            var opened = await store.ReadAsync("a", history: 3);
            var stale = await store.ReadAsync("a");
            var turn = opened.Turns[number - 1] with
            {
                Input = Items.None,
                Output = Items.OfJson("[null]"u8.ToArray()),
                Response = default,
            };
            var result = await store.Store.WriteAsync(opened, new ReplaceTurn(turn, dropSummary), Cancel);

            Assert.Equal(WriteStatus.Written, result.Status);
            Assert.Equal(WriteStatus.Stale, (await store.Store.WriteAsync(stale, new ReplaceTurn(turn, dropSummary), Cancel)).Status);
            var session = (await store.GetAsync("a"))!;
            AssertSame(session with { LastTurn = null }, result.Session! with { LastTurn = null });
            AssertSame([turn], (await store.TurnsAsync("a")).Where(kept => kept.Number == number));
            Assert.Equal(dropSummary || number == 2, session.Summary is null);
        }

        var after = (await store.GetAsync("a"))!;
        Assert.Equal(before.Rewrites + 3, after.Rewrites);
        Assert.Equal(before.Revision.Version + 3, after.Revision.Version);
        Assert.Equal((before.LastActivityAt, before.ExpiresAt, before.TurnCount),
            (after.LastActivityAt, after.ExpiresAt, after.TurnCount));
        Assert.Equal(3 * 6, after.Bytes);
        Assert.True(after.LastTurn!.Input.IsNone);
        Assert.All(await store.TurnsAsync("a"), turn => Assert.Equal("[null]", turn.Output.ToString()));
        Assert.Equal(Enumerable.Range(1, 3), (await store.TurnsAsync("a")).Select(turn => turn.Number));
        Assert.DoesNotContain(await store.ExportAsync(), entry => entry.Turn?.Turn.Input.IsNone == false);
        await store.TurnAsync("a", "user");
        Assert.Equal([1, 2, 3, 4], (await store.PathAsync("a")).Select(turn => turn.Number));
    }

    [Fact]
    public async Task A_summary_that_was_made_of_what_was_deleted_meanwhile_is_not_kept()
    {
        await using var store = await OpenAsync();
        await store.TurnAsync("a", query: "secret");
        var running = await store.BeginAsync("a");
        var opened = await store.ReadAsync("a", history: 1);
        await store.Store.WriteAsync(opened, new ReplaceTurn(opened.Turns[0] with { Input = Items.None }, DropSummary: true), Cancel);

        var result = await store.AppendAsync(running, summary: new Summary("the secret", 1));

        Assert.Equal(WriteStatus.Written, result.Status);
        Assert.Null((await store.GetAsync("a"))!.Summary);
        Assert.Equal(2, (await store.GetAsync("a"))!.TurnCount);
    }

    [Fact]
    public async Task A_beginning_turn_keeps_its_session_alive_until_it_can_end()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        await store.TurnAsync("a", "user");
        var before = (await store.GetAsync("a"))!;
        store.Time.Advance(TimeSpan.FromMinutes(30));
        await store.Store.ReleaseAsync(await store.BeginAsync("a", lease: TestStore.NewLease(TimeSpan.FromMinutes(30))));
        AssertSame(before, await store.GetAsync("a"));

        // Less is left than it needs.
        var opened = await store.BeginAsync("a", lease: TestStore.NewLease(TimeSpan.FromHours(3)));
        var extended = (await store.GetAsync("a"))!;
        AssertSame(extended, opened.Session);
        Assert.Equal(Start.AddMinutes(30).AddHours(3), extended.ExpiresAt);
        Assert.Equal(before.LastActivityAt, extended.LastActivityAt);
        Assert.NotEqual(before.Revision, extended.Revision);
        store.Time.Advance(TimeSpan.FromHours(3) - TimeSpan.FromMicroseconds(1));
        Assert.Equal(0, await store.Store.SweepAsync(Cancel));
        Assert.Equal(["a"], await store.ListIdsAsync("user"));
        Assert.Equal(WriteStatus.Written, (await store.AppendAsync(opened)).Status);
        var after = (await store.GetAsync("a"))!;
        Assert.Equal(2, after.TurnCount);
        Assert.Equal(after.LastActivityAt.AddHours(1), after.ExpiresAt);
        store.Time.Advance(TimeSpan.FromHours(1));
        Assert.Null(await store.GetAsync("a"));
        Assert.Equal(1, await store.Store.SweepAsync(Cancel));
    }

    [Fact]
    public async Task A_session_that_is_only_read_lives_no_longer_for_it()
    {
        await using var store = await OpenAsync(lifetimeHours: 1);
        await store.TurnAsync("a");
        var opened = await store.ReadAsync("a");
        store.Time.Advance(TimeSpan.FromHours(1));

        Assert.Equal(WriteStatus.Gone, (await store.ReplaceMetadataAsync(opened, "{}")).Status);
        Assert.Null(await store.GetAsync("a"));
    }

    [Fact]
    public async Task Concurrent_turns_on_one_session_leave_no_gap_and_no_double()
    {
        await using var store = await OpenAsync();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(client => Task.Run(async () =>
        {
            for (var i = 0; i < 10;)
            {
                var opened = await store.BeginAsync("a", history: 1);
                if (opened.Status == OpenStatus.Busy)
                {
                    await Task.Delay(1, Cancel);
                    continue;
                }

                Assert.Equal(OpenStatus.Opened, opened.Status);
                i += (await store.AppendAsync(opened, $"{client}-{i}")).Status == WriteStatus.Written ? 1 : 0;
            }
        }, Cancel)));

        var turns = await store.TurnsAsync("a");
        Assert.Equal(Enumerable.Range(1, 80), turns.Select(turn => turn.Number));
        Assert.Equal(80, turns.Select(turn => turn.Input.ToString()).Distinct().Count());
        Assert.Equal(80, (await store.GetAsync("a"))!.Revision.Version);
    }
}
