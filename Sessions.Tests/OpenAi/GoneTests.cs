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
    public async Task An_item_that_was_deleted_is_not_in_what_went_on_from_there(string store)
    {
        await using var server = Start(store);
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
    public async Task What_went_on_from_a_conversation_goes_with_it(string store)
    {
        await using var server = Start(store);
        var (conversation, branch) = await BranchAsync(server);

        Assert.Equal(200, (await server.DeleteAsync($"/v1/conversations/{conversation}?user_id=ada")).Status);

        Assert.Equal(404, (await server.GetAsync($"/v1/responses/{branch}?user_id=ada")).Status);
        Assert.InRange((await AskAsync(server, branch)).Status, 400, 404);
        Assert.DoesNotContain(Secret, (await server.GetAsync("/users/ada/export")).Text, StringComparison.Ordinal);
    }

    private SessionsServer Start(string store) => SessionsServer.Start(
        [("sessions:storage_type", store), ("sessions:db_path", _folder["sessions.db"])]);

    private static Task<Answer> AskAsync(SessionsServer server, string previous) => server.PostAsync(
        "/v1/responses?user_id=ada", $$"""{"model":"advanced","input":"and?","previous_response_id":"{{previous}}"}""");

    private static async Task<(string Conversation, string Branch)> BranchAsync(SessionsServer server)
    {
        var conversation = (string)(await server.PostAsync("/v1/conversations?user_id=ada", "{}")).Json["id"]!;
        var first = await server.PostAsync(
            "/v1/responses?user_id=ada", $$"""{"model":"advanced","input":"I say {{Secret}}","conversation":"{{conversation}}"}""");
        var branch = await AskAsync(server, (string)first.Json["id"]!);
        Assert.Equal((200, 200), (first.Status, branch.Status));
        return (conversation, (string)branch.Json["id"]!);
    }
}
