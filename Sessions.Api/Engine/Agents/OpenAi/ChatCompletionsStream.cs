using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;

namespace Sessions.Api.Engine.Agents.OpenAi;

/// <summary>A streamed answer, read piece by piece: bounded in bytes and number, and with an end. An answer that lacks its end was broken
/// off; one that comes whole, although pieces were asked for, is one piece.</summary>
/// <param name="settings">The agent's, which bound it.</param>
/// <param name="ask">Asks for the answer.</param>
internal sealed class ChatCompletionsStream(AgentSettings settings, Func<CancellationToken, Task<HttpResponseMessage>> ask)
{
    private int _pieces;

    /// <summary>Asks, and reads what comes, as it comes. Once.</summary>
    public async IAsyncEnumerable<ChatResponseUpdate> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        using var response = await ask(cancellationToken);
        var (content, call) = (response.Content, AgentCall.Current!);
        var answer = call.Answers[^1];
        var reader = new ChatCompletionsReader(answer, call);
        if (content.Headers.ContentType?.MediaType == ChatCompletionsHandler.Whole)
        {
            yield return reader.ReadPiece(await content.ReadAsByteArrayAsync(cancellationToken));
            if (reader.Calls(areTold: true) is { } all)
            {
                yield return all;
            }

            yield break;
        }

        await using var body = new BoundedStream(await content.ReadAsStreamAsync(cancellationToken), settings.ProviderBytes);
        var isDone = false;
        await foreach (var piece in SseParser.Create(body, (type, data) => Parse(reader, type, data)).EnumerateAsync(cancellationToken))
        {
            if (piece.Data is null)
            {
                isDone = true;
                break;
            }

            yield return piece.Data;
        }

        // Some servers never say [DONE], others give no reason; without either it is not the end.
        if (!isDone && answer.FinishReason is null)
        {
            throw _pieces == 0 ? new FormatException("No event.") : new ProviderException(ProviderFault.BrokenOff);
        }

        if (reader.Calls(areTold: true) is { } calls)
        {
            yield return calls;
        }
    }

    // Null: the provider says that this is the end.
    private ChatResponseUpdate? Parse(ChatCompletionsReader reader, string type, ReadOnlySpan<byte> data)
    {
        if (++_pieces > settings.ProviderPieces)
        {
            throw new ProviderException(ProviderFault.TooLarge);
        }

        return data.Trim((byte)' ').SequenceEqual("[DONE]"u8) ? null
            : type == "error" ? throw reader.RefusedBy(data.ToArray())
            : reader.ReadPiece(data);
    }
}
