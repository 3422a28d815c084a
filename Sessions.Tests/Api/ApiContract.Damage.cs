using System.Text;

namespace Sessions.Tests.Api;

/// <content>Rows that can be read, and what stands in them can't.</content>
public abstract partial class ApiContract
{
    private static readonly string[] DamagedMetadata =
    [
        "{", "[]", "null", "{} {}", """{"a":"\ud800"}""",
        """{"\u0001v1":1}""", """{"\u0001v1":{"query_count":1}}""", """{"\u0001branches":[1]}""",
    ];

    private static readonly string[] DamagedItems =
    [
        "", "[{", "{}", "[1]", "[[]]", """["a"]""",
        """[{"role":"user","content":"\ud800"}]""", "[{\"role\":\"user\",\"content\":\"\u00ff\"}]",
    ];

    [Fact]
    public async Task Json_that_lies_damaged_in_the_store_is_told_and_stops_nothing_else()
    {
        var server = Start();
        var store = server.Get<ISessionStore>();
        if (!store.Capabilities.IsDurable)
        {
            // Nobody else writes there.
            return;
        }

        Assert.Equal(201, (await server.PostAsync(
            "/sessions", new { session_id = "good", user_id = "ada", metadata = new { topic = "tea" } })).Status);
        await server.QueryAsync("hello", "good", "ada");

        // Written as it is by a log of its own, which remembers elsewhere and seals nothing.
        var log = new SessionLog(store);
        List<string> damaged = [];
        foreach (var metadata in DamagedMetadata)
        {
            var session = NewSession(Bytes(metadata));
            await log.CreateAsync(session, isOwnId: true, idempotency: null, Owner.Of("ada"), TestContext.Current.CancellationToken);
            damaged.Add(session.Id);
        }

        foreach (var items in DamagedItems)
        {
            damaged.Add(await WriteAsync(TurnOf() with { Input = Items.OfJson(Bytes(items)) }));
            damaged.Add(await WriteAsync(TurnOf() with { Output = Items.OfJson(Bytes(items)) }));
        }

        damaged.Add(await WriteAsync(TurnOf() with { Response = "{"u8.ToArray() }));
        damaged.Add(await WriteAsync(TurnOf() with { Response = "[]"u8.ToArray() }));

        // Whoever does not ask for them has the others.
        foreach (var list in (string[])["/users/ada/sessions?limit=100", "/sessions?limit=100", "/users/ada/sessions?metadata.topic=tea"])
        {
            Assert.Equal(["good"], Ids(await server.GetAsync(list)));
        }

        Assert.Single((await server.GetAsync("/v1/conversations?user_id=ada&limit=100")).Json["data"]!.AsArray());
        Assert.Equal(1, (int)(await server.GetAsync("/users/ada/usage")).Json["sessions"]!);
        var export = await server.GetAsync("/users/ada/export");
        Assert.Equal(200, export.Status);
        Assert.Contains("\"end\":", export.Text, StringComparison.Ordinal);
        Assert.Contains("\"good\"", export.Text, StringComparison.Ordinal);
        await server.QueryAsync("again", "good", "ada");

        await DamagedSessions.StoreIsAsync(server, "Degraded");
        var isNative = false;
        foreach (var id in damaged)
        {
            foreach (var path in (string[])["", "/history", "/history?include=items"])
            {
                (await server.GetAsync($"/sessions/{id}{path}")).IsProblem(503, "storage_damaged");
            }

            (await server.SendAsync(HttpMethod.Patch, $"/sessions/{id}", """{"metadata":{"b":2}}""")).IsProblem(503, "storage_damaged");
            (await server.TryQueryAsync("hello", id, "ada")).IsProblem(503, "storage_damaged");
            (await server.PostAsync($"/sessions/{id}/fork", new { })).IsProblem(503, "storage_damaged");
            foreach (var path in (string[])["", "/items"])
            {
                var answer = await server.GetAsync($"/v1/conversations/{id}{path}");
                Assert.Equal((503, "storage_damaged"), (answer.Status, (string?)answer.Json["error"]!["code"]));
            }

            // It is there until somebody removes it, by either address.
            isNative = !isNative;
            Assert.Equal(200, (await server.DeleteAsync($"{(isNative ? "/sessions" : "/v1/conversations")}/{id}")).Status);
            (await server.GetAsync($"/sessions/{id}")).IsProblem(404, "session_not_found");
        }

        await DamagedSessions.StoreIsAsync(server, "Healthy");

        async Task<string> WriteAsync(Turn turn)
        {
            var session = NewSession(default);
            await log.CreateAsync(session, isOwnId: true, idempotency: null, Owner.Of("ada"), TestContext.Current.CancellationToken);
            await using var begun = await log.BeginAsync(
                new BeginRequest
                {
                    Session = SessionRef.ById(session.Id),
                    Owner = Owner.Of("ada"),
                    HistoryTurns = 1,
                    HistoryBytes = 1 << 20,
                    Wait = TimeSpan.Zero,
                    MinLifetime = TimeSpan.FromMinutes(1),
                }, TestContext.Current.CancellationToken);
            Assert.NotNull(await log.CommitAsync(begun, turn, summary: null, TestContext.Current.CancellationToken));
            return session.Id;
        }

        // As Latin-1: each letter is a byte.
        static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

        NewSession NewSession(ReadOnlyMemory<byte> metadata)
        {
            var (id, key) = SessionKey.NewWithId(server.Time);
            return new(id, key, SessionKind.Conversation, "ada", metadata, SessionOrigin.Api);
        }

        Turn TurnOf() => new()
        {
            Number = 0,
            Parent = 0,
            RunStart = 0,
            Nonce = default,
            Input = Items.OfText("hello"),
            Output = Items.OfText("good day"),
            AgentType = "advanced",
            AgentUsed = "builtin",
            CreatedAt = server.Time.GetUtcNow(),
        };
    }
}
