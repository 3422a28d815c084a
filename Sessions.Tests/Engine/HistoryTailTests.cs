using Microsoft.Extensions.Time.Testing;

namespace Sessions.Tests.Engine;

/// <summary>What is remembered is used while the store says that it still holds, and never longer.</summary>
public sealed class HistoryTailTests
{
    private static CancellationToken Cancel => TestLog.Cancel;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_next_turn_is_given_what_is_remembered(bool isEncrypted)
    {
        await using var log = TestLog.Open(isEncrypted ? TestLog.NewMaster() : null);
        for (var i = 1; i <= 5; i++)
        {
            await log.TurnAsync("a", "ada", $"q{i}");
        }

        Assert.Equal(["q1", "q2", "q3", "q4", "q5"], await log.HistoryAsync("a"));
        Assert.Equal(OpenStatus.Unchanged, log.Counting.Opened[^1].Status);
        Assert.Equal(["q4", "q5"], await log.HistoryAsync("a", turns: 2));
        Assert.Empty(await log.HistoryAsync("a", turns: 0));
        await using var cut = await log.BeginAsync("a", bytes: 20);
        Assert.True(cut.IsCut);
        Assert.Equal(["q4", "q5"], cut.History.Select(turn => turn.Input.ToString()));
    }

    [Fact]
    public async Task Turns_of_another_process_follow_what_is_remembered()
    {
        await using var log = TestLog.Open();
        await using var other = TestLog.Open(on: log);
        await log.TurnAsync("a", query: "q1");
        await log.TurnAsync("a", query: "q2");
        await other.TurnAsync("a", query: "q3");

        Assert.Equal(["q1", "q2", "q3"], await log.HistoryAsync("a"));
        Assert.True(log.Counting.Opened[^1].FollowsRemembered);
        await log.TurnAsync("a", query: "q4");
        Assert.Equal(["q1", "q2", "q3", "q4"], await other.HistoryAsync("a"));
    }

    [Fact]
    public async Task What_was_changed_deleted_or_made_anew_elsewhere_is_not_taken_for_what_is_remembered()
    {
        await using var log = TestLog.Open();
        await using var other = TestLog.Open(on: log);
        var turn = await log.TurnAsync("a", query: "q1");
        await log.TurnAsync("a", query: "q2");
        await other.Log.DeleteItemAsync(new ItemId((await log.GetAsync("a"))!.Key, turn.Nonce, ItemSide.Input, 0), Owner.Anyone, Cancel);
        Assert.Equal(["[null]", "q2"], await log.HistoryAsync("a"));

        await other.Log.DeleteAsync(SessionRef.ById("a"), Owner.Anyone, Cancel);
        Assert.Empty(await log.HistoryAsync("a"));
        await other.TurnAsync("a", query: "anew");
        Assert.Equal(["anew"], await log.HistoryAsync("a"));
    }

    [Fact]
    public async Task More_than_is_remembered_is_read()
    {
        await using var log = TestLog.Open();
        await using var other = TestLog.Open(on: log);
        for (var i = 1; i <= 4; i++)
        {
            await other.TurnAsync("a", query: $"q{i}");
        }

        await using (var begun = await log.BeginAsync("a", turns: 1))
        {
            await log.Log.CommitAsync(begun, TestLog.NewTurn(TestLog.Text("q5"), TestLog.Text("r")), null, Cancel);
        }

        Assert.Equal(["q1", "q2", "q3", "q4", "q5"], await log.HistoryAsync("a"));
    }

    [Fact]
    public async Task An_edited_turn_has_its_own_path()
    {
        await using var log = TestLog.Open();
        await log.TurnAsync("a", query: "q1");
        await log.TurnAsync("a", query: "q2");
        var edited = await log.TurnAsync("a", query: "q2b", after: 1);

        Assert.Equal((3, 1, 3), (edited.Number, edited.Parent, edited.RunStart));
        Assert.Equal(["q1", "q2b"], await log.HistoryAsync("a"));
        await using var begun = await log.BeginAsync("a", after: 2, turns: 0);
        Assert.Empty(begun.History);
        Assert.Equal(4, (await log.Log.CommitAsync(begun, TestLog.NewTurn(TestLog.Text("q3"), TestLog.Text("r")), null, Cancel))!.RunStart);
        Assert.Equal(["q1", "q2", "q3"], await log.HistoryAsync("a"));
        Assert.Equal("no_such_turn",
            (await Assert.ThrowsAsync<DomainException>(async () => await log.BeginAsync("a", after: 9))).Error.Code);
    }

    [Fact]
    public async Task With_encryption_it_is_used_only_while_the_key_is_there()
    {
        await using var log = TestLog.Open(TestLog.NewMaster());
        await log.TurnAsync("a", "ada", "q1");
        Assert.NotNull(log.Tail!.Find(SessionRef.ById("a")));

        // As another process does it, of which nothing is told here.
        await log.Keys.DestroyAsync("ada", Cancel);

        Assert.Null(await log.GetAsync("a"));
        Assert.Empty(await log.HistoryAsync("a"));
        Assert.Null(log.Tail.Find(SessionRef.ById("a")));
    }

