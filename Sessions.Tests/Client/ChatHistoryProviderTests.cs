using System.Text.Json;
using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Sessions.Client;

namespace Sessions.Tests.Client;

/// <summary>Agents of Microsoft Agent Framework that run on the client's side, with a history that the server keeps.</summary>
public abstract class ChatHistoryProviderTests(string storeName) : IAsyncLifetime
{
    private readonly LocalModel _model = new();
    private ClientFixture _fixture = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private SessionsClient Client => _fixture.Client;

    public async ValueTask InitializeAsync() => _fixture = await ClientFixture.StartAsync(storeName);

    public async ValueTask DisposeAsync()
    {
        await _fixture.DisposeAsync();
        _model.Dispose();
        GC.SuppressFinalize(this);
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public async Task A_conversation_with_tools_goes_on_from_its_serialized_state_and_from_its_id(bool stream, bool perCall)
    {
        var provider = _fixture.Application.GetRequiredService<SessionsChatHistoryProvider>();
        var agent = ClientFixture.Agent(_model, provider, perCall);
        var session = await agent.CreateSessionAsync(Cancel);
        Assert.EndsWith("after 2 calls: 2, 3", await ClientFixture.RunAsync(agent, "call add 2", session, stream),
            StringComparison.Ordinal);
        Assert.EndsWith("after 2 calls: 2, 3", await ClientFixture.RunAsync(agent, "both add", session, stream), StringComparison.Ordinal);

        // The state is the id and nothing else: another process goes on with it.
        var state = await agent.SerializeSessionAsync(session, cancellationToken: Cancel);
        var id = provider.GetSessionId(session);
        Assert.Equal(id, state.GetProperty("stateBag").GetProperty(nameof(SessionsChatHistoryProvider)).GetProperty("session_id")
            .GetString());
        Assert.True(state.GetRawText().Length < 200, state.GetRawText());
        var other = _fixture.AddApplication().GetRequiredService<SessionsChatHistoryProvider>();
        var second = ClientFixture.Agent(_model, other, perCall);
        var restored = await second.DeserializeSessionAsync(state, cancellationToken: Cancel);
        Assert.Equal("I heard 3: call add 2 / both add / three", await ClientFixture.RunAsync(second, "three", restored, stream));

        var byId = await second.CreateSessionAsync(Cancel);
        other.SetSessionId(byId, id);
        Assert.Equal("I heard 4: call add 2 / both add / three / four", await ClientFixture.RunAsync(second, "four", byId, stream));

        // What the model is told: each call before its output, those of one message together.
        var told = _model.Requests[^1];
        var calls = told.Single(message => message.Contents.OfType<FunctionCallContent>().Count() == 2);
        Assert.Equal("Let me see.", calls.Text);
        Assert.Equal(
            calls.Contents.OfType<FunctionCallContent>().Select(call => call.CallId),
            told[told.ToList().IndexOf(calls) + 1].Contents.OfType<FunctionResultContent>().Select(result => result.CallId));
        var turns = await Client.GetHistoryAsync(id, includeItems: true, cancellationToken: Cancel).ToListAsync(Cancel);
        Assert.Equal(perCall ? 7 : 4, turns.Count);
        Assert.All(turns, turn => Assert.Equal(("appended", "Tester"), (turn.Status, turn.AgentType)));
        Assert.Equal("four", turns[^1].Query);
    }

    [Fact]
    public async Task What_is_said_comes_back_as_it_was()
    {
        var provider = new SessionsChatHistoryProvider(Client);
        var agent = ClientFixture.Agent(_model, provider);
        var session = await agent.CreateSessionAsync(Cancel);
        ChatMessage[] messages =
        [
            new(ChatRole.User,
            [
                new TextContent("think"),
                new DataContent(new byte[] { 1, 2, 3 }, "image/png"),
                new UriContent("https://example.org/cat.png", "image/png"),
                new DataContent(new byte[] { 4, 5 }, "application/pdf") { Name = "paper.pdf" },
                new HostedFileContent("file_1"),
            ])
            { AuthorName = "Ada" },
        ];
        await agent.RunAsync(messages, session, cancellationToken: Cancel);
        await ClientFixture.RunAsync(agent, "next", session);

        var told = _model.Requests[^1];
        Assert.Equal(["user", "assistant", "user"], told.Select(message => message.Role.Value));
        Assert.Equal("Ada", told[0].AuthorName);
        Assert.Equal("think", told[0].Text);
        Assert.Equal("data:image/png;base64,AQID", told[0].Contents.OfType<DataContent>().First().Uri);
        Assert.Equal("https://example.org/cat.png", told[0].Contents.OfType<UriContent>().Single().Uri.AbsoluteUri);
        Assert.Equal(("application/pdf", "paper.pdf"),
            (told[0].Contents.OfType<DataContent>().Last().MediaType, told[0].Contents.OfType<DataContent>().Last().Name));
        Assert.Equal("file_1", told[0].Contents.OfType<HostedFileContent>().Single().FileId);
        var reasoning = told[1].Contents.OfType<TextReasoningContent>().Single();
        Assert.Equal(("hm", "c2VhbGVk", "thought"), (reasoning.Text, reasoning.ProtectedData, told[1].Text));
    }

    [Fact]
    public async Task A_tool_that_needs_an_approval_gets_it_in_a_later_process()
    {
        var provider = new SessionsChatHistoryProvider(Client);
        var asked = new ApprovalRequiredAIFunction(AIFunctionFactory.Create((int round) => round + 1, "add"));
        var agent = new ChatClientAgent(_model,
            new ChatClientAgentOptions { ChatHistoryProvider = provider, ChatOptions = new ChatOptions { Tools = [asked] } });
        var session = await agent.CreateSessionAsync(Cancel);
        var first = await agent.RunAsync("call add 1", session, cancellationToken: Cancel);
        var request = first.Messages.SelectMany(message => message.Contents).OfType<ToolApprovalRequestContent>().Single();

        var state = await agent.SerializeSessionAsync(session, cancellationToken: Cancel);
        var restored = await agent.DeserializeSessionAsync(state, cancellationToken: Cancel);
        var second = await agent.RunAsync(new ChatMessage(ChatRole.User, [request.CreateResponse(approved: true)]), restored,
            cancellationToken: Cancel);
        Assert.Contains("2", second.Messages.SelectMany(message => message.Contents).OfType<FunctionResultContent>()
            .Select(result => $"{result.Result}"));
        Assert.StartsWith("I heard", (await agent.RunAsync("after", restored, cancellationToken: Cancel)).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Two_runs_at_once_are_one_after_the_other_or_one_is_refused()
    {
        // Both have read the history before either is kept.
        var provider = new SessionsChatHistoryProvider(Client);
        var agent = ClientFixture.Agent(_model, provider);
        var session = await agent.CreateSessionAsync(Cancel);
        await ClientFixture.RunAsync(agent, "first", session);
        var both = new TaskCompletionSource();
        var begun = 0;
        _model.Before = _ =>
        {
            if (Interlocked.Increment(ref begun) == 2)
            {
                both.SetResult();
            }

            return both.Task.WaitAsync(TimeSpan.FromMinutes(1), Cancel);
        };
        List<Task<string>> runs = [ClientFixture.RunAsync(agent, "left", session), ClientFixture.RunAsync(agent, "right", session)];
        var refused = await Assert.ThrowsAsync<SessionsException>(() => Task.WhenAll(runs));
        Assert.Equal((SessionsException.TurnConflict, System.Net.HttpStatusCode.Conflict, "expected_turn"),
            (refused.Code, refused.Status, refused.Field));
        _ = Assert.Single(runs, run => run.IsCompletedSuccessfully);
        _model.Before = _ => Task.CompletedTask;
        Assert.StartsWith("I heard 3: first / ", await ClientFixture.RunAsync(agent, "last", session), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Many_processes_at_once_never_mix_what_they_say()
    {
        const int Runs = 12;
        var id = Guid.NewGuid().ToString();
        await Task.WhenAll(Enumerable.Range(0, Runs).Select(async run =>
        {
            var provider = _fixture.AddApplication().GetRequiredService<SessionsChatHistoryProvider>();
            var agent = ClientFixture.Agent(_model, provider);
            var session = await agent.CreateSessionAsync(Cancel);
            provider.SetSessionId(session, id);
            while (true)
            {
                try
                {
                    await ClientFixture.RunAsync(agent, $"run {run}", session);
                    return;
                }
                catch (SessionsException e) when (e.Code is SessionsException.TurnConflict or "session_busy")
                {
                    // Again, with what was said meanwhile.
                }
            }
        }));

        // Each has answered to exactly what stands before it.
        var turns = await Client.GetHistoryAsync(id, cancellationToken: Cancel).ToListAsync(Cancel);
        Assert.Equal(Enumerable.Range(1, Runs), turns.Select(turn => turn.Number));
        Assert.Equal(Runs, turns.Select(turn => turn.Query).Distinct().Count());
        Assert.All(turns, turn => Assert.Equal(
            $"I heard {turn.Number}: {string.Join(" / ", turns.Take(turn.Number).Select(before => before.Query))}", turn.Response));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_run_that_fails_leaves_nothing(bool stream)
    {
        var provider = new SessionsChatHistoryProvider(Client);
        var agent = ClientFixture.Agent(_model, provider);
        var session = await agent.CreateSessionAsync(Cancel);
        await ClientFixture.RunAsync(agent, "one", session, stream);
        await Assert.ThrowsAsync<InvalidOperationException>(() => ClientFixture.RunAsync(agent, "fail", session, stream));

        // A client that stops listening, in the middle of the answer.
        await foreach (var _ in agent.RunStreamingAsync("left", session, cancellationToken: Cancel))
        {
            break;
        }

        Assert.Equal("I heard 2: one / two", await ClientFixture.RunAsync(agent, "two", session, stream));
    }

    [Fact]
    public async Task A_call_that_was_left_without_an_output_does_not_end_the_conversation()
    {
        var id = Guid.NewGuid().ToString();
        using var call = JsonDocument.Parse("""{"type":"function_call","call_id":"c1","name":"add","arguments":"{}"}""");
        await Client.AppendTurnAsync(id, new NewTurn { Query = "one", Output = [call.RootElement] }, Cancel);
        var provider = new SessionsChatHistoryProvider(Client);
        var agent = ClientFixture.Agent(_model, provider);
        var session = await agent.CreateSessionAsync(Cancel);
        provider.SetSessionId(session, id);
        Assert.Equal("I heard 2: one / two", await ClientFixture.RunAsync(agent, "two", session));
        Assert.Empty(_model.Requests[^1].SelectMany(message => message.Contents).OfType<FunctionCallContent>());
    }

    [Fact]
    public async Task A_window_has_whole_turns()
    {
        var provider = new SessionsChatHistoryProvider(Client);
        var agent = ClientFixture.Agent(_model, provider);
        var session = await agent.CreateSessionAsync(Cancel);
        foreach (var text in (string[])["one", "call add 2", "three", "four"])
        {
            await ClientFixture.RunAsync(agent, text, session);
        }

        Assert.Equal("I heard 3: three / four / a", await AskAsync(new SessionsChatHistoryProviderOptions { MaxTurns = 2 }, "a"));

        // Two items each, and six of the turn with the tool, which has no room.
        Assert.Equal("I heard 4: three / four / a / b", await AskAsync(new SessionsChatHistoryProviderOptions { MaxItems = 11 }, "b"));
        Assert.Equal("I heard 6: call add 2 / three / four / a / b / c",
            await AskAsync(new SessionsChatHistoryProviderOptions { MaxItems = 14 }, "c"));
        Assert.Equal("I heard 2: c / d", await AskAsync(new SessionsChatHistoryProviderOptions { MaxItems = 1 }, "d"));

        async Task<string> AskAsync(SessionsChatHistoryProviderOptions options, string text)
        {
            var windowed = new SessionsChatHistoryProvider(Client, options);
            var agent = ClientFixture.Agent(_model, windowed);
            var own = await agent.CreateSessionAsync(Cancel);
            windowed.SetSessionId(own, provider.GetSessionId(session));
            return await ClientFixture.RunAsync(agent, text, own);
        }
    }

    [Fact]
    public async Task A_long_history_is_read_whole()
    {
        var id = Guid.NewGuid().ToString();
        for (var i = 0; i < 120; i++)
        {
            await Client.AppendTurnAsync(id, new NewTurn { Query = $"{i}", Response = "yes" }, Cancel);
        }

        var provider = new SessionsChatHistoryProvider(Client);
        var agent = ClientFixture.Agent(_model, provider);
        var session = await agent.CreateSessionAsync(Cancel);
        provider.SetSessionId(session, id);
        Assert.Equal($"I heard 121: {string.Join(" / ", Enumerable.Range(0, 120))} / last",
            await ClientFixture.RunAsync(agent, "last", session));
    }

    [Fact]
    public async Task A_foreign_user_is_refused_before_the_model_is_asked()
    {
        var ada = new SessionsChatHistoryProvider(Client, new SessionsChatHistoryProviderOptions { UserId = "ada" });
        var agent = ClientFixture.Agent(_model, ada);
        var session = await agent.CreateSessionAsync(Cancel);
        await ClientFixture.RunAsync(agent, "mine", session);
        var state = await agent.SerializeSessionAsync(session, cancellationToken: Cancel);

        var eve = ClientFixture.Agent(_model, new SessionsChatHistoryProvider(Client,
            new SessionsChatHistoryProviderOptions { UserId = "eve" }));
        var stolen = await eve.DeserializeSessionAsync(state, cancellationToken: Cancel);
        var asked = _model.Requests.Count;
        var refused = await Assert.ThrowsAsync<SessionsException>(() => ClientFixture.RunAsync(eve, "whose?", stolen));
        Assert.Equal(SessionsException.SessionNotFound, refused.Code);
        Assert.Equal(asked, _model.Requests.Count);

        // Erased with its user.
        Assert.Equal(1, (await Client.EraseUserAsync("ada", Cancel)).SessionsRemoved);
        Assert.Equal("I heard 1: again", await ClientFixture.RunAsync(agent, "again", session));
    }

    [Fact]
    public async Task A_server_that_dies_while_the_model_answers_keeps_the_run_once()
    {
        Assert.SkipUnless(_fixture.IsDurable, "The memory store forgets with its process.");
        var provider = new SessionsChatHistoryProvider(Client);
        var agent = ClientFixture.Agent(_model, provider);
        var session = await agent.CreateSessionAsync(Cancel);
        await ClientFixture.RunAsync(agent, "one", session);
        _model.Before = _ => _fixture.Server.RestartAsync();
        Assert.Equal("I heard 2: one / two", await ClientFixture.RunAsync(agent, "two", session));
        _model.Before = _ => Task.CompletedTask;
        Assert.Equal("I heard 3: one / two / three", await ClientFixture.RunAsync(agent, "three", session));
    }

    [Fact]
    public async Task A_client_that_keeps_the_history_itself_is_refused_by_the_framework()
    {
        using var client = new SessionsChatClient(Client, new SessionsChatClientOptions { AgentType = "model" });
        var agent = ClientFixture.Agent(client, new SessionsChatHistoryProvider(Client));
        var session = await agent.CreateSessionAsync(Cancel);
        var refused = await Assert.ThrowsAsync<InvalidOperationException>(() => ClientFixture.RunAsync(agent, "one", session));
        Assert.Contains(nameof(ChatHistoryProvider), refused.Message, StringComparison.Ordinal);

        // And the other way round.
        var local = new ChatClientAgent(_model);
        var byId = await local.CreateSessionAsync("conv_1", Cancel);
        await Assert.ThrowsAsync<InvalidOperationException>(() => ClientFixture.RunAsync(local, "one", byId));
    }
}

public sealed class MemoryChatHistoryProviderTests() : ChatHistoryProviderTests("memory");

public sealed class SqliteChatHistoryProviderTests() : ChatHistoryProviderTests("sqlite");

public sealed class RedisChatHistoryProviderTests() : ChatHistoryProviderTests("redis");

public sealed class PostgresChatHistoryProviderTests() : ChatHistoryProviderTests("postgres");
