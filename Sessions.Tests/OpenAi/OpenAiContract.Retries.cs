using System.Net.Http.Json;

namespace Sessions.Tests.OpenAi;

/// <content>What a request that comes again does, by itself or with a key.</content>
public abstract partial class OpenAiContract
{
    private static readonly (string, string) Repeated = ("X-Stainless-Retry-Count", "1");

    [Fact]
    public async Task Items_that_a_client_repeats_by_itself_are_added_once()
    {
        var server = await StartAsync();
        var body = new { items = new object[] { new { role = "user", content = "x" }, new { role = "assistant", content = "y" } } };
        var conversation = await server.IdOfAsync("/v1/conversations");
        var path = $"/v1/conversations/{conversation}/items";
        var first = await server.PostAsync(path, body, ("X-Stainless-Retry-Count", "0"));
        var again = await server.PostAsync(path, body, Repeated);
        Assert.Equal((200, first.Text, "true"), (again.Status, again.Text, again.Headers["Idempotency-Replayed"]));
        Assert.Equal(2, (await server.ItemsAsync(conversation)).Count);

        // Asked for once more, and elsewhere, it is something else.
        Assert.NotEqual(first.Text, (await server.PostAsync(path, body)).Text);
        Assert.Equal(4, (await server.ItemsAsync(conversation)).Count);
        var other = await server.IdOfAsync("/v1/conversations");
        Assert.NotEqual(first.Text, (await server.PostAsync($"/v1/conversations/{other}/items", body, Repeated)).Text);
        Assert.Equal(2, (await server.ItemsAsync(other)).Count);

        // What was refused may be repeated.
        var output = new { items = new[] { new { type = "function_call_output", call_id = "c", output = "1" } } };
        Assert.Equal(400, (await server.PostAsync(path, output)).Status);
        await server.MakeAsync(path, new { items = new[] { new { type = "function_call", call_id = "c", name = "f", arguments = "{}" } } });
        Assert.Equal(200, (await server.PostAsync(path, output, Repeated)).Status);
        Assert.Equal(6, (await server.ItemsAsync(conversation)).Count);
    }

    [Fact]
    public async Task Repeats_that_come_while_the_first_one_waits_or_runs_get_its_answer()
    {
        var server = await StartAsync(("limits:turn_wait_seconds", "60"));
        var conversation = await server.IdOfAsync("/v1/conversations");
        object message = new { role = "user", content = "x" };
        var held = new { model = "model", input = "hold", conversation };
        var runs = Enumerable.Range(1, 3)
            .Select(i => server.PostAsync("/v1/responses", held, ("X-Stainless-Retry-Count", $"{i}"))).ToArray();
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count > 0);
        var adds = Enumerable.Range(1, 3).Select(i => server.PostAsync(
            $"/v1/conversations/{conversation}/items", new { items = new[] { message } }, ("X-Stainless-Retry-Count", $"{i}"))).ToArray();
        server.Model.LetGo();
        foreach (var answers in (Answer[][])[await Task.WhenAll(runs), await Task.WhenAll(adds)])
        {
            Assert.Equal(200, answers[0].Status);
            Assert.All(answers, answer => Assert.Equal(answers[0].Text, answer.Text));
            Assert.Equal(2, answers.Count(answer => answer.Headers.ContainsKey("Idempotency-Replayed")));
        }

        Assert.Single(server.Model.Requests);
        Assert.Equal(3, (await server.ItemsAsync(conversation)).Count);
    }

    [Theory]
    [InlineData("/v1/responses", true)]
    [InlineData("/v1/responses", false)]
    [InlineData("/v1/chat/completions", true)]
    [InlineData("/v1/chat/completions", false)]
    public async Task Where_nothing_is_stored_a_key_holds_against_other_bodies_while_its_request_runs(string path, bool isStreamed)
    {
        var server = await StartAsync();
        object Body(string text, bool stream) => path == "/v1/responses"
            ? new { model = "model", input = text, store = false, stream }
            : new { model = "model", messages = new[] { new { role = "user", content = text } }, stream };
        (string, string) key = ("Idempotency-Key", "k");
        var running = BeginAsync(server, path, Body("hold", isStreamed), key);
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count == 1);
        List<object> others = [Body("b", true), Body("b", false), Body("hold", !isStreamed)];
        if (path == "/v1/responses")
        {
            others.Add(new { model = "model", input = "b" });
        }

        foreach (var other in others)
        {
            var refused = await server.PostAsync(path, other, key);
            Assert.True((422, "idempotency_key_reused") == (refused.Status, (string?)refused.Json["error"]?["code"]), refused.Text);
        }

        Assert.Single(server.Model.Requests);
        server.Model.LetGo();
        using var ended = await running;
        Assert.Contains("It be", await ended.Content.ReadAsStringAsync(Cancel), StringComparison.Ordinal);
        using var free = await BeginAsync(server, path, Body("b", isStreamed), key);
        Assert.Equal(200, (int)free.StatusCode);
    }

    [Fact]
    public async Task A_key_holds_against_other_bodies_while_its_turn_runs_in_a_conversation()
    {
        var server = await StartAsync();
        var conversation = await server.IdOfAsync("/v1/conversations");
        (string, string) key = ("Idempotency-Key", "k");
        var held = new { model = "model", input = "hold", conversation };
        var running = server.PostAsync("/v1/responses", held, key);
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count == 1);
        var same = await server.PostAsync("/v1/responses", held, key);
        Assert.Equal((409, "idempotency_in_progress"), (same.Status, (string?)same.Json["error"]!["code"]));
        foreach (var stream in (bool[])[false, true])
        {
            var other = await server.PostAsync("/v1/responses", new { model = "model", input = "b", conversation, stream }, key);
            Assert.Equal((422, "idempotency_key_reused"), (other.Status, (string?)other.Json["error"]!["code"]));
        }

        server.Model.LetGo();
        Assert.Equal(200, (await running).Status);
    }

    [Fact]
    public async Task The_same_request_to_two_sessions_is_a_turn_of_each()
    {
        var server = await StartAsync();
        var body = new { model = "model", messages = new[] { new { role = "user", content = "hold" } }, stream = true };
        (string, string) key = ("Idempotency-Key", "k");
        using var one = await BeginAsync(server, "/v1/chat/completions", body, key, ("X-Session-Id", "one"));
        using var two = await BeginAsync(server, "/v1/chat/completions", body, key, ("X-Session-Id", "two"));
        await ServiceProcess.UntilAsync(() => server.Model.Requests.Count == 2);
        server.Model.LetGo();
        foreach (var (answer, session) in (IEnumerable<(HttpResponseMessage, string)>)[(one, "one"), (two, "two")])
        {
            Assert.Contains("[DONE]", await answer.Content.ReadAsStringAsync(Cancel), StringComparison.Ordinal);
            Assert.Equal(2, (await server.ItemsAsync(session)).Count);
        }
    }

    // As soon as its answer begins.
    private static async Task<HttpResponseMessage> BeginAsync(
        OpenAiServer server, string path, object body, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = JsonContent.Create(body) };
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        return await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
    }
}
