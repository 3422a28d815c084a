using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;

namespace Sessions.Tests.Client;

/// <summary>
/// A model that runs on the client's side, and does what the user's last message asks for: <c>call TOOL N</c> calls a tool in N rounds;
/// <c>both TOOL</c> calls it twice at once; <c>fail</c> throws; <c>think</c> reasons; anything else: tells what users have said so far.
/// </summary>
internal sealed class LocalModel : IChatClient
{
    /// <summary>What it was told, run by run.</summary>
    public List<IReadOnlyList<ChatMessage>> Requests { get; } = [];

    /// <summary>Awaited before it answers.</summary>
    public Func<string, Task> Before { get; set; } = _ => Task.CompletedTask;

    public async Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        List<ChatMessage> told = [.. messages];
        lock (Requests)
        {
            Requests.Add(told);
        }

        var last = told.FindLastIndex(message => message.Role == ChatRole.User);
        var asked = told[last].Text;
        await Before(asked);
        var words = asked.Split(' ');
        var outputs = told.Skip(last + 1).SelectMany(message => message.Contents.OfType<FunctionResultContent>())
            .Select(result => $"{result.Result}").ToList();
        List<AIContent> contents = words[0] switch
        {
            "fail" => throw new InvalidOperationException("as asked"),
            "call" when outputs.Count < int.Parse(words[2], System.Globalization.CultureInfo.InvariantCulture) =>
                [Call(words[1], outputs.Count + 1)],
            "both" when outputs.Count == 0 => [new TextContent("Let me see."), Call(words[1], 1), Call(words[1], 2)],
            "call" or "both" => [new TextContent($"after {outputs.Count} calls: {string.Join(", ", outputs)}")],
            "think" => [new TextReasoningContent("hm") { ProtectedData = "c2VhbGVk" }, new TextContent("thought")],
            _ => [new TextContent(Heard(told))],
        };
        return new ChatResponse(new ChatMessage(ChatRole.Assistant, contents));
    }

    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var response = await GetResponseAsync(messages, options, cancellationToken);
        foreach (var content in response.Messages[0].Contents)
        {
            if (content is TextContent { Text.Length: > 4 } text)
            {
                yield return new ChatResponseUpdate(ChatRole.Assistant, text.Text[..4]);
                yield return new ChatResponseUpdate(ChatRole.Assistant, text.Text[4..]);
            }
            else
            {
                yield return new ChatResponseUpdate(ChatRole.Assistant, [content]);
            }
        }
    }

    public object? GetService(Type serviceType, object? serviceKey = null) => serviceKey is null && serviceType.IsInstanceOfType(this)
        ? this : null;

    public void Dispose()
    {
    }

    /// <summary>What it says to those who have said nothing special.</summary>
    public static string Heard(IEnumerable<ChatMessage> told)
    {
        var users = told.Where(message => message.Role == ChatRole.User).ToList();
        return $"I heard {users.Count}: {string.Join(" / ", users.Select(message => message.Text))}";
    }

    private static FunctionCallContent Call(string name, int round) =>
        new($"call_{Guid.NewGuid():N}", name, new Dictionary<string, object?> { ["round"] = round });
}
