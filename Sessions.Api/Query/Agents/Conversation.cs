using System.Collections;
using Microsoft.Extensions.AI;

namespace Sessions.Api;

/// <summary>
/// What an agent is given: its instructions, what the earliest turns amount to, the turns from one of them on, and the query. Chat messages are made of it
/// when they are asked for: the agent that is built in reads the texts as they are.
/// </summary>
internal sealed class Conversation(string? instructions, Summary? summary, IReadOnlyList<Turn> turns, int first, Utf8Text query) : IEnumerable<ChatMessage>
{
    /// <summary>What the user said, the query last.</summary>
    public Utf8Text[] Said
    {
        get
        {
            var said = new Utf8Text[turns.Count - first + 1];
            if (turns is IHistoryQueries packed)
            {
                packed.CopyQueries(first, said);
            }
            else
            {
                for (var i = first; i < turns.Count; i++)
                {
                    said[i - first] = turns[i].Query;
                }
            }

            said[^1] = query;
            return said;
        }
    }

    public IEnumerator<ChatMessage> GetEnumerator()
    {
        if (!string.IsNullOrEmpty(instructions))
        {
            yield return new ChatMessage(ChatRole.System, instructions);
        }

        if (summary is not null)
        {
            yield return new ChatMessage(ChatRole.Assistant, summary.Text.ToString());
        }

        for (var i = first; i < turns.Count; i++)
        {
            yield return new ChatMessage(ChatRole.User, turns[i].Query.ToString());
            yield return new ChatMessage(ChatRole.Assistant, turns[i].Response.ToString());
        }

        yield return new ChatMessage(ChatRole.User, query.ToString());
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
