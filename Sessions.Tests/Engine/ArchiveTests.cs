using System.IO.Pipelines;
using System.Text;
using System.Text.Json.Nodes;

namespace Sessions.Tests.Engine;

/// <summary>What is exported comes back whole, on the same version or from the one before.</summary>
public sealed class ArchiveTests
{
    private static CancellationToken Cancel => TestLog.Cancel;

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public async Task Everything_comes_back(bool fromEncrypted, bool toEncrypted)
    {
        await using var from = TestLog.Open(fromEncrypted ? TestLog.NewMaster() : null);
        await using var to = TestLog.Open(toEncrypted ? TestLog.NewMaster() : null);
        await FillAsync(from);
        var archive = await WriteAsync(from);

        Assert.Equal("Sessions imported: 3; turns: 6; there already: 0; expired: 0.", await ReadAsync(to, archive));
        Assert.Equal("Sessions imported: 0; turns: 0; there already: 3; expired: 0.", await ReadAsync(to, archive));

        Assert.Equal(SameBut(archive), SameBut(await WriteAsync(to)));
        foreach (var id in (string[])["a", "chain", "empty"])
        {
            var (before, after) = ((await from.GetAsync(id))!, (await to.GetAsync(id))!);
            Assert.Equal((before.Key, before.Kind, before.UserId, before.TurnCount, before.ErrorCount),
                (after.Key, after.Kind, after.UserId, after.TurnCount, after.ErrorCount));
            Assert.Equal(await from.TurnsAsync(id), await to.TurnsAsync(id), TurnComparer);
        }

        // And it goes on from there.
        Assert.Equal(["[null]", "q3b"], await to.HistoryAsync("a"));
        Assert.Equal(5, (await to.TurnAsync("a", "ada")).Number);
    }

    [Fact]
    public async Task Many_short_sessions_and_long_ones_between_them_come_back()
    {
        const int Sessions = 600;
        const int Long = 250;
        await using var from = TestLog.Open();
        await using var to = TestLog.Open();
        for (var i = 0; i < Sessions; i++)
        {
            await from.TurnAsync($"s{i}", $"u{i}");
            for (var turn = 1; i % 200 == 100 && turn < Long; turn++)
            {
                await from.TurnAsync($"s{i}", $"u{i}");
            }
        }

        var archive = await WriteAsync(from);
        var told = $"Sessions imported: {Sessions}; turns: {Sessions + (3 * (Long - 1))}; there already: 0; expired: 0.";
        Assert.Equal(told, await ReadAsync(to, archive));
        Assert.Equal(SameBut(archive), SameBut(await WriteAsync(to)));

        // What stands before a line that can't be read is there, wherever that is.
        await using var half = TestLog.Open();
        var lines = archive.Split('\n');
        var broken = string.Join('\n', lines[..^2].Append("{"));
        Assert.Contains("is not one that an export wrote",
            (await Assert.ThrowsAsync<InvalidDataException>(() => ReadAsync(half, broken))).Message, StringComparison.Ordinal);
        Assert.NotNull(await half.GetAsync("s0"));
        Assert.NotNull(await half.GetAsync($"s{Sessions - 2}"));
    }

    [Fact]
    public async Task A_users_export_has_the_same_form_and_can_be_imported()
    {
        await using var from = TestLog.Open();
        await using var to = TestLog.Open();
        await FillAsync(from);

        var export = await WriteAsync(from, "ada");

        Assert.Contains("\"session_id\":\"a\",\"turn\":{\"turn\":1,", export, StringComparison.Ordinal);
        Assert.Equal("Sessions imported: 2; turns: 6; there already: 0; expired: 0.", await ReadAsync(to, export));
        Assert.Null(await to.GetAsync("empty"));
    }

