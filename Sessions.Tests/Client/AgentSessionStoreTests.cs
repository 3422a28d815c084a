using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Sessions.Client;

#pragma warning disable MAAI001 // Stores of agents' sessions are still marked as experimental.

namespace Sessions.Tests.Client;

/// <summary>Sessions of agents that a program hosts, kept by the server.</summary>
public abstract class AgentSessionStoreTests(string storeName) : IAsyncLifetime
{
    private readonly LocalModel _model = new();
    private ClientFixture _fixture = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => _fixture = await ClientFixture.StartAsync(storeName);

    public async ValueTask DisposeAsync()
    {
        await _fixture.DisposeAsync();
        _model.Dispose();
        GC.SuppressFinalize(this);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_session_goes_on_in_another_process_and_is_one_with_its_conversation(bool isServersAgent)
    {
        var key = new AgentSessionStoreKey("chat 1/ü").WithPartition("user", "ada").WithPartition("tenant", "x");
        var (agent, store) = Start();
        Assert.Null(await store.GetSessionAsync(agent, key, Cancel));
        var session = await store.GetOrCreateSessionAsync(agent, key, Cancel);
        Assert.Equal("I heard 1: one", await ClientFixture.RunAsync(agent, "one", session));
        await store.SaveSessionAsync(agent, key, session, Cancel);

        var (second, other) = Start();
        var restored = await other.GetSessionAsync(second, key, Cancel);
        Assert.Equal("I heard 2: one / two", await ClientFixture.RunAsync(second, "two", restored!));
        await other.SaveSessionAsync(second, key, restored!, Cancel);
        var kept = await _fixture.Client.ListSessionsAsync("ada", cancellationToken: Cancel).SingleAsync(Cancel);
        Assert.Equal(2, kept.Metadata.QueryCount);

        // Every part of the key, and the agent, tells sessions apart.
        Assert.Null(await other.GetSessionAsync(second, key.WithPartition("user", "eve"), Cancel));
        Assert.Null(await other.GetSessionAsync(second, key.WithPartition("tenant", "y"), Cancel));
        Assert.Null(await other.GetSessionAsync(second, new AgentSessionStoreKey("chat 1/ü"), Cancel));
        Assert.Null(await other.GetSessionAsync(new ChatClientAgent(_model, name: "Other"), key, Cancel));

        await store.DeleteSessionAsync(agent, key, Cancel);
        await store.DeleteSessionAsync(agent, key, Cancel);
        Assert.Null(await other.GetSessionAsync(second, key, Cancel));
        Assert.Empty(await _fixture.Client.ListSessionsAsync("ada", cancellationToken: Cancel).ToListAsync(Cancel));

        (ChatClientAgent Agent, SessionsAgentSessionStore Store) Start()
        {
            var client = _fixture.AddApplication().GetRequiredService<SessionsClient>();
            return (isServersAgent
                ? new ChatClientAgent(new SessionsChatClient(client,
                    new SessionsChatClientOptions { AgentType = "model", UserId = "ada" }), name: "Tester")
                : ClientFixture.Agent(_model, new SessionsChatHistoryProvider(client)), new SessionsAgentSessionStore(client));
        }
    }

    [Fact]
    public async Task Each_lookup_is_independent_and_what_is_gone_from_a_session_is_gone()
    {
        var agent = ClientFixture.Agent(_model, new SessionsChatHistoryProvider(_fixture.Client));
        var store = new SessionsAgentSessionStore(_fixture.Client);
        var key = new AgentSessionStoreKey("one");
        var session = await agent.CreateSessionAsync(Cancel);
        session.StateBag.SetValue("note", "kept");
        await store.SaveSessionAsync(agent, key, session, Cancel);
        var (left, right) = (await store.GetSessionAsync(agent, key, Cancel), await store.GetSessionAsync(agent, key, Cancel));
        left!.StateBag.SetValue("note", "changed");
        Assert.Equal("kept", right!.StateBag.GetValue<string>("note"));
        right.StateBag.TryRemoveValue("note");
        await store.SaveSessionAsync(agent, key, right, Cancel);
        Assert.Null((await store.GetSessionAsync(agent, key, Cancel))!.StateBag.GetValue<string>("note"));

        session.StateBag.SetValue("note", new string('x', 20_000));
        var full = await Assert.ThrowsAsync<SessionsException>(async () => await store.SaveSessionAsync(agent, key, session, Cancel));
        Assert.Equal("limit_exceeded", full.Code);
    }
}

public sealed class MemoryAgentSessionStoreTests() : AgentSessionStoreTests("memory");

public sealed class SqliteAgentSessionStoreTests() : AgentSessionStoreTests("sqlite");

public sealed class RedisAgentSessionStoreTests() : AgentSessionStoreTests("redis");

public sealed class PostgresAgentSessionStoreTests() : AgentSessionStoreTests("postgres");
