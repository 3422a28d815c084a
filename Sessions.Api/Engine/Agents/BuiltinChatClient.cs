using System.Buffers;
using System.Runtime.CompilerServices;
using System.Text;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// An agent without a network and without a language model: it quotes what the user said last in the session, and says so. It makes plain
/// what an agent is given, and it is fast
/// and always the same; it knows nothing and writes nothing new.
/// </summary>
internal sealed class BuiltinChatClient : IChatClient
{
    /// <summary>Its name in answers.</summary>
    public const string Name = "builtin";

    private const int QuotedStatements = 3;
    private const int QuotedCharacters = 160;

    private static readonly ChatClientMetadata Metadata = new(Name);

    public Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var (answer, end) = Cut(Answer((Conversation)messages), options);
        return Task.FromResult(new ChatResponse(new ChatMessage(ChatRole.Assistant, answer)) { FinishReason = end });
    }

    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var (answer, finished) = Cut(Answer((Conversation)messages), options);
        for (var start = 0; start < answer.Length;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var space = answer.IndexOf(' ', start);
            var end = space < 0 ? answer.Length : space + 1;
            yield return new ChatResponseUpdate(ChatRole.Assistant, answer[start..end])
            {
                FinishReason = end == answer.Length ? finished : null,
            };
            start = end;
            await Task.Yield();
        }
    }

    public object? GetService(Type serviceType, object? serviceKey = null) =>
        serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? Metadata
            : serviceType.IsInstanceOfType(this) ? this
            : null;

    public void Dispose()
    {
    }

    // Its tokens are words.
    private static (string Answer, ChatFinishReason End) Cut(string answer, ChatOptions? options)
    {
        if (options?.MaxOutputTokens is { } max)
        {
            var end = -1;
            do
            {
                end = answer.IndexOf(' ', end + 1);
            }
            while (end >= 0 && --max > 0);
            if (end >= 0)
            {
                return (answer[..end], ChatFinishReason.Length);
            }
        }

        return (answer, ChatFinishReason.Stop);
    }

    private static string Answer(Conversation conversation)
    {
        Span<Utf8Text> said = new Utf8Text[QuotedStatements];
        said = said[..conversation.LastSaid(said)];
        var answer = new DefaultInterpolatedStringHandler(0, 0, provider: null, stackalloc char[1024]);
        if (said.IsEmpty)
        {
            answer.AppendLiteral("You said: \"");
            Quote(ref answer, conversation.Query);
            answer.AppendLiteral("\". Nothing came before it in this session; I will remember it.");
            return answer.ToStringAndClear();
        }

        answer.AppendLiteral("To \"");
        Quote(ref answer, conversation.Query);
        answer.AppendLiteral("\" I can say what you told me before:");
        for (var i = 0; i < said.Length; i++)
        {
            answer.AppendLiteral(" \"");
            Quote(ref answer, said[i]);
            answer.AppendLiteral(i < said.Length - 1 ? "\";" : "\".");
        }

        return answer.ToStringAndClear();
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
