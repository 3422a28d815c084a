using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.Extensions.DependencyInjection;
using Sessions.Client;
using SessionFilter = Sessions.Client.SessionFilter;

namespace Sessions.Tests.Client;

/// <summary>The client of the native API against a real server.</summary>
public abstract class SessionsClientTests(string storeName) : IAsyncLifetime
{
    private ClientFixture _fixture = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private SessionsClient Client => _fixture.Client;

    public async ValueTask InitializeAsync() =>
        _fixture = await ClientFixture.StartAsync(storeName, ("sessions:max_sessions_per_user", "0"));

    public async ValueTask DisposeAsync()
    {
        await _fixture.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task Sessions_are_created_read_changed_and_deleted()
    {
        var made = await Client.CreateSessionAsync(
            new CreateSessionOptions { UserId = "ada b/c", Metadata = new JsonObject { ["topic"] = "tea" } }, Cancel);
        Assert.Equal(("ada b/c", "tea", "api"), (made.UserId, made.Metadata.Own!["topic"].GetString(), made.Metadata.CreatedFrom));
        Assert.True(made.ExpiresAt > made.CreatedAt);

        var read = await Client.GetSessionAsync(made.SessionId, "ada b/c", Cancel);
        Assert.Equal(made.ETag, read!.ETag);
        Assert.Null(await Client.GetSessionAsync(made.SessionId, "eve", Cancel));
        Assert.Null(await Client.GetSessionAsync("none", cancellationToken: Cancel));

        var changed = await Client.UpdateMetadataAsync(made.SessionId, new JsonObject { ["topic"] = null, ["mood"] = "good" }, read.ETag,
            cancellationToken: Cancel);
        Assert.Equal(["mood"], changed.Metadata.Own!.Keys);
        var late = await Assert.ThrowsAsync<SessionsException>(() =>
            Client.UpdateMetadataAsync(made.SessionId, new JsonObject { ["mood"] = "bad" }, read.ETag, cancellationToken: Cancel));
        Assert.Equal(("version_mismatch", HttpStatusCode.PreconditionFailed), (late.Code, late.Status));

        Assert.True(await Client.DeleteSessionAsync(made.SessionId, cancellationToken: Cancel));
        Assert.False(await Client.DeleteSessionAsync(made.SessionId, cancellationToken: Cancel));
        Assert.False(await Client.CancelTurnAsync(made.SessionId, cancellationToken: Cancel));
    }

    [Fact]
    public async Task Turns_are_asked_appended_read_and_forked()
    {
        var parameters = new JsonObject { ["temperature"] = 0.5 };
        var answer = await Client.QueryAsync(
            new QueryOptions { Query = "one", UserId = "ada", AgentType = "model", Parameters = parameters }, Cancel);
        Assert.Equal(("I heard 1: one", 1, "completed", true),
            (answer.Response, answer.Metadata.Turn, answer.Metadata.Status, answer.Metadata.SessionCreated));
        Assert.Equal(7, answer.Metadata.Usage!.OutputTokens);
        var id = answer.Metadata.ThreadId;
        var turn = await Client.AppendTurnAsync(id,
            new NewTurn { Query = "two", Response = "yes", AgentType = "mine", ExpectedTurn = 2, UserId = "ada" }, Cancel);
        Assert.Equal((2, "appended", "mine"), (turn.Number, turn.Status, turn.AgentType));
        var conflict = await Assert.ThrowsAsync<SessionsException>(() =>
            Client.AppendTurnAsync(id, new NewTurn { Query = "x", ExpectedTurn = 2 }, Cancel));
        Assert.Equal((SessionsException.TurnConflict, "expected_turn"), (conflict.Code, conflict.Field));

        var fork = await Client.ForkSessionAsync(id, new ForkSessionOptions { AfterTurn = 1, SessionId = "fork" },
            cancellationToken: Cancel);
        Assert.Equal(1, fork.Metadata.QueryCount);
        Assert.Equal("two", (await Client.GetHistoryAsync(id, "ada", includeItems: true, newestFirst: true, cancellationToken: Cancel)
            .FirstAsync(Cancel)).Query);
        var edited = await Client.QueryAsync(new QueryOptions { Query = "three", ThreadId = id, AgentType = "model", AfterTurn = 1 },
            Cancel);
        Assert.Equal("I heard 2: one / three", edited.Response);
        Assert.Equal([1, 3], await Client.GetHistoryAsync(id, cancellationToken: Cancel).Select(told => told.Number).ToListAsync(Cancel));
        Assert.Equal([1, 2], await Client.GetHistoryAsync(id, tip: 2, cancellationToken: Cancel).Select(told => told.Number)
            .ToListAsync(Cancel));
    }

    [Fact]
    public async Task Lists_have_all_pages_and_filters()
    {
        await Task.WhenAll(Enumerable.Range(0, 4).Select(async part =>
        {
            for (var i = 0; i < 30; i++)
            {
                var metadata = new JsonObject { ["part"] = $"{part} & more" };
                await Client.CreateSessionAsync(new CreateSessionOptions { UserId = "many", Metadata = metadata }, Cancel);
            }
        }));
        Assert.Equal(120, await Client.ListSessionsAsync("many", new SessionFilter { OldestFirst = true }, Cancel)
            .Select(session => session.SessionId).Distinct().CountAsync(Cancel));
        Assert.Equal(30, await Client.ListSessionsAsync("many", new SessionFilter
        {
            Metadata = new Dictionary<string, string> { ["part"] = "2 & more" },
            CreatedAfter = DateTimeOffset.UtcNow.AddHours(-1),
            CreatedFrom = "api",
        }, Cancel).CountAsync(Cancel));
        Assert.Equal(120, await Client.ListAllSessionsAsync(cancellationToken: Cancel).CountAsync(Cancel));
        Assert.Empty(await Client.ListSessionsAsync("nobody", cancellationToken: Cancel).ToListAsync(Cancel));
        Assert.Throws<ArgumentException>(() => Client.ListSessionsAsync("..", cancellationToken: Cancel));
    }

    [Fact]
    public async Task A_user_is_exported_and_erased()
    {
        await Client.AppendTurnAsync("mine", new NewTurn { Query = "one", Response = "yes", UserId = "ada" }, Cancel);
        using var export = new MemoryStream();
        await Client.ExportUserAsync("ada", export, Cancel);
        Assert.EndsWith("{\"end\":{\"sessions\":1,\"turns\":1}}\n", Encoding.UTF8.GetString(export.ToArray()), StringComparison.Ordinal);

        var statistics = await Client.GetStatisticsAsync(Cancel);
        Assert.Equal((storeName, 1), (statistics.StorageType, statistics.ActiveSessions));
        Assert.Equal(0, (await Client.CleanUpAsync(Cancel)).Removed);
        var erasure = await Client.EraseUserAsync("ada", Cancel);
        Assert.Equal(("ada", 1, 1), (erasure.UserId, erasure.SessionsRemoved, erasure.TurnsRemoved));
        Assert.Null(await Client.GetSessionAsync("mine", cancellationToken: Cancel));
    }

    [Fact]
    public async Task What_the_server_refuses_is_told_as_it_is()
    {
        var refused = await Assert.ThrowsAsync<SessionsException>(() =>
            Client.CreateSessionAsync(new CreateSessionOptions { SessionId = "not an id" }, Cancel));
        Assert.Equal(("invalid_request", HttpStatusCode.UnprocessableEntity, "session_id"), (refused.Code, refused.Status, refused.Field));
        Assert.False(string.IsNullOrEmpty(refused.RequestId));
        Assert.Null(refused.RetryAfter);
        await Client.CreateSessionAsync(new CreateSessionOptions { SessionId = "taken" }, Cancel);
        Assert.Equal("session_exists", (await Assert.ThrowsAsync<SessionsException>(() =>
            Client.CreateSessionAsync(new CreateSessionOptions { SessionId = "taken" }, Cancel))).Code);
        Assert.Equal("session_not_found", (await Assert.ThrowsAsync<SessionsException>(async () =>
            await Client.GetHistoryAsync("none", cancellationToken: Cancel).ToListAsync(Cancel))).Code);
    }

    [Fact]
    public async Task An_answer_that_was_lost_is_asked_for_again_and_the_turn_is_not_doubled()
    {
        var lossy = new LosesAnswers();
        var application = _fixture.AddApplication(http => http.AddHttpMessageHandler(() => lossy));
        var client = application.GetRequiredService<SessionsClient>();
        Assert.Equal("I heard 1: one",
            (await client.QueryAsync(new QueryOptions { Query = "one", ThreadId = "lost", AgentType = "model" }, Cancel)).Response);
        await client.AppendTurnAsync("lost", new NewTurn { Query = "two", Response = "yes" }, Cancel);
        Assert.Equal(2, lossy.Lost);
        Assert.Equal(["one", "two"], await client.GetHistoryAsync("lost", cancellationToken: Cancel).Select(turn => turn.Query)
            .ToListAsync(Cancel));
        Assert.Single(_fixture.Server.Model.Requests);

        // A fork has no key: it is not tried again.
        await Assert.ThrowsAsync<SessionsException>(() => client.ForkSessionAsync("lost", cancellationToken: Cancel));
        Assert.Equal(3, lossy.Lost);
    }

    [Fact]
    public async Task A_failing_agent_is_not_asked_again()
    {
        var failed = await Assert.ThrowsAsync<SessionsException>(() =>
            Client.QueryAsync(new QueryOptions { Query = "fail", AgentType = "model" }, Cancel));
        Assert.Equal(("agent_failed", HttpStatusCode.BadGateway), (failed.Code, failed.Status));

        // The server has tried as often as its agent is told to; the client adds nothing to that.
        var asked = _fixture.Server.Model.Requests.Count;
        using var once = new HttpClient { BaseAddress = _fixture.Server.Address };
        using var answer = await once.PostAsJsonAsync("/query", new { query = "fail", agent_type = "model" }, Cancel);
        Assert.Equal(2 * asked, _fixture.Server.Model.Requests.Count);
    }

    // Each POST arrives and is answered; its first answer does not come through.
    private sealed class LosesAnswers : DelegatingHandler
    {
        private readonly HashSet<string> _seen = [];

        public int Lost { get; private set; }

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var response = await base.SendAsync(request, cancellationToken);
            var key = request.Headers.TryGetValues("Idempotency-Key", out var keys) ? keys.Single() : request.RequestUri!.AbsolutePath;
            if (request.Method == HttpMethod.Post && _seen.Add(key))
            {
                Lost++;
                response.Dispose();
                throw new HttpRequestException(HttpRequestError.ResponseEnded);
            }

            return response;
        }
    }
}

public sealed class MemorySessionsClientTests() : SessionsClientTests("memory");

public sealed class SqliteSessionsClientTests() : SessionsClientTests("sqlite");

public sealed class RedisSessionsClientTests() : SessionsClientTests("redis");

public sealed class PostgresSessionsClientTests() : SessionsClientTests("postgres");
