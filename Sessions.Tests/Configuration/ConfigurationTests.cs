using System.Diagnostics;
using Microsoft.Extensions.Configuration;
using Sessions.ServiceDefaults;

namespace Sessions.Tests.Configuration;

public sealed class ConfigurationTests : IDisposable
{
    private readonly string _file = Path.Combine(Path.GetTempPath(), $"{Guid.NewGuid():N}.yaml");

    public void Dispose() => File.Delete(_file);

    [Fact]
    public void The_shipped_file_is_sound_and_says_the_defaults()
    {
        var shipped = new ConfigurationBuilder().Add(new YamlConfigurationSource(Repository.File("config.yaml"))).Build();

        var sessions = Settings.Read<SessionSettings>(shipped, SessionSettings.Section);
        var limits = Settings.Read<LimitSettings>(shipped, LimitSettings.Section);
        var agents = Settings.Read<AgentsSettings>(shipped, AgentsSettings.Section);
        var streaming = Settings.Read<StreamingSettings>(shipped, StreamingSettings.Section);

        Assert.Equivalent(new SessionSettings(), sessions, strict: true);
        Assert.Equivalent(new LimitSettings(), limits, strict: true);
        Assert.Equivalent(new StreamingSettings(), streaming, strict: true);
        Assert.Equivalent(new RateLimitSettings(), Settings.Read<RateLimitSettings>(shipped, RateLimitSettings.Section), strict: true);
        Assert.Equivalent(new CorsSettings(), Settings.Read<CorsSettings>(shipped, CorsSettings.Section), strict: true);
        Assert.Equivalent(new TelemetrySettings(), Settings.Read<TelemetrySettings>(shipped, TelemetrySettings.Section), strict: true);
        Assert.Equivalent(new EncryptionSettings(), Settings.Read<EncryptionSettings>(shipped, EncryptionSettings.Section), strict: true);
        Assert.Equivalent(new AuthSettings(), Settings.Read<AuthSettings>(shipped, AuthSettings.Section), strict: true);
        Assert.Equivalent(new AgentSettings(), Assert.Single(agents).Value, strict: true);
        Assert.Equal(AgentsSettings.Default, agents.Keys.Single());
        Assert.Equal(["agents", "auth", "cors", "encryption", "limits", "rate_limit", "sessions", "streaming", "telemetry"],
            shipped.GetChildren().Select(section => section.Key).Order());
    }

    [Fact]
    public void Every_key_may_be_left_out()
    {
        File.WriteAllText(_file, "# nothing\n");

        Assert.Equivalent(new SessionSettings(), Read<SessionSettings>("sessions"), strict: true);
    }

    [Fact]
    public void Values_are_read()
    {
        File.WriteAllText(_file, """
            sessions:
              storage_type: SQLite
              db_path: "/var/lib/x y.db"
              timeout_hours: 0.5
              cleanup_interval_minutes: 5
              max_sessions_per_user: 0
            agents:
              Helper:
                provider: openai
                model: llama
                endpoint: http://localhost:11434/v1
                instructions: |
                  Be brief.
                  Be kind.
            """);

        var sessions = Read<SessionSettings>("sessions");
        var helper = Read<AgentsSettings>("agents")["helper"];

        Assert.Equal(StorageType.Sqlite, sessions.StorageType);
        Assert.Equal("/var/lib/x y.db", sessions.DbPath);
        Assert.Equal(TimeSpan.FromMinutes(30), sessions.Timeout);
        Assert.Equal(TimeSpan.FromMinutes(5), sessions.CleanupInterval);
        Assert.Equal(0, sessions.MaxSessionsPerUser);
        Assert.Equal(AgentProvider.Openai, helper.Provider);
        Assert.Equal(new Uri("http://localhost:11434/v1"), helper.Endpoint);
        Assert.Equal("Be brief.\nBe kind.", helper.Instructions);
    }

