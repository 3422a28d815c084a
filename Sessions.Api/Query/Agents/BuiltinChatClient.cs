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
    private static readonly byte[][] Personal =
    [
        "i am "u8.ToArray(), "i'm "u8.ToArray(), "i work"u8.ToArray(), "i like"u8.ToArray(), "i have"u8.ToArray(), "i use"u8.ToArray(), "i live"u8.ToArray(), "i want"u8.ToArray(), "i need"u8.ToArray(), "i prefer"u8.ToArray(), "my "u8.ToArray(), "we are "u8.ToArray(), "we use"u8.ToArray(), "our "u8.ToArray(), "call me "u8.ToArray(),
    ];

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
        var query = said is [.., var last] ? last : default;
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
        best = best[..MostRelevant(said, query, best)];
        for (var i = 0; i < best.Length; i++)
        {
            answer.AppendLiteral(" \"");
            Quote(ref answer, said[best[i]]);
            answer.AppendLiteral(i < best.Length - 1 ? "\";" : "\".");
        }

        return answer.ToStringAndClear();
    }

    // Earlier statements: those that share words with the query, then those about the user, then the latest. In the order they were said.
    private static int MostRelevant(Utf8Text[] said, Utf8Text query, Span<int> best)
    {
        var words = new WordSet(query.Span, stackalloc WordSet.Entry[WordsCompared]);
        Span<int> scores = stackalloc int[QuotedStatements];
        var count = 0;
        for (var i = 0; i < said.Length - 1; i++)
        {
            var score = Score(said[i].Span, words);
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

    private static int Score(ReadOnlySpan<byte> statement, in WordSet query) =>
        (2 * query.CountIn(statement, WordsCompared)) + (IsPersonal(statement) ? 3 : 0);

    private static bool IsPersonal(ReadOnlySpan<byte> statement)
    {
        if (!statement.IsEmpty && statement[0] <= ' ')
        {
            statement = statement.TrimStart(" \t\r\n"u8);
        }

        if (statement.IsEmpty)
        {
            return false;
        }

        foreach (var beginning in Personal)
        {
            // The first letter tells most apart.
            if (beginning[0] == (statement[0] | 0x20) && statement.Length >= beginning.Length && Ascii.EqualsIgnoreCase(statement[..beginning.Length], beginning))
            {
                return true;
            }
        }

        return false;
    }

    private static void Quote(ref DefaultInterpolatedStringHandler answer, Utf8Text quoted)
    {
        var rented = ArrayPool<char>.Shared.Rent(quoted.Length);
        ReadOnlySpan<char> text = rented.AsSpan(0, Encoding.UTF8.GetChars(quoted.Span, rented)).Trim();
        if (text.Length <= QuotedCharacters)
        {
            answer.AppendFormatted(text);
        }
        else
        {
            answer.AppendFormatted(text[..(char.IsHighSurrogate(text[QuotedCharacters - 1]) ? QuotedCharacters - 1 : QuotedCharacters)]);
            answer.AppendLiteral("…");
        }

        ArrayPool<char>.Shared.Return(rented);
    }
}
