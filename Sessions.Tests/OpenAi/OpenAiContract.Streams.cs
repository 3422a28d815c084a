using System.Text.Json.Nodes;

namespace Sessions.Tests.OpenAi;

/// <content>Streams that are picked up again or told once more, and responses that are deleted while they are made.</content>
public abstract partial class OpenAiContract
{
    [Fact]
    public async Task A_stream_is_not_picked_up_behind_an_event_that_was_not_told_yet()
    {
        var server = await StartAsync();
        var whole = await server.StreamAsync(new { model = "model", input = "say one two three" });
        var ended = $"/v1/responses/{whole[0].Json["response"]!["id"]}?stream=true&starting_after=";
        var had = await server.ReadAsync(HttpMethod.Post, "/v1/responses", new { model = "model", input = "hold", stream = true }, 6);
        var running = $"/v1/responses/{had[0].Json["response"]!["id"]}?stream=true&starting_after=";

        foreach (var path in (string[])[$"{ended}{whole.Count}", $"{ended}9999", $"{running}6", $"{running}9999"])
        {
            var refused = await server.GetAsync(path);
            Assert.True(
                (400, "starting_after", "invalid_value")
                == (refused.Status, (string?)refused.Json["error"]?["param"], (string?)refused.Json["error"]?["code"]),
                $"{path}: {refused.Text}");
        }

        // Whoever has all of it is told nothing more; and whoever has all so far the rest.
        Assert.Empty(await server.ReadAsync(HttpMethod.Get, $"{ended}{whole.Count - 1}", null, int.MaxValue));
        var reading = server.ReadAsync(HttpMethod.Get, $"{running}5", null, int.MaxValue);
        server.Model.LetGo();
        ResponseStream.Check([.. had, .. await reading]);
    }

    [Fact]
    public async Task A_stream_that_is_told_once_more_by_its_key_keeps_its_numbers()
    {
        var server = await StartAsync();
        (string, string) key = ("Idempotency-Key", "k");
        foreach (var conversation in (string?[])[null, await server.IdOfAsync("/v1/conversations")])
        {
            var body = new { model = "model", input = "say one two three four", conversation, stream = true };
            var first = await server.StreamAsync(body, key);
            var address = $"/v1/responses/{first[0].Json["response"]!["id"]}?stream=true";

            var again = await server.StreamAsync(body, key);
            Assert.Equal(first.Select(happened => happened.Data), again.Select(happened => happened.Data));
            using (var replayed = await BeginAsync(server, "/v1/responses", body, key))
            {
                Assert.Equal("true", Assert.Single(replayed.Headers.GetValues("Idempotency-Replayed")));
            }

            var left = await server.ReadAsync(HttpMethod.Get, $"{address}&starting_after=4", null, int.MaxValue);
            Assert.Equal(first.Skip(5).Select(happened => happened.Data), left.Select(happened => happened.Data));

            // Where it is not kept it is told out of the log, in one piece: nobody goes on there by the numbers of the first one.
            if (_store.IsDurable)
            {
                await server.RestartAsync();
                again = await server.StreamAsync(body, key);
                Assert.Equal(first[^1].Response, again[^1].Response);
                Assert.True(again.Count < first.Count);
                var refused = await server.GetAsync($"{address}&starting_after=4");
                Assert.Equal((400, "starting_after"), (refused.Status, (string?)refused.Json["error"]!["param"]));
                again = await server.ReadAsync(HttpMethod.Get, address, null, int.MaxValue);
                Assert.Equal(first[^1].Response, again[^1].Response);
            }

            key = ("Idempotency-Key", "other");
        }

        Assert.Equal(2, server.Model.Requests.Count);
    }

    [Theory]
    [InlineData(false, "hold")]
    [InlineData(true, "hold")]
    [InlineData(true, "call hang 1")]
    public async Task A_response_that_is_deleted_while_it_is_made_comes_to_nothing(bool inConversation, string input)
    {
        await using var tools = await TestTools.StartAsync();
        var server = await StartAsync([.. tools.Of("model")]);
        var conversation = inConversation ? await server.IdOfAsync("/v1/conversations?user_id=ada") : null;
        using var answer = await BeginAsync(
            server, "/v1/responses?user_id=ada", new { model = "model", input, conversation, stream = true }, ("Idempotency-Key", "k"));
        using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync(Cancel));
        await lines.ReadLineAsync(Cancel);
        var begun = JsonNode.Parse((await lines.ReadLineAsync(Cancel))!["data: ".Length..])!;
        var response = (string)begun["response"]!["id"]!;
        var address = $"/v1/responses/{response}";
        if (input != "hold")
        {
            await tools.Hanging.WaitAsync(Cancel);
        }

        Assert.Equal("in_progress", (string?)(await server.GetAsync($"{address}?user_id=ada")).Json["status"]);
        var asked = (await server.GetAsync($"{address}/input_items?user_id=ada")).Json["data"]!.AsArray();
        Assert.Equal(input, (string?)Assert.Single(asked)!["content"]![0]!["text"]);
        Assert.Equal(404, (await server.DeleteAsync($"{address}?user_id=bob")).Status);

