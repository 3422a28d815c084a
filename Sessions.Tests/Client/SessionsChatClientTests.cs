using System.Net;
using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Sessions.Client;

namespace Sessions.Tests.Client;

/// <summary>The server's agents as a chat client, and agents of Microsoft Agent Framework on it.</summary>
public abstract class SessionsChatClientTests(string storeName) : IAsyncLifetime
{
    private static readonly AIFunction Add = AIFunctionFactory.Create((int round) => round + 1, "add", "Adds one");
    private ClientFixture _fixture = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private SessionsChatClient Client => new(_fixture.Client, new SessionsChatClientOptions { AgentType = "model" });

    public async ValueTask InitializeAsync() => _fixture = await ClientFixture.StartAsync(storeName);

    public async ValueTask DisposeAsync()
    {
        await _fixture.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_conversation_is_the_servers(bool stream)
    {
        using var client = Client;
        var first = await AskAsync(client, "one", new ChatOptions(), stream);
        Assert.Equal("I heard 1: one", first.Text);
        Assert.Equal((ChatFinishReason.Stop, 11, 7, 18, 3, 2), (
            first.FinishReason, first.Usage!.InputTokenCount, first.Usage.OutputTokenCount, first.Usage.TotalTokenCount,
                first.Usage.CachedInputTokenCount, first.Usage.ReasoningTokenCount));
        Assert.NotNull(first.ResponseId);
        var next = await AskAsync(client, "two", new ChatOptions { ConversationId = first.ConversationId }, stream);
        Assert.Equal(("I heard 2: one / two", first.ConversationId), (next.Text, next.ConversationId));

        // It is a session like any other.
        Assert.Equal(["one", "two"], await _fixture.Client.GetHistoryAsync(first.ConversationId!, cancellationToken: Cancel)
            .Select(turn => turn.Query).ToListAsync(Cancel));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Tools_images_and_structured_answers(bool stream)
    {
        using var client = Client.AsBuilder().UseFunctionInvocation().Build();
        var answer = await AskAsync(client, "call add 3", new ChatOptions { Tools = [Add], ToolMode = ChatToolMode.Auto }, stream);
        Assert.EndsWith("after 3 calls: 2, 3, 4", answer.Text, StringComparison.Ordinal);
        answer = await AskAsync(client, "both add", new ChatOptions { Tools = [Add], ConversationId = answer.ConversationId }, stream);
        Assert.EndsWith("after 2 calls: 2, 3", answer.Text, StringComparison.Ordinal);
        var image = new ChatMessage(ChatRole.User, [new TextContent("look"), new DataContent(new byte[] { 1 }, "image/png")]);
        Assert.Equal("I heard 1: look, and saw 1", (await client.GetResponseAsync(image, cancellationToken: Cancel)).Text);
        Assert.Equal("Paris", (await client.GetResponseAsync<Place>("json", cancellationToken: Cancel)).Result.City);
    }

    [Fact]
    public async Task Options_reach_the_model()
    {
        using var client = Client;
        var told = (await client.GetResponseAsync("options", new ChatOptions
        {
            Instructions = "Be brief.",
            Temperature = 0.5f,
            TopP = 0.25f,
            MaxOutputTokens = 50,
            Tools = [Add],
            ToolMode = ChatToolMode.RequireSpecific("add"),
            AllowMultipleToolCalls = false,
            Reasoning = new ReasoningOptions { Effort = ReasoningEffort.Low },
        }, Cancel)).Text;
        foreach (var part in (string[])["Be brief.", "\"temperature\":0.5", "\"top_p\":0.25", ":50", "\"name\":\"add\"",
            "\"parallel_tool_calls\":false", "\"reasoning_effort\":\"low\""])
        {
            Assert.Contains(part, told, StringComparison.Ordinal);
        }

        await Assert.ThrowsAsync<NotSupportedException>(() =>
            client.GetResponseAsync("x", new ChatOptions { Tools = [new HostedWebSearchTool()] }, Cancel));
    }

    [Fact]
    public async Task What_goes_wrong_has_the_servers_code()
    {
        using var client = Client;
        Assert.Equal(ChatFinishReason.Length, (await client.GetResponseAsync("long", cancellationToken: Cancel)).FinishReason);
        foreach (var stream in (bool[])[false, true])
        {
            var failed = await Assert.ThrowsAsync<SessionsException>(() => AskAsync(client, "fail", new ChatOptions(), stream));
            Assert.StartsWith("agent_", failed.Code, StringComparison.Ordinal);
            var broken = await Assert.ThrowsAsync<SessionsException>(() => AskAsync(client, "break", new ChatOptions(), stream));
            Assert.StartsWith("agent_", broken.Code, StringComparison.Ordinal);
            var unknown = await Assert.ThrowsAsync<SessionsException>(() =>
                AskAsync(client, "x", new ChatOptions { ConversationId = "none" }, stream));
            Assert.Equal((SessionsException.SessionNotFound, HttpStatusCode.NotFound), (unknown.Code, unknown.Status));
            var model = await Assert.ThrowsAsync<SessionsException>(() =>
                AskAsync(client, "x", new ChatOptions { ModelId = "nope" }, stream));
            Assert.Equal(("model_not_found", "model"), (model.Code, model.Field));
            Assert.NotNull(model.RequestId);
        }

        await _fixture.Client.CreateSessionAsync(new CreateSessionOptions { SessionId = "adas", UserId = "ada" }, Cancel);
        using var eve = new SessionsChatClient(_fixture.Client, new SessionsChatClientOptions { AgentType = "model", UserId = "eve" });
        var foreign = await Assert.ThrowsAsync<SessionsException>(() =>
            eve.GetResponseAsync("x", new ChatOptions { ConversationId = "adas" }, Cancel));
        Assert.Equal(SessionsException.SessionNotFound, foreign.Code);
    }

    [Fact]
    public async Task The_same_key_gives_the_same_answer_and_asks_the_model_once()
    {
        using var client = Client;
        var first = await client.GetResponseAsync("one", new ChatOptions().WithIdempotencyKey("k1"), Cancel);
        using var another = new SessionsChatClient(_fixture.AddApplication().GetRequiredService<SessionsClient>(),
            new SessionsChatClientOptions { AgentType = "model" });
        var again = await another.GetResponseAsync("one", new ChatOptions().WithIdempotencyKey("k1"), Cancel);
        Assert.Equal((first.Text, first.ConversationId, first.ResponseId), (again.Text, again.ConversationId, again.ResponseId));
        Assert.Single(_fixture.Server.Model.Requests);
        Assert.Single(await _fixture.Client.GetHistoryAsync(first.ConversationId!, cancellationToken: Cancel).ToListAsync(Cancel));

        // The rounds of tools of one call have keys of their own.
        using var tools = Client.AsBuilder().UseFunctionInvocation().Build();
        Assert.EndsWith("after 2 calls: 2, 3",
            (await tools.GetResponseAsync("call add 2", new ChatOptions { Tools = [Add] }.WithIdempotencyKey("k2"), Cancel)).Text,
                StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Agent_Framework_goes_on_from_state_and_from_id(bool stream)
    {
        var agent = new ChatClientAgent(Client, instructions: "Be brief.", name: "Tester", tools: [Add]);
        var session = await agent.CreateSessionAsync(Cancel);
        Assert.EndsWith("after 3 calls: 2, 3, 4", await ClientFixture.RunAsync(agent, "call add 3", session, stream),
            StringComparison.Ordinal);
        var state = await agent.SerializeSessionAsync(session, cancellationToken: Cancel);
        var restored = await agent.DeserializeSessionAsync(state, cancellationToken: Cancel);
        Assert.Equal("I heard 2: call add 3 / two", await ClientFixture.RunAsync(agent, "two", restored, stream));
        var byId = await agent.CreateSessionAsync(((ChatClientAgentSession)session).ConversationId!, Cancel);
        Assert.Equal("I heard 3: call add 3 / two / three", await ClientFixture.RunAsync(agent, "three", byId, stream));
    }

    private static async Task<ChatResponse> AskAsync(IChatClient client, string text, ChatOptions options, bool stream) => stream
        ? await client.GetStreamingResponseAsync(text, options, Cancel).ToChatResponseAsync(Cancel)
        : await client.GetResponseAsync(text, options, Cancel);

    private sealed record Place(string City, string Country);
}

public sealed class MemorySessionsChatClientTests() : SessionsChatClientTests("memory");

public sealed class SqliteSessionsChatClientTests() : SessionsChatClientTests("sqlite");

public sealed class RedisSessionsChatClientTests() : SessionsChatClientTests("redis");

public sealed class PostgresSessionsChatClientTests() : SessionsChatClientTests("postgres");