    [Theory]
    [InlineData("sessions:\n  timeout: 5",
        "line 2: sessions.timeout: unknown key; allowed: storage_type, db_path, cache, timeout_hours, "
        + "cleanup_interval_minutes, max_sessions_per_user, max_conversations_per_user.")]
    [InlineData("sessions:\n  storage_type: mongo",
        "line 2: sessions.storage_type: 'mongo' is not allowed; allowed: memory, sqlite, redis, postgres.")]
    [InlineData("sessions:\n  timeout_hours: soon",
        "line 2: sessions.timeout_hours: 'soon' is not allowed; allowed: a number from 0.00001 to 87600.")]
    [InlineData("sessions:\n\n  timeout_hours: 0", "line 3: sessions.timeout_hours: '0' is not allowed")]
    [InlineData("sessions:\n  timeout_hours: -1", "line 2: sessions.timeout_hours: '-1' is not allowed")]
    [InlineData("sessions:\n  timeout_hours: .inf", "line 2: sessions.timeout_hours: '.inf' is not allowed")]
    [InlineData("sessions:\n  max_sessions_per_user: 1.5",
        "line 2: sessions.max_sessions_per_user: '1.5' is not allowed; allowed: a whole number from 0 to 1000000.")]
    [InlineData("sessions:\n  max_sessions_per_user: 99999999999", "line 2: sessions.max_sessions_per_user: '99999999999' is not allowed")]
    [InlineData("sessions:\n  cleanup_interval_minutes: 0", "line 2: sessions.cleanup_interval_minutes: '0' is not allowed")]
    [InlineData("sessions:\n  db_path: [a, b]", "line 2: sessions.db_path: must be a text, not a mapping or a list.")]
    [InlineData("sessions: memory", "line 1: sessions: must be a mapping of keys to values.")]
    [InlineData("- a\n- b", "line 1: must be a mapping of sections")]
    [InlineData("sessions:\n  timeout_hours: 1\n  Timeout_Hours: 2", "line 3: sessions.timeout_hours: stands here twice (first on line 2)")]
    [InlineData("sessions:\n  timeout_hours: 1\n  timeout_hours: 2", "line 3: ")]
    [InlineData("sessions:\n\ttimeout_hours: 1", "line 2: is not valid YAML: it begins with a tab; indent with spaces.")]
    [InlineData("sessions: {", "is not valid YAML")]
    [InlineData("sessions:\n  storage_type:",
        "line 2: sessions.storage_type: has no value; allowed: memory, sqlite, redis, postgres. Leave the line out for the default.")]
    [InlineData("sessions:\n  db_path: ~", "line 2: sessions.db_path: has no value; allowed: a text.")]
    [InlineData("sessions:\n  db_path: []", "line 2: sessions.db_path: must be a text, not a mapping or a list.")]
    [InlineData("sessions:\n  db_path: {}", "line 2: sessions.db_path: must be a text, not a mapping or a list.")]
    [InlineData("sessions:\n  storage_type: [sqlite]",
        "line 2: sessions.storage_type: must be one of memory, sqlite, redis, postgres, not a mapping or a list.")]
    [InlineData("sessions: [a]", "line 1: sessions: must be a mapping of keys to values.")]
    [InlineData("sessions:\n  storage_type:sqlite", "line 2: 'storage_type:' on line 2 needs a space after its colon.")]
    [InlineData("sessions:\n  storage_type:sqlite\n  timeout_hours: 1", "'storage_type:' on line 2 needs a space after its colon.")]
    [InlineData("sessions:\n  timeout_hours: 1\n  storage_type:sqlite", "'storage_type:' on line 3 needs a space after its colon.")]
    [InlineData("sessions:\n  timeout_hours: 1\n  storage_type:sqlite\n  cache: none",
        "'storage_type:' on line 3 needs a space after its colon.")]
    [InlineData("sessions:\n  timeout: 5", "Did you mean 'timeout_hours'?")]
    [InlineData("sessions:\n  storage_type: sqlit", "Did you mean 'sqlite'?")]
    [InlineData("sessions:\n  storage_type: memory\n  cache: redis",
        "line 3: sessions.cache: 'redis' is not allowed with sessions.storage_type: memory; it is for storage_type: sqlite.")]
    [InlineData("sessions:\n  storage_type: postgres\n  cache: redis",
        "line 3: sessions.cache: 'redis' is not allowed with sessions.storage_type: postgres; it is for storage_type: sqlite.")]
    [InlineData("sessions:\n  storage_type: postgre", "Did you mean 'postgres'?")]
    [InlineData("sessions:\n  storage_type: sqlite\n  db_path: ''", "line 3: sessions.db_path: must name a file.")]
    [InlineData("a: 1\n---\nb: 2", "has 2 YAML documents; allowed: one.")]
    public void A_mistake_is_told_with_file_line_key_and_rule(string yaml, string message)
    {
        File.WriteAllText(_file, yaml);

        var error = Assert.Throws<SettingsException>(() => Read<SessionSettings>("sessions"));

        Assert.StartsWith(_file, error.Message, StringComparison.Ordinal);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_secret_does_not_belong_in_the_file()
    {
        File.WriteAllText(_file, "agents:\n  helper:\n    api_key: sk-1234567890");

        var error = Assert.Throws<SettingsException>(() => Read<AgentsSettings>("agents"));

        Assert.Contains(
            "line 3: agents.helper.api_key: is a secret and does not belong in a file; "
            + "set the environment variable AGENTS__HELPER__API_KEY.",
            error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("sk-", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_empty_section_has_its_defaults_and_an_empty_variable_says_nothing()
    {
        // Of no name that programs, which other tests start meanwhile, would warn of.
        const string Variable = "TEST_SESSIONS__STORAGE_TYPE";
        File.WriteAllText(_file, "sessions:\n  storage_type: sqlite\nagents:\n");
        Environment.SetEnvironmentVariable(Variable, "");
        try
        {
            var configuration = new ConfigurationBuilder().Add(
                new YamlConfigurationSource(_file)).AddEnvironmentVariables("TEST_").Build();

            Assert.Equal(StorageType.Sqlite, Settings.Read<SessionSettings>(configuration, "sessions").StorageType);
            Assert.Empty(Settings.Read<AgentsSettings>(configuration, "agents"));
        }
        finally
        {
            Environment.SetEnvironmentVariable(Variable, null);
        }
    }

    [Theory]
    [InlineData("SESSIONS_STORAGE_TYPE", "Did you mean SESSIONS__STORAGE_TYPE?")]
    [InlineData("SESSION_STORAGE_TYPE", "Did you mean SESSIONS__STORAGE_TYPE?")]
    [InlineData("SESSION__STORAGE_TYPE", "Did you mean SESSIONS__STORAGE_TYPE?")]
    [InlineData("SESSION__WHATEVER", "Did you mean SESSIONS__WHATEVER?")]
    [InlineData("Sessions_Timeout_Hours", "Did you mean SESSIONS__TIMEOUT_HOURS?")]
    [InlineData("AUTH_MODE", "Did you mean AUTH__MODE?")]
    [InlineData("RATELIMIT__BURST", "Did you mean RATE_LIMIT__BURST?")]
    [InlineData("ENCRYPTION_MASTER_KEY", "Did you mean ENCRYPTION__MASTER_KEY?")]
    [InlineData("AGENTS_HELPER_MODEL", "Did you mean AGENTS__HELPER__MODEL?")]
    [InlineData("SESSION_CONFIG", "Did you mean SESSIONS_CONFIG?")]
    [InlineData("CONNECTIONSTRINGS_REDIS", "Did you mean ConnectionStrings__redis?")]
    [InlineData("CONNECTIONSTRINGS_POSTGRES", "Did you mean ConnectionStrings__postgres?")]
    [InlineData("SESSIONS_WHATEVER", "docs/configuration.md has those that are.")]
    [InlineData("SESSIONS__STORAGE_TYPE", null)]
    [InlineData("sessions__storage_type", null)]
    [InlineData("SESSIONS_CONFIG", null)]
    [InlineData("ConnectionStrings__cache", null)]
    [InlineData("OPENAI_API_KEY", null)]
    [InlineData("PATH", null)]
    [InlineData("SESSION_MANAGER", null)]
    [InlineData("XDG_SESSION_TYPE", null)]
    [InlineData("SESSIONS_PORT", null)]
    [InlineData("SESSIONS_SERVICE_HOST", null)]
    [InlineData("SESSIONS_PORT_8080_TCP_ADDR", null)]
    public void Variables_that_look_like_settings_and_are_not_read_are_named(string name, string? message)
    {
        var found = UnreadVariables.Find([name], ApiSettings.Sections).ToList();

        if (message is null)
        {
            Assert.Empty(found);
        }
        else
        {
            Assert.Equal($"The environment variable {name} is not read. {message}", Assert.Single(found));
        }
    }

    [Fact]
    public void All_mistakes_are_told_at_once()
    {
        File.WriteAllText(_file, "sessions:\n  a: 1\n  timeout_hours: x\n  b: 2");

        var error = Assert.Throws<SettingsException>(() => Read<SessionSettings>("sessions"));

        Assert.Equal(3, error.Message.Split(Environment.NewLine).Length);
    }

    [Theory]
    [InlineData("sessions:\n  timeout: 5\nlimit:\n  a: 1\nauth:\n  mode: open",
        null, "line 2: sessions.timeout: unknown key", "line 3: limit: unknown section", "line 6: auth.mode: 'open'")]
    [InlineData("sessions:\n  storage_type: disk", null, "line 2: sessions.storage_type: 'disk' is not allowed")]
    [InlineData("session:\n  storage_type: memory", null, "line 1: session: unknown section; allowed: sessions, ")]
    [InlineData("", "abc", "environment variable SESSIONS__TIMEOUT_HOURS: sessions.timeout_hours: 'abc' is not allowed")]
    [InlineData("agents:\n  a:\n    provider: openai",
        null, "line 3: agents.a.model: is missing",
        "line 3: agents.a.api_key: is missing, and OpenAI's own endpoint needs it; "
        + "set the environment variable OPENAI_API_KEY or AGENTS__A__API_KEY.")]
    [InlineData("agents:\n  a:\n    aliases: [b]\n  b:\n    aliases: [A, c]\n  d: {aliases: [C, advanced]}",
        null, "line 3: agents.a.aliases: 'b' is the name of an agent already.", "line 5: agents.b.aliases: 'A' is the name of",
        "line 6: agents.d.aliases: 'C' is the name of", "line 6: agents.d.aliases: 'advanced' is the name of")]
    [InlineData("agents:\n  a:\n    provider: ollama\n    model: m\n    tools:\n      t: {}",
        null, "line 6: agents.a.tools.t.url: is missing; a tool server needs a url, or a command that starts it.")]
    [InlineData("agents:\n  a:\n    summarize: true", null, "line 3: agents.a.summarize: needs a language model")]
    [InlineData("cors:\n  origins: '*, b'", null, "line 2: cors.origins: '*' is not allowed", "line 2: cors.origins: 'b' is not allowed")]
    [InlineData("encryption:\n  enabled: true",
        null, "line 2: encryption.enabled: is for what is stored outside of the process", "line 2: encryption.enabled: needs a master key")]
    [InlineData("sessions:\n  storage_type: sqlit\nencryption:\n  enabled: true",
        null, "line 2: sessions.storage_type: 'sqlit' is not allowed", "line 4: encryption.enabled: needs a master key")]
    [InlineData("auth:\n  mode: api_key", null, "line 2: auth.keys: is missing")]
    [InlineData("auth:\n  mode: jwt\n  jwt:\n    audience: a", null, "line 2: auth.jwt.authority: is missing")]
    [InlineData("auth:\n  keys:\n    a:\n      hash: abc\n      scopes: [user, service]",
        null, "line 4: auth.keys.a.hash: is not a SHA-256", "line 5: auth.keys.a.scopes: user and service exclude one another")]
    [InlineData("auth:\n  keys:\n    a:\n      scopes:\n        - admin\n        - usr",
        null, "line 3: auth.keys.a.hash: is missing",
        "line 6: auth.keys.a.scopes.1: 'usr' is not allowed; allowed: user, service, admin, read_all. Did you mean 'user'?")]
    [InlineData("limits:\n  content_bytes: 2000000\n  request_bodies_bytes: 1900000",
        null, "line 3: limits.request_bodies_bytes: must be at least limits.content_bytes, 2000000.")]
    public async Task The_server_does_not_start_with_mistakes_and_says_each_in_one_line(string yaml, string? timeout,
        params string[] messages)
    {
        await File.WriteAllTextAsync(_file, yaml, TestContext.Current.CancellationToken);
        var start = new ProcessStartInfo("dotnet",
            [Path.Combine(AppContext.BaseDirectory, "Sessions.Api.dll"), "--urls", "http://127.0.0.1:0"])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        start.Environment["SESSIONS_CONFIG"] = _file;
        if (timeout is not null)
        {
            start.Environment["SESSIONS__TIMEOUT_HOURS"] = timeout;
        }

        using var process = Process.Start(start)!;
        var error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(1, process.ExitCode);
        var lines = error.Split(Environment.NewLine, StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(messages.Length, lines.Length);
        Assert.All(messages, message => Assert.Contains(lines, line => line.Contains(message, StringComparison.Ordinal)));
    }

    private T Read<T>(string section) where T : class, new() =>
        Settings.Read<T>(new ConfigurationBuilder().Add(new YamlConfigurationSource(_file)).Build(), section);
}
