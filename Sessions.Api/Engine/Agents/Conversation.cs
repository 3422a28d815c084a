using System.Collections;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// What an agent is given: instructions, what the earliest turns amount to, the turns behind these, and what is asked. Chat
/// messages are made of it
/// when they are asked for: the agent that is built in reads the texts as they are.
/// </summary>
internal sealed class Conversation(
    string? instructions, Summary? summary, IReadOnlyList<Turn> turns, Items input, AgentSettings agent, string agentUsed)
    : IEnumerable<ChatMessage>
{
    private List<ChatMessage>? _messages;

    /// <summary>What the user says now.</summary>
    public Utf8Text Query => input.TextOf(ItemSide.Input) ?? default;

    /// <summary>What the user said last before that, oldest first.</summary>
    /// <param name="said">Gets the texts.</param>
    /// <returns>How many there are.</returns>
    public int LastSaid(Span<Utf8Text> said)
    {
        var left = said.Length;
        for (var i = turns.Count - 1; i >= 0 && left > 0; i--)
        {
            if (turns[i].Input.TextOf(ItemSide.Input) is { } text)
            {
                said[--left] = text;
            }
        }

        var count = said.Length - left;
        said[left..].CopyTo(said);
        return count;
    }

    public IEnumerator<ChatMessage> GetEnumerator() => (_messages ??= Make()).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private List<ChatMessage> Make()
    {
        List<ChatMessage> messages = [];
        if (!string.IsNullOrEmpty(instructions))
        {
            messages.Add(new ChatMessage(ChatRole.System, instructions));
        }

        if (summary is not null)
        {
            messages.Add(new ChatMessage(ChatRole.Assistant, summary.Text.ToString()));
        }

        using var items = new ItemMessages(agent);
        foreach (var turn in turns)
        {
            items.Add(turn.Input, ItemSide.Input);
            items.Add(turn.Output, ItemSide.Output, isForeign: turn.AgentUsed != agentUsed);
        }

        items.Add(input, ItemSide.Input, "input");
        items.WriteTo(messages);
        return messages;
    }
}
