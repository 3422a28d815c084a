namespace Sessions.Tests.Agents;

/// <summary><c>GET /agents</c>: who can be asked.</summary>
public sealed class AgentListTests
{
    private static readonly string User = ApiKeys.NewKey();
    private static readonly string Admin = ApiKeys.NewKey();

    [Fact]
    public async Task It_tells_what_there_is_to_choose_from()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var server = SessionsServer.Start(
            [
                .. model.Agent("model"), ("agents:model:description", "For pictures."), ("agents:model:aliases", "gpt-x"),
                ("agents:model:accepts", "image"),
            ]);

        var agents = (await server.GetAsync("/agents")).Json["agents"]!.AsArray();

        Assert.Equal(["advanced", "model"], agents.Select(agent => (string?)agent!["name"]));
        Assert.Equal(
            """{"name":"model","is_default":false,"description":"For pictures.","provider":"openai","model":"test-model","aliases":"""
            + """["gpt-x"],"accepts":["text","image"],"takes_functions":true,"tools":[],"health":{"status":"unknown","at":null}}""",
            agents[1]!.ToJsonString());
        Assert.Equal(
            """{"name":"advanced","is_default":true,"description":null,"provider":"builtin","model":null,"aliases":[],"accepts":["text"]"""
            + ""","takes_functions":false,"tools":[],"health":{"status":"unknown","at":null}}""",
            agents[0]!.ToJsonString());
    }

    [Fact]
    public async Task Its_health_is_what_its_last_answer_was()
    {
        await using var model = await ChatCompletionsServer.StartAsync();
        await using var server = SessionsServer.Start([.. model.Agent("model")]);
        await server.QueryAsync("hello", agent: "model");
        Assert.Equal("""{"status":"healthy","at":"2026-01-01T00:00:00.000000Z"}""", (await HealthAsync(server))!);
        model.Reply = (_, _, http) =>
        {
            http.Response.StatusCode = 401;
            return Task.CompletedTask;
        };
        (await server.TryQueryAsync("hello", agent: "model")).IsProblem(502, "agent_unauthorized");

        Assert.Contains("\"status\":\"failing\",\"at\":\"2026-01-01T00:00:00.000000Z\",\"code\":\"agent_unauthorized\"",
            (await HealthAsync(server))!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Health_is_for_those_who_run_the_server()
    {
        await using var server = SessionsServer.Start(
            [("auth:mode", "api_key"), .. Key("user", User, "user", "ada"), .. Key("admin", Admin, "admin", null)]);

        Assert.Null(await HealthAsync(server, ("X-API-Key", User)));
        Assert.NotNull(await HealthAsync(server, ("X-API-Key", Admin)));
        await using var open = SessionsServer.Start([]);
        Assert.NotNull(await HealthAsync(open));
        Assert.Null(await HealthAsync(open, ("X-Forwarded-For", "192.0.2.1")));
    }

    private static async Task<string?> HealthAsync(SessionsServer server, params (string Name, string Value)[] headers)
    {
        var answer = await server.GetAsync("/agents", headers);
        Assert.True(answer.Status == 200, answer.Text);
        return answer.Json["agents"]!.AsArray()[^1]!["health"]?.ToJsonString();
    }

    private static IEnumerable<(string Key, string Value)> Key(string name, string key, string scope, string? user)
    {
        yield return ($"auth:keys:{name}:hash", Convert.ToHexStringLower(ApiKeys.Hash(key)));
        yield return ($"auth:keys:{name}:scopes", scope);
        if (user is not null)
        {
            yield return ($"auth:keys:{name}:user_id", user);
        }
    }
}