    [Fact]
    public async Task An_archive_of_the_version_before_is_read()
    {
        await using var log = TestLog.Open();
        var archive = await File.ReadAllTextAsync(Fixture("archive-1.ndjson"), Cancel);

        Assert.Equal("Sessions imported: 3; turns: 3; there already: 0; expired: 0.", await ReadAsync(log, archive));

        var first = (await log.GetAsync("first"))!;
        Assert.Equal(("ada", 2, 3L, SessionOrigin.Query), (first.UserId, first.TurnCount, first.Revision.Version, first.CreatedFrom));
        Assert.Equal("""{"topic":"übung","deep":{"a":[1,2.50,null]}}""", Encoding.UTF8.GetString(first.Metadata.Span));
        var turns = await log.TurnsAsync("first");
        Assert.Equal(["What is a \"quote\"?\nSecond line", "And now? 🙂"], turns.Select(turn => turn.Input.ToString()));
        Assert.Equal([34143, 2164], turns.Select(turn => (int)turn.ExecutionTime.TotalMicroseconds));
        Assert.Equal([true, false], turns.Select(turn => turn.StartedSession));
        Assert.Equal([TurnNonce.OfNumber(1), TurnNonce.OfNumber(2)], turns.Select(turn => turn.Nonce));
        Assert.Equal(1, (await log.GetAsync("second"))!.TurnCount);

        // Retries of that time are still answered.
        var key = new Idempotency(Guid.Parse("00d07b2b-4a03-f143-ea3d-9d07dbb9f791"), Guid.Parse("3f946c2c-2cd0-9afd-a260-413f4f102184"));
        await using var begun = await log.BeginAsync("first", "ada", key: key);
        Assert.Equal(1, begun.Replay!.Number);
    }

    [Fact]
    public async Task A_users_export_of_the_version_before_is_read()
    {
        await using var log = TestLog.Open();
        var export = await File.ReadAllTextAsync(Fixture("user-export-1.ndjson"), Cancel);

        Assert.Equal("Sessions imported: 2; turns: 2; there already: 0; expired: 0.", await ReadAsync(log, export));

        Assert.Equal("""{"topic":"übung","deep":{"a":[1,2.50,null]}}""",
            Encoding.UTF8.GetString((await log.GetAsync("first"))!.Metadata.Span));
        Assert.Equal([34143, 2164], (await log.TurnsAsync("first")).Select(turn => (int)turn.ExecutionTime.TotalMicroseconds));
    }

    [Fact]
    public async Task What_is_no_whole_export_is_refused()
    {
        await using var from = TestLog.Open();
        await FillAsync(from);
        var archive = await WriteAsync(from);
        var lines = archive.Split('\n');
        foreach (var broken in (string[])
        [
            string.Join('\n', lines[..^2]),
            archive[..(archive.Length / 2)],
            "{}",
            "no json",
            archive.Replace("\"turn\":2,", "\"turn\":3,", StringComparison.Ordinal),
            archive.Replace("\"kind\":\"chain\"", "\"kind\":\"other\"", StringComparison.Ordinal),

            // What could not be read here.
            archive.Replace("\"input\":[", "\"input\":[1,", StringComparison.Ordinal),
            archive.Replace("\"response_object\":{", "\"response_object\":{\"a\":\"\\ud800\",", StringComparison.Ordinal),
            archive.Replace("\"metadata\":{", "\"metadata\":{\"a\":\"\\ud800\",", StringComparison.Ordinal),
            archive.Replace("\"metadata\":{", "\"metadata\":{\"a\":1,\"a\":2,", StringComparison.Ordinal),
        ])
        {
            await using var to = TestLog.Open();
            await Assert.ThrowsAnyAsync<InvalidDataException>(() => ReadAsync(to, broken));
        }
    }

    [Fact]
    public async Task A_damaged_turn_leaves_its_place_in_an_export()
    {
        await using var from = TestLog.Open(TestLog.NewMaster(), hasTail: false);
        await from.TurnAsync("x", query: "q1");
        await from.TurnAsync("x", query: "q2");
        from.Tamper("UPDATE turns SET query_bytes = CAST(query_bytes || x'00' AS BLOB) WHERE number = 1");

        await using var to = TestLog.Open();
        Assert.Equal("Sessions imported: 1; turns: 2; there already: 0; expired: 0.", await ReadAsync(to, await WriteAsync(from)));
        var turns = await to.TurnsAsync("x");
        Assert.Equal((TurnStatus.Incomplete, "unreadable", true), (turns[0].Status, turns[0].IncompleteReason, turns[0].Input.IsNone));
        Assert.Equal("q2", turns[1].Input.ToString());
    }

