using System.Buffers;
using System.Runtime.CompilerServices;
using System.Text;
using Microsoft.Extensions.AI;

namespace Sessions.Api;

/// <summary>
/// An agent without a network and without a language model: it answers from what the user said earlier in the session, and says so. It
/// makes plain what an agent is given, and it is fast and always the same; it knows nothing and writes nothing new.
/// </summary>
internal sealed class BuiltinChatClient : IChatClient
{
    /// <summary>Its name in answers.</summary>
    public const string Name = "builtin";

    private const int QuotedStatements = 3;
    private const int QuotedCharacters = 160;
    private const int WordsCompared = 64;

    private static readonly ChatClientMetadata Metadata = new(Name);

    // The beginnings of sentences in which people tell about themselves.
    private static readonly SearchValues<string> Personal = SearchValues.Create(
        ["i am ", "i'm ", "i work", "i like", "i have", "i use", "i live", "i want", "i need", "i prefer", "my ", "we are ", "we use", "our ", "call me "], StringComparison.OrdinalIgnoreCase);

    public Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return Task.FromResult(new ChatResponse(new ChatMessage(ChatRole.Assistant, Answer(messages))) { ModelId = Name, FinishReason = ChatFinishReason.Stop });
    }

    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var answer = Answer(messages);
        for (var start = 0; start < answer.Length;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var space = answer.IndexOf(' ', start);
            var end = space < 0 ? answer.Length : space + 1;
            yield return new ChatResponseUpdate(ChatRole.Assistant, answer[start..end]) { ModelId = Name };
            start = end;
            await Task.Yield();
        }
    }

    public object? GetService(Type serviceType, object? serviceKey = null) =>
        serviceKey is not null ? null : serviceType == typeof(ChatClientMetadata) ? Metadata : serviceType.IsInstanceOfType(this) ? this : null;

    public void Dispose()
    {
    }

    private static string Answer(IEnumerable<ChatMessage> messages)
    {
        var said = messages is Conversation conversation ? conversation.Said
            : [.. messages.Where(message => message.Role == ChatRole.User).Select(message => (Utf8Text)message.Text)];

        // Room for the query, and for one earlier statement at a time.
        var query = said is [.., var last] ? last : default;
        var longest = 0;
        foreach (var text in said)
        {
            longest = Math.Max(longest, text.Length);
        }

        var rented = ArrayPool<char>.Shared.Rent(query.Length + longest);
        try
        {
            var asked = rented.AsSpan(0, Encoding.UTF8.GetChars(query.Span, rented));
            return Answer(said, asked, rented.AsSpan(asked.Length));
        }
        finally
        {
            ArrayPool<char>.Shared.Return(rented);
        }
    }

    private static string Answer(Utf8Text[] said, ReadOnlySpan<char> query, Span<char> room)
    {
        var answer = new DefaultInterpolatedStringHandler(0, 0, provider: null, stackalloc char[1024]);
        if (said.Length < 2)
        {
            answer.AppendLiteral("You said: \"");
            Quote(ref answer, query);
            answer.AppendLiteral("\". Nothing came before it in this session; I will remember it.");
            return answer.ToStringAndClear();
        }

        answer.AppendLiteral("To \"");
        Quote(ref answer, query);
        answer.AppendLiteral("\" I can say what you told me before:");
        Span<int> best = stackalloc int[QuotedStatements];
        best = best[..MostRelevant(said, query, room, best)];
        for (var i = 0; i < best.Length; i++)
        {
            answer.AppendLiteral(" \"");
            Quote(ref answer, Decode(said[best[i]], room));
            answer.AppendLiteral(i < best.Length - 1 ? "\";" : "\".");
        }

        return answer.ToStringAndClear();
    }

    // Earlier statements: those that share words with the query, then those about the user, then the latest. In the order they were said.
    private static int MostRelevant(Utf8Text[] said, ReadOnlySpan<char> query, Span<char> room, Span<int> best)
    {
        var words = new WordSet(query, stackalloc WordSet.Entry[WordsCompared]);
        Span<int> scores = stackalloc int[QuotedStatements];
        var count = 0;
        for (var i = 0; i < said.Length - 1; i++)
        {
            var score = Score(Decode(said[i], room), words);
            var place = 0;
            while (place < count && score < scores[place])
            {
                place++;
            }

            if (place == QuotedStatements)
            {
                continue;
            }

            count = Math.Min(count + 1, QuotedStatements);
            for (var behind = count - 1; behind > place; behind--)
            {
                (scores[behind], best[behind]) = (scores[behind - 1], best[behind - 1]);
            }

            (scores[place], best[place]) = (score, i);
        }

        best[..count].Sort();
        return count;
    }

    private static int Score(ReadOnlySpan<char> statement, in WordSet query)
    {
        var score = 0;
        var words = new Words(statement);
        for (var compared = 0; compared < WordsCompared && words.Next(); compared++)
        {
            score += query.Contains(words) ? 2 : 0;
        }

        return statement.TrimStart().IndexOfAny(Personal) == 0 ? score + 3 : score;
    }

    private static ReadOnlySpan<char> Decode(Utf8Text text, Span<char> room) => room[..Encoding.UTF8.GetChars(text.Span, room)];

    private static void Quote(ref DefaultInterpolatedStringHandler answer, ReadOnlySpan<char> text)
    {
        text = text.Trim();
        if (text.Length <= QuotedCharacters)
        {
            answer.AppendFormatted(text);
            return;
        }

        answer.AppendFormatted(text[..(char.IsHighSurrogate(text[QuotedCharacters - 1]) ? QuotedCharacters - 1 : QuotedCharacters)]);
        answer.AppendLiteral("…");
    }
}
