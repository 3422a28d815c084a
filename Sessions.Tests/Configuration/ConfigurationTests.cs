using System.Diagnostics;
using Microsoft.Extensions.Configuration;
using Sessions.Api;
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
        Assert.Equal(["agents", "auth", "cors", "encryption", "limits", "rate_limit", "sessions", "streaming", "telemetry"], shipped.GetChildren().Select(section => section.Key).Order());
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
    [InlineData("sessions:\n  timeout: 5", "line 2: sessions.timeout: unknown key; allowed: storage_type, db_path, cache, timeout_hours, cleanup_interval_minutes, max_sessions_per_user.")]
    [InlineData("sessions:\n  storage_type: postgres", "line 2: sessions.storage_type: 'postgres' is not allowed; allowed: memory, sqlite, redis.")]
    [InlineData("sessions:\n  timeout_hours: soon", "line 2: sessions.timeout_hours: 'soon' is not allowed; allowed: a number from 1E-05 to 87600.")]
    [InlineData("sessions:\n\n  timeout_hours: 0", "line 3: sessions.timeout_hours: '0' is not allowed")]
    [InlineData("sessions:\n  timeout_hours: -1", "line 2: sessions.timeout_hours: '-1' is not allowed")]
    [InlineData("sessions:\n  timeout_hours: .inf", "line 2: sessions.timeout_hours: '.inf' is not allowed")]
    [InlineData("sessions:\n  max_sessions_per_user: 1.5", "line 2: sessions.max_sessions_per_user: '1.5' is not allowed; allowed: a whole number from 0 to 1000000.")]
    [InlineData("sessions:\n  max_sessions_per_user: 99999999999", "line 2: sessions.max_sessions_per_user: '99999999999' is not allowed")]
    [InlineData("sessions:\n  cleanup_interval_minutes: 0", "line 2: sessions.cleanup_interval_minutes: '0' is not allowed")]
    [InlineData("sessions:\n  db_path: [a, b]", "line 2: sessions.db_path: must be a text, not a mapping or a list.")]
    [InlineData("sessions: memory", "line 1: sessions: must be a mapping of keys to values.")]
    [InlineData("- a\n- b", "line 1: must be a mapping of sections")]
    [InlineData("sessions:\n  timeout_hours: 1\n  Timeout_Hours: 2", "line 3: sessions.timeout_hours: stands here twice (first on line 2)")]
    [InlineData("sessions:\n  timeout_hours: 1\n  timeout_hours: 2", "line 3: ")]
    [InlineData("sessions:\n\ttimeout_hours: 1", "is not valid YAML")]
    [InlineData("sessions: {", "is not valid YAML")]
    [InlineData("a: 1\n---\nb: 2", "has 2 YAML documents; allowed: one.")]
    public void A_mistake_is_told_with_file_line_key_and_rule(string yaml, string message)
    {
        File.WriteAllText(_file, yaml);

        var error = Assert.Throws<SettingsException>(() => Read<SessionSettings>("sessions"));

        Assert.StartsWith(_file, error.Message, StringComparison.Ordinal);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_secret_does_not_belong_into_the_file()
    {
        File.WriteAllText(_file, "agents:\n  helper:\n    api_key: sk-1234567890");

        var error = Assert.Throws<SettingsException>(() => Read<AgentsSettings>("agents"));

        Assert.Contains("line 3: agents.helper.api_key: is a secret and does not belong into a file; set the environment variable AGENTS__HELPER__API_KEY.", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("sk-", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void All_mistakes_are_told_at_once()
    {
        File.WriteAllText(_file, "sessions:\n  a: 1\n  timeout_hours: x\n  b: 2");

        var error = Assert.Throws<SettingsException>(() => Read<SessionSettings>("sessions"));

        Assert.Equal(3, error.Message.Split(Environment.NewLine).Length);
    }

    [Theory]
    [InlineData("sessions:\n  storage_type: disk", null, "line 2: sessions.storage_type: 'disk' is not allowed")]
    [InlineData("session:\n  storage_type: memory", null, "line 1: session: unknown section; allowed: sessions, ")]
    [InlineData("", "abc", "environment variable SESSIONS__TIMEOUT_HOURS: sessions.timeout_hours: 'abc' is not allowed")]
    [InlineData("agents:\n  a:\n    provider: openai", null, "agents.a.model: is missing")]
    [InlineData("limits:\n  request_body_bytes: 2000000\n  request_bodies_bytes: 1900000", null, "limits.request_bodies_bytes: must be at least limits.request_body_bytes, 2000000.")]
    public async Task The_server_does_not_start_with_a_mistake_and_says_it_in_one_message(string yaml, string? timeout, string message)
    {
        await File.WriteAllTextAsync(_file, yaml, TestContext.Current.CancellationToken);
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "Sessions.Api.dll"), "--urls", "http://127.0.0.1:0"]) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.Environment["SESSIONS_CONFIG"] = _file;
        if (timeout is not null)
        {
            start.Environment["SESSIONS__TIMEOUT_HOURS"] = timeout;
        }

        using var process = Process.Start(start)!;
        var error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(1, process.ExitCode);
        Assert.Contains(message, error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", error, StringComparison.Ordinal);
    }

    private T Read<T>(string section) where T : class, new() =>
        Settings.Read<T>(new ConfigurationBuilder().Add(new YamlConfigurationSource(_file)).Build(), section);
}
