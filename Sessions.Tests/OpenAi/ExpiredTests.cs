namespace Sessions.Tests.OpenAi;

/// <summary>What has expired is refused, on every route, in the words for what never was.</summary>
public sealed class ExpiredTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("memory")]
    [InlineData("sqlite")]
    public async Task Ids_that_have_expired_are_refused_in_the_same_words(string store)
    {
        await using var server = SessionsServer.Start([("sessions:storage_type", store), ("sessions:db_path", _folder["sessions.db"])]);
        var conversation = await IdOfAsync("/v1/conversations", """{"items":[{"role":"user","content":"mine"}]}""");
        var response = (await server.PostAsync("/v1/responses", """{"input":"mine too"}""")).Json;
        var items = (await server.GetAsync($"/v1/conversations/{conversation}/items")).Json["data"]!;
        string[] expired = [conversation, (string)response["id"]!, (string)items[0]!["id"]!, (string)response["output"]![0]!["id"]!];
        string[] unknown =
        [
            "conv_00000000000000000000000000000000", "resp_000000000000000000000000000000000000000100000000",
            "msg_000000000000000000000000000000000000000100000000i0", "msg_0000000000000000000000000000000000000001000000a0i0",
        ];
        Assert.Equal(200, (await server.GetAsync($"/v1/responses/{expired[1]}")).Status);

        server.Time.Advance(TimeSpan.FromHours(721));
        var own = await IdOfAsync("/v1/conversations", "{}");
        foreach (var (method, path, body, status) in OpenAiContract.Lookups)
        {
            List<string> words = [];
            foreach (var ids in (string[][])[unknown, expired])
            {
                var answer = await server.SendAsync(new HttpMethod(method), In(ids, path), body is null ? null : In(ids, body));
                Assert.True(answer.Status == status, $"{method} {path} {body}: {answer.Status} {answer.Text}");
                words.Add(ids.Zip((string[])["CONV", "RESP", "ITEM", "OUT"])
                    .Aggregate(answer.Text, (text, id) => text.Replace(id.First, id.Second, StringComparison.Ordinal)));
            }

            Assert.Equal(words[0], words[1]);
        }

        string In(string[] ids, string text) => text
            .Replace("CONV", ids[0], StringComparison.Ordinal).Replace("RESP", ids[1], StringComparison.Ordinal)
            .Replace("ITEM", ids[2], StringComparison.Ordinal).Replace("OUT", ids[3], StringComparison.Ordinal)
            .Replace("OWN", own, StringComparison.Ordinal)
            .Replace("\"model\":\"model\"", "\"model\":\"advanced\"", StringComparison.Ordinal);

        async Task<string> IdOfAsync(string path, string body) => (string)(await server.PostAsync(path, body)).Json["id"]!;
    }
}
