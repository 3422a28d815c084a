using System.Text;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;

namespace Sessions.Tests;

/// <summary>Who is let in, and to what.</summary>
public sealed class AuthTests
{
    private const string SigningKey = "0123456789abcdef0123456789abcdef";

    private static readonly string Ada = ApiKeys.NewKey();
    private static readonly string Service = ApiKeys.NewKey();
    private static readonly string Admin = ApiKeys.NewKey();

    [Theory]
    [InlineData("GET", "/activity")]
    [InlineData("GET", "/agents")]
    [InlineData("GET", "/caller")]
    [InlineData("GET", "/sessions/a/turns/1/context")]
    [InlineData("GET", "/users/ada/usage")]
    [InlineData("GET", "/sessions/a")]
    [InlineData("POST", "/query")]
    [InlineData("POST", "/sessions")]
    [InlineData("POST", "/sessions/cleanup")]
    [InlineData("GET", "/sessions/stats")]
    [InlineData("GET", "/users/ada/sessions")]
    [InlineData("GET", "/nothing/here")]
    public async Task Without_a_good_key_nothing_is_to_be_had(string method, string path)
    {
        await using var server = StartWithKeys();
        foreach (var header in ((string, string)[])[("Accept", "*/*"), ("X-API-Key", ApiKeys.NewKey()),
            ("Authorization", $"Bearer {Ada[..^1]}"), ("Authorization", $"Basic {Ada}"), ("X-API-Key", "")])
        {
            var answer = await server.SendAsync(new HttpMethod(method), path, null, header);
            answer.IsProblem(401, "unauthorized");
            Assert.StartsWith("Bearer", answer.Headers["WWW-Authenticate"], StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("/")]
    [InlineData("/health")]
    [InlineData("/alive")]
    [InlineData("/openapi/v1.json")]
    public async Task What_says_nothing_of_anybody_is_open(string path)
    {
        await using var server = StartWithKeys();
        Assert.Equal(200, (await server.GetAsync(path)).Status);
    }

    [Fact]
    public async Task A_user_has_its_own_sessions_by_either_header()
    {
        await using var server = StartWithKeys();
        var first = await server.PostAsync("/query", """{"query":"hello","thread_id":"a"}""", ("Authorization", $"Bearer {Ada}"));
        Assert.Equal("ada", (string?)first.Json["metadata"]!["user_id"]);
        Assert.Equal(2, (int)(await server.PostAsync("/query", """{"query":"again","thread_id":"a","user_id":"ada"}""",
            Key(Ada))).Json["metadata"]!["turn"]!);
        Assert.Equal(200, (await server.GetAsync("/sessions/a", Key(Ada))).Status);
        Assert.Single((await server.GetAsync("/users/ada/sessions", Key(Ada))).Json["sessions"]!.AsArray());
    }

    [Theory]
    [InlineData("user", 403)]
    [InlineData("service", 403)]
    [InlineData("admin", 403)]
    [InlineData("read_all", 200)]
    [InlineData("user,read_all", 200)]
    [InlineData("service,read_all", 200)]
    [InlineData("admin,read_all", 200)]
    public async Task Everybodys_sessions_are_listed_for_one_scope_alone(string scopes, int status)
    {
        var key = ApiKeys.NewKey();
        var all = scopes.Split(',');
        await using var server = StartWithKeys([.. Setting("x", key, scopes, all[0] == "user" ? "eve" : null)]);
        await server.PostAsync("/query", """{"query":"hello","thread_id":"a"}""", Key(Ada));

        var listed = await server.GetAsync("/sessions", Key(key));

        Assert.Equal(status, listed.Status);
        Assert.Equal(status == 200, listed.Text.Contains("\"session_id\":\"a\"", StringComparison.Ordinal));

        // And it is a right to read that list, and no more.
        Assert.Equal(all.Contains("admin") ? 200 : 403, (await server.GetAsync("/sessions/stats", Key(key))).Status);
        Assert.Equal(all.Contains("admin") ? 200 : 403, (await server.GetAsync("/activity", Key(key))).Status);
        var caller = (await server.GetAsync("/caller", Key(key))).Json;
        Assert.Equal(all, caller["scopes"]!.AsArray().Select(scope => (string?)scope));
        Assert.Equal(all[0] == "user" ? "eve" : null, (string?)caller["user_id"]);
        Assert.NotEqual(200, (await server.GetAsync("/sessions/a", Key(key))).Status);
    }

    [Fact]
    public async Task A_token_lists_everybodys_sessions_by_its_role()
    {
        await using var server = SessionsServer.Start(
            [
                ("auth:mode", "jwt"), ("auth:jwt:signing_key", SigningKey), ("auth:jwt:audience", "sessions"),
                ("auth:jwt:read_all_role", "reader"),
            ]);

        Assert.Equal(200, (await server.GetAsync("/sessions", Bearer(Token("ada", role: "reader")))).Status);
        Assert.Equal(403, (await server.GetAsync("/sessions", Bearer(Token("ada")))).Status);
    }

    [Fact]
    public async Task A_user_may_name_nobody_else()
    {
        await using var server = StartWithKeys();
        (await server.PostAsync("/query", """{"query":"hello","user_id":"bob"}""", Key(Ada))).IsProblem(403, "user_mismatch");
        (await server.PostAsync("/sessions", """{"user_id":"bob"}""", Key(Ada))).IsProblem(403, "user_mismatch");
        (await server.GetAsync("/sessions/a?user_id=bob", Key(Ada))).IsProblem(404, "session_not_found");
        (await server.GetAsync("/sessions/a?userId=ada", Key(Ada))).IsProblem(422, "invalid_request");
        var unknown = (await server.GetAsync("/users/bob/sessions", Key(Ada))).IsProblem(404, "user_not_found");
        await server.PostAsync("/sessions", """{"user_id":"bob"}""", Key(Service));
        var known = (await server.GetAsync("/users/bob/sessions", Key(Ada))).IsProblem(404, "user_not_found");
        Assert.Equal((string?)unknown.Json["detail"], (string?)known.Json["detail"]);
        var listed = await server.GetAsync("/v1/conversations?user_id=bob", Key(Ada));
        Assert.Equal((404, "user_not_found", (string?)known.Json["detail"]),
            (listed.Status, (string?)listed.Json["error"]!["code"], (string?)listed.Json["error"]!["message"]));
    }

    [Fact]
    public async Task A_service_acts_for_whom_it_names_and_otherwise_for_nobody()
    {
        await using var server = StartWithKeys();
        await server.PostAsync("/query", """{"query":"hello","thread_id":"b","user_id":"bob"}""", Key(Service));
        await server.PostAsync("/query", """{"query":"hello","thread_id":"n"}""", Key(Service));

        (await server.GetAsync("/sessions/b", Key(Service))).IsProblem(404, "session_not_found");
        (await server.GetAsync("/sessions/b?user_id=ada", Key(Service))).IsProblem(404, "session_not_found");
        Assert.Equal(200, (await server.GetAsync("/sessions/b?user_id=bob", Key(Service))).Status);
        Assert.Equal(200, (await server.GetAsync("/sessions/n", Key(Service))).Status);
        Assert.Equal(200, (await server.GetAsync("/users/bob/sessions", Key(Service))).Status);

        // Nor by what a body says, where the query string names somebody else.
        foreach (var path in (string[])["/sessions/b/turns?user_id=ada", "/sessions/n/turns?user_id=bob"])
        {
            (await server.PostAsync(path, """{"query":"x","user_id":"bob"}""", Key(Service))).IsProblem(404, "session_not_found");
        }

        (await server.PostAsync("/sessions/b/turns?user_id=bob", """{"query":"x","user_id":"ada"}""", Key(Service)))
            .IsProblem(422, "invalid_request");
        (await server.PostAsync("/sessions/b/turns?user_id=ada", """{"query":"x","user_id":"bob"}""", Key(Ada)))
            .IsProblem(403, "user_mismatch");
        Assert.Equal(1, (int)(await server.GetAsync("/sessions/b?user_id=bob", Key(Service))).Json["metadata"]!["query_count"]!);

        // What is nobody's does not become a user's by being asked for.
        (await server.GetAsync("/sessions/n", Key(Ada))).IsProblem(404, "session_not_found");
        (await server.PostAsync("/query", """{"query":"mine?","thread_id":"n"}""", Key(Ada))).IsProblem(404, "session_not_found");
    }

    [Fact]
    public async Task Counting_and_cleaning_up_are_for_admins_and_conversations_are_not()
    {
        await using var server = StartWithKeys();
        foreach (var key in (string[])[Ada, Service])
        {
            (await server.GetAsync("/sessions/stats", Key(key))).IsProblem(403, "forbidden");
            (await server.PostAsync("/sessions/cleanup", null, Key(key))).IsProblem(403, "forbidden");
        }

        Assert.Equal(200, (await server.GetAsync("/sessions/stats", Key(Admin))).Status);
        Assert.Equal(200, (await server.PostAsync("/sessions/cleanup", null, Key(Admin))).Status);
        (await server.GetAsync("/sessions/a", Key(Admin))).IsProblem(403, "forbidden");
        (await server.PostAsync("/query", """{"query":"hello"}""", Key(Admin))).IsProblem(403, "forbidden");
    }

    [Fact]
    public async Task The_clean_up_key_of_the_janitor_goes_on_to_work()
    {
        await using var server = StartWithKeys(("sessions:cleanup_key", "janitor"));
        Assert.Equal(200, (await server.PostAsync("/sessions/cleanup", null, ("X-Cleanup-Key", "janitor"))).Status);
        Assert.Equal(200, (await server.PostAsync("/sessions/cleanup", null, Key(Admin))).Status);
        Assert.Equal(401, (await server.PostAsync("/sessions/cleanup", null, ("X-Cleanup-Key", "other"))).Status);
        Assert.Equal(401, (await server.GetAsync("/sessions/stats", ("X-Cleanup-Key", "janitor"))).Status);
    }

    [Fact]
    public async Task One_users_idempotency_key_is_not_anothers()
    {
        await using var server = StartWithKeys();
        var body = """{"query":"hello"}""";
        var first = await server.PostAsync("/query", body, Key(Ada), ("Idempotency-Key", "k"));
        var other = await server.PostAsync("/query", body, Key(Service), ("Idempotency-Key", "k"));
        Assert.NotEqual((string?)first.Json["metadata"]!["thread_id"], (string?)other.Json["metadata"]!["thread_id"]);
        Assert.False(other.Headers.ContainsKey("Idempotency-Replayed"));
        Assert.Equal("true", (await server.PostAsync("/query", body, Key(Ada), ("Idempotency-Key", "k"))).Headers["Idempotency-Replayed"]);
    }

    [Fact]
    public async Task A_signed_token_says_who_it_is()
    {
        await using var server = StartWithTokens();
        Assert.Equal("ada",
            (string?)(await server.PostAsync("/query", """{"query":"hello"}""", Bearer(Token("ada")))).Json["metadata"]!["user_id"]);
        Assert.Equal(200, (await server.GetAsync("/sessions/stats", Bearer(Token("boss", role: "sessions-admin")))).Status);
        Assert.Equal("bob", (string?)(await server.PostAsync("/query", """{"query":"hello","user_id":"bob"}""",
            Bearer(Token("app", role: "sessions-service")))).Json["metadata"]!["user_id"]);
    }

    [Fact]
    public async Task A_token_that_is_not_good_is_refused()
    {
        await using var server = StartWithTokens();
        var good = Token("ada").Split('.');
        var none = $"{Encode("""{"alg":"none","typ":"JWT"}""")}.{good[1]}.";
        foreach (var token in (string[])
            [
                Token("ada", minutes: -10), Token("ada", audience: "other"), Token("ada", key: SigningKey.Replace('0', '9')), Token(""),
                none, $"{good[0]}.{good[1]}.",
                $"{good[0]}.{Encode("""{"sub":"bob","aud":"sessions","exp":99999999999}""")}.{good[2]}", "x.y.z", "",
            ])
        {
            (await server.GetAsync("/sessions/a", Bearer(token))).IsProblem(401, "unauthorized");
        }

        (await server.GetAsync("/sessions/stats", Bearer(Token("ada")))).IsProblem(403, "forbidden");
    }

    [Fact]
    public async Task A_key_that_the_command_makes_is_let_in()
    {
        var made = KeyCommand.Make("ci", "user,admin", "ada");
        var lines = made.Split('\n', StringSplitOptions.TrimEntries);
        var key = Assert.Single(lines, line => line.StartsWith(ApiKeys.Prefix, StringComparison.Ordinal));
        var hash = Assert.Single(lines, line => line.StartsWith("hash: ", StringComparison.Ordinal))[6..];
        await using var server = SessionsServer.Start([("auth:mode", "api_key"), ("auth:keys:ci:hash", hash),
            ("auth:keys:ci:scopes", "user,admin"), ("auth:keys:ci:user_id", "ada")]);

        Assert.Equal(201, (await server.PostAsync("/sessions", null, Key(key))).Status);
        Assert.Equal(200, (await server.GetAsync("/sessions/stats", Key(key))).Status);
        Assert.DoesNotContain(hash, key, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_identity_provider_that_can_not_be_reached_is_no_fault_of_the_token()
    {
        await using var server = SessionsServer.Start(
            [("auth:mode", "jwt"), ("auth:jwt:authority", "http://127.0.0.1:1/"), ("auth:jwt:audience", "sessions")]);

        foreach (var path in (string[])["/sessions/a", "/users/ada/sessions", "/sessions/stats"])
        {
            var refused = (await server.GetAsync(path, Bearer(Token("ada")))).IsProblem(503, "authentication_unavailable");
            Assert.Equal("5", refused.Headers["Retry-After"]);
        }

        (await server.PostAsync("/query", """{"query":"hello"}""", Bearer(Token("ada")))).IsProblem(503, "authentication_unavailable");
        (await server.GetAsync("/sessions/a")).IsProblem(401, "unauthorized");
        Assert.Equal(200, (await server.GetAsync("/alive")).Status);
    }

    [Theory]
    [InlineData("AUTH__MODE=api_key", "auth.keys: is missing")]
    [InlineData("AUTH__MODE=api_key AUTH__KEYS__A__HASH=abc AUTH__KEYS__A__SCOPES=service", "auth.keys.a.hash: is not a SHA-256")]
    [InlineData("AUTH__MODE=jwt", "auth.jwt.authority: is missing")]
    [InlineData("AUTH__MODE=jwt AUTH__JWT__SIGNING_KEY=short", "too short")]
    [InlineData("AUTH__MODE=open", "allowed: none, api_key, jwt")]
    public async Task What_can_not_be_meant_stops_the_start(string environment, string message)
    {
        await using var process = ServiceProcess.Api(environment.Split(' ').Select(pair => pair.Split('='))
            .Select(pair => (pair[0], pair[1])));
        Assert.Equal(1, await process.ExitAsync());
        await process.SaysAsync(message);
    }

    [Theory]
    [InlineData("http://127.0.0.1:0", false)]
    [InlineData("http://0.0.0.0:0", true)]
    public async Task An_open_server_that_others_can_reach_says_so(string address, bool warns)
    {
        await using var process = ServiceProcess.Api(("ASPNETCORE_URLS", address));
        await process.SaysAsync("Application started");
        Assert.Equal(warns ? 1 : 0, process.Count("There is no authentication"));
    }

    internal static (string, string) Key(string key) => ("X-API-Key", key);

    internal static IEnumerable<(string, string)> Setting(string name, string key, string scopes, string? userId = null)
    {
        yield return ($"auth:keys:{name}:hash", Convert.ToHexString(ApiKeys.Hash(key)));
        yield return ($"auth:keys:{name}:scopes", scopes);
        if (userId is not null)
        {
            yield return ($"auth:keys:{name}:user_id", userId);
        }
    }

    private static SessionsServer StartWithKeys(params (string, string)[] more) => SessionsServer.Start(
        [("auth:mode", "api_key"), .. Setting("ada", Ada, "user", "ada"), .. Setting("service", Service, "service"),
            .. Setting("admin", Admin, "admin"), .. more]);

    private static SessionsServer StartWithTokens() => SessionsServer.Start(
        [("auth:mode", "jwt"), ("auth:jwt:signing_key", SigningKey), ("auth:jwt:audience", "sessions"),
            ("auth:jwt:admin_role", "sessions-admin"), ("auth:jwt:service_role", "sessions-service")]);

    private static (string, string) Bearer(string token) => ("Authorization", $"Bearer {token}");

    private static string Encode(string json) => System.Buffers.Text.Base64Url.EncodeToString(Encoding.UTF8.GetBytes(json));

    private static string Token(
        string subject, string audience = "sessions", int minutes = 10, string? role = null, string key = SigningKey)
    {
        var now = DateTime.UtcNow;
        Dictionary<string, object> claims = new() { ["sub"] = subject };
        if (role is not null)
        {
            claims["roles"] = role;
        }

        return new JsonWebTokenHandler().CreateToken(new SecurityTokenDescriptor
        {
            Audience = audience,
            Claims = claims,
            NotBefore = now.AddMinutes(-30),
            IssuedAt = now.AddMinutes(-30),
            Expires = now.AddMinutes(minutes),
            SigningCredentials = new SigningCredentials(new SymmetricSecurityKey(Encoding.UTF8.GetBytes(key)),
                SecurityAlgorithms.HmacSha256),
        });
    }
}
