using System.Text;

namespace Sessions.Tests.Engine;

/// <summary>A deleted item leaves no byte: in the files, in what is remembered, in previews, exports and replays.</summary>
public sealed class ItemDeletionTests
{
    private const string Canary = "canary-Zw3q";

    private static CancellationToken Cancel => TestLog.Cancel;

    [Theory]
    [InlineData("""[{"a":1},{"b":[1,2]},null]""", 0, """[null,{"b":[1,2]},null]""")]
    [InlineData("""[ {"a":1} , {"b":[1,2]} ]""", 1, """[ {"a":1} , null ]""")]
    [InlineData("""[{"a":1},null]""", 1, null)]
    [InlineData("""[{"a":1}]""", 1, null)]
    [InlineData("[]", 0, null)]
    public void The_others_stay_byte_for_byte(string items, int index, string? left) =>
        Assert.Equal(left, ItemDeletion.Without(TestLog.Json(items), index)?.ToString());

    [Fact]
    public void A_text_is_one_item()
    {
        Assert.Equal("[null]", ItemDeletion.Without(TestLog.Text("x"), 0)?.ToString());
        Assert.Null(ItemDeletion.Without(TestLog.Text("x"), 1));
        Assert.Null(ItemDeletion.Without(Items.None, 0));
        Assert.Equal("[null,null]", ItemDeletion.WithoutAll(TestLog.Json("""[{"a":1},[2]]""")).ToString());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task No_byte_of_it_is_left(bool isEncrypted)
    {
        await using var log = TestLog.Open(isEncrypted ? TestLog.NewMaster() : null);
        var key = new Idempotency(Guid.NewGuid(), Guid.NewGuid());
        Turn turn;
        await using (var begun = await log.BeginAsync("a", "ada", key: key))
        {
            var items = TestLog.Json(
                $$"""[{"type":"message","role":"user","content":"{{Canary}}"},{"type":"message","role":"user","content":"stays"}]""");
            turn = (await log.Log.CommitAsync(begun, TestLog.NewTurn(items, TestLog.Text($"answer {Canary}")),
                new Summary($"summary {Canary}", 1), Cancel))!;
        }

        List<TurnNonce> told = [];
        log.Events.OnRewritten((_, nonce) =>
        {
            told.Add(nonce);
            return default;
        });
        var sessionKey = (await log.GetAsync("a"))!.Key;
        var item = new ItemId(sessionKey, turn.Nonce, ItemSide.Input, 0);
        Assert.Null(await log.Log.DeleteItemAsync(item, Owner.Of("bob"), Cancel));
        Assert.Null(await log.Log.DeleteItemAsync(item with { Index = 2 }, Owner.Anyone, Cancel));
        Assert.Null(await log.Log.DeleteItemAsync(item with { Nonce = TurnNonce.New(1) }, Owner.Anyone, Cancel));

        var session = await log.Log.DeleteItemAsync(item, Owner.Of("ada"), Cancel);
        Assert.NotNull(await log.Log.DeleteItemAsync(item with { Side = ItemSide.Output }, Owner.Of("ada"), Cancel));

        Assert.Equal("""[null,{"type":"message","role":"user","content":"stays"}]""", session!.LastTurn!.Input.ToString());
        Assert.Null(session.Summary);
        Assert.Equal([turn.Nonce, turn.Nonce], told);
        Assert.Null(await log.Log.DeleteItemAsync(item, Owner.Anyone, Cancel));
        Assert.False(log.IsInFiles(Canary));
        Assert.DoesNotContain(Canary, string.Concat(await log.HistoryAsync("a")), StringComparison.Ordinal);
        await using var replay = await log.BeginAsync("a", "ada", key: key);
        Assert.Equal("[null]", replay.Replay!.Output.ToString());
        Assert.Equal("stays", replay.Replay.Input.TextOf(ItemSide.Input).ToString());
        var export = await SealingTests.ExportAsync(log);
        Assert.DoesNotContain(export,
            entry => (entry.Turn?.Turn.Input.ToString() + entry.Turn?.Turn.Output).Contains(Canary, StringComparison.Ordinal));
        Assert.Equal(2, (await log.TurnAsync("a", "ada")).Number);
    }

    [Theory]
    [InlineData("chain", "[null]")]
    [InlineData("conversation", "query")]
    public async Task A_deleted_response_is_found_no_more(string kindName, string left)
    {
        var kind = SessionKinds.Parse(kindName);
        await using var log = TestLog.Open();
        var turn = await log.TurnAsync("a",
            TestLog.NewTurn(TestLog.Text("query"), TestLog.Text("answer")) with { Response = Encoding.UTF8.GetBytes("{}") }, kind: kind);
        var id = new ResponseId((await log.GetAsync("a"))!.Key, turn.Nonce);

        Assert.False(await log.Log.DeleteResponseAsync(id with { Nonce = TurnNonce.New(1) }, Owner.Anyone, Cancel));
        Assert.True(await log.Log.DeleteResponseAsync(id, Owner.Anyone, Cancel));
        Assert.False(await log.Log.DeleteResponseAsync(id, Owner.Anyone, Cancel));

        var found = (await log.Log.FindTurnAsync(id.Key, id.Nonce, Owner.Anyone, Cancel))!.Value.Turn;
        Assert.Equal((left, 0), (found.Input.ToString(), found.Response.Length));
    }

    [Fact]
    public async Task A_turn_of_a_chain_is_found_behind_others_that_came_first()
    {
        await using var log = TestLog.Open(hasTail: false);
        await log.TurnAsync("a", kind: SessionKind.Chain);
        await using var late = await log.BeginAsync("a", after: 1, kind: SessionKind.Chain);
        for (var i = 0; i < 150; i++)
        {
            await log.TurnAsync("a", query: $"q{i}", after: 1, kind: SessionKind.Chain);
        }

        var committed = await log.Log.CommitAsync(late, TestLog.NewTurn(TestLog.Text("late"), TestLog.Text("r")), null, Cancel);

        Assert.Equal((152, 1), (committed!.Number, committed.Parent));
        Assert.Equal(late.Nonce, committed.Nonce);
        var key = (await log.GetAsync("a"))!.Key;
        Assert.Equal("late", (await log.Log.FindTurnAsync(key, late.Nonce, Owner.Anyone, Cancel))!.Value.Turn.Input.ToString());
        Assert.Null(await log.Log.FindTurnAsync(key, TurnNonce.New(1), Owner.Anyone, Cancel));
        Assert.Null(await log.Log.FindTurnAsync(key, late.Nonce, Owner.Of("bob"), Cancel));
    }

    [Fact]
    public async Task Metadata_is_changed_on_what_it_was()
    {
        await using var log = TestLog.Open();
        await log.TurnAsync("a");
        var calls = 0;
        log.Counting.OnWrite = () => log.TurnAsync("a");

        var changed = await log.Log.ChangeMetadataAsync(SessionRef.ById("a"), Owner.Anyone, session =>
        {
            calls++;
            return Encoding.UTF8.GetBytes($$"""{"turns":{{session.TurnCount}}}""");
        }, Cancel);

        Assert.Equal((2, """{"turns":2}"""), (calls, Encoding.UTF8.GetString(changed!.Metadata.Span)));
        Assert.Equal("""{"turns":2}""", Encoding.UTF8.GetString((await log.GetAsync("a"))!.Metadata.Span));
        Assert.Equal(2, (await log.Log.ChangeMetadataAsync(SessionRef.ById("a"), Owner.Anyone, _ => null, Cancel))!.TurnCount);
        Assert.Null(await log.Log.ChangeMetadataAsync(SessionRef.ById("b"), Owner.Anyone, _ => null, Cancel));
    }
}
