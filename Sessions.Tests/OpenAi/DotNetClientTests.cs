using System.ClientModel;
using System.ClientModel.Primitives;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Conversations;
using OpenAI.Responses;

#pragma warning disable OPENAI001 // OpenAI's clients of responses and conversations are still marked as experimental.


namespace Sessions.Tests.OpenAi;

/// <summary>OpenAI's .NET client, Microsoft.Extensions.AI and Microsoft Agent Framework against the server.</summary>
public abstract class DotNetClientTests(string storeName) : IAsyncLifetime
{
    private OpenAiStore _store = null!;
    private OpenAiServer _server = null!;

    private static readonly BinaryData Parameters = BinaryData.FromString(
        """{"type":"object","properties":{"round":{"type":"integer"}},"required":["round"]}""");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private ResponsesClient Responses => new(new ApiKeyCredential("none"), new ResponsesClientOptions { Endpoint = _server.BaseUrl });

    private OpenAIClientOptions Options => new() { Endpoint = _server.BaseUrl };

    private ConversationClient Conversations => new(new ApiKeyCredential("none"), Options);

    private ChatClient Chat => new("model", new ApiKeyCredential("none"), Options);

    public async ValueTask InitializeAsync()
    {
        _store = await OpenAiStore.CreateAsync(storeName);
        _server = await OpenAiServer.StartAsync(_store.Settings);
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }

