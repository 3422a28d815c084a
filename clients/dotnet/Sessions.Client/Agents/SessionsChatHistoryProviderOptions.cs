using Microsoft.Extensions.AI;

namespace Sessions.Client;

/// <summary>What a <see cref="SessionsChatHistoryProvider"/> keeps, and what of it the model is told.</summary>
public sealed record SessionsChatHistoryProviderOptions
{
    /// <summary>The user whose conversations these are; anybody who has the id may go on with one where it is absent.</summary>
    public string? UserId { get; init; }

    /// <summary>
    /// What the turns are told to be made by: the agent's name where it is absent. The server's <c>agent_type</c>.
    /// </summary>
    public string? AgentType { get; init; }

    /// <summary>How many turns the model is told at the most: the newest. All where it is absent.</summary>
    public int? MaxTurns { get; init; }

    /// <summary>
    /// How many items (messages, calls, outputs, reasoning) the model is told at the most. Turns are told whole, and the newest always:
    /// a call is never cut from its output. All where it is absent.
    /// </summary>
    public int? MaxItems { get; init; }

    /// <summary>The key under which the agent's session keeps the conversation's id.</summary>
    public string StateKey { get; init; } = nameof(SessionsChatHistoryProvider);

    /// <summary>Which of the messages that came in are kept: all but those of the history where it is absent.</summary>
    public Func<IEnumerable<ChatMessage>, IEnumerable<ChatMessage>>? RequestMessageFilter { get; init; }

    /// <summary>Which of the messages that the agent made are kept: all where it is absent.</summary>
    public Func<IEnumerable<ChatMessage>, IEnumerable<ChatMessage>>? ResponseMessageFilter { get; init; }
}
