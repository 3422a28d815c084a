using Microsoft.Extensions.AI;

namespace Sessions.Client;

/// <summary>
/// Calls without an output, and outputs without a call. No model's provider takes them, so one run that broke off, or the edge of a
/// window, would end the conversation. They are kept, and left out of what the model is told.
/// </summary>
internal static class OpenCalls
{
    /// <summary>The history without them; a call whose output comes with the request stays.</summary>
    public static IEnumerable<ChatMessage> Remove(IReadOnlyList<ChatMessage> history, IEnumerable<ChatMessage> request)
    {
        HashSet<string> outputs = [.. history.Concat(request).SelectMany(message => message.Contents.OfType<FunctionResultContent>())
            .Select(result => result.CallId)];
        HashSet<string> calls = [.. history.SelectMany(message => message.Contents.OfType<FunctionCallContent>())
            .Select(call => call.CallId)];
        foreach (var message in history)
        {
            if (message.Contents.Any(IsOpen))
            {
                message.Contents = [.. message.Contents.Where(content => !IsOpen(content))];
            }

            if (message.Contents.Any(content => content is not TextReasoningContent))
            {
                yield return message;
            }
        }

        bool IsOpen(AIContent content) => content switch
        {
            FunctionCallContent call => !outputs.Contains(call.CallId),
            FunctionResultContent result => !calls.Contains(result.CallId),
            _ => false,
        };
    }
}
