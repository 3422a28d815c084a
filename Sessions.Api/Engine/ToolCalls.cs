using System.Text.Json;
using Sessions.Api.Domain;

namespace Sessions.Api.Engine;

/// <summary>
/// What calls of functions and their outputs ask of each other: an output belongs to a call that came before it and waits for one, and
/// before an agent answers again no call may be left waiting.
/// </summary>
internal static class ToolCalls
{
    /// <summary>
    /// The turns without those at the beginning that lost their calls because the history was cut before them: a window never begins with
    /// an output whose call is outside.
    /// An output whose call was deleted is no reason to leave out a turn; agents are simply not told it.
    /// </summary>
    public static IReadOnlyList<Turn> WithoutOrphans(IReadOnlyList<Turn> history)
    {
        var first = 0;
        while (first < history.Count && history[first].Parent != 0 && HasOrphans(history[first].Input))
        {
            first++;
        }

        return first == 0 ? history : [.. history.Skip(first)];
    }

    /// <summary>Requires that the input answers calls that wait, and leaves none waiting.</summary>
    /// <exception cref="DomainException"><c>tool_output_required</c>, <c>tool_call_not_found</c>.</exception>
    public static void Require(IReadOnlyList<Turn> history, Items input, string sessionId)
    {
        var waiting = WaitingAfter(history);
        RequireCalls(Read(input), ref waiting, sessionId);
        if (waiting is [var open, ..])
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
    public static void RequireCalls(IReadOnlyList<Turn> history, Items input, Items output)
    {
        var (told, answered) = (Read(input), Read(output));
        if (told is null && answered is null)
        {
            return;
        }

        var waiting = WaitingAfter(history);
        RequireCalls(told, ref waiting, sessionId: null);
        RequireCalls(answered, ref waiting, sessionId: null);
    }

    /// <summary>Whether there are outputs of functions among these items.</summary>
    public static bool HasOutputs(Items items) => Read(items)?.Exists(part => part.IsOutput) == true;

    private static bool HasOrphans(Items input)
    {
        List<string>? waiting = null;
        foreach (var part in Read(input) ?? [])
        {
            if (!Follow(part, ref waiting))
            {
                return true;
            }
        }

        return false;
    }

    // An output in the history that has no call is one whose call was deleted.
    private static List<string>? WaitingAfter(IReadOnlyList<Turn> history)
    {
        List<string>? waiting = null;
        foreach (var turn in history)
        {
            foreach (var part in Read(turn.Input) ?? [])
            {
                Follow(part, ref waiting);
            }

            foreach (var part in Read(turn.Output) ?? [])
            {
                Follow(part, ref waiting);
            }
        }

        return waiting;
    }

    private static void RequireCalls(List<Part>? parts, ref List<string>? waiting, string? sessionId)
    {
        foreach (var part in parts ?? [])
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
    private static bool Follow(Part part, ref List<string>? waiting)
    {
        if (part.IsOutput)
        {
            return waiting?.Remove(part.CallId) == true;
        }

        (waiting ??= []).Add(part.CallId);
        return true;
    }

    // Most items are texts, and most of the others no calls: those cost nothing here.
    private static List<Part>? Read(Items items)
    {
        if (items.Form != ItemsForm.Json || items.Bytes.Span.IndexOf("function_call"u8) < 0)
        {
            return null;
        }

        List<Part>? parts = null;
        var reader = new Utf8JsonReader(items.Bytes.Span);
        reader.Read();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType == JsonTokenType.StartObject && ReadItem(ref reader) is { } part)
            {
                (parts ??= []).Add(part);
            }
        }

        return parts;
    }

    private static Part? ReadItem(ref Utf8JsonReader reader)
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

        return callId is not null && (isCall || isOutput) ? new Part(isOutput, callId) : null;
    }

    private readonly record struct Part(bool IsOutput, string CallId);
}
