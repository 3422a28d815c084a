using System.Text.Json.Nodes;

namespace Sessions.Tests.Api;

public abstract partial class ApiContract
{
    [Fact]
    public async Task The_second_answer_knows_the_first_question()
    {
        var server = Start();

        var first = await server.QueryAsync("I am a Python programmer", user: "ada");
        var second = await server.QueryAsync("What tools do you recommend for work?", Thread(first), "ada");

        Assert.Contains("Python programmer", (string)second["response"]!, StringComparison.Ordinal);
        AssertKeys(second, "response", "agent_type", "metadata");
        AssertKeys(second["metadata"],
            "thread_id", "user_id", "session_created", "turn", "agent_used", "status", "finish_reason", "execution_time", "created_at");
        Assert.Equal("advanced", (string?)second["agent_type"]);
        Assert.Equal("ada", (string?)second["metadata"]!["user_id"]);
        Assert.True((bool)first["metadata"]!["session_created"]!);
        Assert.False((bool)second["metadata"]!["session_created"]!);
        Assert.Equal(1, (int)first["metadata"]!["turn"]!);
        Assert.Equal(2, (int)second["metadata"]!["turn"]!);
        Assert.Equal("builtin", (string?)second["metadata"]!["agent_used"]);
        Assert.True((double)second["metadata"]!["execution_time"]! >= 0);
        Assert.Equal('7', Guid.Parse(Thread(first)).ToString()[14]);
    }

    [Fact]
    public async Task A_thread_id_that_does_not_exist_starts_a_session_with_that_id()
    {
        var server = Start();

        var answer = await server.QueryAsync("hello", "my:thread_1.a@b-c");

        Assert.Equal("my:thread_1.a@b-c", Thread(answer));
        Assert.True((bool)answer["metadata"]!["session_created"]!);
        Assert.Null(answer["metadata"]!["user_id"]);
        Assert.Equal(200, (await server.GetAsync("/sessions/my:thread_1.a@b-c")).Status);
    }

