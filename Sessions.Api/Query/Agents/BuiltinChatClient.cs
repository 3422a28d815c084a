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
    private static readonly string[] Personal = ["i am ", "i'm ", "i work", "i like", "i have", "i use", "i live", "i want", "i need", "i prefer", "my ", "we are ", "we use", "our ", "call me "];

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
        var said = new List<string>();
        foreach (var message in messages)
        {
            if (message.Role == ChatRole.User)
            {
                said.Add(message.Text);
            }
        }

        var query = said.Count > 0 ? said[^1] : "";
        var answer = new StringBuilder(256);
        if (said.Count < 2)
        {
            answer.Append("You said: \"").Append(Quote(query)).Append("\". Nothing came before it in this session; I will remember it.");
            return answer.ToString();
        }

        answer.Append("To \"").Append(Quote(query)).Append("\" I can say what you told me before:");
        foreach (var index in MostRelevant(said, query))
        {
            answer.Append(" \"").Append(Quote(said[index])).Append("\";");
        }

        answer[^1] = '.';
        return answer.ToString();
    }

    // Earlier statements: those that share words with the query, then those about the user, then the latest. In the order they were said.
    private static List<int> MostRelevant(List<string> said, string query)
    {
        var words = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        var lookup = words.GetAlternateLookup<ReadOnlySpan<char>>();
        foreach (var range in Words(query))
        {
            if (words.Count == WordsCompared)
            {
                break;
            }

            lookup.Add(query.AsSpan(range));
        }

        var best = new List<(int Score, int Index)>(QuotedStatements + 1);
        for (var i = 0; i < said.Count - 1; i++)
        {
            var score = Score(said[i], lookup);
            var place = best.FindIndex(other => score >= other.Score);
            best.Insert(place < 0 ? best.Count : place, (score, i));
            if (best.Count > QuotedStatements)
            {
                best.RemoveAt(QuotedStatements);
            }
        }

        var indexes = best.ConvertAll(statement => statement.Index);
        indexes.Sort();
        return indexes;
    }

    private static int Score(string statement, HashSet<string>.AlternateLookup<ReadOnlySpan<char>> query)
    {
        var score = 0;
        var compared = 0;
        foreach (var range in Words(statement))
        {
            score += query.Contains(statement.AsSpan(range)) ? 2 : 0;
            if (++compared == WordsCompared)
            {
                break;
            }
        }

        var start = statement.AsSpan().TrimStart();
        foreach (var beginning in Personal)
        {
            if (start.StartsWith(beginning, StringComparison.OrdinalIgnoreCase))
            {
                return score + 3;
            }
        }

        return score;
    }

    // Words of four letters and more; shorter ones say little.
    private static IEnumerable<Range> Words(string text)
    {
        var start = 0;
        for (var i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && (char.IsLetterOrDigit(text[i]) || char.IsSurrogate(text[i])))
            {
                continue;
            }

            if (i - start >= 4)
            {
                yield return start..i;
            }

            start = i + 1;
        }
    }

    private static string Quote(string text)
    {
        text = text.Trim();
        return text.Length <= QuotedCharacters ? text
            : string.Concat(text.AsSpan(0, char.IsHighSurrogate(text[QuotedCharacters - 1]) ? QuotedCharacters - 1 : QuotedCharacters), "…");
    }
}
