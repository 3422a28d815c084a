using Microsoft.Extensions.AI;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>
/// Keeps a long conversation short: each time twice as many turns have come together as an agent is given, all but the last of them
/// become part of the summary, which the model
/// itself writes. A summary claims only what was read, whole turns without a gap; and an answer never depends on whether there is one.
/// </summary>
/// <param name="client">The model.</param>
/// <param name="keptTurns">How many turns stay as they are.</param>
internal sealed class Summarizer(IChatClient client, int keptTurns)
{
    private const string Instructions =
        "Write a clear and complete summary of the conversation above, in at most five sentences, for somebody who is going to continue it "
        + "and will not have read it. "
        + "Where it begins with an earlier summary, take that into yours. Keep names, numbers, dates, decisions and preferences. Write in "
        + "the language of the conversation, and write nothing but the summary.";

    // A summary that is longer than this is none.
    private const int MaxBytes = 64 << 10;

    /// <summary>How many turns are to be read at the most.</summary>
    public int HistoryTurns => (2 * keptTurns) + 1;

    /// <summary>Which turns are to be summarised, if it is time: these come first.</summary>
    /// <param name="summary">The summary there is.</param>
    /// <param name="uncovered">The turns that it does not cover, oldest first.</param>
    public int Due(Summary? summary, IReadOnlyList<Turn> uncovered) =>
        // Turns in between that are not at hand would be claimed without having been read.
        uncovered.Count > 2 * keptTurns && uncovered[0].Parent == (summary?.CoversTurns ?? 0) ? uncovered.Count - keptTurns : 0;

    /// <summary>Writes a summary.</summary>
    /// <returns>The summary; <see langword="null"/>: what came back is none.</returns>
    public async Task<Summary?> WriteAsync(
        Summary? summary, IEnumerable<Turn> turns, ChatOptions options, CancellationToken cancellationToken)
    {
        List<ChatMessage> messages = [];
        if (summary is not null)
        {
            messages.Add(new ChatMessage(ChatRole.Assistant, summary.Text.ToString()));
        }

        var last = 0;
        foreach (var turn in turns)
        {
            Add(messages, ChatRole.User, turn.Input.TextOf(ItemSide.Input));
            Add(messages, ChatRole.Assistant, turn.Output.TextOf(ItemSide.Output));
            last = turn.Number;
        }

        messages.Add(new ChatMessage(ChatRole.System, Instructions));
        var response = await client.GetResponseAsync(messages, options, cancellationToken);
        Utf8Text text = response.Text;
        return text.IsBlank || text.Length > MaxBytes || response.FinishReason == ChatFinishReason.Length ? null : new Summary(text, last);
    }

    private static void Add(List<ChatMessage> messages, ChatRole role, Utf8Text? text)
    {
        if (text is { } said)
        {
            messages.Add(new ChatMessage(role, said.ToString()));
        }
    }
}
