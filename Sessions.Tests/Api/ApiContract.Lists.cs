namespace Sessions.Tests.Api;

/// <summary>Lists that are narrowed, and lists that move.</summary>
public abstract partial class ApiContract
{
    [Fact]
    public async Task Conditions_on_metadata_tell_keys_apart_by_case()
    {
        var server = Start();
        await server.PostAsync("/sessions", """{"user_id":"ada","metadata":{"topic":"tea","Topic":"Tea"}}""");
        await server.PostAsync("/sessions", """{"user_id":"ada","metadata":{"topic":"tea","Topic":"tea"}}""");

        Assert.Equal(1, await CountAsync(server, "metadata.topic=tea&metadata.Topic=Tea"));
        Assert.Equal(1, await CountAsync(server, "metadata.Topic=Tea&limit=5&metadata.topic=tea"));
        Assert.Equal(0, await CountAsync(server, "metadata.topic=Tea&metadata.Topic=Tea"));
        Assert.Equal(2, await CountAsync(server, "metadata.topic=tea"));
        Assert.Equal(0, await CountAsync(server, "metadata.TOPIC=tea"));
    }

    [Fact]
    public async Task Conditions_on_the_servers_own_metadata_find_what_the_list_shows()
    {
        var server = Start(("sessions:max_sessions_per_user", "0"));
        var long_ = new string('q', 150);
        await server.PostAsync("/sessions", """{"user_id":"ada"}""");
        await server.QueryAsync("hello there", "once", "ada");
        await server.QueryAsync(long_, "long", "ada");
        await server.QueryAsync(long_, "long", "ada");
        await server.PostAsync("/sessions/long/fork", """{"session_id":"copy"}""");

        Assert.Equal(1, await CountAsync(server, "metadata.query_count=0"));
        Assert.Equal(1, await CountAsync(server, "metadata.query_count=1"));
        Assert.Equal(2, await CountAsync(server, "metadata.query_count=2"));
        Assert.Equal(1, await CountAsync(server, "metadata.last_query=hello%20there"));
        Assert.Equal(2, await CountAsync(server, $"metadata.last_query={new string('q', 100)}%E2%80%A6"));
        Assert.Equal(0, await CountAsync(server, "metadata.last_query=hello"));
        Assert.Equal(3, await CountAsync(server, "metadata.last_agent_type=advanced"));
        Assert.Equal(1, await CountAsync(server, "metadata.created_from=fork"));
        Assert.Equal(2, await CountAsync(server, "created_from=query"));
    }

    [Theory]
    [InlineData("metadata.query_count=many", "metadata.query_count")]
    [InlineData("metadata.query_count=", "metadata.query_count")]
    [InlineData("metadata.created_from=elsewhere", "metadata.created_from")]
    [InlineData("created_from=elsewhere", "created_from")]
    [InlineData("created_from=2026-01-31", "created_from")]
    [InlineData("created_after=12:00", "created_after")]
    [InlineData("created_after=01/02/2026", "created_after")]
    [InlineData("created_before=2026-01-31", "created_before")]
    [InlineData("created_before=2026-01-31T12:00Z", "created_before")]
    [InlineData("active_after=2026-01-31T12:00:00", "active_after")]
    [InlineData("active_after=2026-01-31%2012:00:00Z", "active_after")]
    [InlineData("active_after=2026-01-31T12:00:00+01:00", "active_after")]
    [InlineData("active_before=2026-01-31T12:00:00.Z", "active_before")]
    [InlineData("active_before=2026-01-31T12:00:00%2B0100", "active_before")]
    [InlineData("active_before=2026-02-30T12:00:00Z", "active_before")]
    [InlineData("active_before=2026-01-31T24:00:01Z", "active_before")]
    [InlineData("active_before=%D9%A2026-01-31T12:00:00Z", "active_before")]
    [InlineData("active_before=", "active_before")]
    [InlineData("Created_After=2026-01-31T12:00:00Z", "Created_After")]
    [InlineData("Metadata.topic=tea", "Metadata.topic")]
    [InlineData("metadata.=tea", "metadata.")]
    public async Task A_condition_that_could_never_hold_is_refused_by_name(string query, string field)
    {
        var server = Start();

        var refused = (await server.GetAsync($"/users/ada/sessions?{query}")).IsProblem(422, "invalid_request");

        Assert.Equal(field, refused.Json["errors"]!.AsObject().Single().Key);
    }

    [Fact]
    public async Task Times_are_compared_to_the_microsecond_whatever_their_offset()
    {
        var server = Start();
        server.Time.SetUtcNow(new DateTimeOffset(2026, 1, 31, 12, 0, 0, TimeSpan.Zero).AddMicroseconds(5));
        await server.PostAsync("/sessions", """{"user_id":"ada"}""");

        Assert.Equal(1, await CountAsync(server, "created_after=2026-01-31T12:00:00.000004Z"));
        Assert.Equal(0, await CountAsync(server, "created_after=2026-01-31T12:00:00.000005Z"));
        Assert.Equal(1, await CountAsync(server, "created_from=2026-01-31T12:00:00.000005Z"));
        Assert.Equal(1, await CountAsync(server,
            "created_after=2026-01-31t13:00:00.000004%2B01:00&created_before=2026-01-31T06:30:00.000006000000-05:30"));
        Assert.Equal(1, await CountAsync(server, "active_after=2026-01-31T12:00:00z&active_before=2026-01-31T12:00:01-00:00"));
    }

