using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;

namespace Sessions.Tests.Agents;

/// <summary>What the library that makes spans is given of a streamed answer, when spans are not to tell what it says.</summary>
public sealed class AgentSpansTests
{
    private static readonly ChatResponseUpdate[] Pieces =
    [
        new(ChatRole.Assistant, "one ") { ModelId = "m" },
        new(ChatRole.Assistant, "two ") { ModelId = "m" },
        new(ChatRole.Assistant, [new TextReasoningContent("why")]),
        new(ChatRole.Assistant, "three"),
        new(ChatRole.Assistant, [new FunctionCallContent("1", "add")]),
        new(ChatRole.Assistant, [new UsageContent(new UsageDetails { OutputTokenCount = 3 })]) { FinishReason = ChatFinishReason.Stop },
    ];

    [Fact]
    public async Task Pieces_of_text_are_one_object_that_holds_nothing_once_they_were_told()
    {
        var (said, kept) = await ReadAsync(Call());

        Assert.Equal(["one  m", "two  m", " ", "three ", " ", " "], said);
        Assert.Same(kept[0], kept[1]);
        Assert.Same(kept[0], kept[3]);
        Assert.Empty(kept[0].Contents);

        // What is no text, or is the end, is as it came: the sum of the answer is made of it.
        Assert.Equal([Pieces[2], Pieces[4], Pieces[5]], kept.Except([kept[0]]));
        var whole = kept.ToChatResponse();
        Assert.Equal((ChatFinishReason.Stop, 3L), (whole.FinishReason!.Value, whole.Usage!.OutputTokenCount));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, true)]
    public async Task Where_spans_tell_answers_or_there_is_no_turn_every_piece_is_as_it_came(bool hasTurn, bool tellsAnswers)
    {
        var (_, kept) = await ReadAsync(hasTurn ? Call() : null, tellsAnswers);

        Assert.Equal(Pieces, kept);
    }

    private static AgentCall Call() => new(
        new AgentRequest { SessionId = "s", Turn = 1, History = [], Input = Items.OfText("hi"), Options = AnswerOptions.None },
        TimeSpan.FromMinutes(1), isStreamed: true);

    private static async Task<(List<string> Said, List<ChatResponseUpdate> Kept)> ReadAsync(AgentCall? call, bool tellsAnswers = false)
    {
        AgentCall.Current = call;
        List<string> said = [];
        List<ChatResponseUpdate> kept = [];
        using var client = new DiscreetChatClient(new Provider()) { TellsAnswers = tellsAnswers };
        await foreach (var piece in client.GetStreamingResponseAsync([], cancellationToken: TestContext.Current.CancellationToken))
        {
            said.Add($"{piece.Text} {piece.ModelId}");
            kept.Add(piece);
        }

        return (said, kept);
    }

    private sealed class Provider : IChatClient
    {
        public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
            IEnumerable<ChatMessage> messages, ChatOptions? options = null,
            [EnumeratorCancellation] CancellationToken cancellationToken = default)
        {
            foreach (var piece in Pieces)
            {
                await Task.Yield();
                yield return piece;
            }
        }

        public Task<ChatResponse> GetResponseAsync(
            IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public object? GetService(Type serviceType, object? serviceKey = null) => null;

        public void Dispose()
        {
        }
    }
}
