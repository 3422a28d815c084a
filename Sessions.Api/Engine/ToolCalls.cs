using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>
/// What calls of functions and their outputs ask of each other: an output belongs to a call that came before it and waits for one, and
/// before an agent answers again no call may be left waiting.
/// </summary>
internal static class ToolCalls
{
    /// <summary>Requires that the input answers calls that wait, and leaves none waiting.</summary>
    /// <param name="history">The last turns of the path.</param>
    /// <param name="needed">The turns with the calls of the input's outputs, also from before these.</param>
    /// <param name="input">The input.</param>
    /// <param name="sessionId">The session, for messages.</param>
    /// <exception cref="DomainException"><c>tool_output_required</c>, <c>tool_call_not_found</c>.</exception>
    public static void Require(IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed, Items input, string sessionId)
    {
        var waiting = WaitingAfter(history, needed);
        RequireCalls(Read(input), ref waiting, sessionId);
        if (waiting?.Find(call => !call.MayBeLeft) is { CallId: { } open })
        {
            throw new DomainException(new Error("tool_output_required", $"No tool output found for function call {Error.Shorten(open)}.")
            {
                Field = "input",
                Rule = $"must have the output of the function call {Error.Shorten(open)}",
                SessionId = sessionId,
            });
        }
    }

    /// <summary>Requires that every output in a turn that a client made has its call; calls may go on waiting.</summary>
    /// <exception cref="DomainException"><c>tool_call_not_found</c>.</exception>
    public static void RequireCalls(IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed, Items input, Items output)
    {
        var (told, answered) = (Read(input), Read(output));
        if (told.Length == 0 && answered.Length == 0)
        {
            return;
        }

        var waiting = WaitingAfter(history, needed);
        RequireCalls(told, ref waiting, sessionId: null);
        RequireCalls(answered, ref waiting, sessionId: null);
    }

    /// <summary>Whether there are outputs of functions among these items.</summary>
    public static bool HasOutputs(Items items) => Array.Exists(Read(items), part => part.IsOutput);

    // An output in the history that has no call is one whose call was deleted, or stands before it.
    private static List<Waiting>? WaitingAfter(IReadOnlyList<Turn> history, IReadOnlyList<Turn> needed)
    {
        List<Waiting>? waiting = null;
        foreach (var (_, part) in needed.Where(turn => history.Count == 0 || turn.Number < history[0].Number).SelectMany(PartsOf))
        {
            Follow(part, ref waiting);
        }

        // What answered the others there stands between those turns and these, or need not be asked for any more.
        waiting = waiting?.ConvertAll(call => call with { MayBeLeft = true });
        for (var i = 0; i < history.Count; i++)
        {
            var turn = history[i];

            // A response that was deleted took along what answered the calls before it. It may be given again; left out, agents are not
            // told these calls any more.
            if (waiting is not null && ItemDeletion.IsEmptied(turn.Input) && ItemDeletion.IsEmptied(turn.Output))
            {
                waiting = waiting.ConvertAll(call => call with { MayBeLeft = true });
            }

            foreach (var part in Read(turn.Input))
            {
                Follow(part, ref waiting);
            }

            foreach (var part in Read(turn.Output))
            {
                Follow(part, ref waiting);
            }
        }

        return waiting;
    }

    private static void RequireCalls(Part[] parts, ref List<Waiting>? waiting, string? sessionId)
    {
        foreach (var part in parts)
        {
            if (!Follow(part, ref waiting))
            {
                throw new DomainException(
                    new Error("tool_call_not_found",
                        $"No tool call found for function call output with call_id {Error.Shorten(part.CallId)}.")
                    {
                        Field = "input",
                        Rule = "must have only outputs of function calls that wait for one",
                        SessionId = sessionId,
                    });
            }
        }
    }

    // Whether it is a call, or the output of one that waits. Ids need not be unique over a whole conversation: some servers count from 0
    // in each answer.
    private static bool Follow(Part part, ref List<Waiting>? waiting)
    {
        if (part.IsOutput)
        {
            var call = waiting?.FindIndex(call => call.CallId == part.CallId) ?? -1;
            if (call >= 0)
            {
                waiting!.RemoveAt(call);
            }

            return call >= 0;
        }

        (waiting ??= []).Add(new Waiting(part.CallId));
        return true;
    }

    /// <summary>The call that stands at a place of a turn.</summary>
    /// <returns>
    /// Its id; where its output is, if that is in the same turn; else how many outputs with that id are those of calls before it.
    /// <see langword="null"/>: no call stands there.
    /// </returns>
    public static (string CallId, int Ahead, (ItemSide Side, int Index)? Output)? Find(Turn turn, ItemSide side, int index)
    {
        var parts = Read(side == ItemSide.Input ? turn.Input : turn.Output);
        if (Array.Find(parts, part => part.Index == index) is not { IsOutput: false, CallId: { } callId })
        {
            return null;
        }

        int? ahead = null;
        var waiting = 0;
        foreach (var (at, part) in PartsOf(turn).Where(one => one.Part.CallId == callId))
        {
            if (!part.IsOutput)
            {
                ahead ??= at == side && part.Index == index ? waiting : null;
                waiting++;
            }
            else if (ahead is 0)
            {
                return (callId, 0, (at, part.Index));
            }
            else
            {
                waiting = Math.Max(0, waiting - 1);
                ahead = ahead is > 0 ? ahead - 1 : ahead;
            }
        }

        return (callId, ahead ?? 0, null);
    }