    // A line break between two tokens of JSON is a space in an archive.
    internal static EqualityComparer<Turn> TurnComparer { get; } = EqualityComparer<Turn>.Create((one, other) =>
        OnOneLine(one!) with { Response = default } == OnOneLine(other!) with { Response = default }
            && one!.Response.Span.SequenceEqual(other!.Response.Span));

    private static Turn OnOneLine(Turn turn) => turn with
    {
        Input = turn.Input.Form == ItemsForm.Json ? TestLog.Json(turn.Input.ToString().Replace('\n', ' ')) : turn.Input,
    };

    private static string Fixture(string name) => Repository.File("Sessions.Tests", "Engine", "Fixtures", name);

    private static async Task FillAsync(TestLog log)
    {
        var first = await log.TurnAsync("a",
            TestLog.NewTurn(TestLog.Text("q1"), TestLog.Text("r1")) with { FinishReason = "stop", Model = "m", HistoryTokens = 7 }, "ada");
        await log.TurnAsync("a", TestLog.NewTurn(
            TestLog.Json("[\n  {\"type\":\"message\",\"role\":\"user\",\"content\":\"ü 🙂\"}\n]"),
            TestLog.Json("""[{"type":"function_call","arguments":"{\"a\": 1}"}]""")) with
        {
            Usage = new TokenUsage(1, 2, 3, 4),
            Response = Encoding.UTF8.GetBytes("""{"model":"m","temperature":1.0}"""),
        }, "ada");
        await log.TurnAsync("a", TestLog.NewTurn(Items.None, TestLog.Text("r3")) with { Status = TurnStatus.Appended }, "ada",
            summary: new Summary("sum", 2));
        await log.TurnAsync("a", TestLog.NewTurn(TestLog.Text("q3b"), TestLog.Text("")) with
        {
            Status = TurnStatus.Incomplete,
            IncompleteReason = "cancelled",
        }, "ada", after: 1);
        await log.Log.DeleteItemAsync(new ItemId((await log.GetAsync("a"))!.Key, first.Nonce, ItemSide.Input, 0), Owner.Anyone, Cancel);
        await log.Log.ChangeMetadataAsync(SessionRef.ById("a"), Owner.Anyone,
            _ => Encoding.UTF8.GetBytes("""{"k":"ü","n":1.50}"""), Cancel);
        await using (var begun = await log.BeginAsync("a", "ada"))
        {
            await log.Log.FailAsync(begun, "it failed", Cancel);
        }

        await log.TurnAsync("chain", "ada", kind: SessionKind.Chain);
        await using (var late = await log.BeginAsync("chain", "ada", after: 1, kind: SessionKind.Chain))
        {
            await log.Log.CommitAsync(late, TestLog.NewTurn(TestLog.Text("late"), TestLog.Text("r")), null, Cancel);
        }

        await log.Log.CreateAsync(TestLog.New("empty"), false, new Idempotency(Guid.NewGuid(), Guid.NewGuid()), Owner.Anyone, Cancel);
    }

    private static async Task<string> WriteAsync(TestLog log, string? userId = null)
    {
        using var stream = new MemoryStream();
        await Archive.ExportAsync(log.Log, userId, PipeWriter.Create(stream, new StreamPipeWriterOptions(leaveOpen: true)), Cancel);
        return Encoding.UTF8.GetString(stream.ToArray());
    }

    private static Task<string> ReadAsync(TestLog log, string archive) =>
        Archive.ImportAsync(log.Log, new MemoryStream(Encoding.UTF8.GetBytes(archive)), _ => { }, Cancel);

    // The order of sessions is free.
    private static SortedSet<string> SameBut(string archive) =>
        new(archive.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!.ToJsonString()));
}