        var deleted = await server.DeleteAsync($"{address}?user_id=ada");

        Assert.Equal((200, response), (deleted.Status, (string?)deleted.Json["id"]));
        await AssertGoneAsync(server, response);
        Assert.Equal(404, (await server.DeleteAsync($"{address}?user_id=ada")).Status);
        var rest = await lines.ReadToEndAsync(Cancel);
        Assert.Contains("\"session_gone\"", rest, StringComparison.Ordinal);
        Assert.Contains("event: response.failed", rest, StringComparison.Ordinal);

        // The conversation goes on as if it had not been.
        Assert.Equal(200, (await server.PostAsync("/v1/responses?user_id=ada", new { model = "model", input = "x", conversation })).Status);
        if (conversation is not null)
        {
            Assert.Equal(2, (await server.ItemsAsync(conversation, "&user_id=ada")).Count);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_response_that_is_deleted_as_it_is_committed_is_gone(bool inConversation)
    {
        var server = await StartAsync();
        var conversation = inConversation ? await server.IdOfAsync("/v1/conversations?user_id=ada") : null;
        for (var i = 0; i < 20; i++)
        {
            var body = new { model = "model", input = "x", conversation, stream = true };
            using var answer = await BeginAsync(server, "/v1/responses?user_id=ada", body);
            using var lines = new StreamReader(await answer.Content.ReadAsStreamAsync(Cancel));
            await lines.ReadLineAsync(Cancel);
            var begun = JsonNode.Parse((await lines.ReadLineAsync(Cancel))!["data: ".Length..])!;
            var response = (string)begun["response"]!["id"]!;

            Assert.Equal(200, (await server.DeleteAsync($"/v1/responses/{response}?user_id=ada")).Status);
            await AssertGoneAsync(server, response);
        }
    }

    [Fact]
    public async Task What_ids_stand_for_is_bounded_as_if_it_had_been_sent()
    {
        var server = await StartAsync(("limits:content_bytes", "4096"));
        var path = $"/v1/conversations/{await server.IdOfAsync("/v1/conversations")}/items";
        var large = new { items = new[] { new { role = "user", content = new string('x', 1500) } } };
        var id = (string)(await server.MakeAsync(path, large))["data"]![0]!["id"]!;
        foreach (var (count, status) in (IEnumerable<(int, int)>)[(2, 200), (3, 400)])
        {
            var items = Enumerable.Repeat(new { id, role = "user", content = "x" }, count);
            var references = Enumerable.Repeat(new { type = "item_reference", id }, count);
            foreach (var (answer, param) in (IEnumerable<(Answer, string?)>)
            [
                (await server.PostAsync(path, new { items }), "items"),
                (await server.PostAsync("/v1/responses", new { model = "model", input = references }), "input"),
            ])
            {
                Assert.True(
                    (status, status == 200 ? null : param) == (answer.Status, (string?)answer.Json["error"]?["param"]), answer.Text);
            }
        }
    }

    [Theory]
    [InlineData("asc")]
    [InlineData("desc")]
    public async Task What_a_response_was_made_of_comes_in_pages_of_bounded_bytes(string order)
    {
        var server = await StartAsync(("limits:page_bytes", "4096"));
        int[] sizes = [1000, 1000, 1000, 9000, 1000, 9000, 9000, 1000, 1000];
        var input = sizes.Select((size, i) => new { role = "user", content = $"{i}{new string('x', size)}" });
        var path = $"/v1/responses/{await server.IdOfAsync("/v1/responses", new { model = "model", input })}/input_items?order={order}";

        List<string> texts = [];
        List<int> counts = [];
        for (var (after, more) = ("", true); more;)
        {
            var page = (await server.GetAsync($"{path}{after}")).Json;
            var items = page["data"]!.AsArray();
            texts.AddRange(items.Select(item => (string)item!["content"]![0]!["text"]!));
            counts.Add(items.Count);
            (after, more) = ($"&after={page["last_id"]}", (bool)page["has_more"]!);
        }

        Assert.Equal([.. order == "asc" ? input.Select(item => item.content) : input.Select(item => item.content).Reverse()], texts);
        Assert.Equal(order == "asc" ? [3, 1, 1, 1, 1, 2] : [2, 1, 1, 1, 1, 3], counts);
    }

    private static async Task AssertGoneAsync(OpenAiServer server, string response)
    {
        foreach (var path in (string[])["?", "?stream=true&", "/input_items?"])
        {
            Assert.Equal(404, (await server.GetAsync($"/v1/responses/{response}{path}user_id=ada")).Status);
        }

        var next = await server.PostAsync(
            "/v1/responses?user_id=ada", new { model = "model", input = "x", previous_response_id = response });
        Assert.Equal("previous_response_not_found", (string?)next.Json["error"]?["code"]);
    }
}
