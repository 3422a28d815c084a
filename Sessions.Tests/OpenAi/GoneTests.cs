using System.Net.Http.Json;
using System.Security.Cryptography;
using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

/// <summary>What was deleted from a conversation does not live on in what went on from one of its responses.</summary>
public sealed class GoneTests : IDisposable
{
    private const string Secret = "canary-77f1";

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("memory")]
    [InlineData("sqlite")]
    [InlineData("sqlite", true)]
    public async Task An_item_that_was_deleted_is_not_in_what_went_on_from_there(string store, bool encrypted = false)
    {
        await using var server = Start(store, encrypted);
        var (conversation, branch) = await BranchAsync(server);
        var items = (await server.GetAsync($"/v1/conversations/{conversation}/items?user_id=ada")).Json["data"]!.AsArray();

        foreach (var item in items.Where(item => item!.ToJsonString().Contains(Secret, StringComparison.Ordinal)))
        {
            Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}/items/{item!["id"]}?user_id=ada")).Status);
        }

        var next = await AskAsync(server, branch);
        Assert.Equal(200, next.Status);
        Assert.DoesNotContain(Secret, next.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("sqlite")]
    [InlineData("sqlite", true)]
    public async Task What_went_on_from_a_conversation_goes_with_it(string store, bool encrypted = false)
    {
        await using var server = Start(store, encrypted);
        var (conversation, branch) = await BranchAsync(server);

        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}?user_id=ada")).Status);

        Assert.Equal(404, (await server.GetAsync($"/v1/responses/{branch}?user_id=ada")).Status);
        Assert.InRange((await AskAsync(server, branch)).Status, 400, 404);
        Assert.DoesNotContain(Secret, (await server.GetAsync("/users/ada/export")).Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("sessions SET kind = 77 WHERE id")]
    [InlineData("turns SET details = x'ff' WHERE session = (SELECT key FROM sessions WHERE id", ")")]
    public async Task What_went_on_from_a_conversation_goes_with_it_also_where_some_of_it_can_not_be_read(string update, string end = "")
    {
        string conversation;
        string[] branches;
        await using (var server = Start("sqlite"))
        {
            (conversation, branches) = await BranchesAsync(server);
        }

        SqliteTests.Execute(_folder["sessions.db"], $"UPDATE {update} = (SELECT min(id) FROM sessions WHERE kind = 2){end}");
        await using (var server = Start("sqlite"))
        {
            var statuses = await Task.WhenAll(branches.Select(async branch => (await AskAsync(server, branch)).Status));
            Assert.Equal([200, 503], statuses.Order());
            Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}?user_id=ada")).Status);

            foreach (var branch in branches)
            {
                Assert.Equal(404, (await server.GetAsync($"/v1/responses/{branch}?user_id=ada")).Status);
            }

            Assert.DoesNotContain("Degraded", (await server.GetAsync("/health")).Text, StringComparison.Ordinal);
        }

        Assert.Equal("0", SqliteTests.Ask(_folder["sessions.db"], "SELECT count(*) FROM sessions"));
    }

    [Theory]
    [InlineData("kind = 77")]
    [InlineData("kind = 77", true)]
    [InlineData("created_from = 'zz'", true)]
    [InlineData("metadata = CAST('[]' AS BLOB)")]
    public async Task What_went_on_from_a_conversation_goes_with_it_also_where_that_can_not_be_read(string update, bool byOwnId = false)
    {
        string conversation;
        string[] branches;
        await using (var server = Start("sqlite"))
        {
            (conversation, branches) = await BranchesAsync(server);
        }

        if (byOwnId)
        {
            conversation = SqliteTests.Ask(_folder["sessions.db"], "SELECT id FROM sessions WHERE kind <> 2")!;
        }

        SqliteTests.Execute(_folder["sessions.db"], $"UPDATE sessions SET {update} WHERE kind <> 2");
        await using (var server = Start("sqlite"))
        {
            Assert.Equal(404, (await server.DeleteAsync($"/v1/conversations/{conversation}?user_id=bob")).Status);
            var deleted = await server.DeleteAsync($"/v1/conversations/{conversation}?user_id=ada");
            Assert.Equal((200, conversation), (deleted.Status, (string?)deleted.Json["id"]));
            foreach (var branch in branches)
            {
                Assert.Equal(404, (await server.GetAsync($"/v1/responses/{branch}?user_id=ada")).Status);
            }
        }
    }

    [Fact]
    public async Task An_item_is_deleted_from_all_that_went_on_from_there_but_what_can_not_be_read()
    {
        string conversation;
        string[] branches;
        await using (var server = Start("sqlite"))
        {
            (conversation, branches) = await BranchesAsync(server);
        }

        SqliteTests.Execute(
            _folder["sessions.db"], "UPDATE sessions SET kind = 77 WHERE id = (SELECT min(id) FROM sessions WHERE kind = 2)");
        await using (var server = Start("sqlite"))
        {
            var path = $"/v1/conversations/{conversation}/items";
            var items = (await server.GetAsync($"{path}?user_id=ada")).Json["data"]!.AsArray()
                .Where(item => item!.ToJsonString().Contains(Secret, StringComparison.Ordinal)).Select(item => (string)item!["id"]!);
            foreach (var item in items)
            {
                Assert.Equal(503, (await server.DeleteAsync($"{path}/{item}?user_id=ada")).Status);
            }

            Assert.DoesNotContain(Secret, (await server.GetAsync($"{path}?user_id=ada")).Text, StringComparison.Ordinal);
            var answers = await Task.WhenAll(branches.Select(branch => AskAsync(server, branch)));
            Assert.Equal([200, 503], answers.Select(answer => answer.Status).Order());
            Assert.All(answers, answer => Assert.DoesNotContain(Secret, answer.Text, StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task A_deletion_that_broke_off_is_finished_when_it_is_asked_for_again()
    {
        await using var log = TestLog.Open();
        await ForkAsync(log);
        for (var i = 0; i < 2; i++)
        {
            // With one of the chains, and then with the other.
            var left = 1;
            log.Counting.OnDelete = () =>
            {
                if (left-- == 0)
                {
                    throw new StoreUnavailableException("It is away.", TimeSpan.FromSeconds(1));
                }
            };
            await Assert.ThrowsAsync<StoreUnavailableException>(() => DeleteAsync().AsTask());
        }

        log.Counting.OnDelete = null;
        Assert.True(await DeleteAsync());
        Assert.Empty((await log.Store.ListAsync(
            new SessionPageRequest { Kind = SessionKind.Chain, Limit = 10 }, TestLog.Cancel)).Items);

        ValueTask<bool> DeleteAsync() => log.Log.DeleteAsync(SessionRef.ById("a"), Owner.Of("ada"), TestLog.Cancel);
    }

    [Fact]
    public async Task What_can_not_be_read_before_an_item_does_not_keep_it()
    {
        List<string> items = [];
        await using (var server = Start("sqlite"))
        {
            var conversation = (string)(await server.PostAsync("/v1/conversations?user_id=ada", "{}")).Json["id"]!;
            foreach (var item in (string[])
                ["""{"type":"reasoning","summary":[]}""", """{"role":"assistant","content":"a"}""", """{"role":"user","content":"b"}"""])
            {
                var path = $"/v1/conversations/{conversation}/items";
                var added = await server.PostAsync($"{path}?user_id=ada", $$"""{"items":[{{item}}]}""");
                items.Add($"{path}/{added.Json["first_id"]}?user_id=ada");
            }
        }

        SqliteTests.Execute(_folder["sessions.db"], "UPDATE turns SET details = x'ff' WHERE number = 1");
        await using (var server = Start("sqlite"))
        {
            Assert.Equal(503, (await server.GetAsync(items[0])).Status);
            var deleted = await server.DeleteAsync(items[1]);
            Assert.True(deleted.Status == 200, deleted.Text);
            Assert.Equal(404, (await server.GetAsync(items[1])).Status);
            Assert.Equal(200, (await server.GetAsync(items[2])).Status);
        }
    }

    [Fact]
    public async Task What_an_item_reference_has_copied_is_deleted_by_itself()
    {
        await using var server = Start("memory");
        var (source, _) = await BranchesAsync(server, 0);
        var other = (string)(await server.PostAsync("/v1/conversations?user_id=ada", "{}")).Json["id"]!;
        var original = (await server.GetAsync($"/v1/conversations/{source}/items?user_id=ada&order=asc")).Json["data"]![0]!["id"];
        Task<Answer> CopyAsync(string more) => server.PostAsync(
            "/v1/responses?user_id=ada", $$"""{"model":"advanced","input":[{"type":"item_reference","id":"{{original}}"}]{{more}}}""");
        var response = (string)(await CopyAsync("")).Json["id"]!;
        Assert.Equal(200, (await CopyAsync($",\"conversation\":\"{other}\"")).Status);

        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{source}?user_id=ada")).Status);

        var copy = (await server.GetAsync($"/v1/conversations/{other}/items?user_id=ada&order=asc")).Json["data"]![0]!;
        Assert.Equal($"I say {Secret}", (string?)copy["content"]![0]!["text"]);
        Assert.NotEqual((string?)original, (string?)copy["id"]);
        var input = await server.GetAsync($"/v1/responses/{response}/input_items?user_id=ada");
        Assert.Contains(Secret, input.Text, StringComparison.Ordinal);

        // What was answered tells it too, and goes with the response or as an item.
        Assert.Equal(200, (await server.DeleteAsync($"/v1/responses/{response}?user_id=ada")).Status);
        foreach (var item in (await server.GetAsync($"/v1/conversations/{other}/items?user_id=ada")).Json["data"]!.AsArray())
        {
            Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{other}/items/{item!["id"]}?user_id=ada")).Status);
        }

        Assert.DoesNotContain(Secret, (await server.GetAsync("/users/ada/export")).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_deletion_of_an_item_that_broke_off_is_finished_when_it_is_asked_for_again()
    {
        await using var log = TestLog.Open();
        var ids = await ForkAsync(log);
        var source = (await log.GetAsync("a"))!;
        var item = new ItemId(source.Key, source.LastTurn!.Nonce, ItemSide.Input, 0);
        for (var i = 0; i < 2; i++)
        {
            log.Counting.OnWrite = () =>
            {
                log.Counting.OnWrite = () => throw new StoreUnavailableException("It is away.", TimeSpan.FromSeconds(1));
                return Task.CompletedTask;
            };
            await Assert.ThrowsAsync<StoreUnavailableException>(() => DeleteAsync().AsTask());
        }

        log.Counting.OnWrite = null;
        Assert.NotNull(await DeleteAsync());
        foreach (var id in ids.Append("a"))
        {
            Assert.DoesNotContain(Secret, Assert.Single(await log.TurnsAsync(id)).Input.ToString(), StringComparison.Ordinal);
        }

        ValueTask<Session?> DeleteAsync() => log.Log.DeleteItemAsync(item, Owner.Of("ada"), TestLog.Cancel);
    }

    [Theory]
    [InlineData("alone")]
    [InlineData("conversation")]
    [InlineData("previous_response_id")]
    public async Task A_response_whose_commit_is_under_way_when_it_is_deleted_is_gone_when_that_is_answered(string where)
    {
        await using var server = SessionsServer.Start([], FaultySessionStore.Around);
        var conversation = (string)(await server.PostAsync("/v1/conversations", "{}")).Json["id"]!;
        var first = (string)(await server.PostAsync("/v1/responses", new { model = "advanced", input = "x", conversation })).Json["id"]!;
        var body = new JsonObject { ["model"] = "advanced", ["input"] = Secret, ["stream"] = true };
        if (where != "alone")
        {
            body[where] = where == "conversation" ? conversation : first;
        }

        var (committing, goOn) = (new TaskCompletionSource(), new TaskCompletionSource());
        server.Get<FaultySessionStore>().Before = async (operation, _) =>
        {
            if (operation == "commit_turn")
            {
                committing.TrySetResult();
                await goOn.Task;
            }
        };
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/responses")
        {
            Content = JsonContent.Create(body),
        };
        using var answer = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, TestLog.Cancel);
        using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync(TestLog.Cancel));
        await lines.ReadLineAsync(TestLog.Cancel);
        var begun = JsonNode.Parse((await lines.ReadLineAsync(TestLog.Cancel))!["data: ".Length..])!;
        var response = (string)begun["response"]!["id"]!;
        Assert.True(ResponseId.TryParse(response, out var id));
        await committing.Task.WaitAsync(TestLog.Cancel);
        var stream = (await server.Get<StreamedTurns>().FindAsync(id, Owner.Anyone, TestLog.Cancel))!;

        var deleting = server.DeleteAsync($"/v1/responses/{response}");
        await ServiceProcess.UntilAsync(() => stream.IsGone);
        goOn.SetResult();

        Assert.Equal(200, (await deleting).Status);
        foreach (var path in (string[])["", "?stream=true", "/input_items"])
        {
            Assert.Equal(404, (await server.GetAsync($"/v1/responses/{response}{path}")).Status);
        }
    }

    private static async Task<string[]> ForkAsync(TestLog log)
    {
        await log.TurnAsync("a", "ada", Secret);
        var source = (await log.GetAsync("a"))!;
        var ids = new string[2];
        for (var i = 0; i < ids.Length; i++)
        {
            ids[i] = BranchMarker.NewId(source.Key, log.Time);
            await log.Log.ForkAsync(
                SessionRef.ById("a"), Owner.Of("ada"), null, TestLog.New(ids[i], "ada", kind: SessionKind.Chain), TestLog.Cancel);
        }

        return ids;
    }

    private SessionsServer Start(string store, bool encrypted = false) => SessionsServer.Start(
    [
        ("sessions:storage_type", store), ("sessions:db_path", _folder["sessions.db"]), ("encryption:enabled", $"{encrypted}"),
        ("encryption:master_key", Convert.ToBase64String(RandomNumberGenerator.GetBytes(32))),
    ]);

    private static Task<Answer> AskAsync(SessionsServer server, string previous) => server.PostAsync(
        "/v1/responses?user_id=ada", $$"""{"model":"advanced","input":"and?","previous_response_id":"{{previous}}"}""");

    private static async Task<(string Conversation, string Branch)> BranchAsync(SessionsServer server)
    {
        var (conversation, branches) = await BranchesAsync(server, 1);
        return (conversation, branches[0]);
    }

    private static async Task<(string Conversation, string[] Branches)> BranchesAsync(SessionsServer server, int count = 2)
    {
        var conversation = (string)(await server.PostAsync("/v1/conversations?user_id=ada", "{}")).Json["id"]!;
        var first = await server.PostAsync(
            "/v1/responses?user_id=ada", $$"""{"model":"advanced","input":"I say {{Secret}}","conversation":"{{conversation}}"}""");
        Assert.Equal(200, first.Status);
        var branches = new string[count];
        for (var i = 0; i < count; i++)
        {
            var branch = await AskAsync(server, (string)first.Json["id"]!);
            Assert.Equal(200, branch.Status);
            branches[i] = (string)branch.Json["id"]!;
        }

        return (conversation, branches);
    }
}