    [Fact]
    public async Task A_session_shows_its_metadata_and_context()
    {
        var server = Start();
        var query = new string('q', 150);
        var created = await server.PostAsync("/sessions", """{"user_id":"ada","metadata":{"topic":"tea","nested":{"n":[1,null,"é"]}}}""");
        var id = (string)created.Json["session_id"]!;
        server.Time.Advance(TimeSpan.FromHours(1));
        await server.QueryAsync(query, id, "ada");

        var session = (await server.GetAsync($"/sessions/{id}")).Json;

        AssertKeys(session, "session_id", "user_id", "created_at", "last_activity_at", "expires_at", "version", "metadata", "context");
        Assert.Equal("2026-01-01T00:00:00.000000Z", (string?)session["created_at"]);
        Assert.Equal("2026-01-01T01:00:00.000000Z", (string?)session["last_activity_at"]);
        Assert.Equal("2026-01-02T01:00:00.000000Z", (string?)session["expires_at"]);
        Assert.Equal(2, (int)session["version"]!);
        var metadata = session["metadata"]!;
        AssertKeys(metadata, "query_count", "last_query", "last_agent_type", "created_from", "topic", "nested");
        Assert.Equal(1, (int)metadata["query_count"]!);
        Assert.Equal(new string('q', 100) + "…", (string?)metadata["last_query"]);
        Assert.Equal("advanced", (string?)metadata["last_agent_type"]);
        Assert.Equal("api", (string?)metadata["created_from"]);
        Assert.Equal("""{"n":[1,null,"é"]}""",
            metadata["nested"]!.ToJsonString(new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }));
        var context = session["context"]!;
        AssertKeys(context, "last_query", "last_response", "last_execution_time", "last_agent_used", "error_count", "last_error");
        Assert.Equal(query, (string?)context["last_query"]);
        Assert.StartsWith("You said", (string?)context["last_response"], StringComparison.Ordinal);
        Assert.Equal("builtin", (string?)context["last_agent_used"]);
        Assert.Equal(0, (int)context["error_count"]!);
        Assert.Null(context["last_error"]);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("null")]
    [InlineData("""{"user_id":null,"metadata":null}""")]
    public async Task A_session_can_be_created_from_nothing(string? body)
    {
        var server = Start();

        var created = await server.PostAsync("/sessions", body);

        Assert.Equal(201, created.Status);
        var id = (string)created.Json["session_id"]!;
        Assert.Equal($"/sessions/{id}", created.Headers["Location"]);
        Assert.Null(created.Json["user_id"]);
        Assert.Equal(0, (int)created.Json["metadata"]!["query_count"]!);
        Assert.Null(created.Json["context"]!["last_query"]);
        var read = await server.GetAsync($"/sessions/{id}");
        Assert.Equal(created.Text, read.Text);
    }

    [Fact]
    public async Task A_deleted_session_is_not_found()
    {
        var server = Start();
        var id = Thread(await server.QueryAsync("hello"));

        var deleted = await server.DeleteAsync($"/sessions/{id}");

        Assert.Equal(200, deleted.Status);
        Assert.Equal($$"""{"session_id":"{{id}}","deleted":true}""", deleted.Text);
        (await server.DeleteAsync($"/sessions/{id}")).IsProblem(404, "session_not_found");
        (await server.GetAsync($"/sessions/{id}")).IsProblem(404, "session_not_found");
        (await server.GetAsync($"/sessions/{id}/history")).IsProblem(404, "session_not_found");
    }

    [Fact]
    public async Task A_users_sessions_are_listed_newest_activity_first_in_pages()
    {
        var server = Start(("sessions:max_sessions_per_user", "0"));
        for (var i = 0; i < 5; i++)
        {
            await server.QueryAsync("hello", $"s{i}", "ada");
            server.Time.Advance(TimeSpan.FromSeconds(1));
        }

        await server.QueryAsync("again", "s0", "ada");

        var first = await server.GetAsync("/users/ada/sessions?limit=3");
        var second = await server.GetAsync($"/users/ada/sessions?limit=3&after={first.Json["next"]}");
        Assert.Equal(["s0", "s4", "s3"], Ids(first));
        Assert.True((bool)first.Json["has_more"]!);
        Assert.Equal(["s2", "s1"], Ids(second));
        Assert.False((bool)second.Json["has_more"]!);
        Assert.Null(second.Json["next"]);
        Assert.Equal(["s1", "s2", "s3", "s4", "s0"], Ids(await server.GetAsync("/users/ada/sessions?order=asc")));
        var nobody = await server.GetAsync("/users/nobody/sessions");
        Assert.Equal("""{"user_id":"nobody","sessions":[],"has_more":false,"next":null}""", nobody.Text);
    }

    [Theory]
    [InlineData("a/b")]
    [InlineData("a%2Fb")]
    [InlineData("%41")]
    [InlineData("ada lovelace+1@example.com")]
    [InlineData("O'Brien\"; DROP TABLE sessions; --")]
    [InlineData("שלום")]
    [InlineData("👩‍👩‍👧‍👦")]
    [InlineData("?#&=;:,")]
    public async Task A_users_id_may_be_anything_printable(string user)
    {
        var server = Start();
        var id = Thread(await server.QueryAsync("hello", user: user));

        var list = await server.GetAsync($"/users/{Uri.EscapeDataString(user)}/sessions");

        Assert.Equal(user, (string?)list.Json["user_id"]);
        Assert.Equal([id], Ids(list));
        Assert.Equal(1, (int)(await server.DeleteAsync($"/users/{Uri.EscapeDataString(user)}/sessions")).Json["sessions_removed"]!);
    }

    [Fact]
    public async Task Statistics_count_what_is_active()
    {
        var server = Start(("sessions:timeout_hours", "1"));
        await server.QueryAsync("hello", "a");
        server.Time.Advance(TimeSpan.FromMinutes(40));
        await server.QueryAsync("hello", "b");

        var statistics = (await server.GetAsync("/sessions/stats")).Json;
        Assert.Equal(StorageName, (string?)statistics["storage_type"]);
        Assert.Equal(2, (int)statistics["active_sessions"]!);
        Assert.InRange((int)statistics["active_sessions_memory"]!, 0, 2);

        server.Time.Advance(TimeSpan.FromMinutes(30));
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
    }

    [Fact]
    public async Task Cleanup_removes_what_has_expired()
    {
        var server = Start(("sessions:timeout_hours", "1"), ("sessions:cleanup_interval_minutes", "600"));
        await server.QueryAsync("hello", "a");
        await server.QueryAsync("hello", "b");
        server.Time.Advance(TimeSpan.FromMinutes(61));

        Assert.Equal(2, (int)(await server.PostAsync("/sessions/cleanup")).Json["removed"]!);
        Assert.Equal(0, (int)(await server.PostAsync("/sessions/cleanup", "{}")).Json["removed"]!);
    }

    [Fact]
    public async Task Metadata_is_patched_key_by_key()
    {
        var server = Start();
        var created = await server.PostAsync("/sessions", """{"metadata":{"a":1,"b":{"c":2,"d":3}}}""");
        var path = created.Headers["Location"];

        var patched = await server.SendAsync(HttpMethod.Patch, path, """{"metadata":{"a":null,"b":{"d":null,"e":4},"f":[null]}}""");

        Assert.Equal(200, patched.Status);
        Assert.Equal(2, (int)patched.Json["version"]!);
        Assert.Equal("""{"c":2,"e":4}""", patched.Json["metadata"]!["b"]!.ToJsonString());
        Assert.Equal("[null]", patched.Json["metadata"]!["f"]!.ToJsonString());
        Assert.False(patched.Json["metadata"]!.AsObject().ContainsKey("a"));
        Assert.Equal(patched.Text, (await server.GetAsync(path)).Text);
        (await server.SendAsync(HttpMethod.Patch, path, """{"metadata":{"query_count":5}}""")).IsProblem(422, "invalid_request");
        (await server.SendAsync(HttpMethod.Patch, path, """{"user_id":"eve"}""")).IsProblem(422, "invalid_request");
        (await server.SendAsync(HttpMethod.Patch, path, "{}")).IsProblem(422, "invalid_request");
        (await server.SendAsync(HttpMethod.Patch, "/sessions/none", """{"metadata":{}}""")).IsProblem(404, "session_not_found");
    }

    [Fact]
    public async Task Tags_tell_versions_apart()
    {
        var server = Start();
        var created = await server.PostAsync("/sessions");
        var path = created.Headers["Location"];
        var first = created.Headers["ETag"];

        Assert.Equal(304, (await server.GetAsync(path, ("If-None-Match", first))).Status);
        Assert.Equal(200, (await server.SendAsync(HttpMethod.Patch, path, """{"metadata":{"a":1}}""", ("If-Match", first))).Status);
        (await server.SendAsync(HttpMethod.Patch, path, """{"metadata":{"a":2}}""", ("If-Match", first)))
            .IsProblem(412, "version_mismatch");
        (await server.SendAsync(HttpMethod.Patch, path, """{"metadata":{"a":2}}""", ("If-Match", "nonsense")))
            .IsProblem(412, "version_mismatch");
        var now = await server.GetAsync(path, ("If-None-Match", first));
        Assert.Equal(200, now.Status);
        Assert.NotEqual(first, now.Headers["ETag"]);
        Assert.Equal(1, (int)now.Json["metadata"]!["a"]!);
        Assert.Equal(200, (await server.SendAsync(HttpMethod.Patch, path, """{"metadata":{"a":3}}""", ("If-Match", "*"))).Status);
    }

    [Fact]
    public async Task History_is_there_in_order_page_by_page()
    {
        var server = Start();
        for (var i = 1; i <= 5; i++)
        {
            await server.QueryAsync($"question {i}", "a");
        }

        var first = (await server.GetAsync("/sessions/a/history?limit=2")).Json;
        var second = (await server.GetAsync($"/sessions/a/history?limit=2&after={first["next"]}")).Json;
        var newest = (await server.GetAsync("/sessions/a/history?limit=1&order=desc")).Json;

        Assert.Equal("a", (string?)first["session_id"]);
        Assert.Equal([1, 2], first["turns"]!.AsArray().Select(turn => (int)turn!["turn"]!));
        Assert.Equal([3, 4], second["turns"]!.AsArray().Select(turn => (int)turn!["turn"]!));
        Assert.True((bool)second["has_more"]!);
        Assert.Equal("question 5", (string?)newest["turns"]![0]!["query"]);
        AssertKeys(first["turns"]![0],
            "turn", "query", "response", "status", "finish_reason", "agent_type", "agent_used", "created_at", "execution_time");
    }

    [Fact]
    public async Task A_fork_goes_its_own_way()
    {
        var server = Start();
        for (var i = 1; i <= 3; i++)
        {
            await server.QueryAsync($"question {i}", "a", "ada");
        }

        var fork = await server.PostAsync("/sessions/a/fork", """{"after_turn":2,"session_id":"b","metadata":{"why":"try"}}""");
        await server.QueryAsync("other", "b", "ada");

        Assert.Equal(201, fork.Status);
        Assert.Equal("/sessions/b", fork.Headers["Location"]);
        Assert.Equal("ada", (string?)fork.Json["user_id"]);
        Assert.Equal("fork", (string?)fork.Json["metadata"]!["created_from"]);
        Assert.Equal("try", (string?)fork.Json["metadata"]!["why"]);
        Assert.Equal(2, (int)fork.Json["metadata"]!["query_count"]!);
        Assert.Equal(["question 1", "question 2", "other"],
            (await server.GetAsync("/sessions/b/history")).Json["turns"]!.AsArray().Select(turn => (string)turn!["query"]!));
        Assert.Equal(3, (await server.GetAsync("/sessions/a/history")).Json["turns"]!.AsArray().Count);
        Assert.Equal(201, (await server.PostAsync("/sessions/a/fork")).Status);
        (await server.PostAsync("/sessions/a/fork", """{"session_id":"b"}""")).IsProblem(409, "session_exists");
        (await server.PostAsync("/sessions/a/fork", """{"after_turn":4}""")).IsProblem(422, "no_such_turn");
        (await server.PostAsync("/sessions/a/fork", """{"after_turn":-1}""")).IsProblem(422, "no_such_turn");
        (await server.PostAsync("/sessions/none/fork")).IsProblem(404, "session_not_found");
    }

    [Fact]
    public async Task Everything_of_a_user_can_be_exported_and_erased()
    {
        var server = Start();
        await server.QueryAsync("one", "a", "ada");
        await server.QueryAsync("two", "a", "ada");
        await server.QueryAsync("three", "b", "ada");
        await server.QueryAsync("foreign", "c", "eve");

        var export = await server.GetAsync("/users/ada/export");
        var lines = export.Text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!).ToList();
        Assert.Equal("application/x-ndjson", export.ContentType);
        Assert.Equal(["a", "b"], lines.Where(line => line["session"] is not null).Select(line => (string)line["session"]!["session_id"]!));
        Assert.Equal(["one", "two", "three"],
            lines.Where(line => line["turn"] is not null).Select(line => (string)line["turn"]!["query"]!));
        Assert.DoesNotContain("foreign", export.Text, StringComparison.Ordinal);

        var receipt = await server.DeleteAsync("/users/ada/sessions");
        Assert.Equal(2, (int)receipt.Json["sessions_removed"]!);
        Assert.Equal(3, (int)receipt.Json["turns_removed"]!);
        Assert.Equal(StorageName, (string?)receipt.Json["storage_type"]);
        Assert.Empty((await server.GetAsync("/users/ada/export")).Text);
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/stats")).Json["active_sessions"]!);
    }

    [Fact]
    public async Task A_list_can_be_narrowed()
    {
        var server = Start(("sessions:max_sessions_per_user", "0"));
        await server.PostAsync("/sessions", """{"user_id":"ada","metadata":{"source":"webapp","n":1}}""");
        server.Time.Advance(TimeSpan.FromHours(1));
        await server.PostAsync("/sessions", """{"user_id":"ada","metadata":{"source":"cli"}}""");
        await server.QueryAsync("hello", "q", "ada");

        Assert.Equal(1, await CountAsync(server, "metadata.source=webapp"));
        Assert.Equal(1, await CountAsync(server, "metadata.n=1"));
        Assert.Equal(0, await CountAsync(server, "metadata.source=webapp&metadata.n=2"));
        Assert.Equal(2, await CountAsync(server, "created_from=api"));
        Assert.Equal(2, await CountAsync(server, "created_from=2026-01-01T00:30:00Z"));
        Assert.Equal(1, await CountAsync(server, "created_before=2026-01-01T00:30:00Z"));
        Assert.Equal(2, await CountAsync(server, "active_after=2026-01-01T00:00:00Z"));
        (await server.GetAsync("/users/ada/sessions?colour=red")).IsProblem(422, "invalid_request");
        (await server.GetAsync("/users/ada/sessions?active_after=yesterday")).IsProblem(422, "invalid_request");
    }
}