    /// <summary>Where in a turn the output is of a call with that id.</summary>
    /// <param name="turn">The turn.</param>
    /// <param name="callId">The id.</param>
    /// <param name="ahead">How many outputs with that id are those of other calls; as many less as there are in the turn.</param>
    public static (ItemSide Side, int Index)? FindOutput(Turn turn, string callId, ref int ahead)
    {
        foreach (var (side, part) in PartsOf(turn))
        {
            if (part.IsOutput && part.CallId == callId && ahead-- == 0)
            {
                return (side, part.Index);
            }
        }

        return null;
    }

    private static IEnumerable<(ItemSide Side, Part Part)> PartsOf(Turn turn) =>
    [
        .. Read(turn.Input).Select(part => (ItemSide.Input, part)),
        .. Read(turn.Output).Select(part => (ItemSide.Output, part)),
    ];

    // Most items are texts, and most of the others no calls: those cost nothing here.
    private static Part[] Read(Items items)
    {
        if (items.Form != ItemsForm.Json || items.Bytes.Span.IndexOf("function_call"u8) < 0)
        {
            return [];
        }

        List<Part> parts = [];
        var reader = new Utf8JsonReader(items.Bytes.Span);
        reader.Read();
        for (var index = 0; reader.Read() && reader.TokenType != JsonTokenType.EndArray; index++)
        {
            if (reader.TokenType == JsonTokenType.StartObject && ReadItem(ref reader) is var (isOutput, callId))
            {
                parts.Add(new Part(isOutput, callId, index));
            }
        }

        return [.. parts];
    }

    private static (bool IsOutput, string CallId)? ReadItem(ref Utf8JsonReader reader)
    {
        var (isCall, isOutput) = (false, false);
        string? callId = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var (isType, isCallId) = (reader.ValueTextEquals("type"u8), reader.ValueTextEquals("call_id"u8));
            reader.Read();
            if (isType && reader.TokenType == JsonTokenType.String)
            {
                (isCall, isOutput) = (reader.ValueTextEquals("function_call"u8), reader.ValueTextEquals("function_call_output"u8));
            }
            else if (isCallId && reader.TokenType == JsonTokenType.String)
            {
                callId = reader.GetString();
            }
            else
            {
                reader.Skip();
            }
        }

        return callId is not null && (isCall || isOutput) ? (isOutput, callId) : null;
    }

    /// <summary>Turns with calls, and with them those of a history that have outputs of these.</summary>
    public static IReadOnlyList<Turn> WithOutputs(IReadOnlyList<Turn> turns, IReadOnlyList<Turn> history)
    {
        var calls = turns.SelectMany(PartsOf).Where(one => !one.Part.IsOutput).Select(one => one.Part.CallId).ToHashSet();
        var answers = history.Where(turn => PartsOf(turn).Any(one => one.Part.IsOutput && calls.Contains(one.Part.CallId)));
        return [.. turns.UnionBy(answers, turn => turn.Number).OrderBy(turn => turn.Number)];
    }

    /// <summary>
    /// Finds the turns that the outputs among some items need: those with their calls, and with what else has the same ids behind these.
    /// Turns are looked at from the newest back.
    /// </summary>
    public sealed class Search
    {
        // By the id of a call: how many outputs have been met whose calls were not.
        private readonly Dictionary<string, int> _missing = new(StringComparer.Ordinal);

        /// <summary>Begins one.</summary>
        /// <param name="sides">The items, in order.</param>
        public Search(params ReadOnlySpan<Items> sides)
        {
            List<Waiting>? waiting = null;
            foreach (var items in sides)
            {
                foreach (var part in Read(items))
                {
                    if (!Follow(part, ref waiting))
                    {
                        _missing[part.CallId] = _missing.GetValueOrDefault(part.CallId) + 1;
                    }
                }
            }
        }

        /// <summary>Whether all calls are found.</summary>
        public bool IsDone => _missing.Count == 0;

        /// <summary>The turns that were found so far.</summary>
        public List<Turn> Found { get; } = [];

        /// <summary>Looks at the next turn back.</summary>
        public void LookAt(Turn turn)
        {
            var isNeeded = false;
            foreach (var (_, part) in IsDone ? [] : PartsOf(turn).Reverse())
            {
                if (_missing.TryGetValue(part.CallId, out var count))
                {
                    isNeeded = true;
                    count += part.IsOutput ? 1 : -1;
                    if (count == 0)
                    {
                        _missing.Remove(part.CallId);
                    }
                    else
                    {
                        _missing[part.CallId] = count;
                    }
                }
            }

            if (isNeeded)
            {
                Found.Add(turn);
            }
        }
    }

    private readonly record struct Waiting(string CallId, bool MayBeLeft = false);

    private readonly record struct Part(bool IsOutput, string CallId, int Index);
}