        await _store.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task OpenAI_creates_gets_streams_chains_and_deletes_responses()
    {
        var options = new CreateResponseOptions
        {
            Model = "model",
            Instructions = "Be brief.",
            Temperature = 0.5f,
            Metadata = { ["a"] = "b" },
        };
        options.InputItems.Add(ResponseItem.CreateUserMessageItem("one"));
        ResponseResult first = await Responses.CreateResponseAsync(options, Cancel);
        Assert.Equal("I heard 1: one", first.GetOutputText());
        Assert.Equal(ResponseStatus.Completed, first.Status);
        Assert.Equal(18, first.Usage.TotalTokenCount);
        Assert.Equal("b", first.Metadata["a"]);
        ResponseResult again = await Responses.GetResponseAsync(first.Id, Cancel);
        Assert.Equal(first.GetOutputText(), again.GetOutputText());

        string? id = null;
        var told = "";
        await foreach (var update in Responses.CreateResponseStreamingAsync("model", "two", first.Id, Cancel))
        {
            told += (update as StreamingResponseOutputTextDeltaUpdate)?.Delta;
            id = (update as StreamingResponseCompletedUpdate)?.Response.Id ?? id;
        }

        Assert.Equal("I heard 2: one / two", told);
        var items = await Responses.GetResponseInputItemsAsync(id, Cancel).ToListAsync(Cancel);
        Assert.Equal("two", Assert.IsAssignableFrom<MessageResponseItem>(Assert.Single(items)).Content[0].Text);
        Assert.True((await Responses.DeleteResponseAsync(first.Id, Cancel)).Value.Deleted);
        var gone = await Assert.ThrowsAsync<ClientResultException>(() => Responses.GetResponseAsync(first.Id, Cancel));
        Assert.Equal(404, gone.Status);
        Assert.Contains("not found", gone.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task OpenAI_keeps_conversations()
    {
        ConversationResource made = await Conversations.CreateConversationAsync(new ConversationCreationOptions(), Cancel);
        var body = BinaryContent.Create(BinaryData.FromString("""{"items":[{"type":"message","role":"user","content":"one"}]}"""));
        await Conversations.CreateConversationItemsAsync(made.Id, body, options: new RequestOptions { CancellationToken = Cancel });
        var options = new CreateResponseOptions { Model = "model", ConversationOptions = new ResponseConversationOptions(made.Id) };
        options.InputItems.Add(ResponseItem.CreateUserMessageItem("two"));
        ResponseResult response = await Responses.CreateResponseAsync(options, Cancel);
        Assert.Equal("I heard 2: one / two", response.GetOutputText());
        var count = 0;
        await foreach (var page in Conversations.GetConversationItemsAsync(made.Id, 1, "asc", null, null,
            new RequestOptions { CancellationToken = Cancel }).GetRawPagesAsync())
        {
            count += JsonNode.Parse(page.GetRawResponse().Content)!["data"]!.AsArray().Count;
        }

        Assert.Equal(3, count);
        Assert.True((await Conversations.DeleteConversationAsync(made.Id, Cancel)).Value.Deleted);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task OpenAI_runs_tools_over_three_rounds(bool stream)
    {
        var options = new CreateResponseOptions { Model = "model", StreamingEnabled = stream };
        options.InputItems.Add(ResponseItem.CreateUserMessageItem("call add 3"));
        options.Tools.Add(ResponseTool.CreateFunctionTool("add", Parameters, strictModeEnabled: true, "Adds one"));
        for (var round = 0; ; round++)
        {
            ResponseResult? response = null;
            if (stream)
            {
                await foreach (var update in Responses.CreateResponseStreamingAsync(options, Cancel))
                {
                    response = (update as StreamingResponseCompletedUpdate)?.Response ?? response;
                }
            }
            else
            {
                response = await Responses.CreateResponseAsync(options, Cancel);
            }

            if (round == 3)
            {
                Assert.Equal("after 3 calls: 2, 3, 4", response!.GetOutputText());
                return;
            }

            var call = Assert.IsAssignableFrom<FunctionCallResponseItem>(Assert.Single(response!.OutputItems));
            options.PreviousResponseId = response.Id;
            options.InputItems.Clear();
            options.InputItems.Add(
                ResponseItem.CreateFunctionCallOutputItem(call.CallId, $"{(int)JsonNode.Parse(call.FunctionArguments)!["round"]! + 1}"));
        }
    }

    [Fact]
    public async Task OpenAI_completes_chats()
    {
        OpenAI.Chat.ChatCompletion made = await Chat.CompleteChatAsync([new UserChatMessage("hello")], cancellationToken: Cancel);
        Assert.Equal("I heard 1: hello", made.Content[0].Text);
        var told = "";
        await foreach (var update in Chat.CompleteChatStreamingAsync([new UserChatMessage("hello")], cancellationToken: Cancel))
        {
            told += string.Concat(update.ContentUpdate.Select(part => part.Text));
        }

        Assert.Equal("I heard 1: hello", told);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Extensions_AI_keeps_the_conversation_by_chain_and_by_id(bool stream)
    {
        using var client = Responses.AsIChatClient("model");
        var first = await AskAsync(client, "one", new ChatOptions(), stream);
        Assert.Equal("I heard 1: one", first.Text);
        Assert.StartsWith("resp_", first.ConversationId, StringComparison.Ordinal);
        var second = await AskAsync(client, "two", new ChatOptions { ConversationId = first.ConversationId }, stream);
        Assert.Equal("I heard 2: one / two", second.Text);

        ConversationResource conversation = await Conversations.CreateConversationAsync(new ConversationCreationOptions(), Cancel);
        var options = new ChatOptions { ConversationId = conversation.Id };
        Assert.Equal(conversation.Id, (await AskAsync(client, "one", options, stream)).ConversationId);
        Assert.Equal("I heard 2: one / two", (await AskAsync(client, "two", options, stream)).Text);

        // Asked to store nothing, there is nothing to go on from.
        var unkept = await AskAsync(client, "three",
            new ChatOptions { RawRepresentationFactory = _ => new CreateResponseOptions { StoredOutputEnabled = false } }, stream);
        Assert.Null(unkept.ConversationId);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Extensions_AI_runs_tools_and_reads_structured_answers(bool stream)
    {
        using var client = Responses.AsIChatClient("model").AsBuilder().UseFunctionInvocation().Build();
        var add = AIFunctionFactory.Create((int round) => round + 1, "add", "Adds one");
        var answer = await AskAsync(client, "call add 3", new ChatOptions { Tools = [add] }, stream);
        Assert.EndsWith("after 3 calls: 2, 3, 4", answer.Text, StringComparison.Ordinal);
        var next = await AskAsync(client, "next", new ChatOptions { ConversationId = answer.ConversationId }, stream);
        Assert.Equal("I heard 2: call add 3 / next", next.Text);
        var place = await client.GetResponseAsync<Place>("json", cancellationToken: Cancel);
        Assert.Equal(new Place("Paris", "France"), place.Result);
    }

    [Fact]
    public async Task Extensions_AI_sees_failures_and_answers_that_are_cut_short()
    {
        using var client = Responses.AsIChatClient("model");
        Assert.Equal(502,
            (await Assert.ThrowsAsync<ClientResultException>(() => client.GetResponseAsync("fail", cancellationToken: Cancel))).Status);
        var cut = await client.GetResponseAsync("long", cancellationToken: Cancel);
        Assert.Equal(Microsoft.Extensions.AI.ChatFinishReason.Length, cut.FinishReason);
        List<ChatResponseUpdate> updates = [];
        try
        {
            await foreach (var update in client.GetStreamingResponseAsync("break", cancellationToken: Cancel))
            {
                updates.Add(update);
            }

            Assert.Contains(updates, update => update.Contents.Any(content => content is ErrorContent));
        }
        catch (ClientResultException)
        {
            // Seen as well.
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Agent_Framework_has_sessions_and_tools(bool stream)
    {
        using var client = Responses.AsIChatClient("model");
        var add = AIFunctionFactory.Create((int round) => round + 1, "add", "Adds one");
        var agent = new ChatClientAgent(client, instructions: "Be brief.", name: "Tester", tools: [add]);
        var session = await agent.CreateSessionAsync(Cancel);
        Assert.EndsWith("after 3 calls: 2, 3, 4", await RunAsync(agent, "call add 3", session, stream), StringComparison.Ordinal);
        Assert.Equal("I heard 2: call add 3 / two", await RunAsync(agent, "two", session, stream));
        JsonElement kept = await agent.SerializeSessionAsync(session, cancellationToken: Cancel);
        var restored = await agent.DeserializeSessionAsync(kept, cancellationToken: Cancel);
        Assert.Equal("I heard 3: call add 3 / two / three", await RunAsync(agent, "three", restored, stream));

        ConversationResource conversation = await Conversations.CreateConversationAsync(new ConversationCreationOptions(), Cancel);
        var shared = await agent.CreateSessionAsync(conversation.Id, Cancel);
        Assert.Equal("I heard 1: one", await RunAsync(agent, "one", shared, stream));
        Assert.Equal("I heard 2: one / two", await RunAsync(agent, "two", shared, stream));
        Assert.Equal(4, (await _server.ItemsAsync(conversation.Id)).Count);
    }

    private static async Task<string> RunAsync(ChatClientAgent agent, string text, AgentSession session, bool stream)
    {
        if (!stream)
        {
            return (await agent.RunAsync(text, session, cancellationToken: Cancel)).Text;
        }

        var told = "";
        await foreach (var update in agent.RunStreamingAsync(text, session, cancellationToken: Cancel))
        {
            told += update.Text;
        }

        return told;
    }

    private static async Task<ChatResponse> AskAsync(IChatClient client, string text, ChatOptions options, bool stream) => stream
        ? await client.GetStreamingResponseAsync(text, options, Cancel).ToChatResponseAsync(Cancel)
        : await client.GetResponseAsync(text, options, Cancel);

    private sealed record Place(string City, string Country);
}

public sealed class MemoryDotNetClientTests() : DotNetClientTests("memory");

public sealed class SqliteDotNetClientTests() : DotNetClientTests("sqlite");

public sealed class RedisDotNetClientTests() : DotNetClientTests("redis");

public sealed class PostgresDotNetClientTests() : DotNetClientTests("postgres");