    [Fact]
    public async Task An_ascending_list_misses_nothing_while_sessions_move_and_a_descending_one_says_so_on_its_first_page()
    {
        var server = Start(("sessions:max_sessions_per_user", "0"));
        for (var i = 0; i < 6; i++)
        {
            await server.QueryAsync("hello", $"s{i}", "ada");
            server.Time.Advance(TimeSpan.FromSeconds(1));
        }

        HashSet<string> met = [];
        string? after = null;
        for (var page = 0; page == 0 || after is not null; page++)
        {
            var list = await server.GetAsync($"/users/ada/sessions?order=asc&limit=2{(after is null ? "" : $"&after={after}")}");
            met.UnionWith(Ids(list));
            after = (string?)list.Json["next"];
            if (page < 3)
            {
                // One that was met already, and one that was not.
                await server.QueryAsync("again", "s0", "ada");
                await server.QueryAsync("again", $"s{5 - page}", "ada");
                server.Time.Advance(TimeSpan.FromSeconds(1));
            }
        }

        Assert.Equal(["s0", "s1", "s2", "s3", "s4", "s5"], met.Order());

        var first = await server.GetAsync("/users/ada/sessions?limit=2");
        await server.QueryAsync("again", "s1", "ada");
        var rest = await server.GetAsync($"/users/ada/sessions?limit=10&after={first.Json["next"]}");
        Assert.DoesNotContain("s1", Ids(first).Concat(Ids(rest)));
        Assert.Equal("s1", Ids(await server.GetAsync("/users/ada/sessions?limit=2")).First());
    }

    [Fact]
    public async Task A_cursor_of_another_list_is_refused()
    {
        var server = Start();
        await server.QueryAsync("hello", "s0", "ada");
        await server.QueryAsync("again", "s0", "ada");
        await server.QueryAsync("hello", "s1", "ada");
        var ofSessions = (string)(await server.GetAsync("/users/ada/sessions?limit=1")).Json["next"]!;
        var ofTurns = (string)(await server.GetAsync("/sessions/s0/history?limit=1")).Json["next"]!;

        foreach (var list in (string[])
        [
            $"/sessions/s0/history?after={ofSessions}", $"/sessions/s0/history?order=desc&after={ofSessions}",
            $"/sessions/s0/history?branches=all&after={ofSessions}", $"/users/ada/sessions?after={ofTurns}",
            $"/sessions?after={ofTurns}", $"/sessions?user_id=ada&order=asc&after={ofTurns}",
        ])
        {
            var refused = (await server.GetAsync(list)).IsProblem(422, "invalid_request");
            Assert.Equal("must be the 'next' of an earlier page of this list", (string?)refused.Json["errors"]!["after"]![0]);
        }

        Assert.Equal([2],
            (await server.GetAsync($"/sessions/s0/history?after={ofTurns}")).Json["turns"]!.AsArray().Select(turn => (int)turn!["turn"]!));
        foreach (var list in (string[])["/users/ada/sessions?", "/sessions?", "/sessions?user_id=ada&"])
        {
            Assert.Equal(["s0"], Ids(await server.GetAsync($"{list}after={ofSessions}")));
        }
    }

    [Fact]
    public async Task A_cursor_behind_all_turns_is_behind_them()
    {
        var server = Start();
        await server.QueryAsync("hello", "s0", "ada");
        await server.QueryAsync("again", "s0", "ada");
        var next = System.Buffers.Text.Base64Url.EncodeToString("1800000000000000:"u8);

        foreach (var branches in (string[])["", "&branches=all"])
        {
            var forwards = await server.GetAsync($"/sessions/s0/history?order=asc&after={next}{branches}");
            Assert.True(forwards.Status == 200, forwards.Text);
            Assert.Empty(forwards.Json["turns"]!.AsArray());
            Assert.False((bool)forwards.Json["has_more"]!);
            var backwards = await server.GetAsync($"/sessions/s0/history?order=desc&after={next}{branches}");
            Assert.Equal([2, 1], backwards.Json["turns"]!.AsArray().Select(turn => (int)turn!["turn"]!));
        }

        await DamagedSessions.StoreIsAsync(server, "Healthy");
    }

    [Theory]
    [InlineData("x", "invalid_request")]
    [InlineData("", "invalid_request")]
    [InlineData("-1", "invalid_request")]
    [InlineData("1.5", "invalid_request")]
    [InlineData("5&limit=5", "invalid_request")]
    [InlineData("0", "limit_exceeded")]
    [InlineData("101", "limit_exceeded")]
    [InlineData("99999999999999999999", "limit_exceeded")]
    public async Task A_limit_that_is_no_number_is_not_told_as_too_large(string limit, string code)
    {
        var server = Start();
        await server.QueryAsync("hello", "s0", "ada");

        foreach (var list in (string[])["/users/ada/sessions", "/sessions", "/sessions/s0/history"])
        {
            var refused = (await server.GetAsync($"{list}?limit={limit}")).IsProblem(422, code);
            Assert.Equal("must be a whole number from 1 to 100", (string?)refused.Json["errors"]!["limit"]![0]);
        }
    }

    private static async Task<int> CountAsync(SessionsServer server, string query)
    {
        var list = await server.GetAsync($"/users/ada/sessions?{query}");
        Assert.True(list.Status == 200, list.Text);
        return Ids(list).Count();
    }
}