    [Fact]
    public async Task What_is_removed_here_is_out_of_the_memory_before_it_is_answered()
    {
        await using var log = TestLog.Open();
        await log.TurnAsync("a", "ada");
        await log.TurnAsync("b", "ada");
        await log.Log.DeleteAsync(SessionRef.ById("a"), Owner.Anyone, Cancel);
        Assert.Null(log.Tail!.Find(SessionRef.ById("a")));
        await log.Log.EraseAsync("ada", Cancel);
        Assert.Equal(0, log.Tail.Bytes);
    }

    [Fact]
    public async Task What_was_deleted_while_a_turn_was_committed_is_not_remembered()
    {
        await using var log = TestLog.Open();
        await using var other = TestLog.Open(on: log);
        var first = await log.TurnAsync("a", query: "secret");
        var key = (await log.GetAsync("a"))!.Key;
        await using var begun = await log.BeginAsync("a");
        await log.Log.DeleteItemAsync(new ItemId(key, first.Nonce, ItemSide.Input, 0), Owner.Anyone, Cancel);

        await log.Log.CommitAsync(begun, TestLog.NewTurn(TestLog.Text("q2"), TestLog.Text("r")), null, Cancel);

        Assert.DoesNotContain("secret", (log.Tail!.Find(SessionRef.ById("a"))?.Turns ?? []).Select(turn => turn.Input.ToString()));
        Assert.Equal(["[null]", "q2"], await log.HistoryAsync("a"));
    }

    [Fact]
    public void It_is_bounded_and_forgets_what_was_not_used_for_longest()
    {
        var tail = new HistoryTail(new FakeTimeProvider(TestLog.Start), maxBytes: 10_000);
        for (var i = 0; i < 100; i++)
        {
            tail.Put(NewTail($"s{i}", 1000));
            Assert.NotNull(tail.Find(SessionRef.ById("s0")));
            Assert.InRange(tail.Bytes, 1, 10_000);
        }

        Assert.NotNull(tail.Find(SessionRef.ById("s99")));
        Assert.Null(tail.Find(SessionRef.ById("s50")));
        tail.Put(NewTail("large", 20_000));
        Assert.Null(tail.Find(SessionRef.ById("large")));
    }

    [Fact]
    public void It_forgets_what_has_expired()
    {
        var time = new FakeTimeProvider(TestLog.Start);
        var tail = new HistoryTail(time);
        tail.Put(NewTail("a", 10));
        time.Advance(TimeSpan.FromHours(2));
        tail.RemoveExpired();
        Assert.Equal(0, tail.Bytes);
    }

    [Fact]
    public async Task An_entry_outside_of_the_process_comes_back_whole_and_nothing_else_is_taken()
    {
        var tail = NewTail("a", 10);
        var entry = TailCodec.Write(tail, null);

        Assert.Equal(tail.Turns, (await TailCodec.ReadAsync(entry, tail.Session, null))!, ArchiveTests.TurnComparer);
        Assert.Null(await TailCodec.ReadAsync(entry, tail.Session with { Revision = tail.Session.Revision.Next() }, null));
        for (var length = 0; length < entry.Length; length++)
        {
            await Assert.ThrowsAsync<InvalidDataException>(
                async () => await TailCodec.ReadAsync(entry.AsMemory(0, length), tail.Session, null));
        }
    }

    [Fact]
    public async Task An_entry_outside_of_the_process_is_sealed()
    {
        await using var log = TestLog.Open(TestLog.NewMaster());
        using var scope = await log.Sealer!.For("ada", Cancel).ForWritingAsync();
        var tail = NewTail("a", 10);
        var entry = TailCodec.Write(tail, scope.WritingKey);

        Assert.Equal(tail.Turns, (await TailCodec.ReadAsync(entry, tail.Session, scope))!, ArchiveTests.TurnComparer);
        Assert.Null(await TailCodec.ReadAsync(TailCodec.Write(tail, null), tail.Session, scope));
        entry[^1] ^= 1;
        await Assert.ThrowsAsync<InvalidDataException>(async () => await TailCodec.ReadAsync(entry, tail.Session, scope));
    }

    private static Tail NewTail(string id, int bytes)
    {
        var turn = TestLog.NewTurn(TestLog.Text(new string('x', bytes)), TestLog.Text("r")) with
        {
            Number = 1,
            RunStart = 1,
            Nonce = TurnNonce.New(1),
        };
        return new Tail(new Session
        {
            Id = id,
            Key = SessionKey.New(),
            CreatedAt = TestLog.Start,
            LastActivityAt = TestLog.Start,
            ExpiresAt = TestLog.Start + TimeSpan.FromHours(24),
            Revision = Revision.First(),
            CreatedFrom = SessionOrigin.Query,
            TurnCount = 1,
            LastTurn = turn,
        }, [turn], []);
    }
}
